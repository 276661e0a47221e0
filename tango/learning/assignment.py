"""Places many requests by one forward pass: the network's node embeddings stay, only the sums that a placement changes are renewed.

Requests of equal size are one kind (`features.kinds_of`). The score of kind u on node n is `w . relu(A z_n + B q_u + C p_un + b)`:
`A z_n` (node embeddings) and `B q_u` (kinds) come from torch once a tick, `p_un` (the pair features) depends on what the tick has already
given out. A placement changes `p` on one node only, so it costs one row of scores, computed for all kinds at once: kinds lie side by
side in memory, so that the loops over them become vector instructions. The best node is found by blocks of nodes
(`tango.scheduling.block_search`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.compiled import compiled, in_place, inlined
from tango.scheduling.block_search import block_search, new_blocks, note_placement

# Columns of the matrix that `features.node_headroom` makes: what each node has, and what is held of it.
READY, CPU, REQUESTED, BE_LIMIT, LC_LEAVES, LC_LEAVES_MOSTLY, MEMORY, MEMORY_HELD, SCALE = range(9)
REQUEST, LIMIT, HELD = range(3)
"""Columns of sizes: CPU request and limit in millicores, memory in MiB."""
PAIRS = 8
"""Pair features, as many as `features.PAIR_FEATURES`."""

_ZERO = np.float32(0.0)
"""A plain 0.0 is a float64 to numba and would make the sums around it float64 too."""


class Scorer(NamedTuple):
    """The actor network's last layers, applied to n nodes and u kinds as far as they do not depend on placements; hidden width h."""

    nodes: NDArray[np.float32]
    """(n, h) projected embeddings, bias included"""
    kinds: NDArray[np.float32]
    """(h, u) projected kinds"""
    weights: NDArray[np.float32]
    """(h, PAIRS) of the pair features"""
    head: NDArray[np.float32]
    """(h,) from the hidden layer to the score"""


class Demand(NamedTuple):
    """k requests in u kinds. A request is scored by its kind's size and fits by its own."""

    of_request: NDArray[np.int64]
    """(k,) row of the request's kind"""
    sizes: NDArray[np.float64]
    """(k, 3) of the requests themselves"""
    scored: NDArray[np.float64]
    """(u, 3) of the kinds, by which they are scored"""
    least: NDArray[np.float64]
    """(u, 3) the least of each column among the kind's requests"""


@in_place
def pair_features(headroom: NDArray[np.float64], node: int, sizes: NDArray[np.float64], pair: NDArray[np.float32]) -> None:
    """Fill the pair features (PAIRS, u) of all sizes (u, 3) on one node, in the order of `features.PAIR_FEATURES`."""
    leaves, mostly, scale = headroom[node, LC_LEAVES], headroom[node, LC_LEAVES_MOSTLY], headroom[node, SCALE]
    for u in range(len(sizes)):
        limits = headroom[node, BE_LIMIT] + sizes[u, LIMIT]
        pair[0, u] = min(4.0, limits / leaves)
        pair[1, u] = min(1.0, leaves / limits)
        pair[2, u] = (headroom[node, REQUESTED] + sizes[u, REQUEST]) / headroom[node, CPU]
        pair[3, u] = (headroom[node, MEMORY_HELD] + sizes[u, HELD]) / headroom[node, MEMORY]
        pair[4, u] = min(4.0, limits / mostly)
        pair[5, u] = min(4.0, sizes[u, LIMIT] / leaves)
        pair[6, u] = max(-4.0, min(4.0, (leaves - limits) / scale))
        pair[7, u] = max(-4.0, min(4.0, (mostly - limits) / scale))


@in_place
def fits(headroom: NDArray[np.float64], node: int, sizes: NDArray[np.float64], row: int) -> bool:
    """Whether the size of a row fits on the node beside what it holds."""
    return bool(
        headroom[node, READY] > 0.0
        and headroom[node, REQUESTED] + sizes[row, REQUEST] <= headroom[node, CPU]
        and headroom[node, MEMORY_HELD] + sizes[row, HELD] <= headroom[node, MEMORY]
    )


