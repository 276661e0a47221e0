"""The interface between the training loop and a learner.

    loop.train ── step(0), step(1), … ──► learner ── plays episodes in processes, updates its networks
        │   ◄─ figures ─────────────────────┘
        ├── judge_yardstick() first where a clock ends the training, so that it knows how long a validation takes
        ├── validate() every so often; save() where it is the best so far
        └── state() into FILE.state; restore() when the training is resumed

The randomness of an iteration is a function of (seed, iteration) alone: episodes begin with an iteration and end with it, and what is
drawn in it is drawn from generators seeded so. A state therefore holds networks, optimizers and replays, and no state of a generator;
a training that was interrupted gives bit for bit what an uninterrupted one gives; and the number of processes changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

ENV_STEPS = "env_steps"
"""Figure of `Learner.step`: environment steps that the iteration played."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Reward of the network on the validation seeds, and its difference to a policy that is not learned, paired by seed."""

    score: float
    """Mean reward over the seeds, in the learner's own unit."""
    gain: float
    """Mean of the difference to the reference; the network with the highest gain is kept."""
    margin: float
    """Half the width of the gain's 95 % confidence interval over the seeds (normal approximation)."""
    reference: str
    """Name of the policy that it is compared with."""
    figures: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The score in the form in which the learning curve and checkpoints store it."""
        # Plain floats: NumPy's would not be read again without code.
        numbers = {name: float(getattr(self, name)) for name in ("score", "gain", "margin")}
        own = {f"validation_{name}": value for name, value in numbers.items()} | {"validation_reference": self.reference}
        return own | {name: float(value) for name, value in self.figures.items()}


def score_of(ours: NDArray[np.float64], theirs: NDArray[np.float64], reference: str, figures: Mapping[str, float]) -> Score:
    """The score from rewards of both policies, shape (seeds,) in the same order of seeds."""
    gain, margin = paired(ours, theirs)
    return Score(score=float(ours.mean()), gain=gain, margin=margin, reference=reference, figures=figures)


def paired(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float]:
    """Mean of the paired difference and half the width of its 95 % interval (normal)."""
    difference = ours - theirs
    return float(difference.mean()), 1.96 * float(difference.std(ddof=1)) / len(difference) ** 0.5


class Learner(Protocol):
    """A learning algorithm with its networks; made of a `TrainingConfig` by a factory in `tango.training.learners`."""

    def step(self, iteration: int) -> Mapping[str, float]:
        """Run an iteration's episodes and learn from them; gives the iteration's figures, `ENV_STEPS` among them.

        Iterations come in order, from 0 or from that of a restored state; all randomness follows from the seed and `iteration`.
        """
        ...

    def validate_yardstick(self, done_one: Callable[[], None]) -> None:
        """Run the policy that is not learned on the validation seeds, unless that is done: the first validation would do it otherwise."""
        ...

    def validate(self, done_one: Callable[[], None]) -> Score:
        """Evaluate the network that `save` would write, on the validation seeds; `done_one` is called after each episode. Changes
        nothing."""
        ...

    def save(self, path: Path, trained: Mapping[str, Any]) -> str:
        """Write the checkpoint, with `trained` in it, whole or not at all; gives its SHA-256."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that the next iterations depend on: tensors, numbers, texts, lists and dicts, so that it loads without code."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave in a learner of the same configuration."""
        ...

    def close(self) -> None:
        """Stop the learner's processes."""
        ...
