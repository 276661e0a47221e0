"""`LcRequests` and the rest of `Journal`, on the fake and on SQLite: every transition is claimed once, counts once and is told once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tango.domain.identity import NodeKey
from tango.domain.lifecycle import Event, Outcome
from tango.domain.plans import LcPlan
from tango.domain.requests import Reason
from tango.domain.runs import RunStatus
from tango.domain.services import ServiceClass
from tango.domain.shares import LcWait
from tango.errors import StoreUnavailable, UsageError
from tango.ports.requests import StartHere
from tests.fakes.journal_world import LC, JournalWorld, memory_journal_world, run_info, share, sqlite_journal_world
from tests.fakes.own_fleet import published
from tests.fakes.store_world import (
    CHAT,
    FLEET,
    LC_DECISION,
    LIVE_S,
    MAX_ATTEMPTS,
    OVER_S,
    TWINS,
    WEB,
    instance_of,
    node_states,
    requeue,
    success,
)


@pytest.fixture(params=["memory", "journal"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> JournalWorld:
    """One implementation after the other."""
    return memory_journal_world() if request.param == "memory" else sqlite_journal_world(tmp_path / "journal.db")


@pytest.fixture(params=["memory", "journal"])
def twins(request: pytest.FixtureRequest, tmp_path: Path) -> JournalWorld:
    """Two clusters whose nodes have the same names, on one implementation after the other."""
    return memory_journal_world(TWINS) if request.param == "memory" else sqlite_journal_world(tmp_path / "journal.db", TWINS)


# ---- release -----------------------------------------------------------------------------------------------------------


def test_requests_are_released_when_they_are_due_in_batches_by_service(world: JournalWorld) -> None:
    """A batch holds requests of one service of the journal's cluster; the next due time is told."""
    run_id = world.create(WEB, CHAT, WEB, WEB)

    released = world.journal.release_due(run_id, until_s=2.5, limit=100)

    found = {(b.cluster, b.service, b.service_class, b.request_ids) for b in released.batches}
    assert found == {("c1", "web", 0, (0, 2)), ("c1", "chat", 0, (1,))}
    assert {b.run_id for b in released.batches} == {run_id}
    assert released.next_due_s == 3.0
    assert world.states(run_id) == ["released"] * 3 + ["accepted"]


def test_release_takes_the_earliest_up_to_its_limit(world: JournalWorld) -> None:
    """What is due beyond the limit stays accepted, and its due time is the next one."""
    run_id = world.create(*[WEB] * 5)

    released = world.journal.release_due(run_id, until_s=100.0, limit=2)
    rest = world.journal.release_due(run_id, until_s=100.0, limit=2)

    assert sorted(k for b in released.batches for k in b.request_ids) == [0, 1]
    assert released.next_due_s == 2.0
    assert sorted(k for b in rest.batches for k in b.request_ids) == [2, 3]
    assert world.states(run_id) == ["released"] * 4 + ["accepted"]


def test_a_request_is_released_once(world: JournalWorld) -> None:
    """A repeated call gives nothing again; with all released there is no next due time."""
    run_id = world.released(WEB, CHAT)

    again = world.journal.release_due(run_id, until_s=100.0, limit=10)

    assert (again.batches, again.next_due_s) == ((), None)


def test_nothing_is_released_before_its_time(world: JournalWorld) -> None:
    """An early call releases nothing and names the first due time."""
    run_id = world.create(WEB)

    early = world.journal.release_due(run_id, until_s=-0.5, limit=10)

    assert (early.batches, early.next_due_s) == ((), 0.0)


def test_a_run_that_is_not_open_releases_nothing(world: JournalWorld) -> None:
    """Neither one that is being cancelled nor one that the journal does not know."""
    run_id = world.create(WEB, WEB)
    world.follow(run_id, RunStatus.CANCELLING)

    for named in (run_id, 99):
        released = world.journal.release_due(named, until_s=100.0, limit=10)
        assert (released.batches, released.next_due_s) == ((), None)


def test_what_has_waited_too_long_is_shed_without_a_message(world: JournalWorld) -> None:
    """Of the services that are named, among the first that are due and not released; told to the centre, with the reason."""
    run_id = world.create(WEB, CHAT, WEB, WEB, WEB, gap_s=1.0)
    after = {"web": 5.0}  # 2.5 s

    shed = world.journal.shed_overdue(run_id, until_s=3.0, after_targets=after, limit=100)
    few = world.journal.shed_overdue(run_id, until_s=100.0, after_targets=after, limit=2)
    released = world.journal.release_due(run_id, until_s=100.0, limit=100)

    assert (shed, few) == (1, 1)
    assert world.states(run_id) == ["shed", "released", "shed", "released", "released"]
    assert sorted(k for b in released.batches for k in b.request_ids) == [1, 3, 4]
    shipment = world.journal.unshipped(limit=100)
    assert shipment is not None
    assert [(c.request_id, c.state, c.reason) for c in shipment.requests] == [
        (0, "shed", Reason.TARGET_UNREACHABLE),
        (2, "shed", Reason.TARGET_UNREACHABLE),
    ]


def test_nothing_of_a_run_that_is_not_open_is_shed(world: JournalWorld) -> None:
    """It is cancelled instead."""
    run_id = world.create(WEB)
    world.follow(run_id, RunStatus.CANCELLING)

    assert world.journal.shed_overdue(run_id, until_s=100.0, after_targets={"web": 1.0}, limit=10) == 0


