"""The node of the highest score for one request after another, where each placement changes the scores of one node. Compiled.

Nodes stand in blocks. For each kind of request a block keeps the highest score that it can offer, which is worked out anew only when a
request of the kind asks and something was placed in the block since. A request then passes over the blocks that cannot beat what it has
found. Without blocks each of k requests would look at all n nodes; with them a request looks at n / BLOCK offers and, nearly always, at
one block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.compiled import compiled, inlined

BLOCK = 32
"""Nodes in a block: about the square root of the 1,000 nodes of a large fleet, so that blocks and their nodes are equally many."""

Worth = Callable[[Any, int, int], float]
"""(state, kind, node): the score of the node for a request of the kind; minus infinity where not even the least of the kind fits."""
Fits = Callable[[Any, int, int], bool]
"""(state, request, node): whether the node holds this very request."""
Search = Callable[[Any, int, int, "Blocks"], int]
"""See `block_search`."""


class Blocks(NamedTuple):
    """What blocks of nodes offer to u kinds of requests; b blocks."""

    nodes: int
    """How many there are in all."""
    offer: NDArray[np.float64]
    """(u, b) highest score of a node on which the least request of the kind fits"""
    changes: NDArray[np.int64]
    """(b,) placements in the block"""
    offer_of: NDArray[np.int64]
    """(u, b) value of `changes` that `offer` stands for; -1: none yet"""


@compiled
def new_blocks(kinds: int, nodes: int) -> Blocks:
    """Blocks that nobody has asked yet."""
    blocks = -(-nodes // BLOCK)
    return Blocks(nodes, np.empty((kinds, blocks)), np.zeros(blocks, np.int64), np.full((kinds, blocks), -1, np.int64))


def block_search(worth: Worth, fits: Fits) -> Search:
    """A compiled step of (state, request, its kind, blocks): the node of the highest score on which the request fits, -1 for none.

    Among equals it is the first. Both arguments are compiled; they become part of the step, which becomes part of its caller.
    """
    top_block, best_of_block = _top_block(worth), _best_of_block(worth, fits)

    def search(state: Any, request: int, kind: int, blocks: Blocks) -> int:
        top = top_block(state, kind, blocks)
        if top < 0:
            return -1
        # Nearly always the very request fits where the block's offer comes from, and nothing else is looked at.
        best, best_score = best_of_block(state, request, kind, top, -np.inf, blocks.nodes)
        if best >= 0 and best_score == blocks.offer[kind, top]:
            return int(best)
        best, best_score = -1, -np.inf
        for block in range(len(blocks.changes)):
            if blocks.offer[kind, block] > best_score:
                found, found_score = best_of_block(state, request, kind, block, best_score, blocks.nodes)
                if found >= 0:
                    best, best_score = found, found_score
        return int(best)

    made: Search = inlined(search)
    return made


def _top_block(worth: Worth) -> Any:
    """A step that brings the offers for a kind up to date and gives the first block of the highest; -1 where none has any."""

    def top_block(state: Any, kind: int, blocks: Blocks) -> int:
        top, highest = -1, -np.inf
        for block in range(len(blocks.changes)):
            if blocks.offer_of[kind, block] != blocks.changes[block]:
                most = -np.inf
                for node in range(block * BLOCK, min(blocks.nodes, (block + 1) * BLOCK)):
                    most = max(most, worth(state, kind, node))
                blocks.offer[kind, block] = most
                blocks.offer_of[kind, block] = blocks.changes[block]
            if blocks.offer[kind, block] > highest:
                top, highest = block, blocks.offer[kind, block]
        return top

    return inlined(top_block)


def _best_of_block(worth: Worth, fits: Fits) -> Any:
    """A step that gives the first node of a block with the highest score above `above` on which the request fits, and that score."""

    def best_of_block(state: Any, request: int, kind: int, block: int, above: float, nodes: int) -> tuple[int, float]:
        best, best_score = -1, above
        for node in range(block * BLOCK, min(nodes, (block + 1) * BLOCK)):
            score = worth(state, kind, node)
            if score > best_score and fits(state, request, node):
                best, best_score = node, score
        return best, best_score

    return inlined(best_of_block)


@inlined
def note_placement(blocks: Blocks, node: int) -> None:
    """Let the offers of a node's block be worked out anew for whoever asks next."""
    blocks.changes[node // BLOCK] += 1
