"""A dispatching process's view of the fleet: the last snapshot, plus what this process has dispatched since.

Reading a snapshot takes longer than planning on it, so a thread reads the next one while requests are coming, and no batch waits
for it. Several batches plan at the same time; only planning and counting are one step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import structlog

from tango.control.answer_margin import AnswerMargin
from tango.control.elsewhere import tried_elsewhere
from tango.control.seen_answers import SeenAnswers
from tango.domain.plans import LcPlan
from tango.domain.requests import CalledArrivals, LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.errors import TangoError
from tango.scheduling.budget import within_budget
from tango.scheduling.lc.in_flight import count_in
from tango.scheduling.lc.rule import LcRule
from tango.scheduling.work_scale import work_at_scale_s
from tango.settings import LcSettings
from tango.systems import LC_FALLBACK, LcPolicy, decided_lc
from tango.systems.batch_step import BatchStep

log = structlog.get_logger(__name__)

IDLE_AFTER_S = 2.0
"""Seconds without a batch after which snapshots are no longer read."""
TOO_OLD = 5.0
"""In units of `max_age_s`: a batch does not plan on an older snapshot but reads one itself."""
SHEDDING_MAX_AGE_S = 0.02
"""While requests are shed, in place of that. Queues are then kept at some 100 ms of work, and a view without what other processes have
sent meanwhile lets in too many, then too few: at ten times what two cores serve they were idle for a fourth of the time."""
RECORDED_WITHIN_S = 1.0
"""A plan of which nobody has said by then that it was recorded is counted in no more: whoever made it has failed, or hangs."""


@dataclass(slots=True, eq=False)
class _Counted:
    """A plan that was counted in."""

    arrivals: LcArrivals
    plan: LcPlan
    planned_at_s: float
    recorded_at_s: float = np.inf
    """A reading that began later has it."""


class Planned(NamedTuple):
    """A plan of a view."""

    plan: LcPlan
    snapshot: FleetSnapshot
    """On which it was made, and into which it is counted."""
    asked: FleetSnapshot | None
    """The same as the policy saw it, without the plan; None: nobody asked for that."""
    counted: _Counted
    """What `FleetView.recorded` is told once it is in the store, or will never be."""


class FleetView:
    """Snapshots of one process, thread-safe."""

    def __init__(
        self,
        read: Callable[[], FleetSnapshot],
        *,
        max_age_s: float,
        masked: Callable[[FleetSnapshot], FleetSnapshot] = lambda snapshot: snapshot,
        margin: AnswerMargin | None = None,
        seen: SeenAnswers | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`masked` gives a snapshot as a plan may use it: without what this process knows not to answer; `margin`, how much later than
        expected answers have come; `seen`, how requests were answered, which only policies that go by it are told."""
        self._read = read
        self._masked = masked
        self._margin = margin or AnswerMargin()
        self._seen = seen or SeenAnswers()
        self._max_age_s = max_age_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._snapshot: FleetSnapshot | None = None
        self._read_at_s = -np.inf
        self._used_at_s = -np.inf
        self._is_shedding = False
        self._step = BatchStep()
        self._counted: list[_Counted] = []
        self._wanted = threading.Event()
        self._reader: threading.Thread | None = None
        self.broken = 0
        """Readings by the thread that failed by a defect, and not because the store was away."""

    def current(self) -> FleetSnapshot:
        """A snapshot not much older than `max_age_s`. Raises: what `read` raises, when it must be read now."""
        self._used_at_s = now_s = self._monotonic()
        self._wanted.set()
        if self._reader is None:
            with self._lock:
                if self._reader is None:
                    self._reader = threading.Thread(target=self._keep_reading, name="fleet-view", daemon=True)
                    self._reader.start()
        oldest_s = SHEDDING_MAX_AGE_S if self._is_shedding else TOO_OLD * self._max_age_s
        if now_s - self._read_at_s > oldest_s:
            self.refresh(if_older_than_s=oldest_s)
        assert self._snapshot is not None
        return self._snapshot

    def plan(
        self,
        policy: LcPolicy,
        arrivals: LcArrivals,
        seen: FleetSnapshot,
        settings: LcSettings,
        *,
        cycle: str,
        now_s: float,
        keeps_asked: bool = False,
    ) -> Planned:
        """Plan arrivals whose rows follow `seen`, on the newest snapshot with the same rows, and count the plan in.

        `now_s`, wall seconds since the run began, is what `within_budget` counts from.

        A plan that cannot be carried out is refused, and `LC_FALLBACK` decides: `fallback_reason` of the plan says why.
        """
        with self._lock:
            known = self._snapshot
            snapshot = known if known is seen or (known is not None and known.has_rows_of(seen)) else seen
            masked, margin_s = self._masked(snapshot), self._margin.seconds(snapshot.services)
            if isinstance(policy, LcRule) and policy.policy.observes:
                masked = self._seen.told(masked)
            # What is in flight is counted up in place, here and by the batches that plan next, and what is seen by calls.
            seen_then = None if masked.answers is None or not keeps_asked else masked.answers.copy()
            asked = replace(masked, in_flight=masked.in_flight.copy(), answers=seen_then) if keeps_asked else None
            if isinstance(policy, LcRule) and _are_first_tries(arrivals):
                plan = self._step.decided(policy, arrivals, masked, settings, cycle=cycle, now_s=now_s, margin_s=margin_s)
            else:
                plan = decided_lc(policy, arrivals, masked, settings, cycle=cycle, fallback=LC_FALLBACK)
                plan = tried_elsewhere(plan, arrivals, snapshot)
                plan = within_budget(plan, arrivals, snapshot.services, now_s=now_s, margin_s=margin_s)
            _count_in(snapshot, arrivals, plan)
            self._is_shedding = bool(plan.shed.any())
            counted = _Counted(arrivals, plan, self._monotonic())
            self._counted.append(counted)
        return Planned(plan, snapshot, asked, counted)

    def recorded(self, planned: Planned) -> None:
        """Say that a plan is in the store, or will never be: what is read from now on says whether it is in flight."""
        planned.counted.recorded_at_s = self._monotonic()

    def refresh(self, *, if_older_than_s: float | None = None) -> None:
        """Read a snapshot and use it from now on, plus the dispatches that it cannot contain yet; not if somebody else has just read one,
        half of `max_age_s` ago or as long as is said."""
        with self._reading:
            if self._monotonic() - self._read_at_s < (self._max_age_s / 2 if if_older_than_s is None else if_older_than_s):
                return
            began_s = self._monotonic()
            fresh = self._read()
            with self._lock:
                oldest_s = began_s - RECORDED_WITHIN_S
                unread = [one for one in self._counted if one.recorded_at_s >= began_s and one.planned_at_s > oldest_s]
                if self._snapshot is not None and self._snapshot.has_rows_of(fresh):
                    for one in unread:
                        _count_in(fresh, one.arrivals, one.plan)
                self._counted = unread
                self._snapshot, self._read_at_s = fresh, began_s

    def _keep_reading(self) -> None:
        while True:
            self._wanted.wait()
            if self._monotonic() - self._used_at_s > IDLE_AFTER_S:
                self._wanted.clear()
                continue
            try:
                self.refresh()
            except TangoError as error:
                log.warning("snapshot_not_read", error=str(error))
            except Exception:  # the thread goes on: without it every batch would read for itself, as soon as what it has is too old
                self.broken += 1
                log.exception("snapshot_broken", broken=self.broken)
            time.sleep(self._max_age_s)


def _are_first_tries(arrivals: LcArrivals) -> bool:
    """Whether nobody has to keep away from the node that it was on before (`tried_elsewhere`)."""
    return not isinstance(arrivals, CalledArrivals) or bool((arrivals.last_node < 0).all())


def _count_in(snapshot: FleetSnapshot, arrivals: LcArrivals, plan: LcPlan) -> None:
    """As `snapshot_assembly` counts what it reads, so that the next reading finds the same."""
    work_s = work_at_scale_s(arrivals, snapshot.services)
    count_in(arrivals.service, plan.node, work_s, snapshot.in_flight, snapshot.in_flight_work_s)
