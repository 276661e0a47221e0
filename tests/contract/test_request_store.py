"""`RequestStore`, on the fake and on PostgreSQL: every transition is claimed once and counts once."""

from __future__ import annotations

import numpy as np
import pytest

from tango.domain.identity import NodeKey
from tango.domain.lifecycle import Event, Outcome
from tango.domain.requests import Reason
from tango.domain.services import ServiceClass
from tango.ports.requests import StartHere
from tests.fakes.store_world import (
    BATCH,
    CHAT,
    LIVE_S,
    MAX_ATTEMPTS,
    OVER_S,
    TWINS,
    WEB,
    StoreWorld,
    memory_world,
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


@pytest.fixture(params=["memory", "postgres"])
def twins(request: pytest.FixtureRequest) -> StoreWorld:
    """Two clusters whose nodes have the same names, on one implementation after the other."""
    if request.param == "memory":
        return memory_world(TWINS)
    return postgres_world(request.getfixturevalue("database_url"), TWINS)


def _states(world: StoreWorld, run_id: int) -> list[str]:
    return [row.state for row in world.rows(run_id)]


# ---- release -----------------------------------------------------------------------------------------------------------


def test_requests_are_released_when_they_are_due_in_batches_by_entry_and_service(world: StoreWorld) -> None:
    """A batch holds requests of one class and service that entered one cluster; the next due time is told."""
    run_id = world.create(WEB, WEB, WEB, BATCH, WEB, CHAT)

    released = world.requests.release_due(run_id, until_s=4.5, limit=100)

    found = {(b.cluster, b.service, b.service_class, b.request_ids) for b in released.batches}
    assert found == {("c1", "web", 0, (0, 2, 4)), ("c2", "web", 0, (1,)), ("c2", "batch", 1, (3,))}
    assert {b.run_id for b in released.batches} == {run_id}
    assert released.next_due_s == 5.0
    assert _states(world, run_id) == ["released"] * 5 + ["accepted"]


def test_release_takes_the_earliest_up_to_its_limit(world: StoreWorld) -> None:
    """What is due beyond the limit stays accepted, and its due time is the next one."""
    run_id = world.create(*[WEB] * 5)

    released = world.requests.release_due(run_id, until_s=100.0, limit=2)
    rest = world.requests.release_due(run_id, until_s=100.0, limit=2)

    assert sorted(k for b in released.batches for k in b.request_ids) == [0, 1]
    assert released.next_due_s == 2.0
    assert sorted(k for b in rest.batches for k in b.request_ids) == [2, 3]
    assert _states(world, run_id) == ["released"] * 4 + ["accepted"]


def test_a_request_is_released_once(world: StoreWorld) -> None:
    """A repeated call gives nothing again; with all released there is no next due time."""
    run_id = world.create(WEB, BATCH)
    world.release(run_id)

    again = world.requests.release_due(run_id, until_s=100.0, limit=10)

    assert again.batches == ()
    assert again.next_due_s is None


def test_nothing_is_released_before_its_time(world: StoreWorld) -> None:
    """An early call releases nothing and names the first due time."""
    run_id = world.create(WEB, gap_s=1.0)

    early = world.requests.release_due(run_id, until_s=-0.5, limit=10)

    assert (early.batches, early.next_due_s) == ((), 0.0)


def test_a_cancelled_run_releases_nothing(world: StoreWorld) -> None:
    """Cancelled rows are not due any more."""
    run_id = world.create(WEB, WEB)
    world.runs.cancel(run_id)

    released = world.requests.release_due(run_id, until_s=100.0, limit=10)

    assert (released.batches, released.next_due_s) == ((), None)


def test_a_message_that_seems_lost_is_published_again_once_a_while(world: StoreWorld) -> None:
    """Rows that have stood released for too long come back as batches; others and fresh ones do not."""
    run_id = world.create(WEB, WEB, BATCH, CHAT)
    world.release(run_id)
    world.dispatch(run_id, [0])

    fresh = world.requests.unclaimed(older_than_s=LIVE_S, limit=10)
    old = world.requests.unclaimed(older_than_s=OVER_S, limit=2)

    assert fresh == []
    assert sorted(k for b in old for k in b.request_ids) == [1, 2]
    assert {(b.service, b.service_class) for b in old} == {("web", int(ServiceClass.LC)), ("batch", int(ServiceClass.BE))}


# ---- latency-critical --------------------------------------------------------------------------------------------------


def test_waiting_requests_come_in_order_of_due_time_with_their_columns(world: StoreWorld) -> None:
    """Only released LC requests among those named; services and clusters are rows of the snapshot."""
    run_id = world.create(WEB, CHAT, BATCH, WEB)
    world.release(run_id, until_s=2.5)
    snapshot = world.fleet.snapshot(at_s=0.0)

    waiting = world.requests.waiting_lc(run_id, [3, 2, 1, 0, 77], snapshot)

    assert waiting.request_id.tolist() == [0, 1]
    assert [snapshot.services[k].name for k in waiting.service] == ["web", "chat"]
    assert [snapshot.clusters[k] for k in waiting.entry_cluster] == ["c1", "c2"]
    assert waiting.deadline_s.tolist() == [0.5, 1.5]
    assert waiting.cpu_work_s.tolist() == [0.1, 0.1]
    assert waiting.epoch.tolist() == [0, 0]


def test_a_dispatch_is_won_once_under_a_new_epoch(world: StoreWorld) -> None:
    """Two plans over the same reading: the first wins every row, the second none."""
    run_id = world.create(WEB, WEB, WEB)
    world.release(run_id)
    read = world.arrivals(run_id, [0, 1, 2])

    first = world.dispatch_read(run_id, read, node=2)
    second = world.dispatch_read(run_id, read, node=0)

    assert {c: sorted(zip(*rows, strict=True)) for c, rows in first.by_cluster.items()} == {"c2": [(0, 1), (1, 1), (2, 1)]}
    assert second.by_cluster == {}
    assert {(r.state, r.epoch, r.attempt, r.node) for r in world.rows(run_id)} == {("dispatched", 1, 1, "c2-n1")}


def test_a_plan_that_read_an_older_epoch_changes_nothing(world: StoreWorld) -> None:
    """A row that was dispatched and came back since it was read is neither dispatched nor shed by the old plan."""
    run_id = world.create(WEB)
    world.release(run_id)
    read = world.arrivals(run_id, [0])
    world.dispatch(run_id, [0])
    world.requests.settle([requeue(run_id, 0, 1)])

    sent = world.dispatch_read(run_id, read)
    world.dispatch_read(run_id, read, shed=True)

    assert sent.by_cluster == {}
    assert [(r.state, r.epoch) for r in world.rows(run_id)] == [("released", 1)]


def test_a_shed_request_is_terminal_with_its_reason(world: StoreWorld) -> None:
    """A plan that gives a request up writes why."""
    run_id = world.create(WEB)
    world.release(run_id)

    sent = world.dispatch(run_id, [0], shed=True)

    assert sent.by_cluster == {}
    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("shed", str(Reason.TARGET_UNREACHABLE))]
    assert world.arrivals(run_id, [0]).request_id.tolist() == []


