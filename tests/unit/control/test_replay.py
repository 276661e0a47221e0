"""Replay: every request is released at its due time, by one replayer at a time, whatever becomes of the messages."""

from __future__ import annotations

import pytest

from tango.control.replay import ReleaseWindow, Replay
from tango.domain.runs import RunStatus
from tango.domain.services import ServiceClass
from tango.ports.leases import LeaseStore
from tango.settings import ReplaySettings
from tests.fakes.control_world import ControlWorld, control_world
from tests.fakes.faulty import Faulty
from tests.fakes.store_world import BATCH, CHAT, OVER_S, WEB, ZERO_S

SETTINGS = ReplaySettings(window_s=0.01, be_window_s=0.1, slice_s=20.0, lease_s=5.0, lead_s=1.0)
HAIR_S = 0.001
"""What the clock moves by being looked at, in all."""


@pytest.fixture
def world() -> ControlWorld:
    """In memory; it is ZERO_S."""
    return control_world()


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
    run_id = world.create(WEB, CHAT, WEB, WEB, gap_s=2.5)

    report = replay(world, run_id)

    assert report == {"released": 4, "again": False}
    assert world.publisher.request_ids == [0, 1, 2, 3]
    for request_id in range(4):
        late_s = world.publisher.at_s(request_id) - (ZERO_S + 2.5 * request_id)
        assert 0.0 <= late_s <= SETTINGS.window_s + HAIR_S
    assert world.states(run_id) == ["released"] * 4


def test_requests_due_within_one_window_share_a_message(world: ControlWorld) -> None:
    """Twenty requests a millisecond apart take a message a window and a batch a cluster, not one each."""
    run_id = world.create(*[WEB] * 20, gap_s=0.001)

    replay(world, run_id)

    assert [sum(len(batch.request_ids) for batch in batches) for _, batches in world.publisher.announced] == [1, 10, 9]
    assert [batch.request_ids for batch in world.publisher.announced[1][1]] == [(1, 3, 5, 7, 9), (2, 4, 6, 8, 10)]
    assert [batch.cluster for batch in world.publisher.announced[1][1]] == ["c2", "c1"]


def test_a_run_begins_a_lead_after_its_first_slice_and_keeps_that_zero(world: ControlWorld) -> None:
    """The first slice sets the run's zero a second ahead, so that the first requests are not late; the next finds it set."""
    run_id = world.submit(WEB, WEB, gap_s=1.0)
    short = ReplaySettings(slice_s=1.5, lead_s=1.0)

    replay(world, run_id, settings=short)
    replay(world, run_id, settings=short)

    zero_s = world.runs.run(run_id).started_at_s
    assert zero_s == pytest.approx(ZERO_S + 1.0, abs=HAIR_S)
    assert world.publisher.at_s(0) - ZERO_S == pytest.approx(1.0, abs=0.02)
    assert world.publisher.at_s(1) - ZERO_S == pytest.approx(2.0, abs=0.02)


def test_more_than_one_step_can_release_goes_out_over_several(world: ControlWorld) -> None:
    """A limit keeps a step short; the rest follows a window later, and nothing is left behind."""
    run_id = world.create(*[WEB] * 5, gap_s=0.0)

    report = replay(world, run_id, settings=ReplaySettings(release_limit=2))

    assert report == {"released": 5, "again": False}
    assert [sum(len(batch.request_ids) for batch in batches) for _, batches in world.publisher.announced] == [2, 2, 1]


# ---- best-effort -------------------------------------------------------------------------------------------------------


def test_be_arrivals_are_gathered_over_their_own_window(world: ControlWorld) -> None:
    """BE that falls due within `be_window_s` of the first shares one announcement, made when that time is over."""
    run_id = world.create(BATCH, BATCH, BATCH, BATCH, WEB, gap_s=0.04)

    replay(world, run_id)

    (first_s, first), *_ = world.publisher.announced
    assert sorted(k for batch in first for k in batch.request_ids) == [0, 1, 2]
    assert first_s - ZERO_S == pytest.approx(SETTINGS.be_window_s, abs=0.005)
    assert sorted(world.publisher.request_ids) == [0, 1, 2, 3, 4]


