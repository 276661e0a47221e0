"""A line between a cluster and its centre: a relay of byte streams that delays, throttles, stalls, swallows, resets and is cut.

It stands for a WAN where there is none: in front of the centre's database, for tests, measurements and trials. What goes through it is
not looked at. `python -m workers.line` runs one as a process whose `LineState` is a file.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

from tango.domain.line import LineMode, LineState
from tango.errors import ConfigError

LOOPBACK = "127.0.0.1"
CHUNK_BYTES = 64 * 1024
MOST_HELD_BYTES = 4 * 1024 * 1024
"""Bytes on their way in one direction of one connection, beyond which the sender is not read from: about what a kernel buffers."""


class Line:
    """A line with any number of doors, each of which leads to one place. Used on one running event loop."""

    def __init__(self, state: LineState | None = None) -> None:
        self._state = state or LineState()
        self._changed = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> LineState:
        """How the line behaves now."""
        return self._state

    def become(self, state: LineState) -> None:
        """Behave so from now on; bytes under way arrive as they were sent."""
        self._state = state
        if state.mode is LineMode.CUT:
            self.reset()
        self._changed.set()
        self._changed = asyncio.Event()

    def reset(self) -> None:
        """Reset every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def open_door(self, target: str | tuple[str, int], *, host: str = LOOPBACK, port: int = 0) -> int:
        """Listen, and lead every connection to `target`: the path of a UNIX socket, or host and port. Gives the port."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(target, reader, writer)

        server = await asyncio.start_server(accept, host, port)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no more, and reset every connection."""
        for server in self._servers:
            server.close()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(
        self, target: str | tuple[str, int], near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter
    ) -> None:
        if self._state.mode is LineMode.CUT:
            near_writer.transport.abort()
            return
        self._writers.add(near_writer)
        far_writer = None
        try:
            # The handshake of a connection is a round trip too.
            await asyncio.sleep(self._state.rtt_ms / 1e3)
            if isinstance(target, str):
                far_reader, far_writer = await asyncio.open_unix_connection(target)
            else:
                far_reader, far_writer = await asyncio.open_connection(*target)
            self._writers.add(far_writer)
            ways = [
                asyncio.create_task(self._carry(near_reader, far_writer)),
                asyncio.create_task(self._carry(far_reader, near_writer)),
            ]
            self._tasks.update(ways)
            try:
                await asyncio.wait(ways)
            finally:
                for way in ways:
                    way.cancel()
                self._tasks.difference_update(ways)
        except OSError:
            pass  # the far end is away: the near end sees its connection end
        finally:
            for writer in (near_writer, far_writer):
                if writer is not None:
                    self._writers.discard(writer)
                    writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read as bytes come and write them half a round trip later, in order."""
        held: deque[tuple[float, bytes]] = deque()
        size, more, less = 0, asyncio.Event(), asyncio.Event()
        free_at_s = 0.0  # when the direction's bandwidth is free again
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            nonlocal size
            while True:
                while not held:
                    more.clear()
                    await more.wait()
                at_s, chunk = held[0]
                await asyncio.sleep(max(0.0, at_s - loop.time()))
                while self._state.mode is LineMode.STALL:
                    await self._changed.wait()
                held.popleft()
                size -= len(chunk)
                less.set()
                if not chunk:
                    writer.write_eof()
                    return
                writer.write(chunk)
                await writer.drain()

        delivering = asyncio.create_task(deliver())
        try:
            while True:
                chunk = await reader.read(CHUNK_BYTES)
                if self._state.mode is LineMode.SWALLOW:
                    if not chunk:
                        await asyncio.Event().wait()  # the far end is not told
                    continue
                now_s = loop.time()
                if self._state.mbit_per_s:
                    free_at_s = max(free_at_s, now_s) + len(chunk) * 8 / (self._state.mbit_per_s * 1e6)
                held.append((max(now_s, free_at_s) + self._state.rtt_ms / 2e3, chunk))
                size += len(chunk)
                more.set()
                while size > MOST_HELD_BYTES:
                    less.clear()
                    await less.wait()
                if not chunk:
                    await delivering
                    return
        except OSError:
            writer.transport.abort()  # a reset travels on as one
        finally:
            delivering.cancel()


FOLLOW_EVERY_S = 0.05
"""Seconds between two looks at the file of a line's state."""


async def follow_file(line: Line, path: Path) -> None:
    """Let the line behave as a file says, whenever it is written; without a file, or while it cannot be read, it stays as it is."""
    seen = ""
    while True:
        try:
            text = path.read_text(encoding="utf-8")
            if text != seen:
                line.become(LineState.of_text(text))
                seen = text
        except (OSError, ConfigError):
            pass
        await asyncio.sleep(FOLLOW_EVERY_S)
