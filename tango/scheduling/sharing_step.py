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
- `STATIC`. Requests and limits stay as declared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place

STATIC, HRM, CERES = range(3)
RULES = {"static": STATIC, "hrm": HRM, "ceres": CERES}

STEP_MILLICORES = 50.0
"""Limits move in steps of this; a smaller change is not worth a resize."""
MOST_GROWTH = 4.0
"""A limit grows by at most this factor at a time."""
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
    """(4, n) scratch: LC limits, LC requests, requests freed, least slack"""
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


@in_place
def share(tuning: Tuning, instances: Instances, rooms: Rooms, declared: Declared, out: Shares) -> int:
    """One round; give the number of instances that change."""
    count = len(instances.node)
    nodes = len(rooms.allocatable)
    lc_limit, lc_request, freed, least_slack = out.sums[0], out.sums[1], out.sums[2], out.sums[3]
    next_out = out.next_out
    for n in range(nodes):
        lc_limit[n] = lc_request[n] = freed[n] = 0.0
        least_slack[n] = np.inf
        next_out[n] = rooms.first[n]
    for k in range(len(out.evict)):
        out.evict[k] = False
    for i in range(count):
        lc_limit[instances.node[i]] += instances.limit[i]
        lc_request[instances.node[i]] += instances.request[i]
    changed = 0
    for i in range(count):
        n, s = instances.node[i], instances.service[i]
        limit, request = instances.limit[i], instances.request[i]
        out.limit[i], out.request[i], out.slack[i] = limit, request, 1.0
        measured = instances.samples[i] >= tuning.min_samples
        overrun = instances.tail_ms[i] / declared.target_ms[s] if measured else 0.0
        if measured:
            out.slack[i] = 1.0 - overrun
            least_slack[n] = min(least_slack[n], out.slack[i])
        if tuning.rule == STATIC or not instances.ready[i]:
            continue
        after = wanted_limit(tuning, limit, declared.limit[s], overrun, measured, instances.since_s[i])
        # All LC limits of a node together stay within the node: beyond that a larger limit gives nothing.
        others = lc_limit[n] - limit
        ceiling = max(limit, rooms.allocatable[n] - tuning.reserve_millicores - others)
        after = min(after, ceiling, rooms.allocatable[n])
        if abs(after - limit) < STEP_MILLICORES or after >= instances.refused_at[i]:
            continue
        # The request keeps the declared share of the limit: BE may be admitted on the rest.
        wanted = max(1.0, min(after - 1.0, np.floor(after * declared.request[s] / declared.limit[s])))
        free = rooms.allocatable[n] - rooms.be_request[n] - (lc_request[n] - request) + freed[n]
        if tuning.rule == HRM and after > limit:
            while wanted > free and next_out[n] < rooms.first[n + 1]:
                k = next_out[n]
                out.evict[k] = True
                freed[n] += rooms.gives[k]
                free += rooms.gives[k]
                next_out[n] += 1
        wanted = max(1.0, min(wanted, max(request, np.floor(free))))
        lc_limit[n] += after - limit
        lc_request[n] += wanted - request
        out.limit[i], out.request[i] = after, wanted
        changed += 1
    if tuning.rule == CERES:
        for n in range(nodes):
            if least_slack[n] < tuning.grow_below:
                out.be_share[n] = max(LEAST_BE_SHARE, out.be_share[n] * BE_CUT)
            elif least_slack[n] > tuning.shrink_above:
                out.be_share[n] = min(1.0, out.be_share[n] * BE_RAISE)
    return changed
