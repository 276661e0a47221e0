"""Writes the states of many pods side by side, those of one pod in order, and only the newest of what has piled up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from tango.errors import ClusterError, ClusterUnavailable, Conflict, Invalid, NotFound, Throttled

log = structlog.get_logger(__name__)

AGAIN_AFTER_S = 0.5


class StatusWriter:
    """`write(uid)` sends what is to be said of a pod at that moment; `touch(uid)` says that there is something new.

    How many calls are under way is the client's business; a pod that cannot be written (gone, another of its name) is dropped,
    a server that does not answer is asked again until it does.
    """

    def __init__(self, write: Callable[[str], Awaitable[None]], *, again_after_s: float = AGAIN_AFTER_S) -> None:
        self._write = write
        self._again_after_s = again_after_s
        self._touched: set[str] = set()
        self._writers: dict[str, asyncio.Task[None]] = {}

    def touch(self, uid: str) -> None:
        """There is something new to say of this pod."""
        self._touched.add(uid)
        if uid not in self._writers:
            self._writers[uid] = asyncio.get_running_loop().create_task(self._follow(uid))

    def drop(self, uid: str) -> None:
        """The pod is gone: what was still to be said is not."""
        self._touched.discard(uid)

    async def written(self, uid: str) -> None:
        """Wait until everything said so far is on the server, or cannot be any more."""
        if uid in self._writers:
            await asyncio.shield(self._writers[uid])

    async def close(self) -> None:
        """Give up what is under way."""
        writers = list(self._writers.values())
        for task in writers:
            task.cancel()
        await asyncio.gather(*writers, return_exceptions=True)

    async def _follow(self, uid: str) -> None:
        try:
            while uid in self._touched:
                self._touched.discard(uid)
                try:
                    await self._write(uid)
                except (NotFound, Conflict, Invalid) as error:
                    log.info("status_dropped", uid=uid, error=str(error))
                except (ClusterUnavailable, Throttled) as error:
                    log.warning("status_waits", uid=uid, error=str(error))
                    self._touched.add(uid)
                    await asyncio.sleep(self._again_after_s * random.uniform(1.0, 2.0))
                except ClusterError as error:
                    log.error("status_refused", uid=uid, error=str(error))
        finally:
            del self._writers[uid]
