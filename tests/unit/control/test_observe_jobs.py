"""How a job's attempt ended, read from its pod as the API has it: what the job did itself, and what was done to it."""

from __future__ import annotations

from typing import Any

import pytest

from tango.control.observe_jobs import containers_of, has_ended, is_job, job_end, stuck, stuck_end
from tango.domain.jobs import ContainerEnd, JobEnd
from tango.domain.lifecycle import Event
from tango.domain.requests import Reason

Json = dict[str, Any]
START, END, LATER = "2026-11-29T10:00:00Z", "2026-11-29T10:00:30Z", "2026-11-29T10:00:40Z"
ZERO_S = 1_795_946_000.0
START_S = 1_795_946_400.0
"""START as Unix time."""


def job_pod(status: Json, *, init: bool = False, sidecar: bool = False, **metadata: Any) -> Json:
    """A pod of request 5 of run 3 under epoch 2, whose deciding container is `main`."""
    labels = {
        "app.kubernetes.io/managed-by": "tango",
        "tango/class": "be",
        "tango/service": "transcode",
        **{"tango/run": "3", "tango/request": "5", "tango/epoch": "2", "tango/job": "yes"},
    }
    containers = [*([{"name": "proxy"}] if sidecar else []), {"name": "main"}]
    spec = {"nodeName": "n1", "containers": containers, **({"initContainers": [{"name": "prepare"}]} if init else {})}
    annotations = {"tango/container": "main"}
    return {
        "metadata": {"name": "p", "uid": "u", "labels": labels, "annotations": annotations, **metadata},
        "spec": spec,
        "status": status,
    }


def container(code: int, *, name: str = "main", reason: str = "", message: str = "", at: str = END) -> Json:
    """The status of a container that ran from START."""
    terminated = {"exitCode": code, "reason": reason or ("Error" if code else "Completed"), "startedAt": START, "finishedAt": at}
    return {"name": name, "state": {"terminated": {**terminated, "message": message}}}


def over(code: int, *more: Json, phase: str = "", conditions: list[Json] | None = None, **container_status: Any) -> Json:
    """The status of a pod whose own container ended with this code."""
    found = phase or ("Failed" if code else "Succeeded")
    return {"phase": found, "containerStatuses": [*more, container(code, **container_status)], "conditions": conditions or []}


def evicted(at: str) -> list[Json]:
    """The condition of an eviction through the API."""
    return [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "lastTransitionTime": at}]


def end_of(pod: Json, *, deleted: bool = False) -> JobEnd:
    """It has ended."""
    found = job_end(pod, deleted=deleted, run_zero_s=ZERO_S, now_s=START_S + 60.0)
    assert found is not None
    return found


def test_exit_code_0_is_a_success_with_its_times() -> None:
    """In wall seconds of the run; the message is kept as it is."""
    end = end_of(job_pod(over(0, message="42 frames")))

    assert (end.outcome.event, end.outcome.reason, end.exit_code, end.message) == (Event.SUCCEED, Reason.NONE, 0, "42 frames")
    assert (end.outcome.run_id, end.outcome.request_id, end.outcome.epoch) == (3, 5, 2)
    assert (end.outcome.started_s, end.outcome.finished_s) == (400.0, 430.0)
    assert end.containers == (ContainerEnd(name="main", exit_code=0, reason="Completed"),)
    assert not end.is_own_fault


@pytest.mark.parametrize(
    ("code", "why", "reason"),
    [(1, "Error", Reason.EXIT_CODE), (137, "Error", Reason.EXIT_CODE), (137, "OOMKilled", Reason.OOM_KILLED)],
)
def test_any_other_exit_code_is_its_own_failure(code: int, why: str, reason: Reason) -> None:
    """137 too, unless somebody asked the pod to go; what it ran is lost."""
    end = end_of(job_pod(over(code, reason=why)))

    assert (end.outcome.event, end.outcome.reason, end.exit_code, end.is_own_fault) == (Event.FAIL, reason, code, True)
    assert end.outcome.work_lost_s == 30.0


def test_a_deadline_is_final_whatever_the_exit_code() -> None:
    """No retry is offered for it."""
    end = end_of(job_pod({**over(143), "reason": "DeadlineExceeded"}))

    assert (end.outcome.event, end.outcome.reason, end.is_own_fault) == (Event.FAIL, Reason.DEADLINE_EXCEEDED, False)


@pytest.mark.parametrize("code", [0, 143, 137])
def test_an_evicted_pod_has_not_done_its_work_whatever_its_exit_code(code: int) -> None:
    """A process that saves its state on SIGTERM may well exit with 0."""
    end = end_of(job_pod(over(code, conditions=evicted(START))))

    assert (end.outcome.event, end.outcome.reason, end.exit_code) == (Event.REQUEUE, Reason.EVICTED, code)
    assert end.outcome.finished_s is None


def test_a_deleted_pod_goes_back_too() -> None:
    """By whoever deleted it; the container ended after it was asked to, 30 s of grace before the time that stands there."""
    going = {"deletionTimestamp": LATER, "deletionGracePeriodSeconds": 30}
    end = end_of(job_pod(over(143), **going))
    vanished = end_of(job_pod({"phase": "Running", "containerStatuses": [{"name": "main", "state": {"running": {"startedAt": START}}}]}, **going), deleted=True)  # fmt: skip  # noqa: E501

    assert (end.outcome.event, vanished.outcome.event) == (Event.REQUEUE, Event.REQUEUE)
    assert (end.outcome.reason, vanished.outcome.reason) == (Reason.POD_LOST, Reason.POD_LOST)
    assert vanished.outcome.work_lost_s == 60.0


