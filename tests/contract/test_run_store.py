"""`RunStore` and `LeaseStore`, on the fake and on PostgreSQL."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tango.domain.runs import RunStatus
from tango.errors import StoreError, UsageError
from tango.ports.leases import Fence
from tango.settings import StoreSettings
from tests.fakes.store_world import (
    BATCH,
    LIVE_S,
    OVER_S,
    WEB,
    ZERO_S,
    StoreWorld,
    attempt_of,
    copy_of,
    memory_world,
    new_requests,
    new_run,
    postgres_world,
    success,
)


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> StoreWorld:
    """One implementation after the other."""
    if request.param == "memory":
        return memory_world()
    return postgres_world(request.getfixturevalue("database_url"))


def test_a_run_is_stored_with_all_its_requests(world: StoreWorld) -> None:
    """Its facts come back, and every request stands in accepted."""
    run_id = world.runs.create_run(new_run("first"), new_requests([WEB, BATCH, WEB]))

    info = world.runs.run(run_id)

    assert (info.name, info.system, info.fleet, info.seed, info.speed, info.reassure) == ("first", "tango", "pair", 1, 2.0, True)
    assert (info.status, info.started_at_s, info.accepted) == (RunStatus.ACCEPTED, None, 3)
    assert world.runs.counts(run_id).by_state == {"accepted": 3}


def test_a_run_without_requests_is_terminal_at_once(world: StoreWorld) -> None:
    """No request, nothing to wait for."""
    run_id = world.runs.create_run(new_run(), new_requests([]))

    assert world.runs.counts(run_id).accepted == 0
    assert world.requests.release_due(run_id, until_s=1.0, limit=1).next_due_s is None
    assert world.all_terminal(run_id)


def test_a_run_with_one_bad_request_is_not_stored_at_all(world: StoreWorld) -> None:
    """All of it or none of it: the run's row goes with the requests."""
    good = new_requests([WEB] * 3)
    bad = dataclasses.replace(good, service=np.array([0, 77, 0], np.int32))
    kept = world.runs.create_run(new_run("kept"), good)

    with pytest.raises((StoreError, ValueError, IndexError)):
        world.runs.create_run(new_run("bad"), bad)

    assert [run.run_id for run in world.runs.runs()] == [kept]


def test_an_unknown_run_is_named_beside_the_latest_ones(world: StoreWorld) -> None:
    """The message helps to find the right number."""
    world.create(WEB, name="morning")

    with pytest.raises(UsageError, match=r"no run 4711; the latest runs: \d+ \(morning\)"):
        world.runs.run(4711)


def test_runs_are_listed_newest_first(world: StoreWorld) -> None:
    """And only as many as were asked for."""
    numbers = [world.create(WEB) for _ in range(3)]

    assert [run.run_id for run in world.runs.runs(limit=2)] == numbers[:0:-1]


def test_the_first_beginning_holds(world: StoreWorld) -> None:
    """A replayer that comes second takes the zero of the first."""
    run_id = world.create(WEB)

    assert world.runs.begin(run_id, at_s=ZERO_S + 50.0) == pytest.approx(ZERO_S)
    assert world.runs.run(run_id).started_at_s == pytest.approx(ZERO_S)


def test_a_run_moves_forward_only(world: StoreWorld) -> None:
    """A draining run does not run again; what is completed stays so."""
    run_id = world.create(WEB)
    seen = []
    for status in (RunStatus.RUNNING, RunStatus.DRAINING, RunStatus.RUNNING, RunStatus.COMPLETED, RunStatus.CANCELLED):
        world.runs.set_status(run_id, status)
        seen.append(world.runs.run(run_id).status)

    assert seen == [RunStatus.RUNNING, RunStatus.DRAINING, RunStatus.DRAINING, RunStatus.COMPLETED, RunStatus.COMPLETED]


def test_active_runs_are_those_that_are_not_over(world: StoreWorld) -> None:
    """Completed and cancelled ones are left out."""
    accepted, running, completed, cancelled = (world.create(WEB) for _ in range(4))
    world.runs.set_status(running, RunStatus.RUNNING)
    world.runs.set_status(completed, RunStatus.COMPLETED)
    world.runs.cancel(cancelled)

    assert [run.run_id for run in world.runs.active_runs()] == [accepted, running]


