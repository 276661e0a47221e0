"""`JobStore`, on the fake and on PostgreSQL: one row for each key, one end for each attempt, and who pays for a further one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tango.domain.identity import RequestKey
from tango.domain.job_waiting import waiting_words
from tango.domain.jobs import ContainerEnd, ContainerLog, JobEnd, JobPod, NewJob
from tango.domain.lifecycle import Event, Outcome, transition
from tango.domain.pod_templates import canonical_template
from tango.domain.requests import Reason
from tango.domain.runs import Placement
from tango.domain.services import Service, ServiceClass
from tango.errors import KeyTaken, RequestRejected, UsageError
from tests.fakes.be_requests import MOST_JOB_ATTEMPTS
from tests.fakes.store_world import BATCH, FLEET, WEB, StoreWorld, memory_world, postgres_world, requeue

CODE = Service(
    name="transcode",
    service_class=ServiceClass.BE,
    cpu_work_s=5.0,
    memory_mib=256,
    cpu_request_millicores=500,
    cpu_limit_millicores=2000,
    template=canonical_template({"spec": {"containers": [{"name": "main", "image": "transcode:1"}]}}),
    container="main",
)
WITH_TEMPLATE = replace(FLEET, services=(*FLEET.services, CODE))
MOST_MIB = {"transcode": 8192.0, "batch": 8192.0}


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> StoreWorld:
    """One implementation after the other."""
    if request.param == "memory":
        return memory_world(WITH_TEMPLATE)
    return postgres_world(request.getfixturevalue("database_url"), WITH_TEMPLATE)


def _submit(world: StoreWorld, key: str, **asked: object) -> RequestKey:
    return world.jobs.submit(NewJob(**{"service": "transcode", "key": key} | asked)).key  # type: ignore[arg-type]


def _placed(world: StoreWorld, *keys: RequestKey) -> list[Placement]:
    """Those that wait, admitted and given to the first node."""
    for key in keys:
        world.requests.admit_be(key.run_id, [key.request_id], most_memory_mib=MOST_MIB)
    return world.place(world.requests.pending_be(limit=10), world.fence())


def _fail(world: StoreWorld, key: RequestKey, epoch: int, code: int) -> int:
    outcome = Outcome(run_id=key.run_id, request_id=key.request_id, epoch=epoch, event=Event.FAIL, reason=Reason.EXIT_CODE)
    return world.jobs.end([JobEnd(outcome=outcome, is_own_fault=True, exit_code=code)])


def _evict(world: StoreWorld, key: RequestKey, epoch: int) -> int:
    outcome = Outcome(run_id=key.run_id, request_id=key.request_id, epoch=epoch, event=Event.REQUEUE, reason=Reason.EVICTED)
    return world.jobs.end([JobEnd(outcome=outcome)])


def test_a_job_is_a_released_request_of_the_live_run_with_what_it_asks_for(world: StoreWorld) -> None:
    """Everything comes back as it was given."""
    asked = {"command": ("sh",), "args": ("-c", "x y", "ü"), "env": (("MODE", "fast"), ("EMPTY", "")), "deadline_s": 30.0}
    key = _submit(world, "k", cluster="c2", tenant="ana", retries=2, retry_on=(75, 137), priority=3, **asked)

    job = world.jobs.job(key)

    assert {name: getattr(job, name) for name in asked} == asked
    assert (job.state, job.tenant, job.idempotency_key, job.entry_cluster, job.attempts) == ("released", "ana", "k", "c2", 0)
    assert (job.retries, job.retries_used, job.retry_on, job.priority, job.exit_code) == (2, 0, (75, 137), 3, None)
    assert [run.run_id for run in world.runs.active_runs()] == [key.run_id]
    assert world.runs.counts(key.run_id).by_state == {"released": 1}


def test_a_key_is_one_job_for_each_tenant(world: StoreWorld) -> None:
    """The second gets the first one's id, wherever it enters; another tenant has keys of its own."""
    env = (("A", "1"), ("B", "2"))
    first = world.jobs.submit(NewJob(service="transcode", key="k", args=("a",), env=env, cluster="c1", deadline_s=9.5))
    again = world.jobs.submit(NewJob(service="transcode", key="k", args=("a",), env=env[::-1], cluster="c2", deadline_s=9.5))
    other = world.jobs.submit(NewJob(service="batch", key="k", tenant="ana"))

    assert (again.key, again.service, again.is_new, first.is_new, other.is_new) == (first.key, "transcode", False, True, True)
    assert other.key != first.key
    assert [job.key for job in world.jobs.jobs()] == [other.key, first.key]
    assert [job.key for job in world.jobs.jobs(tenant="ana")] == [other.key]


