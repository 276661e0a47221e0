"""Worlds in which a BE request waits for each of the reasons that there are, drawn at random around one of them.

A world is a placement question: a fleet about half busy, requests that wait for it, and one of them that is asked about. What is emphasised
is what most likely keeps it; what really does, the explanation has to find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from tango.bench.worlds import busy_snapshot, fleet_of_size, pending_for
from tango.control.tenant_order import overtaken_by
from tango.domain.explanation import PendingFacts
from tango.domain.fleet import Fleet
from tango.domain.identity import RequestKey
from tango.domain.placement_question import PlacementQuestion
from tango.domain.reasons import StateReason
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Pauses, RefusalState
from tango.domain.requests import BePending
from tango.domain.resource_axis import CPU, MEMORY, PODS
from tango.domain.runs import PendingRequests
from tango.domain.services import ServiceClass
from tango.domain.shares import LcWait
from tango.domain.snapshot import FleetSnapshot
from tango.domain.tenant_columns import TenantColumns
from tango.scheduling.fair_shares import capacity_of
from tango.scheduling.tenant_turns import Considered, TenantHoldings, considered
from tango.systems.registry import AtHome, at_home, unlearned_be

DEVICE = "example.com/gpu"
LC_LATE_SHARE, LC_FIRST_S = 0.1, 60.0
MOST_WAITING = 24
"""Requests that wait in a world, at the most."""
_OF_REFUSALS: Mapping[StateReason, tuple[RefusalKind, ...]] = {
    StateReason.OVER_QUOTA: (RefusalKind.QUOTA,),
    StateReason.CLUSTER_REFUSES: (
        RefusalKind.CREDENTIALS,
        RefusalKind.PERMISSION,
        RefusalKind.NAMESPACE,
        RefusalKind.ADMISSION,
    ),
    StateReason.BACKING_OFF: (RefusalKind.THROTTLED, RefusalKind.UNREACHABLE, RefusalKind.NODE),
}
_SHORT_OF = {
    StateReason.WAITING_FOR_CPU: CPU,
    StateReason.WAITING_FOR_MEMORY: MEMORY,
    StateReason.WAITING_FOR_PODS: PODS,
    StateReason.WAITING_FOR_DEVICE: PODS + 1,
}
OF_PLACEMENT = (
    StateReason.CLUSTER_AWAY,
    StateReason.FITS_NO_NODE,
    StateReason.NODE_NOT_READY,
    StateReason.NODE_CLOSED,
    *_OF_REFUSALS,
    StateReason.NODE_PRESSED,
    StateReason.LC_FIRST,
    *_SHORT_OF,
    StateReason.BEHIND_SHARE,
    StateReason.BEHIND_IN_QUEUE,
    StateReason.ABOUT_TO_BE_PLACED,
)
"""The reasons that can be emphasised."""
HELD_BACK = (StateReason.OVER_QUOTA, StateReason.BEHIND_SHARE)
"""Reasons for which no placement looks at a request, a matter of its tenant, of which `draw_held_back` makes worlds."""
TENANTS = ("blue", "green", "red")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A request that waits, and under which system."""

    facts: PendingFacts
    system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBackWorld:
    """A request that no placement looks at, though every node has room for all that waits."""

    looked_at: Considered
    key: RequestKey
    question: PlacementQuestion
    """Of what is looked at."""
    limit: int
    """Requests that one placement looks at."""


