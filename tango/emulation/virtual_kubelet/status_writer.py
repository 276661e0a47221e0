"""Writes pod statuses: those of different pods concurrently, those of one pod in order, and of several pending ones only the newest."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from tango.errors import ClusterError, ClusterUnavailable, Conflict, Invalid, NotFound

log = structlog.get_logger(__name__)

AGAIN_AFTER_S = 0.5
"""Seconds, doubled at random, before a write that got no answer is repeated."""


LONGEST_WAIT_S = 30.0
"""The wait is doubled with each failure in a row, up to this."""


class StatusWriter:
    """Calls `write(uid)`, which sends the pod's current status, after each `touch(uid)`; touches during a call are combined.

    The client limits the number of concurrent calls. A write that the server refuses for good (the pod is gone, another has its name, or
    it is invalid) is dropped; any other is repeated until the server takes it.
    """

    def __init__(self, write: Callable[[str], Awaitable[None]], *, again_after_s: float = AGAIN_AFTER_S) -> None:
        self._write = write
        self._again_after_s = again_after_s
        self._touched: set[str] = set()
        self._writers: dict[str, asyncio.Task[None]] = {}

    def touch(self, uid: str) -> None:
        """Schedule a write of this pod's status, because it has changed."""
        self._touched.add(uid)
        if uid not in self._writers:
            self._writers[uid] = asyncio.get_running_loop().create_task(self._follow(uid))

    def drop(self, uid: str) -> None:
        """Cancel a scheduled write, because the pod has been deleted."""
        self._touched.discard(uid)

    async def written(self, uid: str) -> None:
        """Wait until the writes scheduled so far have succeeded or been dropped; without limit while the server does not answer."""
        if uid in self._writers:
            await asyncio.shield(self._writers[uid])

    async def close(self) -> None:
        """Cancel all writes."""
        writers = list(self._writers.values())
        for task in writers:
            task.cancel()
        await asyncio.gather(*writers, return_exceptions=True)

    async def _follow(self, uid: str) -> None:
        wait_s = self._again_after_s
        try:
            # Invariant: no touch is lost. It is taken before the write, so one during the write is seen by the next round; and nothing is
            # awaited between finding none left and removing this writer, after which `touch` starts a new one.
            while uid in self._touched:
                self._touched.discard(uid)
                try:
                    await self._write(uid)
                except (NotFound, Conflict, Invalid) as error:
                    log.info("status_dropped", uid=uid, error=str(error))
                except (ClusterUnavailable, ClusterError) as error:
                    # A server that has lost the token or has not read its roles yet refuses now and not for good: a status that were
                    # given up would leave its pod running for ever to all who read the API.
                    log.warning("status_waits", uid=uid, error=str(error))
                    self._touched.add(uid)
                    await asyncio.sleep(wait_s * random.uniform(1.0, 2.0))
                    wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                    continue
                except Exception:  # who waits in `written` goes on: a pod under deletion would otherwise stay for ever
                    log.exception("status_broken", uid=uid)
                wait_s = self._again_after_s
        finally:
            del self._writers[uid]
