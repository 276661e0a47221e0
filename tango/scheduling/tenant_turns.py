"""Which of the requests that wait a placement of BE looks at, and in which order, where there are several tenants. For both worlds.

The order is that of `fair_shares.turns`; what tenants hold and what is declared of them is brought here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tango.domain.reasons import StateReason
from tango.domain.resource_axis import MAY_RUN, MEMORY, lacks
from tango.domain.runs import PendingRequests
from tango.domain.snapshot import FleetSnapshot
from tango.domain.tenant_columns import TenantColumns
from tango.domain.tenants import Tenant, TenantShare, TenantUse
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

    def with_placed(self, batch: PendingRequests, placed: NDArray[np.bool_]) -> TenantHoldings:
        """The same with the requests that are marked, (k,), counted in."""
        held = self.held.copy()
        np.add.at(held.T, self.columns_of(batch)[placed], batch.pending.requests[:, placed].T)
        return replace(self, held=held)

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
    reached = _reached(read, looked_at | hopeless) if read.reached else {}
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


def is_of_one(read: PendingRequests, declared: Mapping[str, Tenant]) -> bool:
    """Whether one tenant without a quota has all that waits."""
    return len(read.tenants) < 2 and not any(name in declared and declared[name].quota for name in read.tenants)
