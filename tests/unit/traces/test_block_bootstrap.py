from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.traces.block_bootstrap import FEWEST, MOST, Circle, chosen, copies_for, lay, rows_of
from tests.long import example_count


def _times(n: int, period_s: float, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).random(n)) * period_s


@given(
    n=st.integers(1, 300),
    period_s=st.floats(1.0, 5000.0),
    turns=st.floats(0.3, 4.0),
    copies=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=example_count(100))
def test_blocks_keep_what_happens_within_them(n: int, period_s: float, turns: float, copies: int, seed: int) -> None:
    """Each laid arrival is its recorded one moved by one distance a block, so that gaps within a block stay."""
    circle = Circle(period_s=period_s, duration_s=period_s * turns)
    times = _times(n, period_s, seed)
    starts = circle.starts(copies, np.random.default_rng(seed), first_as_recorded=False)

    laid = lay(times, circle, starts)

    counts = rows_of(times, circle, starts)[1].reshape(starts.shape)
    assert np.bincount(laid.copy, minlength=copies).tolist() == counts.sum(axis=1).tolist()
    block = np.repeat(np.tile(np.arange(starts.shape[1]), copies), counts.ravel())
    in_block = laid.at_s - circle.block_begin_s[block]
    recorded = (times[laid.row] - starts[laid.copy, block]) % period_s
    turned = np.abs(in_block - recorded)
    assert np.all(np.minimum(turned, period_s - turned) < 1e-6 * period_s)
    assert np.all(in_block > -1e-6)
    assert np.all(in_block <= circle.block_length_s[block] + 1e-6)
    assert laid.at_s.max(initial=0.0) <= circle.duration_s


def test_the_excerpt_as_recorded_is_the_excerpt() -> None:
    """The first copy gives each arrival once at its own time, and the window again where the duration is longer."""
    times = _times(50, 100.0, 1)
    once, twice = (Circle(period_s=100.0, duration_s=d) for d in (100.0, 250.0))

    for circle in (once, twice):
        starts = circle.starts(1, np.random.default_rng(0), first_as_recorded=True)
        laid = lay(times, circle, starts)
        repeated = np.concatenate([times, times + 100.0, times + 200.0])
        np.testing.assert_allclose(laid.at_s, repeated[repeated < circle.duration_s])


def test_every_arrival_is_as_likely_as_any_other() -> None:
    """Over many copies each of ten arrivals comes as often as there are copies, also those at the window's edges."""
    times = np.array([0.0, 1.0, 2.0, 3.0, 40.0, 50.0, 60.0, 97.0, 98.0, 99.0])
    circle = Circle(period_s=100.0, duration_s=100.0)
    starts = circle.starts(4000, np.random.default_rng(2), first_as_recorded=False)

    came = np.bincount(lay(times, circle, starts).row, minlength=10)

    # Five blocks of 20 s a copy: binomial(20,000, 0.2), standard deviation 57.
    assert np.all(np.abs(came - 4000) < 285)


@given(st.floats(0.01, 1e6))
def test_blocks_are_a_minute_but_neither_too_few_nor_too_many(period_s: float) -> None:
    """Between five and thirty blocks in a window, of 60 s where that is between."""
    block_s = Circle(period_s=period_s, duration_s=period_s).block_s

    assert period_s / MOST * (1 - 1e-9) <= block_s <= period_s / FEWEST * (1 + 1e-9)
    assert block_s == 60.0 or not FEWEST * 60 <= period_s <= MOST * 60


def test_a_copy_does_not_depend_on_the_number_of_copies() -> None:
    """So that both classes of a file can need different numbers and share the blocks of those they have."""
    circle = Circle(period_s=100.0, duration_s=300.0)
    few, many = (circle.starts(k, np.random.default_rng(3), first_as_recorded=False) for k in (2, 9))

    np.testing.assert_array_equal(few, many[:2])


@given(st.integers(1, 500), st.floats(0, 1), st.integers(0, 99))
def test_exactly_n_places_are_chosen(total: int, share: float, seed: int) -> None:
    """Thinning ends at the wanted number, whether few are kept or few are dropped."""
    n = round(total * share)

    assert np.count_nonzero(chosen(total, n, np.random.default_rng(seed))) == n


def test_chosen_places_are_alike_likely() -> None:
    """Each of five places is among three in three of five draws."""
    rng = np.random.default_rng(4)
    kept = sum(chosen(5, 3, rng).astype(int) for _ in range(5000))

    # Binomial(5,000, 0.6): standard deviation 35.
    assert kept == pytest.approx([3000] * 5, abs=175)


def test_copies_follow_from_the_count_of_the_excerpt() -> None:
    """100 arrivals in 50 s are 200 in 100 s: 1,000 take five copies."""
    assert copies_for(1000, _times(100, 50.0, 1), Circle(period_s=50.0, duration_s=100.0)) == 5
    assert copies_for(10, _times(100, 50.0, 1), Circle(period_s=50.0, duration_s=100.0)) == 1
