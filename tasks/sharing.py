"""QoS re-assurance; queue `control`."""

from __future__ import annotations

from workers.app import app
from workers.periodic import PeriodicTask
from workers.queues import CONTROL
from workers.roles import scheduler


@app.task(base=PeriodicTask, name="tango.reassure", queue=CONTROL, max_retries=0)
def reassure() -> dict[str, int]:
    """Resize LC instances in place by their slack, and evict BE pods where an instance that must grow finds too little free."""
    return scheduler().reassurance.next()
