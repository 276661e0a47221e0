"""Keep a journal: release what is due, take back what a dead process left, announce what seems lost, cancel what was stopped.

Every worker process of a cluster has a keeper, and one of them at a time holds the journal's lease and works. It reads nothing of the
centre: with the line cut, what the journal has is released at its time all the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import structlog

from tango.control.lc_tracing import LcTracing
from tango.control.release_window import ReleaseWindow
from tango.domain.requests import Batch
from tango.domain.runs import OPEN, RunInfo, RunKind
from tango.errors import BrokerUnavailable
from tango.ports.clock import Clock
from tango.ports.journal import Journal
from tango.ports.messages import Publisher
from tango.settings import LeaseSettings, ReplaySettings

log = structlog.get_logger(__name__)

LEASE, LEASE_S = "keeper", 2.0
"""Name and seconds of the lease. A cluster whose keeper dies releases nothing for this long; taking it costs a row of the journal."""
SWEEP_S = 1.0
"""Seconds between two looks for what a dead process or a lost message left, as in the centre's reconciliation."""
LONGEST_LOOK_S = 0.05
"""Longest wait, in seconds, between two looks for what has become due while a run is open. A look costs some tens of microseconds, and
what is handed over late is noticed this soon."""
RUNS_EVERY_S = 0.2
"""Seconds between two readings of the runs while one is open, and of how many requests wait where none did: within
`ReplaySettings.lead_s`, and a run that is stopped releases nothing from that instant on."""
IDLE_LOOK_S = 0.25
"""The same while none is: a run that begins is noticed this much later, within `ReplaySettings.lead_s`."""
SWEPT_AT_ONCE = 2000
"""Requests that one sweep takes back, announces or cancels, a kind each: some 50 ms of the journal's write lock."""

SHED_BEHIND = 0.5
"""Part of the time after which a request is given up that it may wait for its release while more is due than workers take. Those that
wait longer are shed at once, so that the others have the other half for message, dispatch and answer. Were only those shed that nobody
could answer in time, all that is released would be on the verge of it, and most of it late."""
SHED_AT_ONCE = 1000
"""Requests that one look for those looks at: 10 ms of the journal's write lock."""

DROP_EVERY_S, DROPPED_AT_ONCE = 10.0, 250
"""Seconds between two looks for answers that are kept no longer, and how many are dropped in one transaction, during which nobody else is
accepted or answered: some 3 ms. While there are more, they are dropped with each step."""


