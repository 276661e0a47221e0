"""Imitation of the teacher (`teacher.best_fit`) on ticks of whole runs, on the states that the network itself reaches.

Every learner of BE placement begins so, on the same episodes, whatever comes next.

Source: Ross, Gordon, Bagnell, "A reduction of imitation learning and structured prediction to no-regret online learning", AISTATS 2011.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from tango.learning.network import PlacementNetwork, batch_graphs
from tango.training.be_rollouts import Recorder, Tick, choices_of, scores_of
from tango.training.collectors import Collectors
from tango.training.config import TrainingConfig
from tango.training.curriculum import Curriculum
from tango.training.devices import Weights, put_weights, weights_of
from tango.training.engine_episodes import draw_be_episode, run_be_episode
from tango.training.learner import ENV_STEPS
from tango.training.teacher import best_fit

EPISODES = 8
"""Played in an iteration of imitation, whatever the learner plays later."""
RATE = 3e-3
"""Learning rate of imitation; it falls to a twentieth."""
MOST_REQUESTS = 32
"""Of a tick that is imitated."""
TICKS_A_STEP = 16
_PICKS, _NOISE = 1, 2
"""Set the generators of an iteration apart."""


class Imitation:
    """The first iterations of a training of BE placement."""

    def __init__(self, config: TrainingConfig, curriculum: Curriculum, *, memory: bool = True) -> None:
        self._config, self._memory = config, memory
        # Named fleets come later: what best fit does can be learned on small ones, in a tenth of the time.
        self._curriculum = replace(curriculum, fleets=())

    def step(
        self, network: PlacementNetwork, optimizer: torch.optim.Optimizer, collectors: Collectors, iteration: int
    ) -> dict[str, float]:
        """Play a few episodes, and imitate on them; give the figures."""
        config = self._config
        for group in optimizer.param_groups:
            group["lr"] = RATE * max(0.05, 1 - iteration / config.imitation)
        weights = weights_of(network)
        units = [
            _Unit(curriculum=self._curriculum, seed=seed, hidden=config.hidden, weights=weights, memory=self._memory)
            for seed in config.episode_seeds(iteration, EPISODES)
        ]
        ticks = [tick for played in collectors.map(_record, units) for tick in played]
        rng = np.random.default_rng((config.seed, iteration, _PICKS))
        return {ENV_STEPS: len(ticks), **imitate(network, optimizer, ticks, config.imitation_updates, rng)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    curriculum: Curriculum
    seed: int
    hidden: int
    weights: Weights
    memory: bool


def _record(unit: _Unit) -> list[Tick]:
    network = PlacementNetwork(unit.hidden)
    put_weights(network, unit.weights)
    episode = draw_be_episode(unit.seed, unit.curriculum)
    settings = replace(episode.settings, sim=replace(episode.settings.sim, be_batch_limit=MOST_REQUESTS))
    noise = np.random.default_rng((unit.seed, _NOISE))
    recorder = Recorder(network.eval(), noise, most=MOST_REQUESTS, memory=unit.memory)
    run_be_episode(replace(episode, settings=settings), recorder)
    return recorder.ticks


def imitate(
    network: PlacementNetwork, optimizer: torch.optim.Optimizer, ticks: list[Tick], steps: int, rng: np.random.Generator
) -> dict[str, float]:
    """Steps of gradient descent on ticks drawn evenly; give the loss, and how often the network chooses as the teacher."""
    losses, alike = [], []
    for _ in range(steps):
        chosen = [ticks[k] for k in rng.integers(0, len(ticks), TICKS_A_STEP).tolist()]
        held = choices_of(chosen)
        if held is None:
            continue
        node, _ = network.encode(batch_graphs([tick.graph for tick in chosen]))
        logits = scores_of(network, node, held).masked_fill(~held.allowed, -torch.inf)
        teacher = best_fit(held.pair, held.allowed)
        loss = functional.cross_entropy(logits, teacher)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        alike.append(float((logits.argmax(1) == teacher).float().mean()))
    return {"imitation_loss": float(np.mean(losses or [0.0])), "as_teacher": float(np.mean(alike or [0.0]))}