def test_cancelling_ends_everything_that_is_not_over(world: StoreWorld) -> None:
    """Terminal rows stay as they are; what a cluster had gets its attempt row; a second call counts 0."""
    run_id = world.create(BATCH, BATCH, WEB, BATCH, BATCH)
    world.release(run_id, until_s=3.5)
    world.admit(run_id, [0, 1, 3])
    world.place(world.requests.pending_be(limit=2), world.fence())
    world.requests.settle([success(run_id, 0, 1)])

    first, second = world.cancel(run_id), world.cancel(run_id)

    assert (first, second) == (4, 0)
    assert [(row.state, row.reason) for row in world.rows(run_id)] == [("succeeded", "")] + [("cancelled", "cancelled-by-user")] * 4
    assert world.runs.run(run_id).status is RunStatus.CANCELLED
    assert world.attempts(run_id) == [(0, 1, "succeeded", ""), (1, 1, "cancelled", "cancelled-by-user")]


def test_a_result_after_the_sweep_of_a_cancelled_run_does_not_count(world: StoreWorld) -> None:
    """The row is terminal; so are renewals of it in vain."""
    run_id = world.create(BATCH, BATCH)
    world.release(run_id)
    world.admit(run_id, [0, 1])
    world.place(world.requests.pending_be(limit=2), world.fence())
    world.cancel(run_id)

    assert world.requests.settle([success(run_id, 0, 1)]) == 0
    assert world.requests.renew(run_id, [0, 1], [1, 1], lease_s=LIVE_S) == 0


def test_nothing_of_a_cancelled_run_moves_on(world: StoreWorld) -> None:
    """From the moment of the cancellation, before anything is swept: not released, admitted, placed, requeued, announced or handed over."""
    run_id = world.create(BATCH, WEB, BATCH, BATCH, BATCH)
    world.release(run_id, until_s=3.5)
    world.admit(run_id, [0])
    world.place(world.requests.pending_be(limit=9), world.fence(), lease_s=OVER_S)
    world.admit(run_id, [2])
    batch = world.requests.pending_be(limit=9)
    before = world.rows(run_id)

    stopped, again = world.runs.cancel(run_id), world.runs.cancel(run_id)

    assert (stopped, again) == (True, False)
    assert world.runs.run(run_id).status is RunStatus.CANCELLING
    released = world.requests.release_due(run_id, until_s=100.0, limit=10)
    assert (released.batches, released.next_due_s) == ((), None)
    assert world.admit(run_id, [3]) == 0
    assert len(world.requests.pending_be(limit=9).pending) == 0
    assert world.place(batch, world.fence()) == []
    assert (world.requests.requeue_expired(limit=9), world.requests.unclaimed(older_than_s=OVER_S, limit=9)) == (0, [])
    assert not world.shares.open_share(run_id, "c2")
    assert world.rows(run_id) == before


def test_what_a_cancelled_run_has_in_flight_holds_its_resources_until_it_is_swept(world: StoreWorld) -> None:
    """Its pods go on meanwhile, and nobody else may be promised their resources; what it has pending waits for nothing."""
    run_id = world.create(WEB, BATCH, BATCH)
    world.release(run_id)
    world.admit(run_id, [1])
    world.place(world.requests.pending_be(limit=1), world.fence())
    world.admit(run_id, [2])

    world.runs.cancel(run_id)
    held = world.fleet.snapshot(at_s=0.0)
    world.cancel(run_id)
    swept = world.fleet.snapshot(at_s=0.0)

    assert (held.be_pods.sum(), held.pending_be.sum(), swept.be_pods.sum()) == (1, 0, 0)


