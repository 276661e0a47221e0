"""How far BE is held back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.errors import ConfigError
from tango.node_agent.isolation import FREE, Restraint, Signals, next_restraint, shares_of
from tango.settings import NodeAgentSettings
from tests.long import example_count

SETTINGS = NodeAgentSettings()
CALM = Signals(
    lc_grown=False,
    lc_grown_lately=False,
    lc_cpu_pressure=0.0,
    lc_memory_pressure=0.0,
    node_memory_pressure=0.0,
    be_memory_bytes=1000,
    be_memory_floor_bytes=100,
)
HALF = Restraint(cpu_share=0.5)


def after(now: Restraint, at_s: float = 100.0, **signals: Any) -> Restraint:
    """One look later."""
    return next_restraint(now, dataclasses.replace(CALM, **signals), at_s=at_s, settings=SETTINGS)


@pytest.mark.parametrize(
    ("grown", "lately", "pressure", "expected"),
    [
        (True, True, 0.0, "less"),
        (True, True, None, "less"),
        (False, False, 0.5, "less"),
        (False, True, 0.5, "less"),
        (False, True, 0.0, "same"),
        (False, False, 0.15, "same"),
        (False, False, 0.05, "more"),
        (False, False, None, "more"),
    ],
)
def test_growing_lc_and_pressure_cut_be(grown: bool, lately: bool, pressure: float | None, expected: str) -> None:
    """Less at once; more after the hold; between the thresholds, and while LC was grown lately, nothing moves."""
    held = dataclasses.replace(HALF, cpu_calm_since_s=0.0)

    share = after(held, lc_grown=grown, lc_grown_lately=lately, lc_cpu_pressure=pressure).cpu_share

    assert {-1: "less", 0: "same", 1: "more"}[(share > 0.5) - (share < 0.5)] == expected


def test_more_is_given_only_after_a_calm_of_the_hold() -> None:
    """A look that is not calm begins the wait anew, and each step waits again."""
    calm = after(HALF, 10.0)
    disturbed = after(calm, 10.5, lc_cpu_pressure=0.15)
    again = after(disturbed, 11.0)
    stepped = after(again, 12.0)

    assert [one.cpu_share for one in (calm, disturbed, again)] == [0.5] * 3
    assert stepped.cpu_share == pytest.approx(0.6)
    assert after(stepped, 12.5).cpu_share == stepped.cpu_share


def looked(pressures: Sequence[float], now: Restraint = FREE, **signals: Any) -> list[Restraint]:
    """Looks half a second apart, each with a pressure."""
    seen = []
    for look, pressure in enumerate(pressures):
        now = after(now, look / 2, lc_cpu_pressure=pressure, **signals)
        seen.append(now)
    return seen


def test_cuts_that_do_not_help_are_given_back_and_pressure_counts_for_nothing_for_a_while() -> None:
    """Others than BE have the CPU then. After a minute it is tried again."""
    seen = looked([0.5] * 4)
    later = after(seen[-1], 30.0, lc_cpu_pressure=0.5)
    again = after(later, 1.5 + SETTINGS.futile_s, lc_cpu_pressure=0.5)

    assert [round(one.cpu_share, 3) for one in seen] == [0.7, 0.49, 0.343, 1.0]
    assert (later.cpu_share, again.cpu_share) == (1.0, pytest.approx(SETTINGS.tighten))


def test_cuts_that_help_go_on_until_pressure_is_gone() -> None:
    """A third less is help enough, though it is high still."""
    seen = looked([0.6, 0.5, 0.45, 0.4, 0.4, 0.05])

    assert [round(one.cpu_share, 3) for one in seen] == [0.7, 0.49, 0.343, 0.24, 0.168, 0.168]
    assert seen[-1].blameless_until_s < 0


def test_what_short_slack_has_taken_is_not_given_back_with_cuts_that_have_not_helped() -> None:
    """LC was grown in the middle: that step stays."""
    two = looked([0.5, 0.5])[-1]
    grown = after(two, 1.0, lc_grown=True, lc_grown_lately=True, lc_cpu_pressure=0.5)
    third = after(grown, 1.5, lc_grown_lately=True, lc_cpu_pressure=0.5)
    given_back = after(third, 2.0, lc_grown_lately=True, lc_cpu_pressure=0.5)

    assert given_back.cpu_share == pytest.approx(SETTINGS.tighten)
    assert after(given_back, 2.5, lc_grown=True, lc_grown_lately=True, lc_cpu_pressure=0.5).cpu_share == pytest.approx(0.49)


def test_memory_is_taken_from_what_is_in_use_and_given_back_by_and_by() -> None:
    """The first mark is below what is in use; without pressure it rises, and goes when it is far above."""
    pressed = after(FREE, 10.0, lc_memory_pressure=0.2)
    more = after(pressed, 10.5, node_memory_pressure=0.2, be_memory_bytes=880)
    begun = after(more, 11.0, be_memory_bytes=790)
    calm = after(begun, 12.0, be_memory_bytes=790)
    gone = after(dataclasses.replace(calm, memory_bytes=2000), 13.0, be_memory_bytes=500)

    assert (pressed.memory_bytes, more.memory_bytes, begun.memory_bytes) == (900, 792, 792)
    assert calm.memory_bytes == 880
    assert gone.memory_bytes is None


signals = st.builds(
    Signals,
    lc_grown=st.booleans(),
    lc_grown_lately=st.booleans(),
    lc_cpu_pressure=st.none() | st.floats(0, 1),
    lc_memory_pressure=st.none() | st.floats(0, 1),
    node_memory_pressure=st.none() | st.floats(0, 1),
    be_memory_bytes=st.integers(0, 10**12),
    be_memory_floor_bytes=st.just(10**6),
)


@given(st.lists(signals, max_size=40))
@settings(max_examples=example_count(50), deadline=None)
def test_whatever_is_measured_be_keeps_its_floor_and_calm_frees_it(measured: list[Signals]) -> None:
    """Shares stay between floor and 1, marks above theirs, and after a long calm there is no restraint left."""
    now = FREE
    for look, one in enumerate(measured):
        now = next_restraint(now, one, at_s=look / 2, settings=SETTINGS)
        assert SETTINGS.cpu_floor <= now.cpu_share <= 1.0
        assert now.memory_bytes is None or now.memory_bytes >= 10**6

    for look in range(len(measured), len(measured) + 1000):
        now = next_restraint(now, CALM, at_s=look / 2, settings=SETTINGS)

    assert (now.cpu_share, now.memory_bytes) == (1.0, None)


@given(st.integers(0, 10**6), st.dictionaries(st.text(max_size=3), st.integers(0, 10**6), max_size=8))
@settings(max_examples=example_count(50), deadline=None)
def test_a_total_is_given_out_and_no_more(total: int, used: dict[str, int]) -> None:
    """Those that use most get most; nobody gets nothing; all together at most the total, or one each."""
    shares = shares_of(total, used)

    assert set(shares) == set(used)
    assert sum(shares.values()) <= max(total, len(used))
    assert all(share >= 1 for share in shares.values())
    ranked = sorted(used, key=lambda name: used[name])
    assert [shares[name] for name in ranked] == sorted(shares.values())


def test_thresholds_the_wrong_way_round_are_refused() -> None:
    """BE would be cut back and let go by the same figure."""
    with pytest.raises(ConfigError, match="cpu_pressure_low is above cpu_pressure_high"):
        NodeAgentSettings(cpu_pressure_low=0.5, cpu_pressure_high=0.3)
