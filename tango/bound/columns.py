"""Groups of array elements: their totals, and as many elements again as each counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def totals(group: NDArray[np.integer[Any]], amount: Floats, groups: int) -> Floats:
    """(groups,) sum of the amounts of each group's elements."""
    return np.bincount(group, weights=amount, minlength=groups).astype(np.float64)


def spread(counts: Ints) -> tuple[Ints, Ints]:
    """Each index as often as it counts, and which time it is (from 0)."""
    index = np.repeat(np.arange(len(counts)), counts)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
