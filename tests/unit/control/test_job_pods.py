"""The agent's care for pods of jobs: logs before the row, the row before the deletion, and pods that nobody wants."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tango.control.job_pods import JobPods
from tango.domain.identity import RequestKey
from tango.domain.job_waiting import waiting_words
from tango.domain.jobs import LOG_TAIL_BYTES, NewJob
from tango.domain.requests import Reason
from tango.errors import NotFound, StoreUnavailable
from tango.ports.jobs import JobStore
from tango.settings import JobSettings
from tests.fakes.cluster_watch import MemoryCluster
from tests.fakes.control_world import ControlWorld
from tests.fakes.faulty import Faulty
from tests.fakes.store_world import BATCH, ZERO_S, requeue
from tests.unit.control.test_observe_jobs import container, evicted, job_pod, over

Json = dict[str, Any]
RUNS = {"phase": "Running", "containerStatuses": [{"name": "main", "state": {"running": {"startedAt": "2026-11-29T10:00:00Z"}}}]}


@pytest.fixture
def cluster() -> MemoryCluster:
    """c1."""
    return MemoryCluster()


class Kept(list[tuple[str, bool]]):
    """(uid, whether it is gone) of pods whose end the store has."""

    def note(self, uid: str, pod: Any, is_gone: bool) -> None:
        """As the agent is told."""
        self.append((uid, is_gone))


def pods_of(world: ControlWorld, cluster: MemoryCluster, kept: Kept, *, jobs: JobStore | None = None) -> JobPods:
    """Of c1's agent."""
    return JobPods(
        "c1",
        cluster,
        jobs or world.jobs,
        world.clock,
        JobSettings(image_within_s=100.0),
        run_zero_s=lambda run_id: ZERO_S,
        store_turn=asyncio.Lock(),
        is_settled=kept.note,
    )


def placed(world: ControlWorld, key: str = "k") -> RequestKey:
    """A job that was given to c1-n1."""
    job = world.jobs.submit(NewJob(service=BATCH.name, key=key)).key
    world.admit(job.run_id, [job.request_id])
    world.place(world.requests.pending_be(limit=1), world.fence())
    return job


def of(job: RequestKey, status: Json, *, epoch: int = 1, **metadata: Any) -> Json:
    """The job's pod."""
    pod = job_pod(status, **metadata)
    pod["metadata"]["name"] = pod["metadata"]["uid"] = f"pod-{job}-{epoch}"
    pod["metadata"]["labels"] |= {"tango/run": str(job.run_id), "tango/request": str(job.request_id), "tango/epoch": str(epoch)}
    return pod


