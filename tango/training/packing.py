"""Many small arrays as few tensors: a replay holds tens of thousands, and a file with a tensor for each would take minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Packed = dict[str, torch.Tensor]


def packed(arrays: Sequence[NDArray[Any]]) -> Packed:
    """Arrays of one dtype and one number of dimensions, one after another, with their shapes."""
    if not arrays:
        return {"shapes": torch.zeros((0, 1), dtype=torch.int64), "values": torch.zeros(0)}
    shapes = np.array([array.shape for array in arrays], np.int64)
    return {"shapes": torch.from_numpy(shapes), "values": torch.from_numpy(np.concatenate([array.reshape(-1) for array in arrays]))}


def unpacked(held: Mapping[str, torch.Tensor]) -> list[NDArray[Any]]:
    """The arrays that were packed, each with memory of its own."""
    shapes, values = held["shapes"].numpy(), held["values"].numpy()
    ends = np.cumsum(shapes.prod(axis=1))
    return [values[end - shape.prod() : end].reshape(shape).copy() for shape, end in zip(shapes, ends.tolist(), strict=True)]
