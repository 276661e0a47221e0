"""Distributed traces: how many requests have one, and how much is kept for an exporter that is slow."""

from __future__ import annotations

from dataclasses import dataclass

from tango.settings.bounds import LONGEST_S, within


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingSettings:
    """Distributed traces by OpenTelemetry; where they go is said by its own variables, such as `OTEL_EXPORTER_OTLP_ENDPOINT`."""

    ratio: float = 0.0
    """Share of requests that have a trace, from 0 to 1; beside them all whose callers say so in a `traceparent`. 0: traces are off, nothing
    of OpenTelemetry is loaded, and a caller's `traceparent` goes on to the instance as it came. A trace is some kilobytes and costs a
    worker half a millisecond of CPU, most of it for its export: 1 while one looks for something, 0.01 for good."""
    queue: int = 8192
    """Spans that wait in a process for the exporter at the most; beyond it new ones are dropped and counted (`tango_spans_total`). Eight of
    them are a request: a thousand requests that all end within a moment, in some megabytes."""
    export_every_s: float = 1.0
    """Seconds for which spans are gathered: one call to the collector for all of them."""
    flush_within_s: float = 2.0
    """Seconds that a process which is told to stop takes at the most to export what is left; supervisors kill after ten."""

    def __post_init__(self) -> None:
        within(self, 0.0, 1.0, "ratio")
        within(self, 1, 1_000_000, "queue")
        within(self, 0.0, LONGEST_S, "export_every_s", above=True)
        within(self, 0.0, 60.0, "flush_within_s")
