"""Spans on their way to a collector, over OTLP/HTTP: a bounded queue, and a thread that exports what has gathered there.

The SDK's own `BatchSpanProcessor` would do, but that it drops the oldest spans with nothing that says how many, and that it waits for an
exporter that hangs as long as that wants when it is flushed. What it would get is finished before it comes here, so that nothing else of it
is missed. The SDK reads its own variables: `OTEL_EXPORTER_OTLP_ENDPOINT`, `_HEADERS`, `_TIMEOUT`, `_COMPRESSION` and so on, also those for
traces alone, `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from tango import __version__
from tango.domain.tracing import Sampling, TraceContext, TraceSpan
from tango.settings import TracingSettings
from tango.telemetry import count
from tango.telemetry.catalogue import SPANS

log = structlog.get_logger(__name__)

EXPORTED_TOGETHER = 512
"""Spans of one call to the collector at the most, as the SDK has it."""
_SCOPE = InstrumentationScope("tango", __version__)
_KINDS = {str(kind.name).lower(): kind for kind in SpanKind}


class ExportedSpans:
    """Exports the spans of one process. Made after a fork, since it has a thread. Close it when the process ends."""

    is_on = True

    def __init__(self, service: str, settings: TracingSettings, exporter: SpanExporter | None = None) -> None:
        """`service`: the name of the service that the spans are of, unless `OTEL_SERVICE_NAME` has another. `exporter`: None for OTLP/HTTP,
        as the environment says."""
        self.sampling = Sampling(settings.ratio)
        self._settings = settings
        # `Resource.create` lets what it is given win over the environment, which is to win here.
        own = Resource.create({SERVICE_NAME: service, SERVICE_VERSION: __version__})
        self._resource = own.merge(OTELResourceDetector().detect())
        self._exporter = exporter or OTLPSpanExporter()
        self._queue: list[TraceSpan] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._is_failing = False
        self._thread = threading.Thread(target=self._work, name="spans", daemon=True)
        self._thread.start()

    def end(self, spans: Sequence[TraceSpan]) -> None:
        """Into the queue, as far as it takes more."""
        with self._changed:
            more = 0 if self._is_closed else max(0, self._settings.queue - len(self._queue))
            self._queue.extend(spans[:more])
            if len(self._queue) >= EXPORTED_TOGETHER:
                self._changed.notify()
        if len(spans) > more:
            count(SPANS, "dropped", by=len(spans) - more)

    def close(self) -> None:
        """Export what is left for `TracingSettings.flush_within_s`; what has not gone by then is dropped."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(self._settings.flush_within_s)
        with self._changed:
            left, self._queue = len(self._queue), []
        if left:
            count(SPANS, "dropped", by=left)
        if not self._thread.is_alive():
            self._exporter.shutdown()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._is_closed and len(self._queue) < EXPORTED_TOGETHER:
                    self._changed.wait(self._settings.export_every_s)
                batch, self._queue = self._queue[:EXPORTED_TOGETHER], self._queue[EXPORTED_TOGETHER:]
                if not batch and self._is_closed:
                    return
            if batch:
                self._export(batch)

    def _export(self, batch: Sequence[TraceSpan]) -> None:
        began_s = time.monotonic()
        try:
            is_exported = self._exporter.export([self._of_sdk(span) for span in batch]) is SpanExportResult.SUCCESS
            why = "the collector did not take them"
        except Exception as error:  # whatever an exporter raises, requests go on
            is_exported, why = False, f"{type(error).__name__}: {error}"
        count(SPANS, "exported" if is_exported else "failed", by=len(batch))
        if not is_exported and not self._is_failing:  # once, until it has worked again
            log.warning("spans_not_exported", spans=len(batch), why=why, after_s=round(time.monotonic() - began_s, 1))
        self._is_failing = not is_exported

    def _of_sdk(self, span: TraceSpan) -> ReadableSpan:
        attributes = {**span.attributes, "error.type": span.failure} if span.failure else span.attributes
        parent = TraceContext(span.context.trace_id, span.parent_id) if span.parent_id else None
        return ReadableSpan(
            name=span.name,
            context=_context(span.context),
            parent=_context(parent) if parent is not None else None,
            resource=self._resource,
            attributes=attributes,
            links=[Link(_context(link)) for link in span.links],
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.failure) if span.failure else Status(StatusCode.UNSET),
            start_time=_nanoseconds(span.began_s),
            end_time=_nanoseconds(span.ended_s),
            instrumentation_scope=_SCOPE,
        )


def _context(of: TraceContext) -> SpanContext:
    return SpanContext(of.trace_id, of.span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _nanoseconds(unix_s: float) -> int:
    # Over microseconds: a float of today cannot tell less apart, and times 1e9 it would invent what it has not.
    return round(unix_s * 1e6) * 1000
