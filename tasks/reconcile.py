"""The periodic sweeps: of lost messages and expired leases, of cancelled runs, and of old ones; queue `control`."""

from __future__ import annotations

from typing import Any

from workers.app import app
from workers.periodic import PeriodicTask
from workers.queues import CONTROL
from workers.roles import OPEN_RUNS, consume_admissions, scheduler, thread_owner


@app.task(base=PeriodicTask, name="tango.reconcile", queue=CONTROL, max_retries=0, bind=True)
def reconcile(task: Any) -> dict[str, int]:
    """Requeue expired leases, publish lost messages again, close runs that are done, and admit BE of clusters that have joined."""
    consume_admissions(task.request.hostname)
    report = scheduler().reconciliation.sweep()
    if report["open"]:
        OPEN_RUNS.say()
    return report


@app.task(base=PeriodicTask, name="tango.sweep_cancelled", queue=CONTROL, max_retries=0)
def sweep_cancelled() -> dict[str, int]:
    """Cancel a slice of the live requests of cancelled runs, and delete their pods."""
    return scheduler().cancel_sweep.sweep(owner=thread_owner())


@app.task(base=PeriodicTask, name="tango.prune_runs", queue=CONTROL, max_retries=0)
def prune_runs() -> dict[str, int]:
    """Delete a slice of the runs that `RetentionSettings` no longer keep."""
    return scheduler().retention.prune(owner=thread_owner())