class Keeper:
    """The keeper of one process. `step` is called again and again, by one thread."""

    def __init__(
        self,
        *,
        journal: Journal,
        publisher: Publisher,
        clock: Clock,
        owner: str,
        replay: ReplaySettings,
        lease: LeaseSettings,
        tracing: LcTracing | None = None,
    ) -> None:
        """`tracing` makes the spans of what is released, and of what a dead process left; None: nobody wants any."""
        self._journal = journal
        self._tracing = tracing
        self._publisher = publisher
        self._clock = clock
        self._owner = owner
        self._replay = replay
        self._lease = lease
        self._hold_at_s = -1e9
        self._sweep_at_s = -1e9
        self._window = ReleaseWindow(replay)
        self._released = 0
        self._look_at_s = -1e9
        self._runs: list[RunInfo] = []
        """Replayed runs that are open, as of the last look."""
        self._has_runs = True
        """Whether there was any run at all then."""
        self._waiting = 0
        """How many requests waited for their dispatch when that was last counted, and what has been released since."""
        self._released_at_s = -1e9
        self._holds = False
        self._drop_at_s = -1e9
        self._is_behind = False
        """Whether more of some run was due at the last release than it took."""
        self._shed_at_s = -1e9
        self._next_at_s = math.inf
        """When the next step was asked for."""

    def step(self) -> float:
        """One look at everything that is due; gives the seconds until the next one. Raises: StoreUnavailable."""
        now_s = self._clock.now_s()
        self._window.woken(late_s=now_s - self._next_at_s)
        wait_s = self._look(now_s)
        self._next_at_s = self._clock.now_s() + wait_s
        return wait_s

    def _look(self, now_s: float) -> float:
        if now_s >= self._hold_at_s:
            self._holds = self._journal.hold(LEASE, owner=self._owner, ttl_s=LEASE_S)
            self._hold_at_s = now_s + LEASE_S / 3
        if not self._holds:
            return LEASE_S / 3
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + (RUNS_EVERY_S if self._runs else 0.0)
            runs = self._journal.runs()
            # What callers send is released as it is accepted.
            self._runs = [run for run in runs if run.status in OPEN and run.kind is not RunKind.LIVE]
            self._has_runs = bool(runs)
            self._waiting = self._journal.waiting() if self._runs else 0
        is_idle = not self._runs
        next_at_s = now_s + LONGEST_LOOK_S
        if self._may_release(now_s):
            if self._is_behind and now_s >= self._shed_at_s:
                self._shed_at_s = now_s + self._replay.longest_wait_s
                self._shed(now_s)
            self._is_behind = False
            next_at_s = min([self._release(run, now_s) for run in self._runs], default=next_at_s)
        elif self._runs:
            # A worker mostly takes the message before it within some milliseconds: what is due now goes a window later, and not with the
            # next long look. In a minute of 50 requests a second, 27 times somebody waited 50 ms for that while all workers were idle.
            next_at_s = now_s
        if now_s >= self._sweep_at_s:
            self._sweep_at_s = now_s + SWEEP_S
            self._sweep()
        if is_idle and self._sweep_at_s > now_s:
            return IDLE_LOOK_S
        now_s = self._clock.now_s()
        if self._is_behind:
            return self._replay.window_s
        # What falls due within a window is released together, however soon the next request is.
        return max(self._window.length_s(now_s, self._released), min(LONGEST_LOOK_S, next_at_s - now_s))

    def _may_release(self, now_s: float) -> bool:
        """Release does not run ahead of what the workers take. While the last message waits for one, others would only wait beside it:
        what is due meanwhile goes into one, so that messages grow as the machine gets busy. Once more is due than one message takes, each
        worker is to have one, and the rest waits in the journal."""
        if self._waiting:
            self._waiting = self._journal.waiting()
        is_taken = not self._waiting or self._is_behind or now_s - self._released_at_s >= self._replay.longest_wait_s
        return is_taken and self._waiting < self._replay.most_waiting

    def _release(self, run: RunInfo, now_s: float) -> float:
        """Release what is due of a run; gives the Unix time at which more may be."""
        if run.started_at_s is None:
            return now_s + LONGEST_LOOK_S
        until_s = now_s - run.started_at_s
        limit = max(0, min(self._replay.most_waiting - self._waiting, self._replay.lc_release_limit))
        step = self._journal.release_due(run.run_id, until_s=until_s, limit=limit)
        self._is_behind |= step.next_due_s is not None and step.next_due_s <= until_s
        released = sum(len(batch.request_ids) for batch in step.batches)
        if released:
            self._released_at_s = now_s
            self._released += released
            self._waiting += released
        began_s = self._clock.now_s()
        self._announce(step.batches)
        if self._tracing is not None and step.batches:
            self._tracing.published(step.batches, began_s=began_s)
        return now_s + LONGEST_LOOK_S if step.next_due_s is None else run.started_at_s + step.next_due_s

    def _shed(self, now_s: float) -> None:
        services = self._journal.services()
        after_targets = {s.name: SHED_BEHIND * s.shed_after_targets for s in services if s.shed_after_targets > 0.0}
        for run in self._runs:
            if after_targets and run.started_at_s is not None:
                until_s = now_s - run.started_at_s
                self._journal.shed_overdue(run.run_id, until_s=until_s, after_targets=after_targets, limit=SHED_AT_ONCE)

    def _sweep(self) -> None:
        if self._clock.now_s() >= self._drop_at_s:
            dropped = self._journal.drop_old(limit=DROPPED_AT_ONCE)
            self._drop_at_s = self._clock.now_s() + (0.0 if dropped == DROPPED_AT_ONCE else DROP_EVERY_S)
        if not self._has_runs:
            return  # and so no request
        requeued = self._journal.requeue_expired(limit=SWEPT_AT_ONCE)
        if self._tracing is not None and requeued:
            self._tracing.expired(requeued)  # before it is announced, and has its next attempt
        waiting = self._journal.unclaimed(older_than_s=self._lease.unclaimed_after_s, limit=SWEPT_AT_ONCE)
        self._announce([*requeued, *waiting])
        cancelled = self._journal.cancel_stopped(limit=SWEPT_AT_ONCE)
        if cancelled == SWEPT_AT_ONCE:
            self._sweep_at_s = -1e9  # there is more: at the next step, and not a second later
        if requeued or waiting or cancelled:
            counts = {"requeued": sum(len(b.request_ids) for b in requeued), "announced": sum(len(b.request_ids) for b in waiting)}
            log.info("journal_swept", cancelled=cancelled, **counts)

    def _announce(self, batches: Sequence[Batch]) -> None:
        if not batches:
            return
        try:
            self._publisher.arrivals(batches)
        except BrokerUnavailable as error:
            log.warning("arrivals_not_published", requests=sum(len(b.request_ids) for b in batches), error=str(error))