def test_a_message_that_seems_lost_is_published_again_once_a_while(world: JournalWorld) -> None:
    """Rows that have stood released for too long come back as batches; others and fresh ones do not."""
    run_id = world.released(WEB, WEB, CHAT, WEB)
    world.dispatch(run_id, [0])

    fresh = world.journal.unclaimed(older_than_s=LIVE_S, limit=10)
    old = world.journal.unclaimed(older_than_s=OVER_S, limit=2)

    assert fresh == []
    assert sorted(k for b in old for k in b.request_ids) == [1, 2]
    assert {(b.service, b.service_class) for b in old} == {("web", int(ServiceClass.LC)), ("chat", int(ServiceClass.LC))}


# ---- dispatch and claim ------------------------------------------------------------------------------------------------


def test_waiting_requests_come_in_order_of_due_time_with_their_columns(world: JournalWorld) -> None:
    """Only released requests among those named, each once; services and clusters are rows of the snapshot."""
    run_id = world.create(WEB, CHAT, WEB)
    world.release(run_id, until_s=1.5)
    snapshot = world.journal.snapshot(at_s=0.0)

    waiting = world.journal.waiting_lc(run_id, [2, 1, 0, 77, 1], snapshot)

    assert waiting.request_id.tolist() == [0, 1]
    assert [snapshot.services[k].name for k in waiting.service] == ["web", "chat"]
    assert [snapshot.clusters[k] for k in waiting.entry_cluster] == ["c1", "c1"]
    assert waiting.deadline_s.tolist() == [0.5, 1.5]
    assert waiting.cpu_work_s.tolist() == [0.1, 0.1]
    assert waiting.epoch.tolist() == [0, 0]


def test_a_service_that_the_snapshot_lacks_is_left_out(world: JournalWorld) -> None:
    """Its requests stay released, and are published again later."""
    run_id = world.released(WEB, CHAT)
    fleet = replace(FLEET, services=(WEB,))

    waiting = world.journal.waiting_lc(run_id, [0, 1], published(fleet).snapshot)

    assert waiting.request_id.tolist() == [0]


def test_a_dispatch_is_won_once_under_a_new_epoch(world: JournalWorld) -> None:
    """Two plans over the same reading: the first wins every row, the second none."""
    run_id = world.released(WEB, WEB, WEB)
    read = world.arrivals(run_id, [0, 1, 2])

    first = world.dispatch_read(run_id, read, node=2)
    second = world.dispatch_read(run_id, read, node=0)

    assert sorted(zip(first.request_ids, first.epochs, strict=True)) == [(0, 1), (1, 1), (2, 1)]
    assert (second.request_ids, second.epochs, second.started) == ((), (), ())
    assert {(r.state, r.epoch, r.attempt, r.node) for r in world.rows(run_id)} == {("dispatched", 1, 1, "c2-n1")}


def test_a_plan_that_read_an_older_epoch_changes_nothing(world: JournalWorld) -> None:
    """A row that was dispatched and came back since it was read is neither dispatched nor shed by the old plan."""
    run_id = world.released(WEB)
    read = world.arrivals(run_id, [0])
    world.dispatch(run_id, [0])
    world.journal.settle([requeue(run_id, 0, 1)])

    sent = world.dispatch_read(run_id, read)
    world.dispatch_read(run_id, read, shed=True)

    assert sent.request_ids == ()
    assert [(r.state, r.epoch) for r in world.rows(run_id)] == [("released", 1)]


def test_a_shed_request_is_terminal_with_its_reason(world: JournalWorld) -> None:
    """A plan that gives a request up writes why."""
    run_id = world.released(WEB)

    sent = world.dispatch(run_id, [0], shed=True)

    assert sent.request_ids == ()
    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("shed", str(Reason.TARGET_UNREACHABLE))]
    assert world.arrivals(run_id, [0]).request_id.tolist() == []


def test_a_request_without_a_node_stays_released(world: JournalWorld) -> None:
    """Node -1 means not now: the row waits under its epoch."""
    run_id = world.released(WEB)

    sent = world.dispatch(run_id, [0], node=-1)

    assert sent.request_ids == ()
    assert [(r.state, r.epoch) for r in world.rows(run_id)] == [("released", 0)]


def test_an_execution_is_claimed_by_one_worker(world: JournalWorld) -> None:
    """The work goes to the first who claims it, under its epoch."""
    run_id = world.released(WEB, CHAT)
    world.dispatch(run_id, [0, 1], node=0)

    stale = world.journal.claim_execution(run_id, [0, 1], [0, 2], owner="a", lease_s=LIVE_S)
    first = world.journal.claim_execution(run_id, [0, 1], [1, 1], owner="a", lease_s=LIVE_S)
    second = world.journal.claim_execution(run_id, [0, 1], [1, 1], owner="b", lease_s=LIVE_S)

    assert (stale, second) == ([], [])
    work = {w.request_id: w for w in first}
    assert sorted(work) == [0, 1]
    assert (work[1].service, work[1].entry_cluster, work[1].node, work[1].epoch) == ("chat", "c1", NodeKey("c1", "c1-n1"), 1)
    assert (work[1].due_s, work[1].target_s, work[1].cpu_work_s, work[1].memory_mib) == (1.0, 0.5, 0.1, 64.0)
    assert world.states(run_id) == ["running", "running"]


