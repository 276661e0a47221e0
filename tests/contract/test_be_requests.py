"""`BeRequests`, on the fake and on PostgreSQL: every transition is claimed once and counts once, and LC requests are left alone."""

from __future__ import annotations

import dataclasses
import time

import pytest

from tango.domain.lifecycle import Event, Outcome
from tango.domain.requests import Reason, RequestState
from tango.domain.runs import Placement
from tango.domain.services import ServiceClass
from tango.errors import Fenced
from tango.settings import LeaseSettings, StoreSettings
from tango.store.database import Database
from tests.fakes.store_world import (
    BATCH,
    CHAT,
    HUGE,
    LIVE_S,
    MAX_ATTEMPTS,
    MOST_MEMORY_MIB,
    OVER_S,
    WEB,
    ZERO_S,
    StoreWorld,
    copy_of,
    memory_world,
    new_requests,
    new_run,
    postgres_world,
    requeue,
    success,
)


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> StoreWorld:
    """One implementation after the other."""
    if request.param == "memory":
        return memory_world()
    return postgres_world(request.getfixturevalue("database_url"))


def _states(world: StoreWorld, run_id: int) -> list[str]:
    return [row.state for row in world.rows(run_id)]


def _pending(world: StoreWorld, n: int) -> int:
    """A run of `n` BE requests that all wait for a placement."""
    run_id = world.create(*[BATCH] * n)
    world.release(run_id)
    world.admit(run_id, range(n))
    return run_id


def _place(world: StoreWorld, *, limit: int = 10, node: int = 0, lease_s: float = LIVE_S) -> list[Placement]:
    """What waits, to one node."""
    return world.place(world.requests.pending_be(limit=limit), world.fence(), node=node, lease_s=lease_s)


# ---- release -----------------------------------------------------------------------------------------------------------


def test_be_requests_are_released_when_they_are_due_in_batches_by_entry_and_service(world: StoreWorld) -> None:
    """LC between them stays accepted; the next due time is that of the next BE request."""
    run_id = world.create(BATCH, WEB, BATCH, HUGE, CHAT, BATCH, WEB, BATCH)

    released = world.requests.release_due(run_id, until_s=6.5, limit=100)

    found = {(b.cluster, b.service, b.service_class, b.request_ids) for b in released.batches}
    assert found == {("c1", "batch", 1, (0, 2)), ("c2", "batch", 1, (5,)), ("c2", "huge", 1, (3,))}
    assert {b.run_id for b in released.batches} == {run_id}
    assert released.next_due_s == 7.0
    assert _states(world, run_id) == [
        "released",
        "accepted",
        "released",
        "released",
        "accepted",
        "released",
        "accepted",
        "accepted",
    ]


def test_release_takes_the_earliest_up_to_its_limit(world: StoreWorld) -> None:
    """What is due beyond the limit stays accepted, and its due time is the next one; LC does not count."""
    run_id = world.create(BATCH, WEB, BATCH, WEB, BATCH, WEB, BATCH, BATCH)

    released = world.requests.release_due(run_id, until_s=100.0, limit=2)
    rest = world.requests.release_due(run_id, until_s=100.0, limit=2)

    assert sorted(k for b in released.batches for k in b.request_ids) == [0, 2]
    assert (released.next_due_s, rest.next_due_s) == (4.0, 7.0)
    assert sorted(k for b in rest.batches for k in b.request_ids) == [4, 6]


@pytest.mark.parametrize("kind", ["memory", "postgres"])
def test_chunks_of_a_release_are_one_release(kind: str, request: pytest.FixtureRequest) -> None:
    """However small they are, up to what is due."""
    by_two = StoreSettings(chunk_rows=2)
    of_memory = kind == "memory"
    world = memory_world(store=by_two) if of_memory else postgres_world(request.getfixturevalue("database_url"), store=by_two)
    run_id = world.create(*[WEB, BATCH] * 8)

    released = world.requests.release_due(run_id, until_s=11.5, limit=100)

    assert sorted(k for b in released.batches for k in b.request_ids) == [1, 3, 5, 7, 9, 11]
    assert released.next_due_s == 13.0


