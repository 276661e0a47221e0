"""The sweeps: what waits or has expired, so that nothing is lost, and what was cancelled; queue `control`."""

from __future__ import annotations

import threading

from tango.bootstrap.world import world
from workers.app import app
from workers.publisher import CeleryPublisher
from workers.queues import CONTROL


@app.task(name="tango.reconcile", queue=CONTROL, max_retries=0)
def reconcile() -> dict[str, int]:
    """Publish again what waited too long, take back what expired, close runs that are done."""
    return world().reconcile(CeleryPublisher(app))


@app.task(name="tango.sweep_cancelled", queue=CONTROL, max_retries=0)
def sweep_cancelled() -> dict[str, int]:
    """Cancel a slice of the live requests of cancelled runs, and delete their pods."""
    here = world()
    return here.cancel_sweep.sweep(owner=f"{here.owner}:{threading.get_ident()}")
