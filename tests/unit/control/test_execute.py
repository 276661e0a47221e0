"""Execution of LC: many calls under way, each settled once, and places for no more than the worker can hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tango.control.answer_margin import AnswerMargin
from tango.control.execute_lc import GONE_LOOK_S, GONE_WITHIN_S, PAUSES_S, InstanceDirectory, InstanceReach, LcExecutor
from tango.control.node_health import NodeHealth
from tango.control.serve_callers import ServeCallers
from tango.domain.identity import NodeKey
from tango.domain.lifecycle import FREE_EPOCHS
from tango.domain.requests import LcWork, Reason
from tango.domain.services import ServiceClass
from tango.errors import InstanceFailed, StoreError, StoreUnavailable, TangoError
from tango.ports.instances import InstanceCalls, Served
from tango.ports.journal import JournalFleet
from tango.ports.requests import LcRequests
from tango.settings import CallSettings, LcSettings, LeaseSettings, OutlierSettings
from tests.fakes.faulty import Faulty
from tests.fakes.instance_calls import ScriptedCalls
from tests.fakes.publisher import RecordingPublisher
from tests.fakes.store_world import CHAT, FLEET, LIVE_S, MAX_ATTEMPTS, OVER_S, TWINS, WEB, instance_of, node_states
from tests.fakes.worker_world import WorkerWorld, worker_world
from tests.waiting import until

RUN_ZERO_S = 1_600_000_000.0
SETTINGS = LcSettings(max_in_flight=8, settle_every_s=0.001, timeout_targets=10.0, timeout_min_s=1.0)
LEASE = LeaseSettings(execution_s=LIVE_S)
C1_N1 = 0
"""Row of the snapshot's nodes to which these tests dispatch."""
C1_NODES = node_states(FLEET.clusters[0])

NO_CALLERS: Any = None
"""Of no use without callers; `tests/integration/test_served_callers.py` has some."""

Make = Callable[..., LcExecutor]


@pytest.fixture
def world() -> WorkerWorld:
    """In memory."""
    return worker_world()


@pytest.fixture
def calls() -> ScriptedCalls:
    """Instances that serve everything from second 3 to 4 of the run."""
    return ScriptedCalls(Served(started_at_s=RUN_ZERO_S + 3.0, finished_at_s=RUN_ZERO_S + 4.0))


@pytest.fixture
def make(world: WorkerWorld, calls: ScriptedCalls) -> Iterator[Make]:
    """Makes executors, which end with the test."""
    made: list[LcExecutor] = []

    def make(
        *,
        settings: LcSettings = SETTINGS,
        lease: LeaseSettings = LEASE,
        requests: LcRequests | None = None,
        fleet: JournalFleet | None = None,
        publisher: RecordingPublisher | None = None,
        max_age_s: float = 0.5,
        run_zero_s: Callable[[int], float] = lambda run_id: RUN_ZERO_S,
        calls_of: Callable[[], InstanceCalls] = lambda: calls,
        health: NodeHealth | None = None,
        margin: AnswerMargin | None = None,
    ) -> LcExecutor:
        executor = LcExecutor(
            requests=requests or world.journal,
            reach=InstanceReach(
                directory=InstanceDirectory(fleet or world.journal, max_age_s=max_age_s),
                calls=calls_of,
                health=health or NodeHealth(OutlierSettings()),
                margin=margin or AnswerMargin(),
            ),
            publisher=publisher or world.publisher,
            run_zero_s=run_zero_s,
            callers=ServeCallers(NO_CALLERS, NO_CALLERS, CallSettings()),
            owner="worker-1",
            settings=settings,
            lease=lease,
        )
        made.append(executor)
        return executor

    yield make
    calls.holding = False
    calls.let_go()
    for executor in made:
        executor.close(timeout_s=1.0)


