"""The mode `run`: do the work of one BE request, write a termination message that says what was done, and end."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tango.emulation.workload.burning import burn_on
from tango.emulation.workload.memory import held

SIGTERM_STATUS = 128 + signal.SIGTERM


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """Settings of `run`."""

    cpu_work_s: float
    """CPU-seconds of work."""
    memory_mib: float = 0.0
    """Memory to hold while working."""
    cores: int = 1
    """Threads that work at once."""
    termination_log: Path = Path("/dev/termination-log")
    """File of the termination message; the default is Kubernetes' own."""


def run(options: BatchOptions, stop: threading.Event) -> int:
    """Do the work until it is done or `stop` is set; return the exit status: 0, 143 when stopped, 1 when the memory was refused.

    The termination message is JSON with the keys `cpu_work_s` (CPU-seconds done), `started_s` and `finished_s` (Unix seconds).
    """
    started_s, done_s, status = time.time(), 0.0, 0
    try:
        with held(options.memory_mib):
            done_s = burn_on(options.cores, options.cpu_work_s, stop)
    except OSError as error:
        print(f"the work was not done: {error}", flush=True)
        status = 1
    if stop.is_set():
        status = SIGTERM_STATUS
    message = {
        "cpu_work_s": round(min(done_s, options.cpu_work_s), 6),
        "started_s": round(started_s, 6),
        "finished_s": round(time.time(), 6),
    }
    try:
        options.termination_log.write_text(json.dumps(message), encoding="ascii")
    except OSError as error:  # the work is done all the same, so the exit status does not change
        print(f"the termination message cannot be written to {options.termination_log}: {error.strerror}", flush=True)
    return status


def cores_of_limit(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that the container's CPU limit allows at once, rounded up; 1 if there is no cgroup v2 to read.

    `cpu.max` holds "quota period" in microseconds, or "max period" without a limit. Source: Linux, Documentation/admin-guide/cgroup-v2.rst.
    """
    available = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 1
    return available if quota == "max" else max(1, min(available, math.ceil(int(quota) / int(period))))
