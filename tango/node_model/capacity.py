"""Whether a pod fits on a node: `resource_axis.lacks`, resource by resource. Compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined
from tango.domain import resource_axis

lacks = inlined(resource_axis.lacks)


@in_place
def fits(free: NDArray[np.float64], node: int, requests: NDArray[np.float64], row: int) -> bool:
    """Whether the pod of column `row` of `requests` (r, k) fits into what is `free` (r, n) on a node."""
    for j in range(len(free)):  # noqa: SIM110 - a generator does not compile
        if lacks(requests[j, row], free[j, node]):
            return False
    return True


@in_place
def count_in(free: NDArray[np.float64], node: int, requests: NDArray[np.float64], row: int) -> None:
    """Take the pod of column `row` from what is free on a node."""
    for j in range(len(free)):
        free[j, node] -= requests[j, row]


@in_place
def mark_fitting(free: NDArray[np.float64], requests: NDArray[np.float64], row: int, found: NDArray[np.bool_]) -> None:
    """Fill `found` (n,): on which nodes the pod of column `row` fits."""
    for n in range(len(found)):
        found[n] = fits(free, n, requests, row)


@in_place
def most_memory(free: NDArray[np.float64], requests: NDArray[np.float64], memory: int, most: NDArray[np.float64]) -> None:
    """Fill `most` (k,): the most of the resource `memory` that is free on a node where all else of pod k fits; -1 where there is none.

    Requests of one service differ in memory alone, so that one figure a service answers for each of them whether it fits anywhere.
    """
    for k in range(len(most)):
        most[k] = -1.0
        for n in range(free.shape[1]):
            if free[memory, n] <= most[k]:
                continue
            all_else = True
            for j in range(len(free)):
                if j != memory and lacks(requests[j, k], free[j, n]):
                    all_else = False
                    break
            if all_else:
                most[k] = free[memory, n]
