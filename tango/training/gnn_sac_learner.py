"""`gnn-sac`: BE placement by soft actor-critic, placement by placement, on the runs of the engine that `dcg-be` learns on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tango.learning.checkpoint import save_checkpoint
from tango.learning.network import PlacementNetwork
from tango.training.be_agent import PlacementActor, PlacementCritics, TickReplay
from tango.training.be_rollouts import Unit, play
from tango.training.be_validation import BeValidation
from tango.training.collectors import Collectors
from tango.training.config import TrainingConfig
from tango.training.curriculum import curriculum_of
from tango.training.devices import put_weights, weights_of
from tango.training.imitation import RATE, Imitation
from tango.training.learner import ENV_STEPS, Score
from tango.training.sac import DiscreteSac, SacSettings

DISCOUNT_PER_S = 0.97
"""As for A2C."""
BATCH = 24
"""Ticks of a minibatch."""
REPLAY_CAPACITY = 8_000
"""Ticks: some 80 runs; 0.3 GiB."""
CRITICS_FIRST = 10
"""Iterations after imitation in which the actor goes on imitating, on the replay, while the critics learn what is worth what."""
_SAMPLES = 3
"""Sets the generator of batches apart from those of the episodes."""


class GnnSacLearner:
    """The actor plays; its running average is validated and kept. An environment step is a tick of a run."""

    def __init__(self, config: TrainingConfig) -> None:
        torch.manual_seed(config.seed)
        self._config = config
        self._curriculum = curriculum_of(config)
        self._collectors = Collectors(config.jobs)
        self._imitation = Imitation(config, self._curriculum)
        self._validation = BeValidation(self._curriculum, config.validation_seeds, self._collectors)
        # The temperature follows the divergence within tens of updates: what is held to little is lost before a slow one has risen.
        settings = config.settings(SacSettings, learning_rate=3e-4, temperature_rate=3e-3, temperature=0.002)
        self._plays = PlacementNetwork(config.hidden)
        self._imitates = torch.optim.Adam(self._plays.parameters(), lr=RATE)
        actor, critics = PlacementActor(PlacementNetwork(config.hidden)), PlacementCritics(config.hidden)
        self._agent = DiscreteSac(actor, critics, settings, device=config.device)
        self._replay = TickReplay(capacity=REPLAY_CAPACITY)

    @property
    def network(self) -> PlacementNetwork:
        """What would be kept now, on the CPU."""
        return _on_cpu(self._agent.averaged.network)

    def step(self, iteration: int) -> Mapping[str, float]:
        """Imitate on a few episodes; or play, then updates on what the replay holds."""
        config = self._config
        if iteration < config.imitation:
            figures = self._imitation.step(self._plays, self._imitates, self._collectors, iteration)
            for actor in (self._agent.actor, self._agent.averaged):
                put_weights(actor.network, weights_of(self._plays))
            return figures
        self._agent.slow_down(config.rate(iteration))
        weights = weights_of(self._agent.actor.network)
        units = [
            Unit(curriculum=self._curriculum, seed=seed, hidden=config.hidden, weights=weights, discount_per_s=DISCOUNT_PER_S)
            for seed in config.episode_seeds(iteration)
        ]
        runs = [run for played in self._collectors.map(play, units) for run in played]
        self._replay.add(runs)
        rng = np.random.default_rng((config.seed, iteration, _SAMPLES))
        taught = config.imitation + CRITICS_FIRST
        if iteration == taught:
            self._agent.hold()
        teach = iteration < taught
        found: dict[str, float] = {}
        for _ in range(config.updates if len(self._replay) >= BATCH else 0):
            found = self._agent.update(self._replay.sample(BATCH, rng, teach=teach))
        return {ENV_STEPS: sum(run.steps for run in runs), **found}

    def validate_yardstick(self, done_one: Callable[[], None]) -> None:
        """`load-greedy` on the validation seeds."""
        self._validation.validate_yardstick(done_one)

    def validate(self, done_one: Callable[[], None]) -> Score:
        """The averaged actor, greedily, on the validation seeds."""
        return self._validation.score(self.network, done_one)

    def save(self, path: Path, trained: Mapping[str, Any]) -> str:
        """Write the checkpoint."""
        return save_checkpoint(self.network, path, name=self._config.policy, policy=self._config.policy, trained=dict(trained))

    def state(self) -> dict[str, Any]:
        """The agent, its replay buffer, the network that runs episodes and the optimizer of its imitation."""
        return {
            "agent": self._agent.state(),
            "replay": self._replay.state(),
            "plays": self._plays.state_dict(),
            "imitates": self._imitates.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self._agent.restore(state["agent"])
        self._replay.restore(state["replay"])
        self._plays.load_state_dict(state["plays"])
        self._imitates.load_state_dict(state["imitates"])

    def close(self) -> None:
        """Stop the processes."""
        self._collectors.close()


def _on_cpu(network: PlacementNetwork) -> PlacementNetwork:
    if next(network.parameters()).device.type == "cpu":
        return network
    copy = PlacementNetwork(network.hidden)
    put_weights(copy, weights_of(network))
    return copy