@in_place
def score_node(
    scorer: Scorer, demand: Demand, headroom: NDArray[np.float64], node: int, pair: NDArray[np.float32], scores: NDArray[np.float32]
) -> None:
    """Fill the node's row of `scores` (n, u), minus infinity where not even the least of a kind fits; `pair` (PAIRS, u) is scratch."""
    kinds = len(demand.scored)
    pair_features(headroom, node, demand.scored, pair)
    weights = scorer.weights
    # The loop over pair features is unrolled by hand, so that the inner loop over kinds has no other loop in it and is vectorised.
    for u in range(kinds):
        scores[node, u] = _ZERO
    for h in range(len(scorer.head)):
        of_node, head = scorer.nodes[node, h], scorer.head[h]
        w0, w1, w2, w3 = weights[h, 0], weights[h, 1], weights[h, 2], weights[h, 3]
        w4, w5, w6, w7 = weights[h, 4], weights[h, 5], weights[h, 6], weights[h, 7]
        for u in range(kinds):
            held = of_node + scorer.kinds[h, u]
            held += w0 * pair[0, u]
            held += w1 * pair[1, u]
            held += w2 * pair[2, u]
            held += w3 * pair[3, u]
            held += w4 * pair[4, u]
            held += w5 * pair[5, u]
            held += w6 * pair[6, u]
            held += w7 * pair[7, u]
            scores[node, u] += head * (held if held > _ZERO else _ZERO)
    for u in range(kinds):
        if not fits(headroom, node, demand.least, u):
            scores[node, u] = -np.inf


@in_place
def count_in(headroom: NDArray[np.float64], node: int, sizes: NDArray[np.float64], row: int) -> None:
    """Count the size of a row in on the node."""
    headroom[node, REQUESTED] += sizes[row, REQUEST]
    headroom[node, BE_LIMIT] += sizes[row, LIMIT]
    headroom[node, MEMORY_HELD] += sizes[row, HELD]


@inlined
def _worth(state: tuple[NDArray[np.float32], Demand, NDArray[np.float64]], kind: int, node: int) -> float:
    return state[0][node, kind]  # type: ignore[no-any-return]


@inlined
def _fits_request(state: tuple[NDArray[np.float32], Demand, NDArray[np.float64]], request: int, node: int) -> bool:
    _, demand, headroom = state
    return fits(headroom, node, demand.sizes, request)


_best_node = block_search(_worth, _fits_request)


@compiled
def assign(scorer: Scorer, demand: Demand, headroom: NDArray[np.float64]) -> NDArray[np.int32]:
    """Place the requests in order, each where its score is highest; -1 where it fits nowhere. `headroom` (n, 9) is counted down."""
    count, kinds = len(headroom), len(demand.scored)
    pair = np.zeros((PAIRS, kinds), np.float32)
    scores = np.zeros((count, kinds), np.float32)
    for n in range(count):
        score_node(scorer, demand, headroom, n, pair, scores)
    blocks = new_blocks(kinds, count)
    chosen = np.full(len(demand.of_request), -1, np.int32)
    for k in range(len(chosen)):
        best = _best_node((scores, demand, headroom), k, demand.of_request[k], blocks)
        chosen[k] = best
        if best >= 0:
            count_in(headroom, best, demand.sizes, k)
            score_node(scorer, demand, headroom, best, pair, scores)
            note_placement(blocks, best)
    return chosen


@compiled
def sample(
    scorer: Scorer,
    demand: Demand,
    headroom: NDArray[np.float64],
    seed: int,
    kept: NDArray[np.int64],
    record: NDArray[np.float32],
    allowed: NDArray[np.bool_],
) -> NDArray[np.int32]:
    """As `assign`, with Gumbel noise on the scores, which turns each choice into a sample of the softmax (the
    Gumbel-max trick); a seed below 0: no noise.

    For training, `kept` (m,), `record` (m, n, PAIRS) and `allowed` (m, n) take what m of the placements saw, drawn evenly among all that
    are made (reservoir sampling: Vitter, ACM TOMS 1985, algorithm R): the requests' rows, -1 where fewer were made, in no order.
    """
    count, kinds, most = len(headroom), len(demand.scored), len(kept)
    if seed >= 0:
        np.random.seed(seed)
    pair = np.zeros((count, PAIRS, kinds), np.float32)
    scores = np.zeros((count, kinds), np.float32)
    for n in range(count):
        score_node(scorer, demand, headroom, n, pair[n], scores)
    chosen = np.full(len(demand.of_request), -1, np.int32)
    kept[:] = -1
    made = 0
    for k in range(len(chosen)):
        u = demand.of_request[k]
        best, best_score = -1, -np.inf
        for n in range(count):
            if scores[n, u] > -np.inf and fits(headroom, n, demand.sizes, k):
                # Noise is drawn where a pod fits alone: in an overload thousands wait that fit nowhere.
                noise = -np.log(-np.log(np.random.random())) if seed >= 0 else 0.0
                if scores[n, u] + noise > best_score:
                    best, best_score = n, scores[n, u] + noise
        chosen[k] = best
        if best < 0:
            continue
        slot = made if made < most else np.random.randint(0, made + 1)
        made += 1
        if slot < most:
            kept[slot] = k
            for n in range(count):
                record[slot, n] = pair[n, :, u]
                allowed[slot, n] = fits(headroom, n, demand.sizes, k)
        count_in(headroom, best, demand.sizes, k)
        score_node(scorer, demand, headroom, best, pair[best], scores)
    return chosen
