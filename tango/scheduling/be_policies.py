"""BE policies that are not learned. Each places the requests in order and counts what it has given out in the tick."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.be_room import BeRoom
from tango.settings import BeSettings

Score = Callable[[BeRoom, BePending, int], NDArray[np.float64]]


def place_load_greedy(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
    """The node on which BE gets the largest share of what LC leaves, this request included, among those that fit."""

    left = np.maximum(1.0, snapshot.cpu_allocatable - snapshot.lc_cpu_in_use)

    def share(room: BeRoom, pending: BePending, k: int) -> NDArray[np.float64]:
        after: NDArray[np.float64] = -(room.be_limit + pending.cpu_limit_millicores[k]) / left
        return after

    return _placed(pending, snapshot, share, "load-greedy")


def place_kube(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
    """kube-scheduler's NodeResourcesFit (LeastAllocated) and BalancedAllocation, weight 1 each, in the entry cluster."""

    def score(room: BeRoom, pending: BePending, k: int) -> NDArray[np.float64]:
        cpu = 1 - (room.cpu_millicores - pending.cpu_request_millicores[k]) / np.maximum(1.0, snapshot.cpu_allocatable)
        memory = 1 - (room.memory_mib - pending.memory_mib[k]) / np.maximum(1.0, snapshot.memory_allocatable)
        balanced = 1 - np.abs(cpu - memory) / 2
        at_home = snapshot.node_cluster == pending.entry_cluster[k]
        return np.where(at_home, (1 - cpu + 1 - memory) / 2 + balanced, -np.inf)

    return _placed(pending, snapshot, score, "k8s-native")


def place_scoring(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
    """Weighted free CPU, free memory and short queue."""

    free_cpu = 1 - snapshot.cpu_used / np.maximum(1.0, snapshot.cpu_allocatable)

    def score(room: BeRoom, pending: BePending, k: int) -> NDArray[np.float64]:
        free_memory = room.memory_mib / np.maximum(1.0, snapshot.memory_allocatable)
        crowd = room.be_limit / np.maximum(1.0, snapshot.cpu_allocatable)
        return 0.4 * free_cpu + 0.2 * free_memory - 0.4 * crowd

    return _placed(pending, snapshot, score, "scoring")


def _placed(pending: BePending, snapshot: FleetSnapshot, score: Score, policy: str) -> BePlan:
    room = BeRoom(snapshot)
    node = np.full(len(pending), -1, np.int32)
    for k in range(len(pending)):
        scores = np.where(room.fits(pending, k), score(room, pending, k), -np.inf)
        if len(scores) and np.isfinite(scores.max()):
            node[k] = int(np.argmax(scores))
            room.take(pending, k, int(node[k]))
    return BePlan(node=node, policy=policy)
