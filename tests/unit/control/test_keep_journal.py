"""The keeper of a journal: LC is released at its due time by one keeper at a time, and what is lost is found again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tango.control.keep_journal import LEASE, LEASE_S, LONGEST_LOOK_S, SWEEP_S, Keeper
from tango.domain.runs import RunStatus
from tango.settings import LeaseSettings, ReplaySettings
from tests.fakes.store_world import CHAT, FLEET, OVER_S, WEB, ZERO_S
from tests.fakes.worker_world import WorkerWorld, worker_world

REPLAY = ReplaySettings(window_s=0.01, longest_window_s=0.05, longest_window_at_per_s=600.0)
LEASES = LeaseSettings(unclaimed_after_s=2.0)


class Time:
    """The clock of a world, as a use case takes one."""

    def __init__(self, world: WorkerWorld) -> None:
        self._world = world

    def now_s(self) -> float:
        """Unix time."""
        return self._world.clock()

    def sleep(self, seconds: float) -> None:
        """Nobody sleeps here."""
        raise AssertionError("a keeper does not sleep: it gives the time of its next step")


@pytest.fixture
def world() -> WorkerWorld:
    """In memory; it is ZERO_S, when runs begin."""
    return worker_world()


def keeper_of(world: WorkerWorld, owner: str = "keeper", *, replay: ReplaySettings = REPLAY) -> Keeper:
    """A keeper of the world's journal."""
    return Keeper(journal=world.journal, publisher=world.publisher, clock=Time(world), owner=owner, replay=replay, lease=LEASES)


def run_to(world: WorkerWorld, keeper: Keeper, seconds: float) -> None:
    """Step until so long after ZERO_S, as the thread does."""
    while world.clock.now_s < ZERO_S + seconds:
        world.clock.now_s += keeper.step()


# ---- release -----------------------------------------------------------------------------------------------------------


def test_requests_are_released_in_order_of_due_time_and_never_early(world: WorkerWorld) -> None:
    """Each message goes out at its requests' due time, at most one window later."""
    run_id = world.create(WEB, WEB, WEB, gap_s=2.5)

    run_to(world, keeper_of(world), 6.0)

    assert list(dict.fromkeys(world.publisher.request_ids)) == [0, 1, 2]
    late_s = [world.publisher.at_s(k) - (ZERO_S + 2.5 * k) for k in range(3)]
    assert min(late_s) >= 0.0
    assert max(late_s) <= REPLAY.window_s + 0.001
    assert {(batch.run_id, batch.cluster) for batch in world.publisher.batches} == {(run_id, "c1")}


def test_requests_due_within_one_window_share_a_message(world: WorkerWorld) -> None:
    """Not one message each."""
    run_id = world.create(*[WEB] * 20, gap_s=0.001)
    keeper = keeper_of(world)

    while world.clock.now_s < ZERO_S + 0.1:
        world.clock.now_s += keeper.step()
        world.start(run_id, [k for k, state in enumerate(world.states(run_id)) if state == "released"])

    assert [len(batch.request_ids) for batch in world.publisher.batches] == [1, 10, 9]


def test_what_is_due_while_a_message_waits_for_a_worker_goes_into_the_next_one(world: WorkerWorld) -> None:
    """For the longest window at the most, which is longer than usual when much has just been released."""
    world.create(*[WEB] * 100, gap_s=0.001)

    run_to(world, keeper_of(world), 0.11)

    assert [len(batch.request_ids) for batch in world.publisher.batches] == [1, 60]


def test_what_is_due_before_the_last_message_is_taken_goes_out_a_window_later(world: WorkerWorld) -> None:
    """Workers are idle, and take a message some milliseconds after it was sent: nobody waits for the next long look."""
    run_id = world.create(WEB, WEB, WEB, gap_s=0.004)
    keeper = keeper_of(world)

    world.clock.now_s += keeper.step()  # finds the run
    while world.clock.now_s < ZERO_S + 0.04:
        wait_s = keeper.step()
        taken = world.publisher.request_ids[:1]  # the first, some milliseconds on
        world.clock.now_s += wait_s / 2
        world.start(run_id, [k for k in taken if world.states(run_id)[k] == "released"])
        world.clock.now_s += wait_s / 2

    late_s = [world.publisher.at_s(k) - (ZERO_S + 0.004 * k) for k in range(3)]
    assert max(late_s) <= 2 * REPLAY.window_s + 0.001


def test_release_does_not_run_ahead_of_dispatch(world: WorkerWorld) -> None:
    """With as many waiting as may wait, the rest stays in the journal, earliest first, until some are dispatched."""
    run_id = world.create(*[WEB] * 9, gap_s=0.0)
    replay = ReplaySettings(window_s=0.01, most_waiting=4)
    keeper = keeper_of(world, replay=replay)

    keeper.step()
    keeper.step()
    first = world.states(run_id)
    world.start(run_id, [0, 1, 2])
    world.clock.now_s += LONGEST_LOOK_S
    keeper.step()

    assert first == ["released"] * 4 + ["accepted"] * 5
    assert world.states(run_id) == ["running"] * 3 + ["released"] * 4 + ["accepted"] * 2


def test_under_overload_every_worker_has_a_message_and_the_rest_waits_in_the_journal(world: WorkerWorld) -> None:
    """A message carries so many at the most, and no window is waited for while more is due."""
    world.create(*[WEB] * 50, gap_s=0.0)
    replay = ReplaySettings(window_s=0.01, longest_window_s=0.05, most_waiting=12, lc_release_limit=5)
    keeper = keeper_of(world, replay=replay)

    waits_s = [keeper.step() for _ in range(4)]

    assert [len(batch.request_ids) for batch in world.publisher.batches] == [5, 5, 2]
    assert waits_s == [replay.window_s] * 4


