"""What becomes of a forecast once the pair has run live. The runs themselves take minutes on a quiet machine: `tango bench forecast`."""

from __future__ import annotations

import pytest

from tango.analysis.gaps import Gap
from tango.bench.forecasts import PAIRS, judged
from tango.systems import system


@pytest.mark.parametrize(
    ("forecast", "live", "verdict"),
    [
        (Gap(2.0, 1.0, 3.0), 0.5, "right"),
        (Gap(-2.0, -3.0, -1.0), -0.5, "right"),
        (Gap(2.0, 1.0, 3.0), -0.1, "wrong"),
        (Gap(2.0, 1.0, 3.0), 0.0, "wrong"),
        (Gap(2.0, -1.0, 5.0), -9.0, "open"),
    ],
)
def test_a_forecast_is_right_if_the_gap_has_its_sign_live(forecast: Gap, live: float, verdict: str) -> None:
    """And says nothing where its interval holds zero."""
    (found,) = judged("a or b", {"lc_qos_rate": forecast}, {"lc_qos_rate": Gap(live, None, None)})

    assert (found.verdict, found.live) == (verdict, live)


def test_a_gap_without_an_interval_forecasts_nothing() -> None:
    """One block, or a figure that the live runs lack."""
    assert judged("a or b", {"x": Gap(1.0, None, None), "y": Gap(1.0, 0.5, 1.5)}, {"x": Gap(1.0, 0.5, 1.5)}) == []


def test_the_ten_pairs_are_different_and_known() -> None:
    """Each system of them is one that a run can have."""
    assert len({pair.text for pair in PAIRS}) == 10
    for pair in PAIRS:
        assert system(pair.first.system).name != system(pair.second).name