def test_a_request_is_released_once(world: StoreWorld) -> None:
    """A repeated call gives nothing again; with all BE released there is no next due time, whatever LC is to come."""
    run_id = world.create(BATCH, BATCH, WEB)
    world.release(run_id)

    again = world.requests.release_due(run_id, until_s=100.0, limit=10)

    assert (again.batches, again.next_due_s) == ((), None)


def test_nothing_is_released_before_its_time(world: StoreWorld) -> None:
    """An early call releases nothing and names the first due time of BE."""
    run_id, of_lc = world.create(WEB, BATCH), world.create(WEB, WEB)

    early = world.requests.release_due(run_id, until_s=0.5, limit=10)
    none = world.requests.release_due(of_lc, until_s=100.0, limit=10)

    assert (early.batches, early.next_due_s) == ((), 1.0)
    assert (none.batches, none.next_due_s) == ((), None)


def test_a_cancelled_run_releases_nothing(world: StoreWorld) -> None:
    """Cancelled rows are not due any more."""
    run_id = world.create(BATCH, BATCH)
    world.runs.cancel(run_id)

    released = world.requests.release_due(run_id, until_s=100.0, limit=10)

    assert (released.batches, released.next_due_s) == ((), None)


def test_a_release_does_not_read_the_lc_requests_between(database_url: str) -> None:
    """However many stand before the next BE request: the run's mark is moved to it once, and the next step begins there."""
    database = Database(database_url)
    world = postgres_world(database)
    lc = 10_000
    run_id = world.runs.create_run(new_run(), new_requests([BATCH, *[WEB] * lc, BATCH], gap_s=0.001))
    world.runs.begin(run_id, at_s=ZERO_S)

    first = world.requests.release_due(run_id, until_s=1.0, limit=1000)
    marked = database.rows("SELECT next_request FROM run WHERE run_id = %s", (run_id,))
    waits = world.requests.release_due(run_id, until_s=1.0, limit=1000)

    assert [b.request_ids for b in first.batches] == [(0,)]
    assert (waits.batches, waits.next_due_s) == ((), pytest.approx((lc + 1) * 0.001))
    assert marked == [(lc + 1,)]


def test_no_step_reads_through_the_requests_that_it_leaves_alone(database_url: str) -> None:
    """Of a hundred thousand that are to come and ten thousand that wait, a step that moves six reads some rows, whatever its limit."""
    database = Database(database_url)
    world = postgres_world(database)
    n, six = 10_000, range(10_000, 10_006)
    run_id = world.runs.create_run(new_run(), new_requests([BATCH] * (11 * n), gap_s=0.01))
    world.runs.begin(run_id, at_s=ZERO_S)
    requests, epochs = world.requests, [1] * len(six)
    requests.release_due(run_id, until_s=0.01 * n, limit=n)
    read: dict[str, int] = {}

    def note(step: str, moved: int) -> None:
        read[step] = _read_so_far(database, run_id) - sum(read.values())
        assert moved == len(six), step

    read["before"] = _read_so_far(database, run_id)
    released = requests.release_due(run_id, until_s=0.01 * (n + 5.5), limit=1000)
    note("release", sum(len(batch.request_ids) for batch in released.batches))
    note("admit", requests.admit_be(run_id, six, most_memory_mib=MOST_MEMORY_MIB))
    note("announce", sum(len(batch.request_ids) for batch in requests.unclaimed(older_than_s=-10.0, limit=len(six))))
    note("place", len(world.place(requests.pending_be(limit=100), world.fence())))
    note("run", requests.mark_running([(run_id, k, 1, time.time()) for k in six], lease_s=LIVE_S))
    note("renew", requests.renew(run_id, six, epochs, lease_s=LIVE_S))
    note("settle", requests.settle([success(run_id, k, 1) for k in six]))
    world.runs.all_terminal(run_id)
    note("all_terminal", len(six))
    read.pop("before")

    assert max(read.values()) < 100, read


def _read_so_far(database: Database, run_id: int) -> int:
    """Entries of indexes and rows in sequence that the connection of `database` has read of the run's requests."""
    database.rows("SELECT pg_stat_force_next_flush()")
    [(read,)] = database.rows(
        "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = %(table)s) + seq_tup_read "
        "FROM pg_stat_user_tables WHERE relname = %(table)s",
        {"table": f"request_{run_id}"},
    )
    return int(read)


