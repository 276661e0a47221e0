"""Statuses of pods that run as local processes: bodies of strategic merge patches, as `statuses` makes them for modelled ones."""

from __future__ import annotations

from typing import Any

from tango.emulation.virtual_kubelet.pod_run import PodRun
from tango.emulation.virtual_kubelet.process_container import Ended, ProcessContainer
from tango.emulation.virtual_kubelet.process_pod import ProcessPod
from tango.emulation.virtual_kubelet.statuses import condition, resize_conditions, stamp

Json = dict[str, Any]


def process_status(run: PodRun, pod: ProcessPod, *, phase: str = "", reason: str = "", message: str = "") -> Json:
    """The status of a pod as it is; `phase`, with reason and message, where it has ended."""
    phase = phase or ("Running" if pod.initialized and pod.running else "Pending")
    over = phase in ("Succeeded", "Failed")
    since = stamp(run.changed_s)
    conditions = [
        condition("PodReadyToStartContainers", not over, stamp(pod.started_s)),
        condition("Initialized", pod.initialized, since),
        *(condition(kind, pod.ready and not over, since) for kind in ("ContainersReady", "Ready")),
        *([] if over else resize_conditions(run.resize, was_resized=run.was_resized)),
    ]
    ip = pod.place.ip
    found: Json = {
        "phase": phase,
        "observedGeneration": run.generation,
        "hostIP": "127.0.0.1",
        "podIP": ip,
        "podIPs": [{"$patch": "replace"}, {"ip": ip}],
        "startTime": stamp(pod.started_s),
        "conditions": conditions,
        "containerStatuses": [
            {
                **_container(run, k, c),
                "allocatedResources": run.allocated[k].get("requests") or {},
                "resources": run.actual[k],
            }
            for k, c in enumerate(pod.containers)
        ],
    }
    if pod.init:
        found["initContainerStatuses"] = [_container(run, k, c, kind="init") for k, c in enumerate(pod.init)]
    if reason:
        found |= {"reason": reason, "message": message}
    return found


def _container(run: PodRun, k: int, container: ProcessContainer, *, kind: str = "") -> Json:
    image = container.spec.get("image", "")
    state: Json
    if container.process is not None:
        state = {"running": {"startedAt": stamp(container.process.started_s)}}
    elif container.ended is not None and container.waits is None:
        state = {"terminated": _terminated(container.ended)}
    else:
        reason, message = container.waits or ("ContainerCreating", "")
        state = {"waiting": {"reason": reason, "message": message}}
    found = {
        "name": container.name,
        "image": image,
        "imageID": image,
        "containerID": f"process://{run.spec.uid}/{kind}{k}/{container.restarts}",
        "restartCount": container.restarts,
        "ready": container.ready,
        "started": container.process is not None and container.passed_startup,
        "state": state,
    }
    if container.ended is not None and "terminated" not in state:
        found["lastState"] = {"terminated": _terminated(container.ended)}
    return found


def _terminated(ended: Ended) -> Json:
    return {
        "exitCode": ended.exit_code,
        "reason": ended.reason,
        "message": ended.message,
        "startedAt": stamp(ended.started_s),
        "finishedAt": stamp(ended.finished_s),
    }
