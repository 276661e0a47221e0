"""Who waits below its share, over the placements of one scheduler: since when, and what is done for it. For both worlds.

    what was read, what tenants hold ─► looked_at: the order, what a quota holds back, who gets nothing more
    what is left without a node      ─► ended: who waits below its share, and since when
    whoever has waited for long      ─► due, reclaim: pods of others give way

The decisions are those of `fair_shares`; what is here remembers, between placements, whom they are for. Time is passed in: seconds on any
clock that goes on. Requests, holdings and pods are brought by the world: `tango.control.tenant_shares` live, `tango.sim.tenancy` simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.domain.placement_question import PlacementQuestion
from tango.domain.runs import PendingRequests
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.fair_shares import RunningPods, may_take, reclaim, withheld
from tango.scheduling.tenant_turns import Considered, TenantHoldings, considered
from tango.settings.tenants import TenantSettings

MOST_ASKED = 32
"""Requests of one tenant for which room is made at once; a budget allows fewer, but of the smallest."""
GIVEN_ROUNDS = 2
"""Times `reclaim_every_s` for which what a tenant gets is taken to be what was evicted for it: pods have their grace first."""


class _Asked(NamedTuple):
    """Requests of tenants that claim: the column of each one's tenant, (r, c) what each asks for, (c, n) where it may be put."""

    claims: list[int]
    size: NDArray[np.float64]
    open_to: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class DueClaims:
    """Tenants for which pods may be asked to go now, and what the last placement left."""

    tenants: tuple[str, ...]
    books: TenantHoldings
    done: Considered
    waits: NDArray[np.bool_]
    """(k,) of what was read: it has no node, and neither a quota nor another's claim holds it back."""
    question: PlacementQuestion
    """With what was placed in its snapshot."""

    @property
    def snapshot(self) -> FleetSnapshot:
        """The fleet after the placement."""
        return self.question.snapshot


