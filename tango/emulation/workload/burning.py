"""Burns CPU by the CPU clock of the thread that burns, so that waiting for a core does not count as work."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

# hashlib lets go of the interpreter lock for blocks above 2 KiB, so that threads burn on several cores at once. A block of 64 KiB
# takes about 50 microseconds, which is how closely an amount of work is met.
_BLOCK = bytes(64 * 1024)


def burn(cpu_work_s: float, stop: threading.Event) -> float:
    """Use this much CPU time of the calling thread, or less when told to stop; give the CPU-seconds used."""
    begun_s = time.thread_time()
    used_s = 0.0
    while used_s < cpu_work_s and not stop.is_set():
        hashlib.sha256(_BLOCK)
        used_s = time.thread_time() - begun_s
    return used_s


def burn_on(cores: int, cpu_work_s: float, stop: threading.Event) -> float:
    """Use this much CPU time on several cores at once; give the CPU-seconds used."""
    if cores == 1:
        return burn(cpu_work_s, stop)
    with ThreadPoolExecutor(cores) as threads:
        return sum(threads.map(lambda part_s: burn(part_s, stop), [cpu_work_s / cores] * cores))
