"""`dsaco`: a learned layer scores the offers of the nearest clusters.

One soft actor-critic agent per cluster; all of them share the layer, which `tango.learning.lc_layer` reads from a checkpoint and
`tango.training` learns. It runs inside the compiled dispatch, so that the engine need not leave its loop for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.scheduling.lc.columns import Ask, Belief, Exploration, Terrain
from tango.scheduling.lc.expected_time import network_s, time_alone_s
from tango.scheduling.lc.policy import CompiledPolicy

CANDIDATES = 8
"""Clusters that it looks at: the nearest with an instance."""
OFFER_FEATURES = (
    "network time / budget, at most 4",
    "expected time on the node / budget, at most 4",
    "the offer is of the entry cluster",
    "work in flight / instance limit / budget, at most 4",
    "share of the node's CPU in use",
    "least slack of the node's LC services, at least -4",
)
"""What the layer sees of an offer, as `offer_features` computes it; a checkpoint holds for this list alone."""
LEARNED_FEATURES = len(OFFER_FEATURES)


@dataclass(frozen=True, slots=True)
class ScoredLayer:
    """The learned scores: one hidden layer of rectified units, and their sum by `head`."""

    layer: NDArray[np.float64]
    """(h, LEARNED_FEATURES + 1), bias last."""
    head: NDArray[np.float64]
    """(h,)"""

    def weights(self) -> NDArray[np.float64]:
        """(h, LEARNED_FEATURES + 2) as `Terrain.weights`: features, bias, head."""
        return np.column_stack((self.layer, self.head))


@in_place
def _best_scored(terrain: Terrain, belief: Belief, ask: Ask, _sent: NDArray[np.float64], explore: Exploration) -> int:
    """The offer that the learned scores prefer, among the nearest clusters that have one."""
    entry, service = ask.entry, ask.service
    best, best_score, candidate, taken = -1, -np.inf, 0, -1
    seen = belief.scratch
    for k in range(terrain.near.shape[1]):
        cluster = terrain.near[entry, k]
        node = belief.best_node[service, cluster]
        if node < 0:
            continue
        offer_features(terrain, belief, entry, service, cluster, node, ask.budget_s, seen)
        score = 0.0
        for h in range(len(terrain.weights)):
            held = terrain.weights[h, LEARNED_FEATURES]
            for f in range(LEARNED_FEATURES):
                held += terrain.weights[h, f] * seen[f]
            if held > 0.0:
                score += terrain.weights[h, LEARNED_FEATURES + 1] * held
        if len(explore.noise):
            score += explore.noise[ask.row, candidate]
            for f in range(LEARNED_FEATURES):
                explore.seen[ask.row, candidate, f] = seen[f]
        if score > best_score:
            best, best_score, taken = node, score, candidate
        candidate += 1
        if candidate == CANDIDATES:
            break
    if len(explore.noise):
        explore.chosen[ask.row] = taken
    return int(best)


@in_place
def offer_features(
    terrain: Terrain, belief: Belief, entry: int, service: int, cluster: int, node: int, budget_s: float, out: NDArray[np.float64]
) -> None:
    """Fill in the `OFFER_FEATURES` of an offer."""
    out[0] = min(4.0, network_s(terrain, entry, cluster, service) / budget_s)
    out[1] = min(4.0, time_alone_s(terrain, belief, service, node) / budget_s)
    out[2] = 1.0 if cluster == entry else 0.0
    out[3] = min(4.0, belief.in_flight[service, node] * terrain.work_s[service] / belief.limit_cores[service, node] / budget_s)
    out[4] = 1.0 - belief.free_cpu[node]
    out[5] = max(-4.0, belief.slack[node])


POLICY = CompiledPolicy(name="dsaco", choose=_best_scored, learned=True)
