"""Sweeps on workers: one claim, one computation, one end; and a command that waits, asks again and says what is missing."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tango.analysis.comparison import CellLabel, CellResult, cell_result
from tango.analysis.metrics import run_metrics
from tango.control.sweeps import Compute, Simulated, await_sweep, metrics_of_result, simulate_claimed, start_sweep
from tango.domain.runs import RunStatus
from tango.domain.simulations import ClaimedSimulation, NewSimulation, SimulationState
from tango.errors import Deadlock
from tango.settings import LeaseSettings
from tango.sim.outcomes import SimulatedRun
from tests.fakes.publisher import RecordingPublisher
from tests.fakes.run_records import NO_DECISIONS, NO_LOSSES, NO_SAMPLES, NO_SCALING, outcomes_of
from tests.fakes.simulations import MemorySimulationStore

SETTINGS = LeaseSettings(placement_s=60.0, unclaimed_after_s=2.0)
CELL = NewSimulation(
    key="k",
    cell={},
    name="p3@0.8",
    system="tango",
    fleet="pair",
    fleet_hash="f" * 64,
    seed=7,
    trace_source="p3@0.8 100s",
    span_s=100.0,
    settings={},
)


def _result() -> CellResult:
    outcomes = outcomes_of([{"due": 20.0, "start": 20.1, "end": 20.5}, {"due": 30.0, "start": 30.1, "end": 33.0}])
    metrics = run_metrics(outcomes, NO_LOSSES, NO_SAMPLES, NO_DECISIONS, NO_SCALING)
    run = SimulatedRun(
        outcomes=outcomes,
        losses=NO_LOSSES,
        samples=NO_SAMPLES,
        decisions=NO_DECISIONS,
        scaling=NO_SCALING,
        digest="d" * 64,
        events=4,
        took_s=0.5,
    )
    label = CellLabel(scenario="p3@0.8", system="tango", lc="dss-lc", be="dcg-be", sharing="hrm", seed=7, key="k")
    return cell_result(run, metrics, label, bound={"lc_qos_rate": 0.9})


RESULT = _result()


def _computed(claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
    return Simulated(result=RESULT, rows=None)


def _ordered(count: int = 1) -> tuple[MemorySimulationStore, RecordingPublisher, list[int]]:
    store, publisher = MemorySimulationStore(), RecordingPublisher()
    cells = [NewSimulation(**{**{n: getattr(CELL, n) for n in CELL.__slots__}, "key": str(k)}) for k in range(count)]
    opened = start_sweep(cells, record=False, forget=False, store=store, publisher=publisher)
    return store, publisher, [run.run_id for run in opened]


def _work(store: MemorySimulationStore, run_id: int, compute: Compute = _computed) -> dict[str, int | str]:
    return simulate_claimed(run_id, owner="me", store=store, compute=compute, settings=SETTINGS)


def test_a_computed_cell_leaves_its_result_and_the_figures_of_a_live_run() -> None:
    """Beside them what only a simulation has: digest, events, bound and the simulated seconds."""
    store, _, (run_id,) = _ordered()

    done = _work(store, run_id)

    figures = store.runs[run_id].figures or {}
    assert done == {"run": run_id, "claimed": 1, "status": "completed"}
    assert store.result(run_id) == RESULT.as_dict()
    assert figures["run"] == run_id
    assert (figures["lc_qos_rate"], figures["lc_qos_rate_bound"], figures["be_cpu_seconds_per_s_bound"]) == (0.5, 0.9, None)
    assert (figures["digest"], figures["events"], figures["simulated_s"]) == ("d" * 64, 4, 200.0)


def test_a_second_delivery_computes_nothing() -> None:
    """The message is a hint, the claim is the right to work."""
    store, _, (run_id,) = _ordered()
    _work(store, run_id)

    def never(claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
        raise AssertionError("computed twice")

    assert _work(store, run_id, never) == {"run": run_id, "claimed": 0}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Deadlock(at_s=3.0, waiting=["2 x BE batch"]), "deadlock at 3 s: nothing runs and nothing can; waiting:\n  2 x BE batch"),
        (ZeroDivisionError("by a policy"), "ZeroDivisionError: by a policy"),
    ],
)
def test_an_error_of_a_cell_is_its_end_and_keeps_its_words(error: Exception, words: str) -> None:
    """The worker goes on to the next cell."""
    store, _, (run_id,) = _ordered()

    def fail(claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
        raise error

    assert _work(store, run_id, fail)["status"] == "failed"
    assert store.states([run_id]) == [SimulationState(run_id=run_id, status=RunStatus.FAILED, failure=words)]


def test_a_worker_leaves_a_run_that_was_cancelled() -> None:
    """It learns so when it renews its lease, and stops at the next chance; nothing is written."""
    store, _, (run_id,) = _ordered()

    def long(claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
        store.cancel(run_id)
        deadline_s = time.monotonic() + 10.0
        while time.monotonic() < deadline_s:
            stands()
            time.sleep(0.001)
        raise AssertionError("worked on for nothing")

    settings = LeaseSettings(placement_s=0.04)
    done = simulate_claimed(run_id, owner="me", store=store, compute=long, settings=settings)

    assert done["status"] == "left"
    assert store.states([run_id])[0].status is RunStatus.CANCELLED


def test_only_what_is_new_is_published() -> None:
    """What is under way has its message already."""
    store, publisher, (run_id,) = _ordered()
    again = start_sweep([CELL], record=False, forget=False, store=store, publisher=publisher)

    third = start_sweep([CELL], record=False, forget=False, store=store, publisher=publisher)

    assert third == [type(again[0])(run_id=again[0].run_id, is_new=False)]
    assert publisher.simulated == [run_id, again[0].run_id]


def test_a_broker_that_is_away_costs_only_time() -> None:
    """The rows stand, and are published when it is back."""
    store, publisher = MemorySimulationStore(), RecordingPublisher()
    publisher.away = True
    (run,) = start_sweep([CELL], record=False, forget=False, store=store, publisher=publisher)
    store.age(run.run_id, 60.0)

    def next_moment(_s: float) -> None:
        publisher.away = False
        if publisher.simulated:
            _work(store, run.run_id)
        store.age(run.run_id, 60.0)

    ended = _awaited(store, publisher, [run.run_id], next_moment)

    assert publisher.simulated == [run.run_id]
    assert [state.status for state in ended] == [RunStatus.COMPLETED]


def test_the_command_waits_for_all_and_tells_each_once() -> None:
    """A failed cell does not end the others."""
    store, publisher, run_ids = _ordered(3)
    todo = list(run_ids)

    def fail(claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
        raise ValueError("no")

    def next_moment(_s: float) -> None:
        run_id = todo.pop(0)
        _work(store, run_id, fail if run_id == run_ids[0] else _computed)

    ended = _awaited(store, publisher, run_ids, next_moment)

    assert [state.run_id for state in ended] == run_ids
    assert [state.status for state in ended] == [RunStatus.FAILED, RunStatus.COMPLETED, RunStatus.COMPLETED]


def test_a_lost_message_is_published_again() -> None:
    """After a while, a few at a time while nobody works; messages that come twice do no harm."""
    store, publisher, run_ids = _ordered(20)
    publisher.simulated.clear()  # the broker forgot

    def next_moment(_s: float) -> None:
        for run_id in publisher.simulated:
            _work(store, run_id)
        for run_id in run_ids:
            store.age(run_id, 4.0)

    _awaited(store, publisher, run_ids, next_moment)

    assert sorted(set(publisher.simulated)) == run_ids
    assert len(publisher.simulated) == 20


def test_the_command_says_what_to_start_when_nobody_takes_a_cell() -> None:
    """After some seconds, not at once, and not again and again."""
    store, publisher, run_ids = _ordered()
    slept_s, hints = [0.0], []

    def sleep(for_s: float) -> None:
        slept_s[0] += for_s
        if slept_s[0] >= 60.0:
            _work(store, run_ids[0])

    await_sweep(
        run_ids,
        store=store,
        publisher=publisher,
        sleep=sleep,
        settings=SETTINGS,
        ended=lambda _state: None,
        nobody=lambda: hints.append(slept_s[0]),
    )

    assert len(hints) == 1
    assert 5.0 < hints[0] < 10.0


def test_a_deleted_run_is_not_waited_for() -> None:
    """Somebody may tidy up meanwhile."""
    store, publisher, run_ids = _ordered(2)
    _work(store, run_ids[0])
    del store.runs[run_ids[1]]

    assert [state.run_id for state in _awaited(store, publisher, run_ids, lambda _s: None)] == run_ids[:1]


def test_a_stored_result_is_shown_as_the_figures_of_a_run() -> None:
    """Services and details included; keys of a later version are left alone."""
    stored = RESULT.as_dict()
    stored["services"][0]["of_tomorrow"] = 1

    metrics = metrics_of_result(12, CellResult.from_dict(stored))

    assert (metrics["run"], metrics["lc_qos_rate"], metrics["digest"]) == (12, 0.5, "d" * 64)
    assert [(s.service, s.arrived) for s in metrics.services] == [("web", 2)]
    assert metrics.details["window_start_s"] == 10.0


def _awaited(
    store: MemorySimulationStore, publisher: RecordingPublisher, run_ids: list[int], sleep: Callable[[float], None]
) -> list[SimulationState]:
    ended: list[SimulationState] = []
    await_sweep(
        run_ids,
        store=store,
        publisher=publisher,
        sleep=sleep,
        settings=SETTINGS,
        ended=ended.append,
        nobody=lambda: None,
    )
    return ended
