"""`dsaco`: LC dispatch by soft actor-critic, on whole runs of the simulator's engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tango.domain.checkpoints import YARDSTICK
from tango.learning.lc_layer import save_layer
from tango.scheduling.lc import dsaco
from tango.scheduling.lc.dsaco import ScoredLayer
from tango.scheduling.lc.rule import LcRule, lc_rule
from tango.training.collectors import Collectors
from tango.training.config import TrainingConfig
from tango.training.curriculum import Curriculum, curriculum_of
from tango.training.lc_agent import OfferActor, OfferCritics
from tango.training.lc_rollouts import Experience, ReplayBuffer, draw_episode, play, qos_rate, rewards, run_episode
from tango.training.learner import ENV_STEPS, Score, score_of
from tango.training.sac import DiscreteSac, SacSettings

DISCOUNT = 0.5
"""Of what the same cluster's next request gets: a choice crowds a node for the next few."""
REPLAY_CAPACITY = 200_000
"""Decisions that the replay buffer holds, the oldest of which go first."""
BATCH = 256
_NOISE, _SAMPLES = 1, 2
"""Set the generators of an iteration apart."""


class DsacoLearner:
    """The actor plays; its running average is validated and kept. An environment step is a decision."""

    def __init__(self, config: TrainingConfig) -> None:
        torch.manual_seed(config.seed)
        self._config = config
        self._curriculum = curriculum_of(config)
        self._collectors = Collectors(config.jobs)
        self._agent = DiscreteSac(OfferActor(config.hidden), OfferCritics(), config.settings(SacSettings), device=config.device)
        self._replay = ReplayBuffer(REPLAY_CAPACITY, DISCOUNT)
        self._reference: NDArray[np.float64] | None = None

    @property
    def layer(self) -> ScoredLayer:
        """The averaged actor's layer, which `save` would write now."""
        return self._agent.averaged.scored_layer()

    def step(self, iteration: int) -> Mapping[str, float]:
        """Run whole episodes into the replay buffer, then update on samples from it."""
        config = self._config
        self._agent.slow_down(config.rate(iteration))
        learned = self._agent.actor.scored_layer()
        units = [_Unit(curriculum=self._curriculum, seed=seed, learned=learned) for seed in config.episode_seeds(iteration)]
        played = self._collectors.map(_play, units)
        for experience in played:
            self._replay.add(experience)
        rng = np.random.default_rng((config.seed, iteration, _SAMPLES))
        figures: dict[str, float] = {}
        for _ in range(config.updates):
            figures = self._agent.update(self._replay.sample(BATCH, rng))
        reward = float(np.concatenate([experience.reward for experience in played]).mean())
        return {ENV_STEPS: sum(len(experience) for experience in played), "reward": reward, **figures}

    def validate_yardstick(self, done_one: Callable[[], None]) -> None:
        """`load-greedy` on the validation seeds."""
        self._yardstick(done_one)

    def validate(self, done_one: Callable[[], None]) -> Score:
        """The averaged actor on the validation seeds, without noise, beside `load-greedy`."""
        theirs = self._yardstick(done_one)
        ours = self._validated(self.layer, done_one)
        return score_of(ours[:, 0], theirs[:, 0], YARDSTICK, {"lc_qos_rate": float(ours[:, 1].mean())})

    def _yardstick(self, done_one: Callable[[], None]) -> NDArray[np.float64]:
        if self._reference is None:
            self._reference = self._validated(None, done_one)
        return self._reference

    def _validated(self, learned: ScoredLayer | None, done_one: Callable[[], None]) -> NDArray[np.float64]:
        units = [_Unit(curriculum=self._curriculum, seed=seed, learned=learned) for seed in self._config.validation_seeds]
        return np.array(self._collectors.map(_validate, units, done_one))

    def save(self, path: Path, trained: Mapping[str, Any]) -> str:
        """Write the checkpoint."""
        return save_layer(self.layer, path, trained=dict(trained), policy=self._config.policy)

    def state(self) -> dict[str, Any]:
        """The agent and its replay buffer."""
        return {"agent": self._agent.state(), "replay": self._replay.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self._agent.restore(state["agent"])
        self._replay.restore(state["replay"])

    def close(self) -> None:
        """Stop the processes."""
        self._collectors.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """One episode, drawn by its seed."""

    curriculum: Curriculum
    seed: int
    learned: ScoredLayer | None
    """None: `load-greedy` dispatches."""


def _play(unit: _Unit) -> Experience:
    assert unit.learned is not None
    episode = replace(draw_episode(np.random.default_rng(unit.seed), unit.curriculum), seed=unit.seed)
    return play(episode, unit.learned, np.random.default_rng((unit.seed, _NOISE)))


def _validate(unit: _Unit) -> tuple[float, float]:
    """Mean reward of an LC request, and QoS rate."""
    episode = replace(draw_episode(np.random.default_rng(unit.seed), unit.curriculum), seed=unit.seed)
    rule = lc_rule("load-greedy") if unit.learned is None else LcRule(dsaco.POLICY, unit.learned.weights())
    outcomes = run_episode(episode, rule).outcomes
    return float(rewards(outcomes)[np.isfinite(outcomes.target_s)].mean()), qos_rate(outcomes)
