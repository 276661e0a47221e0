"""Reading the bodies of callers, no longer, larger or slower than is allowed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from tango.gateway.door import Door
from tango.gateway.problems import Problem, Trouble
from tango.settings import GatewaySettings


async def expects_nothing(_: web.Request) -> None:
    """For routes: `100 Continue` is sent by `held_body`, once it is clear that the body is wanted."""


@contextlib.asynccontextmanager
async def held_body(request: web.Request, door: Door, settings: GatewaySettings) -> AsyncIterator[bytes]:
    """The whole body, whose bytes are held at the door meanwhile. Raises: Problem."""
    most, held = settings.body_kib << 10, 0
    if (request.content_length or 0) > most:
        raise _too_large(settings, request.content_length)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # so that what follows counts as the first of the answer
    parts: list[bytes] = []
    try:
        try:
            async with asyncio.timeout(settings.body_within_s):
                while part := await request.content.readany():
                    door.hold_bytes(len(part))
                    held += len(part)
                    if held > most:
                        raise _too_large(settings, None)
                    parts.append(part)
        except TimeoutError as error:
            found = f"{held} bytes had come"
            raise Problem(Trouble.BODY_TOO_SLOW, f"the body was not here after {settings.body_within_s:g} s; {found}") from error
        except (web.RequestPayloadError, web.PayloadAccessError) as error:
            raise Problem(Trouble.BAD_REQUEST, "the body does not come as its headers say") from error
        yield b"".join(parts)
    finally:
        door.hold_bytes(-held)


def _too_large(settings: GatewaySettings, found: int | None) -> Problem:
    said = f"{found} bytes" if found is not None else "more"
    return Problem(
        Trouble.BODY_TOO_LARGE,
        f"the body has {said}, and at most {settings.body_kib} KiB are taken; send the place of what is larger instead",
        most_bytes=settings.body_kib << 10,
    )