def test_what_has_waited_half_its_time_is_shed_while_more_is_due_than_workers_take() -> None:
    """So that those behind it come in time; only where the service says that late answers are of no use."""
    sheds = replace(WEB, shed_after_targets=1.0)
    world = worker_world(replace(FLEET, services=(sheds, CHAT)))
    run_id = world.create(*[WEB, CHAT] * 10, gap_s=0.05)  # with targets of 0.5 s
    keeper = keeper_of(world, replay=ReplaySettings(most_waiting=1000, lc_release_limit=2))

    world.clock.now_s += 0.975
    keeper.step()
    first = world.states(run_id)
    world.clock.now_s += REPLAY.longest_wait_s
    keeper.step()
    then = world.states(run_id)

    assert first == ["released"] * 2 + ["accepted"] * 18  # it knows of no backlog yet
    web, chat = then[0::2], then[1::2]
    assert web == ["released"] + ["shed"] * 7 + ["accepted"] * 2
    assert chat == ["released"] * 3 + ["accepted"] * 7


def test_of_several_runs_what_has_waited_too_long_is_shed_while_one_of_them_is_behind() -> None:
    """Whichever run is looked at last: workers take from all of them."""
    world = worker_world(replace(FLEET, services=(replace(WEB, shed_after_targets=1.0), CHAT)))
    first, second = world.create(*[WEB] * 8, gap_s=0.0), world.create(WEB, gap_s=0.0)
    keeper = keeper_of(world, replay=ReplaySettings(most_waiting=1000, lc_release_limit=2))

    keeper.step()
    world.clock.now_s += 0.3
    keeper.step()

    assert world.states(first) == ["released"] * 2 + ["shed"] * 6
    assert world.states(second) == ["released"]


def test_what_waited_because_everything_stood_still_is_not_shed() -> None:
    """Nobody is in its way: it is released with all that is due."""
    world = worker_world(replace(FLEET, services=(replace(WEB, shed_after_targets=1.0), CHAT)))
    run_id = world.create(*[WEB] * 3, gap_s=0.0)

    world.clock.now_s += 0.4
    keeper_of(world).step()

    assert world.states(run_id) == ["released"] * 3


@pytest.mark.parametrize("status", [RunStatus.CANCELLING, RunStatus.COMPLETED])
def test_nothing_is_released_of_a_run_that_is_not_open(world: WorkerWorld, status: RunStatus) -> None:
    """As it was last followed."""
    run_id = world.create(WEB)
    world.follow(run_id, status)

    run_to(world, keeper_of(world), 0.5)

    assert world.publisher.announced == []


def test_a_run_is_looked_for_often_while_nothing_is_due(world: WorkerWorld) -> None:
    """One that has just begun is not late because of the keeper."""
    world.create(WEB, gap_s=1.0)
    keeper = keeper_of(world)
    keeper.step()

    assert keeper.step() <= LONGEST_LOOK_S


# ---- one at a time -----------------------------------------------------------------------------------------------------


def test_one_keeper_releases_at_a_time(world: WorkerWorld) -> None:
    """Every worker process has one; the others wait, and one of them goes on when the first is silent for two seconds."""
    world.create(WEB, WEB, gap_s=5.0)
    first, second = keeper_of(world, "first"), keeper_of(world, "second")

    first.step()
    waits_s = second.step()
    before = list(world.publisher.request_ids)
    world.clock.now_s += 6.0
    second.step()

    assert before == [0]
    assert waits_s <= LEASE_S
    assert world.publisher.request_ids[:2] == [0, 1]
    assert not world.journal.hold(LEASE, owner="first", ttl_s=LEASE_S)


# ---- sweeps ------------------------------------------------------------------------------------------------------------


def test_what_a_dead_process_left_is_released_and_announced(world: WorkerWorld) -> None:
    """Its heartbeat has ended: the attempt is on record, and the message goes out at once."""
    run_id = world.released(WEB)
    world.start(run_id, [0], owner="dead", lease_s=OVER_S)

    keeper_of(world).step()

    assert world.states(run_id) == ["released"]
    assert world.attempts(run_id) == [(0, 1, "requeued", "lease-expired")]
    assert world.publisher.request_ids == [0]


def test_a_message_that_seems_lost_is_sent_again_once_a_while(world: WorkerWorld) -> None:
    """Rows that stand released for longer than `unclaimed_after_s`, and not those just sent."""
    world.released(WEB)
    keeper = keeper_of(world)

    keeper.step()
    fresh = list(world.publisher.request_ids)
    world.clock.now_s += LEASES.unclaimed_after_s + SWEEP_S
    keeper.step()
    world.clock.now_s += SWEEP_S
    keeper.step()

    assert fresh == []
    assert world.publisher.request_ids == [0]


def test_a_run_that_was_stopped_is_cancelled(world: WorkerWorld) -> None:
    """What waits and what is in flight, with an attempt for the second."""
    run_id = world.released(WEB, WEB)
    world.start(run_id, [0])
    world.follow(run_id, RunStatus.CANCELLING)

    keeper_of(world).step()

    assert world.states(run_id) == ["cancelled", "cancelled"]
    assert world.attempts(run_id) == [(0, 1, "cancelled", "cancelled-by-user")]


def test_with_the_broker_away_nothing_is_lost(world: WorkerWorld) -> None:
    """What was released without its message is announced by a later sweep."""
    world.create(WEB)
    world.publisher.away = True
    keeper = keeper_of(world)

    keeper.step()
    world.publisher.away = False
    world.clock.now_s += LEASES.unclaimed_after_s + SWEEP_S
    keeper.step()

    assert world.publisher.request_ids == [0]
