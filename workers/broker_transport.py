"""kombu's Redis transport with one client for each channel, instead of a new one for every command.

A redis-py client is a table of 170 response callbacks around a connection pool. kombu builds one for every publish and every
acknowledgement (`Channel.conn_or_acquire`), which is about half of a message's cost in a worker. The pool behind it is shared and
thread-safe in either case, so keeping the client changes nothing else. `tango bench live` shows the difference. The module can go once
kombu keeps its clients.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis


class Channel(redis.Channel):  # type: ignore[misc,unused-ignore]
    """A channel that keeps its synchronous client."""

    _kept: Any = None
    _kept_pool: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        # A channel that has lost its connections makes a new pool, and the kept client belongs to the old one.
        if self._kept is None or self._kept_pool is not self.pool:
            self._kept, self._kept_pool = super()._create_client(), self.pool
        return self._kept


class Transport(redis.Transport):  # type: ignore[misc,unused-ignore]
    """kombu's Redis transport with the channels of this module."""

    Channel = Channel
