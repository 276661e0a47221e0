"""A folder that stands for the kernel's control groups, with the kernel's rules for what may be written; pods of a kubelet in it."""

from __future__ import annotations

import errno
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tango.cgroups.groups import Group, Hierarchy, KnobRefused
from tango.cgroups.knobs import FILES, Knob

START = {
    1: {
        "cpu.cfs_quota_us": "-1",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_burst_us": "0",
        "cpu.shares": "1024",
        "cpu.idle": "0",
        "cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n",
        "cpuacct.usage": "0",
        "memory.limit_in_bytes": str((1 << 63) - mmap.PAGESIZE),
        "memory.soft_limit_in_bytes": str((1 << 63) - mmap.PAGESIZE),
        "memory.usage_in_bytes": "0",
        "memory.oom_control": "oom_kill 0\n",
    },
    2: {
        "cpu.max": "max 100000",
        "cpu.max.burst": "0",
        "cpu.weight": "100",
        "cpu.idle": "0",
        "cpu.stat": "usage_usec 0\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
        "cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        "memory.max": "max",
        "memory.high": "max",
        "memory.current": "0",
        "memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        "memory.events": "high 0\nmax 0\noom_kill 0\n",
    },
}
"""Files of a new group."""


@dataclass(frozen=True, slots=True)
class FakeHierarchy(Hierarchy):
    """Groups in a folder. `without`: knobs that this kernel does not know."""

    without: frozenset[Knob] = frozenset()

    def group(self, path: str) -> FakeGroup:
        return FakeGroup(self, path)

    def make(self, path: str) -> FakeGroup:
        """A group with the groups above it."""
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            above = "/".join(parts[:depth])
            missing = {FILES[self.version][knob] for knob in self.without}
            for name, text in START[self.version].items():
                folder = self.controller(name.partition(".")[0]) / above
                folder.mkdir(parents=True, exist_ok=True)
                if name not in missing and not (folder / name).exists():
                    (folder / name).write_text(text)
        return self.group(path)


@dataclass(frozen=True, slots=True)
class FakeGroup(Group):
    """A group that takes what the kernel takes."""

    def write(self, knob: Knob, value: int | None) -> None:
        if not self.file(knob).exists():
            raise KnobRefused(self, knob, value, OSError(errno.ENOENT, "No such file or directory"))
        if self._is_invalid(knob, value):
            raise KnobRefused(self, knob, value, OSError(errno.EINVAL, "Invalid argument"))
        if knob in (Knob.MEMORY_MAX, Knob.MEMORY_HIGH) and value is not None:
            value = value // mmap.PAGESIZE * mmap.PAGESIZE
        Group.write(self, knob, value)
        if self.hierarchy.version == 1 and knob in (Knob.MEMORY_MAX, Knob.MEMORY_HIGH) and value is None:
            self.file(knob).write_text(START[1][FILES[1][knob]])
        if knob is Knob.CPU_IDLE:  # the weight is the kernel's own from here on
            shares = {1: ("1024", "3"), 2: ("100", "0")}[self.hierarchy.version][value or 0]
            self.file(Knob.CPU_WEIGHT).write_text(shares)

    def _is_invalid(self, knob: Knob, value: int | None) -> bool:
        if knob is Knob.CPU_WEIGHT:
            return self.has(Knob.CPU_IDLE) and self.read(Knob.CPU_IDLE) == 1
        if knob is Knob.CPU_BURST:
            quota = self.read(Knob.CPU_QUOTA)
            return quota is not None and (value or 0) > quota
        if knob is not Knob.CPU_QUOTA:
            return False
        if value is not None and self.has(Knob.CPU_BURST) and (self.read(Knob.CPU_BURST) or 0) > value:
            return True
        return self.hierarchy.version == 1 and self._breaks_the_tree(value)

    def _breaks_the_tree(self, value: int | None) -> bool:
        """Version 1: no group may have more than one above it; one without a quota of its own has that of the one above."""
        above = [quota for group in self.ancestors() if (quota := group.read(Knob.CPU_QUOTA)) is not None]
        if value is not None and above and value > above[0]:
            return True
        lowest = value if value is not None else (above[0] if above else None)
        below = (self.hierarchy.group(f"{self.path}/{entry.name}") for entry in self.folder.iterdir() if entry.is_dir())
        quotas = (group.read(Knob.CPU_QUOTA) for group in below)
        return lowest is not None and any(quota is not None and quota > lowest for quota in quotas)


