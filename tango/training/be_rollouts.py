"""Experience of BE placement, tick by tick, from whole runs of the simulator's engine.

    episode ─► two runs, each placed by samples of the network ─► ticks: what was seen, chosen, and earned more than in the other run

The reward of a tick is the reward of training (`engine_episodes`), in parts: what came about until the next tick, less what came about in
the other run meanwhile. What the input brought cancels out, and what is left is what the decisions did (an input-driven baseline: Mao
et al., "Variance reduction for reinforcement learning in input-driven environments", ICLR 2019, section 4; unbiased, since the other run
does not depend on the choices of the one). Both runs are learned from, so no engine step is spent on the baseline alone.

A tick with many placements keeps what some of them saw, drawn evenly: the runs stay those of the scheduler, and memory is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.services import ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.learning import assignment
from tango.learning.assignment import PAIRS
from tango.learning.features import FleetGraph, fleet_graph, kinds_of, node_headroom
from tango.learning.network import PlacementNetwork, batch_graphs
from tango.learning.policy import demand_of, place_by_network, scorer_of
from tango.learning.recent import RecentLc
from tango.settings import BeSettings
from tango.training.curriculum import Curriculum
from tango.training.devices import Weights, put_weights
from tango.training.engine_episodes import accrued, advantage_by_interval, draw_be_episode, simulate_be_episode

MOST_KEPT = 16
"""Placements of a tick of which is kept what they saw; about as many as a tick of a drawn fleet has."""
MOST_PAIRS = 4096
"""Most pairs of (placement, node) that are kept of a tick, 130 KiB: on larger fleets fewer placements are kept."""
_NOISE = 1
"""Sets the generator of samples apart from those of the episode."""


@dataclass(slots=True)
class Tick:
    """One BE tick of a run: what the network saw and chose, and what came of it. m placements of it are kept, on n nodes."""

    graph: FleetGraph
    kind: NDArray[np.float32]
    """(m, 3) features of each request's kind"""
    pair: NDArray[np.float32]
    """(m, n, PAIRS)"""
    allowed: NDArray[np.bool_]
    """(m, n)"""
    chosen: NDArray[np.int32]
    """(m,)"""
    value: float
    """The critic's estimate of the state's value."""
    at_s: float = 0.0
    reward: float = 0.0
    """Reward until the next tick, in per cent of the BE work of the episode."""
    discount: float = 1.0
    """Discount of the next tick's value."""


@dataclass(slots=True)
class Rollout:
    """One run as a sequence of BE ticks."""

    ticks: list[Tick]
    """Ticks of the window; later ones earn no reward."""
    after: Tick | None = None
    """The first tick after the window, if there is one: the episode is cut off there, the run goes on."""
    steps: int = 0
    """Number of all ticks of the run, which count towards the budget."""


