"""Large fleets from a recipe: numbers of clusters and nodes, types of machines, an area and a seed.

A fleet file may have a recipe in place of a list of clusters. It gives the same clusters on every machine and with every version of
NumPy: only raw words of the counter-based generator Philox are used, whose stream is fixed, while the methods of
`numpy.random.Generator` may change their streams (NEP 19).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import MOST_PODS, Cluster, Fleet, Node
from tango.domain.quantities import Amounts
from tango.errors import ConfigError

# Second half of Philox's key. Each purpose has a stream of its own, so that a change of one (more nodes) does not move another (sites).
_SIZES, _X, _Y, _MACHINES, _ORDER = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineType:
    """A type of node and its share of a fleet."""

    share: float
    """Weight relative to the other types' shares; they need not add up to 1."""
    cpu_millicores: int
    memory_mib: int
    pods: int = MOST_PODS
    extended: Amounts = ()


EDGE_SIZES = ((2000, 3072), (4000, 7168), (8000, 15360))
"""(millicores, MiB) of the machines of fleets that are made up for benchmarks and training: the allocatable of nodes with 4, 8 and 16 GiB,
as in `paper.yaml`."""


def edge_machines(shares: Sequence[float]) -> tuple[MachineType, ...]:
    """The three sizes, each as common as its share says."""
    return tuple(
        MachineType(share=float(share), cpu_millicores=cpu, memory_mib=memory)
        for share, (cpu, memory) in zip(shares, EDGE_SIZES, strict=True)
    )


def machines_of(like: Fleet) -> tuple[MachineType, ...]:
    """The machine types of a fleet, smallest first; `share` is the number of nodes of that type."""
    counts = sorted(Counter((n.cpu_millicores, n.memory_mib, n.pods, n.extended) for n in like.nodes).items())
    return tuple(
        MachineType(share=count, cpu_millicores=cpu, memory_mib=memory, pods=pods, extended=extended)
        for (cpu, memory, pods, extended), count in counts
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRecipe:
    """The parameters of a generated fleet.

    Raises: ConfigError if there is no type of machine, or if clusters of these sizes cannot add up to `nodes`.
    """

    clusters: int
    """Number of clusters."""
    nodes_min: int
    """Least number of nodes of a cluster; the number is drawn uniformly from here to `nodes_max`."""
    nodes_max: int
    """Greatest number of nodes of a cluster, inclusive."""
    nodes: int | None = None
    """Exact number of nodes of the fleet; None: the sum of what is drawn."""
    area_km: float
    """Side of the square in which the sites are drawn uniformly."""
    seed: int
    """Below 2**64; equal seeds give equal fleets."""
    machines: tuple[MachineType, ...]
    """Types of machine. Their numbers follow the shares exactly, by largest remainders; which node is of which type is drawn."""

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
    """The clusters of a recipe. Numbers in names are padded with zeros, so that sorting by name keeps the order."""
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
        nodes.append(
            Node(
                name=f"{name}-n{k:0{width}d}",
                cpu_millicores=machine.cpu_millicores,
                memory_mib=machine.memory_mib,
                pods=machine.pods,
                extended=machine.extended,
            )
        )
    return Cluster(name=name, nodes=tuple(nodes), x_km=site[0], y_km=site[1])


def _sizes(recipe: FleetRecipe) -> list[int]:
    """Number of nodes of each cluster: drawn uniformly, then changed by one at a time, in a drawn order, until the total is met."""
    low, high = recipe.nodes_min, recipe.nodes_max
    sizes = [low + int(u * (high - low + 1)) for u in _uniform(recipe.seed, _SIZES, recipe.clusters)]
    missing = 0 if recipe.nodes is None else recipe.nodes - sum(sizes)
    step = 1 if missing > 0 else -1
    order = np.argsort(_words(recipe.seed, _ORDER, recipe.clusters), kind="stable").tolist()
    # Ends, because `FleetRecipe` has checked that the total lies between the least and the greatest that the sizes allow.
    while missing:
        for k in order:
            if missing and low <= sizes[k] + step <= high:
                sizes[k] += step
                missing -= step
    return sizes


def _machines(recipe: FleetRecipe, nodes: int) -> Iterator[MachineType]:
    """The machine type of each node: numbers by share with the method of largest remainders (Hamilton), dealt in a drawn order."""
    total = math.fsum(machine.share for machine in recipe.machines)
    asked = [machine.share / total * nodes for machine in recipe.machines]
    counts = [int(a) for a in asked]
    by_remainder = sorted(range(len(asked)), key=lambda k: counts[k] - asked[k])
    for k in by_remainder[: nodes - sum(counts)]:
        counts[k] += 1
    dealt = [machine for machine, count in zip(recipe.machines, counts, strict=True) for _ in range(count)]
    return (dealt[k] for k in np.argsort(_words(recipe.seed, _MACHINES, nodes), kind="stable"))


def _positions_km(recipe: FleetRecipe, axis: int) -> list[float]:
    """Coordinates of the sites on one axis, (clusters,), rounded to 0.1 km."""
    return [round(u * recipe.area_km, 1) for u in _uniform(recipe.seed, axis, recipe.clusters)]


def _uniform(seed: int, purpose: int, n: int) -> list[float]:
    """`n` uniform numbers in [0, 1) with 53 bits each, as many as a double's mantissa holds."""
    drawn: list[float] = ((_words(seed, purpose, n) >> np.uint64(11)) * 2.0**-53).tolist()
    return drawn


def _words(seed: int, purpose: int, n: int) -> NDArray[np.uint64]:
    words: NDArray[np.uint64] = np.random.Philox(key=seed | (purpose << 64)).random_raw(n)
    return words
