"""The process of the console: what it reads of the centre and of this machine, and the loop that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import uvloop
from aiohttp import web

from tango import progress
from tango.bootstrap.console_reads import does_of, reads_of
from tango.bootstrap.stores import Stores
from tango.console.reads import Does, Reads
from tango.console.server import Console
from tango.console.session import ConsoleDoor
from tango.emulation.line import LOOPBACK
from tango.errors import ConfigError, UsageError
from tango.settings import Settings
from tango.stack.processes import CONSOLE_TOKEN
from tango.stack.state import state_home

log = structlog.get_logger(__name__)

LEAST_TOKEN = 16
"""Characters of it."""
NAMES = (LOOPBACK, "localhost", "::1")
"""By these the console goes in any case: nobody else can be reached by them."""
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
    here = Stores(settings, deadline_s=STORE_WITHIN_S)
    uvloop.run(_serve(place, ConsoleDoor(token), reads_of(here, state_home(env)), does_of(here)))


async def _serve(place: ConsolePlace, door: ConsoleDoor, reads: Reads, does: Does) -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopped.set)
    async with serving(place, door, reads, does) as port:
        log.info("console_listens", host=place.host, port=port)
        if place.ready_file is not None:
            place.ready_file.touch(mode=0o600)
        progress.follow(loop)
        progress.reached("ready", within_s=math.inf)
        progress.tell("console")
        await stopped.wait()


@contextlib.asynccontextmanager
async def serving(place: ConsolePlace, door: ConsoleDoor, reads: Reads, does: Does) -> AsyncIterator[int]:
    """Listens while the block runs; gives the port. Raises: UsageError where it cannot be had."""
    console = Console(reads, does, door, hosts=(*NAMES, place.host, *place.names))
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
