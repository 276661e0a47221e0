"""Shares of tenants in the live placement of BE: whose requests it looks at, in which order, and what gives way for whom.

    pending requests, read of each tenant ─► considered: the order, what a quota holds back ─► the policy
    what is left without a node           ─► ended: who waits below its share, and since when
    whoever has waited for long           ─► withheld: others get nothing more   ─► considered
                                          ─► reclaimed: pods of others give way

The decisions are those of `tango.scheduling.share_claims`, by what the stores say. Where one tenant has all that waits and all that runs,
and no quota, nothing of this is asked and the order is the one that was read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import structlog
from numpy.typing import NDArray

from tango.control.be_evictions import BeEvictions
from tango.control.make_headroom import requests_of
from tango.domain.identity import NodeKey
from tango.domain.placement_question import PlacementQuestion
from tango.domain.plans import Eviction
from tango.domain.runs import PendingRequests
from tango.domain.snapshot import FleetSnapshot
from tango.domain.tenants import Tenant
from tango.errors import TangoError
from tango.ports.fleet import FleetStore
from tango.ports.tenants import TenantStore
from tango.scheduling.fair_shares import RunningPods
from tango.scheduling.share_claims import ShareClaims
from tango.scheduling.tenant_turns import Considered, TenantHoldings, as_read, is_of_one
from tango.settings import TenantSettings

log = structlog.get_logger(__name__)

SHARES_LOOK_S = 1.0
"""Seconds that declarations are used before they are read again, between two looks at whether others hold what one tenant waits for, and
between two times that shares are told."""


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
    _claims: ShareClaims = field(init=False)
    _declared: Mapping[str, Tenant] = field(default_factory=dict)
    _declared_until_s: float = -float("inf")
    _others_hold: bool = False
    """Whether tenants of which nothing waits hold something."""
    _is_any_left: bool = False
    """Whether the last placement left any of one tenant's requests without a node."""
    _look_again_s: float = -float("inf")
    _tell_again_s: float = -float("inf")
    _is_told: bool = True
    """Whether there may be rows of an earlier process or cycle."""

    def __post_init__(self) -> None:
        self._claims = ShareClaims(settings=self.settings, home_only=self.home_only)

    def considered(self, read: PendingRequests, question: PlacementQuestion, *, limit: int, is_behind: bool = False) -> Considered:
        """What the next placement looks at. `question` has all that it decides on but for the requests; `is_behind`: it looks behind the
        oldest of each tenant."""
        self._claims.begin()
        declared, missing = self._known(), self._claims.missing(read) if is_behind else set()
        if is_of_one(read, declared) and not missing and not self._do_others_hold(read):
            return as_read(read, limit=limit)
        books = TenantHoldings.of((*read.tenants, *missing), question.snapshot, declared, self.tenants.in_flight())
        now_s, pods = self.monotonic(), None
        if self.fleet is not None and self._claims.held_for(now_s):
            evictable = self.fleet.evictable_be(list(question.snapshot.node_keys))
            pods, _ = self._pods(evictable, books, question.snapshot)
        return self._claims.looked_at(read, books, question, limit=limit, now_s=now_s, pods=pods, missing=missing)

    def ended(self, done: Considered, question: PlacementQuestion, node: NDArray[np.int32], *, is_behind: bool = False) -> None:
        """The placement is over: `node` (k,) of what was considered. `is_behind`: it looked behind the oldest, which say who waits."""
        now_s = self.monotonic()
        books = self._claims.ended(done, question, node, now_s=now_s, is_behind=is_behind)
        if is_behind:
            return
        if books is None:
            self._is_any_left = bool((node < 0).any())
            self._tell(None, (), now_s)
            return
        self._tell(books, done.withheld, now_s)
        self._others_hold = len(done.read.tenants) < len(books.tenants)

    @property
    def is_giving(self) -> bool:
        """Whether pods were evicted a moment ago: what they leave is for the first requests of whom they went for."""
        return self._claims.is_giving(self.monotonic())

    def forget(self) -> None:
        """Another process places now."""
        self._claims.forget()
        self._others_hold, self._is_any_left = False, False

    def nothing_waits(self) -> None:
        """No request waits."""
        self.forget()
        self._tell(None, (), self.monotonic())

    def reclaimed(self) -> int:
        """Evict pods for tenants that have waited for long below their shares, at most a part of the fleet at a time; gives how many."""
        now_s = self.monotonic()
        if self.fleet is None or self.evictions is None or (due := self._claims.due(now_s)) is None:
            return 0
        evictable = self.fleet.evictable_be(list(due.snapshot.node_keys))
        pods, of = self._pods(evictable, due.books, due.snapshot)
        going = self._claims.reclaim(due, pods, now_s=now_s)
        if not len(going):
            return 0
        why = f"room for the share of {', '.join(due.tenants)}"
        wanted = [replace(of[k], why=why) for k in going.tolist()]
        gone = self.evictions.evict(wanted, evictable)
        log.info("share_reclaimed", tenants=list(due.tenants), evictions=len(wanted), gone=len(gone))
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

    def _tell(self, books: TenantHoldings | None, withheld: Sequence[str], now_s: float) -> None:
        """Let people see the shares, once a second; and once that there are none. A store that fails here is logged and fails no placement,
        whose pods are still to be made."""
        if now_s < self._tell_again_s or (books is None and not self._is_told):
            return
        shares = [] if books is None else books.told(self._claims.below_s(now_s), withheld)
        self._tell_again_s, self._is_told = now_s + SHARES_LOOK_S, True
        try:
            self.tenants.tell(shares)
            self._is_told = bool(shares)
        except TangoError as error:
            log.warning("shares_not_told", reason=str(error))
