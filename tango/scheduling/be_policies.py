"""BE policies that are not learned. Each places the requests in order and counts what it has given out in the tick.

The steps are compiled. `fill_fleet` looks for the best node of the whole fleet by blocks of nodes (`block_search`); kube-scheduler's scores
follow the memory of each request, so that `fill_clusters` looks at every node of a cluster, or of the fleet as one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined
from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.resource_axis import CPU, EVERYWHERE, MEMORY
from tango.domain.snapshot import FleetSnapshot
from tango.node_model.capacity import count_in, fits
from tango.scheduling.be_headroom import BeHeadroom
from tango.scheduling.block_search import Blocks, block_search, new_blocks, note_placement
from tango.scheduling.kinds import kinds_of_rows
from tango.settings.decisions import BeSettings

SHARE, WEIGHTED = range(2)
"""Scores of `fill_fleet`."""
SPREADING, PACKING = range(2)
"""kube-scheduler's strategies of scoring: LeastAllocated, and RequestedToCapacityRatio with the shape of bin packing."""


class Nodes(NamedTuple):
    """The nodes as a tick fills them, (n,) each but for `free`; what is divided by is at least 1."""

    ready: NDArray[np.bool_]
    """whether it takes pods"""
    free: NDArray[np.float64]
    """(r, n) what no pod requests"""
    be_limit: NDArray[np.float64]
    """CPU limits of its BE pods, millicores"""
    cpu_allocatable: NDArray[np.float64]
    """CPU that pods may have, millicores"""
    memory_allocatable: NDArray[np.float64]
    """memory that pods may have, MiB"""
    lc_leaves: NDArray[np.float64]
    """CPU that LC does not use now, millicores"""
    free_cpu: NDArray[np.float64]
    """share of the CPU that was measured idle"""


class Sizes(NamedTuple):
    """k requests in u kinds: those of one kind differ in memory alone."""

    requests: NDArray[np.float64]
    """(r, k) of their pods"""
    cpu_limit: NDArray[np.float64]
    """(k,) CPU limits of their pods, millicores"""
    kind: NDArray[np.int64]
    """(k,) row of its kind"""
    kind_least: NDArray[np.float64]
    """(r, u) the least that a request of the kind asks for"""
    kind_cpu_limit: NDArray[np.float64]
    """(u,) CPU limit of the kind, millicores"""


