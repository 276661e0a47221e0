"""`pods/log`: what a pod's container has written, from the files of the virtual kubelet on the same machine.

A real API server asks the node's kubelet over HTTPS; here both have one folder. Source of parameters and messages: kubernetes,
pkg/registry/core/pod/strategy.go, LogLocation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

from tango.emulation.api_server.failures import Causes, Refused, bad_request
from tango.emulation.api_server.forms import whole_number
from tango.emulation.api_server.http1 import ApiAnswer, Response, Stream
from tango.emulation.api_server.objects import Objects
from tango.emulation.api_server.storage import Collection, Key
from tango.emulation.pod_logs import LogReader, log_path, pod_folder

Json = dict[str, Any]

FOLLOW_EVERY_S = 0.1
"""Seconds between two looks at a log that is followed."""
NOT_KEPT = ("timestamps", "sinceSeconds", "sinceTime", "stream")
"""Parameters that need the time of each line, which is not kept."""


def log_of(query: Mapping[str, str], pods: Path | None, objects: Objects, collection: Collection, key: Key) -> Response:
    """The response to a GET of `pods/NAME/log`.

    A pod that is on no node has none: 204.

    Raises: Refused 404 for a pod that there is not; 422 for a negative number; 400 for a container that there is not, has not
    started, or has no earlier life.
    """
    for name in NOT_KEPT:
        if query.get(name) not in (None, "", "false", "All"):
            raise bad_request(f"{name} is not supported here: times of lines are not kept")
    causes = Causes("PodLogOptions", key[1])
    for name in ("tailLines", "limitBytes", "sinceSeconds"):
        text = query.get(name, "")
        if text.startswith("-") and text[1:].isdigit() and int(text) < 0:
            causes.add("FieldValueInvalid", f"Invalid value: {text}: must be greater than or equal to 0", name)
    causes.raise_if_any()
    pod = objects.find(collection, key).item
    container = _container(pod, query.get("container", ""))
    if not pod["spec"].get("nodeName"):  # nobody to ask
        return ApiAnswer(status=204)
    restart = _life(pod, container, previous=query.get("previous") in ("1", "true"))
    if pods is None:
        return ApiAnswer(content_type="text/plain")
    metadata = pod["metadata"]
    folder = pod_folder(pods, metadata.get("namespace", ""), metadata["name"], metadata["uid"])

    def goes_on() -> bool:
        return _runs(objects, collection, key, metadata["uid"], container, restart)

    return Stream(_read(query, log_path(folder, container, restart), goes_on), "text/plain")


async def _read(query: Mapping[str, str], path: Path, runs: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
    """The log in pieces; where it is followed, for as long as its container may still write."""
    left = whole_number(query, "limitBytes", 0) or None
    reader = LogReader(path)
    try:
        found = reader.start(tail_lines=whole_number(query, "tailLines", 0) if "tailLines" in query else None)
        following = query.get("follow") in ("1", "true")
        while True:
            # Asked before the file is read: what was written before the container ended is then still read.
            goes_on = following and runs()
            for block in found:
                piece = block if left is None else block[:left]
                yield piece
                if left is not None and (left := left - len(piece)) <= 0:
                    goes_on = False
                    break
            if not goes_on:
                break
            await asyncio.sleep(FOLLOW_EVERY_S)
            found = reader.more()
    finally:
        reader.close()


def _container(pod: Json, asked: str) -> str:
    spec, name = pod["spec"], pod["metadata"]["name"]
    known = [c["name"] for key in ("initContainers", "containers") for c in spec.get(key) or []]
    if asked:
        if asked not in known:
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    own = [str(c["name"]) for c in spec["containers"]]
    if len(own) > 1:
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(own)}]")
    return own[0]


def _status(pod: Json, container: str) -> Mapping[str, Any]:
    status = pod.get("status") or {}
    listed = (s for key in ("containerStatuses", "initContainerStatuses") for s in status.get(key) or [])
    return next((s for s in listed if s["name"] == container), {})


def _life(pod: Json, container: str, *, previous: bool) -> int:
    """Which life of the container is asked for, by the number of its restart.

    Source: kubernetes, pkg/kubelet/kubelet_pods.go, validateContainerLogStatus: while it waits for its next life, the last one's log is
    both the present and the previous one.
    """
    name, status = pod["metadata"]["name"], _status(pod, container)
    restart, state = int(status.get("restartCount", 0)), status.get("state") or {}
    waits = not status or "waiting" in state
    if waits and "terminated" in (status.get("lastState") or {}):
        return restart
    if previous:
        if restart == 0:
            raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
        return restart - 1
    if waits:
        reason = (state.get("waiting") or {}).get("reason", "ContainerCreating")
        raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {reason}')
    return restart


def _runs(objects: Objects, collection: Collection, key: Key, uid: str, container: str, restart: int) -> bool:
    """Whether this life of the container may still write."""
    try:
        pod = objects.find(collection, key).item
    except Refused:
        return False
    status = _status(pod, container)
    same = pod["metadata"]["uid"] == uid and int(status.get("restartCount", 0)) == restart
    return same and "running" in (status.get("state") or {})
