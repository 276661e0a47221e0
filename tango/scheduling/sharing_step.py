"""One round of a sharing rule, compiled: what live re-assurance and the simulator's engine share.

Per (service, node): slack = 1 - tail latency / target over the lookback (`SharingSettings.window_s`). Below `grow_below` the LC
instance grows, above `shrink_above` it shrinks, with a hold after each change, longer before shrinking.

- `HRM`. CPU is compressible: a larger LC limit squeezes BE at once, because the node serves LC first. What requests hold
  is not: where the grown instance's request no longer fits beside what BE holds, BE is evicted, least work lost first. Source: Tango
  (Feng et al., ICPP 2023), D-VPA and HRM. Departures: slack instead of a fixed share; growth by a factor of the overrun, since one
  step must at least cover the backlog that made the slack negative.
- `CERES`. The same growth within what is free, nothing is evicted; a node whose slack is short cuts the limits of its BE pods, and
  gives them back when there is slack. Source: Yu et al., "CERES: Container-based elastic resource management system for mixed
  workloads", ICPP 2021. Departures: one controller a node over all its LC services (the least slack rules), multiplicative steps.
- `BURST`. A limit only keeps the LC services of a node from lending each other what is idle, since BE yields to all of them anyway. So
  every LC instance gets the node as its limit, once, and keeps it; its CPU request follows slack as under `HRM`, evictions included,
  because requests are what nodes admit by, and what a kernel shares CPU by when all want it. Between the services of a crowded node
  nothing but the dispatcher stands, which has to count crowding (`lc.expected_time.crowding`): not a rule for LC policies that do not. A
  departure from the papers above. A limit that a node refuses for good (a `LimitRange`, a quota) is approached by halves.
- `STATIC`. Requests and limits stay as declared.

Tenants may be guaranteed CPU for their LC (`tango.scheduling.guarantees`). On a node where one that is asked there has a guarantee, the
instances of all others together hold no more than what that leaves: those who hold more give it back at once, whoever grows stops before
it, and under `BURST` the limits of the others, which would be the whole node, divide what is left. No instance falls below its declared
CPU request for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined
from tango.domain.services import Service
from tango.domain.slack import slack_of

_slack_of = inlined(slack_of)

STATIC, HRM, CERES, BURST = range(4)
RULES = {"static": STATIC, "hrm": HRM, "ceres": CERES, "burst": BURST}

STEP_MILLICORES = 50.0
"""Limits move in steps of this; a smaller change is not worth a resize."""
MOST_GROWTH = 4.0
"""A limit grows by at most this factor at a time."""
LC_SIZE, LC_REQUEST, FREED, LEAST_SLACK = range(4)
"""Rows of `Shares.sums`."""
SIZE, DIVIDED, LIMIT, KEPT, ABOVE, CUT = range(6)
"""Rows of `Shares.of_tenants`."""
DRIFT = 1.25
"""`BURST`: times its part of what guarantees leave that an instance may have as its limit while all together leave them: parts follow the
slack of every instance, and a resize of each for each of these would be many."""
BE_CUT, BE_RAISE, LEAST_BE_SHARE = 0.5, 1.25, 0.1
"""`CERES`: what a round does to the share of their limits that BE pods may use, and its floor."""


class Instances(NamedTuple):
    """m LC instances in the order in which they are served; (m,) each."""

    node: NDArray[np.int64]
    """row in `NodeCapacities`"""
    service: NDArray[np.int64]
    """row in `Declared`"""
    ready: NDArray[np.bool_]
    """whether it serves; one that does not is left as it is"""
    limit_millicores: NDArray[np.float64]
    """CPU limit in effect"""
    request_millicores: NDArray[np.float64]
    """CPU request in effect"""
    tail_ms: NDArray[np.float64]
    """tail latency of its (service, node) over the lookback; NaN where nothing was measured"""
    samples: NDArray[np.int64]
    """answers that the tail was measured over"""
    since_resize_s: NDArray[np.float64]
    """seconds since its last resize"""
    refused_limit_millicores: NDArray[np.float64]
    """the smallest limit that its node refused for good; infinity: none"""
    refused_request_millicores: NDArray[np.float64]
    """`BURST`: likewise of CPU requests, asked for without a larger limit"""
    asked: NDArray[np.bool_]
    """whether its service has answered on its node in the lookback, or is asked there now: its tenant's guarantee counts then"""


