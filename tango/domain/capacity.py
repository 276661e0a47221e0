"""What machines can hold, over any number of resources."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def largest(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sizes (n, r), one row a machine and one column a resource, that no other exceeds in every resource, largest first.

    What fits none of these fits no machine at all: the maxima of a set of vectors (Kung, Luccio and Preparata, J. ACM 22(4), 1975).
    Machines come in few sizes, so each distinct size is held against the few kept before it, instead of by their divide and conquer.
    """
    distinct = np.unique(sizes, axis=0)[::-1]  # in falling order, so that no size exceeds one that came before it
    kept: list[NDArray[np.float64]] = []
    for size in distinct:
        if not any((size <= other).all() for other in kept):
            kept.append(size)
    return np.array(kept).reshape(len(kept), sizes.shape[1])
