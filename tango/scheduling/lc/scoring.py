"""`scoring`: a weighted sum of free CPU, free memory, nearness and a short queue.

The way of a Kubernetes scheduler's score plugins, over the whole fleet; the weights are settings (`LcSettings.score_weights`), searched
by `tango tune`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined
from tango.scheduling.lc.columns import Ask, Belief, Exploration, Terrain
from tango.scheduling.lc.expected_time import network_s
from tango.scheduling.lc.policy import CompiledPolicy
from tango.settings.decisions import LcSettings

FREE_CPU, FREE_MEMORY, NEAR, QUEUE = range(4)
"""Places in `score_weights`."""


def _weights(settings: LcSettings) -> NDArray[np.float64]:
    return np.array([settings.score_weights])


@inlined
def _score(terrain: Terrain, belief: Belief, service: int, node: int) -> float:
    """What of the score is the node's own, the queue scaled by the longest one; the least is the best."""
    if belief.limit_cores[service, node] <= 0.0:
        return np.inf
    queue = belief.in_flight[service, node] / belief.limit_cores[service, node] / belief.longest_queue[service]
    weights = terrain.weights
    return float(
        weights[0, QUEUE] * queue
        - weights[0, FREE_CPU] * belief.free_cpu[node]
        - weights[0, FREE_MEMORY] * belief.free_memory[node]
    )


@in_place
def _least_score(terrain: Terrain, belief: Belief, ask: Ask, _sent: NDArray[np.float64], _explore: Exploration) -> int:
    """The node of the least score; nearness is scaled by the farthest cluster."""
    entry, service = ask.entry, ask.service
    farthest = terrain.near[entry, terrain.near.shape[1] - 1]
    scale = max(1e-9, network_s(terrain, entry, farthest, service))
    best, least = -1, np.inf
    for cluster in range(terrain.near.shape[1]):
        node = belief.best_node[service, cluster]
        if node < 0:
            continue
        cost = terrain.weights[0, NEAR] * network_s(terrain, entry, cluster, service) / scale + belief.best_price[service, cluster]
        if cost < least or (cost == least and node < best):
            best, least = node, cost
    return best


POLICY = CompiledPolicy(
    name="scoring",
    choose=_least_score,
    price=_score,
    weights=_weights,
    tunable={f"score_weights.{k}": (0.0, 1.0) for k in range(4)},
)