def test_what_a_dispatcher_starts_itself_is_running_under_its_lease(world: JournalWorld) -> None:
    """Rows of `here` skip `dispatched`: they are given as work, nobody else can claim them, and their process's lease protects them."""
    run_id = world.released(WEB, CHAT, WEB)
    read = world.arrivals(run_id, [0, 1, 2])
    here = StartHere(rows=np.array([True, True, False]), owner="a", lease_s=OVER_S, planned_s=0.0)

    sent = world.dispatch_read(run_id, read, node=0, here=here)

    assert (sent.request_ids, sent.epochs) == ((2,), (1,))
    work = {w.request_id: w for w in sent.started}
    assert sorted(work) == [0, 1]
    assert (work[1].service, work[1].entry_cluster, str(work[1].node), work[1].epoch) == ("chat", "c1", "c1/c1-n1", 1)
    assert (work[1].due_s, work[1].target_s, work[1].cpu_work_s, work[1].memory_mib) == (1.0, 0.5, 0.1, 64.0)
    assert world.states(run_id) == ["running", "running", "dispatched"]
    assert world.journal.claim_execution(run_id, [0, 1], [1, 1], owner="b", lease_s=LIVE_S) == []
    assert world.dispatch_read(run_id, read, node=0, here=here).started == ()
    assert sorted(k for b in world.journal.requeue_expired(limit=10) for k in b.request_ids) == [0, 1]


def test_work_carries_cluster_and_node_of_its_plan(twins: JournalWorld) -> None:
    """Where clusters have nodes of one name, only both say where a request is to be served, started here or claimed later."""
    run_id = twins.released(WEB, WEB)
    started = twins.start(run_id, [0], node=2).started
    twins.dispatch(run_id, [1], node=0)

    claimed = twins.journal.claim_execution(run_id, [1], [1], owner="b", lease_s=LIVE_S)

    assert [work.node for work in (*started, *claimed)] == [NodeKey("c2", "n1"), NodeKey("c1", "n1")]


def test_nothing_of_a_stopped_run_is_given_out(world: JournalWorld) -> None:
    """What was read or sent before the stop is neither dispatched nor claimed after it, and nothing waits."""
    run_id = world.released(WEB, WEB)
    read = world.arrivals(run_id, [0])
    world.dispatch(run_id, [1])
    world.follow(run_id, RunStatus.CANCELLING)

    assert world.dispatch_read(run_id, read).request_ids == ()
    assert world.journal.claim_execution(run_id, [1], [1], owner="a", lease_s=LIVE_S) == []
    assert len(world.arrivals(run_id, [0])) == 0
    assert world.journal.unclaimed(older_than_s=OVER_S, limit=10) == []
    assert world.states(run_id) == ["released", "dispatched"]


# ---- ends --------------------------------------------------------------------------------------------------------------


def test_a_result_counts_once(world: JournalWorld) -> None:
    """The second settlement of an epoch counts 0, even in one call, and there is one attempt."""
    run_id = world.released(WEB)
    world.dispatch(run_id, [0])

    first = world.journal.settle([success(run_id, 0, 1), success(run_id, 0, 1)])
    second = world.journal.settle([success(run_id, 0, 1, finished_s=9.0)])

    assert (first, second) == (1, 0)
    assert [(r.state, r.started_s, r.finished_s) for r in world.rows(run_id)] == [("succeeded", 1.5, 2.0)]
    assert world.attempts(run_id) == [(0, 1, "succeeded", "")]


def test_an_attempt_tells_its_way_in_time_and_the_decision_that_gave_it_out(world: JournalWorld) -> None:
    """Released, dispatched, sent, ended, in this order; after a failure the next attempt waits from then on, by another decision."""
    run_id = world.released(WEB)
    world.dispatch(run_id, [0])
    world.journal.unclaimed(older_than_s=-1.0, limit=10)
    world.journal.settle([requeue(run_id, 0, 1)])
    world.journal.unclaimed(older_than_s=-1.0, limit=10)  # told again, which is no new wait
    world.dispatch(run_id, [0])
    world.journal.settle([replace(success(run_id, 0, 2), sent_s=1.25)])

    shipment = world.journal.unshipped(limit=100)

    assert shipment is not None
    first, second = shipment.attempts
    of_first, of_second = shipment.decisions
    assert (first.decided, second.decided) == (of_first.sequence, of_second.sequence)
    assert of_first.sequence < of_second.sequence <= shipment.last
    assert (first.sent_s, second.sent_s) == (None, 1.25)
    way = [first.released_at_s, first.dispatched_at_s, second.released_at_s, second.dispatched_at_s]
    assert None not in way
    assert way == sorted(way)
    assert first.ended_at_s <= of_second.at_s
    assert second.released_at_s == pytest.approx(first.ended_at_s, abs=0.05)


def test_what_is_known_of_a_request_for_its_trace_is_of_its_present_attempt(world: JournalWorld) -> None:
    """Since when it waits, when it was given out and where; what is not here is missing."""
    run_id = world.released(WEB, CHAT)
    world.dispatch(run_id, [1], node=0)

    found = world.journal.tracks(run_id, [0, 1, 77])

    assert sorted(found) == [0, 1]
    waits, given_out = found[0], found[1]
    assert (waits.epoch, waits.attempt, waits.due_s, waits.service) == (0, 0, 0.0, "web")
    assert (waits.node, waits.dispatched_at_s, waits.method, waits.traceparent) == (None, None, "", "")
    assert (given_out.epoch, given_out.attempt, given_out.node) == (1, 1, NodeKey("c1", "c1-n1"))
    assert waits.waits_from_s is not None
    assert given_out.waits_from_s is not None
    assert given_out.dispatched_at_s is not None
    assert given_out.waits_from_s < given_out.dispatched_at_s