def test_a_message_that_seems_lost_is_published_again_once_a_while(world: StoreWorld) -> None:
    """BE rows that have stood released for too long come back as batches; others, fresh ones and copies of LC do not."""
    run_id = world.create(WEB, BATCH, WEB, BATCH, BATCH)
    world.release(run_id)
    world.admit(run_id, [3])
    world.ship(copy_of(run_id, 0, RequestState.RELEASED, epoch=0), copy_of(run_id, 2, RequestState.RELEASED, epoch=0))

    fresh = world.requests.unclaimed(older_than_s=LIVE_S, limit=10)
    old = world.requests.unclaimed(older_than_s=OVER_S, limit=1)
    more = world.requests.unclaimed(older_than_s=OVER_S, limit=9)

    assert fresh == []
    assert [(b.cluster, b.service, b.service_class, b.request_ids) for b in old] == [("c2", "batch", int(ServiceClass.BE), (1,))]
    assert sorted(k for b in more for k in b.request_ids) == [1, 4]


# ---- ends --------------------------------------------------------------------------------------------------------------


def test_a_result_counts_once(world: StoreWorld) -> None:
    """The second settlement of an epoch counts 0, even in one call, and there is one attempt row."""
    run_id = _pending(world, 1)
    _place(world)

    first = world.requests.settle([success(run_id, 0, 1), success(run_id, 0, 1)])
    second = world.requests.settle([success(run_id, 0, 1, finished_s=9.0)])

    assert (first, second) == (1, 0)
    assert [(r.state, r.started_s, r.finished_s) for r in world.rows(run_id)] == [("succeeded", 1.5, 2.0)]
    assert world.attempts(run_id) == [(0, 1, "succeeded", "")]


def test_the_way_of_a_be_request_is_kept_with_the_decisions_that_placed_it(database_url: str) -> None:
    """Each attempt has its own wait, placement and decision; the request has those of its last, which may still run."""
    world = postgres_world(database_url)
    run_id = _pending(world, 1)
    _place(world)
    world.requests.settle([requeue(run_id, 0, 1, reason=Reason.EVICTED)])
    _place(world)
    rows = Database(database_url).rows

    [(of_first, waited_s, placed_s)] = rows("SELECT decision_id, released_s, dispatched_s FROM attempt")
    [(of_second, waits_s, again_s)] = rows("SELECT decision_id, released_s, dispatched_s FROM request")
    phases = rows("SELECT decision_id, released_s, dispatched_s, repeat_s, dispatch_s, start_s FROM request_phases")
    decisions = rows("SELECT decision_id FROM decision ORDER BY at")

    assert decisions == [(of_first,), (of_second,)]
    assert waited_s < placed_s < waits_s < again_s
    assert phases == [(of_second, waited_s, again_s, waits_s - waited_s, again_s - waits_s, None)]


def test_what_is_known_of_a_request_for_its_trace_has_all_its_attempts(world: StoreWorld) -> None:
    """In order, each with how it ended, whoever ended it; requests that there are not are missing."""
    run_id = _pending(world, 2)
    _place(world, limit=1)
    world.requests.settle([requeue(run_id, 0, 1, reason=Reason.EVICTED)])
    _place(world, limit=1)
    world.requests.settle([success(run_id, 0, 2)])

    found = world.requests.tracks(run_id, [0, 1, 77])

    assert sorted(found) == [0, 1]
    assert (found[0].state, found[0].due_s, found[0].traceparent) == ("succeeded", 0.0, "")
    assert [(a.epoch, a.node and a.node.cluster, a.reason) for a in found[0].attempts] == [(1, "c1", "evicted"), (2, "c1", "")]
    assert (found[1].state, found[1].attempts) == ("pending", [])


def test_a_result_of_an_older_epoch_is_refused(world: StoreWorld) -> None:
    """Who lost the lease has lost the result: the row waits for the newer epoch."""
    run_id = _pending(world, 1)
    _place(world, lease_s=OVER_S)
    world.requests.requeue_expired(limit=10)
    _place(world)

    late = world.requests.settle([success(run_id, 0, 1)])
    future = world.requests.settle([success(run_id, 0, 3)])
    current = world.requests.settle([success(run_id, 0, 2)])

    assert (late, future, current) == (0, 0, 1)
    assert world.attempts(run_id) == [(0, 1, "requeued", "lease-expired"), (0, 2, "succeeded", "")]


