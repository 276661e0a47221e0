"""Two array operations: sums by group, and repeating indices by their counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def totals(group: NDArray[np.integer[Any]], amount: Floats, groups: int) -> Floats:
    """Sum of the amounts in each group, shape (groups,)."""
    return np.bincount(group, weights=amount, minlength=groups).astype(np.float64)


def spread(counts: Ints) -> tuple[Ints, Ints]:
    """(index, nth): each index i repeated counts[i] times, and the number of the repetition from 0; both of shape (sum of counts,)."""
    index = np.repeat(np.arange(len(counts)), counts)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
