"""`dcg-be` by an evolution strategy on whole runs of the simulator's engine: the default learner of BE placement.

A tick's reward says little of a placement, whose effect is spread over the next minute and lost in what LC does meanwhile; a whole run's
reward says it all. So trials are whole runs: pairs of networks, the weights moved one way and the other, play the same episode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tango.errors import UsageError
from tango.learning.checkpoint import save_checkpoint
from tango.learning.network import PlacementNetwork
from tango.traces.workloads import draw_requests
from tango.training.be_rollouts import Placing
from tango.training.be_validation import BeValidation
from tango.training.collectors import Collectors
from tango.training.config import TrainingConfig
from tango.training.curriculum import Curriculum, curriculum_of
from tango.training.devices import Weights, put_weights, weights_of
from tango.training.engine_episodes import advantage, draw_be_episode, run_be_episode
from tango.training.evolution import EvolutionSettings, Moments, ascended, perturbation, scale_of
from tango.training.imitation import RATE, Imitation
from tango.training.learner import ENV_STEPS, Score


class EvolutionLearner:
    """First the actor imitates, then it evolves; a running average of it is validated and kept. An environment step is a tick of a run."""

    def __init__(self, config: TrainingConfig) -> None:
        torch.manual_seed(config.seed)
        self._config = config
        self._settings = config.settings(EvolutionSettings)
        if config.episodes < 2:
            raise UsageError(
                f"episodes is {config.episodes}, expected 2 or more: a pair of trials counts by how it differs from others"
            )
        self._curriculum = curriculum_of(config)
        self._collectors = Collectors(config.jobs)
        self._network = PlacementNetwork(config.hidden)
        self._averaged = deepcopy(self._network)
        remembers = self._settings.memory > 0
        self._imitation = Imitation(config, self._curriculum, memory=remembers)
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=RATE)
        self._validation = BeValidation(self._curriculum, config.validation_seeds, self._collectors, memory=remembers)
        self._moments = Moments.none(len(flat(self._network, self._evolving)))

    @property
    def network(self) -> PlacementNetwork:
        """The averaged network, which `save` would write now."""
        return self._averaged

    @property
    def _evolving(self) -> tuple[str, ...]:
        return evolving(self._network, encoder=self._settings.encoder > 0)

    def step(self, iteration: int) -> Mapping[str, float]:
        """Imitate on a few episodes, or evolve by pairs of trials."""
        return self._imitate(iteration) if iteration < self._config.imitation else self._evolve(iteration)

    def _imitate(self, iteration: int) -> Mapping[str, float]:
        figures = self._imitation.step(self._network, self._optimizer, self._collectors, iteration)
        put_weights(self._averaged, weights_of(self._network))
        return figures

    def _evolve(self, iteration: int) -> Mapping[str, float]:
        config, settings = self._config, self._settings
        names = self._evolving
        weights = weights_of(self._network)
        units = [
            _Trial(
                curriculum=self._curriculum,
                seed=seed,
                hidden=config.hidden,
                weights=weights,
                names=names,
                of=(config.seed, iteration, pair),
                settings=settings,
            )
            for pair, seed in enumerate(config.episode_seeds(iteration))
        ]
        found = self._collectors.map(_pair, units)
        differences = np.array([difference for difference, _ in found])
        before = flat(self._network, names)
        scale = scale_of([weights[name].reshape(-1) for name in names])
        after = ascended(
            before,
            scale,
            differences,
            self._moments,
            settings,
            seed=config.seed,
            iteration=iteration,
            rate=config.rate(iteration),
        )
        put_flat(self._network, names, after)
        averaged = flat(self._averaged, names)
        put_flat(self._averaged, names, averaged + np.float32(settings.average_rate) * (after - averaged))
        return {
            ENV_STEPS: sum(ticks for _, ticks in found),
            "difference": float(np.abs(differences).mean()),
            "moved": float(np.sqrt(np.mean(((after - before) / scale) ** 2))),
        }

    def validate_yardstick(self, done_one: Callable[[], None]) -> None:
        """`load-greedy` on the validation seeds."""
        self._validation.validate_yardstick(done_one)

    def validate(self, done_one: Callable[[], None]) -> Score:
        """The averaged network on the validation seeds, beside `load-greedy` on the same."""
        return self._validation.score(self._averaged, done_one)

    def save(self, path: Path, trained: Mapping[str, Any]) -> str:
        """Write the checkpoint."""
        return save_checkpoint(self._averaged, path, name=self._config.policy, policy=self._config.policy, trained=dict(trained))

    def state(self) -> dict[str, Any]:
        """Both networks, and the state of both optimizers."""
        return {
            "network": self._network.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "first": torch.from_numpy(self._moments.first.copy()),
            "second": torch.from_numpy(self._moments.second.copy()),
            "steps": self._moments.steps,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self._network.load_state_dict(state["network"])
        self._averaged.load_state_dict(state["averaged"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._moments = Moments(state["first"].numpy().copy(), state["second"].numpy().copy(), int(state["steps"]))

    def close(self) -> None:
        """Stop the processes."""
        self._collectors.close()


def evolving(network: PlacementNetwork, *, encoder: bool) -> tuple[str, ...]:
    """Names of the weights that evolve: the actor's, and with `encoder` the encoder's; never the critic's."""
    names = (name for name, _ in network.named_parameters() if not name.startswith("critic"))
    return tuple(name for name in names if encoder or name.startswith("actor"))


def flat(network: PlacementNetwork, names: tuple[str, ...]) -> NDArray[np.float32]:
    """(p,) the weights of these names, flattened, in order."""
    held = dict(network.named_parameters())
    return np.concatenate([held[name].detach().numpy().reshape(-1) for name in names])


def put_flat(network: PlacementNetwork, names: tuple[str, ...], weights: NDArray[np.float32]) -> None:
    """Set a network's weights of these names from a flat vector (p,), as `flat` gave it."""
    held, first = dict(network.named_parameters()), 0
    with torch.no_grad():
        for name in names:
            count = held[name].numel()
            held[name].copy_(torch.from_numpy(weights[first : first + count].reshape(held[name].shape)))
            first += count


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """One episode, drawn by its seed, for a pair of networks."""

    curriculum: Curriculum
    seed: int
    hidden: int
    weights: Weights
    settings: EvolutionSettings
    names: tuple[str, ...]
    of: tuple[int, int, int]
    """Training seed, iteration, pair."""


def _pair(trial: _Trial) -> tuple[float, int]:
    """The reward of the one network over the other in the same episode, and the BE ticks of both runs."""
    episode = draw_be_episode(trial.seed, trial.curriculum)
    network = PlacementNetwork(trial.hidden)
    put_weights(network, trial.weights)
    weights = flat(network, trial.names)
    scale = scale_of([dict(network.named_parameters())[name].detach().numpy().reshape(-1) for name in trial.names])
    noise = np.float32(trial.settings.noise) * scale * perturbation(*trial.of, len(weights))
    outcomes, requests = [], draw_requests(episode.workload, episode.fleet, episode.seed)
    for side in (weights + noise, weights - noise):
        put_flat(network, trial.names, side)
        outcomes.append(run_be_episode(episode, Placing(network, memory=trial.settings.memory > 0), requests))
    plus, minus = outcomes
    gained = advantage(plus, minus, miss_price=trial.settings.miss_price, waste_price=trial.settings.waste_price)
    return gained, sum(outcome.ticks for outcome in outcomes)