@pytest.mark.parametrize("kind", ["memory", "postgres"])
def test_a_cancelled_run_is_swept_in_chunks_and_then_closed(kind: str, request: pytest.FixtureRequest) -> None:
    """Each step ends what comes next; the last one finds nothing, and the run is closed when nothing is live, not before."""
    by_two = StoreSettings(chunk_rows=2)
    world = (
        memory_world(store=by_two) if kind == "memory" else postgres_world(request.getfixturevalue("database_url"), store=by_two)
    )
    run_id = world.create(WEB, BATCH, WEB, WEB, WEB)
    world.release(run_id, until_s=2.5)
    world.admit(run_id, [1])
    world.place(world.requests.pending_be(limit=1), world.fence())
    world.runs.cancel(run_id)

    steps, beyond = [], -1
    while (swept := world.runs.sweep_cancelled(run_id, beyond=beyond)).last_request is not None:
        counts = world.runs.counts(run_id)
        steps.append((swept.cancelled, swept.last_request, counts.accepted, counts.terminal, world.runs.close_cancelled(run_id)))
        beyond = swept.last_request

    assert steps == [(2, 1, 5, 2, False), (2, 3, 5, 4, False), (1, 4, 5, 5, True)]
    assert world.runs.cancelling_runs() == []
    assert world.runs.run(run_id).status is RunStatus.CANCELLED
    assert world.attempts(run_id) == [(1, 1, "cancelled", "cancelled-by-user")]


def test_a_run_that_is_still_swept_is_not_deleted(world: StoreWorld) -> None:
    """The message says where to look."""
    run_id = world.create(WEB)
    world.runs.cancel(run_id)

    with pytest.raises(UsageError, match=f"tango run show {run_id}"):
        world.runs.delete(run_id)


def test_cancelling_an_unknown_run_is_refused(world: StoreWorld) -> None:
    """There is nothing to cancel."""
    with pytest.raises(UsageError, match="no run 9"):
        world.runs.cancel(9)


def test_counts_add_up_in_every_state(world: StoreWorld) -> None:
    """Accepted is the sum over all states, at any time."""
    run_id = world.create(WEB, BATCH, BATCH, WEB)
    world.release(run_id)
    world.admit(run_id, [2])
    world.ship(copy_of(run_id, 0))

    counts = world.runs.counts(run_id)

    assert counts.by_state == {"succeeded": 1, "released": 1, "pending": 1, "accepted": 1}
    assert (counts.accepted, counts.terminal) == (4, 1)


def test_a_run_is_terminal_when_nothing_is_left_to_release_or_to_end(world: StoreWorld) -> None:
    """Neither a row that is not due yet nor one that is under way counts as done."""
    run_id = world.create(BATCH, BATCH, WEB)
    seen = [world.all_terminal(run_id)]
    world.release(run_id, until_s=0.5)
    world.admit(run_id, [0])
    world.place(world.requests.pending_be(limit=1), world.fence())
    seen.append(world.all_terminal(run_id))
    world.requests.settle([success(run_id, 0, 1)])
    seen.append(world.all_terminal(run_id))
    world.release(run_id)
    seen.append(world.all_terminal(run_id))
    world.requests.admit_be(run_id, [1], most_memory_mib={"batch": -1.0})
    seen.append(world.all_terminal(run_id))
    world.ship(copy_of(run_id, 2))

    assert seen == [False] * 5
    assert world.all_terminal(run_id)


def test_a_live_run_is_not_deleted(world: StoreWorld) -> None:
    """The message names the command that helps."""
    run_id = world.create(WEB)

    with pytest.raises(UsageError, match=f"tango run cancel {run_id}"):
        world.runs.delete(run_id)

    assert world.runs.counts(run_id).accepted == 1


def test_a_deleted_run_leaves_nothing(world: StoreWorld) -> None:
    """Requests, attempts, shares and figures go; other runs stay."""
    run_id, other = world.create(WEB), world.create(WEB)
    world.ship(copy_of(run_id, 0), attempts=[attempt_of(run_id, 0)])
    world.cancel(run_id)

    world.runs.delete(run_id)

    assert [run.run_id for run in world.runs.runs()] == [other]
    assert (world.rows(run_id), world.attempts(run_id), world.shares.shares(run_id)) == ([], [], [])
    assert len(world.shares.shares(other)) == 1
    assert world.runs.counts(other).accepted == 1


def test_leases_that_nobody_has_held_for_long_are_forgotten_by_their_prefix(world: StoreWorld) -> None:
    """Those that are held, or were until just now, and all of other names stay."""
    world.leases.acquire("replay:1", owner="a", ttl_s=OVER_S)
    world.leases.acquire("replay:2", owner="a", ttl_s=LIVE_S)
    world.leases.acquire("sweep", owner="a", ttl_s=OVER_S)

    assert world.leases.forget("replay:", idle_s=60.0) == 0
    assert world.leases.forget("replay:", idle_s=0.0) == 1
    again = world.leases.acquire("replay:1", owner="b", ttl_s=LIVE_S)
    assert again is not None
    assert again.epoch == 1
    assert world.leases.acquire("replay:2", owner="b", ttl_s=LIVE_S) is None


