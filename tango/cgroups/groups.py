"""One control group of the kernel: what is set, what the kernel takes of it, what it has accounted; and which hierarchy is mounted."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tango.cgroups.knobs import FILES, PERIOD_US, Knob
from tango.errors import ConfigError, TangoError

MEMORY_IN_USE = {1: "memory.usage_in_bytes", 2: "memory.current"}
"""File of the memory in use, the page cache included, by version."""
UNLIMITED_BYTES = 1 << 62
"""Version 1 writes its largest number where nothing is limited; whatever is above this is meant so."""


class KnobRefused(TangoError):
    """The kernel has not taken a value. Attributes: `group`, `knob`, `value`; `is_gone`, whether the group is there no more."""

    def __init__(self, group: Group, knob: Knob, value: int | None, error: OSError) -> None:
        self.group, self.knob, self.value = group, knob, value
        self.is_gone = error.errno in (errno.ENOENT, errno.ENODEV)
        shown = "no limit" if value is None else value
        super().__init__(f"{group.file(knob)}: the kernel refuses {shown}: {error.strerror or error}")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Control groups as they are mounted below `root`. In version 1 each controller has a folder of its own there, `cpu` and `memory`."""

    root: Path
    version: int

    @classmethod
    def mounted(cls, root: Path) -> Hierarchy:
        """The one in use below a folder, by the files that are there. Where both are mounted, that which has the CPU controller counts.

        Raises: ConfigError if none is.
        """
        with contextlib.suppress(OSError):
            if "cpu" in (root / "cgroup.controllers").read_text().split():
                return cls(root, 2)
        if (root / "cpu" / "cpu.shares").exists():
            return cls(root, 1)
        raise ConfigError(
            f"{root} has no control groups with a CPU controller: expected cgroup.controllers with `cpu` in it (version 2), or "
            "cpu/cpu.shares (version 1); mount the node's /sys/fs/cgroup there, writable, or name its place with --cgroup-root"
        )

    def check_writable(self) -> None:
        """Raises: ConfigError where this process may not change groups, as with a mount that is read-only, or without root's rights."""
        file = self.controller("cpu") / "cgroup.procs"
        if not os.access(file, os.W_OK):
            raise ConfigError(
                f"{file} may not be written by user {os.geteuid()}, so no group can be changed; run as root with the node's "
                "/sys/fs/cgroup mounted writable (in a pod: a hostPath volume of it), and name its place with --cgroup-root"
            )

    def controller(self, name: str) -> Path:
        """The folder below which the groups of a controller are; version 2 has one for all."""
        return self.root if self.version == 2 else self.root / name

    def group(self, path: str) -> Group:
        """A group by its path below the root, the same for all controllers."""
        return Group(self, path)


@dataclass(frozen=True, slots=True)
class Pressure:
    """Microseconds since the group was made in which tasks were stalled for want of a resource (pressure stall information, PSI)."""

    some_us: int
    """In which at least one task was."""
    full_us: int
    """In which all that were not idle were: of CPU, that others had it, or that the group's own quota was used up."""


