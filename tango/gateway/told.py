"""What every response of a gateway has in common, and what its log says of a request: no body, no token, no query."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE

from tango.domain.identity import RequestKey
from tango.errors import KeyTaken, NotOpen, StoreUnavailable
from tango.gateway.gateway import Gateway
from tango.gateway.problems import PROBLEM_HEADER, REQUEST_HEADER, Problem, Trouble
from tango.gateway.protocol import CallersProtocol
from tango.gateway.tracing import CALLER_GONE_STATUS, TracedArrival

log = structlog.get_logger(__name__)

_NOTES = web.RequestKey("notes", dict[str, Any])
TRACED = web.RequestKey("traced", TracedArrival)
_UNTYPED = web.ResponseKey("untyped", bool)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def note(of: web.Request, /, **facts: str) -> None:
    """Have these facts in the log line of the request."""
    of.setdefault(_NOTES, {}).update(facts)


def without_type(response: web.StreamResponse) -> None:
    """Have it go out without a `Content-Type`, of which aiohttp else makes one up: its instance has sent none."""
    response[_UNTYPED] = True


def accepted_response(key: RequestKey, *, is_new: bool) -> web.Response:
    """202: the request has its row, and its state and answer will be found at `Location`."""
    where = f"/requests/{key}"
    headers = {"Location": where, REQUEST_HEADER: str(key), "Preference-Applied": "respond-async"}
    return json_response({"request": str(key), "location": where, "is_new": is_new}, status=202, headers=headers)


def json_response(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A response of JSON."""
    return web.Response(status=status, body=orjson.dumps(content), content_type="application/json", headers=headers)


def telling(gateway: Gateway) -> Any:
    """The middleware around all routes of a gateway: errors become problems, and each request a line in the log."""

    @web.middleware
    async def tell(request: web.Request, handler: Handler) -> web.StreamResponse:
        # Not the loop's clock, which uvloop reads once a turn, in whole milliseconds.
        began_s = time.perf_counter()
        traced = gateway.tracing and gateway.tracing.arrives(request.method, request.path, request.headers, scheme=request.scheme)
        if traced:
            request[TRACED] = traced
        status, word = CALLER_GONE_STATUS, ""  # as nginx writes of callers that were gone before there was an answer
        try:
            response = await _told(gateway, request, handler)
            status, word = response.status, response.headers.get(PROBLEM_HEADER, "")
            return response
        finally:
            notes = request.get(_NOTES, {})
            if traced and gateway.tracing:
                gateway.tracing.answered(traced, status=status, problem=word, notes=notes)
            if gateway.settings.access_log:
                log.info(
                    "request",
                    cluster=gateway.cluster,
                    method=request.method,
                    status=status,
                    ms=round((time.perf_counter() - began_s) * 1e3, 2),
                    **notes,
                    **({"problem": word} if word else {}),
                )

    return tell


async def _told(gateway: Gateway, request: web.Request, handler: Handler) -> web.StreamResponse:
    again_s = gateway.settings.retry_after_s
    try:
        if gateway.is_stopping:
            raise _closing("this gateway is about to stop", again_s)
        if _is_surplus(request):
            most = gateway.settings.max_connections
            raise _closing(f"{most} callers were connected before, which is the most that this gateway takes", again_s)
        return await handler(request)
    except Problem as error:
        problem = error
    except KeyTaken as error:
        problem = Problem(Trouble.KEY_TAKEN, str(error), first=error.first)
    except NotOpen as error:
        problem = Problem(Trouble.NOT_OPEN, str(error), retry_after_s=again_s)
    except StoreUnavailable as error:
        log.warning("journal_away", cluster=gateway.cluster, error=str(error))
        problem = Problem(
            Trouble.JOURNAL_AWAY,
            "the journal of this cluster cannot be used, so that nobody can say whether this will be served; send it again under its key",
            retry_after_s=again_s,
        )
    except web.HTTPException as error:
        problem = _of_http(error, request)
    except ConnectionError:
        problem = Problem(Trouble.SERVICE_FAILED, "the caller's connection is gone")
    except Exception:
        log.exception("gateway_broken", cluster=gateway.cluster)
        problem = Problem(Trouble.DEFECT, "an error that the gateway's log names; the request may have been accepted")
    response = problem.response()
    if problem.trouble in _CLOSES or gateway.is_stopping or _is_surplus(request):
        response.force_close()
    return response  # where the connection was cut, because the rest of an answer will not come, nobody reads it


_CLOSES = {Trouble.BODY_TOO_SLOW, Trouble.BODY_TOO_LARGE, Trouble.BAD_REQUEST}
"""After which the rest of what comes over the connection is no request."""


def _is_surplus(request: web.Request) -> bool:
    return isinstance(request.protocol, CallersProtocol) and request.protocol.is_surplus


def _closing(detail: str, again_s: float) -> Problem:
    return Problem(Trouble.OVERLOADED, detail, retry_after_s=again_s)


def _of_http(error: web.HTTPException, request: web.Request) -> Problem:
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return Problem(Trouble.NO_SUCH_METHOD, f"found {request.method}, expected {allowed}")
        case web.HTTPNotFound():
            return Problem(
                Trouble.NOT_FOUND, "expected /s/SERVICE/PATH, /requests/ID, /jobs, /jobs/ID, /services, /healthz or /readyz"
            )
        case _:
            return Problem(Trouble.BAD_REQUEST, error.text or error.reason)


async def as_answered(_: web.Request, response: web.StreamResponse) -> None:
    """Say no version to everybody, and no type that nobody has said."""
    if response.get(_UNTYPED):
        response.headers.popall("Content-Type", None)
    if response.headers.get("Server") == SERVER_SOFTWARE:
        response.headers["Server"] = "tango"
