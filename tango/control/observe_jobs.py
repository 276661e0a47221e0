"""Turn a job's pod (JSON of the Kubernetes API) into how its attempt ended, and who pays for the next. Pure functions.

One container decides, the service's own: its exit code is the job's. What was done to the pod from outside, an eviction, a deletion or the
loss of its node, is no failure of the job, whatever the container made of it: a process that saves its state on SIGTERM and exits with 0
has not done its work. Only where the container had ended before it was asked to go does its exit code count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from tango.control.observe_cluster import asked_to_go_at_s, be_identity, is_over, main_status, outcome_of, pod_end
from tango.domain.jobs import MESSAGE_BYTES, ContainerEnd, JobEnd, progress_of, work_lost_s
from tango.domain.lifecycle import Event, Outcome
from tango.domain.observations import PodEnd
from tango.domain.pod_marks import JOB
from tango.domain.requests import Reason

Json = Mapping[str, Any]

_NO_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"})
_NEVER_AN_IMAGE = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_NO_CONTAINER = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreStartHookError"})


def is_job(pod: Json) -> bool:
    """Whether it is a pod of a job, by its label."""
    return JOB in (pod["metadata"].get("labels") or {})


def has_ended(pod: Json) -> bool:
    """Whether a job's pod is over, or its own container is: containers beside it may go on for ever."""
    return is_over(pod) or bool(_terminated(main_status(pod)))


def containers_of(pod: Json) -> list[str]:
    """Names of all containers that have begun, init containers first: those that may have a log."""
    begun = {s["name"] for s in _statuses(pod) if "waiting" not in (s.get("state") or {"waiting": {}}) or s.get("lastState")}
    listed = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
    return [c["name"] for c in listed if c["name"] in begun]


def job_end(pod: Json, *, deleted: bool, run_zero_s: float, now_s: float) -> JobEnd | None:
    """How the attempt ended; None for a pod that has not. Logs are not in a pod: they are added by whoever reads them.

    `run_zero_s` and `now_s` are Unix times; `now_s` stands in for an end whose time is unknown.
    """
    ended = {**pod, "status": {**pod["status"], "phase": "Failed"}} if not deleted and has_ended(pod) and not is_over(pod) else pod
    end = pod_end(ended, deleted=deleted)
    if end is None:
        return None
    failed = _decisive(pod)
    terminated = _terminated(failed)
    code, message = terminated.get("exitCode"), _cut(str(terminated.get("message") or ""))
    asked_at_s = asked_to_go_at_s(pod)
    finished_at_s = _unix_s(terminated.get("finishedAt"))
    was_asked = asked_at_s is not None and (finished_at_s is None or finished_at_s >= asked_at_s)
    seen_end = dataclasses.replace(end, phase="Deleted" if was_asked else end.phase)
    system = outcome_of(seen_end, run_zero_s=run_zero_s, now_s=now_s, disruptions_count=True)
    outcome, is_own_fault = system, False
    # Of the whole pod: what its node or a controller did to it. A container that ends by itself leaves it empty.
    of_pod = (pod.get("status") or {}).get("reason", "")
    if of_pod == "DeadlineExceeded":
        outcome = _failed(system, Reason.DEADLINE_EXCEEDED)
    elif code is not None and not was_asked and not of_pod:
        if code == 0:
            outcome = outcome_of(dataclasses.replace(end, phase="Succeeded"), run_zero_s=run_zero_s, now_s=now_s)
        else:
            reason = Reason.OOM_KILLED if terminated.get("reason") == "OOMKilled" else Reason.EXIT_CODE
            outcome, is_own_fault = _failed(system, reason), True
    if outcome.event is not Event.SUCCEED:
        outcome = dataclasses.replace(outcome, work_lost_s=_lost_s(end, message, now_s))
    return JobEnd(
        outcome=outcome,
        is_own_fault=is_own_fault,
        exit_code=code,
        message=message,
        containers=tuple(
            ContainerEnd(name=s["name"], exit_code=t.get("exitCode"), reason=str(t.get("reason") or w.get("reason") or ""))
            for s in _statuses(pod)
            for t, w in [(_terminated(s), (s.get("state") or {}).get("waiting") or {})]
        ),
    )


