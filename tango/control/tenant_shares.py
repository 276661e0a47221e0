"""Shares of tenants in the placement of BE: whose requests it looks at, in which order, and what gives way for whom.

    pending requests, read of each tenant ─► considered: the order, what a quota holds back ─► the policy
    what is left without a node           ─► ended: who waits below its share, and since when
    whoever has waited for long           ─► withheld: others get nothing more   ─► considered
                                          ─► reclaimed: pods of others give way

The decisions are those of `tango.scheduling.fair_shares`. Where one tenant has all that waits and all that runs, and no quota, nothing of
this is asked and the order is the one that was read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from tango.control.be_evictions import BeEvictions
from tango.control.make_headroom import requests_of
from tango.control.tenant_order import Considered, TenantHoldings, as_read, considered, is_of_one
from tango.domain.identity import NodeKey
from tango.domain.placement_question import PlacementQuestion
from tango.domain.plans import Eviction
from tango.domain.runs import PendingRequests
from tango.domain.snapshot import FleetSnapshot
from tango.domain.tenants import Tenant
from tango.errors import TangoError
from tango.ports.fleet import FleetStore
from tango.ports.tenants import TenantStore
from tango.scheduling.fair_shares import RunningPods, may_take, reclaim, withheld
from tango.settings import TenantSettings

log = structlog.get_logger(__name__)

SHARES_LOOK_S = 1.0
"""Seconds that declarations are used before they are read again, between two looks at whether others hold what one tenant waits for, and
between two times that shares are told."""


MOST_ASKED = 32
"""Requests of one tenant for which room is made at once; a budget allows fewer, but of the smallest."""
GIVEN_ROUNDS = 2
"""Times `reclaim_every_s` for which what a tenant gets is taken to be what was evicted for it: pods have their grace first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """What the last placement left: who waits for what, and what is free."""

    books: TenantHoldings
    done: Considered
    waits: NDArray[np.bool_]
    """(k,) of what was read: it has no node, and neither a quota nor another's claim holds it back."""
    question: PlacementQuestion
    """With what was placed in its snapshot."""


class _Asked(NamedTuple):
    """Requests of tenants that claim: the column of each one's tenant, (r, c) what each asks for, (c, n) where it may be put."""

    claims: list[int]
    size: NDArray[np.float64]
    open_to: NDArray[np.bool_]


