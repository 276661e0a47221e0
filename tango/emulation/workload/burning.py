"""Using a given amount of CPU time, measured by the thread's own CPU clock, so that waiting for a core does not count as work."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

# hashlib releases the interpreter lock for blocks above 2 KiB, so threads use several cores at once. Hashing 64 KiB takes about 50
# microseconds, which is the precision of an amount of work.
_BLOCK = bytes(64 * 1024)


def burn(cpu_work_s: float, stop: threading.Event) -> float:
    """Use `cpu_work_s` seconds of the calling thread's CPU time, fewer if `stop` is set; return the CPU-seconds used."""
    begun_s = time.thread_time()
    used_s = 0.0
    while used_s < cpu_work_s and not stop.is_set():
        hashlib.sha256(_BLOCK)
        used_s = time.thread_time() - begun_s
    return used_s


def burn_on(cores: int, cpu_work_s: float, stop: threading.Event) -> float:
    """Use `cpu_work_s` CPU-seconds in `cores` threads, an equal part in each; return the CPU-seconds used."""
    if cores == 1:
        return burn(cpu_work_s, stop)
    with ThreadPoolExecutor(cores) as threads:
        return sum(threads.map(lambda part_s: burn(part_s, stop), [cpu_work_s / cores] * cores))