def test_jobs_are_listed_by_service_and_state(world: StoreWorld) -> None:
    """Each narrows the list by itself, and both together."""
    code, plain, gone = _submit(world, "a"), _submit(world, "b", service=BATCH.name), _submit(world, "c")
    world.jobs.withdraw(gone)

    assert {job.key for job in world.jobs.jobs(service="transcode")} == {code, gone}
    assert {job.key for job in world.jobs.jobs(state="released")} == {code, plain}
    assert [job.key for job in world.jobs.jobs(service="transcode", state="cancelled")] == [gone]


@pytest.mark.parametrize(
    "other",
    [
        {"service": BATCH.name},
        {"args": ()},
        {"command": ("sh",)},
        {"env": (("A", "2"),)},
        {"deadline_s": 9.0},
        {"retries": 1},
        {"priority": 1},
    ],
)
def test_a_key_with_other_content_is_refused_and_leaves_the_first_as_it_is(world: StoreWorld, other: dict[str, object]) -> None:
    """Whoever sends it learns which job has the key, and in what they differ."""
    first = _submit(world, "k", env=(("A", "1"),))

    with pytest.raises(KeyTaken, match=rf"key 'k' is taken by job {first}, which has another {next(iter(other))};") as refused:
        _submit(world, "k", **{"env": (("A", "1"),)} | other)

    assert refused.value.first == str(first)
    assert [job.key for job in world.jobs.jobs()] == [first]


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"service": "transcoed"}, UsageError, "no service 'transcoed'.*did you mean"),
        ({"service": WEB.name}, RequestRejected, "is lc, expected be"),
        ({"service": BATCH.name, "args": ("x",)}, RequestRejected, "has no template"),
        ({"service": "transcode", "cluster": "c9"}, UsageError, "no cluster 'c9'"),
    ],
)
def test_what_cannot_run_is_refused_and_leaves_no_row(
    world: StoreWorld, asked: dict[str, object], error: type[Exception], says: str
) -> None:
    """With what was found and what there is."""
    with pytest.raises(error, match=says):
        world.jobs.check(NewJob(key="k", **asked))  # type: ignore[arg-type]
    with pytest.raises(error, match=says):
        world.jobs.submit(NewJob(key="k", **asked))  # type: ignore[arg-type]

    assert world.jobs.jobs() == []


def test_what_a_submission_would_give_is_told_without_one(world: StoreWorld) -> None:
    """For `--dry-run`: a new job, the one that has the key, or who has taken it."""
    new = world.jobs.check(NewJob(service="transcode", key="k"))
    first = _submit(world, "k")
    known = world.jobs.check(NewJob(service="transcode", key="k"))

    assert new is None
    assert known is not None
    assert (known.key, known.is_new) == (first, False)
    with pytest.raises(KeyTaken):
        world.jobs.check(NewJob(service="transcode", key="k", priority=1))
    assert [job.key for job in world.jobs.jobs()] == [first]


def test_a_placement_carries_what_the_pod_has_of_its_own(world: StoreWorld) -> None:
    """With the number of the attempt; a request of a trace carries nothing."""
    key = _submit(world, "k", args=("a",), env=(("A", "b"),), deadline_s=9.0)
    (first,) = _placed(world, key)
    world.requests.settle([requeue(*key, 1, reason=Reason.EVICTED)])
    (second,) = _placed(world)
    of_trace = world.create(BATCH)
    world.release(of_trace)
    world.admit(of_trace, [0])
    (plain,) = _placed(world)

    assert first.job == JobPod(attempt=1, args=("a",), env=(("A", "b"),), deadline_s=9.0)
    assert second.job == replace(first.job, attempt=2)
    assert plain.job is None