def new_instances(*, node: NDArray[np.int64], service: NDArray[np.int64], declared: Declared) -> Instances:
    """Ready instances at their declared size, of which nothing has been measured and to which nothing was refused."""
    count = len(node)
    return Instances(
        node=node,
        service=service,
        ready=np.ones(count, np.bool_),
        limit_millicores=declared.limit_millicores[service],
        request_millicores=declared.request_millicores[service],
        tail_ms=np.full(count, np.nan),
        samples=np.zeros(count, np.int64),
        since_resize_s=np.zeros(count),
        refused_limit_millicores=np.full(count, np.inf),
        refused_request_millicores=np.full(count, np.inf),
        asked=np.zeros(count, np.bool_),
    )


class NodeCapacities(NamedTuple):
    """n nodes. The BE pods that may be evicted stand node by node, least work lost first."""

    allocatable_millicores: NDArray[np.float64]
    """(n,) CPU that pods may have"""
    be_request_millicores: NDArray[np.float64]
    """(n,) CPU requests of the BE pods on it"""
    first_evictable: NDArray[np.int64]
    """(n + 1,) node k may lose the pods first_evictable[k] to first_evictable[k + 1]"""
    evictable_millicores: NDArray[np.float64]
    """(k,) CPU request of each such pod"""
    guaranteed_millicores: NDArray[np.float64]
    """(t, n) CPU that the LC instances of each tenant with a guarantee may have there together, whatever others want"""


NO_GUARANTEES = np.zeros((0, 0))
"""`NodeCapacities.guaranteed_millicores` where no tenant has any."""


def new_capacities(
    *, allocatable_millicores: NDArray[np.float64], evictable: int, guaranteed_millicores: NDArray[np.float64] = NO_GUARANTEES
) -> NodeCapacities:
    """Nodes without BE, and space for this many pods that may be evicted."""
    nodes = len(allocatable_millicores)
    return NodeCapacities(
        allocatable_millicores=allocatable_millicores.copy(),
        be_request_millicores=np.zeros(nodes),
        first_evictable=np.zeros(nodes + 1, np.int64),
        evictable_millicores=np.zeros(evictable),
        guaranteed_millicores=guaranteed_millicores,
    )


class Declared(NamedTuple):
    """(s,) services, as declared."""

    limit_millicores: NDArray[np.float64]
    """CPU limit of an instance, or of a BE pod"""
    request_millicores: NDArray[np.float64]
    """CPU request of an instance, or of a BE pod"""
    target_ms: NDArray[np.float64]
    """latency target; infinity for BE"""
    tenant: NDArray[np.int64]
    """row of its tenant in `NodeCapacities.guaranteed_millicores`; as many as there are rows: it has no guarantee"""


def declared_sizes(services: Sequence[Service], *, tenant: NDArray[np.int64] | None = None) -> Declared:
    """The columns of services; without `tenant` none has a guarantee."""
    return Declared(
        limit_millicores=np.array([float(service.cpu_limit_millicores) for service in services]),
        request_millicores=np.array([float(service.cpu_request_millicores) for service in services]),
        target_ms=np.array([service.target_ms or np.inf for service in services]),
        tenant=np.zeros(len(services), np.int64) if tenant is None else tenant,
    )


class Tuning(NamedTuple):
    """`SharingSettings` as the kernel reads them."""

    rule: int
    """`STATIC`, `HRM`, `CERES` or `BURST`"""
    grow_below: float
    """slack below which an instance grows"""
    shrink_above: float
    """slack above which an instance shrinks"""
    grow_factor: float
    """of a limit, at least; the overrun of the target comes on top"""
    shrink_factor: float
    """of a limit, below 1"""
    hold_s: float
    """seconds after a resize in which an instance does not grow"""
    shrink_hold_s: float
    """seconds after a resize in which it does not shrink"""
    reserve_millicores: float
    """CPU of a node that the LC limits together leave alone"""
    min_samples: int
    """answers below which nothing counts as measured"""


