"""The periodic scheduler task; queue `control`."""

from __future__ import annotations

from workers.app import app
from workers.queues import CONTROL
from workers.roles import scheduler


@app.task(name="tango.place_be", queue=CONTROL, max_retries=0)
def place_be() -> dict[str, int]:
    """One cycle: pending requests and fleet state from PostgreSQL, the torch network, the decision row, then Kubernetes."""
    return scheduler().placement.tick()
