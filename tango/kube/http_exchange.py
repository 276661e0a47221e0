"""A small HTTP/1.1 client with connection reuse: asyncio's protocols, with httptools (llhttp) as the parser.

Tango sends thousands of exchanges of a few hundred bytes: LC requests to pods, objects to API servers. A general client spends several
times the CPU that these need (figures in docs/decisions/0010-http-exchanges.md). This one has only what both uses need: one request and
its whole answer, a deadline, a pool of connections, TLS. It never retries and follows no redirect, because only the caller knows
whether a request may be sent twice.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import httptools

T = TypeVar("T")
LONGEST_HEAD = 64 * 1024
"""Bytes of a proxy's answer to CONNECT: some hundred; more comes from something else."""
MOST_INSTANT_S = 1e11
"""Unix time beyond which no instance runs: the year 5138."""


def instant_of(header: str | bytes) -> float:
    """Unix time in a header of an instance's answer. Raises: ValueError for what is none, NaN and infinity included."""
    value = float(header)
    if not 0.0 <= value < MOST_INSTANT_S:
        raise ValueError(f"it tells the time {header[:40]!r}, expected Unix seconds")
    return value


class Proxy(NamedTuple):
    """An HTTP proxy through which a server is reached by a tunnel (CONNECT; RFC 9110, section 9.3.6)."""

    host: str
    port: int
    authorization: str = ""
    """Value of `Proxy-Authorization`; empty: none."""


class Origin(NamedTuple):
    """Address of a server; `tls` None means plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    """The name in the server's certificate, where it is not `host`."""
    proxy: Proxy | None = None
    """None: it is reached without one."""


class HttpAnswer(NamedTuple):
    """A complete response; header names are in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    keep_alive: bool


class ConnectFailed(OSError):
    """No connection could be opened, so nothing was sent and the request may safely be sent again."""


class HttpConnections:
    """A pool of connections to any number of origins, bound to the running asyncio loop.

    A connection carries one exchange at a time (no pipelining), so it opens as many as there are exchanges in flight; callers bound
    that number.
    """

    def __init__(self, *, connect_timeout_s: float, max_answer_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._connect_timeout_s = connect_timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._idle = _IdleConnections()
        self._open: set[_Connection] = set()

    @property
    def idle_origins(self) -> int:
        """Origins to which there is an idle connection."""
        return len(self._idle)

    async def exchange(self, origin: Origin, request: bytes, *, timeout_s: float) -> HttpAnswer:
        """Send one request, given as head and body in one, and return its complete response.

        `timeout_s` bounds connecting, sending and receiving together. Raises: ConnectFailed; TimeoutError; another OSError if the
        connection breaks, the response is not HTTP or it is longer than `max_answer_bytes`.
        """
        deadline_s = self._loop.time() + timeout_s
        connection = self._idle.taken(origin) or await self._connected(origin, timeout_s)
        return await connection.begin(request, deadline_s, _as_it_came, _as_it_came)

    def begin(
        self,
        origin: Origin,
        request: bytes,
        *,
        timeout_s: float,
        read: Callable[[HttpAnswer], T],
        failed: Callable[[Exception], Exception],
    ) -> asyncio.Future[T] | None:
        """Send one request over a connection that is idle; None where there is none, and nothing was sent.

        The future has what `read` makes of the response, or the error that it raises, or what `failed` makes of one of `exchange`. It
        needs no task, which is a fifth of what a short exchange costs. Who cancels it breaks the connection off.
        """
        connection = self._idle.taken(origin)
        return None if connection is None else connection.begin(request, self._loop.time() + timeout_s, read, failed)

    def close(self) -> None:
        """Close all connections at once; exchanges in flight fail."""
        for connection in list(self._open):
            connection.abort()

    async def _connected(self, origin: Origin, timeout_s: float) -> _Connection:
        def made() -> _Connection:
            return _Connection(self._loop, origin, self._open, self._idle, self._max_answer_bytes)

        try:
            async with asyncio.timeout(min(self._connect_timeout_s, timeout_s)):
                if origin.proxy is not None:
                    return await self._through(origin.proxy, origin, made())
                name = origin.server_name or None if origin.tls else None
                _, connection = await self._loop.create_connection(
                    made, origin.host, origin.port, ssl=origin.tls, server_hostname=name
                )
                return connection
        except ConnectFailed:
            raise
        except OSError as error:  # includes TimeoutError and ssl.SSLError
            raise ConnectFailed(f"{type(error).__name__}: {error}" if str(error) else "no connection in time") from error

    async def _through(self, proxy: Proxy, origin: Origin, connection: _Connection) -> _Connection:
        """The connection over a tunnel: what is sent, and TLS, is between this process and the server. Raises: OSError."""
        at = f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}"
        transport, tunnel = await self._loop.create_connection(lambda: _Tunnel(self._loop), proxy.host, proxy.port)
        try:
            as_whom = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
            transport.write(f"CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n{as_whom}\r\n".encode("latin-1"))
            line = await tunnel.answered
            if line.split(" ", 2)[1:2] != ["200"]:
                raise ConnectFailed(f"the proxy {proxy.host}:{proxy.port} answered {line!r} to a tunnel to {at}")
            if origin.tls is None:
                transport.set_protocol(connection)
                connection.connection_made(transport)
                return connection
            name = origin.server_name or origin.host
            secured = await self._loop.start_tls(transport, connection, origin.tls, server_hostname=name)
            assert secured is not None
            connection.connection_made(secured)
        except BaseException:
            transport.abort()
            raise
        return connection


class _Tunnel(asyncio.Protocol):
    """Waits for the head of a proxy's answer; gives its first line."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answered: asyncio.Future[str] = loop.create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        """Called by asyncio. A server says nothing before it is spoken to, so nothing but the proxy's answer comes."""
        self._head += data
        if self.answered.done():
            return
        if b"\r\n\r\n" in self._head:
            self.answered.set_result(self._head.split(b"\r\n", 1)[0].decode("latin-1"))
        elif len(self._head) > LONGEST_HEAD:
            self.answered.set_exception(ConnectionAbortedError("the proxy's answer has no end"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if not self.answered.done():
            self.answered.set_exception(
                exc if isinstance(exc, OSError) else ConnectionResetError("the proxy closed the connection")
            )


class _IdleConnections:
    """Open connections without an exchange, by origin. An origin without any takes no place: pods come and go, each with an address."""

    __slots__ = ("_by_origin",)

    def __init__(self) -> None:
        self._by_origin: dict[Origin, set[_Connection]] = {}

    def __len__(self) -> int:
        """Origins that have an idle connection."""
        return len(self._by_origin)

    def taken(self, origin: Origin) -> _Connection | None:
        """One of the origin's, which is idle no more; None where there is none."""
        found = self._by_origin.get(origin)
        if not found:
            return None
        connection = found.pop()
        if not found:
            del self._by_origin[origin]
        return connection

    def add(self, origin: Origin, connection: _Connection) -> None:
        """Keep a connection for the next exchange with its origin."""
        self._by_origin.setdefault(origin, set()).add(connection)

    def discard(self, origin: Origin, connection: _Connection) -> None:
        """Forget a connection that may be idle."""
        found = self._by_origin.get(origin)
        if found is not None:
            found.discard(connection)
            if not found:
                del self._by_origin[origin]


