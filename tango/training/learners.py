"""The learners that `tango train` knows, by policy and algorithm. Another one is a line in `LEARNERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tango.domain.near_names import near_name
from tango.errors import UsageError
from tango.training.a2c_learner import A2cLearner
from tango.training.config import TrainingConfig
from tango.training.dsaco_learner import DsacoLearner
from tango.training.evolution_learner import EvolutionLearner
from tango.training.gnn_sac_learner import GnnSacLearner
from tango.training.learner import Learner


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerKind:
    """How a learner is made, and what it is configured as unless told otherwise."""

    make: Callable[[TrainingConfig], Learner]
    about: str
    """One line for help texts."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of fields of `TrainingConfig` that differ from its own defaults."""


_BE_EPISODES: Mapping[str, Any] = {
    "episode_s": 90.0,
    "drawn_share": 0.85,
    "imitation": 16,
    "validation_episodes": 60,
}
"""What all learners of BE placement share: a difference between them is one of the algorithm."""

LEARNERS: dict[tuple[str, str], LearnerKind] = {
    ("dcg-be", "evolution"): LearnerKind(
        make=EvolutionLearner,
        about="BE placement by an evolution strategy, on runs of the engine",
        defaults={**_BE_EPISODES, "episodes": 32, "horizon": 400, "validate_every": 20},
    ),
    ("dcg-be", "a2c"): LearnerKind(
        make=A2cLearner,
        about="BE placement by advantage actor-critic, on the same runs",
        defaults={**_BE_EPISODES, "episodes": 4, "updates": 2, "horizon": 600, "validate_every": 60},
    ),
    ("gnn-sac", "sac"): LearnerKind(
        make=GnnSacLearner,
        about="BE placement by soft actor-critic, on the same runs",
        defaults={**_BE_EPISODES, "episodes": 4, "updates": 40, "horizon": 400, "validate_every": 40},
    ),
    ("dsaco", "sac"): LearnerKind(
        make=DsacoLearner,
        about="LC dispatch by soft actor-critic, on runs of the engine",
        defaults={"episodes": 2, "updates": 200, "horizon": 500, "validate_every": 24},
    ),
}


def configured(policy: str, algorithm: str | None = None, **given: Any) -> TrainingConfig:
    """The configuration of a training: the learner's defaults, and what is given; no algorithm: the policy's first.

    Raises: UsageError for a policy or an algorithm that is not known, and for figures out of bounds.
    """
    algorithms = [name for of, name in LEARNERS if of == policy]
    if not algorithms:
        known = tuple(dict.fromkeys(of for of, _ in LEARNERS))
        raise UsageError(
            f"there is no policy {policy!r} that learns{near_name(policy, known)}, expected one of: {', '.join(known)}"
        )
    algorithm = algorithm or algorithms[0]
    if algorithm not in algorithms:
        raise UsageError(
            f"{policy} does not learn by {algorithm!r}{near_name(algorithm, algorithms)}, expected one of: {', '.join(algorithms)}"
        )
    return TrainingConfig(policy=policy, algorithm=algorithm, **{**LEARNERS[policy, algorithm].defaults, **given})


def learner_of(config: TrainingConfig) -> Learner:
    """A learner that has learned nothing yet. Raises: UsageError, ConfigError for a configuration that it cannot be made of."""
    return LEARNERS[config.policy, config.algorithm].make(config)