class Shares(NamedTuple):
    """What a round does. `limit_millicores` and `request_millicores` are as before where nothing changes."""

    limit_millicores: NDArray[np.float64]
    """(m,) CPU limits to be"""
    request_millicores: NDArray[np.float64]
    """(m,) CPU requests to be"""
    slack: NDArray[np.float64]
    """(m,) 1 where nothing was measured"""
    evict: NDArray[np.bool_]
    """(k,) whether the pod of `NodeCapacities.evictable_millicores` is evicted"""
    be_share: NDArray[np.float64]
    """(n,) share of their limits that the BE pods of a node may use; read and written"""
    sums: NDArray[np.float64]
    """(4, n) scratch: sizes (`_size`) and CPU requests of LC, requests freed by evictions, in millicores; least slack"""
    next_evictable: NDArray[np.int64]
    """(n,) scratch: the next pod to evict"""
    of_tenants: NDArray[np.float64]
    """(6, t + 1, n) scratch, the last row of tenants for all without a guarantee: sizes, those by which the node is divided, limits, what
    is kept of the guarantee of one that is asked, what sizes are above the least that instances keep, in millicores; the part of that
    which is given back"""


def new_shares(*, instances: int, evictable: int, be_share: NDArray[np.float64], guarantees: int = 0) -> Shares:
    """Space for the result of a round over this many instances, evictable pods and tenants with a guarantee."""
    nodes = len(be_share)
    return Shares(
        limit_millicores=np.zeros(instances),
        request_millicores=np.zeros(instances),
        slack=np.ones(instances),
        evict=np.zeros(evictable, np.bool_),
        be_share=be_share,
        sums=np.zeros((4, nodes)),
        next_evictable=np.zeros(nodes, np.int64),
        of_tenants=np.zeros((6, guarantees + 1, nodes)),
    )


@in_place
def wanted_limit(
    tuning: Tuning, limit: float, declared: float, slack: float, overrun: float, measured: bool, since_s: float
) -> float:
    """The limit that an instance should have by its slack alone; `overrun` is its tail over its target."""
    if not measured:
        # Nothing is measured: an instance that grew goes back to its declared size once the hold is over.
        if limit > declared and since_s >= tuning.shrink_hold_s:
            return float(max(declared, np.floor(limit * tuning.shrink_factor)))
        return limit
    if slack < tuning.grow_below and since_s >= tuning.hold_s:
        return float(np.floor(limit * min(MOST_GROWTH, tuning.grow_factor * max(1.0, overrun))))
    if slack > tuning.shrink_above and since_s >= tuning.shrink_hold_s:
        return float(max(declared, np.floor(limit * tuning.shrink_factor)))
    return limit


@inlined
def evicts(rule: int) -> bool:
    """Whether BE is evicted where the CPU request of an instance that grows does not fit."""
    return rule in (HRM, BURST)


@inlined
def _size(rule: int, limit: float, request: float, declared: Declared, service: int) -> float:
    """The limit that slack moves. Under `BURST` the one for which an instance's request stands, since its limit is the node's."""
    if rule == BURST:
        return float(request * declared.limit_millicores[service] / declared.request_millicores[service])
    return limit


@inlined
def _burst_limit(tuning: Tuning, limit: float, allocatable: float, refused_at: float, since_s: float) -> float:
    """What the node lets an instance have: all of it, or half of the way towards what it has refused. It never falls."""
    after = allocatable - tuning.reserve_millicores
    if refused_at <= after:
        after = np.floor(0.5 * (limit + refused_at))
    if after - limit < STEP_MILLICORES or since_s < tuning.hold_s:
        return limit
    return float(after)


