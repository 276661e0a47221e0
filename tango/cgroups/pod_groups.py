"""Where a kubelet has put the control groups of a pod and of its containers, found by UID and container id.

    systemd driver   kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid, _ for ->.slice/cri-containerd-<id>.scope
    cgroupfs driver  kubepods/burstable/pod<uid>/<id>
    version 1        the same below each controller

Kubelets with `--cgroup-root`, k3s and nodes that are containers themselves have folders of other names above `kubepods`, and prefixes in
the names of slices. So the way is looked for and not computed: a pod's folder is the one whose name ends with `pod<uid>`.

Source: kubernetes, pkg/kubelet/cm/cgroup_manager_linux.go; containerd, internal/cri/server/podsandbox; cri-o, internal/config/cgmgr.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tango.cgroups.groups import Group, Hierarchy

DEEPEST = 6
"""Folders below the root that are looked at: three in a plain node, a few more where the node is itself a container."""
BEFORE_PODS = 2
"""Folders below the root that are looked at although their names tell nothing: those of a node that is a container."""
SHORTEST_UID = 32
"""Characters of a UID; pods that a node has from files have a hash without hyphens."""
ON_THE_WAY = ("kubepods", "kubelet")
"""In the name of a folder that leads to pods, or of one above it."""


@dataclass(frozen=True, slots=True)
class PodGroups:
    """The groups of one pod, those of containers by their ids."""

    pod: Group
    containers: dict[str, Group]


@dataclass(slots=True)
class PodFinder:
    """Finds groups below one hierarchy and remembers where the pods are, since they never move."""

    hierarchy: Hierarchy
    _known: dict[str, Path] = field(default_factory=dict)

    def find(self, uid: str, container_ids: list[str]) -> PodGroups | None:
        """The groups of a pod, of containers those that are there; None if it has none (yet, or any more).

        A container id may have the runtime's name before it, `containerd://`, as the API gives it.
        """
        root = self.hierarchy.controller("cpu")
        folder = self._known.get(uid)
        if folder is None or not folder.is_dir():
            self._known = dict(_pod_folders(root))
            folder = self._known.get(uid)
        if folder is None:
            return None
        below = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
        pod = self.hierarchy.group(str(folder.relative_to(root)))
        found: dict[str, Group] = {}
        for container_id in container_ids:
            bare = container_id.rpartition("://")[2]
            name = next((name for name in below if _is_container(name, bare)), None) if bare else None
            if name is not None:
                found[container_id] = self.hierarchy.group(f"{pod.path}/{name}")
        return PodGroups(pod, found)


def _pod_folders(root: Path) -> Iterator[tuple[str, Path]]:
    """(UID, folder) of the pods below the root."""
    waiting = [(root, 0, False)]
    while waiting:
        folder, depth, is_inside = waiting.pop()
        try:
            entries = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # gone meanwhile
        for entry in entries:
            uid = _uid(entry.name)
            if uid is not None:
                yield uid, Path(entry.path)
                continue
            leads_there = is_inside or any(word in entry.name for word in ON_THE_WAY)
            if depth < (DEEPEST if leads_there else BEFORE_PODS):
                waiting.append((Path(entry.path), depth + 1, leads_there))


def _uid(folder: str) -> str | None:
    """The UID in the name of a pod's folder, as the API writes it; None for other folders."""
    if folder.endswith(".slice"):
        before, mark, uid = folder.removesuffix(".slice").rpartition("-pod")
        is_pod, uid = bool(mark) and "kubepods" in before, uid.replace("_", "-")
    else:
        is_pod, uid = folder.startswith("pod"), folder.removeprefix("pod")
    return uid if is_pod and len(uid) >= SHORTEST_UID and set(uid) <= set("0123456789abcdef-") else None


def _is_container(name: str, container_id: str) -> bool:
    """Whether a folder in a pod's is the container's: `<id>`, `crio-<id>`, `cri-containerd-<id>.scope`. cri-o has one more beside it,
    for the process that watches the container."""
    bare = name.removesuffix(".scope")
    return bare == container_id or (bare.endswith(f"-{container_id}") and "conmon" not in bare)
