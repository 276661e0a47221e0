"""The life of one container as local processes: started, probed, restarted with backoff, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp

from tango.domain.quantities import cpu_millicores, memory_mib
from tango.emulation.pod_logs import BoundedLog, log_path
from tango.emulation.references import Sources
from tango.emulation.virtual_kubelet.launching import Launch, launch_of
from tango.emulation.virtual_kubelet.local_process import Exit, LocalProcess
from tango.emulation.virtual_kubelet.pod_place import CannotStart, PodPlace
from tango.emulation.virtual_kubelet.probes import QUICK_FOR_S, QUICK_PERIOD_S, Probe, accepts, probe_of
from tango.files import read_bounded

Json = dict[str, Any]

STEADY_BACKOFFS = 2
"""A container that ran for so many times the longest backoff begins with the first one again; the kubelet's own rule."""
PULL_AGAIN_S = 1.0
"""Seconds after which an image that was not pulled counts as one that will not be (ImagePullBackOff)."""
LOOK_AGAIN_S = 1.0
"""Seconds after which a container that misses a ConfigMap or Secret is tried again, as a kubelet's sync loop does."""
MOST_MESSAGE_BYTES = 4096
"""Longest termination message, the kubelet's own limit."""
LOG_AS_MESSAGE_BYTES = 2048
"""Of the log, as termination message by policy FallbackToLogsOnError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How one life of a container ended. Times are Unix seconds."""

    exit_code: int
    reason: str
    message: str
    started_s: float
    finished_s: float


