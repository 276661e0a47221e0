"""The process of the console: what it reads of the centre and of this machine, and the loop that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import uvloop
from aiohttp import web

from tango import progress
from tango.bootstrap.stores import Stores
from tango.console.reads import Reads
from tango.console.server import Console
from tango.console.session import Door
from tango.emulation.line import LOOPBACK
from tango.errors import ConfigError, UsageError
from tango.settings import Settings
from tango.stack.processes import CONSOLE_TOKEN
from tango.stack.state import state_home, supervisor_pid
from tango.stack.supervisor import read_status
from tango.store.run_lists import RunFilter

log = structlog.get_logger(__name__)

LEAST_TOKEN = 16
"""Characters of it."""
NAMES = (LOOPBACK, "localhost", "::1")
"""By these the console goes in any case: nobody else can be reached by them."""
RUNS_LISTED = 50
STORE_WITHIN_S = 5.0
"""Seconds in which a reading has to be done: a page says soon that the centre is away."""
CLOSES_WITHIN_S = 2.0
"""Seconds that an answer under way may take when the console is stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePlace:
    """Where the console listens, and the further names by which it may be called."""

    host: str = LOOPBACK
    port: int = 0
    """0: any free one."""
    names: tuple[str, ...] = ()
    ready_file: Path | None = None
    """Made once it listens."""


def run_console(place: ConsolePlace, settings: Settings, *, environment: Mapping[str, str] | None = None) -> None:
    """Serve in the foreground until SIGTERM or SIGINT. Raises: ConfigError without a token, UsageError for a port that cannot be had."""
    env = os.environ if environment is None else environment
    token = env.get(CONSOLE_TOKEN, "")
    if len(token) < LEAST_TOKEN:
        raise ConfigError(
            f"{CONSOLE_TOKEN} has {len(token)} characters, expected {LEAST_TOKEN} at least, drawn at random: `openssl rand -hex 24`"
        )
    uvloop.run(_serve(place, Door(token), reads_of(Stores(settings, deadline_s=STORE_WITHIN_S), state_home(env))))


async def _serve(place: ConsolePlace, door: Door, reads: Reads) -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopped.set)
    async with serving(place, door, reads) as port:
        log.info("console_listens", host=place.host, port=port)
        if place.ready_file is not None:
            place.ready_file.touch(mode=0o600)
        progress.follow(loop)
        progress.reached("ready", within_s=math.inf)
        progress.tell("console")
        await stopped.wait()


@contextlib.asynccontextmanager
async def serving(place: ConsolePlace, door: Door, reads: Reads) -> AsyncIterator[int]:
    """Listens while the block runs; gives the port. Raises: UsageError where it cannot be had."""
    console = Console(reads, door, hosts=(*NAMES, place.host, *place.names))
    runner = web.AppRunner(console.application(), access_log=None, shutdown_timeout=CLOSES_WITHIN_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, place.host, place.port, reuse_address=True).start()
        except OSError as error:
            raise UsageError(
                f"{place.host}:{place.port} cannot be listened on ({error.strerror or error}); name another port"
            ) from error
        addresses: Any = runner.addresses
        yield int(addresses[-1][1])
    finally:
        await runner.cleanup()


def reads_of(here: Stores, home: Path) -> Reads:
    """What the console reads, of these stores and the stack in this folder."""

    return Reads(
        view=here.live_view,
        processes=ProcessRows(home).rows,
        runs=lambda: here.run_lists.runs(RunFilter(), limit=RUNS_LISTED),
        run=here.run_lists.run,
    )


class ProcessRows:
    """Rows of `tango status`, each with how long ago its process was last found to be another one than before."""

    def __init__(self, home: Path, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._home, self._clock_s = home, clock_s
        self._restarts: dict[str, int] = {}
        self._ended_at_s: dict[str, float] = {}

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """None where no stack runs in the folder."""
        if supervisor_pid(self._home) is None:
            return []
        return [self._with_end(row) for row in read_status(self._home)["processes"]]

    def _with_end(self, row: Mapping[str, Any]) -> dict[str, Any]:
        name, now_s = row["name"], self._clock_s()
        if row["restarts"] > self._restarts.get(name, row["restarts"]) or row["state"] not in ("running", "starting", "waiting"):
            self._ended_at_s[name] = now_s
        self._restarts[name] = row["restarts"]
        at_s = self._ended_at_s.get(name)
        return {**row, "ended_s": None if at_s is None else now_s - at_s}
