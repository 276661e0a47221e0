"""`LiveRunStore`, and what journals ship of callers' requests, on the fake and on PostgreSQL."""

from __future__ import annotations

import itertools

import pytest

from tango.domain.jobs import NewJob
from tango.domain.requests import RequestState
from tango.domain.runs import LiveUse, RunInfo, RunKind, RunStatus
from tango.domain.shares import AcceptedCopy
from tests.fakes.store_world import StoreWorld, attempt_of, copy_of, memory_world, postgres_world


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> StoreWorld:
    """One implementation after the other."""
    if request.param == "memory":
        return memory_world()
    return postgres_world(request.getfixturevalue("database_url"))


def _let_go(world: StoreWorld, run: RunInfo) -> None:
    """Every journal has let the run go."""
    for share in world.shares.shares(run.run_id):
        world.shares.handed(run.run_id, share.cluster, up_to=share.handed_to, complete=True)


def _accepted(run: RunInfo, request_id: int, state: RequestState = RequestState.RELEASED, *, epoch: int = 0) -> AcceptedCopy:
    return AcceptedCopy(
        copy=copy_of(run.run_id, request_id, state, epoch=epoch),
        service="web",
        due_s=1.0,
        target_s=0.1,
        cpu_work_s=0.02,
        memory_mib=32.0,
        tenant="ana",
    )


def test_a_run_is_open_from_when_somebody_wants_one(world: StoreWorld) -> None:
    """It runs from the beginning and has a share for each cluster; whoever only replays traces has none."""
    before = world.live.turn()
    first = world.live.want()
    again = [world.live.want(), world.live.turn(), world.live.turn()]

    assert before is None
    assert (first.kind, first.status, first.system, first.started_at_s is not None) == (
        RunKind.LIVE,
        RunStatus.RUNNING,
        "tango",
        True,
    )
    assert again == [first] * 3
    shares = world.shares.shares(first.run_id)
    assert [(share.cluster, share.accepted, share.complete) for share in shares] == [("c1", 0, False), ("c2", 0, False)]


def test_a_change_of_the_system_begins_the_next_run(world: StoreWorld) -> None:
    """The same once more changes nothing; a name has the run stand for as many days as it takes."""
    first = world.live.want()
    greedy = world.live.set_use(LiveUse(system="load-greedy"))
    same = world.live.set_use(LiveUse(system="load-greedy"))
    named = world.live.set_use(LiveUse(system="load-greedy", run_name="probe"))

    assert [first.system, greedy.system, named.system] == ["tango", "load-greedy", "load-greedy"]
    assert len({first.run_id, greedy.run_id, named.run_id}) == 3
    assert same == greedy
    assert named.name == "probe"
    assert world.live.turn() == named
    assert world.live.use() == LiveUse(system="load-greedy", run_name="probe")
    assert [world.runs.run(run.run_id).status for run in (first, greedy)] == [RunStatus.DRAINING] * 2


def test_nobody_gets_a_number_twice(world: StoreWorld) -> None:
    """Neither two clusters nor what enters at the centre, a job, whoever asks first."""
    run = world.live.want()
    blocks = [world.live.numbers(run.run_id, "c1"), world.live.numbers(run.run_id, "c2")]
    job = world.jobs.submit(NewJob(service="batch", key="k")).key
    blocks.append(world.live.numbers(run.run_id, "c1"))

    ranges = sorted([*((first, last) for first, last in filter(None, blocks)), (job.request_id, job.request_id)])
    assert job.run_id == run.run_id
    assert len(ranges) == 4
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(ranges))


def test_a_closed_run_gives_no_numbers(world: StoreWorld) -> None:
    """So that nothing is added to it."""
    run = world.live.want()
    world.live.set_use(LiveUse(system="scoring"))

    assert world.live.numbers(run.run_id, "c1") is None


def test_a_closed_run_ends_once_every_journal_has_let_it_go(world: StoreWorld) -> None:
    """Until then a cluster that is away may have accepted something in it."""
    first = world.live.want()
    open_still = world.all_terminal(first.run_id)
    world.live.set_use(LiveUse(system="scoring"))
    closed = world.all_terminal(first.run_id)
    _let_go(world, first)

    assert (open_still, closed, world.all_terminal(first.run_id)) == (False, False, True)


def test_a_run_in_which_nobody_sent_anything_is_forgotten(world: StoreWorld) -> None:
    """Days without callers leave no trace; one with a request stays."""
    empty = world.live.want()
    used = world.live.set_use(LiveUse(system="scoring"))
    world.ship(accepted=[_accepted(used, 0, RequestState.SUCCEEDED, epoch=1)])
    world.runs.fold_counts()
    last = world.live.set_use(LiveUse(system="ceres"))
    for run in (empty, used):
        _let_go(world, run)
        world.runs.set_status(run.run_id, RunStatus.COMPLETED)
    world.live.turn()

    assert [run.run_id for run in world.runs.runs()] == [last.run_id, used.run_id]


def test_what_a_journal_has_accepted_has_a_row_once_it_is_shipped(world: StoreWorld) -> None:
    """In the state of the shipment's end, once, and under its number; later shipments change it like any other."""
    run = world.live.want()
    other = world.live.numbers(run.run_id, "c2")
    assert other is not None
    first = [_accepted(run, 3), _accepted(run, 7, RequestState.SUCCEEDED, epoch=1)]
    shipment = world.shipment(accepted=first, attempts=[attempt_of(run.run_id, 7)])
    positions = [world.shares.apply(shipment), world.shares.apply(shipment)]
    world.ship(copy_of(run.run_id, 3, RequestState.RUNNING))

    share, _ = world.shares.shares(run.run_id)
    assert positions == [2, 2]
    assert [(row.state, row.epoch) for row in world.rows(run.run_id)] == [("running", 1), ("succeeded", 1)]
    assert (share.cluster, share.accepted, share.terminal) == ("c1", 2, 1)
    assert world.attempts(run.run_id) == [(7, 1, "succeeded", "")]
    assert world.runs.counts(run.run_id).by_state == {"running": 1, "succeeded": 1}
