"""Explanations of what placements leave waiting where there are several tenants: by the order of `tango.scheduling.tenant_turns`."""

from __future__ import annotations

import numpy as np

from tango.domain.changes import Change, ChangeKind
from tango.domain.explanation import HeldBack
from tango.domain.identity import RequestKey
from tango.domain.reasons import StateReason
from tango.domain.resource_axis import lacks, quantity
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
