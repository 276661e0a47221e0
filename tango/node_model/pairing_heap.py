"""A pairing heap linked through the request records: no capacity of its own, and any request can be taken out.

An array heap would need space for the longest burst on every instance of every node; here a request costs its record only.
Insertion is O(1), taking out O(log n) amortised. Source: Fredman, Sedgewick, Sleator, Tarjan, "The pairing heap", Algorithmica
1986, two-pass variant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.node_model.state import NONE


@in_place
def meld(requests: NDArray[np.void], a: int, b: int) -> int:
    """Join two heaps by their roots; give the root that ends first, the earlier arrival when both end together."""
    if a == NONE:
        return b
    if b == NONE:
        return a
    ends_a, ends_b = requests[a].ends_at_attained_s, requests[b].ends_at_attained_s
    if ends_b < ends_a or (ends_b == ends_a and requests[b].sequence < requests[a].sequence):
        a, b = b, a
    first_child = requests[a].child
    requests[b].next = first_child
    requests[b].previous = a
    if first_child != NONE:
        requests[first_child].previous = b
    requests[a].child = b
    requests[a].next = NONE
    requests[a].previous = NONE
    return a


@in_place
def without_root(requests: NDArray[np.void], root: int) -> int:
    """The heap without its root: children melded in pairs from the left, then all pairs from the right."""
    pairs = NONE
    child = requests[root].child
    while child != NONE:
        second = requests[child].next
        following = NONE if second == NONE else requests[second].next
        requests[child].next = NONE
        requests[child].previous = NONE
        if second != NONE:
            requests[second].next = NONE
            requests[second].previous = NONE
        pair = meld(requests, child, second)
        requests[pair].next = pairs
        pairs = pair
        child = following
    heap = NONE
    while pairs != NONE:
        following = requests[pairs].next
        requests[pairs].next = NONE
        heap = meld(requests, heap, pairs)
        pairs = following
    requests[root].child = NONE
    return int(heap)


@in_place
def without(requests: NDArray[np.void], root: int, taken: int) -> int:
    """The heap without one of its requests, wherever that stands."""
    if taken == root:
        return int(without_root(requests, root))
    before, after = requests[taken].previous, requests[taken].next
    if requests[before].child == taken:
        requests[before].child = after
    else:
        requests[before].next = after
    if after != NONE:
        requests[after].previous = before
    return int(meld(requests, root, without_root(requests, taken)))