def test_a_request_without_a_node_stays_released(world: StoreWorld) -> None:
    """Node -1 means not now: the row waits under its epoch."""
    run_id = world.create(WEB)
    world.release(run_id)

    sent = world.dispatch(run_id, [0], node=-1)

    assert sent.by_cluster == {}
    assert [(r.state, r.epoch) for r in world.rows(run_id)] == [("released", 0)]


def test_an_execution_is_claimed_by_one_worker(world: StoreWorld) -> None:
    """The work goes to the first who claims it, under its epoch, at its cluster."""
    run_id = world.create(WEB, CHAT)
    world.release(run_id)
    world.dispatch(run_id, [0, 1], node=0)

    elsewhere = world.requests.claim_execution(run_id, "c2", [0, 1], [1, 1], owner="a", lease_s=LIVE_S)
    stale = world.requests.claim_execution(run_id, "c1", [0, 1], [0, 2], owner="a", lease_s=LIVE_S)
    first = world.requests.claim_execution(run_id, "c1", [0, 1], [1, 1], owner="a", lease_s=LIVE_S)
    second = world.requests.claim_execution(run_id, "c1", [0, 1], [1, 1], owner="b", lease_s=LIVE_S)

    assert (elsewhere, stale, second) == ([], [], [])
    work = {w.request_id: w for w in first}
    assert sorted(work) == [0, 1]
    assert (work[1].service, work[1].entry_cluster, work[1].node, work[1].epoch) == (
        "chat",
        "c2",
        NodeKey("c1", "c1-n1"),
        1,
    )
    assert (work[1].due_s, work[1].target_s, work[1].cpu_work_s, work[1].memory_mib) == (1.0, 0.5, 0.1, 64.0)
    assert _states(world, run_id) == ["running", "running"]