def test_a_result_of_an_older_epoch_is_refused(world: JournalWorld) -> None:
    """Who lost the lease has lost the result: the row waits for the newer epoch."""
    run_id = world.released(WEB)
    world.dispatch(run_id, [0], lease_s=OVER_S)
    world.journal.requeue_expired(limit=10)
    world.dispatch(run_id, [0])

    late = world.journal.settle([success(run_id, 0, 1)])
    future = world.journal.settle([success(run_id, 0, 3)])
    current = world.journal.settle([success(run_id, 0, 2)])

    assert (late, future, current) == (0, 0, 1)
    assert world.attempts(run_id) == [(0, 1, "requeued", "lease-expired"), (0, 2, "succeeded", "")]


def test_a_result_for_a_waiting_request_is_refused(world: JournalWorld) -> None:
    """A row that nobody has been given cannot end."""
    run_id = world.released(WEB)

    counted = world.journal.settle([success(run_id, 0, 0), success(run_id, 99, 0), success(run_id + 1, 0, 0)])

    assert counted == 0
    assert world.states(run_id) == ["released"]


def test_results_of_several_runs_settle_together(world: JournalWorld) -> None:
    """One call, any runs, each row once."""
    first, second = world.released(WEB), world.released(WEB)
    for run_id in (first, second):
        world.dispatch(run_id, [0])

    counted = world.journal.settle([success(second, 0, 1), success(first, 0, 1)])

    assert counted == 2
    assert world.states(first) == world.states(second) == ["succeeded"]


def test_a_failure_is_terminal_with_its_reason(world: JournalWorld) -> None:
    """An outcome in state failed is not tried again."""
    run_id = world.released(WEB)
    world.dispatch(run_id, [0])

    world.journal.settle([Outcome(run_id=run_id, request_id=0, epoch=1, event=Event.FAIL, reason=Reason.OUT_OF_MEMORY)])

    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("failed", "out-of-memory")]
    assert world.attempts(run_id) == [(0, 1, "failed", "out-of-memory")]


def test_a_requeued_request_goes_again_under_a_new_epoch(world: JournalWorld) -> None:
    """Released again, it can be dispatched; each attempt is told."""
    run_id = world.released(WEB)
    world.dispatch(run_id, [0])
    world.journal.settle([requeue(run_id, 0, 1)])

    sent = world.dispatch(run_id, [0], node=1)

    assert (sent.request_ids, sent.epochs) == ((0,), (2,))
    assert [(r.state, r.epoch, r.attempt, r.node) for r in world.rows(run_id)] == [("dispatched", 2, 2, "c1-n2")]
    assert world.attempts(run_id) == [(0, 1, "requeued", "timed-out")]


def test_a_returned_request_keeps_its_attempts(world: JournalWorld) -> None:
    """What was taken away from it ends an epoch and no attempt; whoever runs it next knows which attempt that is."""
    run_id = world.released(WEB)
    for epoch in (1, 2):
        world.dispatch(run_id, [0])
        end = Outcome(run_id=run_id, request_id=0, epoch=epoch, event=Event.RETURN, reason=Reason.INSTANCE_GONE)
        assert world.journal.settle([end]) == 1
        assert [(r.state, r.epoch, r.attempt, r.reason) for r in world.rows(run_id)] == [("released", epoch, 0, "instance-gone")]
    again = world.journal.unclaimed(older_than_s=-1.0, limit=10)

    (started,) = world.start(run_id, [0], owner="a").started

    assert [batch.request_ids for batch in again] == [(0,)]
    assert (started.epoch, started.attempt) == (3, 1)
    assert world.attempts(run_id) == [(0, epoch, "returned", "instance-gone") for epoch in (1, 2)]


def test_used_up_attempts_end_a_request_and_say_why(world: JournalWorld) -> None:
    """The last attempt that would requeue fails instead: attempts-exhausted, and what befell the last one."""
    run_id = world.released(WEB)

    for epoch in range(1, MAX_ATTEMPTS + 1):
        world.dispatch(run_id, [0])
        world.journal.settle([requeue(run_id, 0, epoch, reason=Reason.INSTANCE_UNREACHABLE)])

    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("failed", "attempts-exhausted: instance-unreachable")]
    assert world.dispatch(run_id, [0]).request_ids == ()
    outcomes = [outcome for _, _, outcome, _ in world.attempts(run_id)]
    assert outcomes == ["requeued"] * (MAX_ATTEMPTS - 1) + ["failed"]


def test_a_result_counts_while_its_run_is_being_cancelled(world: JournalWorld) -> None:
    """What had been given out before the stop ends as it ends, until the sweep takes it."""
    run_id = world.released(WEB, WEB)
    world.dispatch(run_id, [0, 1])
    world.follow(run_id, RunStatus.CANCELLING)

    counted = world.journal.settle([success(run_id, 0, 1)])
    cancelled = world.journal.cancel_stopped(limit=10)

    assert (counted, cancelled) == (1, 1)
    assert world.journal.settle([success(run_id, 1, 1)]) == 0
    assert world.states(run_id) == ["succeeded", "cancelled"]


