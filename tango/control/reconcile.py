"""Reconcile the store with what should happen: requeue expired BE, publish lost messages again, finish runs that are done.

LC requests belong to the journals of their clusters, whose keepers do the same for them; their copies here are never requeued.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tango.control.lease_holder import LeaseHolder
from tango.control.replay import LEASES as REPLAYS
from tango.domain.runs import RunInfo, RunKind, RunStatus
from tango.errors import BrokerUnavailable, StoreError, UsageError
from tango.ports.messages import Publisher
from tango.ports.requests import BeRequests
from tango.ports.runs import RunStore

log = structlog.get_logger(__name__)

LEASE, LEASE_S = "reconcile", 5.0
"""Name and seconds of the lease. It lasts several sweeps, which come every second, so that one process keeps it while it lives; another
takes over within this time, half of what a request's own lease lasts."""
REPLAYS_IDLE_S = 3600.0
"""Seconds after which the lease of a replay that nobody holds is forgotten, since one for each run would stay for ever. A slice renews its
lease every few seconds. Chosen, not measured."""
MOST_EXPIRED = 2000
"""Requests whose lease is over that one sweep takes back. At 50 to 200 us a row (`StoreSettings.chunk_rows`) 0.1 to 0.4 s; what a dead
cluster leaves beyond them is taken back by the next sweeps, a second apart."""
MOST_UNCLAIMED = 5000
"""Requests that one sweep publishes again. They are only read, so more than `MOST_EXPIRED`; bounded, because under overload all that wait
look as if their message was lost, and each is one more message for workers that are behind already. Both are chosen, not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """A periodic sweep over all runs, which repairs what a crash or a lost message has left. One process at a time, by a lease."""

    holder: LeaseHolder
    runs: RunStore
    requests: BeRequests
    publisher: Publisher
    turn_live: Callable[[], object]
    """Closes the live run whose day is over, and opens the next one (`tango.ports.live_runs.LiveRunStore.turn`)."""
    end_overlong_readers: Callable[[], int]
    """Ends sessions of people's queries that last too long (`tango.store.readers`)."""
    forget_candidates: Callable[[], int] = lambda: 0
    """Deletes what decisions keep beyond their bound (`tango.control.candidates.Forgetting`)."""
    order_figures: Callable[[int], bool]
    """Has the figures of a run computed whose requests are all terminal, which is completed with them; gives whether nobody had."""

    def sweep(self) -> dict[str, int]:
        """One sweep; gives how many requests were requeued, messages published and runs finished, and how many runs are still open or being
        cancelled. Safe to repeat and to interrupt."""
        with self.holder.at_work(LEASE, ttl_s=LEASE_S) as fence:
            return {"requeued": 0, "published": 0, "finished": 0, "open": 0} if fence is None else self._sweep()

    def _sweep(self) -> dict[str, int]:
        requeued = self.requests.requeue_expired(limit=MOST_EXPIRED)
        waiting = self.requests.unclaimed(older_than_s=self.holder.settings.unclaimed_after_s, limit=MOST_UNCLAIMED)
        # Publish before closing runs: a run that cannot be closed must not keep others' requests waiting.
        if waiting:
            _publish(functools.partial(self.publisher.arrivals, waiting))
        self._turn()
        if ended := self.end_overlong_readers():
            log.warning("reader_sessions_ended", sessions=ended)
        self.forget_candidates()
        active, cancelling = self.runs.active_runs(), self.runs.cancelling_runs()
        # Callers may send nothing for hours: their run keeps nobody busy meanwhile.
        busy = self.runs.fold_counts() if active or cancelling else set()
        work = [run for run in active if run.kind is not RunKind.LIVE or run.run_id in busy]
        finished = sum(self._closed(run) for run in active)
        if finished:
            self.holder.leases.forget(REPLAYS, idle_s=REPLAYS_IDLE_S)
        report = {"requeued": requeued, "published": len(waiting), "finished": finished}
        if any(report.values()):
            log.info("reconciled", **report)
        return report | {"open": len(work) + len(cancelling)}

    def _turn(self) -> None:
        try:
            self.turn_live()
        except (StoreError, UsageError):  # of live runs alone: others are reconciled all the same
            log.exception("live_run_not_turned")

    def _closed(self, run: RunInfo) -> bool:
        """Have the run closed if it is done, and tell whether this sweep did; if nobody replays a run that should be, publish its replay
        again."""
        if self.runs.all_terminal(run.run_id):
            try:
                return self.order_figures(run.run_id)
            except StoreError:  # of this run alone: the next sweep tries again
                log.exception("figures_not_ordered", run_id=run.run_id)
                return False
        is_replayed = run.kind is RunKind.REPLAYED and run.status in (RunStatus.ACCEPTED, RunStatus.RUNNING)
        if is_replayed and self.holder.nobody_holds(f"{REPLAYS}{run.run_id}"):
            _publish(functools.partial(self.publisher.replay, run.run_id))
        return False


def _publish(send: Callable[[], None]) -> None:
    try:
        send()
    except BrokerUnavailable as error:
        log.warning("hints_not_published", error=str(error))
