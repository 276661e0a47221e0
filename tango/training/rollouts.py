"""Collects experience: the network plays many random worlds at once, each beside a twin world that `load-greedy` plays.

The twin sees the same arrivals, so the reward is the difference of the two: what the input brought cancels out, and what is left is what
the decisions did (an input-driven baseline: Mao et al., "Variance reduction for reinforcement learning in input-driven environments",
ICLR 2019; unbiased, since the twin does not depend on the network's choices).
"""

from __future__ import annotations

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
from tango.training.worlds import TICK_S, World, draw_world

MISS_WEIGHT = 1.0
"""Reward = BE CPU-seconds done over the fleet's CPU-seconds, less this times the share of LC arrivals that missed, per tick."""

_SETTINGS = BeSettings()


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


class Rollouts:
    """Worlds that go on from call to call; a world is drawn anew when its episode ends."""

    def __init__(self, *, seed: int, worlds: int, episode_ticks: int = 80) -> None:
        self._seeds = np.random.SeedSequence(seed)
        self._episode_ticks = episode_ticks
        self._noise = np.random.default_rng(self._seeds.spawn(1)[0])
        self._pairs = [self._fresh() for _ in range(worlds)]
        self._ages = [int(self._noise.integers(0, episode_ticks)) for _ in range(worlds)]

    def _fresh(self) -> tuple[World, World]:
        seed = self._seeds.spawn(1)[0]
        spec = draw_world(np.random.default_rng(seed))
        return World(spec, np.random.default_rng(seed)), World(spec, np.random.default_rng(seed))

    def collect(self, network: PlacementNetwork, ticks: int) -> tuple[list[list[Tick]], NDArray[np.float32]]:
        """Play; give per world its ticks, and (worlds,) the critic's value of the state after the last, 0 where the episode ended."""
        played: list[list[Tick]] = [[] for _ in self._pairs]
        for _ in range(ticks):
            fresh = [age >= self._episode_ticks for age in self._ages]
            for w in np.flatnonzero(fresh).tolist():
                self._pairs[w], self._ages[w] = self._fresh(), 0
            views = [(own.pending(), own.snapshot()) for own, _ in self._pairs]
            for w, tick in enumerate(sample(network, views, self._noise)):
                own, twin = self._pairs[w]
                tick.reward = score(own, tick.chosen) - score(twin, greedy(twin))
                tick.begins = fresh[w]
                played[w].append(tick)
                self._ages[w] += 1
        ended = np.array([age >= self._episode_ticks for age in self._ages])
        with torch.no_grad():
            batch = batch_graphs([fleet_graph(own.snapshot()) for own, _ in self._pairs])
            last = network.value(*network.encode(batch), batch).numpy()
        return played, np.where(ended, 0.0, last).astype(np.float32)


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
