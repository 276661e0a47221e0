"""Validation of a network of BE placement: whole runs of the validation episodes, compared with `load-greedy` on the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tango.domain.checkpoints import YARDSTICK
from tango.learning.network import PlacementNetwork
from tango.training.be_rollouts import Placing
from tango.training.collectors import Collectors
from tango.training.curriculum import Curriculum
from tango.training.devices import Weights, put_weights, weights_of
from tango.training.engine_episodes import EpisodeOutcome, advantage, draw_be_episode, run_be_episode
from tango.training.learner import Score, score_of


class BeValidation:
    """Scores networks on the episodes of some seeds; what `load-greedy` comes to there is worked out once."""

    def __init__(self, curriculum: Curriculum, seeds: Sequence[int], collectors: Collectors, *, memory: bool = True) -> None:
        self._curriculum, self._seeds, self._collectors, self._memory = curriculum, seeds, collectors, memory
        self._reference: list[EpisodeOutcome] | None = None

    def validate_yardstick(self, done_one: Callable[[], None] = lambda: None) -> None:
        """Work out what `load-greedy` comes to, unless that is known."""
        self._yardstick(done_one)

    def score(self, network: PlacementNetwork, done_one: Callable[[], None] = lambda: None) -> Score:
        """How much more than `load-greedy` the network comes to, greedily, by the reward of training at its own prices. `done_one` is
        called after each episode."""
        theirs = self._yardstick(done_one)
        ours = self._outcomes(network.hidden, weights_of(network), done_one)
        gains = np.array([advantage(own, greedy) for own, greedy in zip(ours, theirs, strict=True)])
        done = [own.be_cpu_seconds_per_s / max(1e-9, greedy.be_cpu_seconds_per_s) for own, greedy in zip(ours, theirs, strict=True)]
        figures = {
            "be_throughput": float(np.mean(done)),
            "lc_missed": float(np.mean([own.missed for own in ours])),
            "lc_missed_reference": float(np.mean([greedy.missed for greedy in theirs])),
        }
        return score_of(gains, np.zeros(len(gains)), YARDSTICK, figures)

    def _yardstick(self, done_one: Callable[[], None]) -> list[EpisodeOutcome]:
        if self._reference is None:
            self._reference = self._outcomes(0, None, done_one)
        return self._reference

    def _outcomes(self, hidden: int, weights: Weights | None, done_one: Callable[[], None]) -> list[EpisodeOutcome]:
        units = [
            _Unit(curriculum=self._curriculum, seed=seed, hidden=hidden, weights=weights, memory=self._memory)
            for seed in self._seeds
        ]
        return self._collectors.map(_run, units, done_one)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    curriculum: Curriculum
    seed: int
    hidden: int
    weights: Weights | None
    """None: `load-greedy`."""
    memory: bool


def _run(unit: _Unit) -> EpisodeOutcome:
    episode = draw_be_episode(unit.seed, unit.curriculum)
    if unit.weights is None:
        return run_be_episode(episode, None)
    network = PlacementNetwork(unit.hidden)
    put_weights(network, unit.weights)
    return run_be_episode(episode, Placing(network.eval(), memory=unit.memory))
