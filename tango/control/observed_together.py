"""What several agents of one process see at about the same time, written to the centre in one transaction.

A process that serves fifty clusters would write fifty samples every few seconds, each in a transaction of its own, and every one of them
takes PostgreSQL and this side the same, whether it has one node or fifty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from tango.domain.observations import Observation
from tango.errors import StoreUnavailable

log = structlog.get_logger(__name__)

GATHER_S = 0.01
"""Seconds for which observations are gathered. Agents of one process look at the same instants, so that this is enough for all of them."""


class ObservedTogether:
    """Gathers observations of one event loop. `observe_all` is called in a thread, by one at a time."""

    def __init__(self, observe_all: Callable[[Sequence[Observation]], None], *, gather_s: float = 0.0) -> None:
        self._observe_all = observe_all
        self._gather_s = gather_s
        self._waiting: list[tuple[Observation, asyncio.Future[None]]] = []
        self._writing: set[asyncio.Task[None]] = set()

    async def observe(self, observation: Observation) -> None:
        """Write it, with those that come meanwhile. Raises: StoreUnavailable, StoreError where this one was not written."""
        loop = asyncio.get_running_loop()
        written = loop.create_future()
        self._waiting.append((observation, written))
        if len(self._waiting) == 1:
            task = loop.create_task(self._write_soon())
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        await written

    async def _write_soon(self) -> None:
        await asyncio.sleep(self._gather_s)
        told, self._waiting = self._waiting, []
        errors = await asyncio.to_thread(self._written, [observation for observation, _ in told])
        for (_, written), error in zip(told, errors, strict=True):
            if written.done():  # who waited for it was cancelled
                continue
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)

    def _written(self, observations: Sequence[Observation]) -> list[Exception | None]:
        """What became of each. One that the store refuses costs the others nothing: they are then written one by one."""
        try:
            self._observe_all(observations)
        except StoreUnavailable as error:
            return [StoreUnavailable(str(error)) for _ in observations]
        except Exception as error:
            if len(observations) == 1:
                return [error]
            log.warning("observations_refused", clusters=len(observations), error=str(error))
            return [found for observation in observations for found in self._written([observation])]
        return [None] * len(observations)
