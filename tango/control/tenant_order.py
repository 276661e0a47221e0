"""Explanations of what placements leave waiting where there are several tenants: by the order of `tango.scheduling.tenant_turns`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tango.domain.changes import Change, ChangeKind
from tango.domain.explanation import HeldBack
from tango.domain.identity import RequestKey
from tango.domain.reasons import StateReason
from tango.domain.resource_axis import EVERYWHERE, lacks, quantity
from tango.domain.runs import PendingRequests
from tango.domain.snapshot import FleetSnapshot
from tango.ports.tenants import TenantStore
from tango.scheduling.tenant_turns import Considered, TenantHoldings, as_read, considered, is_of_one


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
    changes = tuple(Change(kind=ChangeKind.SHARE_REACHED, tenant=name) for name in looked_at.waiting_for)
    return HeldBack(reason=StateReason.BEHIND_SHARE, words=words, figures=figures, changes=changes)


def with_changes(looked_at: Considered, changes: Iterable[Change], *, limit: int) -> Considered:
    """What the same placement would look at with these changes, of which those of a quota or of a claim matter here."""
    read, books, waiting = looked_at.read, looked_at.books, set(looked_at.waiting_for)
    if books is None:
        return looked_at
    quota = books.tenants.quota.copy()
    for change in changes:
        if change.kind is ChangeKind.QUOTA_RAISED:
            quota[books.resources.index(change.resource), books.tenants.names.index(change.tenant)] += change.amount
        elif change.kind is ChangeKind.SHARE_REACHED:
            waiting.discard(change.tenant)
    return considered(
        read,
        replace(books, tenants=replace(books.tenants, quota=quota)),
        limit=limit,
        withheld=looked_at.withheld if waiting else (),
        waiting_for=sorted(waiting),
    )


def _over_quota(looked_at: Considered, books: TenantHoldings, k: int, tenant: str) -> HeldBack:
    read, t = looked_at.read, books.tenants.names.index(tenant)
    quota, held, asked = books.tenants.quota[:, t], books.held[:, t], read.pending.requests[:, k]
    own = np.flatnonzero(read.tenant[: k + 1] == read.tenant[k])
    needed = _needed_quota(read.pending.requests[:, own], held, quota)
    short = np.flatnonzero(needed > quota).tolist()
    changes = tuple(
        Change(kind=ChangeKind.QUOTA_RAISED, tenant=tenant, resource=books.resources[j], amount=float(needed[j] - quota[j]))
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
    # One that is larger than the whole quota holds back nobody.
    ahead = int(np.count_nonzero(~lacks(read.pending.requests[:, own[:-1]], needed[:, None]).any(axis=0)))
    words = ", ".join(told) + (f"; {ahead} of its tenant wait before it" if ahead else "")
    return HeldBack(reason=StateReason.OVER_QUOTA, words=words, figures=figures, changes=changes)


def _needed_quota(requests: NDArray[np.float64], held: NDArray[np.float64], quota: NDArray[np.float64]) -> NDArray[np.float64]:
    """(r,) the least quota, of one tenant, under which the last of its requests (r, k) would be looked at.

    It has room for what the tenant holds, for this request, and for those before it that the quota itself does not rule out; a larger
    quota rules out fewer, so that it is raised until nothing more changes. Whether a request counts is told as `fair_shares.turns` does.
    """
    needed = quota.copy()
    resources = [*range(len(EVERYWHERE), len(quota)), *range(len(EVERYWHERE))]
    while True:
        counts: NDArray[np.bool_] = np.logical_not(lacks(requests, needed[:, None]).any(axis=0))
        counts[-1] = True
        raised = needed.copy()
        for j in resources:
            if not np.isfinite(needed[j]) or requests[j, -1] <= 0:
                continue
            rows = np.flatnonzero(counts & (requests[j] > 0))
            sums = np.cumsum(requests[j, rows]) + held[j]
            if lacks(float(sums[-1]), float(needed[j])):
                raised[j] = sums[-1]
            counts[rows[np.asarray(lacks(sums, np.full(len(sums), needed[j])))]] = False
            counts[-1] = True
        if (raised == needed).all():
            return needed
        needed = raised


def _row(read: PendingRequests, key: RequestKey) -> int:
    found = np.flatnonzero((read.pending.run_id == key.run_id) & (read.pending.request_id == key.request_id))
    return int(found[0]) if len(found) else -1