def test_a_placement_names_other_clusters_of_older_epochs(world: StoreWorld) -> None:
    """A lease may have run out while the pod runs on, so whoever makes the next pod has to look where the ones before were placed."""
    run_id = _pending(world, 1)
    first = _place(world, lease_s=OVER_S)
    world.requests.requeue_expired(limit=10)
    second = _place(world, node=2, lease_s=OVER_S)
    world.requests.requeue_expired(limit=10)
    third = _place(world, node=1)

    assert [(p.epoch, p.cluster, p.older) for p in (*first, *second, *third)] == [
        (1, "c1", ()),
        (2, "c2", (("c1", ""),)),
        (3, "c1", (("c2", ""),)),
    ]
    world.requests.settle([success(run_id, 0, 3)])


def test_a_placement_leaves_lost_clusters_out(world: StoreWorld) -> None:
    """What ran in a cluster that is taken for lost can be ended by nobody, and must not hold its request for ever."""
    _pending(world, 1)
    _place(world, lease_s=OVER_S)
    world.pass_over("c1", LeaseSettings().away_s + 1.0)
    world.requests.requeue_expired(limit=10)

    (second,) = _place(world, node=2)

    assert (second.cluster, second.older) == ("c2", ())


def test_pods_of_a_service_with_a_namespace_are_named_with_it_and_older_ones_with_theirs(world: StoreWorld) -> None:
    """A declaration may change between two epochs, and a pod of the first runs where that one said."""
    run_id = _pending(world, 1)
    (plain,) = _place(world, lease_s=OVER_S)
    world.requests.requeue_expired(limit=10)
    world.fleet.put_services([dataclasses.replace(BATCH, namespace="team-a")])
    (moved,) = _place(world)

    assert plain.pod == f"be-r{run_id}-0-e1"
    assert (moved.pod, moved.cluster, moved.older) == (f"team-a/be-r{run_id}-0-e2", "c1", (("c1", ""),))
    world.requests.settle([success(run_id, 0, 2)])


def test_a_result_for_a_waiting_request_is_refused(world: StoreWorld) -> None:
    """A row that nobody has been given cannot end, nor one that does not exist, nor one of LC, which its journal ends."""
    run_id = world.create(BATCH, BATCH, WEB)
    world.release(run_id)
    world.ship(copy_of(run_id, 2, RequestState.RUNNING))

    counted = world.requests.settle(
        [success(run_id, 0, 0), success(run_id, 99, 0), success(run_id + 1, 0, 0), success(run_id, 2, 1)]
    )

    assert counted == 0
    assert _states(world, run_id) == ["released", "released", "running"]


def test_results_of_several_runs_settle_together(world: StoreWorld) -> None:
    """One call, any runs, each row once."""
    first, second = _pending(world, 1), _pending(world, 1)
    _place(world)

    counted = world.requests.settle([success(second, 0, 1), success(first, 0, 1)])

    assert counted == 2
    assert _states(world, first) == _states(world, second) == ["succeeded"]


def test_a_failure_is_terminal_with_its_reason(world: StoreWorld) -> None:
    """An outcome in state failed is not tried again."""
    run_id = _pending(world, 1)
    _place(world)

    world.requests.settle([Outcome(run_id=run_id, request_id=0, epoch=1, event=Event.FAIL, reason=Reason.OUT_OF_MEMORY)])

    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("failed", "out-of-memory")]
    assert world.attempts(run_id) == [(0, 1, "failed", "out-of-memory")]


def test_used_up_attempts_end_a_request_and_say_why(world: StoreWorld) -> None:
    """The last attempt that would requeue fails instead: attempts-exhausted, and what befell the last one."""
    run_id = _pending(world, 1)

    for epoch in range(1, MAX_ATTEMPTS + 1):
        _place(world)
        world.requests.settle([requeue(run_id, 0, epoch, reason=Reason.EVICTED)])

    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("failed", "attempts-exhausted: evicted")]
    assert len(world.requests.pending_be(limit=10).pending) == 0
    outcomes = [outcome for _, _, outcome, _ in world.attempts(run_id)]
    assert outcomes == ["requeued"] * (MAX_ATTEMPTS - 1) + ["failed"]


