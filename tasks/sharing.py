"""QoS re-assurance; queue `control`."""

from __future__ import annotations

from workers.app import app
from workers.queues import CONTROL
from workers.roles import scheduler


@app.task(name="tango.reassure", queue=CONTROL, max_retries=0)
def reassure() -> dict[str, int]:
    """Grow and shrink LC instances in place by their slack; evict BE where memory is short."""
    return scheduler().reassurance.next()