@in_place
def share(tuning: Tuning, instances: Instances, nodes: NodeCapacities, declared: Declared, out: Shares) -> int:
    """One round; give the number of instances that change."""
    _sum_up(tuning.rule, instances, nodes, declared, out)
    is_guaranteed = len(nodes.guaranteed_millicores) > 0 and tuning.rule != STATIC
    if is_guaranteed:
        _give_back(tuning, instances, nodes, declared, out)
    least_slack = out.sums[LEAST_SLACK]
    changed = 0
    for i in range(len(instances.node)):
        node, service = instances.node[i], instances.service[i]
        measured = instances.samples[i] >= tuning.min_samples
        overrun = instances.tail_ms[i] / declared.target_ms[service] if measured else 0.0
        if measured:
            out.slack[i] = _slack_of(instances.tail_ms[i], declared.target_ms[service])
            least_slack[node] = min(least_slack[node], out.slack[i])
        if tuning.rule == STATIC or not instances.ready[i]:
            continue
        if tuning.rule == BURST:
            out.limit_millicores[i] = _burst_limit(
                tuning,
                instances.limit_millicores[i],
                nodes.allocatable_millicores[node],
                instances.refused_limit_millicores[i],
                instances.since_resize_s[i],
            )
            if is_guaranteed:
                _divide_node(tuning, instances, nodes, declared, out, i)
        # One thing at a time, so that a refusal tells what was refused.
        if (
            out.limit_millicores[i] == instances.limit_millicores[i]
            and out.request_millicores[i] == instances.request_millicores[i]
        ):
            _resize(tuning, instances, nodes, declared, out, i, overrun, measured, is_guaranteed)
        if out.limit_millicores[i] != instances.limit_millicores[i] or out.request_millicores[i] != instances.request_millicores[i]:
            changed += 1
    if tuning.rule == CERES:
        for node in range(len(nodes.allocatable_millicores)):
            if least_slack[node] < tuning.grow_below:
                out.be_share[node] = max(LEAST_BE_SHARE, out.be_share[node] * BE_CUT)
            elif least_slack[node] > tuning.shrink_above:
                out.be_share[node] = min(1.0, out.be_share[node] * BE_RAISE)
    return changed


@inlined
def _sum_up(rule: int, instances: Instances, nodes: NodeCapacities, declared: Declared, out: Shares) -> None:
    """Begin a round: what the LC instances of each node have together, all of them as they are, and nobody evicted."""
    sums = out.sums
    for node in range(len(nodes.allocatable_millicores)):
        sums[LC_SIZE, node] = sums[LC_REQUEST, node] = sums[FREED, node] = 0.0
        sums[LEAST_SLACK, node] = np.inf
        out.next_evictable[node] = nodes.first_evictable[node]
    for k in range(len(out.evict)):
        out.evict[k] = False
    for i in range(len(instances.node)):
        node = instances.node[i]
        sums[LC_SIZE, node] += _size(
            rule, instances.limit_millicores[i], instances.request_millicores[i], declared, instances.service[i]
        )
        sums[LC_REQUEST, node] += instances.request_millicores[i]
        out.limit_millicores[i], out.request_millicores[i], out.slack[i] = (
            instances.limit_millicores[i],
            instances.request_millicores[i],
            1.0,
        )


@in_place
def _give_back(tuning: Tuning, instances: Instances, nodes: NodeCapacities, declared: Declared, out: Shares) -> None:
    """Let instances give back what they hold of the guarantees of other tenants that are asked, each a like part of what it may.

    Where one tenant's guarantee counts it is all others who give; where several do, whoever holds more than his own.
    """
    rule, of, others = tuning.rule, out.of_tenants, len(nodes.guaranteed_millicores)
    _sum_up_tenants(rule, instances, nodes, declared, of)
    for node in range(len(nodes.allocatable_millicores)):
        asked, alone = _asked(of, node)
        excess, can = -(nodes.allocatable_millicores[node] - tuning.reserve_millicores), 0.0
        for t in range(others + 1):
            if asked == 1 and t == alone:
                excess += of[KEPT, t, node]
                continue
            excess += max(of[SIZE, t, node], of[KEPT, t, node])
            can += min(max(0.0, of[SIZE, t, node] - of[KEPT, t, node]), of[ABOVE, t, node])
        if asked == 0 or excess < STEP_MILLICORES or can <= 0.0:
            continue
        for t in range(others + 1):
            if of[ABOVE, t, node] > 0.0 and not (asked == 1 and t == alone):
                may = min(max(0.0, of[SIZE, t, node] - of[KEPT, t, node]), of[ABOVE, t, node])
                of[CUT, t, node] = min(1.0, excess / can) * may / of[ABOVE, t, node]
    for i in range(len(instances.node)):
        node, service = instances.node[i], instances.service[i]
        t = declared.tenant[service]
        least = declared.request_millicores[service]
        size = _size(rule, instances.limit_millicores[i], instances.request_millicores[i], declared, service)
        if of[CUT, t, node] > 0.0 and instances.ready[i] and size > least:
            _shrink_to(rule, instances, declared, out, i, max(least, np.floor(size - of[CUT, t, node] * (size - least))))
    for t in range(others + 1):
        for node in range(len(nodes.allocatable_millicores)):
            of[DIVIDED, t, node] = of[SIZE, t, node]


