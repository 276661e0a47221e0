"""What becomes of a forecast once the pair has run live. The runs themselves take minutes on a quiet machine: `tango bench forecast`."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tango.analysis.gaps import Gap
from tango.bench.forecasts import PAIRS, beside_live, half_a_run_later
from tango.bench.twin import Recorded
from tango.experiments.replaying import live_delays
from tango.fleets import load_fleet
from tango.settings import Settings
from tango.systems import system
from tests.fakes.run_records import NO_DECISIONS, NO_SCALING, outcomes_of


@pytest.mark.parametrize(
    ("forecast", "live", "outcome"),
    [
        (Gap(2.0, 1.0, 3.0), 0.5, "right"),
        (Gap(-2.0, -3.0, -1.0), -0.5, "right"),
        (Gap(2.0, 1.0, 3.0), -0.1, "wrong"),
        (Gap(2.0, 1.0, 3.0), 0.0, "wrong"),
        (Gap(2.0, -1.0, 5.0), -9.0, "open"),
    ],
)
def test_a_forecast_is_right_if_the_gap_has_its_sign_live(forecast: Gap, live: float, outcome: str) -> None:
    """And says nothing where its interval holds zero."""
    (found,) = beside_live("a or b", {"lc_qos_rate": forecast}, {"lc_qos_rate": Gap(live, None, None)})

    assert (found.outcome, found.live) == (outcome, live)


def test_a_gap_without_an_interval_forecasts_nothing() -> None:
    """One block, or a figure that the live runs lack."""
    assert beside_live("a or b", {"x": Gap(1.0, None, None), "y": Gap(1.0, 0.5, 1.5)}, {"x": Gap(1.0, 0.5, 1.5)}) == []


def test_the_second_system_is_simulated_with_the_delays_of_other_moments() -> None:
    """Of LC, half of the requests on, and round the end; BE has none of its own."""
    outcomes = outcomes_of([{"cls": int(k == 1), "due": float(k)} for k in range(5)])
    delays = live_delays(outcomes, NO_DECISIONS, NO_SCALING, load_fleet("demo"), Settings(), phases=None)
    way_s = np.array([1.0, 0.0, 2.0, 3.0, 4.0])

    moved = half_a_run_later(Recorded(outcomes, dataclasses.replace(delays, lc_way_s=way_s)))

    assert moved.lc_way_s.tolist() == [3.0, 0.0, 4.0, 1.0, 2.0]
    assert dataclasses.replace(moved, lc_way_s=delays.lc_way_s) == delays


def test_the_ten_pairs_are_different_and_known() -> None:
    """Each system of them is one that a run can have."""
    assert len({pair.text for pair in PAIRS}) == 10
    for pair in PAIRS:
        assert system(pair.first.system).name != system(pair.second).name