def test_attempts_of_an_ended_run_are_deleted_in_chunks(world: StoreWorld) -> None:
    """From the first on, until nothing is left; the run stays, and can be deleted whole at any time."""
    run_id, other = world.create(*[WEB] * 6), world.create(WEB)
    world.ship(*(copy_of(run_id, k) for k in (0, 2, 4)), attempts=[attempt_of(run_id, k) for k in (0, 2, 4)])
    world.ship(copy_of(other, 0), attempts=[attempt_of(other, 0)])
    with pytest.raises(UsageError, match="cancel it first"):
        world.runs.delete_attempts(run_id)
    world.cancel(run_id)
    beyond, chunks = -1, []

    while (last := world.runs.delete_attempts(run_id, beyond=beyond)) is not None:
        beyond = last
        chunks.append(last)

    assert chunks[-1] == 4
    assert (world.attempts(run_id), len(world.attempts(other)), len(world.rows(run_id))) == ([], 1, 6)
    world.runs.delete(run_id)
    assert world.rows(run_id) == []


def test_of_a_deleted_run_it_is_remembered_why(world: StoreWorld) -> None:
    """Where somebody said so; an empty run that was never more than opened leaves nothing."""
    told, silent = world.create(WEB), world.create(WEB)
    for run_id, why in ((told, "too old"), (silent, "")):
        world.cancel(run_id)
        world.runs.delete(run_id, why=why)

    with pytest.raises(UsageError, match=rf"no run {told} any more: it was deleted on .* \(too old\)"):
        world.runs.run(told)
    with pytest.raises(UsageError, match=f"no run {silent};"):
        world.runs.run(silent)


def test_what_runs_take_up_is_told_oldest_first(world: StoreWorld) -> None:
    """With what decides whether they may go."""
    going, over = world.create(*[WEB] * 3), world.create(WEB, name="over")
    world.cancel(over)

    found = world.runs.stored()

    assert [(run.run_id, run.accepted, run.status) for run in found] == [
        (going, 3, RunStatus.ACCEPTED),
        (over, 1, RunStatus.CANCELLED),
    ]
    assert found[0].ended_at_s is None
    assert found[1].ended_at_s is not None
    assert all(run.size_bytes > 0 for run in found)


def test_a_lease_is_held_by_one_owner(world: StoreWorld) -> None:
    """Others get None until it runs out; the owner renews it under the same epoch."""
    first = world.leases.acquire("tick", owner="a", ttl_s=LIVE_S)
    other = world.leases.acquire("tick", owner="b", ttl_s=LIVE_S)
    again = world.leases.acquire("tick", owner="a", ttl_s=LIVE_S)

    assert first == again == Fence(name="tick", owner="a", epoch=1)
    assert other is None


def test_a_change_of_owner_raises_the_epoch(world: StoreWorld) -> None:
    """So that the older holder can be told from the newer one, when it comes back too."""
    epochs = []
    for owner in ("a", "b", "a"):
        fence = world.leases.acquire("tick", owner=owner, ttl_s=OVER_S)
        assert fence is not None
        epochs.append(fence.epoch)

    assert epochs == [1, 2, 3]


def test_a_released_lease_is_free_at_once(world: StoreWorld) -> None:
    """Leases of different names do not touch each other."""
    held = world.leases.acquire("tick", owner="a", ttl_s=LIVE_S)
    assert held is not None
    world.leases.acquire("tock", owner="a", ttl_s=LIVE_S)

    world.leases.release(held)

    assert world.leases.acquire("tick", owner="b", ttl_s=LIVE_S) == Fence(name="tick", owner="b", epoch=2)
    assert world.leases.acquire("tock", owner="b", ttl_s=LIVE_S) is None


def test_a_stale_holder_cannot_release_the_lease_of_another(world: StoreWorld) -> None:
    """Release is fenced by the epoch."""
    old = world.leases.acquire("tick", owner="a", ttl_s=OVER_S)
    assert old is not None
    world.leases.acquire("tick", owner="b", ttl_s=LIVE_S)

    world.leases.release(old)

    assert world.leases.acquire("tick", owner="c", ttl_s=LIVE_S) is None
