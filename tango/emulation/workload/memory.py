"""Holding memory: every page is written once, because untouched pages do not count in a container's working set."""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
from collections.abc import Iterator


@contextlib.contextmanager
def held(memory_mib: float) -> Iterator[None]:
    """Hold `memory_mib` MiB while the block runs. Raises: OSError, with the amount, if the system refuses it."""
    size = math.ceil(memory_mib * 2**20)
    if size == 0:
        yield
        return
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        pages[:: mmap.PAGESIZE] = b"\x01" * math.ceil(size / mmap.PAGESIZE)
    except (OSError, OverflowError, MemoryError) as error:  # OverflowError: more than can be addressed
        raise OSError(errno.ENOMEM, f"{memory_mib:g} MiB cannot be held: {error}") from error
    with pages:
        yield
