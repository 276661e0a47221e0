"""CPU time of a stack's processes, by role: where the cores go while something is measured."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import psutil

from tango.stack.supervisor import read_status


class CpuMeter:
    """Reads the processes of one stack, their children included."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._at_s, self._spent_s = time.monotonic(), self._read()

    def percent(self) -> dict[str, float]:
        """Per cent of one core since the meter was made, by role, the highest first."""
        elapsed_s = time.monotonic() - self._at_s
        used = {role: 100 * (spent_s - self._spent_s.get(role, 0.0)) / elapsed_s for role, spent_s in self._read().items()}
        return dict(sorted(used.items(), key=lambda item: -item[1]))

    def _read(self) -> Mapping[str, float]:
        spent_s: dict[str, float] = defaultdict(float)
        for row in read_status(self._home)["processes"]:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(row["pid"])
                for member in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        times = member.cpu_times()
                        spent_s[row["role"]] += times.user + times.system
        return spent_s
