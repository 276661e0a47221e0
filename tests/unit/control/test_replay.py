"""Replay: a run begins when its shares are taken, and BE is released at its due time, by one replayer at a time."""

from __future__ import annotations

import pytest

from tango.control.replay import Replay
from tango.domain.runs import RunStatus
from tango.ports.leases import LeaseStore
from tango.settings import ReplaySettings
from tests.fakes.control_world import ControlWorld
from tests.fakes.faulty import Faulty
from tests.fakes.store_world import BATCH, OVER_S, WEB, ZERO_S

SETTINGS = ReplaySettings(be_window_s=0.1, slice_s=20.0, lease_s=5.0, lead_s=1.0, hand_over_s=10.0)
HAIR_S = 0.001
"""What the clock moves by being looked at, in all."""


def replay(
    world: ControlWorld,
    run_id: int,
    *,
    owner: str = "replayer",
    leases: LeaseStore | None = None,
    settings: ReplaySettings = SETTINGS,
) -> dict[str, int | bool]:
    """One slice."""
    use_case = Replay(
        runs=world.runs,
        shares=world.shares.shares,
        requests=world.requests,
        leases=leases or world.leases,
        publisher=world.publisher,
        clock=world.clock,
        settings=settings,
    )
    return use_case.slice(run_id, owner=owner)


# ---- when --------------------------------------------------------------------------------------------------------------


def test_requests_are_released_in_order_of_due_time_and_never_early(world: ControlWorld) -> None:
    """Each message goes out at its requests' due time, at most one window later."""
    run_id = world.create(BATCH, BATCH, BATCH, BATCH, gap_s=2.5)

    report = replay(world, run_id)

    assert report == {"released": 4, "again": False}
    assert world.publisher.request_ids == [0, 1, 2, 3]
    for request_id in range(4):
        late_s = world.publisher.at_s(request_id) - (ZERO_S + 2.5 * request_id)
        assert 0.0 <= late_s <= SETTINGS.be_window_s + HAIR_S
    assert world.states(run_id) == ["released"] * 4


def test_requests_due_within_one_window_share_a_message(world: ControlWorld) -> None:
    """Twenty requests a millisecond apart take a message a window and a batch a cluster, not one each."""
    run_id = world.create(*[BATCH] * 20, gap_s=0.001)

    replay(world, run_id)

    assert [sum(len(batch.request_ids) for batch in batches) for _, batches in world.publisher.announced] == [1, 19]
    assert [batch.cluster for batch in world.publisher.announced[1][1]] == ["c2", "c1"]


def test_lc_is_left_to_the_journals(world: ControlWorld) -> None:
    """Of a run with both the replayer releases BE alone, and does not wait for LC that is due later."""
    run_id = world.create(WEB, BATCH, WEB, gap_s=0.5)
    world.open_shares(run_id)

    report = replay(world, run_id)

    assert report == {"released": 1, "again": False}
    assert world.states(run_id) == ["accepted", "released", "accepted"]
    assert world.publisher.request_ids == [1]


# ---- the beginning -----------------------------------------------------------------------------------------------------


def test_a_run_begins_once_every_cluster_has_the_beginning_of_its_share(world: ControlWorld) -> None:
    """Its zero is a lead after that, and not after the message: else the first requests of all would be late."""
    run_id = world.submit(WEB, WEB, BATCH)
    world.clock.at(ZERO_S + 2.0, lambda: world.shares.handed(run_id, "c1", up_to=0, complete=True))
    world.clock.at(ZERO_S + 3.0, lambda: world.shares.handed(run_id, "c2", up_to=1, complete=False))

    replay(world, run_id)

    zero_s = world.runs.run(run_id).started_at_s
    assert zero_s == pytest.approx(ZERO_S + 3.0 + SETTINGS.lead_s, abs=0.1)


def test_a_cluster_that_is_away_keeps_the_others_waiting_for_a_while_only(world: ControlWorld) -> None:
    """What it takes later is late; the lease is held meanwhile."""
    run_id = world.submit(WEB, WEB)
    world.shares.handed(run_id, "c1", up_to=0, complete=True)
    tries: list[object] = []
    world.clock.at(ZERO_S + 8.0, lambda: tries.append(world.leases.acquire(f"replay:{run_id}", owner="thief", ttl_s=5.0)))

    replay(world, run_id)

    zero_s = world.runs.run(run_id).started_at_s
    assert zero_s == pytest.approx(ZERO_S + SETTINGS.hand_over_s + SETTINGS.lead_s, abs=0.1)
    assert tries == [None]


def test_a_run_that_has_begun_does_not_wait_for_its_shares(world: ControlWorld) -> None:
    """A replayer that takes over goes on at once."""
    run_id = world.create(WEB, BATCH, gap_s=0.0)

    replay(world, run_id)

    assert world.publisher.at_s(1) - ZERO_S < 0.1


def test_a_run_begins_a_lead_after_its_first_slice_and_keeps_that_zero(world: ControlWorld) -> None:
    """The first slice sets the run's zero a second ahead, so that the first requests are not late; the next finds it set."""
    run_id = world.submit(BATCH, BATCH, gap_s=1.0)
    short = ReplaySettings(slice_s=1.5, lead_s=1.0)

    replay(world, run_id, settings=short)
    replay(world, run_id, settings=short)

    zero_s = world.runs.run(run_id).started_at_s
    assert zero_s == pytest.approx(ZERO_S + 1.0, abs=HAIR_S)
    assert world.publisher.at_s(0) - ZERO_S == pytest.approx(1.0, abs=0.02)
    assert world.publisher.at_s(1) - ZERO_S == pytest.approx(2.0, abs=0.02)


