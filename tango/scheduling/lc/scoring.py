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
from tango.settings import LcSettings

FREE_CPU, FREE_MEMORY, NEAR, QUEUE = range(4)
"""Places in `score_weights`."""


def _weights(settings: LcSettings) -> NDArray[np.float64]:
    return np.array([settings.score_weights])


@inlined
def _score(t: Terrain, b: Belief, s: int, n: int) -> float:
    """What of the score is the node's own, the queue scaled by the longest one; the least is the best."""
    if b.limit_cores[s, n] <= 0.0:
        return np.inf
    queue = b.in_flight[s, n] / b.limit_cores[s, n] / b.longest_queue[s]
    w = t.weights
    return float(w[0, QUEUE] * queue - w[0, FREE_CPU] * b.free_cpu[n] - w[0, FREE_MEMORY] * b.free_memory[n])


@in_place
def _least_score(t: Terrain, b: Belief, ask: Ask, _sent: NDArray[np.float64], _explore: Exploration) -> int:
    """The node of the least score; nearness is scaled by the farthest cluster."""
    entry, s = ask.entry, ask.service
    farthest = t.near[entry, t.near.shape[1] - 1]
    scale = max(1e-9, network_s(t, entry, farthest, s))
    best, least = -1, np.inf
    for c in range(t.near.shape[1]):
        n = b.best_node[s, c]
        if n < 0:
            continue
        cost = t.weights[0, NEAR] * network_s(t, entry, c, s) / scale + b.best_price[s, c]
        if cost < least or (cost == least and n < best):
            best, least = n, cost
    return best


POLICY = CompiledPolicy(
    name="scoring",
    choose=_least_score,
    price=_score,
    weights=_weights,
    tunable={f"score_weights.{k}": (0.0, 1.0) for k in range(4)},
)