# ---- leases of requests ------------------------------------------------------------------------------------------------


def test_an_expired_lease_puts_the_request_back(world: StoreWorld) -> None:
    """What still has its lease stays, and so do copies of LC, whose journal has the lease."""
    run_id = world.create(BATCH, BATCH, WEB, BATCH)
    world.release(run_id)
    world.admit(run_id, [0])
    _place(world, lease_s=OVER_S)
    world.admit(run_id, [1])
    _place(world)
    world.ship(copy_of(run_id, 2, RequestState.RUNNING))

    requeued = world.requests.requeue_expired(limit=10)
    again = world.requests.requeue_expired(limit=10)

    assert (requeued, again) == (1, 0)
    assert _states(world, run_id) == ["pending", "placed", "running", "released"]
    assert world.attempts(run_id) == [(0, 1, "requeued", "lease-expired")]


def test_an_expired_last_attempt_is_a_dead_letter(world: StoreWorld) -> None:
    """With its attempts used up an expired row fails."""
    run_id = _pending(world, 1)
    swept = []
    for _ in range(MAX_ATTEMPTS):
        _place(world, lease_s=OVER_S)
        swept.append(world.requests.requeue_expired(limit=10))

    assert swept == [1] * MAX_ATTEMPTS
    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("failed", "attempts-exhausted: lease-expired")]


def test_requeueing_goes_up_to_its_limit(world: StoreWorld) -> None:
    """A sweep takes at most `limit` rows; the next one takes the rest."""
    _pending(world, 3)
    _place(world, lease_s=OVER_S)

    assert [world.requests.requeue_expired(limit=2) for _ in range(3)] == [2, 1, 0]


def test_what_runs_in_a_cluster_that_is_away_is_not_given_up(world: StoreWorld) -> None:
    """Nobody can renew it: its pods run on, and placed anew they would run twice. When the cluster is back, its agent has the time of a
    lease to renew; when it stays away for too long, it is lost."""
    lease = LeaseSettings()
    run_id = _pending(world, 1)
    _place(world, lease_s=OVER_S)
    world.pass_over("c1", lease.silent_s + 1.0)
    away = world.requests.requeue_expired(limit=10)
    world.fleet.observe("c1", [], [], sample=True)
    back = world.requests.requeue_expired(limit=10)
    world.fleet.observe("c1", [], [], sample=True)
    world.pass_over("c1", lease.placement_s / 2)
    world.fleet.observe("c1", [], [], sample=True)
    world.pass_over("c1", lease.placement_s / 2)
    unrenewed = world.requests.requeue_expired(limit=10)

    assert (away, back, unrenewed) == (0, 0, 0)
    assert world.requests.settle([success(run_id, 0, 1)]) == 1


def test_what_its_agent_does_not_renew_once_it_is_back_is_given_up(world: StoreWorld) -> None:
    """The pod was lost meanwhile, or never made."""
    lease = LeaseSettings()
    _pending(world, 1)
    _place(world, lease_s=OVER_S)
    world.pass_over("c1", lease.silent_s + 1.0)
    world.fleet.observe("c1", [], [], sample=True)
    world.pass_over("c1", lease.placement_s + 1.0)
    world.fleet.observe("c1", [], [], sample=True)  # away once more, and back
    again = world.requests.requeue_expired(limit=10)
    for _ in range(3):
        world.pass_over("c1", lease.silent_s * 0.9)
        world.fleet.observe("c1", [], [], sample=True)

    assert (again, world.requests.requeue_expired(limit=10)) == (0, 1)


def test_what_runs_in_a_cluster_that_is_lost_is_given_up(world: StoreWorld) -> None:
    """After `away_s` it is placed elsewhere."""
    _pending(world, 1)
    _place(world, lease_s=OVER_S)
    world.pass_over("c1", LeaseSettings().away_s + 1.0)

    assert world.requests.requeue_expired(limit=10) == 1