# ---- leases ------------------------------------------------------------------------------------------------------------


def test_an_expired_lease_puts_the_request_back(world: JournalWorld) -> None:
    """Released and given for publishing; what still has its lease stays."""
    run_id = world.released(WEB, WEB)
    world.dispatch(run_id, [0], lease_s=OVER_S)
    world.dispatch(run_id, [1])

    batches = world.journal.requeue_expired(limit=10)
    again = world.journal.requeue_expired(limit=10)

    assert [(b.run_id, b.cluster, b.service, b.request_ids) for b in batches] == [(run_id, "c1", "web", (0,))]
    assert again == []
    assert world.states(run_id) == ["released", "dispatched"]
    assert world.attempts(run_id) == [(0, 1, "requeued", "lease-expired")]


def test_an_expired_last_attempt_is_a_dead_letter_and_not_published(world: JournalWorld) -> None:
    """With its attempts used up an expired row fails, and no batch names it."""
    run_id = world.released(WEB)
    given = []
    for _ in range(MAX_ATTEMPTS):
        world.dispatch(run_id, [0], lease_s=OVER_S)
        given.append(len(world.journal.requeue_expired(limit=10)))

    assert given == [1] * (MAX_ATTEMPTS - 1) + [0]
    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("failed", "attempts-exhausted: lease-expired")]


def test_requeueing_goes_up_to_its_limit(world: JournalWorld) -> None:
    """A sweep takes at most `limit` rows; the next one takes the rest."""
    run_id = world.released(WEB, WEB, WEB)
    world.dispatch(run_id, [0, 1, 2], lease_s=OVER_S)

    first = world.journal.requeue_expired(limit=2)
    second = world.journal.requeue_expired(limit=2)

    assert [sum(len(b.request_ids) for b in batches) for batches in (first, second)] == [2, 1]


def test_what_a_process_runs_comes_back_when_its_heartbeat_stops(world: JournalWorld) -> None:
    """One row for a process, however many requests it runs; what others run stays with them."""
    run_id = world.released(WEB, WEB, WEB)
    world.start(run_id, [0, 1], owner="a", lease_s=10.0)
    world.start(run_id, [2], owner="b", lease_s=10.0)

    world.clock.now_s += 8.0
    world.journal.heartbeat("b", lease_s=10.0)
    held = world.journal.requeue_expired(limit=10)
    world.clock.now_s += 3.0
    back = world.journal.requeue_expired(limit=10)

    assert held == []
    assert [b.request_ids for b in back] == [(0, 1)]
    assert world.states(run_id) == ["released", "released", "running"]


def test_claimed_work_stands_by_the_heartbeat_of_its_owner(world: JournalWorld) -> None:
    """A claim says that the process lives, and does not shorten what it has said before."""
    run_id = world.released(WEB, WEB)
    world.dispatch(run_id, [0, 1], lease_s=OVER_S)
    world.journal.heartbeat("a", lease_s=LIVE_S)
    world.journal.claim_execution(run_id, [0], [1], owner="a", lease_s=OVER_S)
    world.journal.claim_execution(run_id, [1], [1], owner="b", lease_s=OVER_S)

    back = world.journal.requeue_expired(limit=10)

    assert [b.request_ids for b in back] == [(1,)]


def test_a_request_that_its_process_lost_track_of_comes_back_by_its_own_limit(world: JournalWorld) -> None:
    """The process lives and beats, but the call must have ended: its time-out and one lease are over."""
    run_id = world.released(WEB)
    world.start(run_id, [0], owner="a", lease_s=10.0)
    limit_s = 10.0 + max(LC.timeout_min_s, LC.timeout_targets * 0.5)

    world.clock.now_s += limit_s - 0.1
    world.journal.heartbeat("a", lease_s=LIVE_S)
    held = world.journal.requeue_expired(limit=10)
    world.clock.now_s += 0.2
    back = world.journal.requeue_expired(limit=10)

    assert held == []
    assert [b.request_ids for b in back] == [(0,)]


def test_what_is_in_flight_of_a_stopped_run_is_left_to_its_sweep(world: JournalWorld) -> None:
    """It is not requeued: nothing of the run moves on."""
    run_id = world.released(WEB)
    world.dispatch(run_id, [0], lease_s=OVER_S)
    world.follow(run_id, RunStatus.CANCELLING)

    assert world.journal.requeue_expired(limit=10) == []
    assert world.states(run_id) == ["dispatched"]


# ---- intake ------------------------------------------------------------------------------------------------------------


def test_a_share_is_taken_once_however_often_it_is_brought(world: JournalWorld) -> None:
    """What is there is left out, by the id of the last one; nothing is told, as the centre has it accepted already."""
    run_id = world.create(WEB, WEB)

    again = world.journal.take(run_id, share([WEB, WEB, CHAT]))

    assert again == 1
    assert world.journal.taken_to(run_id) == 2
    assert world.states(run_id) == ["accepted"] * 3
    assert world.journal.unshipped(limit=10) is None


