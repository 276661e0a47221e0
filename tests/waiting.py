"""Waiting for what other processes, threads and tasks bring about. One deadline for all tests, far beyond what a busy machine needs, so
that no test depends on how fast its machine is: what takes longer than this does not come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
WITHIN_S = 90.0
"""Seconds; below the time limit of a test, so that a wait in vain says what it waited for."""


def until(
    look: Callable[[], T | None], *, within_s: float = WITHIN_S, every_s: float = 0.05, told: Callable[[], object] = str
) -> T:
    """What `look` gives once it gives something true. Raises: AssertionError with what `told` says when it does not in time."""
    deadline_s = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"not within {within_s:g} s: {told() or look}"
        time.sleep(every_s)
    return found


async def eventually(
    look: Callable[[], T | None], *, within_s: float = WITHIN_S, every_s: float = 0.01, told: Callable[[], object] = str
) -> T:
    """As `until`, while other tasks of this loop go on."""
    deadline_s = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"not within {within_s:g} s: {told() or look}"
        await asyncio.sleep(every_s)
    return found