@pytest.mark.parametrize(("code", "event"), [(0, Event.SUCCEED), (3, Event.FAIL)])
def test_what_had_ended_before_it_was_asked_to_go_counts(code: int, event: Event) -> None:
    """The eviction came too late to matter; in the same second nobody can tell, and it goes back."""
    before = end_of(job_pod(over(code, conditions=evicted(LATER))))
    same_second = end_of(job_pod(over(code, conditions=evicted(END))))

    assert before.outcome.event is event
    assert same_second.outcome.event is Event.REQUEUE


@pytest.mark.parametrize(
    ("why", "event", "reason"),
    [
        ("NodeLost", Event.REQUEUE, Reason.NODE_LOST),
        ("Evicted", Event.REQUEUE, Reason.EVICTED),
        ("OutOfcpu", Event.RETURN, Reason.OUT_OF_CPU),
        ("UnexpectedAdmissionError", Event.RETURN, Reason.NODE_REFUSED),
    ],
)
def test_what_the_node_did_goes_back(why: str, event: Event, reason: Reason) -> None:
    """Lost nodes, evictions by the kubelet; pods that were not admitted cost no attempt."""
    status = over(137) if why in ("NodeLost", "Evicted") else {"phase": "Failed"}
    end = end_of(job_pod({**status, "reason": why}))

    assert (end.outcome.event, end.outcome.reason, end.is_own_fault) == (event, reason, False)


def test_the_service_container_decides_though_others_go_on_or_failed() -> None:
    """A proxy that never ends holds no job; a proxy that failed fails none."""
    goes_on = {"name": "proxy", "state": {"running": {"startedAt": START}}}
    beside_one_that_runs = job_pod(over(0, goes_on, phase="Running"), sidecar=True)
    beside_one_that_failed = job_pod(over(0, container(1, name="proxy"), phase="Failed"), sidecar=True)
    while_it_runs = job_pod(
        {"phase": "Running", "containerStatuses": [container(0, name="proxy"), {"name": "main", "state": {"running": {}}}]},
        sidecar=True,
    )

    assert [end_of(pod).outcome.event for pod in (beside_one_that_runs, beside_one_that_failed)] == [Event.SUCCEED, Event.SUCCEED]
    assert [has_ended(pod) for pod in (beside_one_that_runs, while_it_runs)] == [True, False]
    assert job_end(while_it_runs, deleted=False, run_zero_s=ZERO_S, now_s=START_S) is None


def test_an_init_container_that_failed_decides_where_the_own_one_never_ran() -> None:
    """Its exit code is the job's."""
    waits = {"name": "main", "state": {"waiting": {"reason": "PodInitializing"}}}
    status = {
        "phase": "Failed",
        "initContainerStatuses": [container(7, name="prepare", message="no input")],
        "containerStatuses": [waits],
    }
    end = end_of(job_pod(status, init=True))

    assert (end.outcome.event, end.outcome.reason, end.exit_code, end.message) == (Event.FAIL, Reason.EXIT_CODE, 7, "no input")
    assert end.containers[1] == ContainerEnd(name="main", exit_code=None, reason="PodInitializing")


def test_work_that_was_saved_is_not_lost_on_eviction() -> None:
    """By what the job wrote to its progress file."""
    end = end_of(job_pod(over(143, message='{"saved_s": 25}', conditions=evicted(START))))

    assert end.outcome.work_lost_s == 5.0


def test_only_containers_that_began_have_logs() -> None:
    """One that waits for its first start has none, one that was restarted has."""
    statuses = [
        {"name": "main", "state": {"waiting": {"reason": "PodInitializing"}}},
        {"name": "proxy", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {}}},
    ]
    pod = job_pod({"phase": "Pending", "initContainerStatuses": [container(0, name="prepare")], "containerStatuses": statuses}, init=True, sidecar=True)  # fmt: skip  # noqa: E501

    assert containers_of(pod) == ["prepare", "proxy"]
    assert containers_of(job_pod({"phase": "Pending"})) == []


@pytest.mark.parametrize(
    ("why", "reason", "for_ever"),
    [
        ("ImagePullBackOff", Reason.IMAGE_NOT_PULLED, False),
        ("InvalidImageName", Reason.IMAGE_NOT_PULLED, True),
        ("CreateContainerConfigError", Reason.NEVER_STARTED, False),
        ("ContainerCreating", None, False),
    ],
)
def test_a_pod_that_cannot_start_says_why(why: str, reason: Reason | None, for_ever: bool) -> None:
    """With the container and Kubernetes' own words; its end is final."""
    waiting = {"name": "main", "state": {"waiting": {"reason": why, "message": "no such thing"}}}
    pod = job_pod({"phase": "Pending", "containerStatuses": [waiting]})

    found = stuck(pod)

    assert found == (None if reason is None else (reason, f"main: {why}: no such thing", for_ever))
    if found is not None:
        end = stuck_end(pod, *found[:2])
        assert end is not None
        assert (end.outcome.event, end.outcome.reason, end.is_own_fault, end.message) == (Event.FAIL, reason, False, found[1])


def test_a_job_is_known_by_its_label() -> None:
    """A BE pod of a trace has none."""
    pod = job_pod({})
    plain = {**pod, "metadata": {**pod["metadata"], "labels": {"tango/class": "be"}}}

    assert [is_job(pod), is_job(plain), is_job({"metadata": {}})] == [True, False, False]