def test_what_is_not_there_any_more_can_be_taken_again(world: JournalWorld) -> None:
    """Up to where the share was taken; it is released once more. What is there stays as it is."""
    world.keeps(0)
    run_id = world.create(WEB, WEB, WEB)
    world.release(run_id)
    started = world.start(run_id, [0, 1]).started
    world.journal.settle([success(run_id, 0, started[0].epoch)])
    shipment = world.journal.unshipped(limit=100)
    assert shipment is not None
    world.journal.shipped(shipment.last)
    gone = [row.state for row in world.rows(run_id)]

    taken = [world.journal.take_again(run_id, share([WEB] * 5)) for _ in range(2)]
    back = [row.state for row in world.rows(run_id)]
    world.release(run_id)

    assert gone == ["running", "released"]
    assert taken == [1, 0]
    assert back == ["accepted", "running", "released"]
    assert [row.state for row in world.rows(run_id)] == ["released", "running", "released"]


def test_nothing_is_taken_for_a_run_that_has_ended(world: JournalWorld) -> None:
    """Or that the journal was not told of; of one that is being cancelled what a lost journal had is taken, and cancelled."""
    run_id, stopped = world.create(WEB), world.create(WEB)
    world.follow(run_id, RunStatus.COMPLETED)
    world.follow(stopped, RunStatus.CANCELLING)

    assert world.journal.take(run_id, share([WEB, WEB])) == 0
    assert world.journal.take(77, share([WEB])) == 0
    assert world.journal.take(stopped, share([WEB, WEB])) == 1
    assert world.journal.cancel_stopped(limit=10) == 2
    assert world.states(stopped) == ["cancelled"] * 2


def test_how_far_a_share_has_come_is_kept_without_a_request(world: JournalWorld) -> None:
    """What is terminal already is not handed over again: the journal only notes that nothing is left up to there."""
    run_id = world.create(WEB)

    world.journal.take(run_id, share([]), up_to=41)
    first = world.journal.taken_to(run_id)
    world.journal.take(run_id, share([]), up_to=7)

    assert (first, world.journal.taken_to(run_id)) == (41, 41)


def test_requests_of_a_lost_journal_go_on_under_the_next_epoch(world: JournalWorld) -> None:
    """Epoch and attempt are those of the centre's copy, so that results of the lost ones count nothing."""
    run_id = world.create(WEB, epoch=2)
    world.release(run_id)

    sent = world.dispatch(run_id, [0])

    assert sent.epochs == (3,)
    assert world.journal.settle([success(run_id, 0, 1)]) == 0
    world.journal.settle([requeue(run_id, 0, 3)])
    assert [(r.state, r.epoch, r.attempt) for r in world.rows(run_id)] == [("failed", 3, 3)]


def test_runs_are_kept_as_they_were_last_told(world: JournalWorld) -> None:
    """All that is known of a run, by id; one that is not kept is refused by name."""
    world.journal.follow([run_info(2, speed=3.0), run_info(1)])
    world.journal.follow([run_info(2, RunStatus.DRAINING, speed=3.0), run_info(1)])

    assert world.journal.runs() == [run_info(1), run_info(2, RunStatus.DRAINING, speed=3.0)]
    assert world.journal.run(2).status is RunStatus.DRAINING
    with pytest.raises(UsageError, match="no run 7"):
        world.journal.run(7)


def test_a_run_is_forgotten_once_nothing_of_it_is_left(world: JournalWorld) -> None:
    """Not while a request of it is live or an event is not shipped, whatever the centre follows."""
    run_id = world.released(WEB)
    world.journal.follow([])
    live = world.journal.runs()
    world.dispatch(run_id, [0])
    world.journal.settle([success(run_id, 0, 1)])
    world.journal.follow([])
    unshipped = world.journal.runs()
    shipment = world.journal.unshipped(limit=100)
    assert shipment is not None
    world.journal.shipped(shipment.last)

    assert [run.run_id for run in live] == [run.run_id for run in unshipped] == [run_id]
    assert world.journal.runs() == []


def test_a_stopped_run_is_cancelled_with_an_attempt_for_what_is_in_flight(world: JournalWorld) -> None:
    """Accepted, released and in flight, each up to the limit of the call."""
    run_id = world.create(*[WEB] * 4)
    world.release(run_id, until_s=2.5)
    world.dispatch(run_id, [0])
    world.start(run_id, [1])
    world.follow(run_id, RunStatus.CANCELLING)

    counts = [world.journal.cancel_stopped(limit=3), world.journal.cancel_stopped(limit=3), world.journal.cancel_stopped(limit=3)]

    assert counts == [3, 1, 0]
    assert world.states(run_id) == ["cancelled"] * 4
    assert {r.reason for r in world.rows(run_id)} == {str(Reason.CANCELLED)}
    assert world.attempts(run_id) == [(0, 1, "cancelled", "cancelled-by-user"), (1, 1, "cancelled", "cancelled-by-user")]


def test_what_waits_again_after_it_was_requeued_is_cancelled_too(world: JournalWorld) -> None:
    """A result that requeues may come between two steps of the sweep."""
    run_id = world.released(WEB, WEB)
    world.dispatch(run_id, [0])
    world.follow(run_id, RunStatus.CANCELLING)
    world.journal.settle([requeue(run_id, 0, 1)])

    assert world.journal.cancel_stopped(limit=10) == 2
    assert world.states(run_id) == ["cancelled"] * 2


# ---- shipping ----------------------------------------------------------------------------------------------------------


