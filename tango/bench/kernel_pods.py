"""Pods on a real kernel without a kubelet: groups as a kubelet makes them, programs in them, and a node agent that knows them.

It imports the standard library and the agent alone, so that it can be packed for a kernel of its own (`guest.py`). Tests hold what the
kernel accounts by it, and `tango bench colocation` measures.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tango.cgroups.groups import Group, Hierarchy
from tango.cgroups.knobs import Knob, weight
from tango.domain.pod_marks import CLASS
from tango.node_agent.agent import NodeAgent
from tango.node_agent.ledger import Ledger
from tango.settings import NodeAgentSettings

MOST = 256_000
"""Millicores of a request that is the largest weight there is."""
OF_AGENT = 50
"""Millicores of the request of this process' own group: what a DaemonSet asks for."""
GONE_WITHIN_S = 120.0
"""Seconds for whatever is waited for: a machine that is busy takes its time."""


@dataclass(slots=True)
class KernelPod:
    """A pod with one container, as API object and as groups of the kernel."""

    body: dict[str, Any]
    pod: Group
    container: Group
    programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, code: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A Python program in the container. It begins when it is in its groups, so that all it holds is accounted there."""
        begin = f"input()\nprint(flush=True)\n{code}"
        command = [sys.executable, "-S", "-E", "-c", begin, *arguments]
        program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.programs.append(program)
        hierarchy = self.container.hierarchy
        for controller in _controllers(hierarchy):
            (hierarchy.controller(controller) / self.container.path / "cgroup.procs").write_text(str(program.pid))
        self.tell(program)
        assert program.stdout is not None
        program.stdout.readline()
        return program

    @staticmethod
    def tell(program: subprocess.Popen[bytes]) -> None:
        """A line to a program that waits for one."""
        assert program.stdin is not None
        program.stdin.write(b"\n")
        program.stdin.flush()

    def end(self) -> None:
        """Kill its programs."""
        for program in self.programs:
            program.kill()
            program.communicate()
        self.programs.clear()

    def ask(self, *, cpu: int | None = None, memory_mib: int | None = None, request: int | None = None) -> None:
        """Another size, which the kubelet has admitted and not carried out."""
        resources = self.body["spec"]["containers"][0]["resources"]
        if request is not None:
            resources["requests"]["cpu"] = f"{request}m"
        if cpu is not None:
            resources["limits"]["cpu"] = f"{cpu}m"
        if memory_mib is not None:
            resources["limits"]["memory"] = resources["requests"]["memory"] = f"{memory_mib}Mi"
        self.body["status"]["containerStatuses"][0]["allocatedResources"] = dict(resources["requests"])

    def actuated(self) -> None:
        """The kubelet reports that it is done."""
        limits = self.body["spec"]["containers"][0]["resources"]["limits"]
        self.body["status"]["containerStatuses"][0]["resources"] = {"limits": dict(limits)}


class KernelNode:
    """Groups of this kernel below a folder of their own, and an agent. Its clock is `clock`, or moves by half a second a look."""

    def __init__(self, root: Path, folder: Path, clock: Callable[[], float] | None = None) -> None:
        self.hierarchy = Hierarchy.mounted(root)
        self.hierarchy.check_writable()
        self.cpus = os.cpu_count() or 1
        self.pods: list[KernelPod] = []
        self._home = f"kubepods-tango-{os.getpid()}"
        self._state = folder / "agent.json"
        self._looks_s = 0.0
        self._clock = clock or (lambda: self._looks_s)
        self._own: Group | None = None
        self._make(self._home)
        self.agent = self.started()

    def take_precedence(self) -> None:
        """Let what runs in these pods, and this process, in a group beside them as an agent's own pod is, go before all else on this
        machine: for measuring, where it must not decide what is measured. Once."""
        self._own = self._make(f"{self._home}/agent")
        self._own.write(Knob.CPU_WEIGHT, weight(OF_AGENT, self.hierarchy.version))
        self._move_here(self._own.path)
        self.hierarchy.group(self._home).write(Knob.CPU_WEIGHT, weight(MOST, self.hierarchy.version))

    def started(self) -> NodeAgent:
        """An agent, which takes over from the one before."""
        ledger = Ledger(self.hierarchy, self._state)
        self.agent = NodeAgent(
            self.hierarchy, ledger, NodeAgentSettings(), cpu_millicores=self.cpus * 1000, clock=lambda: self._clock()
        )
        for pod in self.pods:
            self.agent.see(pod.body)
        return self.agent

    def step(self) -> None:
        """A look."""
        self._looks_s += 0.5
        self.agent.step()

    def pod(self, kind: str, *, cpu: int, memory_mib: int, request: int = 100) -> KernelPod:
        """A pod at its limits, in millicores and MiB, which the agent sees; `kind`: `lc` or `be`."""
        number = len(self.pods) + 1
        # Unlike those of another such process on this kernel: groups are found by UID, wherever they are.
        uid, container_id = f"0f3c1f5e-{os.getpid() >> 16:04x}-{os.getpid() & 0xFFFF:04x}-8000-{number:012d}", f"{number:064x}"
        limits = {"cpu": f"{cpu}m", "memory": f"{memory_mib}Mi"}
        requests = {"cpu": f"{request}m", "memory": f"{memory_mib}Mi"}
        status = {
            "name": "work",
            "containerID": f"containerd://{container_id}",
            "state": {"running": {}},
            "allocatedResources": dict(requests),
            "resources": {"limits": dict(limits)},
        }
        body = {
            "metadata": {"name": f"{kind}-{number}", "namespace": "tango", "uid": uid, "labels": {CLASS: kind}},
            "spec": {"containers": [{"name": "work", "resources": {"limits": limits, "requests": requests}}]},
            "status": {"phase": "Running", "containerStatuses": [status]},
        }
        pod = KernelPod(body, self._make(f"{self._home}/pod{uid}"), self._make(f"{self._home}/pod{uid}/{container_id}"))
        for group in (pod.pod, pod.container):
            group.write(Knob.CPU_QUOTA, cpu * 100)
            group.write(Knob.CPU_WEIGHT, weight(request, self.hierarchy.version))
            group.write(Knob.MEMORY_MAX, memory_mib << 20)
        self.pods.append(pod)
        self.agent.see(body)
        return pod

    def close(self) -> None:
        """End all programs and remove the groups."""
        for pod in self.pods:
            pod.end()
        for pod in self.pods:
            for group in (pod.container, pod.pod):
                self._remove(group.path)
        if self._own is not None:
            self._move_here("")
            self._remove(self._own.path)
        self._remove(self._home)

    def _move_here(self, path: str) -> None:
        """This process goes to a group; empty: to the root."""
        (self.hierarchy.controller("cpu") / path / "cgroup.procs").write_text(str(os.getpid()))

    def _make(self, path: str) -> Group:
        for controller in _controllers(self.hierarchy):
            (self.hierarchy.controller(controller) / path).mkdir()
        if self.hierarchy.version == 2 and path.count("/") < 2 and not path.endswith("/agent"):
            (self.hierarchy.root / path / "cgroup.subtree_control").write_text("+cpu +memory")
        return self.hierarchy.group(path)

    def _remove(self, path: str) -> None:
        for folder in (self.hierarchy.controller(controller) / path for controller in _controllers(self.hierarchy)):
            # What has been killed leaves its group a moment later.
            until(lambda folder=folder: _removed(folder))  # type: ignore[misc]


def _controllers(hierarchy: Hierarchy) -> Sequence[str]:
    """The controllers that have folders of their own."""
    return ("cpu",) if hierarchy.version == 2 else ("cpu", "cpuacct", "memory")


def _removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def until(look: Callable[[], bool]) -> None:
    """Wait for something. Raises: AssertionError if it does not come."""
    deadline_s = time.monotonic() + GONE_WITHIN_S
    while not look():
        assert time.monotonic() < deadline_s, f"not within {GONE_WITHIN_S:g} s: {look}"
        time.sleep(0.05)


@contextlib.contextmanager
def kernel_node(root: Path, clock: Callable[[], float] | None = None) -> Iterator[KernelNode]:
    """This machine's, with nothing left behind."""
    with tempfile.TemporaryDirectory() as folder:
        one = KernelNode(root, Path(folder), clock)
        try:
            yield one
        finally:
            one.close()
