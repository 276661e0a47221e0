"""Holds memory that really counts: every page is touched, so that it stands in the container's working set."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Iterator


@contextlib.contextmanager
def held(memory_mib: float) -> Iterator[None]:
    """Hold this much memory; given back at the end. Raises: OSError when the system refuses it."""
    size = math.ceil(memory_mib * 2**20)
    if size == 0:
        yield
        return
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages[:: mmap.PAGESIZE] = b"\x01" * math.ceil(size / mmap.PAGESIZE)
        yield
