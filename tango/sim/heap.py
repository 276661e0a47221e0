"""A binary heap of events in order of (time, priority, sequence): ties are settled by the run and not by the heap.

Source for the order: SimPy, `Environment.schedule`. Capacity is the caller's business: it makes room before a window begins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place

EVENT = np.dtype(
    [
        ("at_s", np.float64),
        ("kind", np.int64),  # which is its priority too, the lower first
        ("sequence", np.int64),
        ("target", np.int64),  # a request, a node or an instance, by kind
        ("epoch", np.int64),  # attempt of the request that it is meant for
        ("size", np.float64),
    ],
    align=True,
)
USED, NEXT_SEQUENCE = 0, 1  # places in `counts`


@in_place
def _before(a: Any, b: Any) -> bool:
    if a.at_s != b.at_s:
        return bool(a.at_s < b.at_s)
    if a.kind != b.kind:
        return bool(a.kind < b.kind)
    return bool(a.sequence < b.sequence)


@in_place
def push(
    heap: NDArray[np.void],
    counts: NDArray[np.int64],
    at_s: float,
    kind: int,
    target: int,
    epoch: int,
    size: float,
) -> None:
    """Add an event; there must be room."""
    place = counts[USED]
    event = heap[place]
    event.at_s = at_s
    event.kind = kind
    event.sequence = counts[NEXT_SEQUENCE]
    event.target = target
    event.epoch = epoch
    event.size = size
    counts[USED] += 1
    counts[NEXT_SEQUENCE] += 1
    while place > 0:
        parent = (place - 1) >> 1
        if _before(heap[parent], heap[place]):
            break
        _swap(heap, parent, place)
        place = parent


@in_place
def pop(heap: NDArray[np.void], counts: NDArray[np.int64]) -> None:
    """Remove the first event, `heap[0]`."""
    counts[USED] -= 1
    used = counts[USED]
    if used == 0:
        return
    heap[0] = heap[used]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= used:
            return
        if child + 1 < used and _before(heap[child + 1], heap[child]):
            child += 1
        if _before(heap[place], heap[child]):
            return
        _swap(heap, place, child)
        place = child


@in_place
def _swap(heap: NDArray[np.void], a: int, b: int) -> None:
    one, other = heap[a], heap[b]
    one.at_s, other.at_s = other.at_s, one.at_s
    one.sequence, other.sequence = other.sequence, one.sequence
    one.kind, other.kind = other.kind, one.kind
    one.target, other.target = other.target, one.target
    one.epoch, other.epoch = other.epoch, one.epoch
    one.size, other.size = other.size, one.size
