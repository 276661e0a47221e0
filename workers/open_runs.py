"""Tells beat that a run is open, by a word on the broker: while none is, periodic tasks are sent rarely (`ticks`).

Whoever tells writes a new word each time; beat looks for changes, and goes by its own clock, so that no clocks of hosts have to agree and
nothing that is left behind on a broker counts.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

log = structlog.get_logger(__name__)

SAY_EVERY_S = 1.0
"""Seconds between two words of one process."""
_HASH, _FIELD = "ticks", "open"
"""Where the word stands, under the application's prefix. A hash, because kombu prefixes the keys of both its commands."""


class OpenRuns:
    """Says on the broker that a run is open."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._said_at_s = -float("inf")

    def say(self) -> None:
        """Say it, at most once every `SAY_EVERY_S`. A broker that is away is not told: the next call tries again."""
        now_s = time.monotonic()
        if now_s - self._said_at_s < SAY_EVERY_S:
            return
        with self._app.producer_pool.acquire(block=True) as producer, tolerant(producer.connection):
            producer.channel.client.hset(_HASH, _FIELD, uuid.uuid4().hex)
            self._said_at_s = now_s


def read_word(channel: Any) -> object:
    """What was last said; None: nothing."""
    return channel.client.hget(_HASH, _FIELD)


@contextlib.contextmanager
def tolerant(connection: Any) -> Iterator[None]:
    """Log a broker that is away, and go on."""
    try:
        yield
    except (OperationalError, *connection.connection_errors, *connection.channel_errors) as error:
        log.warning("open_runs_not_told", error=str(error))
