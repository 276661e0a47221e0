"""The figures of a run: of a simulated one those that were stored, of a live one those that its rows give."""

from __future__ import annotations

from dataclasses import replace

from tango.analysis.comparison import CellResult
from tango.control.run_figures import metrics_of_result, run_figures
from tests.fakes.run_records import NO_DECISIONS, NO_LOSSES, NO_SAMPLES, NO_SCALING, MemoryRunRecords, RunRecords, outcomes_of
from tests.fakes.sweep_world import RESULT, SweepWorld


def test_a_simulated_run_has_the_figures_that_were_stored_and_a_live_one_those_of_its_rows() -> None:
    """Rows of a simulated run are there only if they were asked for, and have no bound and no digest."""
    world = SweepWorld()
    (run_id,) = world.ordered()
    world.work(run_id)
    outcomes = replace(outcomes_of([{"due": 1.0, "start": 1.1, "end": 1.2}]), run_id=99)
    live = RunRecords(outcomes, NO_LOSSES, NO_SAMPLES, NO_DECISIONS, NO_SCALING)

    simulated = run_figures(run_id, simulations=world.store, records=MemoryRunRecords({}))
    told = run_figures(99, simulations=world.store, records=MemoryRunRecords({99: live}))

    assert (simulated["run"], simulated["digest"], simulated["lc_qos_rate_bound"]) == (run_id, "d" * 64, 0.9)
    assert (told["run"], told["accepted"]) == (99, 1)


def test_a_stored_result_is_shown_as_the_figures_of_a_run() -> None:
    """Services and details included; keys of a later version are left alone."""
    stored = RESULT.as_dict()
    stored["services"][0]["of_tomorrow"] = 1

    metrics = metrics_of_result(12, CellResult.from_dict(stored))

    assert (metrics["run"], metrics["lc_qos_rate"], metrics["digest"]) == (12, 0.5, "d" * 64)
    assert [(s.service, s.arrived) for s in metrics.services] == [("web", 2)]
    assert metrics.details["window_start_s"] == 10.0
