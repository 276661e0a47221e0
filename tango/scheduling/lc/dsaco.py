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
def _best_scored(t: Terrain, b: Belief, ask: Ask, _sent: NDArray[np.float64], explore: Exploration) -> int:
    """The offer that the learned scores prefer, among the nearest clusters that have one."""
    entry, s = ask.entry, ask.service
    best, best_score, candidate, taken = -1, -np.inf, 0, -1
    seen = b.scratch
    for k in range(t.near.shape[1]):
        c = t.near[entry, k]
        n = b.best_node[s, c]
        if n < 0:
            continue
        offer_features(t, b, entry, s, c, n, ask.budget_s, seen)
        score = 0.0
        for h in range(len(t.weights)):
            held = t.weights[h, LEARNED_FEATURES]
            for f in range(LEARNED_FEATURES):
                held += t.weights[h, f] * seen[f]
            if held > 0.0:
                score += t.weights[h, LEARNED_FEATURES + 1] * held
        if len(explore.noise):
            score += explore.noise[ask.row, candidate]
            for f in range(LEARNED_FEATURES):
                explore.seen[ask.row, candidate, f] = seen[f]
        if score > best_score:
            best, best_score, taken = n, score, candidate
        candidate += 1
        if candidate == CANDIDATES:
            break
    if len(explore.noise):
        explore.chosen[ask.row] = taken
    return int(best)


@in_place
def offer_features(t: Terrain, b: Belief, entry: int, s: int, c: int, n: int, budget_s: float, out: NDArray[np.float64]) -> None:
    """Fill in the `OFFER_FEATURES` of an offer."""
    out[0] = min(4.0, network_s(t, entry, c, s) / budget_s)
    out[1] = min(4.0, time_alone_s(t, b, s, n) / budget_s)
    out[2] = 1.0 if c == entry else 0.0
    out[3] = min(4.0, b.in_flight[s, n] * t.work_s[s] / b.limit_cores[s, n] / budget_s)
    out[4] = 1.0 - b.free_cpu[n]
    out[5] = max(-4.0, b.slack[n])


POLICY = CompiledPolicy(name="dsaco", choose=_best_scored, learned=True)
