"""Pod statuses as a kubelet writes them: bodies of strategic merge patches on `pods/status`. Pure functions.

The server merges conditions by type, so those of others (`PodScheduled`, `DisruptionTarget`) stay. Conditions of a resize that is over
are deleted and not set to False, as KEP-1287 demands.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any

from tango.emulation.virtual_kubelet.pod_spec import PodSpec

Json = dict[str, Any]

RESIZE_CONDITIONS = ("PodResizePending", "PodResizeInProgress")
KILLED, TERMINATED = 137, 143
"""Exit codes of a container that SIGKILL or SIGTERM ended: 128 + 9 and 128 + 15."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeState:
    """A resize that is pending or in progress."""

    kind: str
    """The condition's type, one of RESIZE_CONDITIONS."""
    reason: str
    """`Deferred`, `Infeasible`, `Error` or empty."""
    message: str
    generation: int
    """`metadata.generation` of the spec that asks for it."""
    since_s: float
    """Since when it has been so, Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The state of a running pod. Times are Unix seconds."""

    ip: str
    started_s: float
    changed_s: float
    """When `ready` last changed."""
    ready: bool
    restarts: int
    generation: int
    allocated: tuple[Json, ...]
    """Resources of each container that the node has admitted."""
    actual: tuple[Json, ...]
    """Resources of each container that are in effect."""
    resize: ResizeState | None
    was_resized: bool
    """Whether resize conditions may stand on the server, so that those that are over have to be deleted."""
    last: Json | None = None
    """How the life of the container before this one ended, as a status has it under `terminated`."""


def stamp(unix_s: float) -> str:
    """A Unix time as RFC 3339 in whole seconds, the form of metav1.Time."""
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp(unix_s: float) -> str:
    """A Unix time as RFC 3339 with microseconds, the form of metav1.MicroTime, which leases have."""
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def running(spec: PodSpec, state: Running) -> Json:
    """The status of a running pod, with its allocated and actual resources and its resize."""
    started = stamp(state.started_s)
    conditions = [
        *(condition(kind, True, started) for kind in ("PodReadyToStartContainers", "Initialized")),
        *(condition(kind, state.ready, stamp(state.changed_s)) for kind in ("ContainersReady", "Ready")),
    ]
    conditions += resize_conditions(state.resize, was_resized=state.was_resized)
    addresses: Json = {"podIP": state.ip, "podIPs": [{"$patch": "replace"}, {"ip": state.ip}]} if state.ip else {}
    return {
        "phase": "Running",
        "observedGeneration": state.generation,
        "hostIP": "127.0.0.1",
        "startTime": started,
        **addresses,
        "conditions": conditions,
        "containerStatuses": [
            {
                **_container(spec, k, container, restarts=state.restarts, last=state.last),
                "ready": state.ready,
                "started": True,
                "state": {"running": {"startedAt": started}},
                "allocatedResources": state.allocated[k].get("requests") or {},
                "resources": state.actual[k],
            }
            for k, container in enumerate(spec.containers)
        ],
    }


def ended(
    spec: PodSpec, *, started_s: float, finished_s: float, exit_code: int, reason: str, work_done_s: float, generation: int
) -> Json:
    """The status of a pod that has ended; times are Unix seconds.

    The termination message has the work done and the exact times, since a status keeps times in whole seconds only.
    """
    message = {"cpu_work_s": round(work_done_s, 6), "started_s": round(started_s, 6), "finished_s": round(finished_s, 6)}
    return _over(
        spec,
        phase="Succeeded" if exit_code == 0 else "Failed",
        generation=generation,
        started=stamp(started_s),
        finished=stamp(finished_s),
        terminated={"exitCode": exit_code, "reason": reason, "message": json.dumps(message)},
    )


