"""What one placement of BE decides on, at one instant, and the same with something changed.

    recorded ─► PlacementQuestion ─► tango.systems.be_waits.planned ─► plan
                     │ with_changes
                     └─► PlacementQuestion ─► planned ─► another plan

The scheduler decides on one, an explanation is made of one that is read from the store, and the proof of explanations decides on one with
the stated changes applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from tango.domain.changes import Change, ChangeKind
from tango.domain.patience import crowded
from tango.domain.refusals import Pauses
from tango.domain.requests import BePending
from tango.domain.resource_axis import MAY_RUN, PLENTY
from tango.domain.shares import LcWait
from tango.domain.snapshot import FleetSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementQuestion:
    """All that a placement reads, with services and clusters as rows of the snapshot."""

    pending: BePending
    """What is considered, in order."""
    snapshot: FleetSnapshot
    pauses: Pauses = field(default_factory=Pauses)
    pressed: NDArray[np.bool_] | None = None
    """(n,) nodes that get no BE by what their agents tell; None: none."""
    waits: Mapping[str, LcWait] = field(default_factory=dict)
    """By cluster, how much LC waits there."""
    lc_late_share: float = 1.0
    lc_first_s: float = 0.0
    """As in `BeSettings`."""
    away: frozenset[str] = frozenset()
    """Clusters that are not heard of: `snapshot.node_ready` has their nodes as not ready."""
    told_ready: NDArray[np.bool_] | None = None
    """(n,) whether each node was ready when it was last told of; None: as in the snapshot."""

    @property
    def crowded(self) -> set[str]:
        """Clusters whose LC waits, so that BE has to."""
        return crowded(self.waits, late_share=self.lc_late_share)

    @property
    def barred(self) -> NDArray[np.bool_]:
        """(s, n) where no pod of a service may be put now, whatever room there is."""
        found = self.pauses.barred(self.snapshot)
        if self.pressed is not None:
            found |= self.pressed
        return found if self.snapshot.barred is None else found | self.snapshot.barred

    def row(self, run_id: int, request_id: int) -> int:
        """The row of a request in `pending`, -1 where it is not considered."""
        found = np.flatnonzero((self.pending.run_id == run_id) & (self.pending.request_id == request_id))
        return int(found[0]) if len(found) else -1

    def with_changes(self, changes: Iterable[Change], mine: BePending) -> PlacementQuestion:
        """The same instant with these changes, of which some speak of the request `mine` (one row).

        Raises: ValueError for a change that says nothing about a placement.
        """
        question = self
        for change in changes:
            question = question._with(change, mine)
        return question

    def _with(self, change: Change, mine: BePending) -> PlacementQuestion:
        match change.kind:
            case ChangeKind.TIME:
                passed = tuple(replace(state, left_s=state.left_s - change.amount) for state in self.pauses.states)
                waited = replace(self.pending, waited_s=self.pending.waited_s + change.amount)
                return replace(self, pauses=Pauses(passed), pending=waited)
            case ChangeKind.REFUSAL_LIFTED:
                kept = [
                    state
                    for state in self.pauses.states
                    if (state.cluster, state.service, state.node) != (change.cluster, change.service, change.node)
                ]
                return replace(self, pauses=Pauses(tuple(kept)))
            case ChangeKind.PRESSURE_OVER if self.pressed is not None:
                return replace(self, pressed=self.pressed & ~_named(self.snapshot, change))
            case ChangeKind.LC_CAUGHT_UP:
                wait = self.waits.get(change.cluster, LcWait())
                caught_up = wait._replace(late=wait.late - round(change.amount))
                return replace(self, waits={**self.waits, change.cluster: caught_up})
            case ChangeKind.FIRST_IN_LINE:
                return replace(self, pending=first_in_line(mine, self.pending))
            case ChangeKind.CLUSTER_BACK:
                back = _named(self.snapshot, change) & (self.snapshot.node_ready if self.told_ready is None else self.told_ready)
                ready = replace(self.snapshot, node_ready=self.snapshot.node_ready | back)
                return replace(self, snapshot=ready, away=self.away - {change.cluster})
            case _:
                return replace(self, snapshot=changed_snapshot(self.snapshot, change))


def first_in_line(mine: BePending, pending: BePending) -> BePending:
    """Those that are considered, with this one before all others; as many as before, or one more where it is alone."""
    others = np.flatnonzero((pending.run_id != mine.run_id[0]) | (pending.request_id != mine.request_id[0]))
    if len(others) == len(pending):  # it was behind all that are considered: the last of them makes way
        others = others[: max(0, len(pending) - 1)]
    rest = pending.rows(others)
    joined = {f.name: np.concatenate((getattr(mine, f.name), getattr(rest, f.name)), axis=-1) for f in fields(BePending)}
    return BePending(**joined)


def changed_snapshot(snapshot: FleetSnapshot, change: Change) -> FleetSnapshot:
    """The snapshot with one change on one of its nodes. Raises: ValueError for a change of another kind."""
    where = _named(snapshot, change)
    match change.kind:
        case ChangeKind.HEADROOM:
            allocatable = snapshot.allocatable.copy()
            allocatable[snapshot.resources.names.index(change.resource), where] += change.amount
            return replace(snapshot, allocatable=allocatable)
        case ChangeKind.NODE_READY:
            return replace(snapshot, node_ready=snapshot.node_ready | where)
        case ChangeKind.NODE_OPENED:
            return _opened(snapshot, change.service, where)
        case ChangeKind.INSTANCE_READY:
            of_service = np.array([service.name == change.service for service in snapshot.services], np.bool_)
            one = of_service[:, None] & where[None, :]
            limit = np.array([float(service.cpu_limit_millicores) for service in snapshot.services])[:, None]
            return replace(
                snapshot,
                instance_limit=np.where(one, snapshot.instance_limit + limit, snapshot.instance_limit),
                instance_count=np.where(one, snapshot.instance_count + 1.0, snapshot.instance_count),
            )
        case _:
            raise ValueError(f"{change} is no change of a snapshot")


def _opened(snapshot: FleetSnapshot, service: str, where: NDArray[np.bool_]) -> FleetSnapshot:
    """Its pods may be put there, as far as cordons, taints and selectors go."""
    of_service = np.array([s.name == service for s in snapshot.services], np.bool_)
    barred = None if snapshot.barred is None else snapshot.barred & ~(of_service[:, None] & where[None, :])
    if (name := MAY_RUN + service) not in snapshot.resources.names:
        return replace(snapshot, barred=barred)
    allocatable = snapshot.allocatable.copy()
    allocatable[snapshot.resources.names.index(name), where] = float(PLENTY)
    return replace(snapshot, barred=barred, allocatable=allocatable)


def _named(snapshot: FleetSnapshot, change: Change) -> NDArray[np.bool_]:
    """(n,) the nodes that a change speaks of: one, or all of a cluster."""
    of_cluster = np.array([name == change.cluster for name in snapshot.clusters], np.bool_)[snapshot.node_cluster]
    found: NDArray[np.bool_] = of_cluster & np.array([change.node in ("", name) for name in snapshot.nodes], np.bool_)
    return found
