"""What the learners of BE placement share: the worlds of an iteration, and the judgement on those of the validation seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.learning.network import PlacementNetwork
from tango.training.collectors import Collectors
from tango.training.config import TrainingConfig
from tango.training.curriculum import curriculum_of, draw_spec
from tango.training.devices import Weights, weights_of
from tango.training.evaluation import Judgement, Scores, joined, pronounce
from tango.training.learner import REFERENCE, Score, score_of
from tango.training.rollouts import Draw, Tick, play, units_of
from tango.training.worlds import TICK_S


class PlacementWorlds:
    """Plays and judges in the processes of a configuration."""

    def __init__(self, config: TrainingConfig, draw: Draw = draw_spec) -> None:
        self._config, self._draw = config, draw
        self._curriculum = curriculum_of(config)
        self._collectors = Collectors(config.jobs)
        self._ticks = max(1, round(config.episode_s / TICK_S))
        self._reference: Scores | None = None

    def play(self, network: PlacementNetwork, iteration: int) -> tuple[list[list[Tick]], NDArray[np.float32]]:
        """An iteration's episodes: by world its ticks, and (worlds,) the critic's value of what came after them."""
        seeds = self._config.episode_seeds(iteration)
        units = units_of(self._curriculum, seeds, network, ticks=self._ticks, draw=self._draw)
        played = self._collectors.map(play, units)
        return [ticks for unit in played for ticks in unit.ticks], np.concatenate([unit.last for unit in played])

    def judge(self, network: PlacementNetwork) -> Score:
        """The network, greedily, beside `load-greedy`."""
        if self._reference is None:
            self._reference = self._judged(0, None)
        ours = self._judged(network.hidden, weights_of(network))
        figures = {"be_throughput": float(ours.be_throughput.mean()), "lc_missed": float(ours.lc_missed.mean())}
        return score_of(ours.reward, self._reference.reward, REFERENCE, figures)

    def _judged(self, hidden: int, weights: Weights | None) -> Scores:
        seeds = self._config.validation_seeds
        judgements = [
            Judgement(curriculum=self._curriculum, seeds=(seed,), hidden=hidden, weights=weights, draw=self._draw) for seed in seeds
        ]
        return joined([found for part in self._collectors.map(pronounce, judgements) for found in part])

    def close(self) -> None:
        """Let processes go."""
        self._collectors.close()
