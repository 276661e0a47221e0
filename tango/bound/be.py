"""The BE bound: the most BE work that any schedule could do in the measured span, beside the LC work that the evaluated run completed.

Relaxations: all resources of nodes of one shape form one pool; how many pods a node admits is left out; pods are fluid and may run in
any pool; the run's LC work stays in its pool but may be done at any time within its own running interval. `docs/bound.md` has the
programme and the proof. `_pools`, `_lc_done` and `_be_offered` prepare the parts, `_programme` joins them, and `_edges` adds what the
figure may credit the run at the ends of the measured span.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tango.analysis.metrics import MeasuredSpan, measured_span, useful_share
from tango.bound.columns import Floats, Ints, spread, totals
from tango.bound.packing import Packing
from tango.domain.fleet import Fleet
from tango.domain.outcomes import RunOutcomes
from tango.domain.requests import RequestState
from tango.domain.resource_axis import CPU, EVERYWHERE, MEMORY, ResourceAxis, lacks
from tango.domain.services import ServiceClass

SHORTEST_BUCKET_S = 1.0
"""Shortest bucket. BE work has no deadline, so finer buckets hardly lower the bound, while LC work across their edges multiplies groups."""
FEWEST_BUCKETS, MOST_BUCKETS = 16, 256
"""Least and greatest number of buckets of the measured span."""
MOST_POOLS = 8
"""Most pools; nodes are grouped by memory per core."""
MEMORY_STEPS = 6
"""Groups by memory into which the BE requests of one service are divided; each counts with the least memory of its group."""
LONGEST_LC = 32
"""LC work that ran in more buckets than this is left out, which frees CPU and so keeps the bound valid."""


class _Grid(NamedTuple):
    """The measured span cut into `buckets` of equal length; bucket -1 and bucket `buckets` are before and after it."""

    measured: MeasuredSpan
    buckets: int

    @property
    def edges_s(self) -> Floats:
        """Edges of the buckets, wall seconds, shape (buckets + 1,)."""
        return np.linspace(self.measured.start_s, self.measured.end_s, self.buckets + 1)

    def bucket(self, at_s: Floats) -> Ints:
        """The bucket of each instant, same shape; -1 before the measured span, `buckets` after it."""
        return np.searchsorted(self.edges_s[:-1], at_s, side="right") - 1 + (at_s >= self.measured.end_s)

    def overlap_s(self, from_s: Floats, to_s: Floats, bucket: Ints) -> Floats:
        """Seconds of each interval [from, to] that lie in its given bucket, shape (n,)."""
        edges_s = np.concatenate(([-math.inf], self.edges_s, [math.inf]))
        return (np.minimum(to_s, edges_s[bucket + 2]) - np.maximum(from_s, edges_s[bucket + 1])).clip(0.0)


class _Pools(NamedTuple):
    """Groups of nodes with about the same memory per core; arrays have one element for each pool."""

    cores: Floats
    left: Floats
    """What the LC instances on every node leave to BE of whatever a pod holds from start to end, memory (MiB) and extended resources
    (thousandths), shape (resources, pools)."""
    largest: Floats
    """The most of each on one node, same shape."""
    of_node: Ints
    """Pool of each node of the run; -1 for one that the fleet does not have."""


class _LcDone(NamedTuple):
    """LC work of the evaluated run in CPU-seconds: that of requests within one bucket, and that of requests across several."""

    fixed_s: Floats
    """Work within one bucket, shape (pools, buckets)."""
    loose_s: Floats
    """Work of each group, that is of the requests of one pool that ran in the same buckets, shape (groups,)."""
    arc_group: Ints
    """Group of each arc; an arc is a group in one of its buckets."""
    arc_place: Ints
    """Place of each arc, pool x buckets + bucket; -1 outside the measured span."""
    arc_most_s: Floats
    """Most work that an arc may take."""


class _BeOffered(NamedTuple):
    """BE requests by kind, that is by service and group of memory."""

    limit_cores: Floats
    """CPU limit of a pod of the kind, shape (kinds,)."""
    held: Floats
    """The least that a pod of the kind holds, resources as in `_Pools.left`, shape (resources, kinds)."""
    by_then_s: Floats
    """CPU-seconds that can be done from the measured span's start to a bucket's end, each pod within its limit, shape (kinds, buckets)."""
    in_bucket_s: Floats
    """CPU-seconds that can be done in a bucket alone, shape (kinds, buckets)."""


def be_of(fleet: Fleet, outcomes: RunOutcomes, *, bucket_s: float | None = None) -> float | None:
    """The bound in CPU-seconds per second; None if the measured span has no length. `bucket_s` None: chosen by its length."""
    measured = measured_span(outcomes)
    if not measured.length_s > 0.0:
        return None
    if not (outcomes.service_class == ServiceClass.BE).any():
        return 0.0
    buckets = round(measured.length_s / (bucket_s or SHORTEST_BUCKET_S))
    grid = _Grid(measured, max(1, buckets) if bucket_s else min(max(buckets, FEWEST_BUCKETS), MOST_BUCKETS))
    pools = _pools(fleet, outcomes)
    lc = _lc_done(outcomes, pools, grid)
    most_s = _programme(pools, lc, _be_offered(fleet, outcomes, grid), grid).most() - float(lc.loose_s.sum())
    return (max(0.0, most_s) + _edges(fleet, outcomes, measured)) / measured.length_s


def _pools(fleet: Fleet, outcomes: RunOutcomes) -> _Pools:
    resources, nodes = ResourceAxis.of(fleet.services), list(fleet.nodes)
    allocatable = resources.columns([resources.of_node(node) for node in nodes])
    instances = np.array([s.instances_per_node if s.service_class is ServiceClass.LC else 0 for s in fleet.services])
    standing = (resources.pod_requests(fleet.services) @ instances)[:, None]
    # Which instances stand on a node that cannot hold all of them is unknown, so all that it has is left to BE: a relaxation.
    left = np.where(lacks(standing, allocatable), allocatable, allocatable - standing)[_held_rows(resources)]
    cores = allocatable[CPU] / 1000.0
    shapes, shape = np.unique(np.round(left[0] / cores, 6), return_inverse=True)
    pool = shape * min(len(shapes), MOST_POOLS) // len(shapes)
    rows = {key: int(pool[row]) for row, key in enumerate(fleet.node_keys)}
    count = int(pool.max()) + 1
    largest = np.zeros((len(left), count))
    for most, of_nodes in zip(largest, left, strict=True):
        np.maximum.at(most, pool, of_nodes)
    return _Pools(
        cores=totals(pool, cores, count),
        left=np.stack([totals(pool, of_nodes, count) for of_nodes in left]),
        largest=largest,
        of_node=np.array([rows.get(key, -1) for key in outcomes.node_keys], np.int64),
    )


def _held_rows(resources: ResourceAxis) -> list[int]:
    """Rows of what a pod holds from start to end whatever it does: memory, and each extended resource."""
    return [MEMORY, *range(len(EVERYWHERE), len(resources))]


def _limit_cores(fleet: Fleet, outcomes: RunOutcomes) -> Floats:
    """Most cores that one BE pod may use, shape (services of the run,)."""
    largest = max(node.cpu_millicores for node in fleet.nodes) / 1000.0
    limits = {service.name: service.cpu_limit_millicores / 1000.0 for service in fleet.services}
    return np.array([min(limits.get(name, largest), largest) for name in outcomes.services])


def _lc_done(outcomes: RunOutcomes, pools: _Pools, grid: _Grid) -> _LcDone:
    done = (outcomes.service_class == ServiceClass.LC) & outcomes.in_state(RequestState.SUCCEEDED) & (outcomes.node >= 0)
    done &= ~np.isnan(outcomes.started_s) & ~np.isnan(outcomes.finished_s)
    done[done] = pools.of_node[outcomes.node[done]] >= 0
    pool, work_s = pools.of_node[outcomes.node[done]], outcomes.cpu_work_s[done]
    from_s, to_s = outcomes.started_s[done], outcomes.finished_s[done]
    first, last = grid.bucket(from_s), grid.bucket(to_s)

    within = (first == last) & (first >= 0) & (first < grid.buckets)
    places = len(pools.cores) * grid.buckets
    fixed_s = totals((pool * grid.buckets + first)[within], work_s[within], places)

    several = (first < last) & (last - first < LONGEST_LC)
    key = ((pool * (grid.buckets + 2) + first + 1) * LONGEST_LC + last - first)[several]
    groups, group = np.unique(key, return_inverse=True)
    row, nth = spread((last - first + 1)[several])
    bucket = first[several][row] + nth
    most_s = np.minimum(work_s[several][row], grid.overlap_s(from_s[several][row], to_s[several][row], bucket))
    arcs, arc = np.unique(group[row] * (grid.buckets + 2) + bucket + 1, return_inverse=True)
    arc_group, arc_bucket = arcs // (grid.buckets + 2), arcs % (grid.buckets + 2) - 1
    inside = (arc_bucket >= 0) & (arc_bucket < grid.buckets)
    arc_pool = groups[arc_group] // (LONGEST_LC * (grid.buckets + 2))
    return _LcDone(
        fixed_s=fixed_s.reshape(len(pools.cores), grid.buckets),
        loose_s=totals(group, work_s[several], len(groups)),
        arc_group=arc_group,
        arc_place=np.where(inside, arc_pool * grid.buckets + arc_bucket, -1),
        arc_most_s=totals(arc, most_s, len(arcs)),
    )


def _be_offered(fleet: Fleet, outcomes: RunOutcomes, grid: _Grid) -> _BeOffered:
    limits = _limit_cores(fleet, outcomes)
    is_be = (outcomes.service_class == ServiceClass.BE) & (outcomes.due_s < grid.measured.end_s)
    resources = ResourceAxis.of(fleet.services)
    extended = {s.name: resources.pod_requests((s,))[len(EVERYWHERE) :, 0] for s in fleet.services}
    limit, held, by_then_s, in_bucket_s = [], [], [], []
    for service in np.unique(outcomes.service[is_be]):
        mine = np.flatnonzero(is_be & (outcomes.service == service))
        mine = mine[np.argsort(outcomes.memory_mib[mine], kind="stable")]
        for rows in np.array_split(mine, min(MEMORY_STEPS, len(np.unique(outcomes.memory_mib[mine])))):
            due_s, work_s = np.maximum(outcomes.due_s[rows], grid.measured.start_s), outcomes.cpu_work_s[rows]
            limit.append(limits[service])
            of_service = extended.get(outcomes.services[service], np.zeros(len(resources.extended)))
            held.append([float(outcomes.memory_mib[rows].min()), *of_service])
            by_then_s.append(_done_by(due_s, work_s, limits[service], grid.edges_s[1:]))
            in_bucket_s.append(_done_within(due_s, work_s, limits[service], grid))
    return _BeOffered(
        limit_cores=np.array(limit),
        held=np.array(held).T,
        by_then_s=np.array(by_then_s).reshape(len(limit), grid.buckets),
        in_bucket_s=np.array(in_bucket_s).reshape(len(limit), grid.buckets),
    )


def _done_by(due_s: Floats, work_s: Floats, limit_cores: float, at_s: Floats) -> Floats:
    """A_k(t) of `docs/bound.md`: sum over pods of min(work, limit x time since due), at each time, shape (times,)."""
    return (limit_cores * (_elapsed(due_s, at_s) - _elapsed(due_s + work_s / limit_cores, at_s))).clip(0.0)


def _elapsed(since_s: Floats, at_s: Floats) -> Floats:
    """Sum over instants of the time that has passed since each, 0 for later ones, shape (times,)."""
    since_s = np.sort(since_s)
    begun = np.searchsorted(since_s, at_s)
    return begun * at_s - np.concatenate(([0.0], np.cumsum(since_s)))[begun]


def _done_within(due_s: Floats, work_s: Floats, limit_cores: float, grid: _Grid) -> Floats:
    """B_k(t) of `docs/bound.md`: sum over due pods of min(work, limit x the part of the bucket after they were due), shape (buckets,)."""
    bucket = grid.bucket(due_s)
    length_s = grid.measured.length_s / grid.buckets
    full_s = totals(bucket, np.minimum(work_s, limit_cores * length_s), grid.buckets)
    rest_s = np.minimum(work_s, limit_cores * (grid.edges_s[bucket + 1] - due_s))
    return np.cumsum(full_s) - full_s + totals(bucket, rest_s, grid.buckets)


def _programme(pools: _Pools, lc: _LcDone, be: _BeOffered, grid: _Grid) -> Packing:
    """The linear programme of `docs/bound.md`, "BE bound". A place is a bucket of a pool.

    Rows: CPU of a place, each held resource of a place, work of an LC group, backlog of a kind in a bucket. Columns: BE work by
    (kind, pool, bucket), LC work by arc, BE work done so far by (kind, bucket). LC work gains as BE work does, and `be_of` subtracts
    all of it afterwards: the evaluated run's schedule did all of it, so it is among the feasible solutions.
    """
    kinds, buckets, places = len(be.limit_cores), grid.buckets, len(pools.cores) * grid.buckets
    length_s = grid.measured.length_s / buckets
    cpu_s = (np.repeat(pools.cores[:, None] * length_s, buckets, axis=1) - lc.fixed_s).clip(0.0).ravel()
    left_s = np.repeat(pools.left * length_s, buckets, axis=1)

    kind, place = np.divmod(np.arange(kinds * places), places)
    bucket = place % buckets
    resources = len(pools.left)
    fits = (be.held[:, kind] <= pools.largest[:, place // buckets]).all(axis=0)
    held_s = (be.held / be.limit_cores)[:, kind]
    """What a CPU-second of a kind holds at least, times seconds: a pod at its limit holds its memory for 1/limit seconds."""
    work, arcs, so_far = len(kind), len(lc.arc_group), kinds * buckets
    inside = np.flatnonzero(lc.arc_place >= 0)
    chained = np.flatnonzero(np.arange(so_far) % buckets)
    first_lc = (1 + resources) * places
    first_backlog = first_lc + len(lc.loose_s)
    done = work + arcs + np.arange(so_far)
    row = (
        place,
        *((1 + j) * places + place for j in range(resources)),
        first_backlog + kind * buckets + bucket,
        lc.arc_place[inside],
        first_lc + lc.arc_group,
        first_backlog + np.arange(so_far),
        first_backlog + chained,
    )
    column = (np.arange(work),) * (2 + resources) + (work + inside, work + np.arange(arcs), done, done[chained - 1])
    ones = np.ones(max(work, arcs, so_far))
    value = (ones[:work], *held_s, ones[:work], ones[: len(inside)], ones[:arcs], -ones[:so_far], ones[: len(chained)])
    return Packing(
        gain=np.concatenate((np.ones(work + arcs), np.zeros(so_far))),
        upper=np.concatenate(
            (np.where(fits, np.minimum(cpu_s[place], be.in_bucket_s[kind, bucket]), 0.0), lc.arc_most_s, be.by_then_s.ravel()),
        ),
        capacity=np.concatenate((cpu_s, left_s.ravel(), lc.loose_s, np.zeros(so_far))),
        row=np.concatenate(row),
        column=np.concatenate(column),
        value=np.concatenate(value),
        # Measured: the interior point method takes a quarter to a half of the simplex' time here, where many optima are equal; in
        # `qos` it is the reverse.
        solver="ipm",
    )


def _edges(fleet: Fleet, outcomes: RunOutcomes, measured: MeasuredSpan) -> float:
    """CPU-seconds that the throughput figure may credit the evaluated run's pods beyond what they did in the measured span.

    The figure spreads a pod's work evenly over its running interval. A pod that crosses an end of the span did at least its work minus
    what its limit allowed outside; the rest of its credit is added to the bound, so that no run lies above it.
    """
    credited_s = useful_share(outcomes, measured) * outcomes.cpu_work_s
    rows = np.flatnonzero((outcomes.service_class == ServiceClass.BE) & (credited_s > 0.0) & ~np.isnan(outcomes.started_s))
    from_s, to_s = outcomes.started_s[rows], outcomes.finished_s[rows]
    outside_s = (measured.start_s - from_s).clip(0.0) + (to_s - measured.end_s).clip(0.0)
    least_s = (outcomes.cpu_work_s[rows] - _limit_cores(fleet, outcomes)[outcomes.service[rows]] * outside_s).clip(0.0)
    crossing = outside_s > 0.0
    return float((credited_s[rows] - least_s).clip(0.0)[crossing].sum())
