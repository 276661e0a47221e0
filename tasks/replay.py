"""Release of due requests; queue `replay`."""

from __future__ import annotations

from tango.bootstrap.world import world
from workers.app import app
from workers.publisher import CeleryPublisher
from workers.queues import REPLAY


@app.task(name="tango.replay_run", queue=REPLAY, max_retries=0)
def replay_run(run_id: int) -> dict[str, int | bool]:
    """Release one slice of a run, then hand over to the next message."""
    publisher = CeleryPublisher(app)
    report = world().replay_slice(run_id, publisher)
    if report["again"]:
        publisher.replay(run_id)
    return report
