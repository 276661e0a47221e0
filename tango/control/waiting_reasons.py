"""BE requests that a placement has left waiting, counted by reason for metrics: the reasons are those of `tango explain`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tango.domain.explanation import PendingFacts
from tango.domain.placement_question import PlacementQuestion
from tango.domain.reasons import StateReason
from tango.domain.why_pending import reason_left
from tango.telemetry.catalogue import WAITING
from tango.telemetry.tallies import put

COUNT_EVERY_S = 5.0
"""Seconds between two counts. One looks at every node for each kind of request, 5 ms of Python for a thousand nodes; Prometheus scrapes
every 15 s."""
MOST_KINDS = 32
"""Kinds of requests, by service, size and home, whose reasons are found in one count; requests of a kind beyond wait for the reason of
the commonest. Bounds the count where all requests differ."""


class WaitingReasons:
    """The counts of one scheduler, whose gauges are 0 again when nothing waits or another process has the lease."""

    def __init__(
        self, home_only: Callable[[int], bool] = lambda _run: False, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`home_only` says of a run whether its BE policy looks at a request's entry cluster alone."""
        self._home_only, self._monotonic = home_only, monotonic
        self._next_s = -float("inf")
        self._told: set[StateReason] = set()

    def note(
        self, question: PlacementQuestion, node: NDArray[np.int32], held_back: Mapping[StateReason, int] = MappingProxyType({})
    ) -> None:
        """Count those without a node, `node` (k,) being -1, unless that was done a moment ago; with those that were not looked at."""
        if self._monotonic() < self._next_s:
            return
        self._next_s = self._monotonic() + COUNT_EVERY_S
        self._tell(self._counts(question, node) + Counter(held_back))

    def nothing_waits(self) -> None:
        """No request of this scheduler waits."""
        if self._told:
            self._next_s = -float("inf")
            self._tell(Counter())

    def _counts(self, question: PlacementQuestion, node: NDArray[np.int32]) -> Counter[StateReason]:
        pending, found = question.pending, Counter[StateReason]()
        left = np.flatnonzero(node < 0)
        if not len(left):
            return found
        at_home = {run: self._home_only(run) for run in np.unique(pending.run_id[left]).tolist()}
        home = np.array([at_home[run] for run in pending.run_id[left].tolist()], np.bool_)
        kinds = np.vstack(
            (
                pending.service[left],
                np.where(home, pending.entry_cluster[left], -1),
                pending.waited_s[left] < question.lc_first_s,
                pending.requests[:, left],
            )
        )
        _, first, counts = np.unique(kinds, axis=1, return_index=True, return_counts=True)
        commonest = np.argsort(-counts, kind="stable")
        beyond = int(counts[commonest[MOST_KINDS:]].sum())
        for place, kind in enumerate(commonest[:MOST_KINDS].tolist()):
            row = int(left[first[kind]])
            facts = PendingFacts(question=question, mine=pending.rows(np.array([row])), home_only=at_home[int(pending.run_id[row])])
            found[reason_left(facts, node)] += int(counts[kind]) + (beyond if place == 0 else 0)
        return found

    def _tell(self, counts: Counter[StateReason]) -> None:
        for reason in self._told | set(counts):
            put(WAITING, str(reason), value=float(counts[reason]))
        self._told = set(counts)