def dispatched(world: WorkerWorld, count: int, *, epochs: int = 1) -> int:
    """A run of WEB requests that wait for execution at c1, after some epochs that came to nothing."""
    run_id = world.released(*[WEB] * count)
    for _ in range(epochs - 1):
        world.dispatch(run_id, range(count), node=C1_N1, lease_s=OVER_S)
        world.journal.requeue_expired(limit=count)
    world.dispatch(run_id, range(count), node=C1_N1)
    return run_id


def execute(executor: LcExecutor, run_id: int, request_ids: Sequence[int], *, epoch: int = 1) -> int:
    """As the task of `exec.c1` does."""
    return executor.execute(run_id, request_ids, [epoch] * len(request_ids))


# ---- a call and its end ------------------------------------------------------------------------------------------------


def test_a_served_request_is_settled_with_its_start_and_finish(world: WorkerWorld, make: Make) -> None:
    """The start is the instance's, the finish is when the answer was here: both counted from the run's zero."""
    run_id = dispatched(world, 1)
    executor = make()
    before_s = time.time()

    claimed = execute(executor, run_id, [0])

    until(lambda: world.states(run_id) == ["succeeded"])
    row = world.row(run_id, 0)
    assert claimed == 1
    assert row.started_s == 3.0
    assert before_s <= RUN_ZERO_S + row.finished_s <= time.time()
    assert world.attempts(run_id) == [(0, 1, "succeeded", "")]
    assert executor.in_flight == 0


def test_an_answer_that_comes_late_widens_the_margin(world: WorkerWorld, make: Make) -> None:
    """Of a request that was planned here; of one that another process planned it is not known when it was expected."""
    run_id = world.released(WEB, WEB)
    planned, margin = world.start(run_id, [0], owner="worker-1").started, AnswerMargin()
    world.dispatch(run_id, [1])
    executor = make(margin=margin)

    execute(executor, run_id, [1])
    until(lambda: world.states(run_id)[1] == "succeeded")
    unknown_s = margin.seconds((WEB,))[0]
    executor.start(planned, reserved=executor.reserve(1))
    until(lambda: world.states(run_id)[0] == "succeeded")

    assert unknown_s == 0.0
    assert margin.seconds((WEB,))[0] > 0.0


