"""Why a BE request that waits has no node yet.

It looks at the nodes as a placement does. What keeps a request from a node is either an obstacle (the cluster is away, the node is closed,
a quota, …) or a shortage (so many MiB too few). Candidates of an explanation come in the order of precedence:

1. it has room on an open node, and others come first
2. it has room on a node with an obstacle: on the one with the fewest, among these the one whose obstacle stands first in `StateReason`
3. no open node has room: the one where the least is missing, by share of what it asks for
4. no node is open, and none has room

Of each the change that is stated is tried out by `place`, the decision itself, with all who wait before it: it must be enough, and half of
its amounts must not be. Where others would take what was freed, the change says that it is first in line, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.domain.changes import Change, ChangeKind, halved
from tango.domain.explanation import NAMED_AHEAD, Explanation, PendingFacts, Place, QueuePlace
from tango.domain.identity import RequestKey
from tango.domain.patience import FEW_LATE
from tango.domain.placement_question import PlacementQuestion
from tango.domain.reasons import OF_REFUSAL, StateReason
from tango.domain.resource_axis import CPU, MAY_RUN, MEMORY, PODS, ROUNDING, lacks, quantity

DECIMALS = 3
"""Amounts are told to a thousandth of a MiB or millicore: what is less is the rounding of sums."""
TRIED = 3
"""Nodes with an obstacle of which it is tried out, in order of precedence, what taking it away would change."""
RULE = "the oldest due time first, each run in turn; jobs of one tenant by priority and age"
RULE_OF_TENANTS = f"the tenant with the least weighted share first; of one tenant {RULE}"


class Obstacle(NamedTuple):
    """What keeps a request from a node whatever room it has."""

    reason: StateReason
    change: Change
    words: str


class _Candidate(NamedTuple):
    reason: StateReason
    node: int
    changes: tuple[Change, ...]
    words: str


def why_pending(facts: PendingFacts, place: Place | None) -> Explanation:
    """The explanation of a BE request in state `pending` whose service is declared.

    `place`: what decides, by which the stated change is tried out; None: it is told untried, and nobody is taken to be before it.
    """
    if facts.mine is None:
        return Explanation(
            reason=StateReason.WAITING_FOR_NODE, words="its entry cluster is not in the fleet, so no placement looks at it"
        )
    if facts.held_back is not None:
        held = facts.held_back
        return Explanation(reason=held.reason, words=held.words, figures=held.figures, changes=held.changes)
    return _Pending(facts, place).explained()


def reason_left(facts: PendingFacts, planned: NDArray[np.int32]) -> StateReason:
    """The reason of a request that a decision has left without a node, `planned` (k,) being all that it decided. No change is tried out,
    which makes it cheap: where several nodes could be told of, it is the reason of the first of them."""
    left = _Pending(facts, None)
    left.planned = planned
    return left.explained().reason


def obstacles(question: PlacementQuestion, service: int, waited_s: float, node: int) -> tuple[Obstacle, ...]:
    """What keeps a request of this service from a node, in order of precedence."""
    snapshot, key = question.snapshot, question.snapshot.node_key(node)
    name, found = snapshot.services[service].name, list[Obstacle]()
    if not snapshot.node_ready[node]:
        if key.cluster in question.away:
            change = Change(kind=ChangeKind.CLUSTER_BACK, cluster=key.cluster)
            found.append(Obstacle(StateReason.CLUSTER_AWAY, change, f"cluster {key.cluster} is away"))
        if key.cluster not in question.away or (question.told_ready is not None and not question.told_ready[node]):
            found.append(Obstacle(StateReason.NODE_NOT_READY, Change.at(ChangeKind.NODE_READY, key), f"node {key} is not ready"))
    if snapshot.barred is not None and snapshot.barred[service, node]:
        change = Change.at(ChangeKind.NODE_OPENED, key, service=name)
        found.append(Obstacle(StateReason.NODE_CLOSED, change, f"node {key} takes no new pods of {name}"))
    for state in question.pauses.states:
        speaks_of_it = state.cluster == key.cluster and state.service in ("", name) and state.node in ("", key.name)
        if not speaks_of_it or not state.is_paused:
            continue
        reason = OF_REFUSAL[state.kind]
        change = (
            Change(kind=ChangeKind.TIME, amount=state.left_s)
            if reason is StateReason.BACKING_OFF
            else Change(kind=ChangeKind.REFUSAL_LIFTED, cluster=state.cluster, node=state.node, service=state.service)
        )
        where = f"{state.cluster}/{state.node}" if state.node else state.cluster
        found.append(Obstacle(reason, change, f"{where} refuses it, {state}"))
    if question.pressed is not None and question.pressed[node]:
        change = Change.at(ChangeKind.PRESSURE_OVER, key)
        found.append(Obstacle(StateReason.NODE_PRESSED, change, f"node {key} is under pressure and gets no BE"))
    if key.cluster in question.crowded and waited_s < question.lc_first_s:
        wait = question.waits[key.cluster]
        late = max(1.0, float(np.ceil(wait.late - max(FEW_LATE, question.lc_late_share * wait.under_way))))
        change = Change(kind=ChangeKind.LC_CAUGHT_UP, cluster=key.cluster, amount=late)
        words = f"LC waits in {key.cluster}: {wait.late} of {wait.under_way} requests there are late"
        found.append(Obstacle(StateReason.LC_FIRST, change, words))
    return tuple(sorted(found, key=lambda obstacle: obstacle.reason.rank))


def _gone(found: tuple[Obstacle, ...]) -> tuple[Change, ...]:
    """What takes all of these obstacles away; of several pauses the longest."""
    changes = dict.fromkeys(o.change for o in found)
    longest = max((change.amount for change in changes if change.kind is ChangeKind.TIME), default=0.0)
    return tuple(change for change in changes if change.kind is not ChangeKind.TIME or change.amount == longest)


class _Pending:
    """One request, with what every candidate is made of."""

    def __init__(self, facts: PendingFacts, place: Place | None) -> None:
        assert facts.mine is not None
        self.question, self.mine, self.place = facts.question, facts.mine, place
        self.is_stood_for, self.overtaken_by = facts.is_stood_for, facts.overtaken_by
        self._behind = StateReason.BEHIND_SHARE if self.overtaken_by else StateReason.BEHIND_IN_QUEUE
        self._whose = f", those of {', '.join(self.overtaken_by)} by their smaller shares" if self.overtaken_by else ""
        snapshot = self.question.snapshot
        self.snapshot, self.service = snapshot, int(self.mine.service[0])
        self.asked: NDArray[np.float64] = self.mine.requests[:, 0]
        self.row = self.question.row(int(self.mine.run_id[0]), int(self.mine.request_id[0]))
        self.ahead = self.row if self.row >= 0 else len(self.question.pending)
        self.may = np.ones(len(snapshot.nodes), np.bool_)
        if facts.home_only:
            self.may = snapshot.node_cluster == self.mine.entry_cluster[0]
        self.queue = self._queue(facts.waiting_before)
        self.planned = place(self.question) if place is not None and self.ahead else None

    def explained(self) -> Explanation:
        if len(self.snapshot.nodes) == 0:
            return self._told(_Candidate(StateReason.FITS_NO_NODE, -1, (), "no node is known yet"))
        if self.planned is not None and self.row >= 0 and self.planned[self.row] >= 0:
            return self._next_in_line(int(self.planned[self.row]))
        first: _Candidate | None = None
        for candidate in self._candidates():
            if candidate.reason is StateReason.ABOUT_TO_BE_PLACED:
                return self._next_in_line(candidate.node)
            if self._holds(candidate.changes) and (not self.is_stood_for or self._is_left_to_it(candidate)):
                return self._told(candidate)
            first = first or candidate
        assert first is not None
        return self._told(first)

    # ---- candidates ----------------------------------------------------------------------------------------------------

    def _candidates(self) -> Iterator[_Candidate]:
        """In order of precedence; of each reason first what says nothing of the queue."""
        short = self._short(self.snapshot.free)
        whole = self.snapshot.allocatable if self.snapshot.others is None else self.snapshot.allocatable + self.snapshot.others
        declared = self.snapshot.resources.pod_requests(self.snapshot.services) @ self.snapshot.instance_count
        can_hold = self.may & ~self._short(whole - declared).any(axis=0)
        in_line = (Change(kind=ChangeKind.FIRST_IN_LINE),)
        if not can_hold.any():
            yield from self._fits_nowhere(short)
            return
        blocked = {n: self._obstacles(n) for n in np.flatnonzero(can_hold).tolist()}
        has_headroom = [n for n in blocked if not short[:, n].any()]
        if open_with_headroom := [n for n in has_headroom if not blocked[n]]:
            n = open_with_headroom[0]
            if not self.ahead:
                yield _Candidate(StateReason.ABOUT_TO_BE_PLACED, n, (), "")
            words = f"{self.queue.position - 1} wait before it and take what is free{self._whose}"
            yield _Candidate(self._behind, n, in_line, words)
        with_obstacles = (n for n in has_headroom if blocked[n])
        for n in sorted(with_obstacles, key=lambda n: (len(blocked[n]), [o.reason.rank for o in blocked[n]]))[:TRIED]:
            changes = _gone(blocked[n])
            words = "; ".join(o.words for o in blocked[n])
            yield _Candidate(blocked[n][0].reason, n, changes, words)
            yield _Candidate(blocked[n][0].reason, n, (*in_line, *changes), words)
        nodes = [n for n in blocked if not blocked[n]] or list(blocked)
        for shortage, before in ((self._short(self._free_behind_them()), ()), (short, in_line)):
            lacking = [n for n in nodes if shortage[:, n].any()]
            if lacking:
                n = min(lacking, key=lambda n: (len(blocked[n]), self._missing(shortage, n)))
                yield self._lacking(n, shortage, short, blocked[n], before)

    def _fits_nowhere(self, short: NDArray[np.float64]) -> Iterator[_Candidate]:
        """No node could ever hold it: a larger node would."""
        nodes = np.flatnonzero(self.may).tolist()
        if not nodes:
            cluster = self.snapshot.clusters[int(self.mine.entry_cluster[0])]
            yield _Candidate(StateReason.FITS_NO_NODE, -1, (), f"cluster {cluster}, where alone its policy looks, has no node")
            return
        n = min(nodes, key=lambda n: (len(self._obstacles(n)), self._missing(short, n)))
        headroom, barriers = self._headroom(n, short), _gone(self._obstacles(n))
        words = f"no node could hold it: {self._lacks(n, short)}"
        yield _Candidate(StateReason.FITS_NO_NODE, n, (*barriers, *headroom), words)
        yield _Candidate(StateReason.FITS_NO_NODE, n, (Change(kind=ChangeKind.FIRST_IN_LINE), *barriers, *headroom), words)

    def _lacking(
        self,
        n: int,
        shortage: NDArray[np.float64],
        short: NDArray[np.float64],
        blocked: tuple[Obstacle, ...],
        before: tuple[Change, ...],
    ) -> _Candidate:
        changes = (*before, *_gone(blocked), *self._headroom(n, shortage))
        if blocked:
            words = "; ".join((*(o.words for o in blocked), self._lacks(n, shortage)))
            return _Candidate(blocked[0].reason, n, changes, words)
        # What it lacks by itself names the reason; where it lacks nothing but for those before it, they do.
        if not short[:, n].any():
            words = f"those before it leave too little{self._whose}: {self._lacks(n, shortage)}"
            return _Candidate(self._behind, n, changes, words)
        resource = int(np.flatnonzero(short[:, n])[0])
        reason = {
            CPU: StateReason.WAITING_FOR_CPU,
            MEMORY: StateReason.WAITING_FOR_MEMORY,
            PODS: StateReason.WAITING_FOR_PODS,
        }.get(resource, StateReason.WAITING_FOR_DEVICE)
        return _Candidate(reason, n, changes, self._lacks(n, shortage))

    # ---- figures -------------------------------------------------------------------------------------------------------

    def _short(self, free: NDArray[np.float64]) -> NDArray[np.float64]:
        """(r, n) what each node has too little of; what it does not ask for is never short, and where it may run is an obstacle."""
        asked = np.array(
            [0.0 if name.startswith(MAY_RUN) else amount for name, amount in zip(self._names, self.asked.tolist(), strict=True)]
        )
        short: NDArray[np.float64] = np.where(lacks(asked[:, None], free), asked[:, None] - free, 0.0)
        # Up, so that the amount is enough, but for what is the rounding of sums.
        up: NDArray[np.float64] = np.ceil((short - ROUNDING) * 10**DECIMALS) / 10**DECIMALS
        return np.maximum(0.0, up)

    @property
    def _names(self) -> tuple[str, ...]:
        return self.snapshot.resources.names

    def _free_behind_them(self) -> NDArray[np.float64]:
        """(r, n) what is free when those before it have been placed."""
        if self.planned is None:
            return self.snapshot.free
        node = self.planned.copy()
        node[self.ahead :] = -1
        return self.snapshot.with_placed(self.question.pending, node).free

    def _obstacles(self, node: int) -> tuple[Obstacle, ...]:
        return obstacles(self.question, self.service, float(self.mine.waited_s[0]), node)

    def _missing(self, short: NDArray[np.float64], node: int) -> float:
        """How much a node lacks, in shares of what is asked for."""
        return float((short[:, node] / np.maximum(1.0, self.asked)).sum())

    def _headroom(self, node: int, short: NDArray[np.float64]) -> tuple[Change, ...]:
        key = self.snapshot.node_key(node)
        return tuple(
            Change.at(ChangeKind.HEADROOM, key, resource=self._names[j], amount=float(short[j, node]))
            for j in np.flatnonzero(short[:, node]).tolist()
        )

    def _lacks(self, node: int, short: NDArray[np.float64]) -> str:
        key, told = self.snapshot.node_key(node), []
        for j in np.flatnonzero(short[:, node]).tolist():
            free = max(0.0, float(self.asked[j] - short[j, node]))
            told.append(
                f"it needs {quantity(self._names[j], float(self.asked[j]))} of {self._names[j]}, "
                f"and {quantity(self._names[j], free)} is free on {key}"
            )
        return ", ".join(told)

    def _queue(self, waiting_before: int) -> QueuePlace:
        pending = self.question.pending
        ahead = range(max(0, self.ahead - NAMED_AHEAD), self.ahead)
        return QueuePlace(
            position=self.ahead + 1 + waiting_before,
            considered=len(pending),
            ahead=tuple(RequestKey(int(pending.run_id[k]), int(pending.request_id[k])) for k in ahead),
            rule=RULE_OF_TENANTS if self.overtaken_by else RULE,
        )

    # ---- trying out ----------------------------------------------------------------------------------------------------

    def _holds(self, changes: tuple[Change, ...]) -> bool:
        """Whether these changes give it a node, and half of their amounts do not."""
        if self.place is None:
            return True
        if not self._is_placed(changes):
            return False
        return not any(change.has_amount for change in changes) or not self._is_placed(halved(changes))

    def _is_left_to_it(self, candidate: _Candidate) -> bool:
        """Whether the candidate's node has room for it, with its changes, even if all that come before it and may go there do."""
        if candidate.node < 0 or any(change.kind is ChangeKind.FIRST_IN_LINE for change in candidate.changes):
            return True
        question, n = self.question.with_changes(candidate.changes, self.mine), candidate.node
        free, pending = question.snapshot.free[:, n].copy(), question.pending
        is_open = ~question.barred[:, n]
        for k in range(self.ahead):
            size = pending.requests[:, k]
            if is_open[pending.service[k]] and not lacks(size, free).any():
                free -= size
        return not lacks(self.asked, free).any()

    def _is_placed(self, changes: tuple[Change, ...]) -> bool:
        assert self.place is not None
        question = self.question.with_changes(changes, self.mine)
        row = question.row(int(self.mine.run_id[0]), int(self.mine.request_id[0]))
        return row >= 0 and bool(self.place(question)[row] >= 0)

    # ---- words ---------------------------------------------------------------------------------------------------------

    def _next_in_line(self, node: int) -> Explanation:
        words = f"{self.snapshot.node_key(node)} has room for it, and the next placement gives it a node"
        return self._told(_Candidate(StateReason.ABOUT_TO_BE_PLACED, node, (), words))

    def _told(self, candidate: _Candidate) -> Explanation:
        figures: dict[str, float | str] = {
            f"needs {name}": quantity(name, amount)
            for name, amount in zip(self._names, self.asked.tolist(), strict=True)
            if amount > 0 and not name.startswith(MAY_RUN)
        }
        if candidate.node >= 0:
            figures["node"] = str(self.snapshot.node_key(candidate.node))
            free = np.maximum(0.0, self.snapshot.free[:, candidate.node])
            figures |= {
                f"free {name} there": quantity(name, round(amount, DECIMALS))
                for name, amount in zip(self._names, free.tolist(), strict=True)
                if f"needs {name}" in figures
            }
        return Explanation(
            reason=candidate.reason, words=candidate.words, figures=figures, changes=candidate.changes, queue=self.queue
        )
