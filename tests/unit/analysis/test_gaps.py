"""By how much one run is better than another of the same requests: blocks of arrivals, paired."""

from __future__ import annotations

import numpy as np
import pytest

from tango.analysis.gaps import BLOCK_S, gaps
from tango.domain.outcomes import RunOutcomes
from tests.fakes.run_records import outcomes_of

SPAN_S = 100.0


def run_of(latency_s: float, *, speed: float = 1.0, alternating_s: float = 0.0) -> RunOutcomes:
    """An LC request each second, whose target is one second, and a BE request of 2 CPU-seconds beside it that runs for a second."""
    rows: list[dict[str, object]] = []
    for k in range(int(SPAN_S)):
        due_s = (k + 0.5) / speed
        own_s = (latency_s + (alternating_s if int(due_s * speed // BLOCK_S) % 2 else -alternating_s)) / speed
        rows.append({"due": due_s, "start": due_s, "end": due_s + own_s, "target": 1.0 / speed})
        rows.append({"cls": 1, "due": due_s, "start": due_s, "end": due_s + 1.0 / speed, "work": 2.0 / speed})
    return outcomes_of(rows, speed=speed, span_s=SPAN_S, wall_s=SPAN_S / speed + 10.0)


def test_what_all_blocks_say_alike_exceeds_its_interval() -> None:
    """A tenth of a second more, and targets that are missed."""
    found = gaps(run_of(0.95), run_of(1.05))

    assert found["lc_latency_mean_ms"].mean == pytest.approx(100.0)
    assert found["lc_qos_rate"].mean == -1.0
    assert found["lc_latency_mean_ms"].exceeds_its_interval
    assert found["lc_qos_rate"].exceeds_its_interval


def test_what_hits_both_runs_alike_is_no_gap() -> None:
    """Blocks that are slower than others in both runs widen no interval."""
    found = gaps(run_of(0.5, alternating_s=0.3), run_of(0.51, alternating_s=0.3))["lc_latency_mean_ms"]

    assert (found.low, found.high) == (pytest.approx(10.0), pytest.approx(10.0))


def test_what_blocks_do_not_agree_in_does_not_exceed_its_interval() -> None:
    """One run is faster in every other block."""
    found = gaps(run_of(0.5), run_of(0.501, alternating_s=0.3))["lc_latency_mean_ms"]

    assert not found.exceeds_its_interval


def test_equal_work_is_no_gap() -> None:
    """Both did two CPU-seconds a second."""
    found = gaps(run_of(0.5), run_of(0.6))["be_cpu_seconds_per_s"]

    assert found.mean == pytest.approx(0.0)
    assert not found.exceeds_its_interval


def test_gaps_of_sped_up_runs_are_in_trace_time() -> None:
    """As all figures are."""
    found = gaps(run_of(0.4, speed=4.0), run_of(0.5, speed=4.0))

    assert found["lc_latency_mean_ms"].mean == pytest.approx(100.0)


def test_runs_of_other_requests_are_refused() -> None:
    """Nothing would be paired."""
    short = outcomes_of([{"due": float(k), "start": float(k), "end": k + 0.1} for k in np.arange(3)])

    with pytest.raises(ValueError, match="the same ones"):
        gaps(run_of(0.5), short)