def test_a_shipment_has_the_last_state_of_each_request_and_every_attempt(world: JournalWorld) -> None:
    """Numbers begin at 1; dispatch and result of a request are one copy, the decision comes along."""
    run_id = world.released(WEB, WEB)
    world.start(run_id, [0, 1], owner="a")
    world.journal.settle([success(run_id, 0, 1)])

    shipment = world.journal.unshipped(limit=100)

    assert shipment is not None
    assert (shipment.cluster, shipment.first, shipment.last) == ("c1", 1, 4)
    assert [(c.request_id, c.state, c.epoch, c.cluster, c.node, c.owner) for c in shipment.requests] == [
        (0, "succeeded", 1, "c1", "c1-n1", "a"),
        (1, "running", 1, "c1", "c1-n1", "a"),
    ]
    assert [(c.started_s, c.finished_s, c.late) for c in shipment.requests] == [(1.5, 2.0, False), (None, None, False)]
    (attempt,) = shipment.attempts
    assert (attempt.request_id, attempt.epoch, attempt.service, attempt.node, attempt.latency_s) == (0, 1, "web", "c1-n1", 2.0)
    (decision,) = shipment.decisions
    assert (decision.run_id, decision.record.placed, decision.record.policy) == (run_id, 2, "test")


def test_a_shipped_decision_brings_the_candidates_that_it_keeps(world: JournalWorld) -> None:
    """As they were written."""
    run_id = world.released(WEB)
    arrivals = world.arrivals(run_id, [0])
    plan = LcPlan(node=np.zeros(1, np.int32), late=np.zeros(1, bool), shed=np.zeros(1, bool), expected_s=np.zeros(1), policy="test")
    decision = replace(LC_DECISION, weighed='[{"request_id":0}]')

    world.journal.record_dispatch(run_id, arrivals, plan, world.journal.snapshot(at_s=0.0), decision, lease_s=LIVE_S)

    shipment = world.journal.unshipped(limit=100)
    assert shipment is not None
    assert [copy.record.weighed for copy in shipment.decisions] == ['[{"request_id":0}]']


def test_shipments_follow_each_other_without_a_gap(world: JournalWorld) -> None:
    """Each begins after what is known to be shipped; what is not known to be is given again."""
    run_id = world.released(*[WEB] * 5)
    world.start(run_id, range(5))
    first = world.journal.unshipped(limit=2)
    again = world.journal.unshipped(limit=4)
    assert first is not None
    assert again is not None
    world.journal.shipped(first.last)
    world.journal.settle([success(run_id, k, 1) for k in range(5)])

    rest = world.journal.unshipped(limit=100)

    assert rest is not None
    assert [(s.first, s.last) for s in (first, again, rest)] == [(1, 2), (1, 4), (3, 11)]
    world.journal.shipped(rest.last)
    assert world.journal.unshipped(limit=100) is None


def test_shipped_events_are_kept_for_a_centre_that_forgets_them(world: JournalWorld) -> None:
    """They are told once more as they were; what they were of is gone and is not taken again, what is in none of them is."""
    run_id = world.released(*[WEB] * 3)
    world.start(run_id, range(3))
    world.journal.settle([success(run_id, k, 1) for k in range(2)])
    begun = world.journal.first_kept()
    told = world.journal.unshipped(limit=100)
    assert told is not None
    world.journal.shipped(told.last)
    world.journal.shipped(2)

    again = world.journal.unshipped(limit=100, beyond=told.first - 1)
    later = world.journal.unshipped(limit=100, beyond=told.last - 1)

    assert (begun, world.journal.first_kept()) == (1, 1)
    assert again == told
    assert later is not None
    assert (later.first, later.last) == (told.last, told.last)
    assert world.journal.unshipped(limit=100) is None
    assert world.journal.take_again(run_id, share([WEB] * 3)) == 0
    assert [row.state for row in world.rows(run_id)] == ["running"]


def test_what_has_ended_is_forgotten_with_its_last_event(world: JournalWorld) -> None:
    """Terminal requests go once they are shipped; live ones and those with more to ship stay."""
    run_id = world.released(WEB, WEB)
    world.start(run_id, [0, 1])
    world.journal.settle([success(run_id, 0, 1)])
    world.journal.shipped(3)
    before = len(world.rows(run_id))
    world.journal.shipped(4)

    assert (before, world.states(run_id)) == (2, ["running"])
    assert world.journal.settle([success(run_id, 0, 1)]) == 0


def test_a_confirmation_of_what_never_happened_is_refused(world: JournalWorld) -> None:
    """The centre knows more than the journal: an old copy of the file would lose what happens next."""
    world.start(world.released(WEB), [0])

    with pytest.raises(StoreUnavailable, match="the centre has 3 events"):
        world.journal.shipped(3)


def test_requests_in_flight_are_counted_by_service_and_node(world: JournalWorld) -> None:
    """With the scale of their runs; what is being cancelled holds its node until it is swept."""
    run_id = world.released(WEB, CHAT, WEB, WEB)
    world.dispatch(run_id, [0, 1], node=0)
    world.start(run_id, [2], node=2)
    world.follow(run_id, RunStatus.CANCELLING)

    assert sorted(world.journal.in_flight()) == [
        ("chat", "c1", "c1-n1", 1, 0.5),
        ("web", "c1", "c1-n1", 1, 0.5),
        ("web", "c2", "c2-n1", 1, 0.5),
    ]


def test_what_waits_for_its_dispatch_is_counted(world: JournalWorld) -> None:
    """Released and not dispatched, of runs that are open: by it the keeper holds releases back."""
    run_id, stopped = world.released(WEB, WEB, WEB), world.released(WEB)
    world.create(WEB)
    world.start(run_id, [0])
    world.follow(stopped, RunStatus.CANCELLING)

    assert world.journal.waiting() == 2


