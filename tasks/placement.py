"""The periodic scheduler task; queue `control`."""

from __future__ import annotations

from workers.app import app
from workers.periodic import PeriodicTask
from workers.queues import CONTROL
from workers.roles import scheduler


@app.task(base=PeriodicTask, name="tango.place_be", queue=CONTROL, max_retries=0)
def place_be() -> dict[str, int]:
    """A tick: read pending requests and the fleet's state, decide, write the decision to PostgreSQL, then make the pods."""
    return scheduler().placement.tick()
