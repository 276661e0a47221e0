"""`FiguresStore`, on the fake and on PostgreSQL: ordered once, computed under a claim, and kept."""

from __future__ import annotations

import pytest

from tango.domain.runs import RunStatus
from tango.ports.figures import FiguresClaim
from tests.fakes.store_world import LIVE_S, OVER_S, WEB, StoreWorld, copy_of, memory_world, postgres_world

KEPT = {"figures": {"accepted": 1, "lc_qos_rate": None}, "services": [{"service": "web"}], "details": {"busy_cpu": 0.5}}
FIGURES = {"accepted": 1, "system": "tango", "lc_qos_rate": None}


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> StoreWorld:
    """One implementation after the other."""
    if request.param == "memory":
        return memory_world()
    return postgres_world(request.getfixturevalue("database_url"))


def ended(world: StoreWorld) -> int:
    """A draining run whose request has been answered, and whose figures are ordered."""
    run_id = world.create(WEB)
    world.runs.set_status(run_id, RunStatus.DRAINING)
    world.ship(copy_of(run_id, 0))
    assert world.figures.order(run_id)
    return run_id


def claimed(world: StoreWorld, *, lease_s: float = LIVE_S) -> FiguresClaim:
    """The next claim. Raises: AssertionError where there is none."""
    claim = world.figures.claim(lease_s=lease_s, most_claims=3)
    assert claim is not None
    return claim


def test_figures_are_ordered_once_and_complete_their_run(world: StoreWorld) -> None:
    """What is saved comes back as it was, and nothing is left to claim."""
    run_id = ended(world)
    again, nowhere = world.figures.order(run_id), world.figures.order(run_id + 1)
    claim = claimed(world)
    before = world.runs.run(run_id).status, world.figures.kept(run_id)

    saved = world.figures.save(claim, KEPT, FIGURES)

    assert (again, nowhere, saved) == (False, False, True)
    assert before == (RunStatus.DRAINING, None)
    assert (world.runs.run(run_id).status, world.figures.kept(run_id)) == (RunStatus.COMPLETED, KEPT)
    assert world.figures.claim(lease_s=LIVE_S, most_claims=3) is None
    assert (world.figures.order(run_id), world.figures.failure(run_id)) == (False, "")


def test_a_claim_whose_lease_is_over_is_made_again_and_the_newer_one_counts(world: StoreWorld) -> None:
    """Who computed under the older epoch saves nothing; a claim that stands is nobody else's."""
    run_id = ended(world)
    old = claimed(world, lease_s=OVER_S)
    new = claimed(world)
    other = world.figures.claim(lease_s=LIVE_S, most_claims=3)

    late, counted = world.figures.save(old, {**KEPT, "details": {}}, FIGURES), world.figures.save(new, KEPT, FIGURES)

    assert (old.epoch, new.epoch, other) == (1, 2, None)
    assert (late, counted, world.figures.save(new, {}, FIGURES)) == (False, True, False)
    assert world.figures.kept(run_id) == KEPT


def test_a_renewed_claim_stands(world: StoreWorld) -> None:
    """Under its own epoch only, and while there is no result."""
    ended(world)
    old = claimed(world, lease_s=OVER_S)
    claim = claimed(world, lease_s=OVER_S)

    renewed = world.figures.renew(old, lease_s=LIVE_S), world.figures.renew(claim, lease_s=LIVE_S)

    assert renewed == (False, True)
    assert world.figures.claim(lease_s=LIVE_S, most_claims=3) is None
    world.figures.save(claim, KEPT, FIGURES)
    assert not world.figures.renew(claim, lease_s=LIVE_S)


def test_an_order_that_ends_each_of_its_processes_completes_its_run_without_figures(world: StoreWorld) -> None:
    """It says so, and the next order is claimed."""
    first, second = ended(world), ended(world)
    epochs = [claimed(world, lease_s=OVER_S).epoch for _ in range(3)]

    claim = claimed(world)

    assert (epochs, claim.run_id) == ([1, 2, 3], second)
    assert world.runs.run(first).status is RunStatus.COMPLETED
    assert "given up after 3 attempts" in world.figures.failure(first)
    assert world.figures.kept(first) is None


def test_a_cancelled_run_gets_its_figures_and_stays_cancelled(world: StoreWorld) -> None:
    """So does one that is cancelled while they are computed."""
    runs = [ended(world), world.create(WEB)]
    world.cancel(runs[1])
    world.figures.order(runs[1])
    claims = [claimed(world), claimed(world)]
    world.runs.cancel(runs[0])

    saved = [world.figures.save(claim, KEPT, FIGURES) for claim in claims]

    assert saved == [True, True]
    assert [world.runs.run(run_id).status for run_id in runs] == [RunStatus.CANCELLING, RunStatus.CANCELLED]


def test_a_deleted_run_takes_its_figures_with_it(world: StoreWorld) -> None:
    """Whoever computes them just now saves nothing."""
    run_id = ended(world)
    claim = claimed(world)
    world.cancel(run_id)

    world.runs.delete(run_id)

    assert not world.figures.save(claim, KEPT, FIGURES)
    assert world.figures.kept(run_id) is None
