"""Connections of callers: how many there may be, how long a head may take, and what is answered to those who send no HTTP.

aiohttp's protocol answers by itself, in plain text, what its parser refuses, for there is no request yet that a route or a middleware could
see. `RequestHandler.handle_error` is where it makes that answer. Nothing of what was sent is in ours, nor in the log: a head that is too
long is most often one with a token in it.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import termios
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from tango.gateway.problems import Problem, Trouble
from tango.settings import GatewaySettings

log = structlog.get_logger(__name__)

READ_AGAIN_S = 0.2
"""Seconds between two looks whether a head has been read that lies in the kernel: a process that is so far behind has no time for more."""
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
        self.taken = 0
        """Connections that are not surplus."""
        self._options = {name: value for name, value in options.items() if name != "handler_cancellation"}

    def __call__(self) -> web.RequestHandler:
        return CallersProtocol(self, loop=asyncio.get_running_loop(), **self._options)


class CallersProtocol(web.RequestHandler):
    """One connection of a caller."""

    __slots__ = ("_is_taken", "_of")

    def __init__(self, server: _Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._of, self._is_taken = server, False

    @property
    def is_surplus(self) -> bool:
        """Whether there were as many connections as may be when it was made: its request is refused, and it is closed.

        Asked of each when it is made, and not of all when a request is read: of many that come at once the first are served, where else
        all would be refused until enough of them had gone.
        """
        return not self._is_taken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is one more."""
        self._is_taken = self._of.taken < self._of.settings.max_connections
        self._of.taken += self._is_taken
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is none any more."""
        self._of.taken -= self._is_taken
        self._is_taken = False
        super().connection_lost(exc)

    def _process_keepalive(self) -> None:
        """aiohttp closes a connection here whose next head has not come in time. One that has come, and lies in the kernel because this
        process has had no time to read it, is no caller's fault."""
        if self.transport is not None and self._loop.time() >= self._next_keepalive_close_time and _has_unread(self.transport):
            self._keepalive_handle = self._loop.call_later(READ_AGAIN_S, self._process_keepalive)
            return
        super()._process_keepalive()

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


def _has_unread(transport: asyncio.BaseTransport) -> bool:
    """Whether bytes that the caller sent lie in the kernel."""
    found = array.array("i", [0])
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, found)
    except (OSError, AttributeError):  # it is being closed
        return False
    return found[0] > 0


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