class Host(Protocol):
    """What a container needs of its host: it reports its processes there, and probes use the host's HTTP session."""

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP session that probes use."""
        ...

    async def sources(self, pod: Json) -> Sources:
        """The ConfigMaps and Secrets that a pod refers to."""
        ...

    def backoff_s(self, container: ProcessContainer) -> tuple[float, float]:
        """First and longest pause before a restart, seconds."""
        ...

    def took(self, container: ProcessContainer) -> None:
        """A life of the container has begun."""
        ...

    def left(self, container: ProcessContainer) -> None:
        """A life of the container has ended: what it held is free again."""
        ...


class Pod(Protocol):
    """The pod of a container."""

    body: Json
    place: PodPlace
    grace_s: float

    @property
    def host(self) -> Host:
        """Where it reports its processes."""
        ...

    def changed(self) -> None:
        """The status of one of its containers has changed, and is to be written."""
        ...

    def port_of(self, container: Json) -> int | None:
        """The port whose being open makes a container without a probe ready; None: it is ready at once."""
        ...


@dataclass(slots=True, eq=False)
class ProcessContainer:
    """One container of a pod; what of it is reported is read by `process_statuses`."""

    spec: Json
    pod: Pod = field(repr=False)
    restarts: int = 0
    process: LocalProcess | None = None
    waits: tuple[str, str] | None = ("ContainerCreating", "")
    """(reason, message) while it neither runs nor has ended for good."""
    ready: bool = False
    passed_startup: bool = False
    ended: Ended | None = None
    """How its last life ended: for good, or before the next one."""
    used_cpu_s: float = 0.0
    """CPU-seconds of its earlier lives."""
    stopping: bool = False

    @property
    def name(self) -> str:
        """The container's name in the pod's spec."""
        return str(self.spec["name"])

    @property
    def cpu_s(self) -> float:
        """CPU-seconds of all its lives."""
        return self.used_cpu_s + (self.process.cpu_s if self.process else 0.0)

    @property
    def memory_mib(self) -> float:
        """What it holds now."""
        return self.process.memory_mib if self.process else 0.0

    @property
    def memory_limit_mib(self) -> int | None:
        """Beyond which it is killed."""
        limit = ((self.spec.get("resources") or {}).get("limits") or {}).get("memory")
        return None if limit is None else memory_mib(limit)

    async def run_once(self) -> Ended:
        """One life, from its start to its end. Raises: CannotStart."""
        started_s, pod = time.time(), self.pod
        launch = launch_of(self.spec, pod.body, pod.place, await pod.host.sources(pod.body))
        probes = {
            key: probe_of(self.spec, f"{key}Probe", ip=pod.place.ip, launch=launch) for key in ("startup", "readiness", "liveness")
        }
        launch.termination_log.unlink(missing_ok=True)
        path = log_path(pod.place.files, self.name, self.restarts)
        try:
            process = LocalProcess.started(launch, BoundedLog(path))
        except OSError as error:  # what a container runtime calls a StartError
            words = f"{launch.argv[0]!r} in {launch.folder}: {error.strerror}"
            return self._over(Ended(exit_code=128, reason="StartError", message=words, started_s=started_s, finished_s=time.time()))
        self.process, self.waits = process, None
        pod.host.took(self)
        pod.changed()
        watching = asyncio.create_task(self._watch(launch, probes))
        try:
            found = await asyncio.shield(process.ended)  # its end stays to be known, whoever stops waiting
        finally:
            watching.cancel()
        process.cpu_s = max(process.cpu_s, found.cpu_s)
        pod.host.left(self)
        self.used_cpu_s += process.cpu_s
        return self._over(self._as_ended(process, found, launch))

    def _over(self, ended: Ended) -> Ended:
        self.process, self.waits, self.ready, self.passed_startup = None, None, False, False
        self.ended = ended
        return ended

    def _as_ended(self, process: LocalProcess, found: Exit, launch: Launch) -> Ended:
        reason = "OOMKilled" if process.killed_for_memory else "Completed" if found.code == 0 else "Error"
        message = ""
        with contextlib.suppress(OSError):
            # What the pod has put there itself may be a pipe, a device, or without end.
            if launch.termination_log.is_file():
                message = read_bounded(launch.termination_log, MOST_MESSAGE_BYTES)[:MOST_MESSAGE_BYTES].decode(errors="replace")
        if not message and found.code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            with contextlib.suppress(OSError):
                written = log_path(self.pod.place.files, self.name, self.restarts).read_bytes()
                message = written[-LOG_AS_MESSAGE_BYTES:].decode(errors="replace")
        return Ended(exit_code=found.code, reason=reason, message=message, started_s=process.started_s, finished_s=found.finished_s)

    async def keep(self, *, restart: bool) -> Ended:
        """Live on: with `restart` again after each end, until `stop`; else once. What cannot start waits, for ever."""
        first_s, longest_s = self.pod.host.backoff_s(self)
        backoff_s = 0.0  # the first crash of all is followed by a restart at once
        while True:
            try:
                ended = await self.run_once()
            except CannotStart as refused:
                if not refused.again:
                    return await self._wait_for_ever(refused)
                if self.waits != (refused.reason, refused.message):
                    self.waits = (refused.reason, refused.message)
                    self.pod.changed()
                await asyncio.sleep(LOOK_AGAIN_S)
                continue
            if self.stopping or not restart:
                return ended
            if ended.finished_s - ended.started_s > STEADY_BACKOFFS * longest_s:
                backoff_s = 0.0
            if backoff_s:
                await self.pause(backoff_s)
            backoff_s = min(2 * backoff_s, longest_s) or first_s
            self.restarts += 1

    async def pause(self, backoff_s: float) -> None:
        """Wait before the next life, and say so."""
        self.waits = ("CrashLoopBackOff", f"back-off {backoff_s:g}s restarting failed container={self.name}")
        self.pod.changed()
        await asyncio.sleep(backoff_s)

    async def _wait_for_ever(self, refused: CannotStart) -> Ended:
        self.waits = (refused.reason, refused.message)
        self.pod.changed()
        if refused.reason == "ErrImagePull":
            await asyncio.sleep(PULL_AGAIN_S)
            self.waits = ("ImagePullBackOff", refused.message)
            self.pod.changed()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def _watch(self, launch: Launch, probes: dict[str, Probe | None]) -> None:
        """Follow the probes of one life: startup first, then readiness and liveness."""
        if (startup := probes["startup"]) is not None and not await self._started_up(startup):
            return
        self.passed_startup = True
        async with asyncio.TaskGroup() as following:
            following.create_task(self._follow_readiness(probes["readiness"]))
            if (liveness := probes["liveness"]) is not None:
                following.create_task(self._follow_liveness(liveness))

    async def _started_up(self, probe: Probe) -> bool:
        await asyncio.sleep(probe.delay_s)
        for _ in range(probe.failures):
            if await probe.holds(self.pod.host.session):
                return True
            await asyncio.sleep(probe.period_s)
        await self._kill_unhealthy()
        return False

    async def _follow_readiness(self, probe: Probe | None) -> None:
        if probe is None:
            port = self.pod.port_of(self.spec)
            while port is not None and not await accepts(self.pod.place.ip, port):
                await asyncio.sleep(QUICK_PERIOD_S)
            self._become_ready(True)
            return
        await asyncio.sleep(probe.delay_s)
        in_a_row, held = 0, False
        while True:
            holds = await probe.holds(self.pod.host.session)
            in_a_row = in_a_row + 1 if holds is held else 1
            held = holds
            if in_a_row >= (probe.successes if holds else probe.failures):
                self._become_ready(holds)
            is_new = self.process is not None and time.time() - self.process.started_s < QUICK_FOR_S
            await asyncio.sleep(min(probe.period_s, QUICK_PERIOD_S) if is_new and not self.ready else probe.period_s)

    async def _follow_liveness(self, probe: Probe) -> None:
        await asyncio.sleep(probe.delay_s)
        failures = 0
        while failures < probe.failures:
            failures = 0 if await probe.holds(self.pod.host.session) else failures + 1
            await asyncio.sleep(probe.period_s)
        await self._kill_unhealthy()

    async def _kill_unhealthy(self) -> None:
        if self.process is not None:
            await self.process.stop(self.pod.grace_s)

    def _become_ready(self, ready: bool) -> None:
        if self.ready is not ready:
            self.ready = ready
            self.pod.changed()

    async def stop(self, grace_s: float) -> None:
        """End it for good."""
        self.stopping, self.ready = True, False
        if self.process is not None:
            await self.process.stop(grace_s)

    def requested(self, resources: Json | None = None) -> tuple[int, int | None]:
        """(CPU request, CPU limit) in millicores, of the spec or of these resources."""
        of = resources if resources is not None else self.spec.get("resources") or {}
        requests, limits = of.get("requests") or {}, of.get("limits") or {}
        limit = cpu_millicores(limits["cpu"]) if "cpu" in limits else None
        return cpu_millicores(requests.get("cpu", limits.get("cpu", 0))), limit