def _as_it_came(found: T) -> T:
    return found


class _Connection(asyncio.Protocol):
    """One connection of the pool; carries one exchange at a time."""

    __slots__ = (
        "_answer",
        "_body",
        "_bytes",
        "_expiry",
        "_failed",
        "_headers",
        "_idle",
        "_is_unasked",
        "_loop",
        "_max_bytes",
        "_open",
        "_origin",
        "_parser",
        "_read",
        "_transport",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        origin: Origin,
        open_connections: set[_Connection],
        idle: _IdleConnections,
        max_bytes: int,
    ) -> None:
        self._loop = loop
        self._origin = origin
        self._open = open_connections
        self._idle = idle
        """The pool's; this connection adds and removes itself."""
        self._max_bytes = max_bytes
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Any] | None = None
        """Of the exchange under way."""
        self._read: Callable[[HttpAnswer], Any] = _as_it_came
        self._failed: Callable[[Exception], Exception] = _as_it_came
        self._expiry: asyncio.TimerHandle | None = None
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._bytes = 0
        self._is_unasked = False
        """Whether something has come that answers no request."""

    def begin(
        self, request: bytes, deadline_s: float, read: Callable[[HttpAnswer], T], failed: Callable[[Exception], Exception]
    ) -> asyncio.Future[T]:
        """Send a request; the future is as `HttpConnections.begin` says. `deadline_s` is a time of the loop's clock.

        Where it fails or is cancelled, the connection is closed: a response may still arrive, and must not be taken for that of the next
        request.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        answer.add_done_callback(self._ended)
        self._answer, self._read, self._failed = answer, read, failed
        self._headers, self._body, self._bytes = {}, [], 0
        if self._transport is None:
            self._fail(ConnectionResetError("the connection was closed"))
        else:
            self._expiry = self._loop.call_at(deadline_s, self._expire)
            self._transport.write(request)
        return answer

    def abort(self) -> None:
        """Close the connection at once."""
        self._idle.discard(self._origin, self)
        if self._transport is not None:
            self._transport.abort()

    def _expire(self) -> None:
        self._fail(TimeoutError("no answer in time"))

    def _ended(self, answer: asyncio.Future[Any]) -> None:
        if answer is self._answer:  # it was cancelled
            self._over()
            self.abort()

    def _over(self) -> None:
        self._answer = None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    # ---- asyncio -------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio once the connection is open."""
        self._transport = transport  # type: ignore[assignment]
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio once either side has closed the connection; an exchange in flight fails."""
        self._transport = None
        self._open.discard(self)
        self._idle.discard(self._origin, self)
        self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with the next bytes of a response."""
        self._bytes += len(data)
        # Bytes without a request belong to no answer: the server is broken, or speaks another protocol.
        if self._answer is None or self._bytes > self._max_bytes:
            self._fail(ConnectionAbortedError("more was sent than an answer"))
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionAbortedError(f"the answer is no HTTP: {error}"))
            self.abort()
        if self._is_unasked:
            self.abort()

    def _fail(self, error: Exception) -> None:
        answer = self._answer
        self._over()
        if answer is not None:
            self.abort()
            if not answer.done():
                answer.set_exception(self._failed(error))

    # ---- httptools -----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Called by the parser at the beginning of a response."""
        self._is_unasked |= self._answer is None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser for each header."""
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        """Called by the parser for each part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser at the end of a response. Interim responses (1xx) are skipped, as RFC 9110, section 15.2, asks."""
        status, answer = self._parser.get_status_code(), self._answer
        if status < 200 or answer is None:
            return
        keep_alive = self._parser.should_keep_alive()
        self._over()
        if not keep_alive or answer.done():
            self.abort()
        elif self._transport is not None:
            self._idle.add(self._origin, self)
        if not answer.done():
            try:
                answer.set_result(self._read(HttpAnswer(status, self._headers, b"".join(self._body), keep_alive)))
            except Exception as error:  # whatever `read` finds wrong with it
                answer.set_exception(error)
