"""Candidates of decisions: which requests of a decision are weighed once more, and what is kept of that.

    decision made ─► WeighingRate: how many may be weighed ─► weighed_be, weighed_lc ─► told ─► JSON in the decision's record

Nothing here may cost a request anything: an error is logged, and the decision has no candidates.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from tango.domain.candidates import Weighed, Weighing, told, written
from tango.domain.identity import RequestKey
from tango.domain.placement_question import PlacementQuestion
from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import CalledArrivals, LcArrivals
from tango.domain.resource_axis import MAY_RUN, lacks, quantity
from tango.domain.snapshot import FleetSnapshot
from tango.domain.why_pending import obstacles
from tango.ports.events import EventLog
from tango.settings.decisions import LcSettings
from tango.settings.explaining import ExplainSettings
from tango.systems import LcPolicy
from tango.systems.weighing import AskedBe, weighed_be, weighed_lc

log = structlog.get_logger(__name__)

MOST_A_DECISION = 4
"""Requests of one decision that are weighed, so that a large batch does not wait for all of its share."""
SAVED_UP_S = 5.0
"""Seconds for which what is not used of the rate is saved up: a burst after a quiet time is kept whole."""


class WeighingRate:
    """Lets so many requests a second be weighed, and no more. Thread-safe."""

    def __init__(self, settings: ExplainSettings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_s = settings.weighed_per_s
        self._most = max(1.0, self._per_s * SAVED_UP_S)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._left = self._most if self._per_s else 0.0
        self._at_s = monotonic()

    def take(self, wanted: int = MOST_A_DECISION) -> int:
        """How many may be weighed now, at most so many; they count as weighed."""
        if not self._per_s:
            return 0
        with self._lock:
            now_s = self._monotonic()
            self._left = min(self._most, self._left + (now_s - self._at_s) * self._per_s)
            self._at_s = now_s
            taken = min(wanted, int(self._left))
            self._left -= taken
        return taken

    def give_back(self, unused: int) -> None:
        """These were not weighed after all."""
        with self._lock:
            self._left = min(self._most, self._left + unused)


FORGET_EVERY_S = 60.0
"""Seconds between two times that candidates of old decisions are deleted."""


class Forgetting:
    """Keeps the candidates of no more decisions than is said. For one thread at a time."""

    def __init__(self, events: EventLog, settings: ExplainSettings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._events, self._keep, self._monotonic = events, settings.kept_decisions, monotonic
        self._again_s = -np.inf

    def step(self) -> int:
        """Delete those of the oldest, once a minute; gives of how many decisions."""
        if self._monotonic() < self._again_s:
            return 0
        self._again_s = self._monotonic() + FORGET_EVERY_S
        return self._events.forget_candidates(keep=self._keep)


def be_candidates(asked: Sequence[AskedBe], question: PlacementQuestion, plan: BePlan, *, most: int) -> tuple[str, int]:
    """The candidates of at most so many of the requests that a placement has placed, as a decision keeps them, and of how many they are.

    `asked`: the calls of policies that `plan` was made of, which decides on the requests of `question`.
    """
    try:
        found = [one for call in asked for one in _of_call(call, question, plan, most)][:most]
        return written(found), len(found)
    except Exception:  # whatever it is, the decision stands
        log.exception("candidates_not_kept", policy=plan.policy)
        return "", 0


def _of_call(call: AskedBe, question: PlacementQuestion, plan: BePlan, most: int) -> Iterator[Weighed]:
    pending, of_all = call.pending, question.pending
    row_of = {key: k for k, key in enumerate(zip(of_all.run_id.tolist(), of_all.request_id.tolist(), strict=True))}
    rows = [row_of[key] for key in zip(pending.run_id.tolist(), pending.request_id.tolist(), strict=True)]
    # What was taken back afterwards, as where a pause allows one pod, waits on and is explained as what waits.
    placed = np.flatnonzero((call.plan.node >= 0) & (plan.node[rows] == call.plan.node))
    chosen = _spread(placed, most)
    for k, weighing in zip(chosen, weighed_be(call, chosen), strict=False):

        def refused(n: int, k: int = k, weighing: Weighing = weighing) -> str:
            in_its_way = obstacles(question, int(pending.service[k]), float(pending.waited_s[k]), n)
            words = "; ".join(o.words for o in in_its_way) or _lacked(pending.requests[:, k], weighing.free, n, call.snapshot)
            return words or "it was not open to it"

        if np.isfinite(weighing.price[call.plan.node[k]]):
            yield told(
                weighing,
                call.snapshot,
                request=RequestKey(int(pending.run_id[k]), int(pending.request_id[k])),
                epoch=int(pending.epoch[k]) + 1,
                chosen=int(call.plan.node[k]),
                refused=refused,
            )


def _lacked(asked: NDArray[np.float64], free: NDArray[np.float64] | None, node: int, snapshot: FleetSnapshot) -> str:
    if free is None:
        return ""
    names = snapshot.resources.names
    return ", ".join(
        "its pods may not run there"
        if names[j].startswith(MAY_RUN)
        else f"it was full: {quantity(names[j], float(asked[j]))} of {names[j]} asked for, "
        f"{quantity(names[j], max(0.0, float(free[j, node])))} free"
        for j in np.flatnonzero(lacks(asked, free[:, node])).tolist()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedLc:
    """A dispatch that was decided."""

    run_id: int
    policy: LcPolicy
    plan: LcPlan
    arrivals: LcArrivals
    snapshot: FleetSnapshot
    """The fleet on which it was decided, before any of the plan was counted in."""
    settings: LcSettings


def lc_candidates(decided: DecidedLc, *, most: int) -> tuple[str, int]:
    """As `be_candidates`, of a dispatch."""
    try:
        found = list(_of_dispatch(decided, most))
        return written(found), len(found)
    except Exception:  # whatever it is, the decision stands
        log.exception("candidates_not_kept", policy=decided.plan.policy)
        return "", 0


def _of_dispatch(decided: DecidedLc, most: int) -> Iterator[Weighed]:
    plan, arrivals, snapshot = decided.plan, decided.arrivals, decided.snapshot
    chosen = _spread(np.flatnonzero((plan.node >= 0) & ~plan.shed), most)
    weighings = weighed_lc(decided.policy, plan, arrivals, snapshot, decided.settings, chosen)
    for k, weighing in zip(chosen, weighings, strict=False):

        def refused(n: int) -> str:
            cluster = snapshot.node_key(n).cluster
            return f"the line to {cluster} carried no more of its batch within the target"

        node, moved = int(plan.node[k]), ""
        takers = [n for n in weighing.order.tolist() if weighing.takes[n]]
        if isinstance(arrivals, CalledArrivals) and takers and node != takers[0] == arrivals.last_node[k]:
            moved = f"it had failed on {snapshot.node_key(takers[0])}, which was the best, the time before"
        if np.isfinite(weighing.price[node]):
            yield told(
                weighing,
                snapshot,
                request=RequestKey(decided.run_id, int(arrivals.request_id[k])),
                epoch=int(arrivals.epoch[k]) + 1,
                chosen=node,
                refused=refused,
                moved=moved,
            )


def _spread(rows: NDArray[np.intp], most: int) -> list[int]:
    """At most so many of these, evenly over all of them."""
    if len(rows) <= most:
        found: list[int] = rows.tolist()
    else:
        found = rows[np.linspace(0, len(rows) - 1, most).astype(np.intp)].tolist() if most else []
    return found