def test_lc_does_not_wait_for_the_be_that_is_gathered(world: ControlWorld) -> None:
    """While BE waits for its window, LC goes out at its due time."""
    run_id = world.create(BATCH, WEB, BATCH, WEB, gap_s=0.02)

    replay(world, run_id)

    assert world.publisher.at_s(1) - ZERO_S == pytest.approx(0.02, abs=0.011)
    lc_first = [batch.service_class for batch in world.publisher.batches]
    assert lc_first[0] == ServiceClass.LC


def test_gathered_be_is_published_at_the_end_of_the_run(world: ControlWorld) -> None:
    """With all released nothing more can be gathered, so the rest goes out at once."""
    run_id = world.create(BATCH, BATCH, gap_s=0.01)

    report = replay(world, run_id)

    assert report == {"released": 2, "again": False}
    assert sorted(world.publisher.request_ids) == [0, 1]
    assert world.publisher.at_s(0) - ZERO_S < SETTINGS.be_window_s


def test_gathered_be_is_published_at_the_end_of_a_slice(world: ControlWorld) -> None:
    """The next slice may run in another process: what this one has gathered it announces itself."""
    run_id = world.create(BATCH, BATCH, gap_s=10.0)

    report = replay(world, run_id, settings=ReplaySettings(slice_s=0.05, be_window_s=0.1))

    assert report == {"released": 1, "again": True}
    assert world.publisher.request_ids == [0]


# ---- slices and leases -------------------------------------------------------------------------------------------------


def test_a_slice_that_is_over_hands_on(world: ControlWorld) -> None:
    """It asks for another and gives its lease back, so that any process may go on at once where it stopped."""
    run_id = world.create(WEB, WEB, WEB, gap_s=10.0)

    first = replay(world, run_id, owner="one")
    status = world.runs.run(run_id).status
    second = replay(world, run_id, owner="two")

    assert (first, second) == ({"released": 2, "again": True}, {"released": 1, "again": False})
    assert status is RunStatus.RUNNING
    assert world.publisher.request_ids == [0, 1, 2]


def test_a_slice_ends_on_time_with_nothing_due(world: ControlWorld) -> None:
    """It does not sleep on to the next due time: its message must be acknowledged well before the broker sends it again."""
    run_id = world.create(WEB, WEB, gap_s=60.0)

    replay(world, run_id, settings=ReplaySettings(slice_s=2.0, lease_s=5.0))

    assert world.clock.now_s() - ZERO_S == pytest.approx(2.0, abs=HAIR_S)


def test_the_last_release_leaves_the_run_draining(world: ControlWorld) -> None:
    """All released and some still live: the run is not over, and nobody has to replay it any more."""
    run_id = world.create(WEB)

    replay(world, run_id)

    assert world.runs.run(run_id).status is RunStatus.DRAINING
    assert world.free(f"replay:{run_id}")


def test_a_second_replayer_finds_the_lease_taken(world: ControlWorld) -> None:
    """It releases nothing, asks for no further slice and leaves the run as it is."""
    run_id = world.submit(WEB)
    world.leases.acquire(f"replay:{run_id}", owner="first", ttl_s=5.0)

    report = replay(world, run_id, owner="second")

    assert report == {"released": 0, "again": False}
    assert world.states(run_id) == ["accepted"]
    assert world.runs.run(run_id).started_at_s is None
    assert world.publisher.announced == []


def test_the_lease_is_held_as_long_as_the_slice_lasts(world: ControlWorld) -> None:
    """A slice is four leases long, with nothing due in it: it renews, and nobody else gets in."""
    run_id = world.create(WEB, WEB, gap_s=30.0)
    tries: list[object] = []
    for at_s in (3.0, 6.0, 12.0, 19.0):
        world.clock.at(ZERO_S + at_s, lambda: tries.append(world.leases.acquire(f"replay:{run_id}", owner="thief", ttl_s=5.0)))

    report = replay(world, run_id)

    assert tries == [None] * 4
    assert report == {"released": 1, "again": True}


def test_a_busy_slice_renews_no_more_often_than_an_idle_one(world: ControlWorld) -> None:
    """A lease is a write to the database: one every third of it, however many requests are released meanwhile."""
    run_id = world.create(*[WEB] * 150, gap_s=0.1)
    leases = Faulty(world.leases)

    replay(world, run_id, leases=leases)

    assert len(leases.calls_of("acquire")) <= 1 + 15.0 / (SETTINGS.lease_s / 3)