@dataclass(slots=True, kw_only=True)
class TenantShares:
    """The shares in the placements of one scheduler, which remembers who waits below its share. A process that takes over begins to count
    anew."""

    tenants: TenantStore
    settings: TenantSettings = field(default_factory=TenantSettings)
    fleet: FleetStore | None = None
    """Where BE pods are found that may give way; None: none does."""
    evictions: BeEvictions | None = None
    home_only: Callable[[int], bool] = lambda _run: False
    """Whether the BE policy of a run looks at a request's entry cluster alone."""
    monotonic: Callable[[], float] = time.monotonic
    _declared: Mapping[str, Tenant] = field(default_factory=dict)
    _declared_until_s: float = -float("inf")
    _others_hold: bool = False
    """Whether tenants of which nothing waits hold something."""
    _is_any_left: bool = False
    """Whether the last placement left any of one tenant's requests without a node."""
    _waiting: set[str] = field(default_factory=set)
    """Tenants, where there are several, of which something waited when the oldest were looked at."""
    _look_again_s: float = -float("inf")
    _below_s: dict[str, float] = field(default_factory=dict)
    """Since when each tenant has waited below its share."""
    _given_s: dict[str, float] = field(default_factory=dict)
    """When pods were evicted last for tenants: what they get by that does not end their wait."""
    _ended: _Ended | None = None
    _reclaim_again_s: float = -float("inf")
    _tell_again_s: float = -float("inf")
    _is_told: bool = True
    """Whether there may be rows of an earlier process or cycle."""

    def considered(self, read: PendingRequests, question: PlacementQuestion, *, limit: int, is_behind: bool = False) -> Considered:
        """What the next placement looks at. `question` has all that it decides on but for the requests; `is_behind`: it looks behind the
        oldest of each tenant."""
        self._ended = None
        declared, missing = self._known(), self._waiting - set(read.tenants) if is_behind else set()
        if is_of_one(read, declared) and not missing and not self._do_others_hold(read):
            return as_read(read, limit=limit)
        books = TenantHoldings.of((*read.tenants, *missing), question.snapshot, declared, self.tenants.in_flight())
        claims = self._claims(self.settings.hold_after_s)
        held = {*self._withheld(read, books, question, claims)} if claims else set()
        if missing:  # nothing of them is behind, but before it there is, and what has become free since is theirs first
            shares = {share.tenant: share.weighted_share for share in books.told({}, ())}
            held |= {name for name in read.tenants if shares[name] >= min(shares[other] for other in missing)}
        return considered(read, books, limit=limit, withheld=sorted(held), waiting_for=sorted({*claims, *missing}))

    def ended(self, done: Considered, question: PlacementQuestion, node: NDArray[np.int32], *, is_behind: bool = False) -> None:
        """The placement is over: `node` (k,) of what was considered. `is_behind`: it looked behind the oldest, which say who waits."""
        now_s = self.monotonic()
        if done.books is None and is_behind:
            return
        if done.books is None:
            self._is_any_left = bool((node < 0).any())
            self._below_s.clear()
            self._waiting.clear()
            self._ended = None
            self._tell(None, {}, (), now_s)
            return
        placed = np.zeros(len(done.read.pending), np.bool_)
        placed[done.rows[node >= 0]] = True
        column = done.books.columns_of(done.read)
        got = {done.books.tenants.names[t] for t in np.unique(column[placed]).tolist()}
        held = done.books.held.copy()
        np.add.at(held.T, column[placed], done.read.pending.requests[:, placed].T)
        books = replace(done.books, held=held)
        got -= {name for name, at_s in self._given_s.items() if now_s - at_s < GIVEN_ROUNDS * self.settings.reclaim_every_s}
        if is_behind:
            for name in got & set(self._below_s):
                self._below_s[name] = now_s
            return
        waits = ~placed & ~done.over_quota & ~done.is_withheld
        self._waiting = {books.tenants.names[t] for t in np.unique(column[waits]).tolist()}
        size = np.zeros_like(held)
        for rows in _first_of_each(column, waits, 1):
            size[:, column[rows[0]]] = done.read.pending.requests[:, rows[0]]
        asks = may_take(size, books.held, books.capacity, books.tenants)
        below = {name for name, is_below in zip(books.tenants.names, asks.tolist(), strict=True) if is_below}
        self._below_s = {name: now_s if name in got else self._below_s.get(name, now_s) for name in below}
        placed_in = replace(question, snapshot=question.snapshot.with_placed(done.batch.pending, node))
        self._ended = _Ended(books=books, done=done, waits=waits, question=placed_in)
        self._tell(books, self._below_s, done.withheld, now_s)
        self._others_hold = len(done.read.tenants) < len(books.tenants)

    @property
    def is_giving(self) -> bool:
        """Whether pods were evicted a moment ago: what they leave is for the first requests of whom they went for."""
        return self.monotonic() < self._reclaim_again_s

    def forget(self) -> None:
        """Another process places now."""
        self._below_s.clear()
        self._waiting.clear()
        self._ended, self._others_hold, self._is_any_left = None, False, False

    def nothing_waits(self) -> None:
        """No request waits."""
        self.forget()
        self._tell(None, {}, (), self.monotonic())

    def reclaimed(self) -> int:
        """Evict pods for tenants that have waited for long below their shares, at most a part of the fleet at a time; gives how many."""
        now_s, ended = self.monotonic(), self._ended
        claims = self._claims(self.settings.reclaim_after_s)
        if not claims or ended is None or self.fleet is None or self.evictions is None or now_s < self._reclaim_again_s:
            return 0
        snapshot, books = ended.question.snapshot, ended.books
        evictable = self.fleet.evictable_be(list(snapshot.node_keys))
        pods, of = self._pods(evictable, books, snapshot)
        asked = self._asked(ended.done.read, books, ended.waits, ended.question, claims, most=MOST_ASKED)
        going = reclaim(
            asked.claims,
            asked.size,
            books.held,
            books.capacity,
            books.tenants,
            free=snapshot.free,
            open_to=asked.open_to,
            pods=pods,
            budget=self.settings.reclaim_share,
        )
        if not len(going):
            return 0
        self._reclaim_again_s = now_s + self.settings.reclaim_every_s
        self._given_s = {name: now_s for name in claims}
        why = f"room for the share of {', '.join(claims)}"
        wanted = [replace(of[k], why=why) for k in going.tolist()]
        gone = self.evictions.evict(wanted, evictable)
        log.info("share_reclaimed", tenants=list(claims), evictions=len(wanted), gone=len(gone))
        return len(wanted)

    # ---- what is known -------------------------------------------------------------------------------------------------

    def _known(self) -> Mapping[str, Tenant]:
        if self.monotonic() >= self._declared_until_s:
            self._declared, self._declared_until_s = self.tenants.declared(), self.monotonic() + SHARES_LOOK_S
        return self._declared

    def _do_others_hold(self, read: PendingRequests) -> bool:
        """Others matter to one tenant only while it waits for what they hold."""
        if self._is_any_left and self.monotonic() >= self._look_again_s:
            self._look_again_s = self.monotonic() + SHARES_LOOK_S
            self._others_hold = any(use.tenant not in read.tenants for use in self.tenants.in_flight())
        return self._others_hold

    def _claims(self, after_s: float) -> tuple[str, ...]:
        """Who has waited below its share for so long."""
        return tuple(sorted(name for name, since_s in self._below_s.items() if self.monotonic() - since_s >= after_s))

    def _withheld(
        self, read: PendingRequests, books: TenantHoldings, question: PlacementQuestion, claims: Sequence[str]
    ) -> tuple[str, ...]:
        if self.fleet is None:
            return ()
        waits = ~considered(read, books, limit=len(read.pending)).over_quota
        asked = self._asked(read, books, waits, question, claims, most=1)
        if not asked.claims:
            return ()
        pods, _ = self._pods(self.fleet.evictable_be(list(question.snapshot.node_keys)), books, question.snapshot)
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

    def _pods(
        self, evictable: Mapping[NodeKey, Sequence[Eviction]], books: TenantHoldings, snapshot: FleetSnapshot
    ) -> tuple[RunningPods, list[Eviction]]:
        """The pods that may go, least work lost first; those that are leaving already are no pods any more."""
        staying = self.evictions.staying(evictable) if self.evictions is not None else evictable
        row, size = {key: n for n, key in enumerate(snapshot.node_keys)}, requests_of(snapshot)
        of = sorted((e for stay in staying.values() for e in stay if e.tenant in books.tenants.names), key=lambda e: e.work_lost_s)
        leaving = np.zeros((len(snapshot.resources), len(snapshot.nodes)))
        for key, there in evictable.items():
            stay = {e.pod_key for e in staying.get(key, ())}
            for eviction in there:
                if eviction.pod_key not in stay:
                    leaving[:, row[key]] += size(eviction)
        requests = [size(e) for e in of]
        return (
            RunningPods(
                node=np.array([row[NodeKey(e.cluster, e.node)] for e in of], np.int32),
                tenant=np.array([books.tenants.names.index(e.tenant) for e in of], np.int32),
                requests=np.array(requests, np.float64).reshape(len(of), len(snapshot.resources)).T.copy(),
                leaving=leaving,
            ),
            of,
        )

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
        p, snapshot, barred = read.pending, question.snapshot, question.barred
        column = books.columns_of(read)
        of_claims = np.array([name in claims for name in books.tenants.names], np.bool_)[column]
        rows = np.array([k for of_one in _first_of_each(column, waits & of_claims, most) for k in of_one], np.intp)
        crowded = np.array([name in question.crowded for name in snapshot.clusters], np.bool_)[snapshot.node_cluster]
        open_to = snapshot.node_ready & ~barred[p.service[rows]]
        open_to &= ~(crowded & (p.waited_s[rows] < question.lc_first_s)[:, None])
        at_home = np.array([self.home_only(run) for run in p.run_id[rows].tolist()], np.bool_)
        open_to &= ~at_home[:, None] | (snapshot.node_cluster == p.entry_cluster[rows][:, None])
        return _Asked(claims=column[rows].tolist(), size=p.requests[:, rows], open_to=open_to)

    def _tell(self, books: TenantHoldings | None, below_s: Mapping[str, float], withheld: Sequence[str], now_s: float) -> None:
        """Let people see the shares, once a second; and once that there are none. A store that fails here is logged and fails no placement,
        whose pods are still to be made."""
        if now_s < self._tell_again_s or (books is None and not self._is_told):
            return
        shares = [] if books is None else books.told({name: now_s - since_s for name, since_s in below_s.items()}, withheld)
        self._tell_again_s, self._is_told = now_s + SHARES_LOOK_S, True
        try:
            self.tenants.tell(shares)
            self._is_told = bool(shares)
        except TangoError as error:
            log.warning("shares_not_told", reason=str(error))


def _first_of_each(column: NDArray[np.int32], of: NDArray[np.bool_], most: int) -> list[list[int]]:
    """Of each tenant that has any, the first `most` rows among those marked, in order."""
    found: dict[int, list[int]] = {}
    for k in np.flatnonzero(of).tolist():
        rows = found.setdefault(int(column[k]), [])
        if len(rows) < most:
            rows.append(k)
    return list(found.values())