def test_how_much_waits_is_told(world: JournalWorld) -> None:
    """Late is what its plan expects beyond its target, and what has waited for its dispatch for half of that; what has ended is over."""
    run_id = world.released(*[WEB] * 8)  # due a second after the other, with targets of 0.5 s
    world.create(WEB)
    world.start(run_id, [0], late=True)
    world.start(run_id, [1])
    done = world.start(run_id, [2], late=True).started[0]
    world.journal.settle([success(run_id, 2, done.epoch)])
    before = world.journal.lc_wait()

    world.clock.now_s += 5.0  # to the fifth and sixth second: of those that wait 3 and 4 are long over their time, 5 has just begun

    assert (before, world.journal.lc_wait()) == (LcWait(7, 1), LcWait(7, 3))


# ---- fleet and leases --------------------------------------------------------------------------------------------------


def test_a_snapshot_has_the_own_nodes_as_observed_and_the_own_requests_in_flight(world: JournalWorld) -> None:
    """Published figures of the others stand; those of the own cluster are replaced, a node that is gone is not ready."""
    run_id = world.released(WEB, WEB)
    seen = [replace(node_states(FLEET.clusters[0])[0], cpu_allocatable_millicores=1234)]
    world.journal.observe(seen, [instance_of(WEB, "c1-n1"), instance_of(CHAT, "c1-n1", ready=False)])
    world.start(run_id, [0, 1], node=2)

    snapshot = world.journal.snapshot(at_s=7.0)

    web, chat = (next(k for k, s in enumerate(snapshot.services) if s.name == name) for name in ("web", "chat"))
    assert snapshot.at_s == 7.0
    assert [str(key) for key in snapshot.node_keys] == ["c1/c1-n1", "c1/c1-n2", "c2/c2-n1"]
    assert snapshot.node_ready.tolist() == [True, False, True]
    assert snapshot.cpu_allocatable.tolist() == [1234.0, 4000.0, 2000.0]
    assert snapshot.instance_count[[web, chat]].tolist() == [[1, 0, 1], [0, 0, 1]]
    assert snapshot.in_flight[web].tolist() == [0, 0, 2]
    assert snapshot.in_flight_work_s[web].tolist() == [0, 0, 2 * 0.5 * WEB.cpu_work_s]
    assert [(c, i.pod) for c, i in world.journal.instances()] == [
        ("c1", "lc-chat-c1-n1-0"),
        ("c1", "lc-web-c1-n1-0"),
        ("c2", "lc-chat-c2-n1-0"),
        ("c2", "lc-web-c2-n1-0"),
    ]
    assert [s.name for s in world.journal.services()] == ["batch", "chat", "huge", "web"]


def test_a_newer_publication_is_seen_at_once(world: JournalWorld) -> None:
    """Published and observed anew, the next snapshot has it."""
    world.journal.observe(node_states(FLEET.clusters[0]), [])
    before = world.journal.snapshot(at_s=0.0)
    world.journal.publish(published(replace(FLEET, services=(WEB,))))
    world.journal.observe(node_states(FLEET.clusters[0])[:1], [])

    after = world.journal.snapshot(at_s=0.0)

    assert (len(before.services), len(after.services)) == (4, 1)
    assert (before.node_ready.tolist(), after.node_ready.tolist()) == ([True] * 3, [True, False, True])


def test_a_named_lease_has_one_owner_at_a_time(world: JournalWorld) -> None:
    """It is renewed by its owner, and taken by another once it is over."""
    first = world.journal.hold("keeper", owner="a", ttl_s=5.0)
    other = world.journal.hold("keeper", owner="b", ttl_s=5.0)
    renewed = world.journal.hold("keeper", owner="a", ttl_s=5.0)
    world.clock.now_s += 6.0
    taken = world.journal.hold("keeper", owner="b", ttl_s=5.0)
    lost = world.journal.hold("keeper", owner="a", ttl_s=5.0)

    assert (first, other, renewed, taken, lost) == (True, False, True, True, False)


def test_a_journal_of_another_centre_begins_anew(world: JournalWorld) -> None:
    """What it had is forgotten, and its events count from 1 under a new identity; of the same centre everything stays."""
    assert not world.journal.belong_to("first")
    run_id = world.released(WEB, WEB)
    world.start(run_id, [0])
    assert not world.journal.belong_to("first")
    before = world.journal.unshipped(limit=10)
    assert world.states(run_id) == ["running", "released"]

    assert world.journal.belong_to("second")

    assert (world.journal.runs(), world.states(run_id), world.journal.in_flight()) == ([], [], [])
    assert world.journal.unshipped(limit=10) is None
    world.follow(run_id, RunStatus.RUNNING)
    assert world.journal.take(run_id, share([WEB])) == 1
    world.release(run_id)
    world.start(run_id, [0])
    after = world.journal.unshipped(limit=10)
    assert before is not None
    assert after is not None
    assert (after.first, after.last) == (1, 2)
    assert after.journal != before.journal


def test_the_access_to_the_cluster_is_kept(world: JournalWorld) -> None:
    """An agent that starts while the line is cut reaches its API server as before."""
    first = world.journal.access()
    world.journal.note_access("/a/config", "c1")
    world.journal.note_access("/b/config", "edge")

    assert first is None
    assert world.journal.access() == ("/b/config", "edge")
