"""Looks in the journal how those stand who have waited for a moment: what ends without an answer is told to its caller soon.

Workers say what they know (`answers`). What nobody says is found here: requests that were shed or cancelled, whose worker died, whose
answer went to a gateway that is no more, or to whoever sent the same idempotency key first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from tango import progress
from tango.domain.calls import CallStanding
from tango.domain.identity import RequestKey
from tango.domain.requests import RequestState
from tango.errors import TangoError
from tango.gateway.waiting import Waiting
from tango.ports.callers import CallerRequests
from tango.settings import GatewaySettings

log = structlog.get_logger(__name__)

ON_ITS_WAY_S = 0.5
"""Seconds that an answer may be on its way after its request is found to have succeeded, before the one that was kept is given. A worker
sends first and settles after, so that this is for one that died in between."""


class Lookout:
    """The lookout of one cluster's gateway."""

    def __init__(self, cluster: str, journal: CallerRequests, settings: GatewaySettings) -> None:
        self._cluster, self._journal, self._settings = cluster, journal, settings
        self._mine: set[Waiting] = set()
        self._wanted = asyncio.Event()
        """Set while there is somebody to look for."""

    def watch(self, waiting: Waiting) -> None:
        """Begin to watch this request."""
        self._mine.add(waiting)
        self._wanted.set()

    def forget(self, waiting: Waiting) -> None:
        """Stop watching this request."""
        self._mine.discard(waiting)

    async def run(self) -> None:
        """Look at all watched requests again and again, until cancelled."""
        loop = f"lookout of {self._cluster}"
        try:
            while True:
                if not self._mine:
                    progress.over(loop)
                    self._wanted.clear()
                    await self._wanted.wait()
                progress.turned(loop)
                await asyncio.sleep(self._settings.look_every_s)
                now_s = asyncio.get_running_loop().time()
                due = [w for w in self._mine if self._is_due(w, now_s)]
                if due:
                    try:
                        await self._look(due, now_s)
                    except TangoError as error:
                        log.warning("lookout_failed", cluster=self._cluster, error=str(error))
                    except Exception:  # whoever waits is told at the next look, or when his time is over
                        log.exception("lookout_broken", cluster=self._cluster)
        finally:
            progress.over(loop)

    def _is_due(self, waiting: Waiting, now_s: float) -> bool:
        return waiting.key is not None and not waiting.outcome.done() and now_s - waiting.since_s >= self._settings.look_every_s

    async def _look(self, due: list[Waiting], now_s: float) -> None:
        keys = list({waiting.key for waiting in due if waiting.key is not None})
        standings: Mapping[RequestKey, CallStanding] = await asyncio.to_thread(self._journal.standings, keys)
        for waiting in due:
            standing = standings.get(waiting.key) if waiting.key is not None else None
            if standing is None or not standing.has_ended:
                continue
            if standing.state is not RequestState.SUCCEEDED:
                waiting.ends(standing)
            elif waiting.ended_at_s is None and waiting.is_new:
                waiting.ended_at_s = now_s
            elif not waiting.is_new or now_s - (waiting.ended_at_s or now_s) >= ON_ITS_WAY_S:
                await self._give_kept(waiting, standing)

    async def _give_kept(self, waiting: Waiting, standing: CallStanding) -> None:
        assert waiting.key is not None
        answer = await asyncio.to_thread(self._journal.answer, waiting.key)
        waiting.ends(answer if answer is not None and answer.is_whole else standing)
