"""`tango bench tracing`: what distributed traces cost a worker for each LC request, beside the same steps without them.

The steps are those of `tango bench journal`, with the spans that the live path makes of them, exported over HTTP to a collector that reads
and forgets. CPU is that of the whole process, the exporting thread and the collector's included.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tango.bench.figures import Figure, Told
from tango.bench.journal import BATCH, journal_step, timed
from tango.bootstrap.spans import spans_of
from tango.settings import TracingSettings

RATIOS = (1e-9, 0.01, 1.0)
"""None is sampled, as many as for good, all."""
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def measure(*, requests: int = 20_000, told: Told = print) -> list[Figure]:
    """CPU in microseconds for each request by the share that is sampled. Raises: ConfigError where OpenTelemetry is not installed."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder, _collector() as endpoint:
        told(f"{requests} requests without traces")
        *_, off_us = timed(journal_step(Path(folder) / "off.db", requests), requests)
        for ratio in RATIOS:
            told(f"{requests} requests, of which {ratio:g} have a trace")
            before, os.environ[ENDPOINT] = os.environ.get(ENDPOINT), endpoint
            try:
                spans = spans_of("bench", TracingSettings(ratio=ratio, queue=1_000_000))
            finally:
                if before is None:
                    del os.environ[ENDPOINT]
                else:
                    os.environ[ENDPOINT] = before
            *_, on_us = timed(journal_step(Path(folder) / f"{ratio:g}.db", requests, spans), requests)
            spans.close()
            figures.append(
                Figure(
                    name=f"CPU for a request, {ratio:g} sampled, messages of {BATCH}",
                    value=on_us,
                    unit="us",
                    yardstick="traces off",
                    yardstick_value=off_us,
                )
            )
    return figures


@contextmanager
def _collector() -> Iterator[str]:
    """The endpoint of a collector that takes everything and keeps nothing."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
