"""Scores placement policies on worlds that training never sees, paired by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.requests import BePending
from tango.domain.seeds import TEST, VALIDATION
from tango.domain.snapshot import FleetSnapshot
from tango.learning.network import PlacementNetwork
from tango.learning.policy import place_by_network
from tango.scheduling.be_policies import place_kube, place_load_greedy, place_scoring
from tango.scheduling.be_room import BeRoom
from tango.settings import BeSettings
from tango.training.curriculum import Curriculum, draw_spec
from tango.training.devices import Weights, put_weights
from tango.training.rollouts import MISS_WEIGHT, Draw
from tango.training.worlds import TICK_S, World, WorldSpec, draw_world

Place = Callable[[BePending, FleetSnapshot], NDArray[np.int32]]

VALIDATION_SEEDS = VALIDATION[:30]
TEST_SEEDS = TEST[:100]
JUDGED_TICKS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Per world, shape (seeds,)."""

    be_throughput: NDArray[np.float64]
    """BE CPU-seconds done over the fleet's CPU-seconds."""
    lc_missed: NDArray[np.float64]
    """Share of LC arrivals over their target."""

    @property
    def reward(self) -> NDArray[np.float64]:
        """(seeds,) what training maximises."""
        return self.be_throughput - MISS_WEIGHT * self.lc_missed


def evaluate(place: Place, seeds: Sequence[int], *, ticks: int = JUDGED_TICKS, load: float = 0.0) -> Scores:
    """Play one drawn world a seed; `load` fixes the offered BE work, 0 draws it."""
    return joined([judge(place, draw_world(np.random.default_rng(seed), load=load), seed, ticks=ticks) for seed in seeds])


def judge(place: Place, spec: WorldSpec, seed: int, *, ticks: int = JUDGED_TICKS) -> tuple[float, float]:
    """BE throughput and LC missed of a policy in a world."""
    world = World(spec, np.random.default_rng(seed))
    work, misses, arrivals = 0.0, 0.0, 0
    for _ in range(ticks):
        node = place(world.pending(), world.snapshot()) if world.pending_count else np.zeros(0, np.int32)
        got = world.step(node)
        work, misses, arrivals = work + got[0], misses + got[1], arrivals + got[2]
    return work / (float(spec.cpu_cores.sum()) * TICK_S * ticks), misses / max(1, arrivals)


def joined(found: Sequence[tuple[float, float]]) -> Scores:
    """What `judge` gave, seed by seed."""
    done, missed = np.array(found).T
    return Scores(be_throughput=done, lc_missed=missed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Worlds to judge a policy on, for any process."""

    curriculum: Curriculum
    seeds: tuple[int, ...]
    hidden: int = 0
    weights: Weights | None = None
    """None: `load-greedy` is judged."""
    draw: Draw = draw_spec


def pronounce(judgement: Judgement) -> list[tuple[float, float]]:
    """What `judge` gives for each seed."""
    place = baselines()["load-greedy"]
    if judgement.weights is not None:
        network = PlacementNetwork(judgement.hidden)
        put_weights(network, judgement.weights)
        place = by_network(network)
    return [judge(place, judgement.draw(judgement.curriculum, np.random.default_rng(seed)), seed) for seed in judgement.seeds]


def by_network(network: PlacementNetwork) -> Place:
    """The network, greedily."""
    return lambda pending, snapshot: place_by_network(network, pending, snapshot)


def at_random(seed: int = 0) -> Place:
    """Any node that fits, evenly."""
    rng = np.random.default_rng(seed)

    def place(pending: BePending, snapshot: FleetSnapshot) -> NDArray[np.int32]:
        room = BeRoom(snapshot)
        node = np.full(len(pending), -1, np.int32)
        for k in range(len(pending)):
            fitting = np.flatnonzero(room.fits(pending, k))
            if len(fitting):
                node[k] = rng.choice(fitting)
                room.take(pending, k, int(node[k]))
        return node

    return place


def baselines() -> dict[str, Place]:
    """The policies that are not learned, and chance."""
    settings = BeSettings()
    return {
        "random": at_random(),
        "k8s-native": lambda pending, snapshot: place_kube(pending, snapshot, settings).node,
        "scoring": lambda pending, snapshot: place_scoring(pending, snapshot, settings).node,
        "load-greedy": lambda pending, snapshot: place_load_greedy(pending, snapshot, settings).node,
    }
