"""`SimulationStore`, on the fake and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from tango.domain.runs import RunKind, RunStatus
from tango.domain.simulations import ClaimedSimulation, NewSimulation
from tango.ports.simulations import SimulationStore
from tango.store.database import Database
from tango.store.runs import PostgresRunStore
from tango.store.simulations import PostgresSimulationStore
from tests.fakes.simulations import MemorySimulationStore
from tests.fakes.store_world import LIVE_S, OVER_S, WEB, new_requests, new_run

CELL = NewSimulation(
    key="a",
    cell={"duration_s": 600.0, "large": 1e16, "small": 1e-7},
    name="p3@0.8",
    system="tango",
    fleet="pair",
    fleet_hash="f" * 64,
    seed=3_000_000,
    trace_source="p3@0.8 600s",
    span_s=600.0,
    settings={"sim": {"beta": 1.0}},
)
A, B, C = (replace(CELL, key=key) for key in "abc")
RESULT = {"scenario": "p3@0.8", "figures": {"lc_qos_rate": 0.1 + 0.2, "events": 3}, "series": [1.0, None]}
FIGURES = {"accepted": 5, "lc_qos_rate": 0.9, "digest": "d" * 64, "fairness_jain": None}


@dataclass(frozen=True, slots=True)
class SimulationsUnderTest:
    """The store, with what other parts do to its runs."""

    store: SimulationStore
    cancel: Callable[[int], object]
    age: Callable[[int, float], object]
    """As if a run had been published so many seconds longer ago."""

    def order(self, *cells: NewSimulation, record: bool = False, forget: bool = False) -> list[int]:
        """The runs of cells."""
        return [run.run_id for run in self.store.open(cells, record=record, forget=forget)]

    def claim(self, run_id: int, *, lease_s: float = LIVE_S, owner: str = "me", most_claims: int = 9) -> ClaimedSimulation:
        """A claim that must succeed."""
        claim = self.store.claim(run_id, owner=owner, lease_s=lease_s, most_claims=most_claims)
        assert claim is not None
        return claim

    def finish(self, claim: ClaimedSimulation) -> bool:
        """A result without rows."""
        return self.store.finish(claim, result=RESULT, figures=FIGURES, rows=None)

    def status(self, run_id: int) -> RunStatus:
        """Where a run stands."""
        return self.store.states([run_id])[0].status


@pytest.fixture(params=["memory", "postgres"])
def simulations(request: pytest.FixtureRequest) -> SimulationsUnderTest:
    """One implementation after the other."""
    if request.param == "memory":
        memory = MemorySimulationStore()
        return SimulationsUnderTest(memory, memory.cancel, memory.age)
    database = Database(request.getfixturevalue("database_url"))
    runs = PostgresRunStore(database)
    shift = "UPDATE simulation SET published_at = published_at - %s * interval '1 s' WHERE run_id = %s"
    return SimulationsUnderTest(
        PostgresSimulationStore(database), runs.cancel, lambda run_id, by_s: database.execute(shift, (by_s, run_id))
    )


def test_a_cell_ordered_twice_has_one_run(simulations: SimulationsUnderTest) -> None:
    """What is under way is awaited, not doubled; the order of the cells stays."""
    first = simulations.store.open([A, B], record=False, forget=False)
    second = simulations.store.open([C, B, A], record=False, forget=True)

    assert [run.is_new for run in first] == [True, True]
    assert [run.is_new for run in second] == [True, False, False]
    assert [run.run_id for run in second[1:]] == [first[1].run_id, first[0].run_id]


def test_what_is_finished_is_found_unless_it_shall_be_forgotten(simulations: SimulationsUnderTest) -> None:
    """A failed or cancelled run is no result."""
    done, failed, cancelled = simulations.order(A, B, C)
    simulations.finish(simulations.claim(done))
    simulations.store.fail(simulations.claim(failed), "no")
    simulations.cancel(cancelled)

    again = simulations.order(A, B, C)

    assert again[0] == done
    assert not set(again[1:]) & {failed, cancelled}
    assert simulations.order(A, forget=True) != [done]


def test_a_run_without_rows_is_not_enough_for_who_wants_them(simulations: SimulationsUnderTest) -> None:
    """One with rows is enough for everybody."""
    (plain,) = simulations.order(A)
    (recorded,) = simulations.order(A, record=True)
    simulations.finish(simulations.claim(recorded))

    assert recorded != plain
    assert simulations.order(A) == [recorded]
    assert simulations.claim(plain).record is False


def test_a_claim_gives_the_cell_as_it_was_written(simulations: SimulationsUnderTest) -> None:
    """Also numbers that a database might turn into others: the key is a hash of the text."""
    claim = simulations.claim(simulations.order(A)[0])

    assert (claim.epoch, claim.key, claim.cell) == (1, "a", CELL.cell)
    assert type(claim.cell["large"]) is float


def test_two_deliveries_do_not_compute_twice_at_a_time(simulations: SimulationsUnderTest) -> None:
    """The second finds nothing to claim while the lease stands, and after the end."""
    (run_id,) = simulations.order(A)
    claim = simulations.claim(run_id)
    meanwhile = simulations.store.claim(run_id, owner="other", lease_s=LIVE_S, most_claims=9)
    simulations.finish(claim)

    assert meanwhile is None
    assert simulations.store.claim(run_id, owner="other", lease_s=LIVE_S, most_claims=9) is None


def test_a_run_whose_lease_is_over_is_taken_up_again(simulations: SimulationsUnderTest) -> None:
    """Under the next epoch; the older claim is no longer renewed and cannot fail the run."""
    (run_id,) = simulations.order(A)
    old = simulations.claim(run_id, lease_s=OVER_S)
    new = simulations.claim(run_id, owner="other")

    assert (old.epoch, new.epoch) == (1, 2)
    assert not simulations.store.renew(old, lease_s=LIVE_S)
    assert not simulations.store.fail(old, "late")
    assert simulations.store.renew(new, lease_s=LIVE_S)
    assert simulations.status(run_id) is RunStatus.RUNNING


def test_the_first_result_counts_whoever_brings_it(simulations: SimulationsUnderTest) -> None:
    """Equal cells have equal results, so that an overtaken worker has not worked in vain; the second changes nothing."""
    (run_id,) = simulations.order(A)
    old = simulations.claim(run_id, lease_s=OVER_S)
    new = simulations.claim(run_id)

    assert (simulations.finish(old), simulations.finish(new)) == (True, False)
    assert simulations.store.result(run_id) == RESULT
    assert simulations.status(run_id) is RunStatus.COMPLETED


def test_a_cell_that_ends_its_workers_is_given_up(simulations: SimulationsUnderTest) -> None:
    """Else it would end them all, one after the other."""
    (run_id,) = simulations.order(A)
    for _ in range(2):
        simulations.claim(run_id, lease_s=OVER_S, most_claims=2)

    assert simulations.store.claim(run_id, owner="third", lease_s=LIVE_S, most_claims=2) is None
    (state,) = simulations.store.states([run_id])
    assert state.status is RunStatus.FAILED
    assert "given up after 2 attempts" in state.failure


def test_a_failure_keeps_its_words(simulations: SimulationsUnderTest) -> None:
    """And the run has ended, without a result."""
    (run_id,) = simulations.order(A)

    assert simulations.store.fail(simulations.claim(run_id), "the policy returned an impossible plan")

    (state,) = simulations.store.states([run_id])
    assert (state.ended, state.failure) == (True, "the policy returned an impossible plan")
    assert simulations.store.result(run_id) is None


def test_a_cancelled_run_takes_no_result(simulations: SimulationsUnderTest) -> None:
    """Its worker learns of it when it renews."""
    (run_id,) = simulations.order(A)
    claim = simulations.claim(run_id)
    simulations.cancel(run_id)

    assert not simulations.store.renew(claim, lease_s=LIVE_S)
    assert not simulations.finish(claim)
    assert simulations.status(run_id) is RunStatus.CANCELLED


def test_a_message_that_seems_lost_is_asked_for_at_growing_distances(simulations: SimulationsUnderTest) -> None:
    """While workers are busy a run may only wait for its turn; while nobody is, each distance is the same."""
    (run_id,) = simulations.order(A)

    def asked(*, aged_s: float, busy: bool) -> bool:
        simulations.age(run_id, aged_s)
        return simulations.store.unclaimed([run_id], after_s=100.0, busy=busy, limit=9) == [run_id]

    assert not asked(aged_s=90.0, busy=True)
    assert asked(aged_s=20.0, busy=True)
    assert not asked(aged_s=110.0, busy=True)
    assert asked(aged_s=0.0, busy=False)


def test_a_run_whose_worker_is_gone_is_asked_for_at_once(simulations: SimulationsUnderTest) -> None:
    """One that is being worked on is not."""
    gone, worked = simulations.order(A, B)
    simulations.claim(worked)
    simulations.claim(gone, lease_s=0.0)

    assert simulations.store.unclaimed([gone, worked], after_s=100.0, busy=True, limit=9) == [gone]
    assert simulations.store.unclaimed([gone, worked], after_s=100.0, busy=True, limit=9) == []


def test_somebody_works_while_a_lease_stands(simulations: SimulationsUnderTest) -> None:
    """Whosever run it is."""
    run_id, _ = simulations.order(A, B)
    seen = [simulations.store.anybody_works()]
    claim = simulations.claim(run_id)
    seen.append(simulations.store.anybody_works())
    simulations.finish(claim)
    seen.append(simulations.store.anybody_works())

    assert seen == [False, True, False]


def test_simulated_runs_are_no_business_of_who_moves_live_ones(database_url: str) -> None:
    """They are listed beside live runs, and are never active."""
    database = Database(database_url)
    runs = PostgresRunStore(database)
    live = runs.create_run(new_run("live"), new_requests([WEB]))
    (simulated,) = (run.run_id for run in PostgresSimulationStore(database).open([A], record=False, forget=False))

    assert [run.run_id for run in runs.active_runs()] == [live]
    assert [(run.run_id, run.kind) for run in runs.runs()] == [(simulated, RunKind.SIMULATED), (live, RunKind.REPLAYED)]
    assert [run.run_id for run in runs.runs(kind=RunKind.REPLAYED, limit=1)] == [live]