def test_a_failure_of_its_own_is_final_where_no_retry_was_asked_for(world: StoreWorld) -> None:
    """With the exit code in its row; told twice, it ends once."""
    key = _submit(world, "k")
    _placed(world, key)

    ended = [_fail(world, key, 1, 3), _fail(world, key, 1, 3)]

    job = world.jobs.job(key)
    assert ended == [1, 0]
    assert (job.state, job.reason, job.exit_code, job.attempts) == ("failed", "exit-code", 3, 1)
    assert job.ended_at_s is not None


def test_retries_are_for_the_exit_codes_that_were_named_and_no_more_than_asked_for(world: StoreWorld) -> None:
    """75 twice with one retry fails; 1 is not among them and fails at once."""
    named = _submit(world, "named", retries=1, retry_on=(75,))
    other = _submit(world, "other", retries=1, retry_on=(75,))
    _placed(world, named, other)

    _fail(world, named, 1, 75)
    _fail(world, other, 1, 1)
    between = world.jobs.job(named)
    _placed(world)
    _fail(world, named, 2, 75)

    assert (between.state, between.retries_used, between.exit_code) == ("pending", 1, 75)
    assert [(j.state, j.retries_used, j.exit_code) for j in (world.jobs.job(named), world.jobs.job(other))] == [
        ("failed", 1, 75),
        ("failed", 0, 1),
    ]


def test_what_the_system_does_costs_no_retry_and_has_a_limit_of_its_own(world: StoreWorld) -> None:
    """Evictions up to that limit, then the one retry beyond it; a request of a trace has the limit of requests."""
    key = _submit(world, "k", retries=1)
    for epoch in range(1, MOST_JOB_ATTEMPTS + 1):
        _placed(world, key)
        _evict(world, key, epoch)
    still = world.jobs.job(key)
    _placed(world, key)
    _evict(world, key, MOST_JOB_ATTEMPTS + 1)

    assert (still.state, still.retries_used) == ("pending", 0)
    assert world.jobs.job(key).state == "failed"
    assert world.jobs.job(key).reason == "attempts-exhausted: evicted"


def test_a_job_ends_after_it_was_submitted_and_has_done_no_more_than_it_can_have(world: StoreWorld) -> None:
    """Kubernetes cuts times to whole seconds; the work that was assumed of its service is not counted where its time was too short."""
    run_id, request_id = _submit(world, "k")
    due_s, assumed_s = world.due_and_work(run_id, request_id)
    _placed(world, RequestKey(run_id, request_id))
    told = Outcome(
        run_id=run_id, request_id=request_id, epoch=1, event=Event.SUCCEED, started_s=due_s - 0.9, finished_s=due_s - 0.9
    )
    world.jobs.end([JobEnd(outcome=told, exit_code=0)])

    (row,) = world.rows(run_id)
    assert (row.started_s, row.finished_s) == (due_s, due_s)
    assert (assumed_s, world.due_and_work(run_id, request_id)) == (5.0, (due_s, 2.0))  # a second, at its limit of two cores


def test_an_end_under_an_older_epoch_is_kept_in_the_log_and_changes_nothing(world: StoreWorld) -> None:
    """The lease of the first attempt ran out and a second is under way when the first one's end is told."""
    key = _submit(world, "k")
    _placed(world, key)
    world.requests.settle([requeue(*key, 1, reason=Reason.LEASE_EXPIRED)])
    _placed(world)
    late = Outcome(run_id=key.run_id, request_id=key.request_id, epoch=1, event=Event.SUCCEED)

    ended = world.jobs.end([JobEnd(outcome=late, exit_code=0, logs=(ContainerLog(container="main", tail=b"one", is_whole=True),))])

    job = world.jobs.job(key)
    assert (ended, job.state, job.exit_code) == (0, "placed", None)
    assert [(epoch, log.tail) for epoch, log in world.jobs.log(key)] == [(1, b"one")]