UID = "0f3c1f5e-0000-4000-8000-{:012d}"


@dataclass(slots=True)
class FakePod:
    """A pod with one container, as API object and as groups that a kubelet has made of it."""

    body: dict[str, Any]
    pod: Group
    container: Group

    def ask(self, *, cpu: int | None = None, memory_mib: int | None = None, request: int | None = None) -> None:
        """Patch the specification, as `pods/resize` does."""
        resources = self.body["spec"]["containers"][0]["resources"]
        resources["requests"] |= {"cpu": f"{request}m"} if request is not None else {}
        resources["limits"] |= {"cpu": f"{cpu}m"} if cpu is not None else {}
        if memory_mib is not None:
            resources["limits"]["memory"] = resources["requests"]["memory"] = f"{memory_mib}Mi"
        self.body["metadata"]["generation"] += 1

    def admit(self) -> None:
        """The kubelet has counted what is asked."""
        asked = self.body["spec"]["containers"][0]["resources"]
        self.body["status"]["containerStatuses"][0]["allocatedResources"] = dict(asked["requests"])

    def actuate(self) -> None:
        """The kubelet sets what is specified, in its own order, and reports it."""
        self.admit()
        limits = self.body["spec"]["containers"][0]["resources"]["limits"]
        quota, memory = int(limits["cpu"].removesuffix("m")) * 100, int(limits["memory"].removesuffix("Mi")) << 20
        now = self.pod.read(Knob.CPU_QUOTA)
        grows = now is not None and quota > now
        for group in (self.pod, self.container) if grows else (self.container, self.pod):
            group.write(Knob.CPU_QUOTA, quota)
            group.write(Knob.MEMORY_MAX, memory)
        self.body["status"]["containerStatuses"][0]["resources"] = {"limits": dict(limits)}


def fake_pod(
    hierarchy: FakeHierarchy, number: int, kind: str, *, cpu: int = 500, memory_mib: int = 256, systemd: bool = True
) -> FakePod:
    """A pod that runs, with its groups at its limits; `kind`: `lc` or `be`."""
    uid, container_id = UID.format(number), f"{number:064x}"
    if systemd:
        folder = f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid.replace('-', '_')}.slice"
        path = f"{folder}/cri-containerd-{container_id}.scope"
    else:
        folder = f"kubepods/burstable/pod{uid}"
        path = f"{folder}/{container_id}"
    limits = {"cpu": f"{cpu}m", "memory": f"{memory_mib}Mi"}
    requests = {"cpu": "100m", "memory": f"{memory_mib}Mi"}
    body: dict[str, Any] = {
        "metadata": {
            "name": f"{kind}-{number}",
            "namespace": "tango",
            "uid": uid,
            "generation": 1,
            "labels": {"app.kubernetes.io/managed-by": "tango", "tango/class": kind},
        },
        "spec": {"containers": [{"name": "work", "resources": {"limits": dict(limits), "requests": requests}}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {
                    "name": "work",
                    "containerID": f"containerd://{container_id}",
                    "state": {"running": {}},
                    "allocatedResources": dict(requests),
                    "resources": {"limits": dict(limits)},
                }
            ],
        },
    }
    container = hierarchy.make(path)
    pod = FakePod(body, hierarchy.group(folder), container)
    pod.actuate()
    return pod


def files_of(root: Path) -> dict[str, str]:
    """All that is written in a folder of groups."""
    return {str(path.relative_to(root)): path.read_text().strip() for path in sorted(root.rglob("*")) if path.is_file()}