@inlined
def _sum_up_tenants(rule: int, instances: Instances, nodes: NodeCapacities, declared: Declared, of: NDArray[np.float64]) -> None:
    """What the instances of each tenant have of each node, and what is kept for it there."""
    others = len(nodes.guaranteed_millicores)
    for t in range(others + 1):
        for node in range(len(nodes.allocatable_millicores)):
            of[SIZE, t, node] = of[LIMIT, t, node] = of[KEPT, t, node] = of[ABOVE, t, node] = of[CUT, t, node] = 0.0
    for i in range(len(instances.node)):
        node, service = instances.node[i], instances.service[i]
        t = declared.tenant[service]
        size = _size(rule, instances.limit_millicores[i], instances.request_millicores[i], declared, service)
        of[SIZE, t, node] += size
        of[LIMIT, t, node] += instances.limit_millicores[i]
        if instances.ready[i]:
            of[ABOVE, t, node] += max(0.0, size - declared.request_millicores[service])
        if t < others and instances.asked[i]:
            of[KEPT, t, node] = nodes.guaranteed_millicores[t, node]


@inlined
def _asked(of: NDArray[np.float64], node: int) -> tuple[int, int]:
    """How many tenants are asked on a node that have a guarantee there, and which is one of them."""
    asked, found = 0, -1
    for t in range(of.shape[1] - 1):
        if of[KEPT, t, node] > 0.0:
            asked, found = asked + 1, t
    return asked, found


@inlined
def _shrink_to(rule: int, instances: Instances, declared: Declared, out: Shares, row: int, after: float) -> None:
    """Give an instance this size, with the declared share of it as its CPU request, and count it."""
    node, service = instances.node[row], instances.service[row]
    limit, request = instances.limit_millicores[row], instances.request_millicores[row]
    size = _size(rule, limit, request, declared, service)
    share_of_limit = declared.request_millicores[service] / declared.limit_millicores[service]
    wanted = min(request, max(1.0, np.floor(after * share_of_limit)))
    if rule != BURST:
        out.limit_millicores[row] = after
    out.request_millicores[row] = wanted
    out.sums[LC_SIZE, node] += after - size
    out.sums[LC_REQUEST, node] += wanted - request
    out.of_tenants[SIZE, declared.tenant[service], node] += after - size


@inlined
def _divide_node(tuning: Tuning, instances: Instances, nodes: NodeCapacities, declared: Declared, out: Shares, row: int) -> None:
    """`BURST`: keep the limit of an instance to what the guarantees of other tenants leave of its node, a part by its size.

    Who alone has a guarantee that counts keeps the node. All others together never hold more than it leaves.
    """
    node, service = instances.node[row], instances.service[row]
    of, t = out.of_tenants, declared.tenant[service]
    asked, alone = _asked(of, node)
    if asked == 0 or (asked == 1 and t == alone):
        return
    limit, least = instances.limit_millicores[row], declared.request_millicores[service] + 1.0
    size = _size(BURST, limit, out.request_millicores[row], declared, service)
    most = nodes.allocatable_millicores[node] - tuning.reserve_millicores
    left, sizes, limits, own = most, 0.0, 0.0, 0.0
    for k in range(of.shape[1]):
        left -= of[KEPT, k, node]
        if not (asked == 1 and k == alone):
            sizes += of[DIVIDED, k, node]
            limits += of[LIMIT, k, node]
    if of[DIVIDED, t, node] > 0.0:
        own = of[KEPT, t, node] * size / of[DIVIDED, t, node]
    part = own + max(0.0, left) * size / sizes if sizes > 0.0 else own
    target = max(least, np.floor(part / STEP_MILLICORES) * STEP_MILLICORES)
    together = left if asked == 1 else most
    after = limit
    if limit > target and (limits > together or limit > DRIFT * target):
        after = target
        if out.request_millicores[row] > target - 1.0:
            out.sums[LC_REQUEST, node] += target - 1.0 - out.request_millicores[row]
            out.request_millicores[row] = target - 1.0
    elif out.limit_millicores[row] > limit and target - limit >= STEP_MILLICORES and limits + target - limit <= together:
        after = target
    out.limit_millicores[row] = after
    of[LIMIT, t, node] += after - limit


