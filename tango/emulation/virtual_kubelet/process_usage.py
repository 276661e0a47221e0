"""CPU time and memory of process groups, from /proc: one look at all processes of the machine, however many groups there are."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


def group_usage(groups: Collection[int], proc: Path = Path("/proc")) -> dict[int, tuple[float, float]]:
    """By group: (CPU-seconds of its processes and of the children that they waited for, MiB resident together).

    Pages that processes share count for each of them. A group without processes is left out.
    Source: proc_pid_stat(5), fields 5 (pgrp), 14 to 17 (utime, stime, cutime, cstime) and 24 (rss).
    """
    found: dict[int, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for entry in os.scandir(proc):
        if not entry.name.isdigit():
            continue
        try:
            # After the name, which stands in parentheses and may hold any character.
            fields = (proc / entry.name / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        group = int(fields[2])
        if group in groups:
            cpu_s, memory_mib = found[group]
            cpu_s += sum(map(int, fields[11:15])) / TICKS_PER_S
            found[group] = cpu_s, memory_mib + int(fields[21]) * PAGE_MIB
    return dict(found)
