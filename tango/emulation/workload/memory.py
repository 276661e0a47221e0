"""Holding memory: every page is written once, because untouched pages do not count in a container's working set."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Iterator


@contextlib.contextmanager
def held(memory_mib: float) -> Iterator[None]:
    """Hold `memory_mib` MiB while the block runs. Raises: OSError if the system refuses it."""
    size = math.ceil(memory_mib * 2**20)
    if size == 0:
        yield
        return
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages[:: mmap.PAGESIZE] = b"\x01" * math.ceil(size / mmap.PAGESIZE)
        yield