def test_a_call_goes_to_the_planned_node_with_its_services_payload(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """The instance is one of the request's service on the node that dispatch chose."""
    run_id = dispatched(world, 1)

    execute(make(), run_id, [0])

    until(lambda: len(calls.calls) == 1)
    [call] = calls.calls
    assert (call.instance.pod, call.work.request_id) == ("lc-web-c1-n1-0", 0)
    assert call.payload_kib == WEB.payload_kib


@pytest.mark.parametrize(("node", "cluster", "address"), [(0, "c1", "10.0.0.1"), (2, "c2", "10.0.1.1")])
def test_of_two_nodes_of_one_name_the_planned_clusters_serves(
    make: Make, calls: ScriptedCalls, node: int, cluster: str, address: str
) -> None:
    """Clusters made from one template have nodes and pods of the same names: the call goes to the address in the planned one."""
    world = worker_world(TWINS)
    run_id = world.released(*[WEB] * 4)
    world.dispatch(run_id, range(4), node=node)

    make(requests=world.journal, fleet=world.journal).execute(run_id, range(4), [1] * 4)

    until(lambda: len(calls.calls) == 4)
    assert {call.work.node for call in calls.calls} == {NodeKey(cluster, "n1")}
    assert {(call.instance.pod, call.instance.pod_ip) for call in calls.calls} == {("lc-web-n1-0", address)}


@pytest.mark.parametrize(("least_s", "timeout_s"), [(1.0, 5.0), (7.0, 7.0)])
def test_a_call_is_given_up_after_ten_targets_and_not_before_a_least_time(
    world: WorkerWorld, make: Make, calls: ScriptedCalls, least_s: float, timeout_s: float
) -> None:
    """The target here is half a second: ten of them, unless the least time is longer."""
    run_id = dispatched(world, 1)

    execute(make(settings=replace(SETTINGS, timeout_min_s=least_s)), run_id, [0])

    until(lambda: len(calls.calls) == 1)
    assert calls.calls[0].timeout_s == timeout_s


def test_ready_instances_of_a_node_take_turns(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """Four requests over two ready instances go two each, and none to the one that is not ready."""
    instances = [instance_of(WEB, "c1-n1", k=k, ready=k != 1) for k in range(3)]
    world.journal.observe(C1_NODES, instances)
    run_id = dispatched(world, 4)

    execute(make(), run_id, range(4))

    until(lambda: len(calls.calls) == 4)
    assert sorted(call.instance.pod for call in calls.calls) == ["lc-web-c1-n1-0"] * 2 + ["lc-web-c1-n1-2"] * 2


def test_a_timed_out_call_fails_its_request_for_good(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """It has missed its target in any case, and a further attempt would only add load."""
    run_id = dispatched(world, 1)
    calls.failures[0] = InstanceFailed("no answer", reason=str(Reason.TIMED_OUT))

    execute(make(), run_id, [0])

    until(lambda: world.states(run_id) == ["failed"])
    assert world.attempts(run_id) == [(0, 1, "failed", "timed-out")]


@pytest.mark.parametrize("reason", [Reason.INSTANCE_UNREACHABLE, Reason.INSTANCE_REFUSED])
def test_an_instance_that_fails_sends_its_request_back(
    world: WorkerWorld, make: Make, calls: ScriptedCalls, reason: Reason
) -> None:
    """Unreachable or refused: the request is released again under its epoch, with the reason; others are not touched."""
    run_id = dispatched(world, 2)
    calls.failures[1] = InstanceFailed("no", reason=str(reason))

    execute(make(), run_id, [0, 1])

    until(lambda: world.states(run_id) == ["succeeded", "released"])
    assert world.attempts(run_id)[1] == (1, 1, "requeued", str(reason))


def test_without_a_ready_instance_the_request_goes_back(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """Nobody is called, and the reason says why."""
    world.journal.observe(C1_NODES, [])
    run_id = dispatched(world, 1)

    execute(make(), run_id, [0])

    until(lambda: world.states(run_id) == ["released"])
    assert world.attempts(run_id) == [(0, 1, "returned", "no-instance")]
    assert (world.row(run_id, 0).attempt, calls.calls) == (0, [])


@pytest.mark.parametrize("how", ["leaves", "left"])
def test_a_request_on_an_instance_that_is_taken_away_goes_elsewhere_at_no_cost(
    world: WorkerWorld, make: Make, calls: ScriptedCalls, how: str
) -> None:
    """Drained, preempted, deleted: its agent tells that a moment after the call has broken. It is announced again as any other."""
    there = instance_of(WEB, "c1-n1")
    world.journal.observe(C1_NODES, [there])
    run_id = dispatched(world, 1)
    calls.failures[0] = InstanceFailed("reset", reason=str(Reason.INSTANCE_UNREACHABLE))
    calls.holding = True
    executor = make(publisher=(publisher := RecordingPublisher(time.monotonic)))

    execute(executor, run_id, [0])
    until(lambda: bool(calls.calls))
    calls.holding = False
    world.journal.observe(C1_NODES, [replace(there, ready=False, leaving=True)] if how == "leaves" else [])
    calls.let_go()

    until(lambda: world.states(run_id) == ["released"])
    assert world.attempts(run_id) == [(0, 1, "returned", "instance-gone")]
    assert (world.row(run_id, 0).epoch, world.row(run_id, 0).attempt) == (1, 0)
    until(lambda: publisher.request_ids == [0])


def test_a_crash_of_an_instance_costs_an_attempt(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """It is there and not ready: perhaps the request itself has brought it down, and must not do so for ever."""
    there = instance_of(WEB, "c1-n1")
    world.journal.observe(C1_NODES, [there])
    run_id = dispatched(world, 1)
    calls.failures[0] = InstanceFailed("reset", reason=str(Reason.INSTANCE_UNREACHABLE))
    calls.holding = True

    execute(make(), run_id, [0])
    until(lambda: bool(calls.calls))
    calls.holding = False
    world.journal.observe(C1_NODES, [replace(there, ready=False, restarts=1)])
    calls.let_go()

    until(lambda: world.states(run_id) == ["released"])
    assert world.attempts(run_id) == [(0, 1, "requeued", "instance-unreachable")]


def test_many_calls_that_fail_together_look_at_the_instances_once_each_time(
    world: WorkerWorld, make: Make, calls: ScriptedCalls
) -> None:
    """When a node dies there are hundreds: each by itself would read the journal some times."""
    run_id = dispatched(world, 8)
    calls.failures = {k: InstanceFailed("reset", reason=str(Reason.INSTANCE_UNREACHABLE)) for k in range(8)}
    fleet = Faulty(world.journal)

    execute(make(fleet=fleet), run_id, range(8))

    until(lambda: world.states(run_id) == ["released"] * 8)
    assert 1 < len(fleet.calls_of("instances")) <= 2 + GONE_WITHIN_S / GONE_LOOK_S


def test_a_request_whose_instances_are_always_taken_away_has_its_attempts_in_the_end(
    world: WorkerWorld, make: Make, calls: ScriptedCalls
) -> None:
    """So that nothing goes round for ever; until then each loop costs it an epoch and no attempt."""
    world.journal.observe(C1_NODES, [])
    run_id = dispatched(world, 1)
    executor = make()

    for epoch in range(1, FREE_EPOCHS + MAX_ATTEMPTS + 1):
        execute(executor, run_id, [0], epoch=epoch)
        until(lambda: world.states(run_id)[0] in ("released", "failed"))
        world.dispatch(run_id, [0], node=C1_N1)

    assert world.states(run_id) == ["failed"]
    assert world.row(run_id, 0).epoch == FREE_EPOCHS + MAX_ATTEMPTS


def test_a_call_that_breaks_still_ends(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """A defect of ours must not leave a row without an end, nor keep its place."""
    run_id = dispatched(world, 1)
    calls.failures[0] = ZeroDivisionError("a defect")
    executor = make(settings=replace(SETTINGS, max_in_flight=1))

    execute(executor, run_id, [0])

    until(lambda: world.states(run_id) == ["released"])
    assert world.attempts(run_id) == [(0, 1, "requeued", "instance-unreachable")]
    assert executor.reserve(1) == 1


def test_a_requeued_request_is_published_again_after_a_pause(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """A first failure is announced to its entry cluster about a tenth of a second later, as LC of its service; a success is not.

    The pause is the executor's own, so that this test waits for it; others only look at the row.
    """
    run_id = dispatched(world, 5)
    calls.failures = {k: InstanceFailed("no", reason=str(Reason.INSTANCE_UNREACHABLE)) for k in range(4)}
    publisher = RecordingPublisher(time.monotonic)
    begun_s = time.monotonic()

    execute(make(publisher=publisher), run_id, range(5))

    until(lambda: world.states(run_id) == ["released"] * 4 + ["succeeded"])
    longest_until_s = time.monotonic() + 1.3 * PAUSES_S[0]
    until(lambda: time.monotonic() > longest_until_s and len(publisher.request_ids) >= 4)
    lc = int(ServiceClass.LC)
    homes = {
        request_id: (b.run_id, b.cluster, b.service, b.service_class) for b in publisher.batches for request_id in b.request_ids
    }
    assert homes == {k: (run_id, "c1", "web", lc) for k in range(4)}
    assert publisher.announced[0][0] - begun_s >= 0.7 * PAUSES_S[0]


def test_a_request_out_of_attempts_leaves_the_executor_working(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """After its third failure it is dead-lettered and has no pause any more; what comes after it is served as ever."""
    lost, served = dispatched(world, 1, epochs=3), dispatched(world, 2)
    calls.failures[0] = InstanceFailed("no", reason=str(Reason.INSTANCE_UNREACHABLE))
    executor = make()

    execute(executor, lost, [0], epoch=3)
    until(lambda: world.states(lost) == ["failed"])
    execute(executor, served, [1])

    until(lambda: world.states(served)[1] == "succeeded")
    assert world.row(lost, 0).reason == "attempts-exhausted: instance-unreachable"


# ---- nodes that do not answer ------------------------------------------------------------------------------------------


HANGS = OutlierSettings(hang_min_s=0.15, hang_targets=0.0, probe_every_s=0.05, probes_well=1)


def test_what_hangs_on_a_node_goes_back_twice_at_the_most(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """Long before its call would time out; its third attempt waits out its time, so that it does not go through all nodes."""
    first, second = dispatched(world, 2), dispatched(world, 1, epochs=3)
    calls.holding = True
    health = NodeHealth(HANGS)
    executor = make(health=health)
    execute(executor, first, [0, 1])
    execute(executor, second, [0], epoch=3)

    until(lambda: world.states(first) == ["released"] * 2)

    assert [a[2:] for a in world.attempts(first)] == [("requeued", "timed-out")] * 2
    assert world.states(second) == ["running"]
    assert health.share(NodeKey("c1", "c1-n1")) == 0.0
    assert executor.in_flight == 1
    calls.let_go()
    until(lambda: world.states(second) == ["succeeded"])


def test_a_node_that_is_out_is_probed_by_one_of_its_instances(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """And let in again once that answers."""
    run_id = dispatched(world, 3)
    calls.failures = {k: InstanceFailed("no", reason=str(Reason.INSTANCE_UNREACHABLE)) for k in range(3)}
    calls.well = False
    health = NodeHealth(HANGS)
    execute(make(health=health), run_id, range(3))
    until(lambda: len(calls.probes) >= 1)
    while_ill = health.share(NodeKey("c1", "c1-n1"))

    calls.well = True

    until(lambda: health.share(NodeKey("c1", "c1-n1")) > 0.0)
    assert while_ill == 0.0
    assert {probe.node for probe in calls.probes} == {"c1-n1"}


# ---- the journal away ---------------------------------------------------------------------------------------------------


def test_results_wait_while_the_journal_is_away_and_their_process_lives(
    world: WorkerWorld, make: Make, calls: ScriptedCalls
) -> None:
    """An answer that cannot be written is kept while its process lives on, and written once the journal is back, even while stopping.

    The executor waits half a second before it asks the journal again, and so does this test.
    """
    run_id = dispatched(world, 1)
    store = Faulty(world.journal, settle=[StoreUnavailable("away")])
    executor = make(requests=store, lease=LeaseSettings(execution_s=0.006))

    execute(executor, run_id, [0])

    until(lambda: len(store.calls_of("settle")) == 1)
    ended = world.states(run_id), len(store.calls_of("heartbeat"))
    until(lambda: len(store.calls_of("heartbeat")) >= ended[1] + 3)
    executor.close()
    assert ended[0] == ["running"]
    assert world.states(run_id) == ["succeeded"]
    assert world.attempts(run_id) == [(0, 1, "succeeded", "")]


def test_a_process_with_calls_under_way_says_that_it_lives(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """A call may take longer than a lease: one heartbeat for all calls every third of it, also after one that failed, and then no more."""
    run_id = dispatched(world, 2)
    calls.holding = True
    store = Faulty(world.journal, heartbeat=[StoreUnavailable("away")])
    executor = make(requests=store, lease=LeaseSettings(execution_s=0.006))

    execute(executor, run_id, [0, 1])
    until(lambda: len(store.calls_of("heartbeat")) >= 3)
    calls.let_go()
    until(lambda: world.states(run_id) == ["succeeded"] * 2)

    until(lambda: not executor.in_flight)
    time.sleep(0.02)  # one that was on its way
    beats = len(store.calls_of("heartbeat"))
    time.sleep(0.05)
    assert {call.args for call in store.calls_of("heartbeat")} == {("worker-1",)}
    assert len(store.calls_of("heartbeat")) == beats


def test_an_old_directory_is_better_than_none(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """While instances cannot be read, calls go to those that were known before."""
    run_id = dispatched(world, 2)
    fleet = Faulty(world.journal)
    executor = make(fleet=fleet, max_age_s=0.0)
    execute(executor, run_id, [0])
    until(lambda: world.states(run_id)[0] == "succeeded")
    fleet.failures["instances"] = [StoreUnavailable("away")]

    execute(executor, run_id, [1])

    until(lambda: world.states(run_id)[1] == "succeeded")
    assert fleet.failures["instances"] == []


def test_instances_are_read_again_when_the_reading_is_old(world: WorkerWorld) -> None:
    """Within its age a directory is not read twice; beyond it a new instance is found and a lost one forgotten."""
    fleet = Faulty(world.journal)
    young, old = InstanceDirectory(fleet, max_age_s=1000.0), InstanceDirectory(world.journal, max_age_s=0.0)
    for directory in (young, old):
        directory.refresh()
    world.journal.observe(C1_NODES, [instance_of(WEB, "c1-n2", k=7)])

    for directory in (young, old):
        directory.refresh()

    assert len(fleet.calls_of("instances")) == 1
    assert [_pod(young, "c1-n1"), _pod(young, "c1-n2")] == ["lc-web-c1-n1-0", "lc-web-c1-n2-0"]
    assert [_pod(old, "c1-n1"), _pod(old, "c1-n2")] == [None, "lc-web-c1-n2-7"]


def test_a_service_that_is_not_declared_any_more_has_no_payload(world: WorkerWorld) -> None:
    """Its instances may outlive it for a moment; a call to them is only smaller."""
    directory = InstanceDirectory(world.journal)

    directory.refresh()

    assert [directory.payload_kib(name) for name in ("chat", "gone")] == [CHAT.payload_kib, 0.0]


# ---- places ------------------------------------------------------------------------------------------------------------


def test_the_cap_on_calls_under_way_holds_the_message_back(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """With places for two the third row is not even claimed until a call has ended: its message stays with this worker."""
    run_id = dispatched(world, 3)
    calls.holding = True
    executor = make(settings=replace(SETTINGS, max_in_flight=2))
    task = threading.Thread(target=execute, args=(executor, run_id, [0, 1, 2]), daemon=True)

    task.start()
    until(lambda: len(calls.calls) == 2)
    time.sleep(0.005)  # what is held back has the time to come through
    held_back = world.states(run_id), task.is_alive()
    calls.let_go(1)

    until(lambda: len(calls.calls) == 3)
    task.join(timeout=5.0)
    assert held_back == (["running", "running", "dispatched"], True)
    assert not task.is_alive()
    assert executor.in_flight == 2


def test_a_message_that_finds_no_place_in_time_gives_its_slot_back(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """After the lease of the dispatch its rows are the reconciler's; nothing is claimed, and the places are as before."""
    run_id = dispatched(world, 2)
    calls.holding = True
    executor = make(settings=replace(SETTINGS, max_in_flight=1), lease=replace(LEASE, dispatch_s=0.01))
    execute(executor, run_id, [0])

    claimed = execute(executor, run_id, [1])

    assert claimed == 0
    assert world.states(run_id) == ["running", "dispatched"]
    calls.let_go()
    until(lambda: _could_reserve(executor))


def test_an_executor_that_has_ended_says_so_and_takes_nothing(world: WorkerWorld, make: Make) -> None:
    """A message must not wait for places that nobody gives back: neither after a defect at the start nor after the end."""
    run_id = dispatched(world, 1)

    def broken() -> InstanceCalls:
        raise ZeroDivisionError("a defect")

    failed, closed = make(calls_of=broken), make()
    closed.close()

    until(lambda: _has_ended(failed, run_id))
    for executor in (failed, closed):
        with pytest.raises(TangoError, match="restart"):
            execute(executor, run_id, [0])
        executor.start([], reserved=1)  # places that come back late are nobody's
        assert executor.reserve(1) == 0
    assert world.states(run_id) == ["dispatched"]


def test_a_batch_larger_than_all_the_places_is_claimed_in_parts(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """A quarter of the places at a time, so that no batch waits for a worker that is empty; every request is served."""
    run_id = dispatched(world, 10)
    store = Faulty(world.journal)
    executor = make(requests=store, settings=replace(SETTINGS, max_in_flight=8))

    claimed = execute(executor, run_id, range(10))

    until(lambda: world.states(run_id) == ["succeeded"] * 10)
    assert claimed == 10
    assert [len(call.args[2]) for call in store.calls_of("claim_execution")] == [2] * 5


def test_what_cannot_be_claimed_takes_no_place(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """A message of an epoch that has moved on claims nothing, calls nobody, and leaves all places free."""
    run_id = dispatched(world, 2)
    executor = make(settings=replace(SETTINGS, max_in_flight=2))

    claimed = execute(executor, run_id, [0, 1], epoch=7)

    assert (claimed, executor.reserve(5)) == (0, 2)
    assert calls.calls == []


def test_a_claim_that_fails_gives_its_places_back(world: WorkerWorld, make: Make) -> None:
    """The store is away: the task fails and comes again, and the worker is as empty as before."""
    run_id = dispatched(world, 2)
    away = Faulty(world.journal, claim_execution=[StoreUnavailable("away")])
    executor = make(requests=away, settings=replace(SETTINGS, max_in_flight=8))

    with pytest.raises(StoreUnavailable):
        execute(executor, run_id, [0, 1])

    assert executor.reserve(100) == 8


def test_a_reservation_is_what_there_is_without_waiting(make: Make) -> None:
    """The dispatcher asks for ten places, then for more; it gets what is free, and at last nothing."""
    executor = make(settings=replace(SETTINGS, max_in_flight=12))

    assert [executor.reserve(10), executor.reserve(10), executor.reserve(10)] == [10, 2, 0]


def test_unused_reservation_is_free_again_and_used_one_when_its_call_ends(
    world: WorkerWorld, make: Make, calls: ScriptedCalls
) -> None:
    """Of three reserved places one is used: two are free at once, the third after the answer."""
    run_id = dispatched(world, 1)
    calls.holding = True
    executor = make(settings=replace(SETTINGS, max_in_flight=3))
    works = _claimed(world, run_id)
    reserved = executor.reserve(3)

    executor.start(works, reserved=reserved)
    until(lambda: len(calls.calls) == 1)
    meanwhile = executor.reserve(3)
    executor.start([], reserved=meanwhile)
    calls.let_go()

    until(lambda: executor.in_flight == 0)
    assert (reserved, meanwhile) == (3, 2)
    until(lambda: executor.reserve(3) == 3)


def test_nothing_is_reserved_while_a_message_waits_for_places(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """Who waits comes first: else the dispatcher, which never waits, could take every place that becomes free."""
    run_id = dispatched(world, 8)
    calls.holding = True
    executor = make(settings=replace(SETTINGS, max_in_flight=8))
    kept = executor.reserve(7)
    task = threading.Thread(target=execute, args=(executor, run_id, range(8)), daemon=True)

    task.start()
    until(lambda: not _could_reserve(executor))
    executor.start([], reserved=kept)

    task.join(timeout=5.0)
    until(lambda: executor.in_flight == 8)
    assert not task.is_alive()


def test_closing_waits_for_the_calls_under_way(world: WorkerWorld, make: Make, calls: ScriptedCalls) -> None:
    """A worker that stops lets its calls end and settles them before it drops the connections."""
    run_id = dispatched(world, 2)
    calls.holding = True
    executor = make()
    execute(executor, run_id, [0, 1])
    until(lambda: len(calls.calls) == 2)
    closing = threading.Thread(target=executor.close, daemon=True)

    closing.start()
    calls.let_go()
    closing.join(timeout=5.0)

    assert not closing.is_alive()
    assert world.states(run_id) == ["succeeded", "succeeded"]
    assert calls.closed


def test_closing_waits_for_calls_that_have_just_been_started(world: WorkerWorld, make: Make) -> None:
    """What was claimed counts as under way at once, before its event loop has seen it."""
    for _ in range(20):
        run_id = dispatched(world, 1)
        executor = make()

        execute(executor, run_id, [0])
        executor.close(timeout_s=5.0)

        assert world.states(run_id) == ["succeeded"]


# ---- a store that refuses, and defects -----------------------------------------------------------------------------------

BREAKS = pytest.mark.parametrize("error", [StoreError("refused"), ZeroDivisionError("a defect")], ids=["refused", "defect"])


@BREAKS
def test_results_that_cannot_be_settled_do_not_end_the_executor(world: WorkerWorld, make: Make, error: Exception) -> None:
    """The group is left to its leases and counted; what comes after it is settled."""
    run_id = dispatched(world, 2)
    store = Faulty(world.journal, settle=[error])
    executor = make(requests=store)
    execute(executor, run_id, [0])
    until(lambda: len(store.calls_of("settle")) == 1)

    execute(executor, run_id, [1])

    until(lambda: world.states(run_id)[1] == "succeeded")
    assert world.states(run_id)[0] == "running"
    assert executor.broken == 1


@BREAKS
def test_a_heartbeat_that_fails_does_not_end_them(world: WorkerWorld, make: Make, calls: ScriptedCalls, error: Exception) -> None:
    """The next third of the lease brings the next one."""
    run_id = dispatched(world, 1)
    calls.holding = True
    store = Faulty(world.journal, heartbeat=[error])
    executor = make(requests=store, lease=LeaseSettings(execution_s=0.006))

    execute(executor, run_id, [0])

    until(lambda: len(store.calls_of("heartbeat")) >= 2)
    assert world.states(run_id) == ["running"]
    assert executor.broken == 1


@BREAKS
def test_a_reading_of_the_instances_that_fails_keeps_no_place(world: WorkerWorld, make: Make, error: Exception) -> None:
    """With nothing known of instances the request goes back, and its place is free again."""
    run_id = dispatched(world, 1)
    fleet = Faulty(world.journal, instances=[error])
    executor = make(fleet=fleet, settings=replace(SETTINGS, max_in_flight=1))

    execute(executor, run_id, [0])

    until(lambda: _could_reserve(executor))
    until(lambda: len(world.attempts(run_id)) == 1)
    assert world.attempts(run_id) == [(0, 1, "returned", str(Reason.NO_INSTANCE))]


def test_a_served_request_waits_for_its_runs_zero_and_is_not_served_again(world: WorkerWorld, make: Make) -> None:
    """While the journal is away the result is kept; its times are those of the service, not of the waiting."""
    run_id = dispatched(world, 1)
    away = [StoreUnavailable("away")]

    def run_zero_s(run_id: int) -> float:
        if away:
            raise away.pop()
        return RUN_ZERO_S

    before_s = time.time()
    execute(make(run_zero_s=run_zero_s), run_id, [0])

    until(lambda: world.states(run_id) == ["succeeded"])
    finished_s = world.row(run_id, 0).finished_s
    assert finished_s is not None
    assert finished_s - (before_s - RUN_ZERO_S) < 0.4
    assert world.attempts(run_id) == [(0, 1, "succeeded", "")]


def _pod(directory: InstanceDirectory, node: str) -> str | None:
    found = directory.pick("web", NodeKey("c1", node))
    return found.pod if found else None


def _could_reserve(executor: LcExecutor) -> bool:
    reserved = executor.reserve(1)
    executor.start([], reserved=reserved)
    return reserved == 1


def _has_ended(executor: LcExecutor, run_id: int) -> bool:
    """Whether it refuses a message; one of an old epoch, which claims nothing."""
    try:
        execute(executor, run_id, [0], epoch=7)
    except TangoError:
        return True
    return False


def _claimed(world: WorkerWorld, run_id: int) -> list[LcWork]:
    return world.journal.claim_execution(run_id, [0], [1], owner="worker-1", lease_s=LIVE_S)