def test_a_withdrawn_job_is_cancelled_and_its_pod_is_not_wanted(world: StoreWorld) -> None:
    """Before and after it was placed; twice it was not live. What its pod tells at the end is kept."""
    waits, runs = _submit(world, "waits"), _submit(world, "runs")
    _placed(world, runs)
    wanted_before = world.jobs.in_flight([(*runs, 1)])

    withdrawn = [world.jobs.withdraw(key) for key in (waits, runs, runs)]
    told = _fail(world, runs, 1, 143)

    assert withdrawn == [True, True, False]
    assert (wanted_before, world.jobs.in_flight([(*runs, 1)]), told) == ({(*runs, 1)}, set(), 0)
    jobs = [world.jobs.job(key) for key in (waits, runs)]
    assert [(job.state, job.reason, job.exit_code) for job in jobs] == [
        ("cancelled", "cancelled-by-user", None),
        ("cancelled", "cancelled-by-user", 143),
    ]
    assert all(job.ended_at_s is not None for job in jobs)
    assert world.attempts(runs.run_id) == [(runs.request_id, 1, "cancelled", "cancelled-by-user")]


@pytest.mark.parametrize(
    ("steps", "is_live"),
    [((), True), (("admit",), True), (("admit", "place"), True), (("admit", "place", "run"), True)]
    + [(("admit", "place", end), False) for end in ("fail", "succeed")],
)
def test_a_job_can_be_withdrawn_in_every_state_that_the_table_names(
    world: StoreWorld, steps: tuple[str, ...], is_live: bool
) -> None:
    """Whatever is live is cancelled, and what has ended stays as it ended."""
    key = _submit(world, "k")
    of = {"run_id": key.run_id, "request_id": key.request_id, "epoch": 1}
    steps_of = {
        "admit": lambda: world.requests.admit_be(key.run_id, [key.request_id], most_memory_mib=MOST_MIB),
        "place": lambda: world.place(world.requests.pending_be(limit=1), world.fence()),
        "run": lambda: world.requests.mark_running([(*key, 1, 1.0)], lease_s=60.0),
        "fail": lambda: _fail(world, key, 1, 3),
        "succeed": lambda: world.jobs.end([JobEnd(outcome=Outcome(**of, event=Event.SUCCEED, finished_s=1.0))]),  # type: ignore[arg-type]
    }
    for step in steps:
        steps_of[step]()
    before = world.jobs.job(key).state

    withdrawn = world.jobs.withdraw(key)

    expected = transition(Event.WITHDRAW, before, ServiceClass.BE)
    assert withdrawn == is_live == (expected is not None)
    assert world.jobs.job(key).state == ("cancelled" if is_live else before)
    assert len(world.attempts(key.run_id)) == ("place" in steps)


def test_why_a_pod_waits_is_told_of_its_attempt_alone(world: StoreWorld) -> None:
    """While it is placed, and no more once it runs; what is told of an epoch before comes too late."""
    key = _submit(world, "k")
    released = waiting_words(world.jobs.job(key))
    world.requests.admit_be(key.run_id, [key.request_id], most_memory_mib=MOST_MIB)
    pending = waiting_words(world.jobs.job(key))
    _placed(world)
    placed = waiting_words(world.jobs.job(key))
    world.jobs.note_waiting({(*key, 1): "main: ImagePullBackOff: no such image", (key.run_id, 999_999, 1): "of nobody"})
    told = waiting_words(world.jobs.job(key))
    world.jobs.note_waiting({(*key, 1): ""})
    over = waiting_words(world.jobs.job(key))
    world.jobs.note_waiting({(*key, 1): "main: ImagePullBackOff"})
    world.requests.settle([requeue(*key, 1)])
    _placed(world)
    again = waiting_words(world.jobs.job(key))
    world.jobs.note_waiting({(*key, 2): "main: ErrImagePull"})
    world.jobs.note_waiting({(*key, 1): "late"})
    second = waiting_words(world.jobs.job(key))
    world.requests.mark_running([(*key, 2, 1.0)], lease_s=60.0)

    assert (released, pending) == ("it waits for the scheduler to admit it", "it waits for a node with room for it")
    assert placed == over == again
    assert placed.startswith("it waits for node c1/")
    assert (told, second) == ("main: ImagePullBackOff: no such image", "main: ErrImagePull")
    assert waiting_words(world.jobs.job(key)) == ""