@dataclass(slots=True, kw_only=True)
class ShareClaims:
    """The claims of tenants in the placements of one scheduler. Who takes over from another begins to count anew."""

    settings: TenantSettings = field(default_factory=TenantSettings)
    home_only: Callable[[int], bool] = lambda _run: False
    """Whether the BE policy of a run looks at a request's entry cluster alone."""
    _waiting: set[str] = field(default_factory=set)
    """Tenants, where there are several, of which something waited when the oldest were looked at."""
    _below_s: dict[str, float] = field(default_factory=dict)
    """Since when each tenant has waited below its share."""
    _given_s: dict[str, float] = field(default_factory=dict)
    """When pods were evicted last for tenants: what they get by that does not end their wait."""
    _ended: DueClaims | None = None
    _reclaim_again_s: float = -float("inf")

    def forget(self) -> None:
        """Nothing waits, or another process places now."""
        self._below_s.clear()
        self._waiting.clear()
        self._ended = None

    def begin(self) -> None:
        """A placement begins: what the last one left is over."""
        self._ended = None

    def missing(self, read: PendingRequests) -> set[str]:
        """Tenants of which something waits before what was read, which is behind the oldest."""
        return self._waiting - set(read.tenants)

    def held_for(self, now_s: float) -> tuple[str, ...]:
        """For whom tenants with larger shares get nothing more, if what ends could make room."""
        return self._waited(self.settings.hold_after_s, now_s)

    def below_s(self, now_s: float) -> dict[str, float]:
        """For how many seconds each tenant has waited below its share."""
        return {name: now_s - since_s for name, since_s in self._below_s.items()}

    def is_giving(self, now_s: float) -> bool:
        """Whether pods were evicted a moment ago: what they leave is for the first requests of whom they went for."""
        return now_s < self._reclaim_again_s

    def looked_at(
        self,
        read: PendingRequests,
        books: TenantHoldings,
        question: PlacementQuestion,
        *,
        limit: int,
        now_s: float,
        pods: RunningPods | None,
        missing: Collection[str] = (),
    ) -> Considered:
        """What a placement looks at: the first `limit` in the order of shares, without tenants that get nothing now.

        `pods`: those that may go, least work lost first, where `held_for` names anybody; None: none does. `missing` as the method of that
        name gave them.
        """
        claims = self.held_for(now_s)
        held = set(self._withheld(read, books, question, claims, pods)) if claims and pods is not None else set[str]()
        if missing:  # nothing of them is behind, but before it there is, and what has become free since is theirs first
            shares = {share.tenant: share.weighted_share for share in books.told({}, ())}
            held |= {name for name in read.tenants if shares[name] >= min(shares[other] for other in missing)}
        return considered(read, books, limit=limit, withheld=sorted(held), waiting_for=sorted({*claims, *missing}))

    def ended(
        self, done: Considered, question: PlacementQuestion, node: NDArray[np.int32], *, now_s: float, is_behind: bool = False
    ) -> TenantHoldings | None:
        """The placement is over: `node` (k,) of what was considered. `is_behind`: it looked behind the oldest, which say who waits.

        Gives what tenants hold now; None where one alone has all that there is.
        """
        if done.books is None:
            if not is_behind:
                self.forget()
            return None
        placed = np.zeros(len(done.read.pending), np.bool_)
        placed[done.rows[node >= 0]] = True
        column = done.books.columns_of(done.read)
        books, names = done.books.with_placed(done.read, placed), done.books.tenants.names
        got = {names[t] for t in np.unique(column[placed]).tolist()}
        got -= {name for name, at_s in self._given_s.items() if now_s - at_s < GIVEN_ROUNDS * self.settings.reclaim_every_s}
        if is_behind:
            for name in got & set(self._below_s):
                self._below_s[name] = now_s
            return books
        waits = ~placed & ~done.over_quota & ~done.is_withheld
        self._waiting = {names[t] for t in np.unique(column[waits]).tolist()}
        size = np.zeros_like(books.held)
        for rows in _first_of_each(column, waits, 1):
            size[:, column[rows[0]]] = done.read.pending.requests[:, rows[0]]
        asks = may_take(size, books.held, books.capacity, books.tenants)
        below = {name for name, is_below in zip(names, asks.tolist(), strict=True) if is_below}
        self._below_s = {name: now_s if name in got else self._below_s.get(name, now_s) for name in below}
        placed_in = replace(question, snapshot=question.snapshot.with_placed(done.batch.pending, node))
        self._ended = DueClaims(tenants=(), books=books, done=done, waits=waits, question=placed_in)
        return books

    def due(self, now_s: float) -> DueClaims | None:
        """For whom pods of others may be asked to go after the last placement; None: for nobody, or it is too early again."""
        claims = self._waited(self.settings.reclaim_after_s, now_s)
        if not claims or self._ended is None or now_s < self._reclaim_again_s:
            return None
        return replace(self._ended, tenants=claims)

    def reclaim(self, due: DueClaims, pods: RunningPods, *, now_s: float) -> NDArray[np.intp]:
        """Which pods go (rows of `pods`), at most a part of the fleet at a time. Whoever they go for is noted."""
        asked = self._asked(due.done.read, due.books, due.waits, due.question, due.tenants, most=MOST_ASKED)
        going = reclaim(
            asked.claims,
            asked.size,
            due.books.held,
            due.books.capacity,
            due.books.tenants,
            free=due.snapshot.free,
            open_to=asked.open_to,
            pods=pods,
            budget=self.settings.reclaim_share,
        )
        if len(going):
            self._reclaim_again_s = now_s + self.settings.reclaim_every_s
            self._given_s = {name: now_s for name in due.tenants}
        return going

    def _waited(self, after_s: float, now_s: float) -> tuple[str, ...]:
        return tuple(sorted(name for name, since_s in self._below_s.items() if now_s - since_s >= after_s))

    def _withheld(
        self,
        read: PendingRequests,
        books: TenantHoldings,
        question: PlacementQuestion,
        claims: Sequence[str],
        pods: RunningPods,
    ) -> tuple[str, ...]:
        waits = ~considered(read, books, limit=len(read.pending)).over_quota
        asked = self._asked(read, books, waits, question, claims, most=1)
        if not asked.claims:
            return ()
        found = withheld(
            asked.claims,
            asked.size,
            books.held,
            books.capacity,
            books.tenants,
            free=question.snapshot.free,
            open_to=asked.open_to,
            pods=pods,
        )
        return tuple(name for name, is_held in zip(books.tenants.names, found.tolist(), strict=True) if is_held)

    def _asked(
        self,
        read: PendingRequests,
        books: TenantHoldings,
        waits: NDArray[np.bool_],
        question: PlacementQuestion,
        claims: Sequence[str],
        *,
        most: int,
    ) -> _Asked:
        """The first requests that wait of each tenant that claims, at most so many of each, and where they may be put."""
        p, snapshot, barred, crowded_ones = read.pending, question.snapshot, question.barred, question.crowded
        column = books.columns_of(read)
        of_claims = np.array([name in claims for name in books.tenants.names], np.bool_)[column]
        rows = np.array([k for of_one in _first_of_each(column, waits & of_claims, most) for k in of_one], np.intp)
        crowded = np.array([name in crowded_ones for name in snapshot.clusters], np.bool_)[snapshot.node_cluster]
        open_to = snapshot.node_ready & ~barred[p.service[rows]]
        open_to &= ~(crowded & (p.waited_s[rows] < question.lc_first_s)[:, None])
        at_home = np.array([self.home_only(run) for run in p.run_id[rows].tolist()], np.bool_)
        open_to &= ~at_home[:, None] | (snapshot.node_cluster == p.entry_cluster[rows][:, None])
        return _Asked(claims=column[rows].tolist(), size=p.requests[:, rows], open_to=open_to)


def _first_of_each(column: NDArray[np.int32], of: NDArray[np.bool_], most: int) -> list[list[int]]:
    """Of each tenant that has any, the first `most` rows among those marked, in order."""
    rows = np.flatnonzero(of)
    by_tenant = rows[np.argsort(column[rows], kind="stable")]
    begins = np.flatnonzero(np.diff(column[by_tenant], prepend=-1))
    return [part[:most].tolist() for part in np.split(by_tenant, begins[1:])] if len(rows) else []
