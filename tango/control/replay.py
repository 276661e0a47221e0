"""Replay: release every request of a run at its due time, and publish one message per batch.

One replayer at a time holds the run's lease. It works for one slice of seconds and then hands over through the queue, so that no message
stays unacknowledged for as long as the broker's visibility timeout. When a replayer dies, its lease runs out and the reconciler publishes
the replay again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from tango.domain.requests import Batch
from tango.domain.runs import RunStatus
from tango.domain.services import ServiceClass
from tango.errors import BrokerUnavailable
from tango.ports.clock import Clock
from tango.ports.leases import Fence, LeaseStore
from tango.ports.messages import Publisher
from tango.ports.requests import RequestStore
from tango.ports.runs import RunStore
from tango.settings import ReplaySettings

log = structlog.get_logger(__name__)


class ReleaseWindow:
    """How long to gather requests before the next release: short at low rates, for low latency; longer at high rates, so that many
    requests share the cost of a message."""

    def __init__(self, settings: ReplaySettings) -> None:
        self._settings = settings
        self._last: tuple[float, int] | None = None
        self._rate_per_s = 0.0

    def length_s(self, now_s: float, released: int) -> float:
        """The window in seconds; `released`: requests released so far. The rate is a moving average over half a second (chosen, not
        measured)."""
        if self._last is not None and now_s > self._last[0]:
            elapsed_s = now_s - self._last[0]
            share = min(1.0, elapsed_s / 0.5)
            self._rate_per_s += share * ((released - self._last[1]) / elapsed_s - self._rate_per_s)
        self._last = now_s, released
        s = self._settings
        return max(s.window_s, s.longest_window_s * min(1.0, self._rate_per_s / s.longest_window_at_per_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The replayer of one process. `slice` is called once per message and may be given a different run each time."""

    runs: RunStore
    requests: RequestStore
    leases: LeaseStore
    publisher: Publisher
    clock: Clock
    settings: ReplaySettings

    def slice(self, run_id: int, *, owner: str) -> dict[str, int | bool]:
        """Release what falls due during one slice; gives how many were released and whether another slice is needed.

        A second replayer of the same run finds the lease taken and does nothing. Requests whose message is lost are published again by
        the reconciler. Raises: UsageError for a run that does not exist.
        """
        fence = self.leases.acquire(f"replay:{run_id}", owner=owner, ttl_s=self.settings.lease_s)
        if fence is None:
            return {"released": 0, "again": False}
        if self.runs.run(run_id).status in (RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.DRAINING):
            self.leases.release(fence)
            return {"released": 0, "again": False}
        zero_s = self.runs.begin(run_id, at_s=self.clock.now_s() + self.settings.lead_s)
        self.runs.set_status(run_id, RunStatus.RUNNING)

        released, finished = self._release_until(self.clock.now_s() + self.settings.slice_s, run_id, zero_s, fence)
        if finished:
            self.runs.set_status(run_id, RunStatus.DRAINING)
        self.leases.release(fence)
        log.info("replay_slice", run_id=run_id, released=released, finished=finished)
        return {"released": released, "again": not finished}

    def _release_until(self, until_s: float, run_id: int, zero_s: float, fence: Fence) -> tuple[int, bool]:
        clock, settings = self.clock, self.settings
        released = 0
        window = ReleaseWindow(settings)
        announcer = _Announcer(run_id, self.publisher, settings)
        renew_at_s = clock.now_s() + settings.lease_s / 3
        while (now_s := clock.now_s()) < until_s:
            if now_s >= renew_at_s:
                if self.leases.acquire(fence.name, owner=fence.owner, ttl_s=settings.lease_s) is None:
                    announcer.finish()
                    return released, False
                renew_at_s = now_s + settings.lease_s / 3
            step = self.requests.release_due(run_id, until_s=now_s - zero_s, limit=settings.release_limit)
            released += sum(len(batch.request_ids) for batch in step.batches)
            announcer.announce(step.batches, now_s)
            if step.next_due_s is None:
                announcer.finish()
                return released, True
            # Sleep until the next due time, and for one window at least: what falls due meanwhile is released together.
            wait_s = max(window.length_s(clock.now_s(), released), zero_s + step.next_due_s - clock.now_s())
            clock.sleep(min(wait_s, announcer.wait_s(clock.now_s()), settings.lease_s / 3, max(0.0, until_s - clock.now_s())))
        announcer.finish()
        return released, False


class _Announcer:
    """Publishes LC batches at once and gathers BE batches for `be_window_s`. What cannot be published, the reconciler publishes later."""

    def __init__(self, run_id: int, publisher: Publisher, settings: ReplaySettings) -> None:
        self._run_id = run_id
        self._publisher = publisher
        self._settings = settings
        self._gathered: list[Batch] = []
        self._gathered_since_s = 0.0

    def announce(self, batches: Sequence[Batch], now_s: float) -> None:
        """Publish LC batches, and what was gathered once its window is over."""
        lc = [batch for batch in batches if batch.service_class == ServiceClass.LC]
        be = [batch for batch in batches if batch.service_class != ServiceClass.LC]
        if be and not self._gathered:
            self._gathered_since_s = now_s
        self._gathered += be
        if self._gathered and now_s - self._gathered_since_s >= self._settings.be_window_s:
            lc, self._gathered = [*lc, *self._gathered], []
        self._publish(lc)

    def wait_s(self, now_s: float) -> float:
        """Seconds until what was gathered must be published; infinity where nothing was gathered."""
        return max(0.0, self._gathered_since_s + self._settings.be_window_s - now_s) if self._gathered else math.inf

    def finish(self) -> None:
        """Publish everything that is still gathered."""
        gathered, self._gathered = self._gathered, []
        self._publish(gathered)

    def _publish(self, batches: Sequence[Batch]) -> None:
        if not batches:
            return
        try:
            self._publisher.arrivals(batches)
        except BrokerUnavailable as error:
            log.warning("arrivals_not_published", run_id=self._run_id, error=str(error))