def test_a_replayer_that_lost_its_lease_stops(world: ControlWorld) -> None:
    """Held up past its lease, it finds another holder, releases nothing more, and leaves the other's lease alone."""
    run_id = world.create(*[WEB] * 10, gap_s=1.0)
    lease = f"replay:{run_id}"
    world.clock.at(ZERO_S + 2.5, lambda: world.given_to(lease, "another", after_s=6.0))

    report = replay(world, run_id)

    assert report == {"released": 3, "again": True}
    assert world.states(run_id) == ["released"] * 3 + ["accepted"] * 7
    assert not world.free(lease)


def test_be_gathered_before_the_lease_was_lost_is_published(world: ControlWorld) -> None:
    """The rows are released already: the next replayer will not see them, so this one announces them."""
    run_id = world.create(BATCH, WEB, gap_s=60.0)
    world.clock.at(ZERO_S + 0.05, lambda: world.given_to(f"replay:{run_id}", "another", after_s=6.0))

    replay(world, run_id, settings=ReplaySettings(be_window_s=0.05, lease_s=5.0))

    assert world.publisher.request_ids == [0]


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.DRAINING])
def test_a_run_with_nothing_to_release_is_left_alone(world: ControlWorld, status: RunStatus) -> None:
    """A late or repeated message for a run that is over, cancelled or all released ends there, and holds no lease."""
    run_id = world.submit(WEB)
    world.runs.set_status(run_id, status)

    report = replay(world, run_id)

    assert report == {"released": 0, "again": False}
    assert (world.runs.run(run_id).status, world.runs.run(run_id).started_at_s) == (status, None)
    assert world.states(run_id) == ["accepted"]
    assert world.free(f"replay:{run_id}")


def test_a_run_cancelled_under_way_ends_its_replay(world: ControlWorld) -> None:
    """What a cancelled run has is not due any more: the slice ends, and the run stays as it is."""
    run_id = world.create(*[WEB] * 5, gap_s=1.0)
    world.clock.at(ZERO_S + 1.5, lambda: world.runs.cancel(run_id))

    report = replay(world, run_id)

    assert report == {"released": 2, "again": False}
    assert world.runs.run(run_id).status is RunStatus.CANCELLING


def test_with_the_broker_away_nothing_is_lost(world: ControlWorld) -> None:
    """The rows are released on time without their messages; they wait for the reconciler, who publishes them again."""
    run_id = world.create(WEB, BATCH, WEB, gap_s=0.1)
    world.publisher.away = True

    report = replay(world, run_id)

    assert report == {"released": 3, "again": False}
    waiting = world.requests.unclaimed(older_than_s=OVER_S, limit=10)
    assert sorted(k for batch in waiting for k in batch.request_ids) == [0, 1, 2]


# ---- the window --------------------------------------------------------------------------------------------------------


def lengths_s(*per_half_second: int) -> list[float]:
    """Window lengths after half seconds in which that many were released."""
    window = ReleaseWindow(ReplaySettings(window_s=0.01, longest_window_s=0.05, longest_window_at_per_s=600.0))
    window.length_s(100.0, 0)
    return [window.length_s(100.0 + 0.5 * (k + 1), sum(per_half_second[: k + 1])) for k in range(len(per_half_second))]


def test_the_window_grows_with_the_rate_up_to_its_longest() -> None:
    """A fifth of the rate at which it is longest gives a fifth of the longest; beyond that rate it grows no more."""
    assert lengths_s(60, 150, 300, 3000) == pytest.approx([0.01, 0.025, 0.05, 0.05])


def test_the_window_is_short_while_little_comes_and_again_after_a_rush() -> None:
    """Nobody waits for a message that is nearly empty."""
    assert lengths_s(0, 5, 300, 5) == pytest.approx([0.01, 0.01, 0.05, 0.01])


def test_the_window_follows_the_rate_over_half_a_second() -> None:
    """One busy step of a tenth of that time moves it a tenth of the way: a burst of a moment does not make everybody wait."""
    window = ReleaseWindow(ReplaySettings(window_s=0.001, longest_window_s=0.05, longest_window_at_per_s=600.0))
    window.length_s(100.0, 0)

    assert window.length_s(100.05, 30) == pytest.approx(0.005)


def test_the_window_has_a_length_before_anything_is_known() -> None:
    """The first step, and a second look at the same instant, use the shortest window."""
    window = ReleaseWindow(ReplaySettings(window_s=0.01))

    assert [window.length_s(100.0, 0), window.length_s(100.0, 500)] == [0.01, 0.01]
