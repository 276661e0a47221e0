"""A binary heap of events in order of (time, priority, sequence): ties are settled by the run and not by the heap.

Source for the order: SimPy, `Environment.schedule`. The caller sees to its length: it grows before a window begins
(`SimulationState.grow`), because a compiled step makes no arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined

EVENT = np.dtype(
    [
        ("at_s", np.float64),  # when it happens
        ("kind", np.int64),  # which is its priority too, the lower first
        ("sequence", np.int64),  # order in which events were added; settles ties
        ("target", np.int64),  # a request, a node or an instance, by kind
        ("epoch", np.int64),  # attempt of the request that it is meant for
        ("size", np.float64),  # a resize: the new CPU limit, millicores
    ],
    align=True,
)
USED, NEXT_SEQUENCE = 0, 1  # places in `counts`


@inlined
def _before(at_s: float, kind: int, sequence: int, event: Any) -> bool:
    """Whether (at_s, kind, sequence) comes before an event."""
    if at_s != event.at_s:
        return bool(at_s < event.at_s)
    if kind != event.kind:
        return bool(kind < event.kind)
    return bool(sequence < event.sequence)


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
    """Add an event; the array must be long enough."""
    place = counts[USED]
    sequence = counts[NEXT_SEQUENCE]
    counts[USED] += 1
    counts[NEXT_SEQUENCE] += 1
    while place > 0:
        parent = (place - 1) >> 1
        if not _before(at_s, kind, sequence, heap[parent]):
            break
        heap[place] = heap[parent]
        place = parent
    event = heap[place]
    event.at_s = at_s
    event.kind = kind
    event.sequence = sequence
    event.target = target
    event.epoch = epoch
    event.size = size


@in_place
def pop(heap: NDArray[np.void], counts: NDArray[np.int64]) -> None:
    """Remove the first event, `heap[0]`; the place behind the last in use is scratch."""
    counts[USED] -= 1
    used = counts[USED]
    if used == 0:
        return
    last = heap[used]
    at_s, kind, sequence = last.at_s, last.kind, last.sequence
    place = 0
    while True:
        child = 2 * place + 1
        if child >= used:
            break
        if child + 1 < used:
            right = heap[child + 1]
            if _before(right.at_s, right.kind, right.sequence, heap[child]):
                child += 1
        if _before(at_s, kind, sequence, heap[child]):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = heap[used]
