"""`prequal`: of some replicas that are probed at random, the cold one of least latency; if all are hot, that of fewest requests.

Source: Wydrowski, Kleinberg, Rumble and Archer, "Load is not what you should balance: Introducing Prequal", NSDI '24 (arXiv:2312.10172):
the hot-cold lexicographic rule. A replica is hot where its requests in flight are above the quantile Q of those of all replicas (Q =
2^-0.25 = 0.84). Departures: the paper's synchronous mode, in which each request probes replicas of its own, not the pool of probes that
are reused; a probe tells what the entry cluster knows (its own replicas as they are, others as published and by what it sent since),
takes no time, and is no message; the quantile is over all replicas that could be probed, not over those of late; the latency is what the
entry cluster has seen of the replica, network included, where a server tells its own at the present requests in flight. The replicas are
those of the nearest few clusters (the paper's are those of one data centre, between which another balancer divides).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.scheduling.lc.columns import Ask, Belief, Exploration, Terrain
from tango.scheduling.lc.policy import CompiledPolicy
from tango.scheduling.lc.replicas import (
    DRAWN,
    MOST_CHOICES,
    MOST_CLUSTERS,
    clusters_within,
    draw_some,
    ranked,
    seen_answer_s,
)
from tango.settings.decisions import LcSettings

PROBES, REACH, QUANTILE = range(3)
"""Columns of the weights."""


def _weights(settings: LcSettings) -> NDArray[np.float64]:
    return np.array([[float(settings.probes), float(settings.reach), settings.hot_quantile]])


@in_place
def is_hot(terrain: Terrain, belief: Belief, ask: Ask, node: int) -> bool:
    """Whether at least the share Q of the replicas that could be probed have fewer requests in flight than this one."""
    mine, fewer, all_of_them = belief.in_flight[ask.service, node], 0, 0
    for rank in range(clusters_within(terrain, terrain.weights[0, REACH])):
        cluster = ranked(terrain, ask.entry, rank)
        for k in range(terrain.first[cluster], terrain.first[cluster + 1]):
            other = terrain.members[k]
            if belief.limit_cores[ask.service, other] > 0.0:
                all_of_them += 1
                if belief.in_flight[ask.service, other] < mine:
                    fewer += 1
    return bool(fewer >= terrain.weights[0, QUANTILE] * all_of_them)


@in_place
def _cold_and_quick(terrain: Terrain, belief: Belief, ask: Ask, _sent: NDArray[np.float64], _explore: Exploration) -> int:
    clusters = clusters_within(terrain, terrain.weights[0, REACH])
    drawn = draw_some(terrain, belief, ask, 0, clusters, False, terrain.weights[0, PROBES])
    cold, least_s, hot, fewest = -1, np.inf, -1, np.inf
    for k in range(drawn):
        node = int(belief.scratch[DRAWN + k])
        if is_hot(terrain, belief, ask, node):
            if belief.in_flight[ask.service, node] < fewest:
                hot, fewest = node, belief.in_flight[ask.service, node]
        else:
            answer_s = seen_answer_s(terrain, belief, ask, node)
            if answer_s < least_s:
                cold, least_s = node, answer_s
    return cold if cold >= 0 else hot


POLICY = CompiledPolicy(
    name="prequal",
    choose=_cold_and_quick,
    observes=True,
    weights=_weights,
    tunable={"probes": (2, MOST_CHOICES), "reach": (1, MOST_CLUSTERS), "hot_quantile": (0.5, 0.99)},
)
