"""The sweep that loses nothing; queue `control`."""

from __future__ import annotations

from tango.bootstrap.world import world
from workers.app import app
from workers.publisher import CeleryPublisher
from workers.queues import CONTROL


@app.task(name="tango.reconcile", queue=CONTROL, max_retries=0)
def reconcile() -> dict[str, int]:
    """Publish again what waited too long, take back what expired, close runs that are done."""
    return world().reconcile(CeleryPublisher(app))