def fleets(seed: int) -> list[Fleet]:
    """Fleets from 4 to 40 nodes, one of whose BE services asks for a device."""
    found = []
    for k, nodes in enumerate((4, 8, 16, 40)):
        fleet = fleet_of_size(nodes, clusters=max(2, nodes // 6), seed=seed + k)
        first = next(s for s in fleet.services if s.service_class is ServiceClass.BE)
        services = tuple(replace(s, extended=((DEVICE, 1000),)) if s is first else s for s in fleet.services)
        found.append(replace(fleet, services=services))
    return found


def draw(reason: StateReason, fleet: Fleet, system: str, rng: np.random.Generator) -> World:
    """A world that emphasises a reason."""
    snapshot = busy_snapshot(fleet, seed=int(rng.integers(1 << 30)))
    devices = snapshot.resources.names.index(DEVICE)
    snapshot.allocatable[devices] = rng.choice([2000.0, 4000.0], len(snapshot.nodes))
    pending = _whole(pending_for(fleet, int(rng.integers(1, MOST_WAITING + 1)), seed=int(rng.integers(1 << 30))))
    if reason is StateReason.WAITING_FOR_DEVICE:
        pending = _of_service(pending, snapshot, fleet, devices)
    mine = int(rng.integers(len(pending)))
    home = at_home(system)
    snapshot = _full_but_for(snapshot, pending, rng, few=reason is not StateReason.ABOUT_TO_BE_PLACED, home=home, mine=mine)
    waited_s = np.sort(rng.uniform(0.0, 0.9 * LC_FIRST_S, len(pending)))[::-1].copy()
    question = PlacementQuestion(
        pending=replace(pending, waited_s=waited_s),
        snapshot=snapshot,
        lc_late_share=LC_LATE_SHARE,
        lc_first_s=LC_FIRST_S,
        told_ready=snapshot.node_ready.copy(),
    )
    question = _emphasised(reason, question, mine, rng)
    asked = question.pending.rows(np.array([mine], np.intp))
    overtaken: tuple[str, ...] = ()
    if reason is StateReason.BEHIND_SHARE:
        looked_at = considered(_read_of(question, rng), _holdings(question, asked.requests[:, 0], rng), limit=MOST_WAITING)
        question = replace(question, pending=looked_at.batch.pending)
        overtaken = overtaken_by(looked_at, RequestKey(int(asked.run_id[0]), int(asked.request_id[0])))
    elif rng.random() < 0.15 and len(pending) > 1:  # it stands behind all that are considered
        kept = question.pending.rows(np.array([k for k in range(len(pending)) if k < mine] or [len(pending) - 1], np.intp))
        if mine > 0:
            question = replace(question, pending=kept)
    return World(
        facts=PendingFacts(
            question=question, mine=asked, home_only=home.be, is_stood_for=unlearned_be(system)[1], overtaken_by=overtaken
        ),
        system=system,
    )


def draw_held_back(reason: StateReason, fleet: Fleet, rng: np.random.Generator) -> HeldBackWorld:
    """A world of several tenants, of which that of one request has a quota, or gets nothing while another waits below its share."""
    pending = _whole(pending_for(fleet, int(rng.integers(2, MOST_WAITING + 1)), seed=int(rng.integers(1 << 30))))
    pending = replace(pending, waited_s=np.sort(rng.uniform(0.0, 0.9 * LC_FIRST_S, len(pending)))[::-1].copy())
    busy = busy_snapshot(fleet, seed=int(rng.integers(1 << 30)))
    wanted = busy.lc_requests + busy.be_requests + pending.requests.sum(axis=1)[:, None] + 1.0
    question = PlacementQuestion(pending=pending, snapshot=replace(busy, allocatable=np.maximum(busy.allocatable, wanted)))
    mine, read = int(rng.integers(len(pending))), _read_of(question, rng)
    tenant, asked = int(read.tenant[mine]), pending.requests[:, mine]
    books, key = _holdings(question, asked, rng), RequestKey(1, int(pending.request_id[mine]))
    if reason is StateReason.OVER_QUOTA:
        books = _with_quota(books, read, mine, rng)
        looked_at = considered(read, books, limit=MOST_WAITING)
    else:
        other = TENANTS[(tenant + int(rng.integers(1, len(TENANTS)))) % len(TENANTS)]
        looked_at = considered(read, books, limit=MOST_WAITING, withheld=[TENANTS[tenant]], waiting_for=[other])
    question = replace(question, pending=looked_at.batch.pending)
    return HeldBackWorld(looked_at=looked_at, key=key, question=question, limit=MOST_WAITING)


def _read_of(question: PlacementQuestion, rng: np.random.Generator) -> PendingRequests:
    """What waits, each request somebody's."""
    return PendingRequests(
        pending=question.pending,
        services=tuple(service.name for service in question.snapshot.services),
        clusters=question.snapshot.clusters,
        tenants=TENANTS,
        tenant=rng.integers(0, len(TENANTS), len(question.pending)).astype(np.int32),
        due_s=-question.pending.waited_s,
    )


def _holdings(question: PlacementQuestion, asked: NDArray[np.float64], rng: np.random.Generator) -> TenantHoldings:
    """What each tenant holds: some times what one request asks for."""
    snapshot = question.snapshot
    names, of_each = snapshot.resources.names, np.floor(rng.uniform(0.0, 6.0, len(TENANTS)))
    return TenantHoldings(
        tenants=TenantColumns(
            names=TENANTS,
            weight=rng.choice([0.5, 1.0, 2.0], len(TENANTS)),
            quota=np.full((len(names), len(TENANTS)), np.inf),
        ),
        held=asked[:, None] * of_each,
        capacity=capacity_of(snapshot.allocatable - snapshot.lc_requests, snapshot.node_ready),
        resources=names,
    )


def _with_quota(books: TenantHoldings, read: PendingRequests, mine: int, rng: np.random.Generator) -> TenantHoldings:
    """The tenant of one request may hold so much of one resource or two that it is not enough for this one, or not even by itself."""
    asked, t = read.pending.requests[:, mine], int(read.tenant[mine])
    own = np.flatnonzero(read.tenant[:mine] == t)
    before, quota = read.pending.requests[:, own].sum(axis=1), books.tenants.quota.copy()
    limited = [j for j in (CPU, MEMORY, *range(PODS + 1, len(asked))) if asked[j] > 0]
    for j in rng.choice(limited, int(rng.integers(1, min(2, len(limited)) + 1)), replace=False).tolist():
        most = asked[j] if rng.random() < 0.3 else books.held[j, t] + before[j] + asked[j]
        quota[j, t] = np.floor(rng.uniform(0.1, 0.98) * most)
    return replace(books, tenants=replace(books.tenants, quota=quota))


def _whole(pending: BePending) -> BePending:
    """Each is told apart by its number, as in one run."""
    return replace(pending, run_id=np.ones(len(pending), np.int64))


def _of_service(pending: BePending, snapshot: FleetSnapshot, fleet: Fleet, devices: int) -> BePending:
    """All of the service that asks for a device."""
    with_device = np.flatnonzero(snapshot.resources.pod_requests(fleet.services)[devices] > 0)[0]
    requests = snapshot.resources.pod_requests(fleet.services)[:, [with_device] * len(pending)]
    limit = float(fleet.services[with_device].cpu_limit_millicores)
    return replace(
        pending,
        service=np.full(len(pending), with_device, np.int32),
        requests=np.ascontiguousarray(requests),
        cpu_limit_millicores=np.full(len(pending), limit),
    )


def _full_but_for(
    snapshot: FleetSnapshot, pending: BePending, rng: np.random.Generator, *, few: bool, home: AtHome, mine: int
) -> FleetSnapshot:
    """All nodes full, or full but for some room on one or two; with `few` that is room for a few of those that wait."""
    be_requests = np.floor(np.maximum(0.0, snapshot.allocatable - snapshot.lc_requests))
    nodes = np.arange(len(snapshot.nodes))
    if home.be:
        nodes = np.flatnonzero(snapshot.node_cluster == pending.entry_cluster[mine])
    for n in rng.choice(nodes, min(len(nodes), int(rng.integers(1, 3))), replace=False):
        headroom = pending.requests[:, mine] * (rng.uniform(1.0, 2.5) if few else len(pending) + 1)
        be_requests[:, n] = np.maximum(0.0, be_requests[:, n] - np.ceil(headroom))
    return replace(snapshot, be_requests=be_requests)


_Emphasis = Callable[[PlacementQuestion, int, np.random.Generator], PlacementQuestion]


def _emphasised(reason: StateReason, question: PlacementQuestion, mine: int, rng: np.random.Generator) -> PlacementQuestion:
    if reason in _SHORT_OF:
        return _short_of(_SHORT_OF[reason], question, mine, rng)
    if reason in _OF_REFUSALS:
        return _refused(_OF_REFUSALS[reason], question, mine, rng)
    others: Mapping[StateReason, _Emphasis] = {
        StateReason.CLUSTER_AWAY: _away,
        StateReason.FITS_NO_NODE: _too_large,
        StateReason.NODE_NOT_READY: _not_ready,
        StateReason.NODE_CLOSED: _closed,
        StateReason.NODE_PRESSED: _pressed,
        StateReason.LC_FIRST: _crowded,
    }
    return others[reason](question, mine, rng) if reason in others else question


def _with_headroom(question: PlacementQuestion, mine: int) -> NDArray[np.intp]:
    """Nodes on which the request has room."""
    asked = question.pending.requests[:, mine][:, None]
    return np.flatnonzero(((asked <= 0) | (asked <= question.snapshot.free)).all(axis=0))


def _short_of(resource: int, question: PlacementQuestion, mine: int, rng: np.random.Generator) -> PlacementQuestion:
    """The nodes with room have less of one resource than is asked for, each by another amount."""
    be_requests = question.snapshot.be_requests.copy()
    asked = question.pending.requests[resource, mine]
    for n in _with_headroom(question, mine):
        free = question.snapshot.free[resource, n]
        be_requests[resource, n] += free - np.floor(asked * rng.uniform(0.0, 0.95))
    return replace(question, snapshot=replace(question.snapshot, be_requests=be_requests))


def _too_large(question: PlacementQuestion, mine: int, rng: np.random.Generator) -> PlacementQuestion:
    """More memory than any node has."""
    requests = question.pending.requests.copy()
    requests[MEMORY, mine] = np.ceil(question.snapshot.allocatable[MEMORY].max() * rng.uniform(1.01, 1.6))
    return replace(question, pending=replace(question.pending, requests=requests))


def _away(question: PlacementQuestion, mine: int, rng: np.random.Generator) -> PlacementQuestion:
    rows = _with_headroom(question, mine)
    clusters = np.unique(question.snapshot.node_cluster[rows])
    gone = np.isin(question.snapshot.node_cluster, clusters)
    snapshot = replace(question.snapshot, node_ready=question.snapshot.node_ready & ~gone)
    return replace(question, snapshot=snapshot, away=frozenset(question.snapshot.clusters[c] for c in clusters))


def _not_ready(question: PlacementQuestion, mine: int, rng: np.random.Generator) -> PlacementQuestion:
    ready = question.snapshot.node_ready.copy()
    ready[_with_headroom(question, mine)] = False
    return replace(question, snapshot=replace(question.snapshot, node_ready=ready), told_ready=ready)


def _closed(question: PlacementQuestion, mine: int, rng: np.random.Generator) -> PlacementQuestion:
    """To its service, or to all."""
    barred = np.zeros((len(question.snapshot.services), len(question.snapshot.nodes)), np.bool_)
    services = slice(None) if rng.random() < 0.5 else [int(question.pending.service[mine])]
    barred[services, _with_headroom(question, mine)[:, None]] = True
    return replace(question, snapshot=replace(question.snapshot, barred=barred))


def _refused(kinds: tuple[RefusalKind, ...], question: PlacementQuestion, mine: int, rng: np.random.Generator) -> PlacementQuestion:
    """Of each node with room its cluster, the service there, or the service on it."""
    snapshot, states = question.snapshot, []
    kind = kinds[int(rng.integers(len(kinds)))]
    for key in dict.fromkeys(snapshot.node_key(int(n)) for n in _with_headroom(question, mine)):
        states.append(
            RefusalState(
                cluster=key.cluster,
                service=snapshot.services[int(question.pending.service[mine])].name if kind.is_of_service else "",
                node=key.name if kind is RefusalKind.NODE else "",
                role="scheduler",
                kind=kind,
                words="no",
                times=1,
                since_s=0.0,
                left_s=float(rng.uniform(0.5, 60.0)),
            )
        )
    distinct = {(state.cluster, state.service, state.node): state for state in states}
    return replace(question, pauses=Pauses(tuple(distinct.values())))


def _pressed(question: PlacementQuestion, mine: int, rng: np.random.Generator) -> PlacementQuestion:
    pressed = np.zeros(len(question.snapshot.nodes), np.bool_)
    pressed[_with_headroom(question, mine)] = True
    return replace(question, pressed=pressed)


def _crowded(question: PlacementQuestion, mine: int, rng: np.random.Generator) -> PlacementQuestion:
    clusters = {question.snapshot.node_key(int(n)).cluster for n in _with_headroom(question, mine)}
    waits = {}
    for cluster in sorted(clusters):
        under_way = int(rng.integers(10, 400))
        waits[cluster] = LcWait(under_way=under_way, late=int(rng.integers(under_way // 5 + 3, under_way + 4)))
    return replace(question, waits=waits)


def joined(*parts: BePending) -> BePending:
    """Requests after one another."""
    return BePending(**{f.name: np.concatenate([getattr(part, f.name) for part in parts], axis=-1) for f in fields(BePending)})
