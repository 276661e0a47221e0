"""A line between a cluster and its centre: what is sent arrives whole, in order, and as late as the line is long; or it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tango.domain.line import LineMode, LineState
from tango.emulation.line import Line
from tango.errors import ConfigError
from tests.waiting import WITHIN_S

CUT, STALLED, SWALLOWING, OPEN = (LineState(mode=mode) for mode in (LineMode.CUT, LineMode.STALL, LineMode.SWALLOW, LineMode.OPEN))


@asynccontextmanager
async def echo_behind(line: Line) -> AsyncIterator[int]:
    """The port of a door that leads to a server which sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    try:
        yield await line.open_door(server.sockets[0].getsockname()[:2])
    finally:
        await line.close()
        server.close()


async def sent(port: int, content: bytes, *, within_s: float = WITHIN_S) -> bytes:
    """What comes back of it over a new connection. Raises: TimeoutError, OSError, IncompleteReadError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(content)
        return await asyncio.wait_for(reader.readexactly(len(content)), within_s)
    finally:
        writer.close()


async def test_what_is_sent_comes_back_whole() -> None:
    """More than a buffer of it, in order."""
    content = bytes(range(256)) * 40_000
    async with echo_behind(Line()) as port:
        assert await sent(port, content) == content


async def test_an_answer_takes_a_round_trip_and_a_new_connection_another() -> None:
    """As over a real line: the handshake, then there and back."""
    async with echo_behind(Line(LineState(rtt_ms=100.0))) as port:
        began_s = time.monotonic()
        assert await sent(port, b"hello") == b"hello"
        assert time.monotonic() - began_s >= 0.19


async def test_a_narrow_line_takes_its_time() -> None:
    """80 kB at 3.2 Mbit/s are a fifth of a second in each direction, the second beginning with the first bytes of it."""
    async with echo_behind(Line(LineState(mbit_per_s=3.2))) as port:
        began_s = time.monotonic()
        await sent(port, b"x" * 80_000)
        assert time.monotonic() - began_s >= 0.19


async def test_a_stalled_line_delivers_once_it_is_open() -> None:
    """Nothing is lost, only late."""
    line = Line(STALLED)
    async with echo_behind(line) as port:
        waiting = asyncio.create_task(sent(port, b"hello"))
        await asyncio.sleep(0.1)
        was_done = waiting.done()
        line.become(OPEN)

        assert await waiting == b"hello"
        assert not was_done


async def test_a_swallowing_line_says_nothing() -> None:
    """Bytes are taken, and neither an answer nor an error comes; a connection made afterwards works."""
    line = Line(SWALLOWING)
    async with echo_behind(line) as port:
        with pytest.raises(TimeoutError):
            await sent(port, b"hello", within_s=0.2)
        line.become(OPEN)
        assert await sent(port, b"hello") == b"hello"


async def test_a_cut_line_resets_what_there_is_and_what_comes() -> None:
    """Whoever waits is told at once; a line that is mended takes new connections."""
    line = Line(LineState(rtt_ms=50.0))
    async with echo_behind(line) as port:
        waiting = asyncio.create_task(sent(port, b"hello"))
        await asyncio.sleep(0.02)
        line.become(CUT)
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await waiting
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await sent(port, b"hello")
        line.become(OPEN)
        assert await sent(port, b"hello") == b"hello"


def test_a_state_is_read_as_it_was_written() -> None:
    """The file of a line's process holds one; whatever else is there is told."""
    state = LineState(mode=LineMode.STALL, rtt_ms=60.0, mbit_per_s=10.0)
    assert LineState.of_text(state.as_text()) == state
    with pytest.raises(ConfigError, match="expected mode"):
        LineState.of_text('{"mode": "ajar"}')
