"""Intervals of replications, and the verdict on them."""

from __future__ import annotations

import numpy as np
import pytest

from tango.validation.distributions import DETERMINISTIC, DRAWN, LOGNORMAL, PARETO, WorkLaw
from tango.validation.estimates import Agreement, Estimate, estimate, verdict

NO_CONTROLS = np.zeros((0, 0))


def test_without_controls_it_is_students_interval() -> None:
    """Mean 3 and deviation sqrt(2.5) of 1 to 5; the 99.5 % quantile of t with 4 degrees of freedom is 4.6041."""
    found = estimate(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), NO_CONTROLS)

    assert found.mean == pytest.approx(3.0)
    assert found.half_width == pytest.approx(4.6041 * np.sqrt(2.5 / 5), rel=1e-4)
    assert (found.low, found.high) == (found.mean - found.half_width, found.mean + found.half_width)


def test_what_a_control_explains_is_taken_off() -> None:
    """A value that is 7 plus three times a control is known to be 7, however much the control varies."""
    control = np.array([[0.3], [-1.2], [0.8], [2.0], [-0.4]])

    found = estimate(7.0 + 3.0 * control[:, 0], control)

    assert found.mean == pytest.approx(7.0)
    assert found.half_width < 1e-9


def test_a_control_that_never_changes_costs_nothing() -> None:
    """Deterministic work is the same in every replication."""
    values = np.array([1.0, 2.0, 4.0, 8.0])

    assert estimate(values, np.zeros((4, 1))) == estimate(values, NO_CONTROLS)


def test_ninety_nine_of_a_hundred_intervals_hold_the_mean() -> None:
    """With a control and without; 400 intervals each, so that between 389 and 400 may."""
    rng = np.random.default_rng(5)
    held = [0, 0]
    for _ in range(400):
        control = rng.exponential(1.0, (12, 1)) - 1.0
        values = 2.0 + control[:, 0] + rng.normal(0.0, 1.0, 12)
        for k, controls in enumerate((NO_CONTROLS, control)):
            found = estimate(values, controls)
            held[k] += found.low <= 2.0 <= found.high

    assert all(389 <= count <= 400 for count in held), held


def test_too_few_replications_are_refused() -> None:
    """One is left over at least when mean and controls are fitted."""
    with pytest.raises(ValueError, match="at least 3 replications"):
        estimate(np.array([1.0, 2.0]), np.array([[0.1], [0.2]]))


@pytest.mark.parametrize(
    ("mean", "half_width", "said"),
    [
        (2.01, 0.015, Agreement.HOLDS),
        (2.01, 0.005, Agreement.CLOSE),
        (2.03, 0.015, Agreement.FAILS),
        (2.01, 0.05, Agreement.UNPROVEN),
        (2.1, 0.02, Agreement.FAILS),
    ],
)
def test_a_verdict_is_about_the_value_and_about_how_well_it_is_known(mean: float, half_width: float, said: Agreement) -> None:
    """The formula says 2, and a per cent of it is tolerated."""
    assert verdict(Estimate(mean=mean, half_width=half_width), 2.0, 0.01) is said


@pytest.mark.parametrize("work", DRAWN, ids=lambda work: work.name)
def test_every_distribution_has_a_mean_of_one_and_its_quantiles(work: WorkLaw) -> None:
    """A fifth of what is drawn lies below the quantile of 0.2."""
    drawn = work.drawn(np.random.default_rng(1), 200_000)

    assert drawn.mean() == pytest.approx(1.0, abs=0.03)
    if work is not DETERMINISTIC:
        assert np.mean(drawn <= work.quantile(0.2)) == pytest.approx(0.2, abs=0.005)
        assert np.mean(drawn <= work.quantile(0.8)) == pytest.approx(0.8, abs=0.005)
    if work not in (LOGNORMAL, PARETO):  # whose deviation converges far too slowly for this
        assert drawn.std() == pytest.approx(work.cv, abs=0.02)