def test_what_a_dispatcher_starts_itself_is_running_under_its_lease(world: StoreWorld) -> None:
    """Rows of `here` skip `dispatched`: they are given as work, nobody else can claim them, and their lease protects them."""
    run_id = world.create(WEB, CHAT, WEB)
    world.release(run_id)
    read = world.arrivals(run_id, [0, 1, 2])
    here = StartHere(rows=np.array([True, True, False]), owner="a", lease_s=OVER_S)

    sent = world.dispatch_read(run_id, read, node=0, here=here)

    assert sent.by_cluster == {"c1": ((2,), (1,))}
    work = {w.request_id: w for w in sent.started}
    assert sorted(work) == [0, 1]
    assert (work[1].service, work[1].entry_cluster, str(work[1].node), work[1].epoch) == ("chat", "c2", "c1/c1-n1", 1)
    assert (work[1].due_s, work[1].target_s, work[1].cpu_work_s, work[1].memory_mib) == (1.0, 0.5, 0.1, 64.0)
    assert _states(world, run_id) == ["running", "running", "dispatched"]
    assert world.requests.claim_execution(run_id, "c1", [0, 1], [1, 1], owner="b", lease_s=LIVE_S) == []
    assert world.dispatch_read(run_id, read, node=0, here=here).started == ()
    assert sorted(k for b in world.requests.requeue_expired(limit=10) for k in b.request_ids) == [0, 1]


def test_work_carries_cluster_and_node_of_its_plan(twins: StoreWorld) -> None:
    """Where clusters have nodes of one name, only both say where a request is to be served, started here or claimed elsewhere."""
    run_id = twins.create(WEB, WEB)
    twins.release(run_id)
    started = twins.dispatch_read(
        run_id, twins.arrivals(run_id, [0]), node=2, here=StartHere(rows=np.array([True]), owner="a", lease_s=LIVE_S)
    ).started
    twins.dispatch(run_id, [1], node=0)

    claimed = twins.requests.claim_execution(run_id, "c1", [1], [1], owner="b", lease_s=LIVE_S)

    assert [work.node for work in (*started, *claimed)] == [NodeKey("c2", "n1"), NodeKey("c1", "n1")]


# ---- ends --------------------------------------------------------------------------------------------------------------


def test_a_result_counts_once(world: StoreWorld) -> None:
    """The second settlement of an epoch counts 0, even in one call, and there is one attempt row."""
    run_id = world.create(WEB)
    world.release(run_id)
    world.dispatch(run_id, [0])

    first = world.requests.settle([success(run_id, 0, 1), success(run_id, 0, 1)])
    second = world.requests.settle([success(run_id, 0, 1, finished_s=9.0)])

    assert (first, second) == (1, 0)
    assert [(r.state, r.started_s, r.finished_s) for r in world.rows(run_id)] == [("succeeded", 1.5, 2.0)]
    assert world.attempts(run_id) == [(0, 1, "succeeded", "")]


def test_a_result_of_an_older_epoch_is_refused(world: StoreWorld) -> None:
    """Who lost the lease has lost the result: the row waits for the newer epoch."""
    run_id = world.create(WEB)
    world.release(run_id)
    world.dispatch(run_id, [0], lease_s=OVER_S)
    world.requests.requeue_expired(limit=10)
    world.dispatch(run_id, [0])

    late = world.requests.settle([success(run_id, 0, 1)])
    future = world.requests.settle([success(run_id, 0, 3)])
    current = world.requests.settle([success(run_id, 0, 2)])

    assert (late, future, current) == (0, 0, 1)
    assert world.attempts(run_id) == [(0, 1, "requeued", "lease-expired"), (0, 2, "succeeded", "")]


def test_a_result_for_a_waiting_request_is_refused(world: StoreWorld) -> None:
    """A row that nobody has been given cannot end."""
    run_id = world.create(WEB)
    world.release(run_id)

    counted = world.requests.settle([success(run_id, 0, 0), success(run_id, 99, 0), success(run_id + 1, 0, 0)])

    assert counted == 0
    assert _states(world, run_id) == ["released"]


def test_results_of_several_runs_settle_together(world: StoreWorld) -> None:
    """One call, any runs, each row once."""
    first, second = world.create(WEB), world.create(WEB)
    for run_id in (first, second):
        world.release(run_id)
        world.dispatch(run_id, [0])

    counted = world.requests.settle([success(second, 0, 1), success(first, 0, 1)])

    assert counted == 2
    assert _states(world, first) == _states(world, second) == ["succeeded"]


