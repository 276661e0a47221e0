"""kombu's Redis transport, without what it does anew for each message.

- A redis-py client is a table of 170 response callbacks around a connection pool. kombu builds one for every publish and every
  acknowledgement (`Channel.conn_or_acquire`), which is about half of a message's cost in a worker. The pool behind it is shared and
  thread-safe in either case, so keeping the client changes nothing else.
- After each message a consumer asks for the next one of any of its queues, in four lists each: the three of higher priorities are there for
  messages of other applications alone (`workers.queues.has_priorities`). The command is the same ever again, so it is kept as bytes.
- Messages are parsed by orjson where they are plain JSON. What is no message at all (whoever reaches the broker may put anything into a
  queue) is logged and dropped; in kombu it ends the worker.

`tango bench live` shows the difference. What kombu comes to do by itself can go from here.
"""

from __future__ import annotations

import binascii
import contextlib
import time
from queue import Empty
from typing import Any

import orjson
import structlog
from kombu.transport import redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from tango.stack.broker_address import SOCKET, TLS
from workers.queues import expires_after_s, has_priorities

log = structlog.get_logger(__name__)

KEPT_COMMANDS = 256
"""Commands that are kept at the most: one for each order of the queues in turn, of which a busy worker sees a few."""
_OWN_TYPE = b'"__type__"'
"""The mark of what is no plain JSON in kombu's, such as times."""


class Channel(redis.Channel):  # type: ignore[misc,unused-ignore]
    """A channel that keeps its synchronous client, and the commands by which it waits for messages."""

    _kept: Any = None
    _kept_pool: Any = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._commands: dict[tuple[Any, ...], list[bytes]] = {}

    def put(self, queue: str, message: bytes) -> None:
        """Put a message that is whole into a queue, without priority. Raises: what the connection raises."""
        with self._create_client().pipeline(transaction=False) as both:
            both.lpush(queue, message)
            if (of_queue := expires_after_s(queue)) is not None:
                both.pexpire(queue, round(of_queue * 1000), nx=True)
            put, *_ = both.execute(raise_on_error=False)  # a server before Redis 7 knows no NX, and keeps the queue as it is
        if isinstance(put, Exception):
            raise put

    def _put(self, queue: str, message: dict[str, Any], **named: Any) -> None:
        super()._put(queue, message, **named)
        if (of_queue := expires_after_s(queue)) is None or named.get("_publish_batch") is not None:
            return
        key = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        with contextlib.suppress(self.ResponseError):
            self._create_client().pexpire(key, round(of_queue * 1000), nx=True)

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        # A channel that has lost its connections makes a new pool, and the kept client belongs to the old one.
        if self._kept is None or self._kept_pool is not self.pool:
            self._kept, self._kept_pool = super()._create_client(), self.pool
        return self._kept

    def _brpop_start(self, timeout: float | None = None) -> None:
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        connection = self.client.connection
        wait_s = (self.brpop_timeout if timeout is None else timeout) or 0
        asked = (*queues, wait_s)
        if (command := self._commands.get(asked)) is None:
            if len(self._commands) >= KEPT_COMMANDS:
                self._commands.clear()
            command = self._commands[asked] = connection.pack_command("BRPOP", *self._lists_of(queues), wait_s)
        self._in_poll = connection
        self._brpop_sent_at = time.monotonic()
        connection.send_packed_command(command)

    def _lists_of(self, queues: list[str]) -> list[str]:
        """The lists that hold the messages of these queues, in the order in which they are served."""
        first = self.priority(self.default_priority)
        of = [(queue, step) for step in self.priority_steps for queue in queues if step == first or has_priorities(queue)]
        return [f"{self.global_keyprefix}{self._q_for_pri(queue, step)}" for queue, step in of]

    def _brpop_read(self, **options: Any) -> bool:
        # As kombu's, but for the parser.
        try:
            try:
                found = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not found:
                raise Empty
            queue, message = found
            queue = bytes_to_str(queue).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            try:
                self.connection._deliver(read(message), queue)
            except NoMessage as error:
                log.error("message_dropped", queue=queue, size_bytes=len(message), begins=repr(message[:40]), reason=str(error))
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()


class NoMessage(ValueError):
    """What stood in a queue is no message."""


def read(message: bytes) -> dict[str, Any]:
    """A message as kombu delivers it. Raises: NoMessage for what no `kombu.transport.virtual.Message` can be made of."""
    try:
        found: dict[str, Any] = loaded(message)
    except (ValueError, TypeError, RecursionError) as error:
        raise NoMessage(f"no JSON: {error}") from error
    properties = found.get("properties") if isinstance(found, dict) else None
    if not isinstance(properties, dict) or "delivery_tag" not in properties:
        raise NoMessage("without an envelope that has properties.delivery_tag")
    if not isinstance(found.get("headers") or {}, dict):
        raise NoMessage("its headers are no mapping")
    body, encoding = found.get("body"), properties.get("body_encoding")
    if encoding not in (None, "base64"):
        raise NoMessage(f"unknown body_encoding {encoding!r}")
    if encoding == "base64":
        try:
            binascii.a2b_base64(body or "")
        except (ValueError, TypeError) as error:
            raise NoMessage(f"its body is no base64: {error}") from error
    return found


def loaded(message: bytes) -> Any:
    """A message of the broker as Python's own types, as kombu reads it."""
    if _OWN_TYPE not in message:
        with contextlib.suppress(orjson.JSONDecodeError):  # what Python's own JSON takes beyond the standard: NaN, say
            return orjson.loads(message)
    return loads(bytes_to_str(message))


class Transport(redis.Transport):  # type: ignore[misc,unused-ignore]
    """kombu's Redis transport with the channels of this module."""

    Channel = Channel


class SocketTransport(Transport):
    """The same over a UNIX socket, whose URL the channel takes apart: kombu would take its path for the name of a database."""

    can_parse_url = True


def spoken_to(url: str) -> dict[str, str]:
    """Celery's settings for a broker (`tango.stack.broker_address`): its URL, and the transport where it is one of this module."""
    if url.startswith(f"{SOCKET}://"):
        # kombu takes what stands before a plus for the transport.
        return {"broker_url": url.removeprefix("redis+"), "broker_transport": f"{__name__}:{SocketTransport.__name__}"}
    of_ours = url.startswith(("redis://", f"{TLS}://"))
    return {"broker_url": url} | ({"broker_transport": f"{__name__}:{Transport.__name__}"} if of_ours else {})
