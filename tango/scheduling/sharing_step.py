"""One round of a sharing rule, compiled: what live re-assurance and the simulator's engine share.

Per (service, node): slack = 1 - tail latency / target over a sliding window. Below `grow_below` the LC instance grows, above
`shrink_above` it shrinks, with a hold after each change, longer before shrinking.

- `HRM`. CPU is compressible: a larger LC limit squeezes BE at once, because the node serves LC first. Room among the requests is
  not: where the grown instance's request no longer fits beside what BE holds, BE is evicted, least work lost first. Source: Tango
  (Feng et al., ICPP 2023), D-VPA and HRM. Departures: slack instead of a fixed share; growth by a factor of the overrun, since one
  step must at least cover the backlog that made the slack negative.
- `CERES`. The same growth within what is free, nothing is evicted; a node whose slack is short cuts the limits of its BE pods, and
  gives them back when there is slack. Source: Yu et al., "CERES: Container-based elastic resource management system for mixed
  workloads", ICPP 2021. Departures: one controller a node over all its LC services (the least slack rules), multiplicative steps.
- `BURST`. A limit only keeps the LC services of a node from lending each other what is idle, since BE yields to all of them anyway. So
  every LC instance gets the node as its limit, once, and keeps it; its CPU request follows slack as under `HRM`, evictions included,
  because requests are what nodes admit by, and what a kernel shares CPU by when all want it. Between the services of a crowded node
  nothing but the dispatcher stands, which has to count crowding (`lc_dispatch.crowding`): not a rule for LC policies that do not. A
  departure from the papers above. A limit that a node refuses for good (a `LimitRange`, a quota) is approached by halves.
- `STATIC`. Requests and limits stay as declared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined

STATIC, HRM, CERES, BURST = range(4)
RULES = {"static": STATIC, "hrm": HRM, "ceres": CERES, "burst": BURST}

STEP_MILLICORES = 50.0
"""Limits move in steps of this; a smaller change is not worth a resize."""
MOST_GROWTH = 4.0
"""A limit grows by at most this factor at a time."""
LC_SIZE, LC_REQUEST, FREED, LEAST_SLACK = range(4)
"""Rows of `Shares.sums`."""
BE_CUT, BE_RAISE, LEAST_BE_SHARE = 0.5, 1.25, 0.1
"""`CERES`: what a round does to the share of their limits that BE pods may use, and its floor."""


class Instances(NamedTuple):
    """m LC instances in the order in which they are served."""

    node: NDArray[np.int64]
    service: NDArray[np.int64]
    ready: NDArray[np.bool_]
    limit: NDArray[np.float64]
    """millicores, in effect"""
    request: NDArray[np.float64]
    tail_ms: NDArray[np.float64]
    """of its (service, node), over the window"""
    samples: NDArray[np.int64]
    since_s: NDArray[np.float64]
    """since its last resize"""
    refused_at: NDArray[np.float64]
    """(m,) the smallest limit that its node refused for good; infinity: none"""
    refused_request_at: NDArray[np.float64]
    """(m,) `BURST`: likewise of CPU requests, asked for without a larger limit"""


class Rooms(NamedTuple):
    """n nodes. The BE pods that may go stand node by node, least work lost first."""

    allocatable: NDArray[np.float64]
    """millicores"""
    be_request: NDArray[np.float64]
    first: NDArray[np.int64]
    """(n + 1,) node k may lose the pods first[k] to first[k + 1]"""
    gives: NDArray[np.float64]
    """(k,) CPU request of each such pod"""


class Declared(NamedTuple):
    """(s,) services, as declared."""

    limit: NDArray[np.float64]
    request: NDArray[np.float64]
    target_ms: NDArray[np.float64]


class Tuning(NamedTuple):
    """`SharingSettings` as the kernel reads them."""

    rule: int
    grow_below: float
    shrink_above: float
    grow_factor: float
    shrink_factor: float
    hold_s: float
    shrink_hold_s: float
    reserve_millicores: float
    min_samples: int


class Shares(NamedTuple):
    """What a round does. `limit` and `request` are as before where nothing changes."""

    limit: NDArray[np.float64]
    request: NDArray[np.float64]
    slack: NDArray[np.float64]
    """(m,) 1 where nothing was measured"""
    evict: NDArray[np.bool_]
    """(k,)"""
    be_share: NDArray[np.float64]
    """(n,) share of their limits that the BE pods of a node may use; read and written"""
    sums: NDArray[np.float64]
    """(4, n) scratch: sizes (`_size`) and CPU requests of LC, requests freed by evictions, least slack"""
    next_out: NDArray[np.int64]
    """(n,) scratch: the next pod to go"""


def new_shares(instances: int, evictable: int, be_share: NDArray[np.float64]) -> Shares:
    """Room for the result of a round."""
    nodes = len(be_share)
    return Shares(
        np.zeros(instances),
        np.zeros(instances),
        np.ones(instances),
        np.zeros(evictable, np.bool_),
        be_share,
        np.zeros((4, nodes)),
        np.zeros(nodes, np.int64),
    )


@in_place
def wanted_limit(tuning: Tuning, limit: float, declared: float, overrun: float, measured: bool, since_s: float) -> float:
    """The limit that an instance should have by its slack alone; `overrun` is its tail over its target."""
    if not measured:
        # Nothing is measured: an instance that grew goes back to its declared size once the hold is over.
        if limit > declared and since_s >= tuning.shrink_hold_s:
            return float(max(declared, np.floor(limit * tuning.shrink_factor)))
        return limit
    slack = 1.0 - overrun
    if slack < tuning.grow_below and since_s >= tuning.hold_s:
        return float(np.floor(limit * min(MOST_GROWTH, tuning.grow_factor * max(1.0, overrun))))
    if slack > tuning.shrink_above and since_s >= tuning.shrink_hold_s:
        return float(max(declared, np.floor(limit * tuning.shrink_factor)))
    return limit


@inlined
def evicts(rule: int) -> bool:
    """Whether BE is evicted where the CPU request of an instance that grows finds no room."""
    return rule in (HRM, BURST)


@inlined
def _size(rule: int, limit: float, request: float, declared: Declared, s: int) -> float:
    """The limit that slack moves. Under `BURST` the one for which an instance's request stands, since its limit is the node's."""
    if rule == BURST:
        return float(request * declared.limit[s] / declared.request[s])
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
def share(tuning: Tuning, instances: Instances, rooms: Rooms, declared: Declared, out: Shares) -> int:
    """One round; give the number of instances that change."""
    _sum_up(tuning.rule, instances, rooms, declared, out)
    least_slack = out.sums[LEAST_SLACK]
    changed = 0
    for i in range(len(instances.node)):
        n, s = instances.node[i], instances.service[i]
        out.limit[i], out.request[i], out.slack[i] = instances.limit[i], instances.request[i], 1.0
        measured = instances.samples[i] >= tuning.min_samples
        overrun = instances.tail_ms[i] / declared.target_ms[s] if measured else 0.0
        if measured:
            out.slack[i] = 1.0 - overrun
            least_slack[n] = min(least_slack[n], out.slack[i])
        if tuning.rule == STATIC or not instances.ready[i]:
            continue
        if tuning.rule == BURST:
            out.limit[i] = _burst_limit(
                tuning, instances.limit[i], rooms.allocatable[n], instances.refused_at[i], instances.since_s[i]
            )
        # One thing at a time, so that a refusal tells what was refused.
        if out.limit[i] == instances.limit[i]:
            _resize(tuning, instances, rooms, declared, out, i, overrun, measured)
        if out.limit[i] != instances.limit[i] or out.request[i] != instances.request[i]:
            changed += 1
    if tuning.rule == CERES:
        for n in range(len(rooms.allocatable)):
            if least_slack[n] < tuning.grow_below:
                out.be_share[n] = max(LEAST_BE_SHARE, out.be_share[n] * BE_CUT)
            elif least_slack[n] > tuning.shrink_above:
                out.be_share[n] = min(1.0, out.be_share[n] * BE_RAISE)
    return changed


@inlined
def _sum_up(rule: int, instances: Instances, rooms: Rooms, declared: Declared, out: Shares) -> None:
    """Begin a round: what the LC instances of each node have together, and nobody evicted."""
    sums = out.sums
    for n in range(len(rooms.allocatable)):
        sums[LC_SIZE, n] = sums[LC_REQUEST, n] = sums[FREED, n] = 0.0
        sums[LEAST_SLACK, n] = np.inf
        out.next_out[n] = rooms.first[n]
    for k in range(len(out.evict)):
        out.evict[k] = False
    for i in range(len(instances.node)):
        n = instances.node[i]
        sums[LC_SIZE, n] += _size(rule, instances.limit[i], instances.request[i], declared, instances.service[i])
        sums[LC_REQUEST, n] += instances.request[i]


@inlined
def _resize(
    tuning: Tuning, instances: Instances, rooms: Rooms, declared: Declared, out: Shares, i: int, overrun: float, measured: bool
) -> None:
    """Let slack move an instance: its limit and request, or under `BURST` its request alone."""
    rule, n, s = tuning.rule, instances.node[i], instances.service[i]
    limit, request = instances.limit[i], instances.request[i]
    lc_size, lc_request = out.sums[LC_SIZE], out.sums[LC_REQUEST]
    size = _size(rule, limit, request, declared, s)
    after = wanted_limit(tuning, size, declared.limit[s], overrun, measured, instances.since_s[i])
    # All LC limits of a node together stay within the node: beyond that a larger limit gives nothing.
    others = lc_size[n] - size
    ceiling = max(size, rooms.allocatable[n] - tuning.reserve_millicores - others)
    after = min(after, ceiling, rooms.allocatable[n])
    if abs(after - size) < STEP_MILLICORES or (rule != BURST and after >= instances.refused_at[i]):
        return
    # The request keeps the declared share of the limit: BE may be admitted on the rest.
    wanted = max(1.0, min(after - 1.0, np.floor(after * declared.request[s] / declared.limit[s])))
    if rule == BURST:
        wanted = min(wanted, limit - 1.0)
        if wanted == request or wanted >= instances.refused_request_at[i]:
            return
    free = rooms.allocatable[n] - rooms.be_request[n] - (lc_request[n] - request) + out.sums[FREED, n]
    if evicts(rule) and after > size:
        free = _make_room(rooms, out, n, wanted, free)
    wanted = max(1.0, min(wanted, max(request, np.floor(free))))
    if rule == BURST:
        after = _size(rule, limit, wanted, declared, s)
    else:
        out.limit[i] = after
    out.request[i] = wanted
    lc_size[n] += after - size
    lc_request[n] += wanted - request


@inlined
def _make_room(rooms: Rooms, out: Shares, n: int, wanted: float, free: float) -> float:
    """Evict from a node until a request fits or nobody is left who may go; give what is free then."""
    while wanted > free and out.next_out[n] < rooms.first[n + 1]:
        k = out.next_out[n]
        out.evict[k] = True
        out.sums[FREED, n] += rooms.gives[k]
        free += rooms.gives[k]
        out.next_out[n] += 1
    return free
