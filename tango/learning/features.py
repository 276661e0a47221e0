"""The input of the placement network: a graph of cluster and node vertices, every figure a ratio, so that fleets of any size look alike.

Training, simulation and the live scheduler call the same function. Ratios are taken to the node's own allocatable, to the fleet's mean,
or to a fixed scale; what is not a number becomes 0 and what is out of bounds is clipped, so that one odd measurement cannot upset a
decision.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.requests import BePending
from tango.domain.resource_axis import EVERYWHERE
from tango.domain.snapshot import FleetSnapshot
from tango.learning.assignment import Headroom
from tango.scheduling.kinds import kinds_of_rows

NODE_FEATURES = (
    "ready",
    "cpu_allocatable / mean cpu_allocatable of the ready nodes",
    "lc_cpu_in_use / cpu_allocatable",
    "lc_cpu_recent / cpu_allocatable",
    "lc_cpu_request / cpu_allocatable",
    "be_cpu_limit / cpu_allocatable",
    "be_cpu_request / cpu_allocatable",
    "(cpu_allocatable - cpu_requested) / cpu_allocatable",
    "memory_free / memory_allocatable",
    "lc_memory_held / memory_allocatable",
    "cpu_used / cpu_allocatable",
    "slack",
    "in-flight LC work in s / cores",
)
CLUSTER_FEATURES = (
    "cpu_allocatable of the cluster / mean of the clusters",
    "log(1 + pending BE / nodes of the cluster) / 3",
    "ready nodes / nodes",
    "BE limits of the fleet / CPU that LC mostly leaves in it",
    "log(1 + pending BE of the fleet / nodes) / 3",
)
KIND_FEATURES = (
    "cpu_limit / mean cpu_allocatable",
    "cpu_request / cpu_limit",
    "memory / mean memory_allocatable",
)
PAIR_FEATURES = (
    "(be_cpu_limit + the pod's limit) / CPU that LC leaves, at most 4",
    "share of its limit that the pod would get, at most 1",
    "(cpu_requested + the pod's request) / cpu_allocatable",
    "(memory held + the pod's memory) / memory_allocatable",
    "(be_cpu_limit + the pod's limit) / CPU that LC mostly leaves, at most 4",
    "the pod's limit / CPU that LC leaves, at most 4",
    "(CPU that LC leaves - be_cpu_limit - the pod's limit) / mean cpu_allocatable, -4 to 4",
    "(CPU that LC mostly leaves - be_cpu_limit - the pod's limit) / mean cpu_allocatable, -4 to 4",
)
EDGE_FEATURES = ("log(1 + rtt_ms) / 5",)
NEAR_CLUSTERS = 8
"""Edges go to this many nearest clusters at most: the neighbourhood sample of GraphSAGE (Hamilton et al. 2017, section 3.1), which
keeps the cost of a fleet linear in its clusters. The nearest instead of random ones, so that equal snapshots give equal decisions."""
MOST_KINDS = 64
"""Different sizes that are scored exactly; kinds lie side by side in the score, and 64 cost little more than one."""
STEPS_AN_OCTAVE = 2
"""Beyond that, sizes are scored as if rounded to steps of the square root of two; whether a request fits stays exact."""

SCHEMA = hashlib.sha256(
    repr((NODE_FEATURES, CLUSTER_FEATURES, KIND_FEATURES, PAIR_FEATURES, EDGE_FEATURES, NEAR_CLUSTERS)).encode()
).hexdigest()
"""A checkpoint holds for this list of features and for no other."""

_CLIP = 4.0
"""Bound of every feature: ratios lie near 1, so that beyond 4 a larger value tells nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetGraph:
    """n nodes and c clusters with e directed edges between near clusters. Arrays are float32 and int64, ready for torch."""

    node: NDArray[np.float32]
    """(n, len(NODE_FEATURES))"""
    node_cluster: NDArray[np.int64]
    """(n,) the cluster vertex that the node hangs on."""
    cluster: NDArray[np.float32]
    """(c, len(CLUSTER_FEATURES))"""
    edge_from: NDArray[np.int64]
    """(e,) cluster whose state the edge carries"""
    edge_to: NDArray[np.int64]
    """(e,) cluster that receives it"""
    edge: NDArray[np.float32]
    """(e, len(EDGE_FEATURES))"""


