"""Spans as the SDK's exporter in memory gets them, and the trees that they make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tango.settings import TracingSettings
from tango.tracing.exported import ExportedSpans

ALL = TracingSettings(ratio=1.0, export_every_s=0.001)
"""Every request has a trace."""


class SpansInMemory(ExportedSpans):
    """Exports into memory."""

    def __init__(self, settings: TracingSettings = ALL) -> None:
        self.memory = InMemorySpanExporter()
        super().__init__("tango-test", settings, self.memory)

    @property
    def exported(self) -> tuple[ReadableSpan, ...]:
        """What has come so far."""
        return self.memory.get_finished_spans()

    def finished(self) -> list[ReadableSpan]:
        """All, by their start; nothing is exported after that."""
        self.close()
        return sorted(self.exported, key=lambda span: (span.start_time, -(span.end_time or 0)))


def facts(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes."""
    return dict(span.attributes or {})


def trace_id_of(span: ReadableSpan) -> int:
    """Of its own context."""
    assert span.context is not None
    return span.context.trace_id


def trees(spans: Sequence[ReadableSpan]) -> list[list[str]]:
    """Of each trace the names of its spans, each below the one that it is part of and further in; spans without their parent are roots, and
    say so. In order of their starts."""
    by_trace: dict[int, list[ReadableSpan]] = defaultdict(list)
    for span in spans:
        by_trace[trace_id_of(span)].append(span)
    return [_tree(of_trace) for of_trace in by_trace.values()]


def tree_with(spans: Sequence[ReadableSpan], name: str) -> list[str]:
    """The one tree that has a span of this name."""
    (found,) = [tree for tree in trees(spans) if any(line.strip() == name for line in tree)]
    return found


def named(spans: Sequence[ReadableSpan], name: str) -> list[ReadableSpan]:
    """Those of this name."""
    return [span for span in spans if span.name == name]


def _tree(spans: Sequence[ReadableSpan]) -> list[str]:
    ids = {span.context.span_id for span in spans if span.context is not None}
    below: dict[int, list[ReadableSpan]] = defaultdict(list)
    for span in spans:
        below[span.parent.span_id if span.parent is not None else 0].append(span)
    lines: list[str] = []

    def add(span: ReadableSpan, depth: int, mark: str) -> None:
        lines.append("  " * depth + span.name + mark)
        assert span.context is not None
        for child in below[span.context.span_id]:
            add(child, depth + 1, "")

    for parent_id, children in list(below.items()):
        if parent_id not in ids:
            for child in children:
                add(child, 0, " (its parent is not here)" if parent_id else "")
    return lines
