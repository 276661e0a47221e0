"""Callers who wait: each has one answer coming, from whichever worker serves his request."""

from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import dataclass, field

from aiohttp import StreamReader

from tango.domain.calls import Answer, CallStanding, Headers
from tango.domain.identity import RequestKey
from tango.domain.requests import Reason

TIMER_S = 0.002
"""Seconds by which a timer may ring before its time: uvloop counts whole milliseconds, of a clock that it reads once a turn."""


@dataclass(slots=True, kw_only=True)
class Answering:
    """An answer that a worker is sending: its head is here, its body is read as its caller takes it."""

    epoch: int
    status: int
    headers: list[tuple[str, str]]
    body: StreamReader
    length: int | None
    """Bytes of the body, where the worker has it whole; None: it comes part by part."""
    passed_on: asyncio.Future[bool]
    """Whether its caller has all of it; set once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A worker says that the request has failed for good."""

    reason: str


Outcome = Answering | Answer | CallStanding | Failed
"""How waiting ends: an answer begins, one that was kept is found, or the request has ended without one."""


@dataclass(eq=False, slots=True)
class Waiting:
    """One caller who waits."""

    outcome: asyncio.Future[Outcome]
    since_s: float
    """When he began to wait, by the loop's clock."""
    until_s: float = math.inf
    """When his time is over, by the same clock, unless an answer has begun by then."""
    held: Headers = ()
    """Headers of his call that are written down nowhere: the worker asks for them here."""
    key: RequestKey | None = None
    """His request, once it is accepted."""
    is_new: bool = True
    """False: his idempotency key was known, so that the answer goes to whoever came first, and he gets the one that is kept."""
    ended_at_s: float | None = None
    """When his request was first found to have succeeded without an answer having come."""

    def left_for(self, *, at_s: float) -> Reason:
        """Why he waits no more, where he has left at `at_s` without an outcome: his time was over, or he has hung up."""
        return Reason.CALLER_TIMED_OUT if at_s >= self.until_s - TIMER_S else Reason.CALLER_GONE

    def ends(self, outcome: Outcome) -> bool:
        """Give him this outcome; False where he has one, or is gone."""
        if self.outcome.done():
            return False
        self.outcome.set_result(outcome)
        return True


@dataclass(slots=True)
class WaitingCallers:
    """All callers of a gateway process who wait for an answer, by request: a number is given out to one cluster alone.

    `enter` is called by the thread that accepts, before anybody is told of the request; all else in the loop's thread.
    """

    _by_key: dict[RequestKey, list[Waiting]] = field(default_factory=dict)
    _changing: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, waiting: Waiting, key: RequestKey, *, is_new: bool) -> None:
        """Let a caller wait for the answer of the request of this key."""
        waiting.key, waiting.is_new = key, is_new
        with self._changing:
            self._by_key.setdefault(key, []).append(waiting)

    def leave(self, waiting: Waiting) -> None:
        """Forget a caller who has his answer, has hung up or waits no longer."""
        if waiting.key is None:
            return
        with self._changing:
            together = self._by_key.get(waiting.key, [])
            if waiting in together:
                together.remove(waiting)
            if not together:
                self._by_key.pop(waiting.key, None)

    def first(self, key: RequestKey) -> Waiting | None:
        """Who is to get the answer as it comes; None: nobody."""
        with self._changing:
            return next((waiting for waiting in self._by_key.get(key, ()) if waiting.is_new), None)

    def held(self, key: RequestKey) -> Headers | None:
        """Headers of the call that are held here; None: nobody waits for this request."""
        with self._changing:
            return next((waiting.held for waiting in self._by_key.get(key, ())), None)

    def is_awaited(self, key: RequestKey) -> bool:
        """Whether anybody waits for this request."""
        return key in self._by_key