def lost(pod: Json, spec: PodSpec, *, now_s: float) -> Json:
    """The status of a pod that ran when its node went down. How much work it had done is unknown."""
    containers = (pod.get("status") or {}).get("containerStatuses") or [{}]
    started = (containers[0].get("state") or {}).get("running", {}).get("startedAt", stamp(now_s))
    status = _over(
        spec,
        phase="Failed",
        generation=pod["metadata"].get("generation", 1),
        started=started,
        finished=stamp(now_s),
        terminated={
            "exitCode": KILLED,
            "reason": "ContainerStatusUnknown",
            "message": "The container could not be located when the pod was terminated",
        },
    )
    return {**status, "reason": "NodeLost", "message": "The node was restarted while the pod ran"}


def refused(reason: str, message: str, *, now_s: float, generation: int) -> Json:
    """The status of a pod that the kubelet has not admitted."""
    return {
        "phase": "Failed",
        "observedGeneration": generation,
        "reason": reason,
        "message": f"Pod was rejected: {message}",
        "startTime": stamp(now_s),
    }


def waiting(spec: PodSpec, reason: str, message: str, *, restarts: int, generation: int, last: Json | None = None) -> Json:
    """The status of a pod whose container cannot be started now; the kubelet tries again. `last` as of `Running`: it has run before."""
    gone = last["finishedAt"] if last else ""
    return {
        "phase": "Running" if last else "Pending",
        "observedGeneration": generation,
        "hostIP": "127.0.0.1",
        **({"conditions": [condition(kind, False, gone) for kind in ("ContainersReady", "Ready")]} if last else {}),
        "containerStatuses": [
            {
                **_container(spec, k, container, restarts=restarts, last=last),
                "ready": False,
                "started": False,
                "state": {"waiting": {"reason": reason, "message": message}},
            }
            for k, container in enumerate(spec.containers)
        ],
    }


def _over(spec: PodSpec, *, phase: str, generation: int, started: str, finished: str, terminated: Json) -> Json:
    reason = "PodCompleted" if phase == "Succeeded" else "PodFailed"
    return {
        "phase": phase,
        "observedGeneration": generation,
        "startTime": started,
        "conditions": [{**condition(kind, False, finished), "reason": reason} for kind in ("ContainersReady", "Ready")],
        "containerStatuses": [
            {
                **_container(spec, k, container, restarts=0),
                "ready": False,
                "started": False,
                "state": {"terminated": {**terminated, "startedAt": started, "finishedAt": finished}},
            }
            for k, container in enumerate(spec.containers)
        ],
    }


def killed_for_memory(*, started_s: float, finished_s: float) -> Json:
    """How a life of a container ended that held more than its limit, as a status has it under `terminated`. Times are Unix seconds."""
    return {"exitCode": KILLED, "reason": "OOMKilled", "startedAt": stamp(started_s), "finishedAt": stamp(finished_s)}


def _container(spec: PodSpec, k: int, container: Json, *, restarts: int, last: Json | None = None) -> Json:
    image = container.get("image", "")
    return {
        **({"lastState": {"terminated": last}} if last else {}),
        "name": container["name"],
        "image": image,
        "imageID": image,
        "containerID": f"virtual://{spec.uid}/{k}/{restarts}",
        "restartCount": restarts,
    }


def resize_conditions(resize: ResizeState | None, *, was_resized: bool) -> list[Json]:
    """The condition of a resize that is pending or in progress; those that are over are deleted, where there may be any."""
    over = [kind for kind in RESIZE_CONDITIONS if was_resized and (resize is None or kind != resize.kind)]
    present = [] if resize is None else [_resize_condition(resize)]
    return [*({"$patch": "delete", "type": kind} for kind in over), *present]


def condition(kind: str, holds: bool, since: str) -> Json:
    """A condition of a pod; `since` is when it last changed."""
    return {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": since}


def _resize_condition(resize: ResizeState) -> Json:
    # Reason and message are written even if empty: a merge would keep those of an earlier condition.
    return {
        **condition(resize.kind, True, stamp(resize.since_s)),
        "observedGeneration": resize.generation,
        "reason": resize.reason,
        "message": resize.message,
    }
