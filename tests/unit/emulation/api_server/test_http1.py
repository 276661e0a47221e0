"""The API server's HTTP without a network: bytes in, bytes out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from tango.emulation.api_server import http1
from tango.emulation.api_server.http1 import MAX_HEAD_BYTES, ApiAnswer, ApiCall, ClientConnection, Cut, HttpServer, Response, Stream

MOST = 1000
"""Bytes of a body at the most."""


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = self.aborted = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        assert not self.closed
        self.sent += data

    def close(self) -> None:
        """Hang up."""
        self.closed = True

    def abort(self) -> None:
        """Break off."""
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        """Hung up."""
        return self.closed

    @property
    def answers(self) -> list[bytes]:
        """The status lines that were sent."""
        return re.findall(rb"HTTP/1\.1 [^\r]*(?=\r\n)", self.sent)


class Peer:
    """A client's side of a connection to a server that answers by `handle`."""

    def __init__(self, handle: Callable[[ApiCall], Response | Awaitable[Response]]) -> None:
        self.calls: list[ApiCall] = []
        self.transport = Transport()

        def noted(call: ApiCall) -> Response | Awaitable[Response]:
            self.calls.append(call)
            return handle(call)

        self.connection = ClientConnection(HttpServer(noted, max_body=MOST))
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    def says(self, data: bytes) -> None:
        """It sends these bytes."""
        self.connection.data_received(data)


def echo(call: ApiCall) -> ApiAnswer:
    """The body as it came."""
    return ApiAnswer(call.body, content_type=call.content_type)


async def turns(count: int = 5) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_call_is_read_from_whatever_pieces_it_comes_in() -> None:
    """Path and parameters are decoded; of several parameters of one name the first counts."""
    peer = Peer(echo)
    head = b"POST /a%20b/c?x=1&x=2&y=%2Fz&w HTTP/1.1\r\nHost: h\r\nContent-Type: Application/JSON; charset=utf-8\r\n"
    whole = head + b"Content-Length: 4\r\n\r\nbody"

    for byte in whole:
        peer.says(bytes([byte]))

    [call] = peer.calls
    assert (call.method, call.path, call.query) == ("POST", "/a b/c", {"x": "1", "y": "/z", "w": ""})
    assert (call.content_type, call.body, call.headers["host"]) == ("application/json", b"body", "h")
    assert peer.transport.answers == [b"HTTP/1.1 200 OK"]
    assert peer.transport.sent.endswith(b"\r\n\r\nbody")
    assert b"\r\nContent-Length: 4\r\n" in peer.transport.sent


async def test_pipelined_calls_are_answered_in_order() -> None:
    """Also behind one whose answer takes its time."""
    first = asyncio.Event()

    async def late() -> Response:
        await first.wait()
        return ApiAnswer(b"one")

    peer = Peer(lambda call: late() if call.path == "/1" else ApiAnswer(call.path.encode()))

    peer.says(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
    peer.says(b"GET /3 HTTP/1.1\r\n\r\n")
    before = peer.transport.answers
    first.set()
    await turns()

    assert before == []
    assert [call.path for call in peer.calls] == ["/1", "/2", "/3"]
    assert peer.transport.sent.index(b"one") < peer.transport.sent.index(b"/2") < peer.transport.sent.index(b"/3")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * (MAX_HEAD_BYTES + 1), 431),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MOST + 1), 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (MOST + 1) + b"a" * (MOST + 1), 413),
    ],
)
async def test_what_is_no_call_is_refused_and_ends_the_connection(data: bytes, status: int) -> None:
    """And reaches no handler."""
    peer = Peer(echo)

    peer.says(data)

    assert peer.transport.sent.startswith(b"HTTP/1.1 %d " % status)
    assert peer.transport.closed
    assert peer.calls == []


