"""CPU time that a training has used: the unit of a budget on a machine that is shared, where wall time would not be comparable."""

from __future__ import annotations

import contextlib
import time

import psutil


def cpu_s_so_far() -> float:
    """CPU-seconds of this process and of its children that live; those that have ended are not counted."""
    spent_s = time.process_time()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it may end at any time
            times = child.cpu_times()
            spent_s += times.user + times.system
    return spent_s
