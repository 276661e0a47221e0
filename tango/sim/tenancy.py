"""Tenants in the simulator: whose requests a placement looks at, in which order, and which pods give way for whom.

    engine's arrays ─► what waits, what runs ─► tango.scheduling.share_claims ─► order of `Lists.pending`, events `GIVE_WAY`

Between compiled steps, at the ticks of BE, and only where several tenants have BE requests or tenants are declared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tango.domain.lifecycle import IN_FLIGHT
from tango.domain.outcomes import STATE_CODE
from tango.domain.placement_question import PlacementQuestion
from tango.domain.requests import BePending
from tango.domain.runs import NewRequests, PendingRequests
from tango.domain.services import ServiceClass
from tango.domain.tenant_columns import TenantColumns
from tango.domain.tenant_shares import TenantSeries
from tango.domain.tenants import Tenant
from tango.scheduling.fair_shares import RunningPods, capacity_of, dominant_share, fair_shares
from tango.scheduling.share_claims import ShareClaims
from tango.scheduling.tenant_turns import Considered, TenantHoldings
from tango.settings.tenants import TenantSettings
from tango.sim import node_time
from tango.sim.simulation_state import SimulationState
from tango.sim.views import Views

DIGITS = 6
"""Decimals of CPU-seconds by which pods are told apart that have done as much: requests settle ties, and not what rounding left."""
_IN_FLIGHT = np.isin(np.arange(len(STATE_CODE)), [STATE_CODE[state] for state in IN_FLIGHT])
"""By code, whether a request in this state holds its resources on a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """What a placement looks at."""

    done: Considered
    rows: NDArray[np.int64]
    """Requests that were read."""
    wanted: NDArray[np.float64]
    """(r, t) what each tenant would hold if all that waits had a node."""


@dataclass(slots=True)
class _Instants:
    """Rows of a `TenantSeries` as they are taken."""

    at_s: list[float] = field(default_factory=list)
    share: list[NDArray[np.float64]] = field(default_factory=list)
    fair_share: list[NDArray[np.float64]] = field(default_factory=list)
    marks: list[NDArray[np.bool_]] = field(default_factory=list)
    """(3, t) below its share, withheld, over its quota."""


def known_tenants(requests: NewRequests, declared: Mapping[str, Tenant]) -> tuple[str, ...]:
    """The tenants of a run's BE requests by name; none where one has them all and nothing is declared, so that no order could change."""
    if requests.tenant is None:
        names = set(requests.tenants[:1]) if (requests.service_class == ServiceClass.BE).any() else set()
    else:
        names = {requests.tenants[k] for k in np.unique(requests.tenant[requests.service_class == ServiceClass.BE]).tolist()}
    return tuple(sorted(names)) if len(names) > 1 or declared else ()


