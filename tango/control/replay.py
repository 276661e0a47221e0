"""Replay: release every request at its due time, one message a batch.

One replayer at a time holds the run's lease. It works in slices of seconds and then hands over through the queue, so that
no message stays unacknowledged near the broker's visibility timeout; when it dies, the lease runs out and the reconciler
asks for another.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from tango.domain.runs import RunStatus
from tango.errors import BrokerUnavailable
from tango.ports import Clock, Fence, LeaseStore, Publisher, RequestStore, RunStore
from tango.settings import ReplaySettings

log = structlog.get_logger(__name__)


def replay_slice(
    run_id: int,
    *,
    owner: str,
    runs: RunStore,
    requests: RequestStore,
    leases: LeaseStore,
    publisher: Publisher,
    clock: Clock,
    sleep: Callable[[float], None],
    settings: ReplaySettings,
) -> dict[str, int | bool]:
    """Release what falls due during one slice; give how many were released and whether a further slice is needed.

    A second replayer of the same run finds the lease taken and does nothing. A lost message is no loss: released rows
    that nobody claims are published again by the reconciler.
    """
    lease_name = f"replay:{run_id}"
    fence = leases.acquire(lease_name, owner=owner, ttl_s=settings.lease_s)
    if fence is None:
        return {"released": 0, "again": False}
    run = runs.run(run_id)
    if run.status in (RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.DRAINING):
        leases.release(fence)
        return {"released": 0, "again": False}
    zero_s = runs.begin(run_id, at_s=clock.now_s() + settings.lead_s)
    runs.set_status(run_id, RunStatus.RUNNING)

    released, finished = _release_until(
        clock.now_s() + settings.slice_s, run_id, zero_s, fence, requests, leases, publisher, clock, sleep, settings
    )
    if finished:
        runs.set_status(run_id, RunStatus.DRAINING)
    leases.release(fence)
    log.info("replay_slice", run_id=run_id, released=released, finished=finished)
    return {"released": released, "again": not finished}


def _release_until(
    until_s: float,
    run_id: int,
    zero_s: float,
    fence: Fence,
    requests: RequestStore,
    leases: LeaseStore,
    publisher: Publisher,
    clock: Clock,
    sleep: Callable[[float], None],
    settings: ReplaySettings,
) -> tuple[int, bool]:
    released = 0
    renew_at_s = clock.now_s() + settings.lease_s / 3
    while (now_s := clock.now_s()) < until_s:
        if now_s >= renew_at_s:
            if leases.acquire(fence.name, owner=fence.owner, ttl_s=settings.lease_s) is None:
                return released, False
            renew_at_s = now_s + settings.lease_s / 3
        step = requests.release_due(run_id, until_s=now_s - zero_s, limit=settings.release_limit)
        if step.batches:
            released += sum(len(batch.request_ids) for batch in step.batches)
            try:
                publisher.arrivals(step.batches)
            except BrokerUnavailable as error:
                log.warning("arrivals_not_published", run_id=run_id, error=str(error))
        if step.next_due_s is None:
            return released, True
        # Windows, not single requests: sleep to the next due time or one window on, whichever is later.
        wait_s = max(settings.window_s, zero_s + step.next_due_s - clock.now_s())
        sleep(min(wait_s, settings.lease_s / 3, max(0.0, until_s - clock.now_s())))
    return released, False