def fleet_graph(snapshot: FleetSnapshot) -> FleetGraph:
    """The graph of a fleet. Reordering nodes or clusters reorders the rows and changes nothing else."""
    cpu = np.maximum(snapshot.cpu_allocatable, 1.0)
    memory = np.maximum(snapshot.memory_allocatable, 1.0)
    ready = snapshot.node_ready.astype(np.float64)
    mean_cpu = _mean_of_ready(cpu, snapshot.node_ready)
    recent = recent_of(snapshot)
    node = np.stack(
        (
            ready,
            cpu / mean_cpu,
            snapshot.lc_cpu_in_use / cpu,
            recent / cpu,
            snapshot.lc_cpu_request / cpu,
            snapshot.be_cpu_limit / cpu,
            snapshot.be_cpu_request / cpu,
            (snapshot.cpu_allocatable - snapshot.cpu_requested) / cpu,
            snapshot.memory_free / memory,
            snapshot.lc_memory_held / memory,
            snapshot.cpu_used / cpu,
            snapshot.slack,
            snapshot.in_flight_work_s.sum(axis=0) / cpu * 1e3,
        ),
        axis=1,
    )
    count = len(snapshot.clusters)
    nodes_of = np.maximum(np.bincount(snapshot.node_cluster, minlength=count), 1)
    cluster_cpu = np.bincount(snapshot.node_cluster, weights=cpu, minlength=count)
    nodes = max(1, len(cpu))
    fullness = float((ready * snapshot.be_cpu_limit).sum() / max(1.0, (ready * _left_by(cpu, recent)).sum()))
    pending = float(np.log1p(max(0.0, float(snapshot.pending_be.sum())) / nodes) / 3)
    cluster = np.stack(
        (
            cluster_cpu / max(1.0, float(cluster_cpu.mean())),
            np.log1p(np.maximum(snapshot.pending_be, 0.0) / nodes_of) / 3,
            np.bincount(snapshot.node_cluster, weights=ready, minlength=count) / nodes_of,
            np.full(count, fullness),
            np.full(count, pending),
        ),
        axis=1,
    )
    edge_from, edge_to = _near_clusters(snapshot.rtt_ms)
    return FleetGraph(
        node=_safe(node),
        node_cluster=snapshot.node_cluster.astype(np.int64),
        cluster=_safe(cluster),
        edge_from=edge_from,
        edge_to=edge_to,
        edge=_safe(np.log1p(snapshot.rtt_ms[edge_from, edge_to])[:, None] / 5),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """The u kinds among k pending requests: requests of one kind are scored once."""

    of_request: NDArray[np.int64]
    """(k,) row of the request's kind."""
    sizes: NDArray[np.float64]
    """(u, 3) CPU request and limit in millicores, memory in MiB, by which the kind is scored."""
    least: NDArray[np.float64]
    """(r, u) the least of each resource among the kind's requests."""
    features: NDArray[np.float32]
    """(u, len(KIND_FEATURES))"""


def kinds_of(pending: BePending, snapshot: FleetSnapshot) -> Kinds:
    """Group the pending requests by size; where there are more than `MOST_KINDS` sizes, by size rounded to `STEPS_AN_OCTAVE`."""
    own, extended = _sizes_of(pending), pending.requests[len(EVERYWHERE) :]
    of_request = kinds_of_rows(*own.T, *extended)
    if len(own) and of_request.max() >= MOST_KINDS:
        # Memory differs from request to request in recorded traces; all else is the service's.
        of_request = kinds_of_rows(own[:, 0], own[:, 1], _rounded(own[:, 2]), *extended)
        if of_request.max() >= MOST_KINDS * STEPS_AN_OCTAVE:
            of_request = kinds_of_rows(*_rounded(own).T, *_rounded(extended))
    count = int(of_request.max(initial=-1)) + 1
    smallest, largest = np.full((count, 3), np.inf), np.zeros((count, 3))
    np.minimum.at(smallest, of_request, own)
    np.maximum.at(largest, of_request, own)
    sizes = (smallest + largest) / 2
    least = np.full((len(pending.requests), count), np.inf)
    for of_kinds, asked in zip(least, pending.requests, strict=True):
        np.minimum.at(of_kinds, of_request, asked)
    mean_cpu = _mean_of_ready(np.maximum(snapshot.cpu_allocatable, 1.0), snapshot.node_ready)
    mean_memory = _mean_of_ready(np.maximum(snapshot.memory_allocatable, 1.0), snapshot.node_ready)
    features = np.stack((sizes[:, 1] / mean_cpu, sizes[:, 0] / np.maximum(sizes[:, 1], 1.0), sizes[:, 2] / mean_memory), axis=1)
    return Kinds(of_request=of_request, sizes=sizes, least=least, features=_safe(features))


def _sizes_of(pending: BePending) -> NDArray[np.float64]:
    """(k, 3) CPU request and limit in millicores, memory in MiB."""
    return np.stack((pending.cpu_request_millicores, pending.cpu_limit_millicores, pending.memory_mib), axis=1)


def _rounded(size: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.round(np.log2(np.maximum(size, 1.0)) * STEPS_AN_OCTAVE)


def node_headroom(snapshot: FleetSnapshot) -> Headroom:
    """What each node has and what is held of it, as `assignment` takes it."""
    cpu = snapshot.cpu_allocatable
    mean_cpu = _mean_of_ready(np.maximum(cpu, 1.0), snapshot.node_ready)
    figures = (
        np.maximum(cpu, 1.0),
        snapshot.cpu_requested,
        snapshot.be_cpu_limit,
        np.maximum(cpu - snapshot.lc_cpu_in_use, 1.0),
        _left_by(cpu, recent_of(snapshot)),
        np.maximum(snapshot.memory_allocatable, 1.0),
        snapshot.memory_allocatable - snapshot.memory_free,
        np.full(len(cpu), mean_cpu),
    )
    return Headroom(ready=snapshot.node_ready, free=snapshot.free, figures=np.stack(figures, axis=1))


def recent_of(snapshot: FleetSnapshot) -> NDArray[np.float64]:
    """(n,) running mean of the millicores that LC uses; what it uses now where no mean was kept."""
    return snapshot.lc_cpu_in_use if snapshot.lc_cpu_recent is None else snapshot.lc_cpu_recent


def _left_by(cpu: NDArray[np.float64], lc: NDArray[np.float64]) -> NDArray[np.float64]:
    """CPU that LC leaves of a node. At least a twentieth: LC that uses the whole node on average still leaves some of it at times."""
    return np.maximum(cpu - lc, 0.05 * cpu + 1.0)


_Edges = tuple[NDArray[np.int64], NDArray[np.int64]]
_last_edges: tuple[NDArray[np.float64], _Edges] | None = None


def _near_clusters(rtt_ms: NDArray[np.float64]) -> _Edges:
    """Edges from each cluster's nearest others to it; ties go to the lower row.

    Round trips hardly ever change, and sorting those of 1,000 clusters takes longer than all the rest: the last edges are kept.
    """
    global _last_edges
    last = _last_edges  # one tuple, read and replaced whole: another thread's edges may be lost, never mixed up
    if last is None or not (np.array_equal(last[0], rtt_ms)):
        last = _last_edges = rtt_ms.copy(), _sorted_edges(rtt_ms)
    return last[1]


def _sorted_edges(rtt_ms: NDArray[np.float64]) -> _Edges:
    count = len(rtt_ms)
    near = min(NEAR_CLUSTERS, count - 1)
    if near <= 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    others = rtt_ms + np.diag(np.full(count, np.inf))
    order = np.argsort(others, axis=1, kind="stable")[:, :near]
    return order.reshape(-1).astype(np.int64), np.repeat(np.arange(count, dtype=np.int64), near)


def _mean_of_ready(values: NDArray[np.float64], ready: NDArray[np.bool_]) -> float:
    chosen = values[ready] if ready.any() else values
    return float(chosen.mean()) if len(chosen) else 1.0


def _safe(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Within bounds, and 0 where it is not a number. A new array; `values` is changed."""
    np.minimum(np.maximum(values, -_CLIP, out=values), _CLIP, out=values)  # infinities too; what is not a number stays so
    values[np.isnan(values)] = 0.0
    return values.astype(np.float32)
