"""`dcg-be` by advantage actor-critic on runs of the simulator's engine: the reference learner of BE placement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tango.learning.checkpoint import save_checkpoint
from tango.learning.network import PlacementNetwork
from tango.training.a2c import A2cSettings, follow, update
from tango.training.be_rollouts import Unit, play
from tango.training.be_validation import BeValidation
from tango.training.collectors import Collectors
from tango.training.config import TrainingConfig
from tango.training.curriculum import curriculum_of
from tango.training.devices import put_weights, weights_of
from tango.training.imitation import RATE, Imitation
from tango.training.learner import ENV_STEPS, Score


class A2cLearner:
    """First the network imitates, then it plays and is updated; a running average of it is validated and kept.

    An environment step is a tick of a run.
    """

    def __init__(self, config: TrainingConfig) -> None:
        torch.manual_seed(config.seed)
        self._config = config
        self._settings = config.settings(A2cSettings)
        self._curriculum = curriculum_of(config)
        self._collectors = Collectors(config.jobs)
        self._imitation = Imitation(config, self._curriculum)
        self._validation = BeValidation(self._curriculum, config.validation_seeds, self._collectors)
        self._plays = PlacementNetwork(config.hidden)
        self._averaged = deepcopy(self._plays)
        self._imitates = torch.optim.Adam(self._plays.parameters(), lr=RATE)
        self._network = self._plays if config.device == "cpu" else deepcopy(self._plays).to(config.device)
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=self._settings.learning_rate)

    @property
    def network(self) -> PlacementNetwork:
        """The averaged network, which `save` would write now."""
        return self._averaged

    def step(self, iteration: int) -> Mapping[str, float]:
        """Imitate on a few episodes, or play and learn from what was played."""
        if iteration < self._config.imitation:
            figures = self._imitation.step(self._plays, self._imitates, self._collectors, iteration)
            self._put(self._plays, (self._averaged, self._network))
            return figures
        return self._learn(iteration)

    def _learn(self, iteration: int) -> Mapping[str, float]:
        config, settings = self._config, self._settings
        weights = weights_of(self._plays)
        units = [
            Unit(
                curriculum=self._curriculum,
                seed=seed,
                hidden=config.hidden,
                weights=weights,
                discount_per_s=settings.discount_per_s,
                miss_price=settings.miss_price,
                waste_price=settings.waste_price,
            )
            for seed in config.episode_seeds(iteration)
        ]
        played = self._collectors.map(play, units)
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * config.rate(iteration)
        figures: dict[str, float] = {}
        for part in np.array_split(np.arange(len(played)), min(config.updates, len(played))):
            runs = [
                run for at in part.tolist() for run in played[at]
            ]  # both of an episode together: what one gains the other lacks
            figures = update(self._network, self._optimizer, runs, settings, device=config.device)
        self._put(self._network, (self._plays,))
        follow(self._averaged, self._plays, settings.average_rate)
        return {ENV_STEPS: sum(run.steps for runs in played for run in runs), **figures}

    def validate_yardstick(self, done_one: Callable[[], None]) -> None:
        """`load-greedy` on the validation seeds."""
        self._validation.validate_yardstick(done_one)

    def validate(self, done_one: Callable[[], None]) -> Score:
        """The averaged network, greedily, on the validation seeds."""
        return self._validation.score(self._averaged, done_one)

    def save(self, path: Path, trained: Mapping[str, Any]) -> str:
        """Write the checkpoint."""
        return save_checkpoint(self._averaged, path, name=self._config.policy, policy=self._config.policy, trained=dict(trained))

    def state(self) -> dict[str, Any]:
        """The state of networks and optimizers."""
        return {
            "network": self._network.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "imitates": self._imitates.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self._network.load_state_dict(state["network"])
        self._averaged.load_state_dict(state["averaged"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._imitates.load_state_dict(state["imitates"])
        self._put(self._network, (self._plays,))

    def close(self) -> None:
        """Stop the processes."""
        self._collectors.close()

    def _put(self, source: PlacementNetwork, targets: tuple[PlacementNetwork, ...]) -> None:
        for target in targets:
            if target is not source:
                put_weights(target, weights_of(source))
