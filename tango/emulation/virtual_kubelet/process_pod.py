"""One pod as local processes: init containers one after the other, then all others, and how it ends as a whole.

NodePool ──► ProcessPod ──► ProcessContainer ──► LocalProcess
                 │                └── probes, log, restarts
                 └── ProcessHost: addresses, usage, control groups of all pods of a cluster
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Callable
from typing import Any

import structlog

from tango.emulation.virtual_kubelet.pod_place import PodPlace
from tango.emulation.virtual_kubelet.process_container import Ended, ProcessContainer
from tango.emulation.virtual_kubelet.process_host import ProcessHost

log = structlog.get_logger(__name__)
Json = dict[str, Any]

NOTED_WITHIN_S = 0.1
"""Seconds for a container that has been stopped to take its exit code."""


class ProcessPod:
    """Runs one pod from `start` until it ends by itself or is stopped.

    `changed` is called when its status is another; `over(phase, reason, message)` once, when it has ended by itself.
    """

    def __init__(
        self,
        body: Json,
        place: PodPlace,
        host: ProcessHost,
        *,
        main: str,
        changed: Callable[[], None],
        over: Callable[[str, str, str], None],
    ) -> None:
        self.body = body
        self.place = place
        self.host = host
        self._changed = changed
        self._over = over
        self._main = main
        spec = body["spec"]
        self.grace_s = float(spec.get("terminationGracePeriodSeconds", 30))
        self._restart = spec.get("restartPolicy", "Always")
        self.init = [ProcessContainer(c, self) for c in spec.get("initContainers") or []]
        self.containers = [ProcessContainer(c, self) for c in spec["containers"]]
        self.started_s = time.time()
        self._task: asyncio.Task[None] | None = None
        self._living: asyncio.Task[tuple[str, str, str]] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._keeping: list[asyncio.Task[Ended]] = []

    @property
    def all_containers(self) -> list[ProcessContainer]:
        """Init containers first."""
        return [*self.init, *self.containers]

    @property
    def sidecars(self) -> list[ProcessContainer]:
        """Init containers that run on beside the others."""
        return [c for c in self.init if c.spec.get("restartPolicy") == "Always"]

    @property
    def initialized(self) -> bool:
        """Whether all init containers are done, or run where they are sidecars."""
        return all(
            c.process is not None if c in self.sidecars else c.ended is not None and not c.ended.exit_code for c in self.init
        )

    @property
    def ready(self) -> bool:
        """Whether all containers that run on are ready."""
        return self._stopping is None and self.initialized and all(c.ready for c in (*self.sidecars, *self.containers))

    @property
    def running(self) -> bool:
        """Whether every container has run: the pod's phase is then no longer Pending."""
        return all(c.process is not None or c.ended is not None for c in self.containers)

    def changed(self) -> None:
        """Tell that its status is another."""
        self._changed()

    def port_of(self, container: Json) -> int | None:
        """The port whose being open makes a container without a probe ready: of the service's container alone."""
        if container["name"] != self._main or not container.get("ports"):
            return None
        return self.place.port

    def start(self) -> None:
        """Begin to run."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(_note_defect)

    async def _run(self) -> None:
        self._living = asyncio.get_running_loop().create_task(self._live())
        await asyncio.wait((self._living,), timeout=self.body["spec"].get("activeDeadlineSeconds"))
        if self._living.done():
            end = await self._living
        else:
            await self._stop_all(self.grace_s)
            end = ("Failed", "DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
        if self._stopping is None:
            self._over(*end)

    async def _live(self) -> tuple[str, str, str]:
        for container in self.init:
            if container in self.sidecars:
                self._keep(container, restart=True)
                while container.process is None:
                    await asyncio.sleep(0.01)
                continue
            ended = await container.keep(restart=False)
            backoff_s, (first_s, longest_s) = 0.0, self.host.backoff_s(container)
            while ended.exit_code and self._restart != "Never":
                if backoff_s:
                    await container.pause(backoff_s)
                backoff_s = min(2 * backoff_s, longest_s) or first_s
                container.restarts += 1
                ended = await container.keep(restart=False)
            if ended.exit_code:
                return "Failed", "", ""
        kept = [self._keep(container, restart=self._restart == "Always") for container in self.containers]
        ends = await asyncio.gather(*kept)
        for sidecar in self.sidecars:
            await sidecar.stop(self.grace_s)
        return ("Failed" if any(e.exit_code for e in ends) else "Succeeded"), "", ""

    def _keep(self, container: ProcessContainer, *, restart: bool) -> asyncio.Task[Ended]:
        task = asyncio.get_running_loop().create_task(container.keep(restart=restart))
        self._keeping.append(task)
        return task

    async def stop(self, grace_s: float) -> None:
        """SIGTERM to all, SIGKILL to what has not ended within the grace period; several calls wait for the same end."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop_all(grace_s))
            self.changed()
        await asyncio.shield(self._stopping)

    async def _stop_all(self, grace_s: float) -> None:
        for sidecar in self.sidecars:
            sidecar.stopping = True
        await asyncio.gather(*(c.stop(grace_s) for c in self.all_containers if c not in self.sidecars))
        await asyncio.gather(*(c.stop(grace_s) for c in self.sidecars))
        # What waits between two lives, or for ever, ends with its task; what has just ended is given a moment to be noted.
        left = [task for task in (*self._keeping, self._living) if task is not None and not task.done()]
        if left:
            await asyncio.wait(left, timeout=NOTED_WITHIN_S)
        for task in left:
            task.cancel()

    def kill(self) -> None:
        """SIGKILL to all at once, as when the machine goes down; nothing is reported any more."""
        for container in self.all_containers:
            container.stopping = True
            if container.process is not None:
                container.process.signal(signal.SIGKILL)
        for task in (*self._keeping, self._living, self._task):
            if task is not None:
                task.cancel()

    def forget(self) -> None:
        """Remove its files: the pod has been deleted, and nobody can ask for its log any more."""
        shutil.rmtree(self.place.files, ignore_errors=True)


def _note_defect(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("process_pod_broken", exc_info=task.exception())
