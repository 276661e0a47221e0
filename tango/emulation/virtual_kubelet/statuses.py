"""How a kubelet words the state of pods: bodies of strategic merge patches on `pods/status`. Pure.

Conditions are merged by type, so that what others wrote (`PodScheduled`, `DisruptionTarget`) stays; a condition that is over is
deleted, not set False, where KEP-1287 wants it removed.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeState:
    """Where a resize stands; `kind` is one of RESIZE_CONDITIONS."""

    kind: str
    reason: str
    message: str
    generation: int
    since_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What there is to say of a pod that runs. Times are Unix seconds."""

    ip: str
    started_s: float
    changed_s: float
    """When `ready` last changed."""
    ready: bool
    restarts: int
    generation: int
    allocated: tuple[Json, ...]
    """Resources by container: admitted."""
    actual: tuple[Json, ...]
    """Resources by container: in effect."""
    resize: ResizeState | None
    was_resized: bool
    """Resize conditions may stand on the server, so those that are over are to be deleted."""


def stamp(unix_s: float) -> str:
    """RFC 3339 in whole seconds, as Kubernetes writes times."""
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp(unix_s: float) -> str:
    """RFC 3339 with microseconds, as leases have it."""
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def running(spec: PodSpec, state: Running) -> Json:
    """A pod that runs, with allocated and actual resources and the resize under way."""
    started = stamp(state.started_s)
    conditions = [
        *(_condition(kind, True, started) for kind in ("PodReadyToStartContainers", "Initialized")),
        *(_condition(kind, state.ready, stamp(state.changed_s)) for kind in ("ContainersReady", "Ready")),
    ]
    if state.was_resized:
        conditions += [
            {"$patch": "delete", "type": kind} for kind in RESIZE_CONDITIONS if state.resize is None or kind != state.resize.kind
        ]
    if state.resize is not None:
        conditions.append(_resize_condition(state.resize))
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
                **_container(spec, k, container, restarts=state.restarts),
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
    """A pod that is over. The termination message has the exact times, since Kubernetes keeps whole seconds only."""
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
    """A pod that ran when its node went down. Nobody knows how far it had come."""
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
    """A pod that the kubelet does not admit."""
    return {
        "phase": "Failed",
        "observedGeneration": generation,
        "reason": reason,
        "message": f"Pod was rejected: {message}",
        "startTime": stamp(now_s),
    }


def waiting(spec: PodSpec, reason: str, message: str, *, restarts: int, generation: int) -> Json:
    """A pod whose container cannot be started now and will be tried again."""
    return {
        "phase": "Pending",
        "observedGeneration": generation,
        "hostIP": "127.0.0.1",
        "containerStatuses": [
            {
                **_container(spec, k, container, restarts=restarts),
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
        "conditions": [{**_condition(kind, False, finished), "reason": reason} for kind in ("ContainersReady", "Ready")],
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


def _container(spec: PodSpec, k: int, container: Json, *, restarts: int) -> Json:
    image = container.get("image", "")
    return {
        "name": container["name"],
        "image": image,
        "imageID": image,
        "containerID": f"virtual://{spec.uid}/{k}/{restarts}",
        "restartCount": restarts,
    }


def _condition(kind: str, holds: bool, since: str) -> Json:
    return {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": since}


def _resize_condition(resize: ResizeState) -> Json:
    # Reason and message are written even when empty, since an earlier one would survive the merge.
    return {
        **_condition(resize.kind, True, stamp(resize.since_s)),
        "observedGeneration": resize.generation,
        "reason": resize.reason,
        "message": resize.message,
    }
