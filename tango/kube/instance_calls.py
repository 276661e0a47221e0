"""LC requests over HTTP to the pod address of an instance: implements `tango.ports.InstanceCalls` on asyncio and httptools.

One exchange is two small messages on a connection that is kept. A general client spends about 250 µs of CPU on it, most of what an LC
request costs a worker; here the parser is httptools (llhttp) and a connection carries one exchange at a time, in about 40 µs
(`docs/decisions/0010-instance-calls.md`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import NamedTuple

import httptools

from tango.domain.observations import InstanceState
from tango.domain.requests import LcWork, Reason
from tango.errors import InstanceFailed
from tango.ports import Served

CONNECT_TIMEOUT_S = 2.0
MAX_ANSWER_BYTES = 64 * 1024
"""Head and body of an answer. Ours are a hundred bytes; more is no answer to an LC request."""


class _Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    keep_alive: bool


class HttpInstanceCalls:
    """Calls instances by the protocol of docs/ARCHITECTURE.md, "LC requests over HTTP". Make it on the loop that uses it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: defaultdict[tuple[str, int], set[_Connection]] = defaultdict(set)
        self._open: set[_Connection] = set()

    async def call(self, instance: InstanceState, work: LcWork, *, payload_kib: float, timeout_s: float) -> Served:
        """Send one request and wait for its answer; the connection then waits for the next one."""
        head = (
            f"POST /v1/work HTTP/1.1\r\nHost: {instance.pod_ip}:{instance.port}\r\nContent-Length: 0\r\n"
            f"Tango-Request: {work.run_id}/{work.request_id}/{work.epoch}\r\nTango-Instance: {instance.pod}\r\n"
            f"Tango-Cpu-Work-S: {work.cpu_work_s:.6f}\r\nTango-Memory-Mib: {work.memory_mib:.1f}\r\n"
            f"Tango-Entry-Cluster: {work.entry_cluster}\r\nTango-Payload-Kib: {payload_kib:.3f}\r\n\r\n"
        ).encode("latin-1")
        place = (instance.pod_ip, instance.port)
        deadline_s = self._loop.time() + timeout_s
        idle = self._idle[place]
        connection = idle.pop() if idle else await self._connected(instance, place, timeout_s)
        try:
            answer = await connection.exchange(head, deadline_s)
        except TimeoutError as error:
            raise InstanceFailed(
                f"instance {instance.pod} did not answer within {timeout_s:.1f} s", reason=Reason.TIMED_OUT
            ) from error
        except OSError as error:
            raise self._unreachable(instance, error) from error
        if answer.status != 200:
            raise InstanceFailed(
                f"instance {instance.pod} at {instance.pod_ip}:{instance.port} answered {answer.status}",
                status=answer.status,
                reason=Reason.INSTANCE_REFUSED,
            )
        try:
            return Served(
                started_at_s=float(answer.headers[b"tango-started-s"]), finished_at_s=float(answer.headers[b"tango-finished-s"])
            )
        except (KeyError, ValueError) as error:
            raise self._unreachable(instance, error) from error

    async def close(self) -> None:
        """Drop the connections."""
        for connection in list(self._open):
            connection.abort()

    async def _connected(self, instance: InstanceState, place: tuple[str, int], timeout_s: float) -> _Connection:
        try:
            async with asyncio.timeout(min(CONNECT_TIMEOUT_S, timeout_s)):
                _, connection = await self._loop.create_connection(
                    lambda: _Connection(self._loop, self._open, self._idle[place]), *place
                )
                return connection
        except OSError as error:  # TimeoutError is one
            raise self._unreachable(instance, error) from error

    @staticmethod
    def _unreachable(instance: InstanceState, error: BaseException) -> InstanceFailed:
        return InstanceFailed(
            f"instance {instance.pod} at {instance.pod_ip}:{instance.port}: {type(error).__name__}: {error}",
            reason=Reason.INSTANCE_UNREACHABLE,
        )


class _Connection(asyncio.Protocol):
    """One connection to one instance; one exchange at a time."""

    __slots__ = ("_answer", "_bytes", "_headers", "_idle", "_loop", "_open", "_parser", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, open_connections: set[_Connection], idle: set[_Connection]) -> None:
        self._loop = loop
        self._open = open_connections
        self._idle = idle
        """Those of the same address that wait for work; this one adds and removes itself."""
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[_Answer] | None = None
        self._headers: dict[bytes, bytes] = {}
        self._bytes = 0

    async def exchange(self, head: bytes, deadline_s: float) -> _Answer:
        """Send a request and wait for the whole answer. Raises: TimeoutError at `deadline_s`; OSError when the connection breaks."""
        assert self._transport is not None
        self._answer, self._headers, self._bytes = self._loop.create_future(), {}, 0
        expiry = self._loop.call_at(deadline_s, self._fail, TimeoutError())
        self._transport.write(head)
        try:
            answer = await self._answer
        except BaseException:  # late, cut off or given up: what may still come belongs to nobody
            self.abort()
            raise
        finally:
            expiry.cancel()
            self._answer = None
        if not answer.keep_alive:
            self.abort()
        elif self._transport is not None:
            self._idle.add(self)
        return answer

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio -------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open."""
        self._transport = transport  # type: ignore[assignment]
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by either side."""
        self._transport = None
        self._idle.discard(self)
        self._open.discard(self)
        self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        self._bytes += len(data)
        if self._answer is None or self._bytes > MAX_ANSWER_BYTES:
            self._broken("more was sent than an answer")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._broken(f"not HTTP: {error}")

    # ---- httptools -----------------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers[name.lower()] = value

    def on_message_complete(self) -> None:
        """The answer is whole."""
        status = self._parser.get_status_code()
        if status >= 200 and self._answer is not None and not self._answer.done():
            self._answer.set_result(_Answer(status, self._headers, self._parser.should_keep_alive()))

    def _broken(self, why: str) -> None:
        self._idle.discard(self)
        self._fail(ConnectionAbortedError(why))
        self.abort()

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
