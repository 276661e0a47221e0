"""`dcg-be` by advantage actor-critic: the reference learner of BE placement, on worlds of the node model (`tango.training.worlds`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tango.learning.checkpoint import save_checkpoint
from tango.learning.network import PlacementNetwork
from tango.training.a2c import A2cSettings, update
from tango.training.be_worlds import PlacementWorlds
from tango.training.config import TrainingConfig
from tango.training.curriculum import draw_spec
from tango.training.devices import put_weights, weights_of
from tango.training.learner import ENV_STEPS, Score
from tango.training.rollouts import Draw


class A2cLearner:
    """The network that plays is the one that is updated; an environment step is a tick of a world."""

    def __init__(self, config: TrainingConfig, draw: Draw = draw_spec) -> None:
        torch.manual_seed(config.seed)
        self._config = config
        self._settings = config.settings(A2cSettings)
        self._worlds = PlacementWorlds(config, draw)
        self._plays = PlacementNetwork(config.hidden)
        self._network = self._plays if config.device == "cpu" else PlacementNetwork(config.hidden).to(config.device)
        put_weights(self._network, weights_of(self._plays))
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=self._settings.learning_rate)

    @property
    def network(self) -> PlacementNetwork:
        """As it is now, on the CPU."""
        return self._plays

    def step(self, iteration: int) -> Mapping[str, float]:
        """Play, then steps of gradient descent on what was played."""
        played, last = self._worlds.play(self._plays, iteration)
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * self._config.rate(iteration)
        figures: dict[str, float] = {}
        for _ in range(self._config.updates):
            imitate = iteration < self._config.imitation
            figures = update(
                self._network, self._optimizer, played, last, self._settings, imitate=imitate, device=self._config.device
            )
        self._show()
        return {ENV_STEPS: sum(len(ticks) for ticks in played), **figures}

    def validate(self) -> Score:
        """The network, greedily, on the validation seeds."""
        return self._worlds.judge(self._plays)

    def save(self, path: Path, trained: Mapping[str, Any]) -> str:
        """Write the checkpoint."""
        return save_checkpoint(self._plays, path, name=self._config.policy, policy=self._config.policy, trained=dict(trained))

    def state(self) -> dict[str, Any]:
        """Network and optimizer."""
        return {"network": self._network.state_dict(), "optimizer": self._optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._show()

    def close(self) -> None:
        """Let processes go."""
        self._worlds.close()

    def _show(self) -> None:
        """Bring what was learned to the network that plays."""
        if self._plays is not self._network:
            put_weights(self._plays, weights_of(self._network))
