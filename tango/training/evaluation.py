"""Scores placement policies on worlds that training never sees, paired by seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.learning.network import PlacementNetwork
from tango.learning.policy import place_by_network
from tango.scheduling.be_policies import place_kube, place_load_greedy, place_scoring
from tango.scheduling.be_room import BeRoom
from tango.settings import BeSettings
from tango.training.rollouts import MISS_WEIGHT
from tango.training.worlds import TICK_S, World, draw_world

Place = Callable[[BePending, FleetSnapshot], NDArray[np.int32]]

# Disjoint by construction: training draws from SeedSequence(seed) with seeds below 1,000,000.
VALIDATION_SEEDS = range(1_000_000, 1_000_030)
TEST_SEEDS = range(2_000_000, 2_000_100)


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


def evaluate(place: Place, seeds: range, *, ticks: int = 120, load: float = 0.0) -> Scores:
    """Play one world a seed; `load` fixes the offered BE work, 0 draws it."""
    done, missed = [], []
    for seed in seeds:
        spec = draw_world(np.random.default_rng(seed), load=load)
        world = World(spec, np.random.default_rng(seed))
        work, misses, arrivals = 0.0, 0.0, 0
        for _ in range(ticks):
            node = place(world.pending(), world.snapshot()) if world.pending_count else np.zeros(0, np.int32)
            got = world.step(node)
            work, misses, arrivals = work + got[0], misses + got[1], arrivals + got[2]
        done.append(work / (float(spec.cpu_cores.sum()) * TICK_S * ticks))
        missed.append(misses / max(1, arrivals))
    return Scores(be_throughput=np.array(done), lc_missed=np.array(missed))


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


def paired(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float]:
    """Mean of the paired difference and half the width of its 95 % interval (normal)."""
    difference = ours - theirs
    return float(difference.mean()), 1.96 * float(difference.std(ddof=1)) / len(difference) ** 0.5