def test_a_failure_is_terminal_with_its_reason(world: StoreWorld) -> None:
    """An outcome in state failed is not tried again."""
    run_id = world.create(WEB)
    world.release(run_id)
    world.dispatch(run_id, [0])

    world.requests.settle([Outcome(run_id=run_id, request_id=0, epoch=1, event=Event.FAIL, reason=Reason.OUT_OF_MEMORY)])

    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("failed", "out-of-memory")]
    assert world.attempts(run_id) == [(0, 1, "failed", "out-of-memory")]


def test_a_requeued_request_goes_again_under_a_new_epoch(world: StoreWorld) -> None:
    """Released again, it can be dispatched; each attempt has its row."""
    run_id = world.create(WEB)
    world.release(run_id)
    world.dispatch(run_id, [0])
    world.requests.settle([requeue(run_id, 0, 1)])

    sent = world.dispatch(run_id, [0], node=1)

    assert sent.by_cluster == {"c1": ((0,), (2,))}
    assert [(r.state, r.epoch, r.attempt, r.node) for r in world.rows(run_id)] == [("dispatched", 2, 2, "c1-n2")]
    assert world.attempts(run_id) == [(0, 1, "requeued", "timed-out")]


def test_used_up_attempts_end_a_request_and_say_why(world: StoreWorld) -> None:
    """The last attempt that would requeue fails instead: attempts-exhausted, and what befell the last one."""
    run_id = world.create(WEB)
    world.release(run_id)

    for epoch in range(1, MAX_ATTEMPTS + 1):
        world.dispatch(run_id, [0])
        world.requests.settle([requeue(run_id, 0, epoch, reason=Reason.INSTANCE_UNREACHABLE)])

    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("failed", "attempts-exhausted: instance-unreachable")]
    assert world.dispatch(run_id, [0]).by_cluster == {}
    outcomes = [outcome for _, _, outcome, _ in world.attempts(run_id)]
    assert outcomes == ["requeued"] * (MAX_ATTEMPTS - 1) + ["failed"]


# ---- leases of requests ------------------------------------------------------------------------------------------------


def test_an_expired_lease_puts_the_request_back(world: StoreWorld) -> None:
    """LC → released and given for publishing, BE → pending; what still has its lease stays."""
    run_id = world.create(WEB, BATCH, WEB)
    world.release(run_id)
    world.admit(run_id, [1])
    world.dispatch(run_id, [0], lease_s=OVER_S)
    world.dispatch(run_id, [2])
    world.place(world.requests.pending_be(limit=10), world.fence(), lease_s=OVER_S)

    batches = world.requests.requeue_expired(limit=10)
    again = world.requests.requeue_expired(limit=10)

    assert [(b.run_id, b.cluster, b.service, b.request_ids) for b in batches] == [(run_id, "c1", "web", (0,))]
    assert again == []
    assert _states(world, run_id) == ["released", "pending", "dispatched"]
    assert world.attempts(run_id) == [(0, 1, "requeued", "lease-expired"), (1, 1, "requeued", "lease-expired")]


def test_an_expired_last_attempt_is_a_dead_letter_and_not_published(world: StoreWorld) -> None:
    """With its attempts used up an expired row fails, and no batch names it."""
    run_id = world.create(WEB)
    world.release(run_id)
    published = []
    for _ in range(MAX_ATTEMPTS):
        world.dispatch(run_id, [0], lease_s=OVER_S)
        published.append(len(world.requests.requeue_expired(limit=10)))

    assert published == [1] * (MAX_ATTEMPTS - 1) + [0]
    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("failed", "attempts-exhausted: lease-expired")]


def test_requeueing_goes_up_to_its_limit(world: StoreWorld) -> None:
    """A sweep takes at most `limit` rows; the next one takes the rest."""
    run_id = world.create(WEB, WEB, WEB)
    world.release(run_id)
    world.dispatch(run_id, [0, 1, 2], lease_s=OVER_S)

    first = world.requests.requeue_expired(limit=2)
    second = world.requests.requeue_expired(limit=2)

    assert [sum(len(b.request_ids) for b in batches) for batches in (first, second)] == [2, 1]


def test_a_renewed_lease_does_not_expire(world: StoreWorld) -> None:
    """Renewal holds for live rows under their epoch and tells how many still stood."""
    run_id = world.create(WEB, WEB, WEB)
    world.release(run_id)
    world.dispatch(run_id, [0, 1, 2], lease_s=OVER_S)
    world.requests.settle([success(run_id, 2, 1)])

    stood = world.requests.renew(run_id, [0, 1, 2], [1, 7, 1], lease_s=LIVE_S)
    world.requests.requeue_expired(limit=10)

    assert stood == 1
    assert _states(world, run_id) == ["dispatched", "released", "succeeded"]
