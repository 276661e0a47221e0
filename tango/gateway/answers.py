"""The listener for workers: `POST /answers/RUN-REQUEST/EPOCH` brings the answer of a request whose caller waits here.

`Authorization: Bearer KEY` has the key that this process drew at its start, `Tango-Answer-Head` the status and headers of the answer as
JSON, the body is the answer's, as it comes. `Tango-Failed: REASON` with an empty body says that there will be none.

`GET /calls/RUN-REQUEST/headers` gives the headers of a call that are held here and written down nowhere, as JSON.

    204 the caller has all of it, or was told     401 the key is another process's     404 nobody waits for this request here
    400 this is no answer                         409 another answer has begun         410 its caller is gone
"""

from __future__ import annotations

import asyncio
import hmac
from typing import Any

import orjson
from aiohttp import web

from tango.domain.identity import RequestKey
from tango.errors import UsageError
from tango.gateway.waiting import Answering, Failed, WaitingCallers

HEAD, FAILED = "Tango-Answer-Head", "Tango-Failed"
HEAD_KIB = 32
"""KiB of an answer's head at the most; HTTP servers allow 8 to 64."""


class AnswerListener:
    """The application that workers speak to."""

    def __init__(self, callers: WaitingCallers, *, key: str) -> None:
        self._callers, self._key = callers, key.encode()

    def application(self) -> web.Application:
        """The application that workers post answers to; serve it where only workers reach it."""
        app = web.Application()
        app.router.add_post("/answers/{request}/{epoch:[0-9]+}", self._take)
        app.router.add_get("/calls/{request}/headers", self._held)
        return app

    async def _held(self, request: web.Request) -> web.Response:
        of = self._asked_for(request)
        if isinstance(of, web.Response):
            return of
        held = self._callers.held(of)
        if held is None:
            return _nobody_waits(of)
        return web.Response(body=orjson.dumps(held), content_type="application/json", headers={"Cache-Control": "no-store"})

    def _asked_for(self, request: web.Request) -> RequestKey | web.Response:
        """The request in the path, or what to answer instead."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not hmac.compare_digest(key.encode(errors="replace"), self._key):
            return _said(401, "this key is not that of this process, which may have been started anew")
        try:
            return RequestKey.parsed(request.match_info["request"])
        except UsageError as error:
            return _said(400, str(error))

    async def _take(self, request: web.Request) -> web.Response:
        of = self._asked_for(request)
        if isinstance(of, web.Response):
            return of
        waiting = self._callers.first(of)
        if waiting is None:
            return _nobody_waits(of)
        if FAILED in request.headers:
            return _said(204 if waiting.ends(Failed(reason=request.headers[FAILED])) else 409, "")
        try:
            status, headers = _head(request.headers.get(HEAD, ""))
        except ValueError as error:
            return _said(400, f"header {HEAD}: {error}")
        passed_on: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        answering = Answering(
            epoch=int(request.match_info["epoch"]),
            status=status,
            headers=headers,
            body=request.content,
            length=request.content_length,
            passed_on=passed_on,
        )
        if not waiting.ends(answering):
            return _said(410 if waiting.outcome.cancelled() else 409, f"request {of} waits for no answer any more")
        return _said(204, "") if await passed_on else _said(410, f"the caller of request {of} is gone")


def _nobody_waits(of: RequestKey) -> web.Response:
    return _said(404, f"nobody waits for request {of} here")


def _said(status: int, text: str) -> web.Response:
    response = web.Response(status=status, text=text or None)
    if status >= 400:
        # What is left of the body is not wanted: without this the connection would be read to its end.
        response.force_close()
    return response


def _head(text: str) -> tuple[int, list[tuple[str, str]]]:
    """Status and headers. Raises: ValueError for what is no head of an answer."""
    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"found {text[:80]!r}, expected JSON ({error})") from error
    match found:
        case {"status": int(status), "headers": list(headers)} if 200 <= status <= 599:
            if all(isinstance(h, list) and len(h) == 2 and all(isinstance(part, str) for part in h) for h in headers):
                if any("\r" in part or "\n" in part or "\0" in part for h in headers for part in h):
                    raise ValueError("a header has a line break in it")
                return status, [(name, value) for name, value in headers]
    raise ValueError(f'found {text[:80]!r}, expected {{"status": 200 to 599, "headers": [[NAME, VALUE], …]}}')
