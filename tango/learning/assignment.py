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
from tango.domain.resource_axis import CPU, MEMORY
from tango.node_model import capacity
from tango.node_model.capacity import fits
from tango.scheduling.block_search import block_search, new_blocks, note_placement

# Columns of `Headroom.figures`: what each node has of CPU and memory, and what is held of it.
CPU_OF, REQUESTED, BE_LIMIT, LC_LEAVES, LC_LEAVES_MOSTLY, MEMORY_OF, MEMORY_HELD, SCALE = range(8)
REQUEST, LIMIT, HELD = range(3)
"""Columns of the sizes by which kinds are scored: CPU request and limit in millicores, memory in MiB."""
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


class Headroom(NamedTuple):
    """What each of n nodes has left, counted down within a tick."""

    ready: NDArray[np.bool_]
    """(n,) whether it takes pods"""
    free: NDArray[np.float64]
    """(r, n) what no pod requests, by which a pod fits or does not"""
    figures: NDArray[np.float64]
    """(n, 8) what the pair features are made of, columns `CPU_OF` to `SCALE`; millicores and MiB"""


class Demand(NamedTuple):
    """k requests in u kinds. A request is scored by its kind's size and fits by its own."""

    of_request: NDArray[np.int64]
    """(k,) row of the request's kind"""
    requests: NDArray[np.float64]
    """(r, k) of the requests' pods"""
    limit: NDArray[np.float64]
    """(k,) their CPU limits, millicores"""
    scored: NDArray[np.float64]
    """(u, 3) of the kinds, by which they are scored"""
    least: NDArray[np.float64]
    """(r, u) the least of each resource among the kind's requests"""


@in_place
def pair_features(figures: NDArray[np.float64], node: int, sizes: NDArray[np.float64], pair: NDArray[np.float32]) -> None:
    """Fill the pair features (PAIRS, u) of all sizes (u, 3) on one node, in the order of `features.PAIR_FEATURES`."""
    leaves, mostly, scale = figures[node, LC_LEAVES], figures[node, LC_LEAVES_MOSTLY], figures[node, SCALE]
    for u in range(len(sizes)):
        limits = figures[node, BE_LIMIT] + sizes[u, LIMIT]
        pair[0, u] = min(4.0, limits / leaves)
        pair[1, u] = min(1.0, leaves / limits)
        pair[2, u] = (figures[node, REQUESTED] + sizes[u, REQUEST]) / figures[node, CPU_OF]
        pair[3, u] = (figures[node, MEMORY_HELD] + sizes[u, HELD]) / figures[node, MEMORY_OF]
        pair[4, u] = min(4.0, limits / mostly)
        pair[5, u] = min(4.0, sizes[u, LIMIT] / leaves)
        pair[6, u] = max(-4.0, min(4.0, (leaves - limits) / scale))
        pair[7, u] = max(-4.0, min(4.0, (mostly - limits) / scale))


@in_place
def score_node(
    scorer: Scorer, demand: Demand, headroom: Headroom, node: int, pair: NDArray[np.float32], scores: NDArray[np.float32]
) -> None:
    """Fill the node's row of `scores` (n, u), minus infinity where not even the least of a kind fits; `pair` (PAIRS, u) is scratch."""
    kinds = len(demand.scored)
    pair_features(headroom.figures, node, demand.scored, pair)
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
        if not (headroom.ready[node] and fits(headroom.free, node, demand.least, u)):
            scores[node, u] = -np.inf


@in_place
def count_in(headroom: Headroom, node: int, demand: Demand, request: int) -> None:
    """Count a request in on the node."""
    capacity.count_in(headroom.free, node, demand.requests, request)
    headroom.figures[node, REQUESTED] += demand.requests[CPU, request]
    headroom.figures[node, BE_LIMIT] += demand.limit[request]
    headroom.figures[node, MEMORY_HELD] += demand.requests[MEMORY, request]


@inlined
def _worth(state: tuple[NDArray[np.float32], Demand, Headroom], kind: int, node: int) -> float:
    return state[0][node, kind]  # type: ignore[no-any-return]


@inlined
def _fits_request(state: tuple[NDArray[np.float32], Demand, Headroom], request: int, node: int) -> bool:
    _, demand, headroom = state
    return bool(headroom.ready[node] and fits(headroom.free, node, demand.requests, request))


_best_node = block_search(_worth, _fits_request)


@compiled
def assign(scorer: Scorer, demand: Demand, headroom: Headroom) -> NDArray[np.int32]:
    """Place the requests in order, each where its score is highest; -1 where it fits nowhere. `headroom` is counted down."""
    count, kinds = len(headroom.ready), len(demand.scored)
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
            count_in(headroom, best, demand, k)
            score_node(scorer, demand, headroom, best, pair, scores)
            note_placement(blocks, best)
    return chosen


@compiled
def sample(
    scorer: Scorer,
    demand: Demand,
    headroom: Headroom,
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
    count, kinds, most = len(headroom.ready), len(demand.scored), len(kept)
    if seed >= 0:
        np.random.seed(seed)
    pair = np.zeros((count, PAIRS, kinds), np.float32)
    scores = np.zeros((count, kinds), np.float32)
    for n in range(count):
        score_node(scorer, demand, headroom, n, pair[n], scores)
    # By kind, the nodes that take its least request. They only become fewer within a tick, and each request of a kind drops those that no
    # longer do: in an overload thousands wait that fit nowhere, and none of them looks at all nodes.
    open_nodes, opened = np.empty((kinds, count), np.int64), np.full(kinds, count, np.int64)
    for u in range(kinds):
        for n in range(count):
            open_nodes[u, n] = n
    chosen = np.full(len(demand.of_request), -1, np.int32)
    kept[:] = -1
    made = 0
    for k in range(len(chosen)):
        u = demand.of_request[k]
        best, best_score, still_open = -1, -np.inf, 0
        for place in range(opened[u]):
            n = open_nodes[u, place]
            if not scores[n, u] > -np.inf:
                continue
            open_nodes[u, still_open] = n
            still_open += 1
            if fits(headroom.free, n, demand.requests, k):
                # Noise is drawn where a pod fits alone.
                noise = -np.log(-np.log(np.random.random())) if seed >= 0 else 0.0
                if scores[n, u] + noise > best_score:
                    best, best_score = n, scores[n, u] + noise
        opened[u] = still_open
        chosen[k] = best
        if best < 0:
            continue
        slot = made if made < most else np.random.randint(0, made + 1)
        made += 1
        if slot < most:
            kept[slot] = k
            for n in range(count):
                record[slot, n] = pair[n, :, u]
                allowed[slot, n] = headroom.ready[n] and fits(headroom.free, n, demand.requests, k)
        count_in(headroom, best, demand, k)
        score_node(scorer, demand, headroom, best, pair[best], scores)
    return chosen
