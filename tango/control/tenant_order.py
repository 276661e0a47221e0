"""Which of the requests that wait a placement of BE looks at, and in which order, where there are several tenants: for placements, and for
explanations of what they leave.

The order is that of `tango.scheduling.fair_shares.turns`; what tenants hold and what is declared of them is brought here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tango.domain.changes import Change, ChangeKind
from tango.domain.explanation import HeldBack
from tango.domain.identity import RequestKey
from tango.domain.reasons import StateReason
from tango.domain.resource_axis import MAY_RUN, MEMORY, lacks, quantity
from tango.domain.runs import PendingRequests
from tango.domain.snapshot import FleetSnapshot
from tango.domain.tenant_columns import TenantColumns
from tango.domain.tenants import Tenant, TenantShare, TenantUse
from tango.ports.tenants import TenantStore
from tango.scheduling.fair_shares import capacity_of, dominant_share, turns


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantHoldings:
    """What t tenants hold, and what there is for all of them, over the r resources of a snapshot."""

    tenants: TenantColumns
    held: NDArray[np.float64]
    """(r, t)"""
    capacity: NDArray[np.float64]
    """(r,)"""
    resources: tuple[str, ...]

    @classmethod
    def of(
        cls, names: Sequence[str], snapshot: FleetSnapshot, declared: Mapping[str, Tenant], in_flight: Sequence[TenantUse]
    ) -> TenantHoldings:
        """Of the tenants named and all that hold something, by name."""
        every = sorted({*names, *(use.tenant for use in in_flight)})
        column, row = {name: k for k, name in enumerate(every)}, {s.name: k for k, s in enumerate(snapshot.services)}
        sizes = snapshot.resources.pod_requests(snapshot.services)
        held = np.zeros((len(snapshot.resources), len(every)))
        for use in in_flight:
            if use.service in row:
                size = sizes[:, row[use.service]] * use.pods
                size[MEMORY] = use.memory_mib
                held[:, column[use.tenant]] += size
        capacity = capacity_of(snapshot.allocatable - snapshot.lc_requests, snapshot.node_ready)
        return cls(
            tenants=TenantColumns.of(every, declared, snapshot.resources),
            held=held,
            capacity=capacity,
            resources=snapshot.resources.names,
        )

    def columns_of(self, batch: PendingRequests) -> NDArray[np.int32]:
        """(k,) the column of each request's tenant."""
        column = np.array([self.tenants.names.index(name) for name in batch.tenants], np.int32)
        found: NDArray[np.int32] = column[batch.tenant] if len(column) else np.zeros(0, np.int32)
        return found

    def told(self, below_s: Mapping[str, float], withheld: Sequence[str]) -> list[TenantShare]:
        """For people: `below_s`, for how long tenants have waited below their shares; `withheld`, who gets nothing now."""
        shares = dominant_share(self.held, self.capacity)
        return [
            TenantShare(
                tenant=name,
                share=share,
                weighted_share=share / weight,
                held={
                    resource: amount
                    for resource, amount in zip(self.resources, held.tolist(), strict=True)
                    if amount > 0 and not resource.startswith(MAY_RUN)
                },
                below_s=below_s.get(name),
                withheld=name in withheld,
            )
            for name, share, weight, held in zip(
                self.tenants.names, shares.tolist(), self.tenants.weight.tolist(), self.held.T, strict=True
            )
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """What a placement looks at of what was read."""

    read: PendingRequests
    """All of it, as the snapshot's services and clusters have it."""
    batch: PendingRequests
    """Those that may be placed, the first first."""
    rows: NDArray[np.intp]
    """Where each of these stands in what was read."""
    is_full: bool
    """Whether more may wait behind what was looked at."""
    over_quota: NDArray[np.bool_]
    """(k,) of what was read: held back by a quota of its tenant."""
    is_withheld: NDArray[np.bool_]
    """(k,) of what was read: its tenant gets nothing now."""
    books: TenantHoldings | None = None
    """None: one tenant without a quota has all that there is."""
    withheld: tuple[str, ...] = ()
    """Tenants that get nothing now."""
    waiting_for: tuple[str, ...] = ()
    """For whom they wait."""

    @property
    def held_back(self) -> Counter[StateReason]:
        """How many requests are not looked at, by why."""
        found = Counter[StateReason]()
        for reason, of in ((StateReason.OVER_QUOTA, self.over_quota), (StateReason.BEHIND_SHARE, self.is_withheld)):
            if count := int(np.count_nonzero(of)):
                found[reason] = count
        return found

    @property
    def remark(self) -> str:
        """For the decision row; empty: all is looked at."""
        over = sorted({self.read.tenants[k] for k in self.read.tenant[self.over_quota].tolist()}) if self.over_quota.any() else []
        told = [f"over their quota: {', '.join(over)}"] if over else []
        if self.withheld:
            told.append(f"{', '.join(self.withheld)} wait until {', '.join(self.waiting_for)} has a share")
        return "; ".join(told)


def as_read(read: PendingRequests, *, limit: int) -> Considered:
    """All of it, in its order: those of one tenant without a quota."""
    count = len(read.pending)
    nobody = np.zeros(count, np.bool_)
    return Considered(read=read, batch=read, rows=np.arange(count), is_full=count >= limit, over_quota=nobody, is_withheld=nobody)


def considered(
    read: PendingRequests, books: TenantHoldings, *, limit: int, withheld: Sequence[str] = (), waiting_for: Sequence[str] = ()
) -> Considered:
    """The first `limit` requests in the order of shares, without those that a quota holds back or whose tenants get nothing now."""
    column = books.columns_of(read)
    order = turns(read.pending.requests, column, books.held, books.capacity, books.tenants)
    is_withheld = np.array([name in withheld for name in books.tenants.names], np.bool_)[column] & ~order.over_quota
    rows = order.rows[~is_withheld[order.rows]][:limit]
    looked_at = np.zeros(len(read.pending), np.bool_)
    looked_at[rows] = True
    # One that is larger than its tenant's whole quota holds back nobody, so that it is passed by like one that fits nowhere.
    hopeless = order.over_quota & lacks(read.pending.requests, books.tenants.quota[:, column]).any(axis=0)
    reached = _reached(read, looked_at | hopeless)
    of_each = np.bincount(read.tenant, minlength=1)
    batch = replace(read, pending=read.pending.rows(rows), tenant=read.tenant[rows], due_s=read.due_s[rows], reached=reached)
    return Considered(
        read=read,
        batch=batch,
        rows=rows,
        is_full=len(rows) >= limit or int(of_each.max()) >= limit,
        over_quota=order.over_quota,
        is_withheld=is_withheld,
        books=books,
        withheld=tuple(name for name in books.tenants.names if name in withheld),
        waiting_for=tuple(waiting_for),
    )


def _reached(read: PendingRequests, passed: NDArray[np.bool_]) -> dict[tuple[int, str], tuple[float, int]]:
    """How far each run and tenant has been passed by without a gap; all of what was read, where there is none."""
    found, stopped = dict(read.reached), set[tuple[int, str]]()
    last: dict[tuple[int, str], tuple[float, int]] = {}
    p, by_age = read.pending, np.lexsort((read.pending.request_id, read.due_s))
    for k in by_age.tolist():
        stream = int(p.run_id[k]), read.tenants[read.tenant[k]]
        if stream in stopped:
            continue
        if passed[k]:
            last[stream] = float(read.due_s[k]), int(p.request_id[k])
        else:
            stopped.add(stream)
    for stream in stopped:
        if stream in last:
            found[stream] = last[stream]
        else:
            found.pop(stream, None)
    return found


def considered_now(read: PendingRequests, snapshot: FleetSnapshot, store: TenantStore, *, limit: int) -> Considered:
    """What the next placement looks at, by what the last one has told: of who gets nothing now only placements know."""
    declared, told = store.declared(), store.told()
    if is_of_one(read, declared) and not told:
        return as_read(read, limit=limit)
    return considered(
        read,
        TenantHoldings.of(read.tenants, snapshot, declared, store.in_flight()),
        limit=limit,
        withheld=[share.tenant for share in told if share.withheld],
        waiting_for=[share.tenant for share in told if share.below_s is not None],
    )


def is_of_one(read: PendingRequests, declared: Mapping[str, Tenant]) -> bool:
    """Whether one tenant without a quota has all that waits."""
    return len(read.tenants) < 2 and not any(name in declared and declared[name].quota for name in read.tenants)


def overtaken_by(looked_at: Considered, key: RequestKey) -> tuple[str, ...]:
    """Other tenants of which requests that have waited for less come before this one; empty: none, or it is not among what was read."""
    read = looked_at.read
    if looked_at.books is None or (mine := _row(read, key)) < 0:
        return ()
    place = np.flatnonzero(looked_at.rows == mine)
    before = looked_at.rows[: int(place[0])] if len(place) else looked_at.rows
    later = before[(read.pending.waited_s[before] < read.pending.waited_s[mine]) & (read.tenant[before] != read.tenant[mine])]
    return tuple(sorted({read.tenants[t] for t in read.tenant[later].tolist()}))


def held_back(looked_at: Considered, key: RequestKey) -> HeldBack | None:
    """Why a request is not looked at; None: it is, or it is not among what was read."""
    read, books = looked_at.read, looked_at.books
    if books is None or (k := _row(read, key)) < 0:
        return None
    tenant, shares = read.tenants[read.tenant[k]], {share.tenant: share for share in books.told({}, ())}
    if looked_at.over_quota[k]:
        return _over_quota(looked_at, books, k, tenant)
    if not looked_at.is_withheld[k]:
        return None
    others = ", ".join(f"{name} ({shares[name].share:.1%})" for name in looked_at.waiting_for if name in shares)
    words = (
        f"its tenant {tenant} holds {shares[tenant].share:.1%} of the fleet, and gets nothing more until "
        f"{others or 'another tenant'}, which waits below its share, has its next request"
    )
    figures: dict[str, float | str] = {f"share of {name}": round(share.share, 4) for name, share in shares.items()}
    return HeldBack(reason=StateReason.BEHIND_SHARE, words=words, figures=figures)


def _over_quota(looked_at: Considered, books: TenantHoldings, k: int, tenant: str) -> HeldBack:
    read, t = looked_at.read, books.tenants.names.index(tenant)
    quota, held, asked = books.tenants.quota[:, t], books.held[:, t], read.pending.requests[:, k]
    alone = lacks(asked[:, None], quota[:, None])[:, 0]
    limited = np.isfinite(quota) & (asked > 0)
    # With those of its tenant before it that the quota does not rule out altogether.
    own = np.flatnonzero(read.tenant[: k + 1] == read.tenant[k])
    rivals = own[~lacks(read.pending.requests[:, own], quota[:, None]).any(axis=0)]
    wanted = asked if alone.any() else held + read.pending.requests[:, rivals].sum(axis=1)
    short = [j for j in np.flatnonzero(limited).tolist() if lacks(wanted[j : j + 1], quota[j : j + 1]).any()]
    changes = tuple(
        Change(kind=ChangeKind.QUOTA_RAISED, tenant=tenant, resource=books.resources[j], amount=float(wanted[j] - quota[j]))
        for j in short
    )
    told, figures = list[str](), dict[str, float | str]()
    for j in short:
        name = books.resources[j]
        figures |= {f"needs {name}": quantity(name, float(asked[j])), f"quota of {name}": quantity(name, float(quota[j]))}
        figures[f"{tenant} holds {name}"] = quantity(name, float(held[j]))
        told.append(
            f"it needs {quantity(name, float(asked[j]))} of {name}, and tenant {tenant} holds {quantity(name, float(held[j]))} of its "
            f"quota of {quantity(name, float(quota[j]))}"
        )
    ahead = 0 if alone.any() else len(rivals) - 1
    words = ", ".join(told) + (f"; {ahead} of its tenant wait before it" if ahead else "")
    return HeldBack(reason=StateReason.OVER_QUOTA, words=words, figures=figures, changes=changes)


def _row(read: PendingRequests, key: RequestKey) -> int:
    found = np.flatnonzero((read.pending.run_id == key.run_id) & (read.pending.request_id == key.request_id))
    return int(found[0]) if len(found) else -1
