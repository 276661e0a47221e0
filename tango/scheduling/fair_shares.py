"""Fair shares of tenants: weighted dominant-resource fairness, for both worlds.

    pending requests, what each tenant holds ─► turns   ─► the order in which a placement sees them, and what a quota holds back
    who waits, pods that run                 ─► withheld ─► tenants that get nothing more while another waits for its share
                                             ─► reclaim ─► pods that give way
    demands                                  ─► fair_shares: what each would have if everything could be divided

A tenant's **dominant share** is the largest share that it holds of any resource; its weighted share is that over its weight. The next
place always goes to the tenant with the least weighted share that has something to run (progressive filling), so whoever wants less than
his part leaves the rest to others, and takes it back as pods end.

Where pods do not end soon enough, they give way: `reclaim` moves room from one tenant to another only where the one that gives keeps at
least the weighted share that the one that takes has then, so no two tenants take the same room from each other in turn. A tenant that
holds nothing is entitled to one request, whatever its weight: nobody starves behind weights.

Source: Ghodsi et al., Dominant Resource Fairness, NSDI 2011: algorithm 1 (section 4.1), weights (section 4.3). Departures: a request that
fits no node is passed over, since requests are of many sizes; a tenant that holds nothing may take room (the paper never takes back).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.resource_axis import EVERYWHERE, lacks
from tango.domain.tenant_columns import TenantColumns

DIGITS = 12
"""Decimals of weighted shares that count: sums of floats differ in the last ones, and equal shares have to be equal."""


def capacity_of(free_of_lc: NDArray[np.float64], ready: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(r,) what BE may have in all: the sum over ready nodes of what LC leaves of them, (r, n); never less than 0."""
    found: NDArray[np.float64] = np.maximum(free_of_lc[:, ready], 0.0).sum(axis=1)
    return found


