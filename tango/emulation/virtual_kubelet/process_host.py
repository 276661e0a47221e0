"""What the local processes of one cluster's pods share: addresses, the look at their usage, control groups, calls of probes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from tango.domain.identity import NodeKey
from tango.domain.kubelet_ways import USUAL, KubeletWays
from tango.emulation.pod_logs import pod_folder
from tango.emulation.references import Reference, Sources, references_of
from tango.emulation.virtual_kubelet.cpu_groups import CpuGroups
from tango.emulation.virtual_kubelet.pod_addresses import PodAddresses
from tango.emulation.virtual_kubelet.pod_place import PodPlace
from tango.emulation.virtual_kubelet.pod_spec import PodSpec
from tango.emulation.virtual_kubelet.process_container import ProcessContainer
from tango.emulation.virtual_kubelet.process_usage import group_usage

log = structlog.get_logger(__name__)
Json = dict[str, Any]
Read = Callable[[str, Reference], Awaitable[Json | None]]
"""By namespace and reference; None: there is no such object. Raises: CannotStart while the API server does not tell."""

MEASURE_EVERY_S = 0.5
"""Seconds between two looks at CPU and memory of all processes: the longest that one may be over its memory limit unseen."""

ENDED_WITHIN_S = 0.3
"""Seconds for processes that were killed to be gone, so that their control groups can go; the next kubelet removes what is left."""


class ProcessHost:
    """Of one virtual kubelet. `folder`: where processes start; `pods`: where logs and files of pods lie."""

    def __init__(self, cluster: str, *, folder: Path, pods: Path, addresses: PodAddresses) -> None:
        self._cluster = cluster
        self._folder = folder
        self._pods = pods
        self._addresses = addresses
        self._running: dict[int, ProcessContainer] = {}
        """By process group."""
        self._used_cpu_s: defaultdict[str, float] = defaultdict(float)
        """CPU-seconds of all processes so far, by node."""
        self.read: Read = _nothing
        """Reads a ConfigMap or Secret of a namespace; set by the kubelet."""
        self.ways: Callable[[str], KubeletWays] = lambda node: USUAL
        """Of the kubelet of a node; set by the pool that uses this host."""
        self._session: aiohttp.ClientSession | None = None
        self._looking: asyncio.Task[None] | None = None
        self.broken = 0
        """Looks that failed by a defect, since the start."""
        self.cpu = CpuGroups.found(cluster)
        log.warning("processes_not_isolated", cluster=cluster, folder=str(folder), user=os.getuid())
        self._end_leftovers()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP session that probes use, opened when it is first needed."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session

    def place(self, spec: PodSpec, *, preferred: str = "") -> PodPlace:
        """Address and folders of a pod. Raises: OSError if its ports are taken everywhere."""
        ports = [int(p["containerPort"]) for c in spec.containers for p in c.get("ports") or []] or [spec.port]
        ip = self._addresses.reserve(node=NodeKey(self._cluster, spec.node), ports=ports, preferred=preferred)
        files = pod_folder(self._pods, spec.namespace, spec.name, spec.uid)
        files.mkdir(parents=True, exist_ok=True, mode=0o700)
        return PodPlace(ip=ip, port=spec.port, folder=self._folder, files=files)

    def leave(self, place: PodPlace) -> None:
        """The pod has stopped: its address is free."""
        self._addresses.give_back(place.ip)

    async def sources(self, pod: Json) -> Sources:
        """The ConfigMaps and Secrets that a pod refers to, as they are now. Raises: CannotStart while they cannot be read."""
        return {r: await self.read(pod["metadata"].get("namespace", "default"), r) for r in sorted(references_of(pod["spec"]))}

    def backoff_s(self, container: ProcessContainer) -> tuple[float, float]:
        """First and longest pause before a restart, seconds, by the ways of the node's kubelet."""
        return self.ways(_node(container)).backoff_s

    def took(self, container: ProcessContainer) -> None:
        """Account a container that has started: its process, and the CPU that it may have."""
        process = container.process
        assert process is not None
        request, limit = container.requested()
        self.cpu.put(_group(container), process.pid, request_millicores=request, limit_millicores=limit)
        (container.pod.place.files / "pids").open("a").write(f"{process.pid} {_born(process.pid)}\n")
        self._running[process.pid] = container
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    def left(self, container: ProcessContainer) -> None:
        """A container has ended."""
        process = container.process
        if process is not None and self._running.pop(process.pid, None) is not None:
            self._used_cpu_s[_node(container)] += process.cpu_s
        self.cpu.drop(_group(container))

    def used(self, node: str) -> tuple[float, float]:
        """(CPU-seconds so far, MiB now) of the processes of a node's pods."""
        mine = [c.process for c in self._running.values() if c.process is not None and _node(c) == node]
        return self._used_cpu_s[node] + sum(p.cpu_s for p in mine), sum(p.memory_mib for p in mine)

    def resize(self, container: ProcessContainer, *, request_millicores: int, limit_millicores: int | None) -> None:
        """Carry out a resize of CPU."""
        self.cpu.resize(_group(container), request_millicores=request_millicores, limit_millicores=limit_millicores)

    async def close(self) -> None:
        """Stop looking, and close connections, once the processes, which have been killed, have ended."""
        ends = [container.process.ended for container in self._running.values() if container.process is not None]
        if ends:
            await asyncio.wait(ends, timeout=ENDED_WITHIN_S)
        if self._looking is not None:
            self._looking.cancel()
        if self._session is not None:
            await self._session.close()
        self.cpu.close()

    async def _look(self) -> None:
        """Measure all groups, and kill those that hold more memory than they may."""
        while True:
            await asyncio.sleep(MEASURE_EVERY_S)
            try:
                if self._running:
                    self._hold_to_memory(await asyncio.to_thread(group_usage, set(self._running)))
            except OSError as error:
                log.warning("usage_not_read", error=str(error))
            except Exception:  # a defect of one look: without the next ones no limit of memory would hold any more
                self.broken += 1
                log.exception("usage_broken", cluster=self._cluster, broken=self.broken)

    def _hold_to_memory(self, found: Mapping[int, tuple[float, float]]) -> None:
        for group, (cpu_s, memory_mib) in found.items():
            container = self._running.get(group)
            if container is None or container.process is None or container.process.pid != group:
                continue
            process = container.process
            process.cpu_s, process.memory_mib = max(process.cpu_s, cpu_s), memory_mib
            if (limit := container.memory_limit_mib) is not None and memory_mib > limit:
                process.killed_for_memory = True
                process.signal(signal.SIGKILL)

    def _end_leftovers(self) -> None:
        """Kill what the kubelet before this one has left, and remove its files: as after a reboot, no process of a pod runs."""
        if not self._pods.is_dir():
            return
        for pod in self._pods.iterdir():
            with contextlib.suppress(OSError, ValueError):
                for line in (pod / "pids").read_text().splitlines():
                    pid, born = map(int, line.split())
                    if _born(pid) == born:  # the number may be another process's by now
                        os.killpg(pid, signal.SIGKILL)
            shutil.rmtree(pod, ignore_errors=True)


async def _nothing(namespace: str, reference: Reference) -> Json | None:
    return None


def _node(container: ProcessContainer) -> str:
    return str(container.pod.body["spec"]["nodeName"])


def _group(container: ProcessContainer) -> str:
    return f"{container.pod.body['metadata']['uid']}-{container.name}"


def _born(pid: int) -> int:
    """When a process started, in ticks since the machine did; -1 for one that there is not. Source: proc_pid_stat(5), field 22."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except OSError:
        return -1
