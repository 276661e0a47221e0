"""A simulation worker: one claim, one computation, one end."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tango.control.simulation_worker import Compute, Simulated, SimulationWorker
from tango.domain.runs import RunStatus
from tango.domain.simulations import ClaimedSimulation, SimulationProgress
from tango.errors import Deadlock, StoreError
from tango.settings import LeaseSettings
from tests.fakes.faulty import Faulty
from tests.fakes.sweep_world import RESULT, SweepWorld
from tests.waiting import WITHIN_S


@pytest.fixture
def world() -> SweepWorld:
    """Nobody works yet."""
    return SweepWorld()


def test_a_computed_cell_leaves_its_result_and_the_figures_of_a_live_run(world: SweepWorld) -> None:
    """Beside them what only a simulation has: digest, events, bound and the simulated seconds."""
    (run_id,) = world.ordered()

    done = world.work(run_id)

    figures = world.store.runs[run_id].figures or {}
    assert done == {"run": run_id, "claimed": 1, "status": "completed"}
    assert world.store.result(run_id) == RESULT.as_dict()
    assert figures["run"] == run_id
    assert (figures["lc_qos_rate"], figures["lc_qos_rate_bound"], figures["be_cpu_seconds_per_s_bound"]) == (0.5, 0.9, None)
    assert (figures["digest"], figures["events"], figures["simulated_s"]) == ("d" * 64, 4, 200.0)


def test_a_second_delivery_computes_nothing(world: SweepWorld) -> None:
    """The message is a hint, the claim is the right to work."""
    (run_id,) = world.ordered()
    world.work(run_id)

    def never(claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
        raise AssertionError("computed twice")

    assert world.work(run_id, never) == {"run": run_id, "claimed": 0}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Deadlock(at_s=3.0, waiting=["2 x BE batch"]), "deadlock at 3 s: nothing runs and nothing can; waiting:\n  2 x BE batch"),
        (ZeroDivisionError("by a policy"), "ZeroDivisionError: by a policy"),
    ],
)
def test_an_error_of_a_cell_is_its_end_and_keeps_its_words(world: SweepWorld, error: Exception, words: str) -> None:
    """The worker goes on to the next cell."""
    (run_id,) = world.ordered()

    def fail(claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
        raise error

    assert world.work(run_id, fail)["status"] == "failed"
    assert world.store.states([run_id]) == [SimulationProgress(run_id=run_id, status=RunStatus.FAILED, failure=words)]


def test_a_worker_leaves_a_run_that_was_cancelled(world: SweepWorld) -> None:
    """It learns so when it renews its lease, and stops at the next chance; nothing is written."""
    (run_id,) = world.ordered()

    def long(claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
        world.store.cancel(run_id)
        deadline_s = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline_s:
            stands()
            time.sleep(0.001)
        raise AssertionError("worked on for nothing")

    done = world.work(run_id, long, settings=LeaseSettings(placement_s=0.04))

    assert done["status"] == "left"
    assert world.store.states([run_id])[0].status is RunStatus.CANCELLED


@pytest.mark.parametrize("error", [StoreError("refused"), ZeroDivisionError("a defect")], ids=["refused", "defect"])
def test_a_renewal_that_fails_is_tried_again(world: SweepWorld, error: Exception) -> None:
    """The claim stands, and a later renewal is made: a defect in one must not let the lease run out behind a run that goes on."""
    (run_id,) = world.ordered()
    store = Faulty(world.store, renew=[error])
    worker = SimulationWorker(store=store, compute=_until_renewed(store), owner="host", settings=LeaseSettings(placement_s=0.2))

    done = worker.work(run_id)

    assert done["status"] == "completed"


def _until_renewed(store: Faulty) -> Compute:
    """Works until two renewals were asked for."""

    def compute(claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
        deadline_s = time.monotonic() + WITHIN_S
        while len(store.calls_of("renew")) < 2:
            assert time.monotonic() < deadline_s, "the lease was not renewed again"
            stands()
            time.sleep(0.001)
        return Simulated(result=RESULT, rows=None)

    return compute
