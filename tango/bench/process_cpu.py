"""CPU time of a stack's processes by role, to show which of them use the cores during a measurement."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import psutil

from tango.stack.supervisor import read_status


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
        for row in read_status(self._home)["processes"]:
            if row["pid"] is None:  # between two starts; psutil would take None for this very process
                continue
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(row["pid"])
                for member in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        times = member.cpu_times()
                        spent_s[row["role"]] += times.user + times.system
        return spent_s