def dominant_share(held: NDArray[np.float64], capacity: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest share of any resource, of each column of `held` (r, k); what nobody has, nobody has a share of. (k,)"""
    share = np.divide(held, capacity[:, None], out=np.zeros_like(held), where=capacity[:, None] > 0)
    found: NDArray[np.float64] = share.max(axis=0, initial=0.0)
    return found


def fair_shares(wanted: NDArray[np.float64], capacity: NDArray[np.float64], tenants: TenantColumns) -> NDArray[np.float64]:
    """(t,) the dominant share of each tenant if all could be divided, by water-filling: all grow as their weights until they have what they
    want, their quota, or a resource is used up that they need.

    `wanted` (r, t) is all that each would hold, whose mixture is kept while it grows.
    """
    whole = dominant_share(wanted, capacity)
    scale = np.divide(1.0, whole, out=np.zeros_like(whole), where=whole > 0)
    needs = np.divide(wanted * scale, capacity[:, None], out=np.zeros_like(wanted), where=capacity[:, None] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_quota = np.where(wanted > 0, tenants.quota / wanted, np.inf).min(axis=0, initial=np.inf)
    most = whole * np.minimum(1.0, of_quota)
    share, growing, level = np.zeros(len(tenants)), most > 0, 0.0
    while growing.any():
        rate = needs[:, growing] @ tenants.weight[growing]
        left = 1.0 - needs[:, ~growing] @ share[~growing]
        used_up = np.divide(left, rate, out=np.full(len(rate), np.inf), where=rate > 0)
        filled = np.where(growing, most / tenants.weight, np.inf)
        level = max(level, min(float(used_up.min(initial=np.inf)), float(filled.min())))
        share[growing] = np.minimum(tenants.weight[growing] * level, most[growing])
        short = used_up <= level * (1 + 1e-12)
        growing &= ~(filled <= level * (1 + 1e-12)) & ~(needs[short] > 0).any(axis=0)
    return share


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Which of k pending requests a placement looks at, and in which order."""

    rows: NDArray[np.intp]
    """Those that may be placed, the first first."""
    over_quota: NDArray[np.bool_]
    """(k,) held back: its tenant would hold more than its quota, with those of its own that come before."""


def turns(
    requests: NDArray[np.float64],
    tenant: NDArray[np.int32],
    held: NDArray[np.float64],
    capacity: NDArray[np.float64],
    tenants: TenantColumns,
) -> Turns:
    """Order k pending requests by the weighted share that each one's tenant has when its turn comes.

    `requests` (r, k) stand in the order in which they would be placed without tenants: that order is kept within a tenant, and settles
    ties between them, so that of one tenant alone nothing changes. `tenant` (k,) are columns of `tenants`, `held` (r, t) is what each
    holds now.
    A request that is short of a resource holds back those of its tenant behind it that ask for the same resource; one that is larger than
    the whole quota holds back nobody.
    """
    by_tenant = np.argsort(tenant, kind="stable")
    over = _over_quota(requests, tenant, held, tenants, by_tenant) if tenants.any_quota else np.zeros(len(tenant), np.bool_)
    rows = by_tenant[~over[by_tenant]]
    of = tenant[rows]
    before = _running(requests[:, rows], of) - requests[:, rows]
    key = np.round(dominant_share(held[:, of] + before, capacity) / tenants.weight[of], DIGITS)
    return Turns(rows=rows[np.lexsort((rows, key))], over_quota=over)


def _running(requests: NDArray[np.float64], tenant: NDArray[np.int32]) -> NDArray[np.float64]:
    """Sums of the columns so far, each tenant's from its first column on, which lie side by side."""
    total = np.cumsum(requests, axis=1)
    first = np.flatnonzero(np.diff(tenant, prepend=-1))
    lengths = np.diff(np.append(first, len(tenant)))
    before = total[:, first] - requests[:, first]
    found: NDArray[np.float64] = total - np.repeat(before, lengths, axis=1)
    return found


def _over_quota(
    requests: NDArray[np.float64],
    tenant: NDArray[np.int32],
    held: NDArray[np.float64],
    tenants: TenantColumns,
    by_tenant: NDArray[np.intp],
) -> NDArray[np.bool_]:
    over = np.asarray(lacks(requests, tenants.quota[:, tenant]).any(axis=0))
    # Extended resources first: whoever waits for a device does not keep those waiting that ask for none.
    resources = [*range(len(EVERYWHERE), len(requests)), *range(len(EVERYWHERE))]
    for resource in resources:
        limited = np.isfinite(tenants.quota[resource])
        rows = by_tenant[(limited[tenant] & ~over & (requests[resource] > 0))[by_tenant]]
        if len(rows):
            of = tenant[rows]
            sums = _running(requests[resource : resource + 1, rows], of)[0] + held[resource, of]
            over[rows[lacks(sums, tenants.quota[resource, of])]] = True
    return over


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningPods:
    """p BE pods that may be asked to go, in the order in which they would be: those that lose least come first."""

    node: NDArray[np.int32]
    tenant: NDArray[np.int32]
    requests: NDArray[np.float64]
    """(r, p)"""
    leaving: NDArray[np.float64]
    """(r, n) what pods hold on each node that are asked to go already"""


def may_take(
    size: NDArray[np.float64], held: NDArray[np.float64], capacity: NDArray[np.float64], tenants: TenantColumns
) -> NDArray[np.bool_]:
    """(t,) whether a tenant may have room of others for its next request, `size` (r, t), which is 0 where it has none: it holds nothing
    while others do, or its weighted share with that request stays below the largest that another has now."""
    now, then = _weighted(held, capacity, tenants), _weighted(held + size, capacity, tenants)
    largest = np.array([np.delete(now, t).max(initial=0.0) for t in range(len(tenants))])
    found: NDArray[np.bool_] = size.any(axis=0) & (largest > 0) & ((now <= 0) | (then < largest))
    return found


def withheld(
    claims: Sequence[int],
    size: NDArray[np.float64],
    held: NDArray[np.float64],
    capacity: NDArray[np.float64],
    tenants: TenantColumns,
    *,
    free: NDArray[np.float64],
    open_to: NDArray[np.bool_],
    pods: RunningPods,
) -> NDArray[np.bool_]:
    """(t,) tenants that get nothing more until the claims have their next requests: those whose weighted shares are at least what the claim
    has then. Nobody, for a request that fits somewhere now, or that would fit nowhere if all pods of those tenants ended.

    Arguments are those of `reclaim`.
    """
    found, now = np.zeros(len(tenants), np.bool_), _weighted(held, capacity, tenants)
    for k, claim in enumerate(claims):
        asked = size[:, k]
        if _fits(asked, free, open_to[k]).any():
            continue
        larger = (now >= _level(claim, asked, held, capacity, tenants)) & (now > 0)
        larger[claim] = False
        theirs = larger[pods.tenant]
        ends = [np.bincount(pods.node[theirs], weights=row[theirs], minlength=free.shape[1]) for row in pods.requests]
        if _fits(asked, free + pods.leaving + np.array(ends, np.float64).reshape(free.shape), open_to[k]).any():
            found |= larger
    found[list(claims)] = False
    return found


def reclaim(
    claims: Sequence[int],
    size: NDArray[np.float64],
    held: NDArray[np.float64],
    capacity: NDArray[np.float64],
    tenants: TenantColumns,
    *,
    free: NDArray[np.float64],
    open_to: NDArray[np.bool_],
    pods: RunningPods,
    budget: float,
) -> NDArray[np.intp]:
    """Which pods go (rows of `pods`), so that tenants which have waited below their shares get their next requests.

    `claims` (c) are columns of tenants and `size` (r, c) a request of each: of one tenant as many as it waits for, in its order. `free`
    (r, n) is what no pod holds on each node, `open_to` (c, n) where each request may be put at all. The next claim served is that of the
    tenant with the least weighted share, what it was given before counted in. For each claim the node is taken on which fewest pods go,
    and of these the one whose first pods come first; none where the request fits somewhere now, or could not be made to.
    A pod goes only where its tenant keeps at least the weighted share that the claim's has then, and at least one pod for one that held
    nothing. `budget` is the largest dominant share that goes at once, but for the first claim, which is whole.
    """
    now = _Books(
        held=held.copy(),
        given=np.zeros_like(held),
        count=np.bincount(pods.tenant, minlength=len(tenants)),
        headroom=free + pods.leaving,
        stays=np.ones(len(pods.node), np.bool_),
    )
    gone, spent, waiting = list[int](), 0.0, list(range(len(claims)))
    while waiting:
        shares = _weighted(now.held + now.given, capacity, tenants)
        k = min(waiting, key=lambda k: (float(shares[claims[k]]), claims[k], k))
        waiting.remove(k)
        claim, asked = claims[k], size[:, k]
        if _fits(asked, free, open_to[k]).any():
            continue
        level = _level(claim, asked, now.held + now.given, capacity, tenants)
        found = _victims(claim, asked, level, now, capacity, tenants, open_to[k], pods)
        if found is None:
            continue
        node, going = found
        cost = float(dominant_share(pods.requests[:, going].sum(axis=1, keepdims=True), capacity)[0]) if going else 0.0
        if going and spent > 0 and spent + cost > budget:
            continue
        spent += cost
        gone += going
        now.stays[going] = False
        for pod in going:
            now.held[:, pods.tenant[pod]] -= pods.requests[:, pod]
            now.count[pods.tenant[pod]] -= 1
            now.headroom[:, node] += pods.requests[:, pod]
        # What a claim is given counts for its own level and not as held: it has it only once its request is placed, and until then losing a
        # pod to a later claim of the same round would leave it with less than it began with.
        now.given[:, claim] += asked
        now.headroom[:, node] -= asked
    return np.array(gone, np.intp)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Books:
    """What tenants and nodes have after the claims that were served so far; written to."""

    held: NDArray[np.float64]
    """(r, t)"""
    given: NDArray[np.float64]
    """(r, t) what claims were given room for."""
    count: NDArray[np.int64]
    """(t,) pods of each tenant."""
    headroom: NDArray[np.float64]
    """(r, n) what is free once everything that was asked to go has gone."""
    stays: NDArray[np.bool_]
    """(p,) pods that were not asked to go."""


def _weighted(held: NDArray[np.float64], capacity: NDArray[np.float64], tenants: TenantColumns) -> NDArray[np.float64]:
    """(t,) weighted shares, rounded as they are compared."""
    found: NDArray[np.float64] = np.round(dominant_share(held, capacity) / tenants.weight, DIGITS)
    return found


def _level(
    claim: int, asked: NDArray[np.float64], held: NDArray[np.float64], capacity: NDArray[np.float64], tenants: TenantColumns
) -> float:
    """The weighted share that a tenant has with its next request; 0 for one that holds nothing, which is entitled to it."""
    if not held[:, claim].any():
        return 0.0
    return round(float(dominant_share((held[:, claim] + asked)[:, None], capacity)[0] / tenants.weight[claim]), DIGITS)


def _fits(asked: NDArray[np.float64], free: NDArray[np.float64], open_to: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) nodes with room for a request (r,) in what is free, (r, n)."""
    found: NDArray[np.bool_] = ~lacks(asked[:, None], free).any(axis=0) & open_to
    return found


def _victims(
    claim: int,
    asked: NDArray[np.float64],
    level: float,
    now: _Books,
    capacity: NDArray[np.float64],
    tenants: TenantColumns,
    open_to: NDArray[np.bool_],
    pods: RunningPods,
) -> tuple[int, list[int]] | None:
    """The node, and the pods that go there; none where what leaves is enough. None: no node can be made to hold it."""
    best: tuple[int, int, int, list[int]] | None = None
    for node in np.flatnonzero(open_to).tolist():
        short = lacks(asked, now.headroom[:, node])
        going, left, pods_left, freed = list[int](), now.held.copy(), now.count.copy(), now.headroom[:, node].copy()
        if short.any():
            for pod in np.flatnonzero(now.stays & (pods.node == node) & (pods.tenant != claim)).tolist():
                of, given = pods.tenant[pod], pods.requests[:, pod]
                if not (given[short] > 0).any() or pods_left[of] <= 1:
                    continue
                after = float(dominant_share((left[:, of] - given)[:, None], capacity)[0] / tenants.weight[of])
                if round(after, DIGITS) < level:
                    continue
                going.append(pod)
                left[:, of] -= given
                pods_left[of] -= 1
                freed += given
                short = lacks(asked, freed)
                if not short.any():
                    break
        if short.any():
            continue
        found = (len(going), going[0] if going else -1, node, going)
        best = found if best is None or found[:3] < best[:3] else best
    return None if best is None else (best[2], best[3])
