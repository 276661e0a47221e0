"""What a placement network weighs for one request: its score of every node.

The compiled step of `assignment` keeps no scores. Here those of one kind are computed once more, sum by sum in its order and precision, so
that they are the very numbers that it compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.domain.candidates import Weighing
from tango.domain.requests import BePending
from tango.domain.resource_axis import CPU, MEMORY, lacks
from tango.domain.snapshot import FleetSnapshot
from tango.learning.assignment import (
    BE_LIMIT,
    CPU_OF,
    HELD,
    LC_LEAVES,
    LC_LEAVES_MOSTLY,
    LIMIT,
    MEMORY_HELD,
    MEMORY_OF,
    REQUEST,
    REQUESTED,
    SCALE,
    Headroom,
    Scorer,
)
from tango.learning.features import Kinds, node_headroom


def weigh_by_scores(
    policy: str, scorer: Scorer, kinds: Kinds, pending: BePending, snapshot: FleetSnapshot, node: NDArray[np.int32], request: int
) -> Weighing:
    """What a network weighed for the request of a row, when the decision was `node` (k,); `scorer` and `kinds` are those it decided by."""
    headroom = node_headroom(snapshot)
    for earlier in range(request):
        if (at := int(node[earlier])) >= 0:
            headroom.free[:, at] -= pending.requests[:, earlier]
            headroom.figures[at, REQUESTED] += pending.requests[CPU, earlier]
            headroom.figures[at, BE_LIMIT] += pending.cpu_limit_millicores[earlier]
            headroom.figures[at, MEMORY_HELD] += pending.requests[MEMORY, earlier]
    kind = int(kinds.of_request[request])
    pair = _pair_features(headroom, kinds.sizes[kind])
    short = lacks(pending.requests[:, request][:, None], headroom.free).any(axis=0)
    return Weighing(
        policy=policy,
        rule="the highest score of its network",
        price=_scores(scorer, kind, pair).astype(np.float64),
        takes=headroom.ready & ~short,
        highest_wins=True,
        figures={
            "share of its limit that it would get": pair[1].astype(np.float64),
            "CPU requested with it, of all there": pair[2].astype(np.float64),
            "memory held with it, of all there": pair[3].astype(np.float64),
        },
        free=headroom.free,
    )


def _pair_features(headroom: Headroom, size: NDArray[np.float64]) -> NDArray[np.float32]:
    """(PAIRS, n) as `assignment.pair_features`, of one size on all nodes."""
    figures = headroom.figures.T
    limits, leaves, mostly = figures[BE_LIMIT] + size[LIMIT], figures[LC_LEAVES], figures[LC_LEAVES_MOSTLY]
    found = (
        np.minimum(4.0, limits / leaves),
        np.minimum(1.0, leaves / limits),
        (figures[REQUESTED] + size[REQUEST]) / figures[CPU_OF],
        (figures[MEMORY_HELD] + size[HELD]) / figures[MEMORY_OF],
        np.minimum(4.0, limits / mostly),
        np.minimum(4.0, size[LIMIT] / leaves),
        np.maximum(-4.0, np.minimum(4.0, (leaves - limits) / figures[SCALE])),
        np.maximum(-4.0, np.minimum(4.0, (mostly - limits) / figures[SCALE])),
    )
    return np.stack(found).astype(np.float32)


def _scores(scorer: Scorer, kind: int, pair: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) as `assignment.score_node` adds them up."""
    held = scorer.nodes + scorer.kinds[:, kind]
    for k, of_nodes in enumerate(pair):
        held += scorer.weights[:, k] * of_nodes[:, None]
    np.maximum(held, np.float32(0.0), out=held)
    scores = np.zeros(len(held), np.float32)
    for h, head in enumerate(scorer.head):
        scores += head * held[:, h]
    return scores
