"""P values of paired differences and Holm's correction, against closed forms and values worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.analysis.intervals import holm, paired_difference, t_quantile, t_test_p

PS = st.lists(st.floats(0.0, 1.0), max_size=30)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 19, 60, 999])
def test_p_at_the_quantile_is_what_the_quantile_leaves_out(degrees: int):
    """5 % beyond the 0.975 quantile, 20 % beyond that of 0.9: tests and intervals never disagree."""
    assert t_test_p(degrees, t_quantile(degrees)) == pytest.approx(0.05, rel=1e-9)
    assert t_test_p(degrees, -t_quantile(degrees, 0.9)) == pytest.approx(0.2, rel=1e-9)


@pytest.mark.parametrize("t", [0.0, 0.01, 0.3, 0.49, 0.51, 0.7, 0.72, 1.0, 3.0, 40.0, 1e4, 1e9])
def test_p_is_exact_near_zero_and_far_out(t: float):
    """One degree is the Cauchy distribution, two have a closed form; at 1e9 the p of two degrees is 1e-18 and not 0."""
    root = math.sqrt(t * t + 2.0)

    assert t_test_p(1, t) == pytest.approx(2.0 / math.pi * math.atan2(1.0, t), rel=1e-12)
    assert t_test_p(2, t) == pytest.approx(2.0 / (root * (root + t)), rel=1e-12)


def test_p_of_an_infinite_t_is_nothing_and_of_no_degree_refused():
    """What does not vary at all, and what cannot vary."""
    assert t_test_p(5, -math.inf) == 0.0
    with pytest.raises(ValueError, match="expected 1 or more"):
        t_test_p(0, 1.0)


def test_paired_difference_carries_the_p_of_its_t_test():
    """Differences 1, 2, 3: t = 2 sqrt(3), two degrees, p = 1 - t / sqrt(t^2 + 2) = 0.0742."""
    paired = paired_difference({1: 11.0, 2: 12.0, 3: 13.0}, {1: 10.0, 2: 10.0, 3: 10.0})

    assert paired.p == pytest.approx(1 - math.sqrt(12 / 14))


def test_differences_that_do_not_vary_have_a_p_without_dividing_by_nothing():
    """None at all: 1. The same in every pair: 0. A single pair: none."""
    assert paired_difference({1: 0.5, 2: 0.75}, {1: 0.5, 2: 0.75})[:3] == (0.0, 0.0, 0.0)
    assert paired_difference({1: 0.5, 2: 0.75}, {1: 0.5, 2: 0.75}).p == 1.0
    assert paired_difference({1: 0.75, 2: 1.0}, {1: 0.5, 2: 0.75}).p == 0.0
    assert paired_difference({1: 0.75}, {1: 0.5}).p is None


@pytest.mark.parametrize(
    ("ps", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.2, 0.0, 0.9, 0.2], [0.6, 0.0, 0.9, 0.6]),
        ([0.6, 0.7], [1.0, 1.0]),
    ],
)
def test_holm_is_as_worked_out_by_hand(ps: list[float], adjusted: list[float]):
    """The k-th smallest of m times m - k + 1, never less than one before it, never above 1; in the order given."""
    assert holm(ps) == pytest.approx(adjusted)


@given(PS, st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(ps: list[float], alpha: float):
    """From the smallest on, each against alpha over what is left, until one is too large (Holm 1979, section 2)."""
    rejected: set[int] = set()
    for k, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        if (len(ps) - k) * ps[place] > alpha:
            break
        rejected.add(place)

    assert {place for place, p in enumerate(holm(ps)) if p <= alpha} == rejected


@given(PS)
def test_holm_lies_between_the_p_and_bonferroni(ps: list[float]):
    """It corrects, by no more than Bonferroni would, and never turns the order of two tests round."""
    adjusted = holm(ps)

    assert all(p <= a <= min(1.0, len(ps) * p) or a == pytest.approx(p) for p, a in zip(ps, adjusted, strict=True))
    by_p = [a for _, a in sorted(zip(ps, adjusted, strict=True))]
    assert by_p == sorted(by_p)
