"""`python -m workers.line --door [HOST:]PORT=TARGET --state FILE`: run an emulated line to the centre, which behaves as the file says.

TARGET is the path of a UNIX socket, or HOST:PORT; without HOST a door is open on 127.0.0.1. The ready file is made when all doors are
open.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import uvloop

from tango import progress
from tango.emulation.line import LOOPBACK, Line, follow_file


def main() -> None:
    """Parse the arguments and relay until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--door", required=True, action="append", help="[HOST:]PORT=TARGET; may be repeated")
    parser.add_argument(
        "--state", required=True, type=Path, help="file with the line's state, as tango.domain.line.LineState writes it"
    )
    options = parser.parse_args()
    uvloop.run(_relay(options.door, options.state))


async def _relay(doors: Sequence[str], state: Path) -> None:
    stopped = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    line = Line()
    following = asyncio.create_task(follow_file(line, state))
    for door in doors:
        near, _, target = door.partition("=")
        near_host, _, port = near.rpartition(":")
        host, colon, far_port = target.rpartition(":")
        place = (host, int(far_port)) if colon and not target.startswith("/") else target
        await line.open_door(place, host=near_host or LOOPBACK, port=int(port))
    progress.follow(asyncio.get_running_loop())
    progress.tell("line")
    if path := os.environ.get("TANGO_READY_FILE"):
        Path(path).touch(mode=0o600)
    await stopped.wait()
    following.cancel()
    await line.close()


if __name__ == "__main__":
    main()
