"""The two listeners of a gateway: one for callers, one for workers. aiohttp reads and writes HTTP; the limits on callers stand here."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from tango.errors import ConfigError, UsageError
from tango.gateway.answers import HEAD_KIB, AnswerListener
from tango.gateway.gateway import Gateway
from tango.gateway.protocol import CallersRunner
from tango.gateway.requests import RequestCalls
from tango.gateway.service_calls import ServiceRoutes
from tango.gateway.told import as_answered, telling
from tango.settings import GatewaySettings
from tango.telemetry import count
from tango.telemetry.catalogue import GATEWAY

LINGER_S = 2.0
"""Seconds that the rest of a body which nobody wants is read and thrown away, so that its sender reads the answer before the reset."""
BACKLOG = 4096
"""Connections that the kernel holds until they are accepted, for many that come at once: what Linux allows unless `net.core.somaxconn` says
otherwise. One that finds no place there is tried again by its kernel and in the end reset, which tells its caller nothing."""


class Routes(Protocol):
    """Some routes of a gateway."""

    def routes(self) -> Iterable[web.RouteDef]:
        """Methods and paths with what answers them."""
        ...


def callers_runner(gateway: Gateway, *further: Routes) -> web.AppRunner:
    """What serves callers, with `further` routes beside those of LC requests; not yet listening."""
    settings = gateway.settings
    app = web.Application()
    runner = CallersRunner(
        app,
        gateway.cluster,
        settings,
        # A caller who hangs up cancels his handler, which withdraws his request.
        handler_cancellation=True,
        # Bodies go to the instance as they were sent, and a small one that grows to gigabytes does not grow here.
        auto_decompress=False,
        access_log=None,
        max_line_size=settings.line_bytes,
        max_field_size=settings.line_bytes,
        max_headers=settings.head_lines,
        # aiohttp counts from a connection's beginning, or its last answer, until the whole head of the next request is there.
        keepalive_timeout=settings.head_within_s,
        lingering_time=LINGER_S,
    )
    app.middlewares.append(telling(gateway))
    app.on_response_prepare.append(as_answered)
    app.on_response_prepare.append(_counted)
    parts: list[Routes] = [ServiceRoutes(gateway), RequestCalls(gateway), *further]
    for part in parts:
        app.router.add_routes(part.routes())
    return runner


async def _counted(_: web.Request, response: web.StreamResponse) -> None:
    count(GATEWAY, f"{response.status // 100}xx")


def answers_runner(listener: AnswerListener) -> web.AppRunner:
    """What serves workers; not yet listening."""
    return web.AppRunner(
        listener.application(),
        auto_decompress=False,
        access_log=None,
        max_field_size=(HEAD_KIB << 10) + 1024,
        keepalive_timeout=3600.0,  # workers keep their connections
        lingering_time=0.0,
    )


async def listen(runner: web.AppRunner, *, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
    """Serve on a TCP port; gives the port, where 0 was asked for. Raises: UsageError where it cannot be had."""
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls, backlog=BACKLOG, reuse_address=True).start()
    except OSError as error:
        raise UsageError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); name another with --host or --port"
        ) from error
    addresses: Any = runner.addresses
    return int(addresses[-1][1])


async def listen_at_path(runner: web.AppRunner, path: Path) -> None:
    """Serve on a UNIX socket. Raises: UsageError where it cannot be made."""
    await runner.setup()
    try:
        await web.UnixSite(runner, path, backlog=BACKLOG).start()
    except OSError as error:
        raise UsageError(f"the socket {path} cannot be made ({error.strerror or error}); name another state folder") from error


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS of a server, 1.2 or later. Raises: ConfigError for files that hold no certificate and its key."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{certificate} and {key} cannot be used for TLS ({error}); expected a PEM certificate with its chain, and the PEM "
            "private key that belongs to it, without a passphrase"
        ) from error
    return context


def most_open_files(settings: GatewaySettings) -> int:
    """Descriptors that a gateway may need: its callers, twice as many who are told to come again, workers with answers, files of its own.

    Beyond that a connection is reset before its caller is told anything.
    """
    return 3 * settings.max_connections + settings.max_waiting + 256