def stuck(pod: Json) -> tuple[Reason, str, bool] | None:
    """Why a job's pod does not start: (reason, Kubernetes' message, whether waiting cannot help); None for one that may still start."""
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        why = waiting.get("reason", "")
        if why in _NO_IMAGE or why in _NEVER_AN_IMAGE:
            return Reason.IMAGE_NOT_PULLED, f"{status['name']}: {why}: {waiting.get('message', '')}", why in _NEVER_AN_IMAGE
        if why in _NO_CONTAINER:
            return Reason.NEVER_STARTED, f"{status['name']}: {why}: {waiting.get('message', '')}", False
    return None


def waits(pod: Json) -> str:
    """Why a pod has not started, in Kubernetes' words; empty for one that runs, or is about to.

    A container that waits only for its turn or for its image (`PodInitializing`, `ContainerCreating`) is told last: what keeps another one
    is what keeps it.
    """
    if words := crash(pod):
        return words
    if (found := stuck(pod)) is not None:
        return found[1]
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return f"{status['name']}: {waiting['reason']}" + (f": {waiting['message']}" if waiting.get("message") else "")
    return ""


def crash(pod: Json) -> str:
    """What Kubernetes says of a container that ends again and again and is kept from starting for a while; empty for any other pod."""
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") == "CrashLoopBackOff":
            last = (status.get("lastState") or {}).get("terminated") or {}
            ended = f", it ended with {last['exitCode']} ({last.get('reason', '')})" if "exitCode" in last else ""
            return f"{status['name']}: CrashLoopBackOff: {status.get('restartCount', 0)} restarts{ended}"
    return ""


def stuck_end(pod: Json, reason: Reason, message: str) -> JobEnd | None:
    """The end of the attempt of such a pod: final, since another one would fare alike. None for a pod without the labels of a request."""
    identity = be_identity(pod)
    if identity is None:
        return None
    run_id, request_id, epoch = identity
    outcome = Outcome(run_id=run_id, request_id=request_id, epoch=epoch, event=Event.FAIL, reason=reason)
    return JobEnd(outcome=outcome, message=_cut(message))


def _statuses(pod: Json) -> Iterator[Json]:
    status = pod.get("status") or {}
    for key in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(key) or []


def _terminated(status: Json) -> Json:
    found: Json = (status.get("state") or {}).get("terminated") or {}
    return found


def _decisive(pod: Json) -> Json:
    """The status of the container whose exit code counts: the service's, or the init container that kept it from starting."""
    own = main_status(pod)
    if _terminated(own) or not is_over(pod):
        return own
    started = (pod.get("status") or {}).get("initContainerStatuses") or []
    return next((s for s in started if _terminated(s).get("exitCode", 0) != 0), own)


def _failed(outcome: Outcome, reason: Reason) -> Outcome:
    return dataclasses.replace(outcome, event=Event.FAIL, reason=reason, finished_s=None)


def _lost_s(end: PodEnd, message: str, now_s: float) -> float:
    """By what Tango's own workload tells, else by what the job does, else all the time that it ran."""
    if end.cpu_work_done_s is not None:
        return end.cpu_work_done_s
    if end.started_at_s is None:
        return 0.0
    ran_s = max(0.0, (end.finished_at_s if end.finished_at_s is not None else now_s) - end.started_at_s)
    return work_lost_s(progress_of(message), ran_s=ran_s)


def _cut(message: str) -> str:
    return message.encode()[-MESSAGE_BYTES:].decode(errors="ignore")


def _unix_s(stamp: str | None) -> float | None:
    return None if not stamp else datetime.fromisoformat(stamp).timestamp()
