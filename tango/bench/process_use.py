"""CPU time and memory of a stack's processes by role, to show which of them use the machine."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from tango.stack.state import supervisor_pid
from tango.stack.supervisor import read_status

MIB = 2**20
"""Bytes."""


class CpuMeter:
    """Measures the CPU time of one stack's processes and their children from its creation on."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._at_s, self._spent_s = time.monotonic(), self._read()

    def percent(self) -> dict[str, float]:
        """By role: CPU time since the meter was created, in per cent of one core, highest first."""
        elapsed_s = time.monotonic() - self._at_s
        used = {role: 100 * (spent_s - self._spent_s.get(role, 0.0)) / elapsed_s for role, spent_s in self._read().items()}
        return dict(sorted(used.items(), key=lambda item: -item[1]))

    def _read(self) -> Mapping[str, float]:
        spent_s: dict[str, float] = defaultdict(float)
        for role, _, members in _processes(self._home):
            for member in members:
                with contextlib.suppress(psutil.Error):
                    times = member.cpu_times()
                    spent_s[role] += times.user + times.system
        return spent_s


def memory_mib(home: Path) -> dict[str, list[float]]:
    """By role: the proportional set size of each process with its children, MiB, highest first; supervisor and fork server are roles too.

    Of a page that several processes share, each is charged its part (`Pss` of proc(5)), so that the sum is what the stack takes.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for role, _, members in _processes(home):
        size = 0.0
        for member in members:
            with contextlib.suppress(psutil.Error):
                size += member.memory_full_info().pss / MIB
        found[role].append(size)
    return {role: sorted(sizes, reverse=True) for role, sizes in found.items()}


def open_descriptors(home: Path) -> dict[str, int]:
    """By role: file descriptors that its processes and their children have open."""
    found: dict[str, int] = defaultdict(int)
    for role, _, members in _processes(home):
        for member in members:
            with contextlib.suppress(psutil.Error):
                found[role] += member.num_fds()
    return found


def _processes(home: Path) -> Iterator[tuple[str, str, list[psutil.Process]]]:
    """(role, name, the process and its children) of all that live."""
    rows = [(row["role"], row["name"], row["pid"]) for row in read_status(home)["processes"]]
    supervisor = supervisor_pid(home)
    for role, name, pid in rows:
        if pid is None:  # between two starts; psutil would take None for this very process
            continue
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            yield role, name, [process, *process.children(recursive=True)]
    if supervisor:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(supervisor)
            yield "supervisor", "supervisor", [process]
            # It has no row of its own, and its children have theirs.
            pids = {pid for _, _, pid in rows}
            yield "fork server", "fork server", [child for child in process.children() if child.pid not in pids]
