"""The figures of a run: of a simulated one those that were stored, of a live one those that its rows give."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tango.analysis.comparison import CellResult
from tango.control.finish_run import finish_run
from tango.control.run_figures import RunFigures, metrics_of_result
from tests.fakes.control_world import ControlWorld, control_world
from tests.fakes.run_records import NO_DECISIONS, NO_LOSSES, NO_SAMPLES, NO_SCALING, MemoryRunRecords, RunRecords, outcomes_of
from tests.fakes.simulations import MemorySimulationStore
from tests.fakes.store_world import BATCH, LIVE_S, WEB
from tests.fakes.sweep_world import RESULT, SweepWorld

ONE = outcomes_of([{"due": 20.0, "start": 20.1, "end": 20.5}])


def figures_of(world: ControlWorld, records: MemoryRunRecords, simulations: MemorySimulationStore | None = None) -> RunFigures:
    """Over the world's runs."""
    return RunFigures(runs=world.runs, figures=world.figures, simulations=simulations or SweepWorld().store, records=records)


def test_a_simulated_run_has_the_figures_that_were_stored_and_a_live_one_those_of_its_rows() -> None:
    """Rows of a simulated run are there only if they were asked for, and have no bound and no digest."""
    world = SweepWorld()
    (run_id,) = world.ordered()
    world.work(run_id)
    figures = figures_of(control_world(), MemoryRunRecords({}), world.store)

    simulated = figures.of(run_id)

    assert (simulated["run"], simulated["digest"], simulated["lc_qos_rate_bound"]) == (run_id, "d" * 64, 0.9)


def test_a_live_run_has_those_of_its_rows_until_it_has_ended_and_those_of_its_end_then() -> None:
    """What is read later from rows that have changed, or are many, does not count."""
    world = control_world()
    run_id = world.create(WEB)
    live = RunRecords(replace(ONE, run_id=run_id), NO_LOSSES, NO_SAMPLES, NO_DECISIONS, NO_SCALING)
    figures = figures_of(world, MemoryRunRecords({run_id: live}))
    before = figures.of(run_id)
    world.figures.order(run_id)
    claim = world.figures.claim(lease_s=LIVE_S, most_claims=3)
    assert claim is not None

    finish_run(claim, store=world.figures, records=MemoryRunRecords({run_id: live}))
    after = figures_of(world, MemoryRunRecords({})).of(run_id)

    assert (before["run"], before["accepted"], before["lc_latency_p50_ms"]) == (run_id, 1, pytest.approx(500.0))
    assert dict(after) == {**before, "status": "completed"}
    assert (after.services, after.details) == (before.services, before.details)


def test_a_large_run_that_goes_on_has_its_counts_alone_unless_all_is_asked_for() -> None:
    """Under the same keys."""
    world = control_world()
    run_id = world.create(WEB, BATCH)
    live = RunRecords(replace(ONE, run_id=run_id), NO_LOSSES, NO_SAMPLES, NO_DECISIONS, NO_SCALING)
    figures = figures_of(world, MemoryRunRecords({run_id: live}))

    few, whole = figures.of(run_id, most_now=1), figures.of(run_id, most_now=2)

    assert list(few) == list(whole)
    assert {name: value for name, value in few.items() if value is not None} == {
        "run": run_id,
        "status": "accepted",
        "system": "tango",
        "fleet": "pair",
        "seed": 1,
        "accepted": 2,
        "succeeded": 0,
        "failed": 0,
        "shed": 0,
        "cancelled": 0,
        "live": 2,
    }


def test_a_stored_result_is_shown_as_the_figures_of_a_run() -> None:
    """Services and details included; keys of a later version are left alone."""
    stored = RESULT.as_dict()
    stored["services"][0]["of_tomorrow"] = 1

    metrics = metrics_of_result(12, CellResult.from_dict(stored))

    assert (metrics["run"], metrics["lc_qos_rate"], metrics["digest"]) == (12, 0.5, "d" * 64)
    assert [(s.service, s.arrived) for s in metrics.services] == [("web", 2)]
    assert metrics.details["window_start_s"] == 10.0