async def test_log_and_exit_code_are_kept_before_the_pod_may_go(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Of a log of any length the end; the pod is handed back for deletion only then."""
    job, kept = placed(world), Kept()
    cluster.logs[f"pod-{job}-1", "main"] = b"x" * LOG_TAIL_BYTES + b"the end"
    pods = pods_of(world, cluster, kept)

    told = [pods.on_pod(of(job, RUNS), deleted=False), pods.on_pod(of(job, over(3)), deleted=False)]
    before = list(kept)
    await pods.settle()

    [(epoch, log)] = world.jobs.log(job)
    assert (told, before, kept) == ([False, True], [], [(f"pod-{job}-1", False)])
    assert (epoch, len(log.tail), log.tail[-7:], log.is_whole) == (1, LOG_TAIL_BYTES, b"the end", False)
    assert (world.jobs.job(job).state, world.jobs.job(job).exit_code) == ("failed", 3)


async def test_while_the_centre_is_away_nothing_is_handed_back_and_no_log_is_read_twice(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """When it is back the end is settled."""
    job, kept = placed(world), Kept()
    away = Faulty(world.jobs, end=[StoreUnavailable("away")] * 2)
    pods = pods_of(world, cluster, kept, jobs=away)  # type: ignore[arg-type]
    pods.on_pod(of(job, over(0)), deleted=False)

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await pods.settle()
    during = (list(kept), pods.has_ended_pods)
    await pods.settle()

    assert during == ([], True)
    assert kept == [(f"pod-{job}-1", False)]
    assert len(cluster.read_logs) == 1
    assert world.jobs.job(job).state == "succeeded"


async def test_a_log_that_cannot_be_read_keeps_no_job_from_ending(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Its node may be gone."""
    job, kept = placed(world), Kept()
    cluster.logs[f"pod-{job}-1", "main"] = NotFound("no log")
    pods = pods_of(world, cluster, kept)

    pods.on_pod(of(job, over(0)), deleted=False)
    await pods.settle()

    assert (world.jobs.job(job).state, world.jobs.log(job)) == ("succeeded", [])


async def test_the_last_words_of_a_pod_that_is_asked_to_go_are_read_while_it_goes(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """When it has vanished there is nothing left to read; its job goes back and its log is there."""
    job, kept = placed(world), Kept()
    cluster.logs[f"pod-{job}-1", "main"] = b"state saved"
    going = {"deletionTimestamp": "2026-11-29T10:00:50Z", "deletionGracePeriodSeconds": 20}
    pods = pods_of(world, cluster, kept)

    pods.on_pod(of(job, {**RUNS, "conditions": evicted("2026-11-29T10:00:30Z")}, **going), deleted=False)
    await asyncio.sleep(0)
    pods.on_pod(of(job, over(0, conditions=evicted("2026-11-29T10:00:30Z")), **going), deleted=True)
    await pods.settle()

    assert cluster.read_logs == [(f"pod-{job}-1", "main", True)]
    assert [log.tail for _, log in world.jobs.log(job)] == [b"state saved"]
    assert (world.jobs.job(job).state, world.jobs.job(job).reason) == ("pending", "evicted")
    assert kept == [(f"pod-{job}-1", True)]


async def test_pods_that_nobody_wants_are_deleted_with_their_grace(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Of a withdrawn job, and of an older epoch; the one in flight stays, as one that is going already."""
    withdrawn, again, runs = placed(world, "a"), placed(world, "b"), placed(world, "c")
    world.jobs.withdraw(withdrawn)
    world.requests.settle([requeue(*again, 1)])
    world.place(world.requests.pending_be(limit=1), world.fence())
    for pod in (of(withdrawn, RUNS), of(again, RUNS), of(again, RUNS, epoch=2), of(runs, RUNS)):
        cluster.put_pod(pod)
    cluster.put_pod(of(withdrawn, RUNS, epoch=9, deletionTimestamp="2026-11-29T10:00:50Z"))
    cluster.put_pod(of(withdrawn, over(0), epoch=8))

    await pods_of(world, cluster, Kept()).look()

    assert cluster.deleted == [(f"pod-{withdrawn}-1", False), (f"pod-{again}-1", False)]


async def test_an_image_that_cannot_be_pulled_fails_the_job_after_a_time(world: ControlWorld, cluster: MemoryCluster) -> None:
    """With what Kubernetes says, in its first attempt; before that time it is left alone."""
    job = placed(world)
    waiting = {"name": "main", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    cluster.put_pod(of(job, {"phase": "Pending", "containerStatuses": [waiting]}))
    pods = pods_of(world, cluster, Kept())

    await pods.look()
    world.clock.turn(99.0)
    await pods.look()
    before = (world.jobs.job(job).state, list(cluster.deleted))
    world.clock.turn(1.0)
    await pods.look()

    found = world.jobs.job(job)
    assert before == ("placed", [])
    assert (found.state, found.reason, found.attempts) == ("failed", str(Reason.IMAGE_NOT_PULLED), 1)
    assert found.message == "main: ImagePullBackOff: no such image"
    assert cluster.deleted == [(f"pod-{job}-1", False)]


async def test_why_a_pod_waits_is_told_while_it_waits(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Once it has for two looks: most pods start at once. When it runs nothing of that is left."""
    job, jobs = placed(world), Faulty(world.jobs)
    waiting = {"name": "main", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    pods, found = pods_of(world, cluster, Kept(), jobs=jobs), []  # type: ignore[arg-type]

    for status in (*[{"phase": "Pending", "containerStatuses": [waiting]}] * 3, RUNS, RUNS):
        cluster.put_pod(of(job, status))
        await pods.look()
        found.append(waiting_words(world.jobs.job(job)))

    node = "it waits for node c1/c1-n1 to start its pod"
    assert found == [node, "main: ImagePullBackOff: no such image", "main: ImagePullBackOff: no such image", node, node]
    assert len(jobs.calls_of("note_waiting")) == 2


async def test_what_the_end_of_such_a_pod_tells_later_changes_nothing(world: ControlWorld, cluster: MemoryCluster) -> None:
    """It never ran, so it vanishes."""
    job, kept = placed(world), Kept()
    waiting = {"name": "main", "state": {"waiting": {"reason": "InvalidImageName", "message": "bad"}}}
    pod = cluster.put_pod(of(job, {"phase": "Pending", "containerStatuses": [waiting]}))
    pods = pods_of(world, cluster, kept)

    await pods.look()
    pods.on_pod(pod, deleted=True)
    await pods.settle()

    assert (world.jobs.job(job).state, world.jobs.job(job).message) == ("failed", "main: InvalidImageName: bad")
    assert kept == [(f"pod-{job}-1", True)]


async def test_a_job_is_over_when_its_own_container_is(world: ControlWorld, cluster: MemoryCluster) -> None:
    """The container beside it runs on, and has its log kept all the same."""
    job, kept = placed(world), Kept()
    proxy = {"name": "proxy", "state": {"running": {"startedAt": "2026-11-29T10:00:00Z"}}}
    pod = of(job, {"phase": "Running", "containerStatuses": [proxy, container(0)]}, sidecar=True)
    pods = pods_of(world, cluster, kept)

    pods.on_pod(pod, deleted=False)
    await pods.settle()

    assert world.jobs.job(job).state == "succeeded"
    assert [log.container for _, log in world.jobs.log(job)] == ["main", "proxy"]
    assert kept == [(f"pod-{job}-1", False)]


async def test_a_pod_that_its_kubelet_refused_is_not_asked_for_logs(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Kubelets write statuses of containers that never began, too; the request goes back as any that was refused."""
    job, kept = placed(world), Kept()
    gone = {"name": "main", "state": {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}}
    refused = {"phase": "Failed", "reason": "OutOfcpu", "message": "Pod was rejected", "containerStatuses": [gone]}
    pods = pods_of(world, cluster, kept)

    pods.on_pod(of(job, refused), deleted=False)
    await pods.settle()

    assert cluster.read_logs == []
    assert [(a.outcome, a.reason) for a in world.state.attempts] == [("returned", "out-of-cpu")]
