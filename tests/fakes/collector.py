"""A collector of traces: takes them by OTLP/HTTP, as protobuf, and keeps them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status, StatusCode


class Collector:
    """Where it listens, and what has come."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self._spans: list[ReadableSpan] = []
        self._turn = threading.Lock()

    @property
    def spans(self) -> list[ReadableSpan]:
        """By their start."""
        with self._turn:
            return sorted(self._spans, key=lambda span: (span.start_time or 0, -(span.end_time or 0)))

    def take(self, content: bytes) -> None:
        """One message. Raises: google.protobuf.message.DecodeError for what is none."""
        found = [
            _span(span, Resource(_values(of.resource.attributes)))
            for of in ExportTraceServiceRequest.FromString(content).resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]
        with self._turn:
            self._spans += found


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            is_ours = self.path == "/v1/traces"
            if is_ours:
                collector.take(content)
            self.send_response(200 if is_ours else 404)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector = Collector(server.server_port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5.0)


def _span(span: Span, resource: Resource) -> ReadableSpan:
    trace_id = int.from_bytes(span.trace_id, "big")
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace_id, int.from_bytes(span.span_id, "big"), is_remote=True),
        parent=SpanContext(trace_id, int.from_bytes(span.parent_span_id, "big"), is_remote=True) if span.parent_span_id else None,
        resource=resource,
        attributes=_values(span.attributes),
        links=[
            Link(SpanContext(int.from_bytes(link.trace_id, "big"), int.from_bytes(link.span_id, "big"), is_remote=True))
            for link in span.links
        ],
        status=Status(StatusCode(span.status.code if span.status.code else 0), span.status.message or None),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
    )


def _values(attributes: list[KeyValue]) -> dict[str, str | int | float | bool]:
    return {of.key: getattr(of.value, of.value.WhichOneof("value")) for of in attributes}
