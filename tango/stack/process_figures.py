"""What the supervisor knows of a stack's processes, and the kernel of their use, as metrics."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from tango.stack.children import ProcessState
from tango.stack.supervisor import read_status
from tango.telemetry import catalogue as of
from tango.telemetry.readings import Readings


class ProcessFigures:
    """The metrics of `Source.STACK` of the stack in one state folder."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._times = psutil.cpu_times()

    def read(self) -> Readings:
        """Those of all processes that the supervisor has, whether they run or not; the use only of those that do."""
        found = Readings()
        for row in read_status(self._home)["processes"]:
            name = (row["name"],)
            found.add(of.PROCESS_UP, name, float(row["state"] == ProcessState.RUNNING))
            found.add(of.PROCESS_RESTARTS, name, float(row["restarts"]))
            with contextlib.suppress(psutil.Error, TypeError, ValueError):  # one without a number, or that has just ended
                process = psutil.Process(int(row["pid"]))
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info()
                found.add(of.PROCESS_CPU, name, times.user + times.system)
                found.add(of.PROCESS_MEMORY, name, float(memory.rss))
        # Not by `psutil.cpu_percent`, which remembers for each thread by itself what it saw last.
        before, self._times = self._times, psutil.cpu_times()
        total_s = sum(self._times) - sum(before)
        waited_s = self._times.idle + self._times.iowait - before.idle - before.iowait
        if total_s > 0.0:
            found.add(of.HOST_CPU, (), min(1.0, max(0.0, 1.0 - waited_s / total_s)))
        return found
