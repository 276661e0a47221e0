"""The window of release: short while little comes, longer where many requests can share a message."""

from __future__ import annotations

import pytest

from tango.control.release_window import ReleaseWindow
from tango.settings import ReplaySettings


def lengths_s(*per_half_second: int) -> list[float]:
    """Window lengths after half seconds in which that many were released."""
    window = ReleaseWindow(ReplaySettings(window_s=0.01, longest_window_s=0.05, longest_window_at_per_s=600.0))
    window.length_s(100.0, 0)
    return [window.length_s(100.0 + 0.5 * (k + 1), sum(per_half_second[: k + 1])) for k in range(len(per_half_second))]


def test_the_window_grows_with_the_rate_up_to_its_longest() -> None:
    """A fifth of the rate at which it is longest gives a fifth of the longest; beyond that rate it grows no more."""
    assert lengths_s(60, 150, 300, 3000) == pytest.approx([0.01, 0.025, 0.05, 0.05])


def test_the_window_is_short_while_little_comes_and_again_after_a_rush() -> None:
    """Nobody waits for a message that is nearly empty."""
    assert lengths_s(0, 5, 300, 5) == pytest.approx([0.01, 0.01, 0.05, 0.01])


def test_the_window_follows_the_rate_over_half_a_second() -> None:
    """One busy step of a tenth of that time moves it a tenth of the way: a burst of a moment does not make everybody wait."""
    window = ReleaseWindow(ReplaySettings(window_s=0.001, longest_window_s=0.05, longest_window_at_per_s=600.0))
    window.length_s(100.0, 0)

    assert window.length_s(100.05, 30) == pytest.approx(0.005)


def test_the_window_has_a_length_before_anything_is_known() -> None:
    """The first step, and a second look at the same instant, use the shortest window."""
    window = ReleaseWindow(ReplaySettings(window_s=0.01))

    assert [window.length_s(100.0, 0), window.length_s(100.0, 500)] == [0.01, 0.01]


def test_the_window_grows_where_the_keeper_is_woken_late() -> None:
    """Whatever the rate, up to what requests may wait for a message; and shrinks again once the machine has time."""
    window = ReleaseWindow(ReplaySettings(window_s=0.01, longest_window_s=0.02, longest_wait_s=0.05))

    def length_s(late_s: float) -> float:
        for _ in range(200):
            window.woken(late_s=late_s)
        return window.length_s(100.0, 0)

    found = [length_s(late_s) for late_s in (-0.01, 0.0005, 0.003, 0.02, 0.0)]

    assert found == pytest.approx([0.01, 0.01, 0.03, 0.05, 0.01], rel=0.01)
