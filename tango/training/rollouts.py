"""Collects experience: the network plays random worlds, each beside a twin world that `load-greedy` plays.

The twin sees the same arrivals, so the reward is the difference of the two: what the input brought cancels out, and what is left is what
the decisions did (an input-driven baseline: Mao et al., "Variance reduction for reinforcement learning in input-driven environments",
ICLR 2019; unbiased, since the twin does not depend on the network's choices).

Worlds are played in units of a fixed size side by side, whatever the number of processes: a network's sums may differ in their last bit
with the number of rows that are computed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.learning import assignment
from tango.learning.assignment import PAIRS
from tango.learning.features import FleetGraph, Kinds, fleet_graph, kinds_of, node_room
from tango.learning.network import PlacementNetwork, batch_graphs
from tango.learning.policy import demand_of, scorer_of
from tango.scheduling.be_policies import place_load_greedy
from tango.settings import BeSettings
from tango.training.curriculum import Curriculum, draw_spec
from tango.training.devices import Weights, put_weights, weights_of
from tango.training.worlds import TICK_S, World, WorldSpec

MISS_WEIGHT = 1.0
"""Reward = BE CPU-seconds done over the fleet's CPU-seconds, less this times the share of LC arrivals that missed, per tick."""
SIDE_BY_SIDE = 2
"""Worlds of a unit."""

_SETTINGS = BeSettings()

Draw = Callable[[Curriculum, np.random.Generator], WorldSpec]
"""How a world is drawn: a function of a module, so that other processes find it."""


@dataclass(slots=True)
class Tick:
    """One tick of one world: what the network saw and chose, and what came of it."""

    graph: FleetGraph
    kind: NDArray[np.float32]
    """(k, 3) features of each request's kind."""
    pair: NDArray[np.float32]
    """(k, n, 6)"""
    allowed: NDArray[np.bool_]
    """(k, n)"""
    chosen: NDArray[np.int32]
    """(k,) -1 where nothing was feasible."""
    value: float
    reward: float = 0.0
    begins: bool = False
    """It is the first of its episode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A few worlds to play from their beginning."""

    curriculum: Curriculum
    seeds: tuple[int, ...]
    """One world each; they draw everything."""
    ticks: int
    hidden: int
    weights: Weights
    draw: Draw = draw_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of a unit."""

    ticks: list[list[Tick]]
    """By world."""
    last: NDArray[np.float32]
    """(worlds,) the critic's value of the state after the last tick: an episode is cut off there, the world would go on."""


def units_of(
    curriculum: Curriculum, seeds: Sequence[int], network: PlacementNetwork, *, ticks: int, draw: Draw = draw_spec
) -> list[Unit]:
    """The units in which a network plays worlds of these seeds."""
    weights = weights_of(network)
    return [
        Unit(
            curriculum=curriculum,
            seeds=tuple(int(seed) for seed in seeds[k : k + SIDE_BY_SIDE]),
            ticks=ticks,
            hidden=network.hidden,
            weights=weights,
            draw=draw,
        )
        for k in range(0, len(seeds), SIDE_BY_SIDE)
    ]


def play(unit: Unit) -> Played:
    """Play a unit by samples of the network's softmax."""
    network = PlacementNetwork(unit.hidden)
    put_weights(network, unit.weights)
    noise = np.random.default_rng((*unit.seeds, _NOISE))
    pairs = [_world_and_twin(unit, seed) for seed in unit.seeds]
    played: list[list[Tick]] = [[] for _ in pairs]
    for t in range(unit.ticks):
        views = [(own.pending(), own.snapshot()) for own, _ in pairs]
        for w, tick in enumerate(sample(network, views, noise)):
            own, twin = pairs[w]
            tick.reward = score(own, tick.chosen) - score(twin, greedy(twin))
            tick.begins = t == 0
            played[w].append(tick)
    with torch.no_grad():
        batch = batch_graphs([fleet_graph(own.snapshot()) for own, _ in pairs])
        last = network.value(*network.encode(batch), batch).numpy()
    return Played(ticks=played, last=last.astype(np.float32))


_NOISE = 1
"""Sets the generator of samples apart from those of the worlds."""


def _world_and_twin(unit: Unit, seed: int) -> tuple[World, World]:
    spec = unit.draw(unit.curriculum, np.random.default_rng(seed))
    return World(spec, np.random.default_rng(seed)), World(spec, np.random.default_rng(seed))


def greedy(world: World) -> NDArray[np.int32]:
    """What `load-greedy` does now."""
    if not world.pending_count:
        return np.zeros(0, np.int32)
    return place_load_greedy(world.pending(), world.snapshot(), _SETTINGS).node


def score(world: World, node: NDArray[np.int32]) -> float:
    """Step a world and give its reward."""
    done_s, missed, arrivals = world.step(node)
    return done_s / (float(world.spec.cpu_cores.sum()) * TICK_S) - MISS_WEIGHT * missed / max(1, arrivals)


def sample(network: PlacementNetwork, views: list[tuple[BePending, FleetSnapshot]], rng: np.random.Generator) -> list[Tick]:
    """Draw placements of several worlds from the network's softmax, one forward pass for all."""
    graphs = [fleet_graph(snapshot) for _, snapshot in views]
    kinds = [kinds_of(pending, snapshot) if len(pending) else None for pending, snapshot in views]
    batch = batch_graphs(graphs)
    with torch.no_grad():
        node, cluster = network.encode(batch)
        values = network.value(node, cluster, batch).numpy()
        projected = network.actor_node(node)
    bounds = np.cumsum([0, *(len(g.node) for g in graphs)])
    ticks = []
    for w, (pending, snapshot) in enumerate(views):
        kind = kinds[w]
        n = len(graphs[w].node)
        count = len(kind.of_request) if kind else 0
        pair = np.zeros((count, n, PAIRS), np.float32)
        allowed = np.zeros((count, n), np.bool_)
        chosen = np.zeros(0, np.int32)
        if kind is not None:
            noise = rng.gumbel(size=(count, n)).astype(np.float32)
            scorer = scorer_of(network, projected[bounds[w] : bounds[w + 1]], kind)
            chosen = assignment.sample(scorer, demand_of(pending, kind), node_room(snapshot), noise, pair, allowed)
        ticks.append(
            Tick(
                graph=graphs[w],
                kind=_kind_rows(kind),
                pair=pair,
                allowed=allowed,
                chosen=chosen,
                value=float(values[w]),
            )
        )
    return ticks


def _kind_rows(kinds: Kinds | None) -> NDArray[np.float32]:
    return kinds.features[kinds.of_request] if kinds is not None else np.zeros((0, 3), np.float32)
