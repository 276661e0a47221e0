"""HTTP/1.1 as the API server needs it: asyncio's protocols, with httptools (llhttp) as the parser.

Thousands of calls a second come to the servers of a machine, each of them a small object and answered from memory. A general server takes
several times as long for one as the verb does that it calls (figures in docs/decisions/0010-http-exchanges.md). Most calls are answered
where their last byte is read, without a task; watches, logs and answers that wait are tasks, which end with their connection. A
connection serves one call at a time; what a client pipelines behind it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote

import httptools
import structlog

MAX_HEAD_BYTES = 64 * 1024
"""Longest head of a call; names and selectors of Kubernetes are far shorter."""
IDLE_S, LOOK_EVERY_S = 75.0, 15.0
"""Seconds that a connection may be idle, and between two looks for such."""
PEER_STALLED_S = 60.0
"""Seconds after which a stream whose peer takes nothing of it is cut: what is told would be kept for it without end."""
BACKLOG = 512
"""Connections that may wait to be accepted."""

log = structlog.get_logger()


class Cut(Exception):
    """Raised by a handler or a stream: the connection is to be broken off, as by a server that dies."""


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One call, with its whole body."""

    method: str
    path: str
    query: Mapping[str, str]
    """Of several parameters of one name the first."""
    headers: Mapping[str, str]
    """By name in lower case; of several the last."""
    body: bytes

    @property
    def content_type(self) -> str:
        """The media type of the body, without parameters."""
        return self.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """A whole response."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """A response that comes in parts. Its parts are closed when the client is gone."""

    parts: AsyncGenerator[bytes, None]
    content_type: str = "application/json"


Response: TypeAlias = ApiAnswer | Stream
Handler: TypeAlias = Callable[[ApiCall], Response | Awaitable[Response]]
"""Answers a call, at once or later. Raises: Cut."""


class HttpServer:
    """Listens, and gives each call to the handler; bound to the running loop."""

    def __init__(self, handle: Handler, *, max_body: int) -> None:
        self.handle = handle
        self.max_body = max_body
        self.connections: set[ClientConnection] = set()
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._look: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int) -> int:
        """Begin; gives the port, which is any free one for 0. Raises: OSError."""
        self._server = await self._loop.create_server(lambda: ClientConnection(self), host, port, backlog=BACKLOG)
        self._look = self._loop.call_later(LOOK_EVERY_S, self._close_idle)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self, *, within_s: float) -> None:
        """Take no new connection, let what is under way end for so long, then close all."""
        if self._server is None:
            return
        self._server.close()
        if self._look is not None:
            self._look.cancel()
        until_s = self._loop.time() + within_s
        while any(connection.is_busy for connection in self.connections) and self._loop.time() < until_s:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.close()
        await asyncio.sleep(0)  # their tasks are cancelled in the loop's next turn

    def _close_idle(self) -> None:
        before_s = self._loop.time() - IDLE_S
        for connection in list(self.connections):
            if not connection.is_busy and connection.idle_since_s < before_s:
                connection.close()
        self._look = self._loop.call_later(LOOK_EVERY_S, self._close_idle)


class ClientConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._in_head = True
        self._head_bytes = 0
        """Of reads since the last whole call: no head can be longer."""
        self._waiting: deque[tuple[ApiCall, bool]] = deque()
        """Whole calls that are not served yet, and whether the connection is to be closed after each."""
        self._refused: ApiAnswer | None = None
        """The answer to what follows them and is no call; nothing is parsed behind it."""
        self._rest: list[bytes] = []
        """What came while a call was under way, not parsed yet."""
        self._task: asyncio.Task[None] | None = None
        self._resumed = asyncio.Event()
        self._resumed.set()
        self.idle_since_s = self._loop.time()

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way."""
        return self._task is not None

    def close(self) -> None:
        """End it, with what is under way."""
        if self._transport is not None:
            self._transport.close()
        if self._task is not None:
            self._task.cancel()

    # ---- asyncio -------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = transport  # type: ignore[assignment]
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: nobody waits for what is under way."""
        self._transport = None
        self._server.connections.discard(self)
        self._resumed.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client reads slower than a stream is written."""
        self._resumed.clear()

    def resume_writing(self) -> None:
        """The client has read what was waiting for it: the stream goes on."""
        self._resumed.set()

    def data_received(self, data: bytes) -> None:
        """Parse what came, or keep it while a call is under way; a client that sends too much meanwhile is disconnected."""
        if self._task is None:
            self._parse(data)
            return
        self._rest.append(data)
        if sum(map(len, self._rest)) > MAX_HEAD_BYTES + self._server.max_body:
            self.close()

    # ---- httptools: called from within `feed_data`, so they only take notes ---------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a new call."""
        self._target, self._headers, self._body, self._body_bytes, self._in_head = b"", {}, [], 0, True

    def on_url(self, url: bytes) -> None:
        """Append a part of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Refuse a body that is announced to be too long before it is read, and let one come whose client asks first."""
        self._in_head = False
        length = self._headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._server.max_body:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        elif self._headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > self._server.max_body:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Queue the call."""
        self._head_bytes = 0
        if self._refused is not None:
            return
        parser = self._parser
        path, _, query = self._target.decode("latin-1").partition("?")
        pairs = parse_qsl(query, keep_blank_values=True) if query else ()
        call = ApiCall(
            method=parser.get_method().decode("latin-1"),
            path=unquote(path) if "%" in path else path,
            query=dict(reversed(pairs)),
            headers=self._headers,
            body=b"".join(self._body),
        )
        self._waiting.append((call, not parser.should_keep_alive()))

    def _refuse(self, status: HTTPStatus) -> None:
        if self._refused is None:
            self._refused = ApiAnswer(f"{status.value}: {status.phrase}".encode(), status, "text/plain; charset=utf-8")

    # ---- one call after the other ---------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        self._head_bytes += len(data) if self._in_head else 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The call is whole and may be answered; what its client sends next is another protocol.
            if self._waiting:
                self._waiting.append((self._waiting.pop()[0], True))
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        while self._task is None and self._transport is not None and not self._transport.is_closing():
            if self._waiting:
                self._serve(*self._waiting.popleft())
            elif self._refused is not None:
                self._send(self._refused, is_last=True)
            elif self._rest:
                rest, self._rest = b"".join(self._rest), []
                self._parse(rest)
            else:
                return

    def _serve(self, call: ApiCall, is_last: bool) -> None:
        try:
            found = self._server.handle(call)
        except Cut:
            self._abort()
            return
        except Exception:
            log.exception("call_broken", method=call.method, path=call.path)
            found = _BROKEN
        if isinstance(found, ApiAnswer):
            self._send(found, is_last=is_last, has_body=call.method != "HEAD")
            return
        self._task = self._loop.create_task(self._answer_later(call, found, is_last))
        self._task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("answer_broken", exc_info=error)
            self._abort()
        self._serve_waiting()

    async def _answer_later(self, call: ApiCall, found: Stream | Awaitable[Response], is_last: bool) -> None:
        try:
            response = found if isinstance(found, Stream) else await found
            if isinstance(response, ApiAnswer):
                self._send(response, is_last=is_last, has_body=call.method != "HEAD")
            else:
                await self._stream(response, is_last)
        except Cut:
            self._abort()

    async def _stream(self, stream: Stream, is_last: bool) -> None:
        # Without chunks, before HTTP/1.1, the end of a stream is that of the connection.
        in_chunks = self._parser.get_http_version() != "1.0"
        framing = ("Transfer-Encoding", "chunked") if in_chunks else ("Connection", "close")
        self._write(_head(200, stream.content_type, (framing,)))
        async with contextlib.aclosing(stream.parts) as parts:
            async for part in parts:
                if part:
                    self._write(b"%x\r\n%b\r\n" % (len(part), part) if in_chunks else part)
                if not self._resumed.is_set():
                    await self._until_resumed()
        if in_chunks:
            self._write(b"0\r\n\r\n")
        self._answered(is_last or not in_chunks)

    async def _until_resumed(self) -> None:
        """Wait for a peer that reads slower than it is told. Raises: Cut for one that takes nothing for `PEER_STALLED_S`."""
        try:
            async with asyncio.timeout(PEER_STALLED_S):
                await self._resumed.wait()
        except TimeoutError:
            raise Cut from None

    def _send(self, answer: ApiAnswer, *, is_last: bool, has_body: bool = True) -> None:
        headers, content_type = answer.headers, answer.content_type
        if answer.status == HTTPStatus.NO_CONTENT:
            content_type = ""
        else:
            headers = (("Content-Length", str(len(answer.body))), *headers)
        if is_last:
            headers = (*headers, ("Connection", "close"))
        head = _head(answer.status, content_type, headers)
        self._write(head + answer.body if has_body else head)
        self._answered(is_last)

    def _answered(self, is_last: bool) -> None:
        self.idle_since_s = self._loop.time()
        if is_last and self._transport is not None:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


_BROKEN = ApiAnswer(b"500 Internal Server Error", 500, "text/plain; charset=utf-8")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_date: tuple[int, str] = (0, "")


def _head(status: int, content_type: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    global _date  # one name for both, so that what is read belongs together
    second = int(time.time())
    if _date[0] != second:
        _date = second, email.utils.formatdate(second, usegmt=True)
    of_type = f"Content-Type: {content_type}\r\n" if content_type else ""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n{of_type}{lines}Date: {_date[1]}\r\n\r\n".encode()
