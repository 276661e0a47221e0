"""The configuration of a training, as a value: it is stored in the checkpoint, and equal values give equal networks (on a CPU)."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from tango.domain.fleet import Fleet
from tango.domain.near_names import near_name
from tango.domain.seeds import TRAINING, VALIDATION
from tango.errors import UsageError
from tango.fleets import load_fleet
from tango.fleets.catalog import parse_fleet
from tango.traces.generators import PATTERNS

LEAST_RATE = 0.05
"""Share of the learning rate that is left after `horizon` iterations."""

_OWN_OPTIONS = ("seed", "hidden", "jobs")
"""Figures that `tango train` takes by an option of their own."""

_Settings = TypeVar("_Settings")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Everything a training depends on, as plain JSON, and two fields (`jobs`, `device`) that say how it is carried out.

    What a learner does by default stands beside it in `tango.training.learners`.
    Raises: UsageError for a figure out of bounds.
    """

    policy: str
    algorithm: str
    fleets: tuple[str, ...] = ()
    """Names of built-in fleets, or the texts of fleet files, to train on beside drawn ones."""
    patterns: tuple[str, ...] = ()
    """Patterns of arrivals; empty: as the learner draws them."""
    loads: tuple[float, float] | None = None
    """Offered CPU work over the fleet's CPU, from and to; None: as the learner draws it."""
    drawn_share: float = 0.5
    """Share of the episodes on drawn fleets where fleets are named; without named ones all are drawn."""
    seed: int = 1
    hidden: int = 32
    """Width of the network's hidden layers, in units."""
    episodes: int = 8
    """Episodes per iteration."""
    episode_s: float = 40.0
    """Simulated seconds of an episode."""
    updates: int = 1
    """Gradient steps per iteration."""
    imitation: int = 0
    """Number of iterations at the beginning in which the network imitates the learner's teacher."""
    imitation_updates: int = 150
    """Gradient steps per iteration of imitation."""
    horizon: int = 800
    """Iterations over which the learning rate falls to a twentieth: by the iteration alone, so that a training can be continued."""
    validate_every: int = 25
    """Iterations between two evaluations on the validation seeds."""
    validation_episodes: int = 30
    """Validation seeds of each such evaluation."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The learner's own hyper-parameters."""
    jobs: int = 1
    """Processes that simulate episodes. Their number does not change the episodes."""
    device: str = "cpu"
    """Where torch updates the network: `cpu` or `cuda`. Episodes are always played on CPUs."""

    def __post_init__(self) -> None:
        for name in ("hidden", "episodes", "updates", "imitation_updates", "horizon", "validate_every", "jobs", "episode_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)!r}, expected a number above 0")
        if not 2 <= self.validation_episodes <= len(VALIDATION):
            raise UsageError(
                f"validation_episodes is {self.validation_episodes}, expected 2 to {len(VALIDATION)}: it takes an interval"
            )
        if self.seed not in TRAINING:
            raise UsageError(
                f"seed is {self.seed}, expected {TRAINING.start} to {TRAINING.stop - 1}: those beyond judge what was trained"
            )
        if self.imitation < 0 or not 0 <= self.drawn_share <= 1:
            raise UsageError(f"imitation is {self.imitation} and drawn_share {self.drawn_share:g}, expected 0 or more, and 0 to 1")
        for pattern in self.patterns:
            if pattern not in PATTERNS:
                raise UsageError(
                    f"there is no pattern {pattern!r}{near_name(pattern, PATTERNS)}; known patterns: {', '.join(PATTERNS)}"
                )
        if self.loads is not None and not 0 < self.loads[0] <= self.loads[1] < float("inf"):
            raise UsageError(f"loads are {self.loads[0]:g} to {self.loads[1]:g}, expected two numbers above 0, the lower one first")
        if self.device not in ("cpu", "cuda"):
            raise UsageError(f"device is {self.device!r}, expected cpu or cuda")

    @property
    def validation_seeds(self) -> range:
        """The seeds of the validation episodes."""
        return VALIDATION[: self.validation_episodes]

    def episode_seeds(self, iteration: int, count: int | None = None) -> list[int]:
        """The seeds of an iteration's episodes, which draw all that is played in them; all of `TRAINING`. The first are those of fewer."""
        rng = np.random.default_rng((self.seed, iteration))
        return [int(rng.integers(TRAINING.start, TRAINING.stop)) for _ in range(self.episodes if count is None else count)]

    def rate(self, iteration: int) -> float:
        """Share of the learning rate that holds in an iteration, from 0 on."""
        return max(LEAST_RATE, 1 - iteration / self.horizon)

    def named_fleets(self) -> tuple[Fleet, ...]:
        """The fleets, read. Raises: UsageError or ConfigError for one that cannot be."""
        return tuple(parse_fleet(text, "fleet") if "\n" in text else load_fleet(text) for text in self.fleets)

    def settings(self, kind: type[_Settings], **defaults: Any) -> _Settings:
        """The learner's hyper-parameters: a dataclass of its own, its defaults, what `options` changes. Raises: UsageError."""
        known = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
        unknown = sorted(set(self.options) - set(known))
        if unknown:
            general = [f.name for f in dataclasses.fields(self) if f.type in ("int", "float") and f.name not in _OWN_OPTIONS]
            raise UsageError(
                f"{self.policy} by {self.algorithm} has no option {', '.join(unknown)}{near_name(unknown, (*known, *general))}, "
                f"expected some of {', '.join(known)}, or what any training has: {', '.join(general)}"
            )
        for name, value in self.options.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not -math.inf < value < math.inf:
                raise UsageError(f"option {name} is {value!r:.40}, expected a number")
        return kind(**{**defaults, **self.options})

    def as_dict(self) -> dict[str, Any]:
        """The training as JSON holds it, all of it."""
        values = dataclasses.asdict(self)
        return values | {
            "fleets": list(self.fleets),
            "patterns": list(self.patterns),
            "loads": list(self.loads) if self.loads else None,
            "options": dict(self.options),
        }

    def recipe(self) -> dict[str, Any]:
        """What the result depends on: all but the number of processes and the device."""
        return {name: value for name, value in self.as_dict().items() if name not in ("jobs", "device")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """The training that `as_dict` or `recipe` gave. Raises: UsageError."""
        given = json.loads(json.dumps(dict(values)))
        for name in ("fleets", "patterns", "loads"):
            if given.get(name) is not None:
                given[name] = tuple(given[name])
        try:
            return cls(**given)
        except TypeError as error:
            raise UsageError(f"no configuration of a training ({error})") from error