def test_a_renewed_lease_does_not_expire(world: StoreWorld) -> None:
    """Renewal holds for live rows under their epoch and tells how many still stood."""
    run_id = _pending(world, 3)
    _place(world, lease_s=OVER_S)
    world.requests.settle([success(run_id, 2, 1)])

    stood = world.requests.renew(run_id, [0, 1, 2], [1, 7, 1], lease_s=LIVE_S)
    world.requests.requeue_expired(limit=10)

    assert stood == 1
    assert _states(world, run_id) == ["placed", "pending", "succeeded"]


# ---- admission and placement -------------------------------------------------------------------------------------------


def test_what_no_node_can_hold_is_refused_at_admission(world: StoreWorld) -> None:
    """BE requests that fit wait for a node; others fail with does-not-fit; LC rows are left alone."""
    run_id = world.create(BATCH, HUGE, WEB)
    world.release(run_id)
    world.ship(copy_of(run_id, 2, RequestState.RELEASED, epoch=0))

    admitted = world.requests.admit_be(run_id, [0, 1, 2], most_memory_mib=MOST_MEMORY_MIB)
    again = world.requests.admit_be(run_id, [0, 1, 2], most_memory_mib=MOST_MEMORY_MIB)

    assert (admitted, again) == (1, 0)
    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("pending", ""), ("failed", "does-not-fit"), ("released", "")]


def test_memory_counts_at_admission_too(world: StoreWorld) -> None:
    """A request that asks for more than its service's pods can have anywhere is refused."""
    run_id = world.create(BATCH)
    world.release(run_id)

    admitted = world.requests.admit_be(run_id, [0], most_memory_mib={"batch": 63.0})

    assert admitted == 0
    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("failed", "does-not-fit")]


def test_a_service_that_admission_does_not_know_waits_until_it_does(world: StoreWorld) -> None:
    """Declared a moment ago: its requests stay released, and are admitted when they are announced again."""
    run_id = world.create(BATCH)
    world.release(run_id)

    assert world.requests.admit_be(run_id, [0], most_memory_mib={"huge": 8192.0}) == 0
    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("released", "")]
    assert world.requests.admit_be(run_id, [0], most_memory_mib={"batch": 8192.0}) == 1


def test_a_run_with_many_pending_requests_leaves_others_their_share(world: StoreWorld) -> None:
    """As many of each run are considered, the oldest of each, however much older all of the first are."""
    many = _pending(world, 20)
    few = world.create(BATCH, BATCH, BATCH, gap_s=100.0)
    world.requests.release_due(few, until_s=1000.0, limit=100)
    world.admit(few, range(3))

    batch = world.requests.pending_be(limit=8).pending

    of = {run_id: batch.request_id[batch.run_id == run_id].tolist() for run_id in (many, few)}
    assert of == {many: [0, 1, 2, 3, 4], few: [0, 1, 2]}


def test_pending_requests_behind_others_can_be_asked_for(world: StoreWorld) -> None:
    """Of each run those after the place that was reached; of a run without one, its oldest."""
    first, second = _pending(world, 6), _pending(world, 2)

    head = world.requests.pending_be(limit=4)
    behind = world.requests.pending_be(limit=10, behind={(first, "default"): head.reached[first, "default"]})
    end = world.requests.pending_be(limit=10, behind=behind.reached)

    assert head.reached == {(first, "default"): (1.0, 1), (second, "default"): (1.0, 1)}
    assert [(r, k) for r, k in zip(behind.pending.run_id, behind.pending.request_id, strict=True) if r == first] == [
        (first, k) for k in (2, 3, 4, 5)
    ]
    assert behind.reached == {(first, "default"): (5.0, 5), (second, "default"): (1.0, 1)}
    assert len(end.pending) == 0


def test_pending_requests_come_oldest_first_over_all_active_runs(world: StoreWorld) -> None:
    """In turn, then by due time, then run; runs that are over are left out."""
    first, second, over = (world.create(BATCH, BATCH) for _ in range(3))
    for run_id in (second, first, over):
        world.release(run_id)
        world.admit(run_id, [0, 1])
    world.runs.cancel(over)

    batch = world.requests.pending_be(limit=3)

    assert list(zip(batch.pending.run_id.tolist(), batch.pending.request_id.tolist(), strict=True)) == [
        (first, 0),
        (second, 0),
        (first, 1),
    ]
    assert [batch.services[k] for k in batch.pending.service] == ["batch"] * 3
    assert [batch.clusters[k] for k in batch.pending.entry_cluster] == ["c1", "c1", "c2"]
    assert batch.pending.cpu_request_millicores.tolist() == [500.0] * 3


