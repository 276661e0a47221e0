"""Nodes whose GPUs pods share: each node has several devices, each device thousandths of its own (`nvidia.com/gpu` as one row counts all
devices of a node together, which says whether a pod may fit, and not whether one device has enough).

Rows are nodes and pods, columns their arrays. A pod asks for part of one device, for one device or for several whole ones; models of
devices that it accepts are bits of one integer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tango.domain.resource_axis import THOUSANDTHS

MOST_DEVICES = 8
"""Devices of a node at the most; device arrays have so many columns."""
MOST_MODELS = 62
"""Models of devices at the most: each is a bit of a signed integer of 64."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class GpuNodes:
    """Nodes, one array element each, shape (n,). `model` indexes `models`."""

    name: tuple[str, ...]
    cpu_millicores: Ints
    memory_mib: Ints
    devices: Ints
    model: Ints
    models: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.models) > MOST_MODELS or (len(self) and self.devices.max() > MOST_DEVICES):
            raise ValueError(f"at most {MOST_MODELS} models and {MOST_DEVICES} devices a node")

    def __len__(self) -> int:
        return len(self.name)

    @property
    def thousandths(self) -> int:
        """Of all devices together."""
        return int(self.devices.sum()) * THOUSANDTHS

    def taken(self, rows: Ints) -> GpuNodes:
        """These nodes, in this order."""
        return GpuNodes(
            name=tuple(self.name[row] for row in rows),
            cpu_millicores=self.cpu_millicores[rows],
            memory_mib=self.memory_mib[rows],
            devices=self.devices[rows],
            model=self.model[rows],
            models=self.models,
        )

    def accepting(self, models: Iterable[str]) -> int:
        """The bits of these models; those that no node has are left out. No model at all: any."""
        wanted = set(models)
        return sum(1 << bit for bit, model in enumerate(self.models) if not wanted or model in wanted)


@dataclass(frozen=True)
class GpuPods:
    """Pods, one array element each, shape (n,); they are many and of few kinds, so each is a row of `kinds`."""

    name: tuple[str, ...]
    kind: Ints
    """(n,) rows of the kinds."""
    kinds: GpuKinds

    def __len__(self) -> int:
        return len(self.name)

    @cached_property
    def size(self) -> Ints:
        """(n,) thousandths of all devices that a pod asks for."""
        return self.kinds.size[self.kind]


@dataclass(frozen=True)
class GpuKinds:
    """What pods ask for, one array element a kind, shape (k,). A kind without devices has 0 thousandths and no models."""

    cpu_millicores: Ints
    memory_mib: Ints
    devices: Ints
    thousandths: Ints
    """Of each device: below 1,000 of one device only."""
    models: tuple[str, ...]
    """Accepted models, separated by `|` and in the order of the list: the study takes two orders for two kinds. Empty: any."""

    def __len__(self) -> int:
        return len(self.models)

    @cached_property
    def size(self) -> Ints:
        """(k,) thousandths of all devices together."""
        return self.devices * self.thousandths

    def accepted(self, nodes: GpuNodes) -> Ints:
        """(k,) bits of the models of these nodes that each kind accepts."""
        return np.array([nodes.accepting(text.split("|") if text else ()) for text in self.models], np.int64)
