"""What the built-in BE policies weigh for one request: the scores of `be_policies`, for all nodes, with what they are made of.

It is asked beside decisions, for few requests, and no policy depends on it: plain arrays, where the policies are compiled and look at as
few nodes as they can. Tests hold both to the same choices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.domain.candidates import SHARE, Weighing
from tango.domain.requests import BePending
from tango.domain.resource_axis import CPU, MEMORY, lacks
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.be_headroom import BeHeadroom
from tango.scheduling.be_kueue import admitting_cluster


class Turn(NamedTuple):
    """The fleet when it was one request's turn: those before it are counted in."""

    request: int
    """Its row."""
    headroom: BeHeadroom
    takes: NDArray[np.bool_]
    """(n,) nodes that are open and have room for it."""


def turn_of(pending: BePending, snapshot: FleetSnapshot, node: NDArray[np.int32], request: int) -> Turn:
    """`node` (k,) is where the decision has put each request, -1 for none."""
    headroom = BeHeadroom(snapshot)
    for earlier in range(request):
        if (at := int(node[earlier])) >= 0:
            headroom.free[:, at] -= pending.requests[:, earlier]
            headroom.be_limit[at] += pending.cpu_limit_millicores[earlier]
    short = lacks(pending.requests[:, request][:, None], headroom.free).any(axis=0)
    return Turn(request, headroom, snapshot.node_ready & ~short)


def _load_greedy(pending: BePending, snapshot: FleetSnapshot, turn: Turn) -> Weighing:
    leaves = np.maximum(1.0, snapshot.cpu_allocatable - snapshot.lc_cpu_in_use)
    own = pending.cpu_limit_millicores[turn.request]
    return Weighing(
        policy="load-greedy",
        rule="the least of what LC leaves taken by limits of BE",
        price=(turn.headroom.be_limit + own) / leaves,
        takes=turn.takes,
        unit=SHARE,
        parts={"BE that is there": turn.headroom.be_limit / leaves, "its own limit": own / leaves},
        figures={"CPU that LC leaves, millicores": leaves},
        free=turn.headroom.free,
    )


def _scoring(pending: BePending, snapshot: FleetSnapshot, turn: Turn) -> Weighing:
    cpu, memory = np.maximum(1.0, snapshot.cpu_allocatable), np.maximum(1.0, snapshot.memory_allocatable)
    idle = 1 - snapshot.cpu_used / cpu
    free_memory, crowd = turn.headroom.free[MEMORY] / memory, turn.headroom.be_limit / cpu
    return Weighing(
        policy="scoring",
        rule="the highest weighted sum of idle CPU, free memory and little BE",
        price=0.4 * idle + 0.2 * free_memory - 0.4 * crowd,
        takes=turn.takes,
        highest_wins=True,
        parts={"idle CPU": 0.4 * idle, "free memory": 0.2 * free_memory, "BE that is there": -0.4 * crowd},
        free=turn.headroom.free,
    )


def _kube(pending: BePending, snapshot: FleetSnapshot, turn: Turn) -> Weighing:
    at_home = snapshot.node_cluster == pending.entry_cluster[turn.request]
    return _by_kube("k8s-native", "the highest score of kube-scheduler in its entry cluster", pending, snapshot, turn, at_home)


def _spread(pending: BePending, snapshot: FleetSnapshot, turn: Turn) -> Weighing:
    rule = "the highest score of kube-scheduler, which prefers free nodes"
    return _by_kube("k8s-spread", rule, pending, snapshot, turn, np.ones(len(snapshot.nodes), np.bool_))


def _packed(pending: BePending, snapshot: FleetSnapshot, turn: Turn) -> Weighing:
    rule = "the highest score of kube-scheduler, which prefers full nodes"
    return _by_kube("k8s-packed", rule, pending, snapshot, turn, np.ones(len(snapshot.nodes), np.bool_), packs=True)


def _kueue(pending: BePending, snapshot: FleetSnapshot, turn: Turn) -> Weighing:
    in_it = snapshot.node_cluster == admitting_cluster(pending, snapshot, turn.request)
    rule = "the highest score of kube-scheduler in the cluster whose quota admitted it"
    return _by_kube("kueue", rule, pending, snapshot, turn, in_it)


def _by_kube(
    policy: str,
    rule: str,
    pending: BePending,
    snapshot: FleetSnapshot,
    turn: Turn,
    among: NDArray[np.bool_],
    *,
    packs: bool = False,
) -> Weighing:
    """kube-scheduler's scores of the nodes `among` which it chooses."""
    free, asked = turn.headroom.free, pending.requests[:, turn.request]
    cpu_used = 1 - (free[CPU] - asked[CPU]) / np.maximum(1.0, snapshot.cpu_allocatable)
    memory_used = 1 - (free[MEMORY] - asked[MEMORY]) / np.maximum(1.0, snapshot.memory_allocatable)
    allocated, balanced = (1 - cpu_used + 1 - memory_used) / 2, 1 - abs(cpu_used - memory_used) / 2
    if packs:
        allocated = (cpu_used + memory_used) / 2
    return Weighing(
        policy=policy,
        rule=rule,
        price=np.where(among, allocated + balanced, np.nan),
        takes=turn.takes & among,
        highest_wins=True,
        parts={"requested to capacity" if packs else "least allocated": allocated, "balanced allocation": balanced},
        free=free,
    )


_BY_POLICY: Mapping[str, Callable[[BePending, FleetSnapshot, Turn], Weighing]] = {
    "load-greedy": _load_greedy,
    "scoring": _scoring,
    "k8s-native": _kube,
    "k8s-spread": _spread,
    "k8s-packed": _packed,
    "kueue": _kueue,
}
WEIGHED_BE = tuple(_BY_POLICY)
"""Policies that tell their prices here."""


def weigh_be(policy: str, pending: BePending, snapshot: FleetSnapshot, node: NDArray[np.int32], request: int) -> Weighing:
    """What a policy of `WEIGHED_BE` weighed for the request of a row, when it decided `node` (k,) on this snapshot."""
    return _BY_POLICY[policy](pending, snapshot, turn_of(pending, snapshot, node, request))
