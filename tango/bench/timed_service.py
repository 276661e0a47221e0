"""The service of `tango bench gateway`: an HTTP server that answers after a fixed time and says how long it took. A program of its own.

It is run by the path of this file and imports nothing of Tango: an instance has none of the stack's environment.
"""

from __future__ import annotations

import asyncio
import os
import time

from aiohttp import web

TOOK = "X-Took-S"
"""Header of an answer: seconds from the beginning of the request's handling to the answer's head."""
WAITS_S = 0.005
"""Seconds that it waits before it answers, as for a database say; it takes next to no CPU, so that Tango is measured."""
PORT = 8080
"""Named in the service's own manifest alone; each of its pods has an address of its own."""


async def answer(_: web.Request) -> web.Response:
    """Whatever was asked."""
    began_s = time.perf_counter()
    await asyncio.sleep(WAITS_S)
    return web.Response(text="done", headers={TOOK: f"{time.perf_counter() - began_s:.6f}"})


def main() -> None:
    """Serve until SIGTERM."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", str(PORT)))
    web.run_app(app, host=host, port=port, access_log=None, print=lambda *_: None)


if __name__ == "__main__":
    main()
