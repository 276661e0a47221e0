"""The evolution strategy alone: it climbs what it can only sample, and its noise is a function of where it is used."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tango.training.evolution import EvolutionSettings, Moments, ascended, perturbation, scale_of

PAIRS = 16


def _climbed(steps: int, *, sign: float = 1.0) -> np.ndarray:
    """20 weights, rewarded by closeness to 3 and worth less the further away they are."""
    settings = EvolutionSettings(learning_rate=0.1)
    weights, scale, moments = np.zeros(20, np.float32), np.ones(20, np.float32), Moments.none(20)

    def worth(w: np.ndarray) -> float:
        return -sign * float(np.mean((w - 3.0) ** 2))

    for iteration in range(steps):
        noise = [settings.noise * perturbation(1, iteration, pair, 20) for pair in range(PAIRS)]
        differences = np.array([worth(weights + e) - worth(weights - e) for e in noise])
        weights = ascended(weights, scale, differences, moments, settings, seed=1, iteration=iteration, rate=1.0)
    return weights


def test_it_climbs_what_it_can_only_sample() -> None:
    """Each weight nears the best, with no gradient given."""
    assert np.abs(_climbed(80) - 3.0).max() < 0.7
    assert _climbed(80, sign=-1.0).mean() < -3.0


def test_equal_halves_move_nothing_but_by_what_is_remembered() -> None:
    """Pairs that do not differ say nothing: a fresh strategy stays where it is."""
    weights = np.arange(5, dtype=np.float32)
    after = ascended(
        weights, np.ones(5, np.float32), np.zeros(8), Moments.none(5), EvolutionSettings(), seed=1, iteration=0, rate=1.0
    )
    assert np.array_equal(after, weights)


@given(factor=st.floats(1e-6, 1e6))
def test_the_unit_of_reward_does_not_matter(factor: float) -> None:
    """Rewards in per cent or in millionths give the same step."""
    differences = np.random.default_rng(3).normal(size=8)
    steps = [
        ascended(
            np.zeros(6, np.float32), np.ones(6, np.float32), d, Moments.none(6), EvolutionSettings(), seed=2, iteration=4, rate=1.0
        )
        for d in (differences, differences * factor)
    ]
    np.testing.assert_allclose(*steps, atol=1e-6)


def test_noise_depends_on_its_place_alone() -> None:
    """So that a process can draw for itself what another will sum up."""
    one, again = perturbation(1, 2, 3, 50), perturbation(1, 2, 3, 50)
    assert np.array_equal(one, again)
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert np.abs(np.corrcoef(one, perturbation(*other, 50))[0, 1]) < 0.6


def test_layers_are_moved_by_their_own_measure() -> None:
    """A layer of large weights gets large noise; one of zeros is not stuck."""
    scale = scale_of([np.full(3, 2.0, np.float32), np.zeros(2, np.float32)])
    np.testing.assert_allclose(scale, [2, 2, 2, 0.05, 0.05])
