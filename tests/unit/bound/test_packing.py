"""Packing programmes: the value of small ones, and that no prices give less than it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.bound.packing import Packing


def two_into_one() -> Packing:
    """Gains 3 and 2 a unit, at most 4 units of each, one row: x + 2 y <= 6. The optimum takes x = 4, y = 1: 14."""
    return Packing(
        gain=np.array([3.0, 2.0]),
        upper=np.array([4.0, 4.0]),
        capacity=np.array([6.0]),
        row=np.array([0, 0]),
        column=np.array([0, 1]),
        value=np.array([1.0, 2.0]),
    )


def test_value_is_the_optimum() -> None:
    """What can be worked out on paper comes out."""
    assert two_into_one().most() == pytest.approx(14.0)


@given(st.floats(-5.0, 50.0))
def test_no_price_gives_less_than_the_optimum(price: float) -> None:
    """So a solver that stops early, or errs, gives a looser bound and never a wrong one."""
    assert two_into_one().at_prices(np.array([price])) >= 14.0 - 1e-12


def test_what_no_row_holds_back_is_taken_whole() -> None:
    """Without rows every column stands at its upper end."""
    nothing = np.zeros(0, np.int64)
    free = Packing(gain=np.ones(3), upper=np.arange(3.0), capacity=np.zeros(0), row=nothing, column=nothing, value=np.zeros(0))

    assert free.most() == 3.0


def test_solving_writes_nothing_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """Commands print JSON there."""
    two_into_one().most()

    assert capfd.readouterr().out == ""
