"""What comes to a gateway and is no HTTP: aiohttp finds that out, and it is answered as every other problem is.

aiohttp's protocol answers by itself, in plain text, what its parser refuses, for there is no request yet that a route or a middleware could
see. `RequestHandler.handle_error` is where it makes that answer. Nothing of what was sent is in ours, nor in the log: a head that is too
long is most often one with a token in it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from tango.gateway.problems import Problem, Trouble
from tango.settings import GatewaySettings

log = structlog.get_logger(__name__)

_TOO_MANY = "too many headers"
"""How aiohttp says that a head has more lines than are allowed, for which it has no exception of its own."""


class CallersRunner(web.AppRunner):
    """Serves an application to callers. `options` are those of `aiohttp.web.AppRunner`."""

    __slots__ = ("_cluster", "_options", "_settings")

    def __init__(self, app: web.Application, cluster: str, settings: GatewaySettings, **options: Any) -> None:
        super().__init__(app, **options)
        self._cluster, self._settings, self._options = cluster, settings, options

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            cluster=self._cluster,
            settings=self._settings,
            options=self._options,
        )


class _Server(web.Server):
    """Makes a protocol for each connection."""

    def __init__(
        self, handler: Any, *, request_factory: Any, cluster: str, settings: GatewaySettings, options: dict[str, Any]
    ) -> None:
        super().__init__(handler, request_factory=request_factory, **options)
        self.cluster, self.settings = cluster, settings
        self._options = {name: value for name, value in options.items() if name != "handler_cancellation"}

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=asyncio.get_running_loop(), **self._options)


class _Protocol(web.RequestHandler):
    """One connection."""

    __slots__ = ("_of",)

    def __init__(self, server: _Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._of = server

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what is no request. Raises: ConnectionError where another answer has begun to go out."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, so that no other can be given")
        problem = _problem_of(exc, self._of.settings)
        if problem.trouble is Trouble.DEFECT:
            log.error("gateway_broken", cluster=self._of.cluster, exc_info=exc)
        if self._of.settings.access_log:
            log.info("request", cluster=self._of.cluster, status=problem.trouble.status, problem=problem.trouble.word)
        response = problem.response()
        response.headers["Server"] = "tango"
        response.force_close()
        return response


def _problem_of(error: BaseException | None, settings: GatewaySettings) -> Problem:
    if isinstance(error, LineTooLong) or (isinstance(error, HttpProcessingError) and _TOO_MANY in error.message.lower()):
        return Problem(
            Trouble.HEAD_TOO_LARGE,
            f"the head of the request is too large; a line of it may have {settings.line_bytes} bytes, and there may be "
            f"{settings.head_lines} headers",
        )
    if isinstance(error, HttpProcessingError):
        return Problem(
            Trouble.BAD_REQUEST,
            "what came is no HTTP/1.1 request; this port may speak plain HTTP where TLS was sent, or the connection may have been used "
            "for something else",
        )
    return Problem(Trouble.DEFECT, "an error that the gateway's log names; the request may have been accepted")
