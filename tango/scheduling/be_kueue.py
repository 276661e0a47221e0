"""`kueue`: quotas by cluster that may be borrowed, oldest request first, and kube-scheduler in the cluster that admitted it.

As Kueue with a ClusterQueue for each cluster, all in one cohort, strategy BestEffortFIFO: a request goes through the clusters as flavors,
its own first and then the nearest, and is admitted by the first whose unused quota covers it; one that is covered nowhere waits without
holding up those behind it. A cluster's quota is what its LC instances leave of its nodes. Then kube-scheduler's default scores choose a
node there. Quotas are sums over nodes, so that a request may be admitted where no single node has room: it holds its quota and waits for
one, as in Kueue without topology-aware scheduling. Source: Kueue, "ClusterQueue" (queueing strategies, flavors, cohorts and borrowing).
Departures: what was admitted and found no node is admitted anew in the next tick, perhaps elsewhere (Kueue evicts it when its pods are
not ready in time); nothing that was lent is reclaimed by preemption; a flavor on none of whose nodes a request would fit when it is empty
is left out, where Kueue would let it wait there for ever.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.node_model.capacity import count_in, fits
from tango.scheduling.be_policies import (
    SPREADING,
    Nodes,
    Sizes,
    best_by_kube,
    count_in_request,
    nodes_of,
    nodes_of_clusters,
    sizes_of,
)
from tango.settings.decisions import BeSettings


class Queues(NamedTuple):
    """The ClusterQueues of a cohort; c clusters, n nodes, r resources."""

    first: NDArray[np.int64]
    """(c + 1,) cluster c has the nodes `members[first[c]:first[c + 1]]`"""
    members: NDArray[np.int64]
    """(n,)"""
    near: NDArray[np.int64]
    """(c, c) clusters by round trip, nearest first"""
    left: NDArray[np.float64]
    """(r, c) unused quotas"""
    empty: NDArray[np.float64]
    """(r, n) what nodes have without BE"""


def place_kueue(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
    """Admit by quota, then place by kube-scheduler in the cluster that admitted."""
    return BePlan(node=_filled(pending, snapshot)[1], policy="kueue")


def admitting_cluster(pending: BePending, snapshot: FleetSnapshot, request: int) -> int:
    """The cluster whose quota admits the request of a row, those before it admitted; -1: none does."""
    return int(_filled(pending.rows(np.arange(request + 1)), snapshot)[0][request])


def _filled(pending: BePending, snapshot: FleetSnapshot) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(k,) the cluster that admits each request, and its node; -1: none."""
    admitted, node = np.full(len(pending), -1, np.int32), np.full(len(pending), -1, np.int32)
    first, members = nodes_of_clusters(snapshot)
    near = np.argsort(snapshot.rtt_ms, axis=1, kind="stable")
    empty = snapshot.allocatable - snapshot.lc_requests
    queues = Queues(first, members, near, unused_quota(snapshot), empty)
    fill_queues(nodes_of(snapshot), sizes_of(pending), pending.entry_cluster, queues, admitted, node)
    return admitted, node


def unused_quota(snapshot: FleetSnapshot) -> NDArray[np.float64]:
    """(r, c) what is left of each cluster's quota: what LC leaves of its ready nodes, less what BE pods hold there."""
    left = np.zeros((len(snapshot.allocatable), len(snapshot.clusters)))
    free = np.where(snapshot.node_ready, snapshot.free, 0.0)
    for resource, of_nodes in enumerate(free):
        left[resource] = np.bincount(snapshot.node_cluster, weights=of_nodes, minlength=left.shape[1])
    return left


@in_place
def fill_queues(
    nodes: Nodes,
    sizes: Sizes,
    entry: NDArray[np.int32],
    queues: Queues,
    admitted: NDArray[np.int32],
    chosen: NDArray[np.int32],
) -> None:
    """Admit and place the requests in order; quotas are counted down."""
    for request in range(len(chosen)):
        cluster = _admitting(nodes, sizes, request, entry[request], queues)
        admitted[request] = cluster
        if cluster < 0:
            continue
        count_in(queues.left, cluster, sizes.requests, request)
        begin, end = queues.first[cluster], queues.first[cluster + 1]
        best = best_by_kube(SPREADING, nodes, sizes, request, begin, end, queues.members)
        chosen[request] = best
        if best >= 0:
            count_in_request(nodes, sizes, request, best)


@in_place
def _admitting(nodes: Nodes, sizes: Sizes, request: int, home: int, queues: Queues) -> int:
    """The first cluster, `home` and then the nearest, whose unused quota covers a request that would fit on one of its nodes; -1: none."""
    for rank in range(-1, queues.near.shape[1]):
        cluster = int(home if rank < 0 else queues.near[home, rank])
        if (rank >= 0 and cluster == home) or not fits(queues.left, cluster, sizes.requests, request):
            continue
        for k in range(queues.first[cluster], queues.first[cluster + 1]):
            node = queues.members[k]
            if nodes.ready[node] and fits(queues.empty, node, sizes.requests, request):
                return cluster
    return -1
