"""`gnn-sac`: BE placement by soft actor-critic, placement by placement, on the worlds of `dcg-be`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tango.learning.checkpoint import save_checkpoint
from tango.learning.network import PlacementNetwork
from tango.training.be_agent import PlacementActor, PlacementCritics, TickReplay
from tango.training.be_worlds import PlacementWorlds
from tango.training.config import TrainingConfig
from tango.training.curriculum import draw_spec
from tango.training.devices import put_weights, weights_of
from tango.training.learner import ENV_STEPS, Score
from tango.training.rollouts import Draw
from tango.training.sac import DiscreteSac, SacSettings

DISCOUNT = 0.93
"""A tick of half a second, as for `dcg-be`."""
BATCH = 24
"""Ticks."""
ROOM = 20_000
"""Ticks."""
_SAMPLES = 2
"""Sets the generator of batches apart from the draws of worlds."""


class GnnSacLearner:
    """The actor plays; its running average is judged and kept. An environment step is a tick of a world."""

    def __init__(self, config: TrainingConfig, draw: Draw = draw_spec) -> None:
        torch.manual_seed(config.seed)
        self._config = config
        self._worlds = PlacementWorlds(config, draw)
        settings = config.settings(SacSettings, learning_rate=3e-4, temperature=0.002)
        actor, critics = PlacementActor(PlacementNetwork(config.hidden)), PlacementCritics(config.hidden)
        self._agent = DiscreteSac(actor, critics, settings, device=config.device)
        self._replay = TickReplay(room=ROOM, discount=DISCOUNT)

    @property
    def network(self) -> PlacementNetwork:
        """What would be kept now, on the CPU."""
        return _on_cpu(self._agent.averaged.network)

    def step(self, iteration: int) -> Mapping[str, float]:
        """Play, then updates on what the replay holds."""
        config = self._config
        self._agent.slow_down(config.rate(iteration))
        played, _ = self._worlds.play(_on_cpu(self._agent.actor.network), iteration)
        self._replay.add(played)
        rng = np.random.default_rng((config.seed, iteration, _SAMPLES))
        figures: dict[str, float] = {}
        for _ in range(config.updates if len(self._replay) >= BATCH else 0):
            figures = self._agent.update(self._replay.sample(BATCH, rng, teach=iteration < config.imitation))
        reward = float(np.mean([tick.reward for ticks in played for tick in ticks]))
        return {ENV_STEPS: sum(len(ticks) for ticks in played), "reward": reward, **figures}

    def validate(self) -> Score:
        """The averaged actor, greedily, on the validation seeds."""
        return self._worlds.judge(self.network)

    def save(self, path: Path, trained: Mapping[str, Any]) -> str:
        """Write the checkpoint."""
        return save_checkpoint(self.network, path, name=self._config.policy, policy=self._config.policy, trained=dict(trained))

    def state(self) -> dict[str, Any]:
        """The agent and its replay."""
        return {"agent": self._agent.state(), "replay": self._replay.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._agent.restore(state["agent"])
        self._replay.restore(state["replay"])

    def close(self) -> None:
        """Let processes go."""
        self._worlds.close()


def _on_cpu(network: PlacementNetwork) -> PlacementNetwork:
    if next(network.parameters()).device.type == "cpu":
        return network
    copy = PlacementNetwork(network.hidden)
    put_weights(copy, weights_of(network))
    return copy