def test_a_placement_is_won_once_with_its_pod_named(world: StoreWorld) -> None:
    """pending → placed under a new epoch; the pod's name carries run, request and epoch; the decision row is written."""
    run_id = world.create(BATCH)
    world.release(run_id)
    world.admit(run_id, [0])
    batch, fence = world.requests.pending_be(limit=10), world.fence()
    decided = world.decisions()

    first = world.place(batch, fence, node=2)
    second = world.place(batch, fence, node=0)

    (placed,) = first
    assert (placed.pod, placed.epoch, placed.cluster, placed.node) == (f"be-r{run_id}-0-e1", 1, "c2", "c2-n1")
    assert (placed.service, placed.cpu_request_millicores, placed.cpu_limit_millicores, placed.memory_mib) == (
        "batch",
        500,
        2000,
        64,
    )
    assert second == []
    assert world.decisions() == decided + 2


def test_a_scheduler_that_lost_its_lease_places_nothing(world: StoreWorld) -> None:
    """The fence is checked in the transaction that places: neither rows nor the decision are written."""
    run_id = world.create(BATCH)
    world.release(run_id)
    world.admit(run_id, [0])
    batch = world.requests.pending_be(limit=10)
    old = world.fence("old", ttl_s=OVER_S)
    new = world.fence("new")

    with pytest.raises(Fenced, match="moved on from old"):
        world.place(batch, old)

    assert [(r.state, r.epoch) for r in world.rows(run_id)] == [("pending", 0)]
    assert world.decisions() == 0
    assert len(world.place(batch, new)) == 1


def test_a_lease_that_ran_out_fences_even_when_nobody_took_it(world: StoreWorld) -> None:
    """Who is late must take the lease again before it places."""
    run_id = world.create(BATCH)
    world.release(run_id)
    world.admit(run_id, [0])
    late = world.fence(ttl_s=OVER_S)

    with pytest.raises(Fenced):
        world.place(world.requests.pending_be(limit=10), late)


def test_the_agent_marks_what_runs_and_renews_it(world: StoreWorld) -> None:
    """placed → running with its start on the run's clock; the first start stays; other epochs count nothing."""
    run_id = world.create(BATCH)
    world.release(run_id)
    world.admit(run_id, [0])
    world.place(world.requests.pending_be(limit=10), world.fence(), lease_s=OVER_S)

    marked = world.requests.mark_running([(run_id, 0, 1, ZERO_S + 3.0)], lease_s=LIVE_S)
    again = world.requests.mark_running([(run_id, 0, 1, ZERO_S + 4.0)], lease_s=LIVE_S)
    stale = world.requests.mark_running([(run_id, 0, 2, ZERO_S + 4.0)], lease_s=LIVE_S)
    world.requests.requeue_expired(limit=10)

    assert (marked, again, stale) == (1, 1, 0)
    assert [(r.state, r.started_s) for r in world.rows(run_id)] == [("running", 3.0)]


def test_an_evicted_request_waits_again_and_forgets_its_start(world: StoreWorld) -> None:
    """BE → pending with its reason; the next placement begins anew."""
    run_id = world.create(BATCH)
    world.release(run_id)
    world.admit(run_id, [0])
    fence = world.fence()
    world.place(world.requests.pending_be(limit=10), fence)
    world.requests.mark_running([(run_id, 0, 1, ZERO_S + 3.0)], lease_s=LIVE_S)

    world.requests.settle([requeue(run_id, 0, 1, reason=Reason.EVICTED)])
    waiting = world.rows(run_id)
    world.place(world.requests.pending_be(limit=10), fence)

    assert [(r.state, r.reason) for r in waiting] == [("pending", "evicted")]
    assert [(r.state, r.epoch, r.started_s) for r in world.rows(run_id)] == [("placed", 2, None)]
    assert world.attempts(run_id) == [(0, 1, "requeued", "evicted")]
