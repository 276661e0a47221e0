"""HTTP/1.1 for LC requests, by docs/ARCHITECTURE.md, "LC requests over HTTP": small, strict and fast.

Requests have no body worth reading and answers are two numbers in headers, so that an asyncio protocol over httptools' parser costs a
fraction of a general server (figures in docs/decisions/0003-node-model.md). A connection serves one request at a time; what a client
pipelines behind it waits.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import httptools

from tango.client.signatures import INSTANCE, REQUEST, SIGNATURE, is_signed

_SIGNED = (REQUEST, INSTANCE, SIGNATURE)
MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024
"""Requests of Tango's own have heads of half a KiB and no body: who sends more is no gateway."""


@dataclass(slots=True)
class Work:
    """One LC request, from its headers. CPU-seconds, MiB, the cluster where it entered, and KiB on the wire."""

    cpu_work_s: float
    memory_mib: float
    entry_cluster: str
    payload_kib: float


Served = Callable[[float, float], None]
"""Called once with start and end of service in Unix seconds, network excluded."""
Refused = Callable[[], None]
"""Called once in place of `Served` when a request that was begun cannot be served now; it is answered with 503."""


class Instance(Protocol):
    """The LC instance behind a connection."""

    name: str
    """`cluster/pod` (`PodKey`), with which the header `Tango-Instance` must agree; empty: not checked."""
    key: str
    """Key of its service (`tango.client.signatures`), by which requests must be signed; empty: not checked."""
    stopping: bool
    """Whether new requests are refused with 503."""
    connections: set[WorkConnection]
    """Open connections; each adds and removes itself."""

    def begin(self, work: Work, served: Served, refused: Refused) -> Callable[[], None]:
        """Start a request, which ends in `served` or `refused`; gives a function that cancels it when its client is gone.

        Raises: ValueError for a request that can never be served; it is answered with 400.
        """
        ...


