"""Evolution strategy with mirrored samples: the gradient of an episode's reward, estimated from the rewards alone.

Source: Salimans, Ho, Chen, Sidor, Sutskever, "Evolution strategies as a scalable alternative to reinforcement learning",
arXiv:1703.03864, algorithm 2 with antithetic sampling; Adam (Kingma, Ba, ICLR 2015) on what it gives. Departures: both halves of a
pair play the same episode, so that what the input brought cancels out; a pair counts by the difference of its halves, over the spread
of all pairs' and clipped, in place of ranks; noise and step of a weight are in units of its layer's root mean square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolutionSettings:
    """Hyper-parameters of the evolution strategy."""

    noise: float = 0.1
    """Standard deviation of a trial's weights, in units of `scale_of`."""
    learning_rate: float = 0.03
    """Length of a step, in units of `scale_of` too."""
    first_moment: float = 0.9
    """Adam's beta_1."""
    second_moment: float = 0.98
    """Adam's beta_2."""
    most: float = 2.0
    """A pair's difference of rewards is cut at this many standard deviations."""
    average_rate: float = 0.1
    """Share by which the averaged weights, which are validated and kept, follow in an iteration."""
    encoder: float = 0.0
    """1: the encoder's weights evolve too; 0: the actor's alone, and the encoder stays as imitation has left it."""
    miss_price: float = 1.0
    """Penalty per percentage point of LC requests that missed their target (`engine_episodes.advantage`)."""
    waste_price: float = 0.1
    """Penalty per per cent of work thrown away by evictions (`engine_episodes.advantage`)."""
    memory: float = 1.0
    """0: what LC used of late is not remembered, the instant stands for it; an ablation, since the scheduler remembers."""


@dataclass(slots=True)
class Moments:
    """Adam's moment estimates of p weights."""

    first: Vector
    second: Vector
    steps: int = 0

    @classmethod
    def none(cls, count: int) -> Moments:
        """The moments before the first step: zeros."""
        return cls(np.zeros(count, np.float32), np.zeros(count, np.float32))


def perturbation(seed: int, iteration: int, pair: int, count: int) -> Vector:
    """(p,) standard normal noise of a pair of trials: a function of its arguments, so that it need not be sent about."""
    return np.random.default_rng((seed, iteration, pair)).standard_normal(count, np.float32)


def scale_of(layers: list[Vector]) -> Vector:
    """(p,) root mean square of the layer that each weight belongs to, at least 0.05."""
    return np.concatenate([np.full(layer.size, max(0.05, float(np.sqrt(np.mean(layer**2)))), np.float32) for layer in layers])


def ascended(
    weights: Vector,
    scale: Vector,
    differences: NDArray[np.float64],
    moments: Moments,
    settings: EvolutionSettings,
    *,
    seed: int,
    iteration: int,
    rate: float,
) -> Vector:
    """The weights (p,) after a step along what the pairs say; `differences` (pairs,) are reward with the noise less reward against it.

    Source: Salimans et al., algorithm 2, whose workers draw the noise of all trials again from known seeds, with antithetic sampling; the
    step by Adam (Kingma, Ba).
    """
    spread = float(differences.std())
    counts = np.clip(differences / spread, -settings.most, settings.most) if spread > 0 else np.zeros(len(differences))
    gradient = np.zeros_like(weights)
    for pair, count in enumerate(counts.tolist()):
        gradient += np.float32(count / len(counts)) * perturbation(seed, iteration, pair, len(weights))
    moments.steps += 1
    moments.first = (settings.first_moment * moments.first + (1 - settings.first_moment) * gradient).astype(np.float32)
    moments.second = (settings.second_moment * moments.second + (1 - settings.second_moment) * gradient**2).astype(np.float32)
    first = moments.first / (1 - settings.first_moment**moments.steps)
    second = moments.second / (1 - settings.second_moment**moments.steps)
    step = settings.learning_rate * rate * scale * first / (np.sqrt(second) + 1e-8)
    moved: Vector = (weights + step).astype(np.float32)
    return moved
