"""Replay: begin a run once its LC is with the clusters, then release its BE requests at their due times, one message per batch.

LC requests are released by the keepers of the journals to which they were handed (`keep_journal.py`); they take the run's zero from the
centre. One replayer at a time holds the run's lease. It works for one slice of seconds and then hands over through the queue, so that
a worker which is told to stop has soon done so. When a replayer dies, its lease runs out and the
reconciler publishes the replay again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from tango.domain.requests import Batch
from tango.domain.runs import RunStatus
from tango.domain.shares import ShareState
from tango.errors import BrokerUnavailable
from tango.ports.clock import Clock
from tango.ports.leases import Fence, LeaseStore
from tango.ports.messages import Publisher
from tango.ports.requests import BeRequests
from tango.ports.runs import RunStore
from tango.settings import ReplaySettings

log = structlog.get_logger(__name__)

LEASES = "replay:"
"""Names of the leases of replays begin so; the run's number follows."""
LOOK_S = 0.05
"""Seconds between two looks whether the shares have been handed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The replayer of one process. `slice` is called once per message and may be given a different run each time."""

    runs: RunStore
    shares: Callable[[int], Sequence[ShareState]]
    """The shares of a run."""
    requests: BeRequests
    leases: LeaseStore
    publisher: Publisher
    clock: Clock
    settings: ReplaySettings

    def slice(self, run_id: int, *, owner: str) -> dict[str, int | bool]:
        """Release what falls due during one slice; gives how many were released and whether another slice is needed.

        A second replayer of the same run finds the lease taken and does nothing. Requests whose message is lost are published again by
        the reconciler. Raises: UsageError for a run that does not exist.
        """
        fence = self.leases.acquire(f"{LEASES}{run_id}", owner=owner, ttl_s=self.settings.lease_s)
        if fence is None:
            return {"released": 0, "again": False}
        run = self.runs.run(run_id)
        if run.status in (RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.DRAINING):
            self.leases.release(fence)
            return {"released": 0, "again": False}
        if run.started_at_s is None:
            self._await_hand_over(run_id, fence)
        zero_s = self.runs.begin(run_id, at_s=self.clock.now_s() + self.settings.lead_s)
        self.runs.set_status(run_id, RunStatus.RUNNING)

        released, finished = self._release_until(self.clock.now_s() + self.settings.slice_s, run_id, zero_s, fence)
        if finished:
            self.runs.set_status(run_id, RunStatus.DRAINING)
        self.leases.release(fence)
        log.info("replay_slice", run_id=run_id, released=released, finished=finished)
        return {"released": released, "again": not finished}

    def _await_hand_over(self, run_id: int, fence: Fence) -> None:
        """Wait until every cluster has the beginning of its share, for `hand_over_s` at the most.

        A cluster whose line is cut must not keep the others waiting: what it takes later is released late, and counts from its due time.
        """
        until_s = self.clock.now_s() + self.settings.hand_over_s
        renew_at_s = self.clock.now_s() + self.settings.lease_s / 3
        while waiting := [s.cluster for s in self.shares(run_id) if s.accepted and s.handed_to < 0 and not s.complete]:
            now_s = self.clock.now_s()
            if now_s >= until_s:
                log.warning("shares_not_taken", run_id=run_id, clusters=waiting)
                return
            if now_s >= renew_at_s:
                if self.leases.acquire(fence.name, owner=fence.owner, ttl_s=self.settings.lease_s) is None:
                    return
                renew_at_s = now_s + self.settings.lease_s / 3
            self.clock.sleep(LOOK_S)

    def _release_until(self, until_s: float, run_id: int, zero_s: float, fence: Fence) -> tuple[int, bool]:
        clock, settings = self.clock, self.settings
        released = 0
        renew_at_s = clock.now_s() + settings.lease_s / 3
        while (now_s := clock.now_s()) < until_s:
            if now_s >= renew_at_s:
                if self.leases.acquire(fence.name, owner=fence.owner, ttl_s=settings.lease_s) is None:
                    return released, False
                renew_at_s = now_s + settings.lease_s / 3
            step = self.requests.release_due(run_id, until_s=now_s - zero_s, limit=settings.release_limit)
            released += sum(len(batch.request_ids) for batch in step.batches)
            self._announce(run_id, step.batches)
            if step.next_due_s is None:
                return released, True
            # Sleep until the next due time, and for one window at least: what falls due meanwhile is released together.
            wait_s = max(settings.be_window_s, zero_s + step.next_due_s - clock.now_s())
            clock.sleep(min(wait_s, settings.lease_s / 3, max(0.0, until_s - clock.now_s())))
        return released, False

    def _announce(self, run_id: int, batches: Sequence[Batch]) -> None:
        if not batches:
            return
        try:
            self.publisher.arrivals(batches)
        except BrokerUnavailable as error:  # the reconciler publishes them later
            log.warning("arrivals_not_published", run_id=run_id, error=str(error))