def test_only_the_epoch_in_flight_is_wanted(world: StoreWorld) -> None:
    """A pod of an older epoch, and one of a request that nobody knows, are not."""
    key = _submit(world, "k")
    _placed(world, key)
    world.requests.settle([requeue(*key, 1)])
    _placed(world)

    assert world.jobs.in_flight([(*key, 1), (*key, 2), (key.run_id, 999_999, 1)]) == {(*key, 2)}
    assert world.jobs.in_flight([]) == set()


def test_logs_messages_and_containers_are_kept_and_an_earlier_log_stays(world: StoreWorld) -> None:
    """Bytes that are no UTF-8 as they are; the same attempt told again, as after a restart, changes nothing."""
    key = _submit(world, "k")
    _placed(world, key)
    outcome = Outcome(run_id=key.run_id, request_id=key.request_id, epoch=1, event=Event.SUCCEED, started_s=1.0, finished_s=2.0)
    logs = (
        ContainerLog(container="main", tail=b"a\xff\x00\n", is_whole=False),
        ContainerLog(container="proxy", tail=b"", is_whole=True),
    )
    containers = (ContainerEnd(name="main", exit_code=0, reason="Completed"), ContainerEnd(name="proxy", exit_code=None))
    end = JobEnd(outcome=outcome, exit_code=0, message="all\0good", containers=containers, logs=logs)

    ended = [world.jobs.end([end]), world.jobs.end([replace(end, logs=(replace(logs[0], tail=b"other"),))])]

    job = world.jobs.job(key)
    assert ended == [1, 0]
    assert world.jobs.log(key) == [(1, logs[0]), (1, logs[1])]
    assert (job.state, job.exit_code, job.containers) == ("succeeded", 0, containers)
    assert (job.message[:3], job.message[-4:]) == ("all", "good")


def test_old_logs_go_by_age_and_the_oldest_by_size(world: StoreWorld) -> None:
    """Ten bytes each: beyond 25 the oldest goes; beyond no age all go."""
    keys = [_submit(world, str(k)) for k in range(3)]
    _placed(world, *keys)
    for key in keys:
        outcome = Outcome(run_id=key.run_id, request_id=key.request_id, epoch=1, event=Event.SUCCEED, finished_s=1.0)
        world.jobs.end([JobEnd(outcome=outcome, logs=(ContainerLog(container="main", tail=b"x" * 10, is_whole=True),))])

    by_size = world.jobs.drop_logs(older_than_s=1000.0, most_bytes=25)
    left = [len(world.jobs.log(key)) for key in keys]
    by_age = world.jobs.drop_logs(older_than_s=-1.0, most_bytes=25)

    assert (by_size, left, by_age) == (1, [0, 1, 1], 2)
    assert all(world.jobs.log(key) == [] for key in keys)


def test_priority_moves_jobs_within_their_tenant_and_nobody_else(world: StoreWorld) -> None:
    """Ana's third job is her first now; Ben's stay where they were. Of each tenant so many are read."""
    order = [("ana", 0), ("ben", 0), ("ana", 0), ("ben", 0), ("ana", 5)]
    keys = [_submit(world, str(k), tenant=tenant, priority=priority) for k, (tenant, priority) in enumerate(order)]
    for key in keys:
        world.requests.admit_be(key.run_id, [key.request_id], most_memory_mib=MOST_MIB)

    found = [int(k) for k in world.requests.pending_be(limit=10).pending.request_id]
    first = [int(k) for k in world.requests.pending_be(limit=1).pending.request_id]

    assert [keys[k].request_id for k in (4, 1, 0, 3, 2)] == found
    assert [keys[k].request_id for k in (4, 1)] == first


def test_a_deleted_run_takes_its_jobs_and_their_keys_along(world: StoreWorld) -> None:
    """The key is free again then."""
    key = _submit(world, "k")
    world.cancel(key.run_id)

    world.runs.delete(key.run_id)

    assert world.jobs.jobs() == []
    assert world.jobs.submit(NewJob(service="transcode", key="k")).is_new


def test_an_unknown_job_is_named_beside_the_latest_ones(world: StoreWorld) -> None:
    """In each call that names one."""
    key = _submit(world, "k")

    for call in (world.jobs.job, world.jobs.withdraw, world.jobs.log):
        with pytest.raises(UsageError, match=f"there is no job 99-1; the latest: {key}"):
            call(RequestKey(99, 1))
