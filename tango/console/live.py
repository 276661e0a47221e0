"""What all who look share: a subject is read at most once in its interval, however many look, and not at all while nobody does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import orjson
import structlog

from tango.errors import TangoError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was read of a subject of the console at last."""

    version: int = 0
    """Grows with every change; 0: nothing was read yet."""
    value: Any = None
    trouble: str = ""
    """Why the newest reading failed; empty: it did not. `value` is then that of the last one that did not."""


class Subject:
    """One thing to look at. Its methods run on one asyncio loop."""

    def __init__(
        self,
        read: Callable[[], Any],
        *,
        every_s: float,
        within: Executor | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read` blocks, and runs in a thread of the executor; at most one call of it is under way."""
        self._read, self._every_s, self._within, self._clock_s = read, every_s, within, clock_s
        self._told = Told()
        self._read_at_s = -float("inf")
        self._reading: asyncio.Task[None] | None = None

    async def latest(self) -> Told:
        """What is known, not older than the interval; where reading takes longer than that, what was known before."""
        if self._reading is None and self._clock_s() - self._read_at_s >= self._every_s:
            self._read_at_s = self._clock_s()
            self._reading = asyncio.create_task(self._read_again())
        if self._reading is not None:
            # Not cancelled with whoever asked: others wait for the same reading.
            await asyncio.wait({self._reading}, timeout=self._every_s)
        return self._told

    async def _read_again(self) -> None:
        before = self._told
        try:
            value = await asyncio.get_running_loop().run_in_executor(self._within, self._read)
            self._told = Told(version=before.version + 1, value=value)
        except TangoError as error:
            self._told = replace(before, version=before.version + 1, trouble=str(error))
        except Exception as error:  # a defect of one reading ends neither the others nor the stream
            log.exception("not_read")
            self._told = replace(before, version=before.version + 1, trouble=f"a defect in Tango: {error}")
        finally:
            self._reading = None


def encoded(value: Any) -> bytes:
    """JSON of dataclasses, NumPy arrays and the usual; NaN becomes null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