class Tenancy:
    """The tenants of one simulation."""

    def __init__(
        self,
        world: SimulationState,
        views: Views,
        requests: NewRequests,
        names: tuple[str, ...],
        declared: Mapping[str, Tenant],
        settings: TenantSettings,
        *,
        is_home_only: bool,
        most_read: int,
        grace_s: float,
    ) -> None:
        """`names` as `known_tenants` gave them. `is_home_only`: the BE policy looks at a request's entry cluster alone. `most_read`: a
        placement reads as many requests of each tenant, and looks at as many of all. `grace_s`: from the decision that a pod gives way
        until it is gone."""
        self._world, self._views, self._most_read, self._grace_s = world, views, most_read, grace_s
        self._tenants = TenantColumns.of(names, declared, world.resources)
        column = np.array([names.index(name) if name in names else -1 for name in requests.tenants], np.int32)
        self._tenant = column[np.zeros(len(requests), np.int32) if requests.tenant is None else requests.tenant]
        self._claims = ShareClaims(settings=settings, home_only=lambda _run: is_home_only)
        self._may_go = np.array([not service.never_evict for service in world.fleet.services], np.bool_)
        self._in_flight = np.zeros(0, np.int64)
        """Requests that had a node after the last placement."""
        self._leaving: dict[int, int] = {}
        """Requests whose pods have been asked to go, with their attempts."""
        self._looked: _Looked | None = None
        self._instants = _Instants()
        self._gave_way = np.zeros(len(names), np.int64)

    def nothing_waits(self) -> None:
        """No request waits."""
        self._claims.forget()

    def looked_at(self, question: PlacementQuestion) -> NDArray[np.int64]:
        """The requests that the next placement looks at, in order, which are the first of `Lists.pending` from here on.

        `question` has all that it decides on but for the requests; `Lists.pending` is in order of due time.
        """
        e, now_s = self._world.engine, self._world.now_s
        waiting = e.lists.pending[: int(e.clock["pending"][0])]
        self._in_flight = self._in_flight[_IN_FLIGHT[e.progress["state"][self._in_flight]]]
        books = TenantHoldings(
            tenants=self._tenants,
            held=self._sums(self._in_flight),
            capacity=capacity_of(question.snapshot.allocatable - question.snapshot.lc_requests, question.snapshot.node_ready),
            resources=self._world.resources.names,
        )
        places = _first_of_each(self._tenant[waiting], self._most_read)
        rows = waiting[places].copy()
        read = self._read(rows)
        self._claims.begin()
        pods = self._pods()[0] if self._claims.held_for(now_s) else None
        done = self._claims.looked_at(read, books, question, limit=self._most_read, now_s=now_s, pods=pods)
        wanted = books.held + self._sums(waiting)
        self._looked = _Looked(done=done, rows=rows, wanted=wanted)
        chosen = rows[done.rows]
        left = np.ones(len(waiting), np.bool_)
        left[places[done.rows]] = False
        waiting[:] = np.concatenate((chosen, waiting[left]))
        return chosen

    def ended(self, question: PlacementQuestion, node: NDArray[np.int32]) -> list[tuple[float, int, int]]:
        """The placement is over, `node` (k,) being those of what it looked at. Gives who gives way: (when, request, attempt)."""
        now_s, looked = self._world.now_s, self._looked
        assert looked is not None, "a placement ends that has not begun"
        done = looked.done
        books = self._claims.ended(done, question, node, now_s=now_s)
        assert books is not None, "what was looked at has the books of tenants"
        self._in_flight = np.concatenate((self._in_flight, looked.rows[done.rows[node >= 0]]))
        self._take(looked, books, now_s)
        due = self._claims.due(now_s)
        if due is None:
            return []
        pods, of = self._pods()
        going = of[self._claims.reclaim(due, pods, now_s=now_s)].tolist()
        attempts = self._world.engine.progress["attempts"]
        self._leaving |= {request: int(attempts[request]) for request in going}
        np.add.at(self._gave_way, self._tenant[going], 1)
        return [(now_s + self._grace_s, request, self._leaving[request]) for request in going]

    def over_quota(self) -> dict[str, NDArray[np.int64]]:
        """By tenant, the requests that a quota held back when a placement looked at them last."""
        if self._looked is None:
            return {}
        rows = self._looked.rows[self._looked.done.over_quota]
        return {self._tenants.names[t]: rows[self._tenant[rows] == t] for t in np.unique(self._tenant[rows]).tolist()}

    def series(self) -> TenantSeries:
        """What each held over time."""
        shape, kept = (len(self._instants.at_s), len(self._tenants)), self._instants
        marks = np.array(kept.marks, np.bool_).reshape(shape[0], 3, shape[1])
        return TenantSeries(
            tenants=self._tenants,
            tenant=self._tenant,
            at_s=np.array(kept.at_s, np.float64),
            share=np.array(kept.share, np.float64).reshape(shape),
            fair_share=np.array(kept.fair_share, np.float64).reshape(shape),
            is_below=marks[:, 0],
            is_withheld=marks[:, 1],
            is_over_quota=marks[:, 2],
            gave_way=self._gave_way.copy(),
        )

    def _take(self, looked: _Looked, books: TenantHoldings, now_s: float) -> None:
        if np.count_nonzero(looked.wanted.any(axis=0)) < min(2, len(self._tenants)):
            return
        names, below = self._tenants.names, self._claims.below_s(now_s)
        over = np.zeros(len(names), np.bool_)
        over[self._tenant[looked.rows[looked.done.over_quota]]] = True
        marks = [[name in below for name in names], [name in looked.done.withheld for name in names], over.tolist()]
        self._instants.at_s.append(now_s)
        self._instants.share.append(dominant_share(books.held, books.capacity))
        self._instants.fair_share.append(fair_shares(looked.wanted, books.capacity, self._tenants))
        self._instants.marks.append(np.array(marks, np.bool_))

    def _read(self, rows: NDArray[np.int64]) -> PendingRequests:
        pending: BePending = self._views.pending(rows)
        fleet = self._world.fleet
        return PendingRequests(
            pending=pending,
            services=tuple(s.name for s in fleet.services),
            clusters=tuple(c.name for c in fleet.clusters),
            tenants=self._tenants.names,
            tenant=self._tenant[rows],
            due_s=self._world.engine.arrivals.due_s[rows],
        )

    def _sums(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(r, t) what the pods of these requests ask for, by tenant."""
        asked, of, count = self._views.asked(rows), self._tenant[rows], len(self._tenants)
        return np.array([np.bincount(of, weights=row, minlength=count) for row in asked], np.float64)

    def _pods(self) -> tuple[RunningPods, NDArray[np.int64]]:
        """The pods that run and may give way, least work done first, and their requests."""
        e = self._world.engine
        node_time.catch_up(e.states, self._world.now_s)
        in_use = np.arange(e.states.pods.shape[1]) < e.states.nodes["pods"][:, None]
        node, place = np.nonzero(in_use)
        pods = e.states.pods[node, place]
        requests, done_s = pods["key"].astype(np.int64), np.round(pods["work_s"] - pods["remaining_s"], DIGITS)
        attempts = e.progress["attempts"][requests]
        is_there = {request: int(attempt) for request, attempt in zip(requests.tolist(), attempts.tolist(), strict=True)}
        self._leaving = {request: attempt for request, attempt in self._leaving.items() if is_there.get(request) == attempt}
        leaves = np.isin(requests, list(self._leaving))
        asked = self._views.asked(requests)
        leaving = [np.bincount(node[leaves], weights=row[leaves], minlength=len(e.sites)) for row in asked]
        stays = np.flatnonzero(~leaves & self._may_go[e.arrivals.service[requests]])
        stays = stays[np.lexsort((requests[stays], done_s[stays]))]
        running = RunningPods(
            node=node[stays].astype(np.int32),
            tenant=self._tenant[requests[stays]],
            requests=np.ascontiguousarray(asked[:, stays]),
            leaving=np.array(leaving, np.float64),
        )
        return running, requests[stays]


def _first_of_each(tenant: NDArray[np.int32], most: int) -> NDArray[np.intp]:
    """Places of the first `most` of each tenant: the first of every tenant, then the second of every one, and so on, as the store reads."""
    by_tenant = np.argsort(tenant, kind="stable")
    begins = np.flatnonzero(np.diff(tenant[by_tenant], prepend=-1))
    of_tenant = np.arange(len(tenant)) - np.repeat(begins, np.diff(np.append(begins, len(tenant))))
    kept = of_tenant < most
    found: NDArray[np.intp] = by_tenant[kept][np.lexsort((by_tenant[kept], of_tenant[kept]))]
    return found