@dataclass(frozen=True, slots=True)
class CpuAccount:
    """What the kernel has accounted of a group's CPU since it was made."""

    used_us: int
    periods: int
    """Periods of the quota in which something ran."""
    throttled: int
    """Of these, in which the quota was used up."""
    throttled_us: int
    """Microseconds that tasks waited for the next period, added up over CPUs."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group, by its path below the hierarchy's root. It holds nothing: each call asks the kernel."""

    hierarchy: Hierarchy
    path: str

    @property
    def folder(self) -> Path:
        """The folder of its CPU controller; in version 2 all controllers share one."""
        return self.hierarchy.controller("cpu") / self.path

    def below(self, name: str) -> Group:
        """The group of this name in this one, whether it is there or not."""
        return self.hierarchy.group(f"{self.path}/{name}")

    def file(self, knob: Knob) -> Path:
        """The file by which the kernel gives and takes a value of this group."""
        return self.account(FILES[self.hierarchy.version][knob])

    def has(self, knob: Knob) -> bool:
        """Whether this kernel knows the knob, and the group has its controller."""
        return self.file(knob).exists()

    def read(self, knob: Knob) -> int | None:
        """What is set; None: no limit. Raises: OSError if the group, or this kernel, does not have it."""
        return knob_value(knob, self.file(knob).read_text())

    def write(self, knob: Knob, value: int | None) -> None:
        """Set it. Raises: KnobRefused with the kernel's words, and where the group is gone."""
        if value is not None:
            text = f"{value} {self.period_us()}" if knob is Knob.CPU_QUOTA and self.hierarchy.version == 2 else str(value)
        else:
            text = "-1" if self.hierarchy.version == 1 else "max"
        try:
            self.file(knob).write_text(text)
        except OSError as error:
            raise KnobRefused(self, knob, value, error) from error

    def period_us(self) -> int:
        """Period of its quota."""
        try:
            if self.hierarchy.version == 1:
                return int(self.account("cpu.cfs_period_us").read_text())
            return int(self.account("cpu.max").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return PERIOD_US

    def cpu(self) -> CpuAccount:
        """Raises: OSError if the group is gone."""
        stat = self.account("cpu.stat").read_text()
        return cpu_account(stat, self.account("cpuacct.usage").read_text() if self.hierarchy.version == 1 else "")

    def memory_bytes(self) -> int:
        """Memory in use, the page cache included. Raises: OSError if the group is gone."""
        return int(self.account(MEMORY_IN_USE[self.hierarchy.version]).read_text())

    def memory_events(self) -> dict[str, int]:
        """How often a mark was passed: `high`, `max`, `oom_kill`; version 1 counts `oom_kill` alone. Raises: OSError."""
        return _pairs(self.account("memory.events" if self.hierarchy.version == 2 else "memory.oom_control").read_text())

    def pressure(self, resource: str) -> Pressure | None:
        """Of `cpu`, `memory` or `io`; None where the kernel does not say: version 1, or without PSI."""
        return read_pressure(self.account(f"{resource}.pressure")) if self.hierarchy.version == 2 else None

    def exists(self) -> bool:
        """Whether it is there."""
        return self.folder.is_dir()

    def ancestors(self) -> Iterator[Group]:
        """The groups above it, the nearest first, without the root."""
        path = self.path.rpartition("/")[0]
        while path:
            yield self.hierarchy.group(path)
            path = path.rpartition("/")[0]

    def effective(self, knob: Knob) -> int | None:
        """What holds for a limit, given those of the groups above: the lowest. Quotas of other periods are put into this group's.

        Raises: OSError if the group is gone.
        """
        lowest, period_us = self.read(knob), self.period_us()
        for above in self.ancestors():
            try:
                value = above.read(knob)
            except OSError:  # a part of the way that this process does not see
                continue
            if value is not None and knob is Knob.CPU_QUOTA:
                value = value * period_us // above.period_us()
            lowest = value if lowest is None else lowest if value is None else min(lowest, value)
        return lowest

    def account(self, name: str) -> Path:
        """One of its files, whose name begins with that of its controller."""
        return self.hierarchy.controller(name.partition(".")[0]) / self.path / name


def read_pressure(path: Path) -> Pressure | None:
    """Totals of a file of pressure stall information, of a group or below /proc/pressure; None if there is none, or it is turned off."""
    try:
        return pressure_of(path.read_text(encoding="utf-8"))
    except OSError:
        return None


def pressure_of(text: str) -> Pressure:
    """Totals of such a file: a line `some ... total=US`, and one of `full` where the kernel tells it. Raises: ValueError."""
    some, _, full = text.partition("full")
    return Pressure(int(some.rpartition("total=")[2] or 0), int(full.rpartition("total=")[2] or 0))


def cpu_account(stat: str, usage_ns: str) -> CpuAccount:
    """Of `cpu.stat`, and in version 1, empty otherwise, of `cpuacct.usage`. Raises: KeyError, ValueError for what is neither."""
    pairs = _pairs(stat)
    if usage_ns:
        used_us, throttled_us = int(usage_ns) // 1000, pairs.get("throttled_time", 0) // 1000
    else:
        used_us, throttled_us = pairs["usage_usec"], pairs.get("throttled_usec", 0)
    return CpuAccount(used_us, pairs.get("nr_periods", 0), pairs.get("nr_throttled", 0), throttled_us)


def knob_value(knob: Knob, text: str) -> int | None:
    """What a knob's file says; None: no limit."""
    word = text.split()[0]
    if word == "max":
        return None
    value = int(word)
    if knob is Knob.CPU_QUOTA and value < 0:
        return None
    return None if knob in (Knob.MEMORY_MAX, Knob.MEMORY_HIGH) and value >= UNLIMITED_BYTES else value


def _pairs(text: str) -> dict[str, int]:
    words = text.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))
