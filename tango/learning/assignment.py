"""Places many requests by one forward pass: the network's node embeddings stay, only the sums that a placement changes are renewed.

The score of kind u on node n is `w . relu(A z_n + B q_u + C p_un + b)`: `A z_n` and `B q_u` come from torch once a tick, `p_un` (the pair
features) depends on what the tick has already given out. A placement changes `p` on one node, so it costs one column of scores.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Columns of the room matrix that `features.node_room` gives.
READY, CPU, REQUESTED, BE_LIMIT, LC_LEAVES, ABOVE_LC_LIMITS, MEMORY, MEMORY_HELD = range(8)
PAIRS = 6


@njit(cache=True)
def pair_features(room: NDArray[np.float64], size: NDArray[np.float64], out: NDArray[np.float32]) -> bool:
    """Fill the (6,) pair features of one pod size on one node; False when it does not fit there."""
    request, limit, memory = size[0], size[1], size[2]
    limits = room[BE_LIMIT] + limit
    out[0] = min(4.0, limits / room[LC_LEAVES])
    out[1] = min(1.0, room[LC_LEAVES] / limits)
    out[2] = (room[REQUESTED] + request) / room[CPU]
    out[3] = (room[MEMORY_HELD] + memory) / room[MEMORY]
    out[4] = min(4.0, limits / room[ABOVE_LC_LIMITS])
    out[5] = min(4.0, limit / room[LC_LEAVES])
    return bool(room[READY] > 0.0 and room[REQUESTED] + request <= room[CPU] and room[MEMORY_HELD] + memory <= room[MEMORY])


@njit(cache=True)
def _score(
    node: NDArray[np.float32],
    kind: NDArray[np.float32],
    pair: NDArray[np.float32],
    weights: NDArray[np.float32],
    head: NDArray[np.float32],
) -> float:
    total = 0.0
    for h in range(len(node)):
        held = node[h] + kind[h]
        for d in range(PAIRS):
            held += weights[h, d] * pair[d]
        if held > 0.0:
            total += head[h] * held
    return total


@njit(cache=True)
def assign(
    nodes: NDArray[np.float32],
    kinds: NDArray[np.float32],
    weights: NDArray[np.float32],
    head: NDArray[np.float32],
    room: NDArray[np.float64],
    sizes: NDArray[np.float64],
    of_request: NDArray[np.int64],
    noise: NDArray[np.float32],
    record: NDArray[np.float32],
    allowed: NDArray[np.bool_],
) -> NDArray[np.int32]:
    """Place k requests in order on n nodes, each where its score is highest; -1 where it fits nowhere. `room` is counted down.

    `nodes` (n, h) and `kinds` (u, h) are the projected embeddings, `weights` (h, 6) and `head` (h,) the rest of the actor, `of_request`
    (k,) rows of `sizes` (u, 3). `noise` is (0, 0), or (k, n) Gumbel noise, which turns the choice into a sample of the softmax.
    `record` (k, n, 6) and `allowed` (k, n) take what each choice saw, for training; of length 0 they take nothing.
    """
    count, kind_count, requests = len(nodes), len(kinds), len(of_request)
    pair = np.zeros((kind_count, count, PAIRS), np.float32)
    fits = np.zeros((kind_count, count), np.bool_)
    scores = np.zeros((kind_count, count), np.float64)
    for u in range(kind_count):
        for n in range(count):
            fits[u, n] = pair_features(room[n], sizes[u], pair[u, n])
            scores[u, n] = _score(nodes[n], kinds[u], pair[u, n], weights, head)
    chosen = np.full(requests, -1, np.int32)
    for k in range(requests):
        u = of_request[k]
        if len(record):
            record[k] = pair[u]
            allowed[k] = fits[u]
        best = -1
        best_score = -np.inf
        for n in range(count):
            if fits[u, n]:
                score = scores[u, n] + noise[k, n] if len(noise) else scores[u, n]
                if score > best_score:
                    best, best_score = n, score
        chosen[k] = best
        if best < 0:
            continue
        room[best, REQUESTED] += sizes[u, 0]
        room[best, BE_LIMIT] += sizes[u, 1]
        room[best, MEMORY_HELD] += sizes[u, 2]
        for other in range(kind_count):
            fits[other, best] = pair_features(room[best], sizes[other], pair[other, best])
            scores[other, best] = _score(nodes[best], kinds[other], pair[other, best], weights, head)
    return chosen
