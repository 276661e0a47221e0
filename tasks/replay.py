"""Release of due requests; queue `replay`."""

from __future__ import annotations

from workers.app import app
from workers.queues import REPLAY
from workers.roles import OPEN_RUNS, replay, thread_owner


@app.task(name="tango.replay_run", queue=REPLAY, max_retries=0)
def replay_run(run_id: int) -> dict[str, int | bool]:
    """Release one slice of a run, then publish the message for the next one. If that fails, the reconciler publishes it."""
    OPEN_RUNS.say()
    work = replay()
    report = work.slice(run_id, owner=thread_owner())
    if report["again"]:
        work.publisher.replay(run_id)
    return report