def _answer(status: str, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n{headers}\r\n".encode("ascii")


_CLOSE = "Connection: close\r\n"
OK = _answer("200 OK")
BAD_REQUEST = _answer("400 Bad Request", _CLOSE)
NOT_SIGNED = _answer("401 Unauthorized")
NOT_FOUND = _answer("404 Not Found")
NOT_ALLOWED = _answer("405 Method Not Allowed")
LENGTH_REQUIRED = _answer("411 Length Required", _CLOSE)
TOO_LARGE = _answer("413 Content Too Large", _CLOSE)
MISDIRECTED = _answer("421 Misdirected Request")
HEAD_TOO_LARGE = _answer("431 Request Header Fields Too Large", _CLOSE)
STOPPING = _answer("503 Service Unavailable", _CLOSE)
UNAVAILABLE = _answer("503 Service Unavailable")


@dataclass(slots=True)
class _Request:
    """The head of one request, as the parser read it."""

    method: bytes
    path: bytes
    headers: dict[bytes, bytes]
    last: bool
    """Whether the connection is closed after its answer."""


class WorkConnection(asyncio.Protocol):
    """One client's connection to one instance."""

    __slots__ = (
        "_busy",
        "_cancel",
        "_close_after",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_instance",
        "_parser",
        "_refused",
        "_rest",
        "_target",
        "_transport",
        "_waiting",
    )

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._in_head = True
        self._head_bytes = 0  # of reads since the last whole request: no head can be longer
        self._waiting: deque[_Request] = deque()  # whole requests of one read that are not yet served
        self._refused: bytes | None = None  # the answer to what follows them and is no request; nothing is parsed behind it
        self._rest = b""  # what came while a request was under way, not yet parsed
        self._busy = False
        self._cancel: Callable[[], None] | None = None
        self._close_after = False

    # ---- asyncio -------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection with its instance."""
        self._transport = transport  # type: ignore[assignment]
        self._instance.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the request under way: its client is gone."""
        self._transport = None
        self._instance.connections.discard(self)
        if self._cancel is not None:
            cancel, self._cancel = self._cancel, None
            cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, or keep it while a request is under way; a client that sends too much meanwhile is disconnected."""
        if not self._busy:
            self._parse(data)
            return
        self._rest += data
        if len(self._rest) > MAX_HEAD_BYTES + MAX_BODY_BYTES:
            self.close()

    def close(self) -> None:
        """Close the connection; an answer that is still due is never sent."""
        if self._transport is not None:
            self._transport.close()

    # ---- httptools: called from within `feed_data`, so they only take notes ---------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a new request."""
        self._target, self._headers, self._in_head = b"", {}, True

    def on_url(self, url: bytes) -> None:
        """Append a part of the request target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; of several with one name the last counts."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Refuse a head or an announced body that is too long, before the body is read; and chunked bodies, which announce no length."""
        self._in_head = False
        headers = self._headers
        if self._refused is not None:
            return
        if self._head_bytes > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES:
            self._refused = HEAD_TOO_LARGE
        elif b"transfer-encoding" in headers:
            self._refused = LENGTH_REQUIRED
        elif int(headers.get(b"content-length", 0)) > MAX_BODY_BYTES:
            self._refused = TOO_LARGE

    def on_message_complete(self) -> None:
        """Queue the request. Its body was skipped."""
        self._head_bytes = 0
        if self._refused is None:
            parser = self._parser
            path = self._target.partition(b"?")[0]
            self._waiting.append(_Request(parser.get_method(), path, self._headers, not parser.should_keep_alive()))

    def _head_size(self) -> int:
        return len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers.items())

    # ---- one request after the other ------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request is whole and may be answered; what its client sends next is another protocol.
            if self._waiting:
                self._waiting[-1].last = True
        except httptools.HttpParserError:
            self._refused = self._refused or BAD_REQUEST
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refused = self._refused or HEAD_TOO_LARGE
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        while self._transport is not None and not self._transport.is_closing() and not self._busy:
            if self._waiting:
                self._serve(self._waiting.popleft())
            elif self._refused is not None:
                self._send_last(self._refused)
            elif self._rest:
                rest, self._rest = self._rest, b""
                self._parse(rest)
            else:
                return

    def _serve(self, request: _Request) -> None:
        self._close_after = request.last
        method = request.method
        if request.path == b"/v1/work":
            self._work(request.headers) if method == b"POST" else self._send(NOT_ALLOWED)
        elif request.path == b"/healthz":
            allowed = method in (b"GET", b"HEAD")
            self._send((STOPPING if self._instance.stopping else OK) if allowed else NOT_ALLOWED)
        else:
            self._send(NOT_FOUND)

    def _work(self, headers: dict[bytes, bytes]) -> None:
        instance = self._instance
        if instance.name and headers.get(b"tango-instance", b"").decode("latin-1") != instance.name:
            self._send(MISDIRECTED)
            return
        if instance.key and not _is_signed(headers, instance.key, instance.name):
            self._send(NOT_SIGNED)
            return
        if instance.stopping:
            self._send_last(STOPPING)
            return
        try:
            work = Work(
                _amount(headers[b"tango-cpu-work-s"]),
                _amount(headers[b"tango-memory-mib"]),
                headers.get(b"tango-entry-cluster", b"").decode("latin-1"),
                _amount(headers.get(b"tango-payload-kib", b"0")),
            )
            self._busy = True
            cancel = instance.begin(work, self._served, self._not_served)
        except (KeyError, ValueError):
            self._busy = False
            self._send_last(BAD_REQUEST)
            return
        if self._busy:
            self._cancel = cancel

    def _served(self, started_s: float, finished_s: float) -> None:
        self._busy = False
        self._cancel = None
        self._send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTango-Started-S: %.6f\r\nTango-Finished-S: %.6f\r\n\r\n"
            % (started_s, finished_s)
        )
        self._serve_waiting()

    def _not_served(self) -> None:
        self._busy = False
        self._cancel = None
        self._send(UNAVAILABLE)
        self._serve_waiting()

    def _send(self, answer: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(answer)
        if self._close_after:
            self._transport.close()

    def _send_last(self, answer: bytes) -> None:
        self._close_after = True
        self._send(answer)


def _is_signed(headers: dict[bytes, bytes], key: str, instance: str) -> bool:
    return is_signed(
        {name: headers.get(name.lower().encode(), b"").decode("latin-1") for name in _SIGNED}, key=key, instance=instance
    )


def _amount(text: bytes) -> float:
    value = float(text)
    if not 0.0 <= value < math.inf:
        raise ValueError(text.decode("latin-1"))
    return value
