"""The periodic scheduler task; queue `control`."""

from __future__ import annotations

from tango.bootstrap.world import world
from workers.app import app
from workers.queues import CONTROL


@app.task(name="tango.place_be", queue=CONTROL, max_retries=0)
def place_be() -> dict[str, int]:
    """One cycle: pending requests and fleet state from PostgreSQL, the torch network, the decision row, then Kubernetes."""
    return world().place_be()