async def test_a_body_in_chunks_and_one_that_is_asked_for_are_read() -> None:
    """As clients send them that do not know its length, or wait for leave."""
    peer = Peer(echo)

    peer.says(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
    peer.says(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
    is_let = peer.transport.sent.endswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    peer.says(b"d")

    assert [call.body for call in peer.calls] == [b"abc", b"d"]
    assert is_let


async def test_a_connection_ends_where_its_client_says_so() -> None:
    """By the header, or by the version before there was one; HEAD gets no body."""
    found = []
    for head in (b"HEAD / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n", b"GET / HTTP/1.0\r\n"):
        peer = Peer(lambda call: ApiAnswer(b"body"))
        peer.says(head + b"\r\n")
        found.append((peer.transport.sent.endswith(b"body"), peer.transport.closed))

    assert found == [(False, False), (True, True), (True, True)]


async def test_a_stream_goes_out_in_chunks_as_it_comes() -> None:
    """Its end is said, and the connection serves the next call."""
    more = asyncio.Event()

    async def parts() -> AsyncGenerator[bytes, None]:
        yield b"one"
        await more.wait()
        yield b"second"

    peer = Peer(lambda call: Stream(parts()) if call.path == "/stream" else ApiAnswer(b"after"))

    peer.says(b"GET /stream HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    await turns()
    begun = peer.transport.sent
    more.set()
    await turns()

    assert begun.endswith(b"\r\n\r\n3\r\none\r\n")
    assert b"3\r\none\r\n6\r\nsecond\r\n0\r\n\r\nHTTP/1.1 200 OK" in peer.transport.sent


async def test_a_stream_ends_with_its_client_and_waits_for_one_that_is_slow() -> None:
    """Nothing is made for somebody who does not read."""
    made, is_closed = 0, False

    async def parts() -> AsyncGenerator[bytes, None]:
        nonlocal made, is_closed
        try:
            while True:
                made += 1
                yield b"x"
                await asyncio.sleep(0)
        finally:
            is_closed = True

    peer = Peer(lambda call: Stream(parts()))
    peer.says(b"GET / HTTP/1.1\r\n\r\n")
    await turns()
    peer.connection.pause_writing()
    await turns()
    slow = made
    await turns()
    still = made
    peer.connection.resume_writing()
    await turns()
    again = made
    peer.connection.connection_lost(None)
    await turns()

    assert slow == still < again
    assert is_closed


async def test_a_stream_whose_peer_takes_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher that hangs would have all that is told kept for it; the stream is closed and the connection broken off."""
    monkeypatch.setattr(http1, "PEER_STALLED_S", 0.05)
    is_closed = asyncio.Event()

    async def parts() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0)
        finally:
            is_closed.set()

    peer = Peer(lambda call: Stream(parts()))
    peer.says(b"GET / HTTP/1.1\r\n\r\n")
    await turns()
    peer.connection.pause_writing()

    await asyncio.wait_for(is_closed.wait(), 30.0)
    await turns()

    assert peer.transport.aborted


async def test_a_handler_may_break_the_connection_off() -> None:
    """As a server that dies would, before an answer or in the middle of one."""

    async def parts() -> AsyncGenerator[bytes, None]:
        yield b"x"
        raise Cut

    def cut(call: ApiCall) -> Response:
        raise Cut

    at_once, later = Peer(cut), Peer(lambda call: Stream(parts()))
    for peer in (at_once, later):
        peer.says(b"GET / HTTP/1.1\r\n\r\n")
    await turns()

    assert (at_once.transport.aborted, at_once.transport.sent) == (True, b"")
    assert later.transport.aborted
    assert not later.transport.sent.endswith(b"0\r\n\r\n")


async def test_a_handler_that_fails_is_an_answer_too() -> None:
    """500, and the next call is served."""

    def broken(call: ApiCall) -> ApiAnswer:
        if call.path == "/broken":
            raise KeyError(call.path)
        return ApiAnswer(b"well")

    peer = Peer(broken)

    peer.says(b"GET /broken HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")

    assert peer.transport.answers == [b"HTTP/1.1 500 Internal Server Error", b"HTTP/1.1 200 OK"]
