"""Where torch updates networks. On a GPU sums are taken in no fixed order, so that a training there cannot be repeated bit for bit."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tango.errors import UsageError

_Value = TypeVar("_Value")

Weights = dict[str, NDArray[Any]]
"""A network as it goes to other processes."""


def device_of(name: str) -> str:
    """`cpu` or `cuda`; `auto` is a GPU where there is one. Raises: UsageError for a GPU that is not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("torch finds no GPU here, expected --device cpu or auto")
    return name


def moved(value: _Value, device: str) -> _Value:
    """Tensors, and dataclasses and tuples of them, on a device; all else as it is."""
    found: Any = value
    if isinstance(value, Tensor):
        found = value.to(device)
    elif isinstance(value, tuple):
        found = tuple(moved(part, device) for part in value)
    elif is_dataclass(value) and not isinstance(value, type):
        found = replace(value, **{f.name: moved(getattr(value, f.name), device) for f in fields(value)})
    return found  # type: ignore[no-any-return]


def weights_of(network: nn.Module) -> Weights:
    """The weights as arrays of their own."""
    return {name: weight.detach().cpu().numpy().copy() for name, weight in network.state_dict().items()}


def put_weights(network: nn.Module, weights: Weights) -> None:
    """Give a network these weights."""
    network.load_state_dict({name: torch.from_numpy(np.asarray(weight)) for name, weight in weights.items()})
