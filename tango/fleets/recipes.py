"""Large fleets by recipe: how many clusters and nodes, which machines, how large an area, and a seed.

A recipe stands in a fleet file in place of its clusters and expands to the same clusters on every machine and with every version of
NumPy: only the raw words of the counter-based generator Philox are used, whose stream is fixed, while the methods of
`numpy.random.Generator` may change (NEP 19).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import Cluster, Node
from tango.errors import ConfigError

_SIZES, _X, _Y, _MACHINES, _ORDER = range(5)
"""Second half of the key: each purpose draws for itself, so that more nodes do not move the sites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineType:
    """A kind of node and how common it is."""

    share: float
    """In proportion to the shares of the other types; they need not add up to 1."""
    cpu_millicores: int
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRecipe:
    """What a generated fleet has.

    Raises: ConfigError if there is no type of machine, or no fleet with that many nodes in clusters of these sizes.
    """

    clusters: int
    nodes_min: int
    """Nodes of the smallest cluster; sizes are drawn evenly from here to `nodes_max`."""
    nodes_max: int
    nodes: int | None = None
    """Nodes of the whole fleet, exactly; as drawn where None."""
    area_km: float
    """Side of the square in which the sites are drawn evenly."""
    seed: int
    machines: tuple[MachineType, ...]
    """Types of machine: their shares are kept exactly over the fleet, which node is which is drawn."""

    def __post_init__(self) -> None:
        if not self.machines:
            raise ConfigError("machines is an empty list, expected at least one type of machine")
        if self.nodes_min > self.nodes_max:
            raise ConfigError(f"nodes_min is {self.nodes_min}, expected at most nodes_max ({self.nodes_max})")
        least, most = self.clusters * self.nodes_min, self.clusters * self.nodes_max
        if self.nodes is not None and not least <= self.nodes <= most:
            raise ConfigError(
                f"nodes is {self.nodes}, expected {least} to {most}: "
                f"{self.clusters} clusters of {self.nodes_min} to {self.nodes_max} nodes"
            )


def expand(recipe: FleetRecipe) -> tuple[Cluster, ...]:
    """The clusters of a recipe. Names are padded with zeros, so that they sort in the order in which they stand."""
    sizes = _sizes(recipe)
    machines = _machines(recipe, sum(sizes))
    sites = zip(_positions_km(recipe, _X), _positions_km(recipe, _Y), strict=True)
    width = len(str(recipe.clusters))
    return tuple(
        _cluster(f"c{k:0{width}d}", size, machines, site, len(str(recipe.nodes_max)))
        for k, (size, site) in enumerate(zip(sizes, sites, strict=True), start=1)
    )


def _cluster(name: str, size: int, machines: Iterator[MachineType], site: tuple[float, float], width: int) -> Cluster:
    nodes = []
    for k in range(1, size + 1):
        machine = next(machines)
        nodes.append(Node(name=f"{name}-n{k:0{width}d}", cpu_millicores=machine.cpu_millicores, memory_mib=machine.memory_mib))
    return Cluster(name=name, nodes=tuple(nodes), x_km=site[0], y_km=site[1])


def _sizes(recipe: FleetRecipe) -> list[int]:
    """Nodes of each cluster: drawn evenly, then one more or less each, in a drawn order, until the total is met."""
    low, high = recipe.nodes_min, recipe.nodes_max
    sizes = [low + int(u * (high - low + 1)) for u in _uniform(recipe.seed, _SIZES, recipe.clusters)]
    missing = 0 if recipe.nodes is None else recipe.nodes - sum(sizes)
    step = 1 if missing > 0 else -1
    order = np.argsort(_words(recipe.seed, _ORDER, recipe.clusters), kind="stable").tolist()
    while missing:
        for k in order:
            if missing and low <= sizes[k] + step <= high:
                sizes[k] += step
                missing -= step
    return sizes


def _machines(recipe: FleetRecipe, nodes: int) -> Iterator[MachineType]:
    """The machine of each node: as many of each type as its share asks for (largest remainders), in a drawn order."""
    total = math.fsum(machine.share for machine in recipe.machines)
    asked = [machine.share / total * nodes for machine in recipe.machines]
    counts = [int(a) for a in asked]
    by_remainder = sorted(range(len(asked)), key=lambda k: counts[k] - asked[k])
    for k in by_remainder[: nodes - sum(counts)]:
        counts[k] += 1
    dealt = [machine for machine, count in zip(recipe.machines, counts, strict=True) for _ in range(count)]
    return (dealt[k] for k in np.argsort(_words(recipe.seed, _MACHINES, nodes), kind="stable"))


def _positions_km(recipe: FleetRecipe, axis: int) -> list[float]:
    """Coordinates of the sites, in steps of 100 m."""
    return [round(u * recipe.area_km, 1) for u in _uniform(recipe.seed, axis, recipe.clusters)]


def _uniform(seed: int, purpose: int, n: int) -> list[float]:
    """Numbers in [0, 1) of 53 bits."""
    drawn: list[float] = ((_words(seed, purpose, n) >> np.uint64(11)) * 2.0**-53).tolist()
    return drawn


def _words(seed: int, purpose: int, n: int) -> NDArray[np.uint64]:
    words: NDArray[np.uint64] = np.random.Philox(key=seed | (purpose << 64)).random_raw(n)
    return words
