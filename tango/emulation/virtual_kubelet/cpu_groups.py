"""CPU limits of local processes by control groups, where this process may make some; elsewhere nothing limits them.

    version 1    <root>/cpu/tango-<pid>/<name>/{cpu.cfs_quota_us, cpu.shares, cgroup.procs}
    version 2    <root>/tango-<pid>/<name>/{cpu.max, cpu.weight, cgroup.procs}, if the controller `cpu` is delegated

Source: Linux, Documentation/scheduler/sched-bwc.rst and admin-guide/cgroup-v2.rst; weights as the kubelet converts them.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

PREFIX = "tango-"
"""Before the number of the process whose groups they are."""
PERIOD_US = 100_000
"""Period of a quota, the kubelet's own default."""


@dataclass(frozen=True, slots=True)
class CpuGroups:
    """Groups of the processes of one kubelet below `folder`; None: they cannot be made here, and every method does nothing."""

    folder: Path | None
    version: int = 1

    @classmethod
    def found(cls, cluster: str, root: Path = Path("/sys/fs/cgroup")) -> CpuGroups:
        """Those that can be made on this machine; says so in the log where none can. What kubelets that are gone have left is removed."""
        for version, base in ((1, root / "cpu"), (2, root)):
            folder = base / f"{PREFIX}{os.getpid()}-{cluster}"
            _sweep(base)
            try:
                folder.mkdir(exist_ok=True)
                if version == 2:
                    (base / "cgroup.subtree_control").write_text("+cpu")
                    (folder / "cgroup.subtree_control").write_text("+cpu")
                probe = folder / "probe"
                probe.mkdir(exist_ok=True)
                usable = (probe / _file(version, "limit")).exists()
                probe.rmdir()
                if usable:
                    return cls(folder, version)
                folder.rmdir()
            except OSError:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        log.warning("cpu_not_limited", reason="no control group can be made here; local processes take what the machine gives them")
        return cls(None)

    def put(self, name: str, pid: int, *, request_millicores: int, limit_millicores: int | None) -> None:
        """Limit a process, and what it starts from now on."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                (self.folder / name).mkdir(exist_ok=True)
                self.resize(name, request_millicores=request_millicores, limit_millicores=limit_millicores)
                (self.folder / name / "cgroup.procs").write_text(str(pid))

    def resize(self, name: str, *, request_millicores: int, limit_millicores: int | None) -> None:
        """Change the limits of a group; one that there is not is left so."""
        if self.folder is None or not (self.folder / name).is_dir():
            return
        quota_us = None if limit_millicores is None else max(1000, limit_millicores * PERIOD_US // 1000)
        shares = max(2, request_millicores * 1024 // 1000)
        if self.version == 1:
            values = {"limit": str(-1 if quota_us is None else quota_us), "weight": str(shares)}
        else:
            weight = 1 + (shares - 2) * 9999 // 262142
            values = {"limit": f"{'max' if quota_us is None else quota_us} {PERIOD_US}", "weight": str(weight)}
        for what, value in values.items():
            with contextlib.suppress(OSError):
                (self.folder / name / _file(self.version, what)).write_text(value)

    def drop(self, name: str) -> None:
        """Remove a group whose processes have ended."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                (self.folder / name).rmdir()

    def close(self) -> None:
        """Remove all groups that are empty."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                for entry in self.folder.iterdir():
                    if entry.is_dir():
                        self.drop(entry.name)
                self.folder.rmdir()


def _sweep(base: Path) -> None:
    """Remove the groups of processes that there are no more."""
    for left in base.glob(f"{PREFIX}*"):
        pid = left.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            CpuGroups(left).close()


def _file(version: int, what: str) -> str:
    return {"limit": ("cpu.cfs_quota_us", "cpu.max"), "weight": ("cpu.shares", "cpu.weight")}[what][version - 1]