@inlined
def _most_size(tuning: Tuning, nodes: NodeCapacities, out: Shares, node: int, tenant: int, others_of_tenant: float) -> float:
    """What an instance of a tenant may have at the most, beside the others of that tenant and what is kept for other tenants."""
    most = nodes.allocatable_millicores[node] - tuning.reserve_millicores - others_of_tenant
    for t in range(out.of_tenants.shape[1]):
        if t != tenant:
            most -= max(out.of_tenants[SIZE, t, node], out.of_tenants[KEPT, t, node])
    return float(most)


@inlined
def _resize(
    tuning: Tuning,
    instances: Instances,
    nodes: NodeCapacities,
    declared: Declared,
    out: Shares,
    row: int,
    overrun: float,
    measured: bool,
    is_guaranteed: bool,
) -> None:
    """Let slack move an instance: its limit and request, or under `BURST` its request alone."""
    rule, node, service = tuning.rule, instances.node[row], instances.service[row]
    limit, request = instances.limit_millicores[row], instances.request_millicores[row]
    lc_size, lc_request = out.sums[LC_SIZE], out.sums[LC_REQUEST]
    size = _size(rule, limit, request, declared, service)
    after = wanted_limit(
        tuning, size, declared.limit_millicores[service], out.slack[row], overrun, measured, instances.since_resize_s[row]
    )
    # All LC limits of a node together stay within the node: beyond that a larger limit gives nothing.
    if is_guaranteed:
        after = max(after, declared.limit_millicores[service])  # below it is who has given back
        tenant = declared.tenant[service]
        ceiling = max(size, _most_size(tuning, nodes, out, node, tenant, out.of_tenants[SIZE, tenant, node] - size))
    else:
        others = lc_size[node] - size
        ceiling = max(size, nodes.allocatable_millicores[node] - tuning.reserve_millicores - others)
    after = min(after, ceiling, nodes.allocatable_millicores[node])
    if abs(after - size) < STEP_MILLICORES or (rule != BURST and after >= instances.refused_limit_millicores[row]):
        return
    # The request keeps the declared share of the limit: BE may be admitted on the rest.
    wanted = max(1.0, min(after - 1.0, np.floor(after * declared.request_millicores[service] / declared.limit_millicores[service])))
    if rule == BURST:
        wanted = min(wanted, limit - 1.0)
        if wanted == request or wanted >= instances.refused_request_millicores[row]:
            return
    free = (
        nodes.allocatable_millicores[node]
        - nodes.be_request_millicores[node]
        - (lc_request[node] - request)
        + out.sums[FREED, node]
    )
    if evicts(rule) and after > size:
        free = _evict_until_it_fits(nodes, out, node, wanted, free)
    wanted = max(1.0, min(wanted, max(request, np.floor(free))))
    if rule == BURST:
        after = _size(rule, limit, wanted, declared, service)
    else:
        out.limit_millicores[row] = after
    out.request_millicores[row] = wanted
    lc_size[node] += after - size
    lc_request[node] += wanted - request
    if is_guaranteed:
        out.of_tenants[SIZE, declared.tenant[service], node] += after - size


@inlined
def _evict_until_it_fits(nodes: NodeCapacities, out: Shares, node: int, wanted: float, free: float) -> float:
    """Evict from a node until a request fits or nobody is left who may go; give what is free then."""
    while wanted > free and out.next_evictable[node] < nodes.first_evictable[node + 1]:
        k = out.next_evictable[node]
        out.evict[k] = True
        out.sums[FREED, node] += nodes.evictable_millicores[k]
        free += nodes.evictable_millicores[k]
        out.next_evictable[node] += 1
    return free