def test_more_than_one_step_can_release_goes_out_over_several(world: ControlWorld) -> None:
    """A limit keeps a step short; the rest follows a window later, and nothing is left behind."""
    run_id = world.create(*[BATCH] * 5, gap_s=0.0)

    report = replay(world, run_id, settings=ReplaySettings(release_limit=2))

    assert report == {"released": 5, "again": False}
    assert [sum(len(batch.request_ids) for batch in batches) for _, batches in world.publisher.announced] == [2, 2, 1]


# ---- slices and leases -------------------------------------------------------------------------------------------------


def test_a_slice_that_is_over_hands_on(world: ControlWorld) -> None:
    """It asks for another and gives its lease back, so that any process may go on at once where it stopped."""
    run_id = world.create(BATCH, BATCH, BATCH, gap_s=10.0)

    first = replay(world, run_id, owner="one")
    status = world.runs.run(run_id).status
    second = replay(world, run_id, owner="two")

    assert (first, second) == ({"released": 2, "again": True}, {"released": 1, "again": False})
    assert status is RunStatus.RUNNING
    assert world.publisher.request_ids == [0, 1, 2]


def test_a_slice_ends_on_time_with_nothing_due(world: ControlWorld) -> None:
    """It does not sleep on to the next due time: its message must be acknowledged well before the broker sends it again."""
    run_id = world.create(BATCH, BATCH, gap_s=60.0)

    replay(world, run_id, settings=ReplaySettings(slice_s=2.0, lease_s=5.0))

    assert world.clock.now_s() - ZERO_S == pytest.approx(2.0, abs=HAIR_S)


def test_the_last_release_leaves_the_run_draining(world: ControlWorld) -> None:
    """All released and some still live: the run is not over, and nobody has to replay it any more."""
    run_id = world.create(BATCH)

    replay(world, run_id)

    assert world.runs.run(run_id).status is RunStatus.DRAINING
    assert world.free(f"replay:{run_id}")


def test_a_second_replayer_finds_the_lease_taken(world: ControlWorld) -> None:
    """It releases nothing, asks for no further slice and leaves the run as it is."""
    run_id = world.submit(BATCH)
    world.leases.acquire(f"replay:{run_id}", owner="first", ttl_s=5.0)

    report = replay(world, run_id, owner="second")

    assert report == {"released": 0, "again": False}
    assert world.states(run_id) == ["accepted"]
    assert world.runs.run(run_id).started_at_s is None
    assert world.publisher.announced == []


def test_the_lease_is_held_as_long_as_the_slice_lasts(world: ControlWorld) -> None:
    """A slice is four leases long, with nothing due in it: it renews, and nobody else gets in."""
    run_id = world.create(BATCH, BATCH, gap_s=30.0)
    tries: list[object] = []
    for at_s in (3.0, 6.0, 12.0, 19.0):
        world.clock.at(ZERO_S + at_s, lambda: tries.append(world.leases.acquire(f"replay:{run_id}", owner="thief", ttl_s=5.0)))

    report = replay(world, run_id)

    assert tries == [None] * 4
    assert report == {"released": 1, "again": True}


def test_a_busy_slice_renews_no_more_often_than_an_idle_one(world: ControlWorld) -> None:
    """A lease is a write to the database: one every third of it, however many requests are released meanwhile."""
    run_id = world.create(*[BATCH] * 150, gap_s=0.1)
    leases = Faulty(world.leases)

    replay(world, run_id, leases=leases)

    assert len(leases.calls_of("acquire")) <= 1 + 15.0 / (SETTINGS.lease_s / 3)


def test_a_replayer_that_lost_its_lease_stops(world: ControlWorld) -> None:
    """Held up past its lease, it finds another holder, releases nothing more, and leaves the other's lease alone."""
    run_id = world.create(*[BATCH] * 10, gap_s=1.0)
    lease = f"replay:{run_id}"
    world.clock.at(ZERO_S + 2.5, lambda: world.given_to(lease, "another", after_s=6.0))

    report = replay(world, run_id)

    assert report == {"released": 3, "again": True}
    assert world.states(run_id) == ["released"] * 3 + ["accepted"] * 7
    assert not world.free(lease)


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.DRAINING])
def test_a_run_with_nothing_to_release_is_left_alone(world: ControlWorld, status: RunStatus) -> None:
    """A late or repeated message for a run that is over, cancelled or all released ends there, and holds no lease."""
    run_id = world.submit(BATCH)
    world.runs.set_status(run_id, status)

    report = replay(world, run_id)

    assert report == {"released": 0, "again": False}
    assert (world.runs.run(run_id).status, world.runs.run(run_id).started_at_s) == (status, None)
    assert world.states(run_id) == ["accepted"]
    assert world.free(f"replay:{run_id}")


def test_a_run_cancelled_under_way_ends_its_replay(world: ControlWorld) -> None:
    """What a cancelled run has is not due any more: the slice ends, and the run stays as it is."""
    run_id = world.create(*[BATCH] * 5, gap_s=1.0)
    world.clock.at(ZERO_S + 1.5, lambda: world.runs.cancel(run_id))

    report = replay(world, run_id)

    assert report == {"released": 2, "again": False}
    assert world.runs.run(run_id).status is RunStatus.CANCELLING


def test_with_the_broker_away_nothing_is_lost(world: ControlWorld) -> None:
    """The rows are released on time without their messages; they wait for the reconciler, who publishes them again."""
    run_id = world.create(BATCH, BATCH, BATCH, gap_s=0.1)
    world.publisher.away = True

    report = replay(world, run_id)

    assert report == {"released": 3, "again": False}
    waiting = world.requests.unclaimed(older_than_s=OVER_S, limit=10)
    assert sorted(k for batch in waiting for k in batch.request_ids) == [0, 1, 2]