class Placing:
    """A network as a BE policy that places greedily, by the highest score."""

    def __init__(self, network: PlacementNetwork, *, memory: bool = True) -> None:
        self._network, self._recent, self._memory = network, RecentLc(), memory

    def __call__(self, pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        """Place by the highest score."""
        seen = self._recent.added(snapshot) if self._memory else snapshot
        return BePlan(node=place_by_network(self._network, pending, seen), policy="dcg-be")


class Recorder:
    """A BE policy that samples from a network's softmax and keeps what it saw."""

    def __init__(
        self, network: PlacementNetwork, noise: np.random.Generator, *, most: int = MOST_KEPT, memory: bool = True
    ) -> None:
        self.ticks: list[Tick] = []
        self._network, self._noise, self._recent, self._memory = network, noise, RecentLc(), memory
        self._most = most

    def __call__(self, pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        """Place by a sample of the softmax."""
        seen = self._recent.added(snapshot) if self._memory else snapshot
        most = max(1, min(self._most, MOST_PAIRS // max(1, len(seen.nodes))))
        node, tick = sampled(self._network, pending, seen, most=most, seed=int(self._noise.integers(2**31)))
        self.ticks.append(tick)
        return BePlan(node=node, policy="dcg-be")


def sampled(
    network: PlacementNetwork, pending: BePending, snapshot: FleetSnapshot, *, most: int, seed: int
) -> tuple[NDArray[np.int32], Tick]:
    """(k,) nodes of the pending requests, drawn from the network's softmax, and the tick with at most so many of its placements."""
    graph, kinds = fleet_graph(snapshot), kinds_of(pending, snapshot)
    batch = batch_graphs([graph])
    with torch.no_grad():
        node, cluster = network.encode(batch)
        value = float(network.value(node, cluster, batch)[0])
        scorer = scorer_of(network, network.actor_node(node), kinds)
    n = len(snapshot.nodes)
    kept = np.full(min(most, len(pending)), -1, np.int64)
    pair, allowed = np.zeros((len(kept), n, PAIRS), np.float32), np.zeros((len(kept), n), np.bool_)
    chosen = assignment.sample(scorer, demand_of(pending, kinds), node_headroom(snapshot), seed, kept, pair, allowed)
    rows = np.argsort(kept, kind="stable")[np.count_nonzero(kept < 0) :]  # in the order in which they were placed
    tick = Tick(
        graph=graph,
        kind=kinds.features[kinds.of_request[kept[rows]]],
        pair=pair[rows],
        allowed=allowed[rows],
        chosen=chosen[kept[rows]],
        value=value,
        at_s=snapshot.at_s,
    )
    return chosen, tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """An episode to play twice, drawn by its seed, for any process."""

    curriculum: Curriculum
    seed: int
    hidden: int
    weights: Weights
    discount_per_s: float
    miss_price: float = 1.0
    waste_price: float = 0.1


def play(unit: Unit) -> list[Rollout]:
    """Two runs of the episode by samples of the network's softmax, each rewarded against the other."""
    network = PlacementNetwork(unit.hidden)
    put_weights(network, unit.weights)
    episode = draw_be_episode(unit.seed, unit.curriculum)
    recorders = [Recorder(network, np.random.default_rng((unit.seed, _NOISE, side))) for side in range(2)]
    runs = [simulate_be_episode(episode, recorder) for recorder in recorders]
    span_s = episode.workload.duration_s
    played = []
    for recorder, own, other in zip(recorders, runs, reversed(runs), strict=True):
        ticks = [tick for tick in recorder.ticks if tick.at_s < span_s]
        instants = np.array([*(tick.at_s for tick in ticks), span_s])
        worth = advantage_by_interval(
            accrued(own, instants), accrued(other, instants), miss_price=unit.miss_price, waste_price=unit.waste_price
        )
        for tick, reward, length_s in zip(ticks, worth.tolist(), np.diff(instants).tolist(), strict=True):
            tick.reward, tick.discount = reward, unit.discount_per_s**length_s
        after = recorder.ticks[len(ticks)] if len(recorder.ticks) > len(ticks) else None
        steps = int((own.decisions.kind == ServiceClass.BE).sum())
        played.append(Rollout(ticks=ticks, after=after, steps=steps))
    return played


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """m placements of several ticks, in order, fleets padded to the widest (a nodes)."""

    rows: Tensor
    """(m, a) vertices of the nodes in the ticks' graphs side by side, padded"""
    kind: Tensor
    """(m, 3)"""
    pair: Tensor
    """(m, a, PAIRS)"""
    allowed: Tensor
    """(m, a)"""
    chosen: Tensor
    """(m,)"""
    tick: Tensor
    """(m,) which of the ticks"""


@dataclass(slots=True)
class _Columns:
    rows: list[NDArray[np.int64]] = field(default_factory=list)
    kind: list[NDArray[np.float32]] = field(default_factory=list)
    pair: list[NDArray[np.float32]] = field(default_factory=list)
    allowed: list[NDArray[np.bool_]] = field(default_factory=list)
    chosen: list[NDArray[np.int64]] = field(default_factory=list)
    tick: list[NDArray[np.int64]] = field(default_factory=list)


def choices_of(ticks: Sequence[Tick]) -> Choices | None:
    """All placements that some ticks keep; None where there is none."""
    widest = max((len(tick.graph.node) for tick in ticks), default=0)
    held, first = _Columns(), 0
    for at, tick in enumerate(ticks):
        n, made = len(tick.graph.node), len(tick.chosen)
        if made:
            padding = (0, widest - n)
            vertices = np.pad(np.arange(first, first + n), padding, mode="edge")
            held.rows.append(np.broadcast_to(vertices, (made, widest)))
            held.kind.append(tick.kind)
            held.pair.append(np.pad(tick.pair, ((0, 0), padding, (0, 0))))
            held.allowed.append(np.pad(tick.allowed, ((0, 0), padding)))
            held.chosen.append(tick.chosen.astype(np.int64))
            held.tick.append(np.full(made, at, np.int64))
        first += n
    if not held.chosen:
        return None
    names = _Columns.__dataclass_fields__
    return Choices(**{name: torch.from_numpy(np.concatenate(getattr(held, name))) for name in names})
