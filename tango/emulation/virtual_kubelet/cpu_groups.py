"""CPU limits of local processes by control groups, where this process may make some; elsewhere nothing limits them.

    version 1    <root>/cpu/tango-<pid>/<name>/{cpu.cfs_quota_us, cpu.shares, cgroup.procs}
    version 2    <root>/tango-<pid>/<name>/{cpu.max, cpu.weight, cgroup.procs}, if the controller `cpu` is delegated

What these files are called and what the kernel takes is `tango.cgroups`' own, which the node agent uses for the groups of real pods.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import structlog

from tango.cgroups.groups import Group, Hierarchy, KnobRefused
from tango.cgroups.knobs import Knob, quota_us, weight

log = structlog.get_logger(__name__)

PREFIX = "tango-"
"""Before the number of the process whose groups they are."""


@dataclass(frozen=True, slots=True)
class CpuGroups:
    """Groups of the processes of one kubelet below `home`; None: they cannot be made here, and every method does nothing."""

    home: Group | None

    @classmethod
    def found(cls, cluster: str, root: Path = Path("/sys/fs/cgroup")) -> CpuGroups:
        """Those that can be made on this machine; says so in the log where none can. What kubelets that are gone have left is removed."""
        for hierarchy in (Hierarchy(root, 1), Hierarchy(root, 2)):
            base = hierarchy.controller("cpu")
            home = hierarchy.group(f"{PREFIX}{os.getpid()}-{cluster}")
            _sweep(hierarchy)
            try:
                home.folder.mkdir(exist_ok=True)
                if hierarchy.version == 2:
                    (base / "cgroup.subtree_control").write_text("+cpu")
                    (home.folder / "cgroup.subtree_control").write_text("+cpu")
                probe = home.below("probe")
                probe.folder.mkdir(exist_ok=True)
                usable = probe.has(Knob.CPU_QUOTA)
                probe.folder.rmdir()
                if usable:
                    return cls(home)
                home.folder.rmdir()
            except OSError:
                with contextlib.suppress(OSError):
                    home.folder.rmdir()
        log.warning("cpu_not_limited", reason="no control group can be made here; local processes take what the machine gives them")
        return cls(None)

    def put(self, name: str, pid: int, *, request_millicores: int, limit_millicores: int | None) -> None:
        """Limit a process, and what it starts from now on."""
        if self.home is not None:
            group = self.home.below(name)
            with contextlib.suppress(OSError):
                group.folder.mkdir(exist_ok=True)
                self.resize(name, request_millicores=request_millicores, limit_millicores=limit_millicores)
                (group.folder / "cgroup.procs").write_text(str(pid))

    def resize(self, name: str, *, request_millicores: int, limit_millicores: int | None) -> None:
        """Change the limits of a group; one that there is not is left so."""
        if self.home is None or not self.home.below(name).exists():
            return
        group = self.home.below(name)
        wanted = {
            Knob.CPU_QUOTA: quota_us(limit_millicores),
            Knob.CPU_WEIGHT: weight(request_millicores, group.hierarchy.version),
        }
        for knob, value in wanted.items():
            with contextlib.suppress(KnobRefused):
                group.write(knob, value)

    def drop(self, name: str) -> None:
        """Remove a group whose processes have ended."""
        if self.home is not None:
            with contextlib.suppress(OSError):
                self.home.below(name).folder.rmdir()

    def close(self) -> None:
        """Remove all groups that are empty."""
        if self.home is not None:
            with contextlib.suppress(OSError):
                for entry in self.home.folder.iterdir():
                    if entry.is_dir():
                        self.drop(entry.name)
                self.home.folder.rmdir()


def _sweep(hierarchy: Hierarchy) -> None:
    """Remove the groups of processes that there are no more."""
    for left in hierarchy.controller("cpu").glob(f"{PREFIX}*"):
        pid = left.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            CpuGroups(hierarchy.group(left.name)).close()
