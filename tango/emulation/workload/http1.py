"""HTTP/1.1 for LC requests, by docs/ARCHITECTURE.md, "LC requests over HTTP": small, strict and fast.

Requests have no body worth reading and answers are two numbers in headers, so that a hand-written protocol over one `bytes` buffer
costs a fraction of a general server (figures in docs/decisions/0003-node-model.md). A connection serves one request at a time; what
a client pipelines behind it waits.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024


@dataclass(slots=True)
class Work:
    """One LC request as it came over the wire."""

    cpu_work_s: float
    memory_mib: float
    entry_cluster: str
    payload_kib: float


Served = Callable[[float, float], None]
"""Called once with start and end of service in Unix seconds, network excluded."""


class Instance(Protocol):
    """What stands behind an address."""

    name: str
    """Pod name that requests must be meant for; empty: any."""
    stopping: bool
    """Takes nothing new any more."""
    connections: set[WorkConnection]
    """Open connections; kept by them."""

    def begin(self, work: Work, served: Served) -> Callable[[], None]:
        """Start a request; give what cancels it when its client is gone. Raises: ValueError for one that can never be served."""
        ...


def _answer(status: str, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n{headers}\r\n".encode("ascii")


_CLOSE = "Connection: close\r\n"
OK = _answer("200 OK")
BAD_REQUEST = _answer("400 Bad Request", _CLOSE)
NOT_FOUND = _answer("404 Not Found")
NOT_ALLOWED = _answer("405 Method Not Allowed")
LENGTH_REQUIRED = _answer("411 Length Required", _CLOSE)
TOO_LARGE = _answer("413 Content Too Large", _CLOSE)
MISDIRECTED = _answer("421 Misdirected Request")
HEAD_TOO_LARGE = _answer("431 Request Header Fields Too Large", _CLOSE)
STOPPING = _answer("503 Service Unavailable", _CLOSE)


class WorkConnection(asyncio.Protocol):
    """One client's connection to one instance."""

    __slots__ = ("_busy", "_cancel", "_close_after", "_instance", "_rest", "_skip", "_transport")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._skip = 0  # bytes of a body still to be dropped
        self._busy = False
        self._cancel: Callable[[], None] | None = None
        self._close_after = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = transport  # type: ignore[assignment]
        self._instance.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: so is its request."""
        self._transport = None
        self._instance.connections.discard(self)
        if self._cancel is not None:
            cancel, self._cancel = self._cancel, None
            cancel()

    def close(self) -> None:
        """Hang up; an answer that is still due is never sent."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Take in what arrived."""
        self._rest = self._rest + data if self._rest else data
        if not self._busy:
            self._take_requests()
        elif len(self._rest) > MAX_HEAD_BYTES + MAX_BODY_BYTES:
            self.close()

    def _take_requests(self) -> None:
        while not self._busy and self._transport is not None and not self._transport.is_closing():
            if self._skip:
                dropped = min(self._skip, len(self._rest))
                self._rest = self._rest[dropped:]
                self._skip -= dropped
                if self._skip:
                    return
            end = self._rest.find(b"\r\n\r\n")
            if end < 0:
                if len(self._rest) > MAX_HEAD_BYTES:
                    self._send_last(HEAD_TOO_LARGE)
                return
            head, self._rest = self._rest[:end], self._rest[end + 4 :]
            if end > MAX_HEAD_BYTES:
                self._send_last(HEAD_TOO_LARGE)
                return
            self._request(head)

    def _request(self, head: bytes) -> None:
        request_line, *lines = head.decode("latin-1").split("\r\n")
        parts = request_line.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            self._send_last(BAD_REQUEST)
            return
        method, target, version = parts
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name[-1] in " \t" or name[0] in " \t":
                self._send_last(BAD_REQUEST)
                return
            headers[name.lower()] = value.strip()
        if not self._take_length(headers):
            return
        connection = headers.get("connection", "").lower()
        self._close_after = "close" in connection or (version == "HTTP/1.0" and "keep-alive" not in connection)
        path = target.partition("?")[0]
        if path == "/v1/work":
            self._work(headers) if method == "POST" else self._send(NOT_ALLOWED)
        elif path == "/healthz":
            allowed = method in ("GET", "HEAD")
            self._send((STOPPING if self._instance.stopping else OK) if allowed else NOT_ALLOWED)
        else:
            self._send(NOT_FOUND)

    def _take_length(self, headers: dict[str, str]) -> bool:
        if "transfer-encoding" in headers:
            self._send_last(LENGTH_REQUIRED)
            return False
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            self._send_last(BAD_REQUEST)
            return False
        if len(length) > 9 or int(length) > MAX_BODY_BYTES:
            self._send_last(TOO_LARGE)
            return False
        self._skip = int(length)
        return True

    def _work(self, headers: dict[str, str]) -> None:
        instance = self._instance
        if instance.name and headers.get("tango-instance") != instance.name:
            self._send(MISDIRECTED)
            return
        if instance.stopping:
            self._send_last(STOPPING)
            return
        try:
            work = Work(
                _amount(headers["tango-cpu-work-s"]),
                _amount(headers["tango-memory-mib"]),
                headers.get("tango-entry-cluster", ""),
                _amount(headers.get("tango-payload-kib", "0")),
            )
            self._busy = True
            cancel = instance.begin(work, self._served)
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
        if self._rest:
            self._take_requests()

    def _send(self, answer: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(answer)
        if self._close_after:
            self._transport.close()

    def _send_last(self, answer: bytes) -> None:
        self._close_after = True
        self._send(answer)


def _amount(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < math.inf:
        raise ValueError(text)
    return value
