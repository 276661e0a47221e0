"""The listener that Prometheus scrapes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

from tango.errors import UsageError
from tango.exporter.families import StackCollector
from tango.telemetry.readings import Readings


@dataclass(frozen=True, slots=True)
class Listener:
    """A server that answers on any path, in a thread of its own for each call."""

    server: WSGIServer
    thread: threading.Thread

    @property
    def port(self) -> int:
        """The TCP port that it has."""
        return int(self.server.server_port)

    def close(self) -> None:
        """Stop to answer, and give the port back."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5.0)


def serve(read: Callable[[], Readings], *, host: str, port: int) -> Listener:
    """Serve what `read` gives, at each scrape anew. Raises: UsageError where the port cannot be had."""
    registry = CollectorRegistry()
    registry.register(StackCollector(read))
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise UsageError(
            f"metrics cannot be served on {host} port {port}: {error.strerror or error}; free it, or choose another by "
            "TANGO_METRICS_PORT and TANGO_METRICS_HOST"
        ) from error
    return Listener(server, thread)
