"""What is trained on: drawn fleets (domain randomisation) and named ones, patterns of arrivals, loads; and an episode, drawn of these.

How an episode is drawn differs: `engine_episodes` for BE placement, `lc_rollouts` for LC dispatch. Both are whole runs of the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tango.domain.fleet import Fleet
from tango.settings import SimulationSettings
from tango.traces.workloads import Workload
from tango.training.config import TrainingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """What a configuration asks to be trained on."""

    fleets: tuple[Fleet, ...] = ()
    patterns: tuple[str, ...] = ()
    loads: tuple[float, float] | None = None
    drawn_share: float = 1.0
    episode_s: float = 40.0

    def named_fleet(self, rng: np.random.Generator) -> Fleet | None:
        """One of the named fleets; None: this episode's is drawn. Where none is named, nothing is drawn from `rng`."""
        if not self.fleets or rng.uniform() < self.drawn_share:
            return None
        return self.fleets[int(rng.integers(len(self.fleets)))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A run of the engine to learn from, before it is run."""

    fleet: Fleet
    workload: Workload
    settings: SimulationSettings
    seed: int


def curriculum_of(config: TrainingConfig) -> Curriculum:
    """Raises: UsageError or ConfigError for a fleet that cannot be read."""
    return Curriculum(
        fleets=config.named_fleets(),
        patterns=config.patterns,
        loads=config.loads,
        drawn_share=config.drawn_share,
        episode_s=config.episode_s,
    )
