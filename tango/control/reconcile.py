"""Reconcile: publish again what waited too long, take back what expired, close what is done."""

from __future__ import annotations

import functools
from collections.abc import Callable

import structlog

from tango.domain.runs import RunInfo, RunStatus
from tango.errors import BrokerUnavailable, StoreError
from tango.ports import LeaseStore, Publisher, RequestStore, RunStore
from tango.settings import LeaseSettings

log = structlog.get_logger(__name__)

LEASE = "reconcile"


def reconcile(
    *,
    owner: str,
    runs: RunStore,
    requests: RequestStore,
    leases: LeaseStore,
    publisher: Publisher,
    finish_run: Callable[[RunInfo], None],
    settings: LeaseSettings,
) -> dict[str, int]:
    """One sweep. Safe to repeat: every step is a claimed transition or a hint."""
    if leases.acquire(LEASE, owner=owner, ttl_s=5.0) is None:
        return {"requeued": 0, "published": 0, "finished": 0}
    expired = requests.requeue_expired(limit=2000)
    waiting = requests.unclaimed(older_than_s=settings.unclaimed_after_s, limit=5000)
    batches = [*expired, *waiting]
    # First what is urgent: a run whose figures cannot be computed must not keep others' requests waiting.
    if batches:
        _publish(functools.partial(publisher.arrivals, batches))
    finished = 0
    for run in runs.active_runs():
        if runs.all_terminal(run.run_id):
            try:
                finish_run(run)
            except StoreError:  # of this run alone: the next sweep tries again
                log.exception("run_not_finished", run_id=run.run_id)
                continue
            runs.set_status(run.run_id, RunStatus.COMPLETED)
            finished += 1
        elif run.status in (RunStatus.ACCEPTED, RunStatus.RUNNING) and _nobody_replays(run.run_id, owner, leases):
            _publish(functools.partial(publisher.replay, run.run_id))
    report = {"requeued": sum(len(b.request_ids) for b in expired), "published": len(batches), "finished": finished}
    if any(report.values()):
        log.info("reconciled", **report)
    return report


def _nobody_replays(run_id: int, owner: str, leases: LeaseStore) -> bool:
    """True when the run's replay lease is free; taking and giving it back is how a lease is looked at without a race."""
    fence = leases.acquire(f"replay:{run_id}", owner=f"{owner}:probe", ttl_s=1.0)
    if fence is None:
        return False
    leases.release(fence)
    return True


def _publish(send: Callable[[], None]) -> None:
    try:
        send()
    except BrokerUnavailable as error:
        log.warning("hints_not_published", error=str(error))
