"""Spans on their way to a collector: bounded, counted, and never in anybody's way."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tango.domain.tracing import SpanKind, TraceContext, TraceSpan
from tango.settings import TracingSettings
from tango.telemetry import tallies
from tango.telemetry.catalogue import SPANS
from tango.telemetry.slots import read_slots
from tango.tracing.exported import ExportedSpans
from tests.fakes.span_trees import SpansInMemory, facts
from tests.waiting import until

FEW = TracingSettings(ratio=1.0, queue=10, export_every_s=0.001, flush_within_s=0.05)


def span(k: int = 1) -> TraceSpan:
    """One of a trace."""
    return TraceSpan(name=f"s{k}", context=TraceContext(1, k), began_s=1_700_000_000.25, ended_s=1_700_000_000.5)


class Hanging(SpanExporter):
    """Takes nothing until it is let go."""

    def __init__(self) -> None:
        self.asked, self.goes_on = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Wait."""
        self.asked.set()
        self.goes_on.wait(30.0)
        return SpanExportResult.SUCCESS


class Refusing(SpanExporter):
    """Raises, then says no, then takes everything."""

    def __init__(self) -> None:
        self.calls = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """The next answer."""
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("a defect of the exporter")
        return SpanExportResult.FAILURE if self.calls == 2 else SpanExportResult.SUCCESS


@pytest.fixture
def counts(tmp_path: Path) -> Iterator[Path]:
    """Where this process counts."""
    tallies.end()
    tallies.begin(str(tmp_path))
    yield tmp_path
    tallies.end()


def counted(folder: Path) -> dict[str, float]:
    """Spans by what became of them."""
    return {labels[0]: values[0] for metric, labels, values, _ in read_slots(folder) if metric is SPANS}


def test_a_span_is_exported_as_it_was_made() -> None:
    """Ids, times to the microsecond, parent, links, kind, attributes, and what went wrong."""
    spans = SpansInMemory()
    made = TraceSpan(
        name="POST /v1/work",
        kind=SpanKind.CLIENT,
        context=TraceContext(0xABC, 0x12),
        parent_id=0x11,
        began_s=1_700_000_000.000001,
        ended_s=1_700_000_000.5,
        attributes={"http.response.status_code": 503},
        links=(TraceContext(0xDEF, 0x13),),
        failure="instance-refused",
    )

    spans.end([made])

    (found,) = spans.finished()
    assert found.context is not None
    assert found.parent is not None
    assert (found.name, found.kind.name, found.context.trace_id, found.context.span_id) == ("POST /v1/work", "CLIENT", 0xABC, 0x12)
    assert (found.parent.span_id, [link.context.trace_id for link in found.links]) == (0x11, [0xDEF])
    assert (found.start_time, found.end_time) == (1_700_000_000_000_001_000, 1_700_000_000_500_000_000)
    assert facts(found) == {"http.response.status_code": 503, "error.type": "instance-refused"}
    assert found.status.description == "instance-refused"


def test_the_environment_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenTelemetry specifies it; without it the role does."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=of-attributes")
    first = SpansInMemory()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
    second = SpansInMemory()
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES")
    third = SpansInMemory()

    named = []
    for spans in (first, second, third):
        spans.end([span()])
        named.append(dict(spans.finished()[0].resource.attributes))

    assert [attributes["service.name"] for attributes in named] == ["of-attributes", "edge", "tango-test"]
    assert named[0]["deployment.environment.name"] == "test"


def test_an_exporter_that_hangs_costs_nobody_time_and_what_finds_no_room_is_counted(counts: Path) -> None:
    """The queue holds ten; whoever brings more goes on at once, and the process ends within its time."""
    hanging = Hanging()
    spans = ExportedSpans("test", FEW, hanging)
    spans.end([span()])
    assert hanging.asked.wait(10.0)

    for k in range(25):
        spans.end([span(k)])
    dropped = counted(counts)["dropped"]
    spans.close()
    hanging.goes_on.set()
    until(lambda: counted(counts).get("exported") == 1.0)

    assert dropped == 15.0
    assert counted(counts)["dropped"] == 25.0


def test_a_collector_that_refuses_is_asked_again_with_what_comes_next(counts: Path) -> None:
    """What it did not take is counted, whatever its exporter raises."""
    refusing = Refusing()
    spans = ExportedSpans("test", FEW, refusing)

    for k in range(1, 4):
        spans.end([span(k)])
        until(lambda k=k: refusing.calls == k)  # type: ignore[misc]
    spans.close()

    assert counted(counts) == {"failed": 2.0, "exported": 1.0}


def test_what_waits_when_a_process_ends_is_exported_first() -> None:
    """Within its time; what comes after that is dropped."""
    spans = SpansInMemory(TracingSettings(ratio=1.0, export_every_s=1000.0))
    spans.end([span(1), span(2)])

    spans.close()
    spans.end([span(3)])

    assert [one.name for one in spans.exported] == ["s1", "s2"]
