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
from dataclasses import dataclass

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
from tango.learning.features import KIND_FEATURES, FleetGraph, fleet_graph, kinds_of, node_headroom
from tango.learning.network import PlacementNetwork, batch_graphs
from tango.learning.policy import demand_of, place_by_network, scorer_of
from tango.learning.recent import RecentLc
from tango.settings import BeSettings
from tango.traces.workloads import draw_requests
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
    pooled: NDArray[np.float32]
    """(2 h,) mean embeddings of nodes and clusters, all that the critic sees"""
    value: float = 0.0
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
    with torch.no_grad():
        node, cluster = network.encode(batch_graphs([graph]))
        pooled = torch.cat((node.mean(0), cluster.mean(0))).numpy()
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
        pooled=pooled,
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
    requests = draw_requests(episode.workload, episode.fleet, episode.seed)
    runs = [simulate_be_episode(episode, recorder, requests) for recorder in recorders]
    for recorder in recorders:
        _value(network, recorder.ticks)
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


def _value(network: PlacementNetwork, ticks: Sequence[Tick]) -> None:
    """Ask the critic for all ticks of a run at once."""
    if ticks:
        with torch.no_grad():
            values = network.critic(torch.from_numpy(np.stack([tick.pooled for tick in ticks]))).squeeze(1)
        for tick, value in zip(ticks, values.tolist(), strict=True):
            tick.value = value


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenPlacements:
    """m placements of t ticks, in order, fleets padded to the widest (a nodes)."""

    nodes: Tensor
    """(t, a) vertices of each tick's nodes in the ticks' graphs side by side; padded by its last one"""
    tick: Tensor
    """(m,) which of the ticks"""
    kind: Tensor
    """(m, 3)"""
    pair: Tensor
    """(m, a, PAIRS)"""
    allowed: Tensor
    """(m, a)"""
    chosen: Tensor
    """(m,)"""

    def of_first(self, ticks: int) -> ChosenPlacements:
        """The placements of the first so many ticks: views, not copies."""
        count = int(np.searchsorted(self.tick.numpy(), ticks))
        columns = {name: getattr(self, name)[:count] for name in ("tick", "kind", "pair", "allowed", "chosen")}
        return ChosenPlacements(nodes=self.nodes[:ticks], **columns)


def choices_of(ticks: Sequence[Tick]) -> ChosenPlacements | None:
    """All placements that some ticks keep; None where there is none."""
    nodes_of, made = [len(tick.graph.node) for tick in ticks], [len(tick.chosen) for tick in ticks]
    count = sum(made)
    if not count:
        return None
    widest = max(nodes_of)
    nodes = np.empty((len(ticks), widest), np.int64)
    kind, chosen = np.empty((count, len(KIND_FEATURES)), np.float32), np.empty(count, np.int64)
    pair, allowed = np.zeros((count, widest, PAIRS), np.float32), np.zeros((count, widest), np.bool_)
    vertex = row = 0
    for at, (tick, n, m) in enumerate(zip(ticks, nodes_of, made, strict=True)):
        nodes[at] = np.minimum(np.arange(vertex, vertex + widest), vertex + n - 1)
        rows = slice(row, row + m)
        kind[rows], chosen[rows] = tick.kind, tick.chosen
        pair[rows, :n], allowed[rows, :n] = tick.pair, tick.allowed
        vertex, row = vertex + n, row + m
    arrays = {"nodes": nodes, "tick": np.repeat(np.arange(len(ticks)), made), "kind": kind, "pair": pair, "allowed": allowed}
    return ChosenPlacements(**{name: torch.from_numpy(array) for name, array in (arrays | {"chosen": chosen}).items()})


def scores_of(network: PlacementNetwork, node: Tensor, choices: ChosenPlacements) -> Tensor:
    """(m, a) the actor's logits of placements, by the embeddings of all nodes of the ticks' graphs (n, hidden).

    Each node is projected once, not once for every placement that might go there; and a placement takes its tick's nodes as one block, so
    that the gradient adds up block by block and not element by element, which was most of the time of an update.
    """
    projected = network.actor_node(node)
    of_tick = projected.index_select(0, choices.nodes.flatten()).view(*choices.nodes.shape, -1)
    return network.scores_of_projected(of_tick.index_select(0, choices.tick), choices.kind[:, None], choices.pair)