def place_load_greedy(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
    """The node on which BE gets the largest share of what LC leaves, this request included, among those that fit."""
    return BePlan(node=_over_the_fleet(SHARE, pending, snapshot), policy="load-greedy")


def place_scoring(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
    """The highest weighted sum of free CPU, free memory and short queue; what BE pods may use of a node's CPU stands for its queue."""
    return BePlan(node=_over_the_fleet(WEIGHTED, pending, snapshot), policy="scoring")


def place_kube(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
    """kube-scheduler's filter NodeResourcesFit and its default scores, weight 1 each, in the entry cluster.

    Source: kubernetes, pkg/scheduler/framework/plugins/noderesources, `least_allocated.go` and `balanced_allocation.go`. Departures:
    scores are real numbers, where Kubernetes rounds to whole points of 100, and ties go to the first node instead of a random one, so
    that a run can be repeated.
    """
    node = np.full(len(pending), -1, np.int32)
    first, members = nodes_of_clusters(snapshot)
    fill_clusters(SPREADING, nodes_of(snapshot), sizes_of(pending), pending.entry_cluster, first, members, node)
    return BePlan(node=node, policy="k8s-native")


def place_kube_spread(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
    """As `place_kube`, by one kube-scheduler for the nodes of all clusters, as if they had joined one control plane."""
    return BePlan(node=_by_one_scheduler(SPREADING, pending, snapshot), policy="k8s-spread")


def place_kube_packed(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
    """One kube-scheduler for the nodes of all clusters that packs: the fullest node that still has room.

    Its NodeResourcesFit scores by RequestedToCapacityRatio with the shape that Kubernetes documents for bin packing, 0 at 0 % and the most
    at 100 % of what a node may give of CPU and of memory, weight 1 each; BalancedAllocation stays as it is by default.
    Source: Kubernetes, "Resource Bin Packing"; pkg/scheduler/framework/plugins/noderesources, `requested_to_capacity_ratio.go`.
    Departures: as of `place_kube`.
    """
    return BePlan(node=_by_one_scheduler(PACKING, pending, snapshot), policy="k8s-packed")


def _by_one_scheduler(strategy: int, pending: BePending, snapshot: FleetSnapshot) -> NDArray[np.int32]:
    node, count = np.full(len(pending), -1, np.int32), len(snapshot.nodes)
    all_nodes = np.array([0, count], np.int64), np.arange(count, dtype=np.int64)
    fill_clusters(strategy, nodes_of(snapshot), sizes_of(pending), np.zeros(len(pending), np.int32), *all_nodes, node)
    return node


def nodes_of_clusters(snapshot: FleetSnapshot) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(c + 1,) and (n,): cluster c has the nodes `members[first[c]:first[c + 1]]`."""
    counts = np.bincount(snapshot.node_cluster, minlength=len(snapshot.clusters))
    first = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    return first, np.argsort(snapshot.node_cluster, kind="stable")


def _over_the_fleet(score: int, pending: BePending, snapshot: FleetSnapshot) -> NDArray[np.int32]:
    node = np.full(len(pending), -1, np.int32)
    sizes = sizes_of(pending)
    fill_fleet(score, nodes_of(snapshot), sizes, new_blocks(len(sizes.kind_cpu_limit), len(snapshot.nodes)), node)
    return node


def nodes_of(snapshot: FleetSnapshot) -> Nodes:
    """The nodes of a snapshot, to be filled."""
    headroom = BeHeadroom(snapshot)
    cpu_allocatable = np.maximum(1.0, snapshot.cpu_allocatable)
    return Nodes(
        ready=snapshot.node_ready,
        free=headroom.free,
        be_limit=headroom.be_limit,
        cpu_allocatable=cpu_allocatable,
        memory_allocatable=np.maximum(1.0, snapshot.memory_allocatable),
        lc_leaves=np.maximum(1.0, snapshot.cpu_allocatable - snapshot.lc_cpu_in_use),
        free_cpu=1 - snapshot.cpu_used / cpu_allocatable,
    )


def sizes_of(pending: BePending) -> Sizes:
    """The requests by their kinds."""
    requests, limit = pending.requests, pending.cpu_limit_millicores
    kind = kinds_of_rows(requests[CPU], limit, *requests[len(EVERYWHERE) :])
    count = int(kind.max(initial=-1)) + 1
    kind_least, kind_limit = np.full((len(requests), count), np.inf), np.zeros(count)
    for least, asked in zip(kind_least, requests, strict=True):
        np.minimum.at(least, kind, asked)
    kind_limit[kind] = limit
    return Sizes(requests=requests, cpu_limit=limit, kind=kind, kind_least=kind_least, kind_cpu_limit=kind_limit)


@inlined
def _worth(state: tuple[int, Nodes, Sizes], kind: int, node: int) -> float:
    score, nodes, sizes = state
    if not (nodes.ready[node] and fits(nodes.free, node, sizes.kind_least, kind)):
        return -np.inf
    return _score(score, nodes, node, sizes.kind_cpu_limit[kind])


@inlined
def _fits_request(state: tuple[int, Nodes, Sizes], request: int, node: int) -> bool:
    _, nodes, sizes = state
    return bool(nodes.ready[node] and fits(nodes.free, node, sizes.requests, request))


_best_node = block_search(_worth, _fits_request)


@in_place
def fill_fleet(score: int, nodes: Nodes, sizes: Sizes, blocks: Blocks, chosen: NDArray[np.int32]) -> None:
    """Place the requests in order, each on the node of the highest score on which it fits; among equals on the first."""
    for request in range(len(chosen)):
        best = _best_node((score, nodes, sizes), request, sizes.kind[request], blocks)
        chosen[request] = best
        if best >= 0:
            count_in_request(nodes, sizes, request, best)
            note_placement(blocks, best)


@in_place
def fill_clusters(
    strategy: int,
    nodes: Nodes,
    sizes: Sizes,
    entry: NDArray[np.int32],
    first: NDArray[np.int64],
    members: NDArray[np.int64],
    chosen: NDArray[np.int32],
) -> None:
    """Place the requests in order on nodes of their entry clusters; cluster c has the nodes `members[first[c]:first[c + 1]]`."""
    for request in range(len(chosen)):
        cluster = entry[request]
        best = best_by_kube(strategy, nodes, sizes, request, first[cluster], first[cluster + 1], members)
        chosen[request] = best
        if best >= 0:
            count_in_request(nodes, sizes, request, best)


@inlined
def best_by_kube(strategy: int, nodes: Nodes, sizes: Sizes, request: int, begin: int, end: int, members: NDArray[np.int64]) -> int:
    """The node of the highest score of kube-scheduler among `members[begin:end]`, of equals the first; -1 where none has room."""
    cpu, memory = sizes.requests[CPU, request], sizes.requests[MEMORY, request]
    best, best_score = -1, -np.inf
    for j in range(begin, end):
        node = members[j]
        if not (nodes.ready[node] and fits(nodes.free, node, sizes.requests, request)):
            continue
        cpu_used = 1 - (nodes.free[CPU, node] - cpu) / nodes.cpu_allocatable[node]
        memory_used = 1 - (nodes.free[MEMORY, node] - memory) / nodes.memory_allocatable[node]
        allocated = (1 - cpu_used + 1 - memory_used) / 2 if strategy == SPREADING else (cpu_used + memory_used) / 2
        # Of two resources the standard deviation, which BalancedAllocation takes off, is half of their difference.
        value = allocated + (1 - abs(cpu_used - memory_used) / 2)
        if value > best_score:
            best, best_score = int(node), value
    return best


@in_place
def _score(score: int, nodes: Nodes, node: int, limit: float) -> float:
    if score == SHARE:
        return float(-(nodes.be_limit[node] + limit) / nodes.lc_leaves[node])
    free_memory = nodes.free[MEMORY, node] / nodes.memory_allocatable[node]
    crowd = nodes.be_limit[node] / nodes.cpu_allocatable[node]
    return float(0.4 * nodes.free_cpu[node] + 0.2 * free_memory - 0.4 * crowd)


@in_place
def count_in_request(nodes: Nodes, sizes: Sizes, request: int, node: int) -> None:
    """Take what a request's pod asks for from what is free on a node."""
    count_in(nodes.free, node, sizes.requests, request)
    nodes.be_limit[node] += sizes.cpu_limit[request]
