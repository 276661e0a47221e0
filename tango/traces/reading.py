"""Reads any known trace: finds the files, tells the format by content, reads each part, joins them into one `Trace`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from tango.domain.fleet import Fleet
from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.errors import BadRow, BadRows, UsageError
from tango.traces import alibaba2018, azure_llm2023, google2011, google2019, own_format, worldcup98
from tango.traces.columns import Columns
from tango.traces.csv_columns import read_csv
from tango.traces.files import Content, expand, file_refused, read_content
from tango.traces.rate_curve import RateCurve
from tango.traces.refusals import Refusals
from tango.traces.schema import Schema
from tango.traces.structured_columns import read_json_lines, read_parquet

FORMATS = ("google2011", "google2019", "alibaba2018", "azure-llm2023", "worldcup98", "tango")

_PARQUET = b"PAR1"
_CONTENT_OF: dict[str, Callable[[list[Columns], str], Trace | RateCurve]] = {
    "google2011": google2011.trace_of,
    "google2019": google2019.trace_of,
    "alibaba2018": alibaba2018.trace_of,
    "azure-llm2023": azure_llm2023.trace_of,
    "worldcup98": worldcup98.curve_of,
    "tango": own_format.trace_of,
}


@dataclass(frozen=True)
class Reading:
    """A trace that was read, with what was refused on the way."""

    content: Trace | RateCurve
    """The requests, or their counts where the format has no more."""
    format: str
    files: tuple[str, ...]
    rows: int
    """Good rows of the files; a request may take several."""
    refusals: Refusals = field(default_factory=Refusals)
    notes: tuple[str, ...] = ()
    """What a reader of the figures should know."""

    @cached_property
    def trace(self) -> Trace:
        """The requests; counts are expanded, by seed 0. Raises: RequestRejected for more than `rate_curve.MAX_EXPANDED` of them."""
        return self.content.expanded(seed=0) if isinstance(self.content, RateCurve) else self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceInfo:
    """A trace in figures, as `tango trace info` prints it."""

    requests: int
    lc: int
    be: int
    span_s: float
    """From the first arrival to the last; of counts, from the first minute to the end of the last."""
    bad_rows: int
    services: int
    """Named services; 0 where the trace names none."""
    clusters: int
    """Named entry clusters; 0 where the trace names none (origins such as jobs are no clusters)."""


def read_trace(
    paths: str | Path | Sequence[str | Path],
    *,
    format: str | None = None,
    skip_bad: bool = False,
    fleet: Fleet | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Reading:
    """Read one trace from files or globs (several parts are joined in order of time).

    With `skip_bad` good rows are taken and bad ones stand in `refusals`; else any bad row refuses the whole trace. A `fleet` lets
    the reader refuse unknown services and clusters by their lines. `progress` is called with (files read, files).
    Raises: BadRows with file, line, column, found and expected; UsageError for an unknown format.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(f"there is no trace format {format!r}; known formats: {', '.join(FORMATS)}")
    files = expand([paths] if isinstance(paths, str | Path) else paths)
    refusals = Refusals()
    parts: list[Columns] = []
    known = format
    for index, path in enumerate(files):
        content = read_content(path, salvage=skip_bad)
        known = known or sniff(content)
        before = len(refusals)
        parts.append(_read_part(content, known, refusals, fleet))
        refusals.sort_from(before)
        if content.cut:
            line = content.data.count(b"\n") + 1
            refusals.add(BadRow(file=content.file, line=line, column="", found=content.cut, expected="a complete gzip stream"), "")
        if progress:
            progress(index + 1, len(files))
    if known is None:
        raise file_refused("", "no file", "at least one trace file")
    if not skip_bad:
        refusals.raise_if_any()
    requests = _CONTENT_OF[known](parts, " ".join(path.name for path in files))
    if not len(requests):
        # With not one request left there is nothing to go on with, so the reasons are told and not set aside.
        refusals.raise_if_any(remedy="no request is left without the bad rows")
        found = f"no arrival in {sum(map(len, parts))} good rows"
        raise file_refused(str(files[0]), found, "at least one request")
    notes = (google2019.SAMPLE_NOTE,) if known == "google2019" and google2019.is_sample(parts) else ()
    return Reading(requests, known, tuple(map(str, files)), sum(map(len, parts)), refusals, notes)


def info_of(reading: Reading) -> TraceInfo:
    """The figures of a trace; counts are added up and not expanded."""
    trace = reading.content
    if isinstance(trace, RateCurve):
        n = len(trace)
        bad = len(reading.refusals)
        return TraceInfo(requests=n, lc=n, be=0, span_s=trace.end_s, bad_rows=bad, services=0, clusters=0)
    lc = int(np.count_nonzero(trace.service_class == int(ServiceClass.LC)))
    return TraceInfo(
        requests=len(trace),
        lc=lc,
        be=len(trace) - lc,
        span_s=trace.span_s,
        bad_rows=len(reading.refusals),
        services=sum(1 for name in trace.services if name),
        clusters=sum(1 for name in trace.clusters if name and not name.startswith("~")),
    )


def sniff(content: Content) -> str:
    """The format of a file by what it holds. Raises: BadRows if it is none that is known."""
    data = content.data
    if data.startswith(_PARQUET):
        return "google2019" if b"collection_id" in data[-65536:] else "tango"
    head = data[: 256 << 10].split(b"\n")[:100]
    first = head[0].decode("utf-8", "replace").strip()
    if first.startswith("{"):
        return "google2019"
    names = {name.strip().strip('"') for name in first.split(",")}
    if {"arrival_s", "class"} & names:
        return "tango"
    if {"collection_id", "scheduling_class"} & names:
        return "google2019"
    if {"TIMESTAMP", "ContextTokens", "GeneratedTokens"} & names:
        return "azure-llm2023"
    if "period" in names:
        return "worldcup98"
    widths = [line.count(b",") + 1 for line in head if line.strip()]
    width = max(set(widths), key=widths.count)
    if width == len(google2011.SCHEMA.fields):
        return "google2011"
    if width == len(alibaba2018.SCHEMA.fields):
        return "alibaba2018"
    expected = f"one of the formats {', '.join(FORMATS)} (a Tango file begins with the header {','.join(own_format.COLUMNS)})"
    reason = BadRow(file=content.file, line=1, column="", found=f"{first[:80]!r} with {len(names)} columns", expected=expected)
    raise BadRows([reason], remedy="--format NAME overrides the guess")


def _read_part(content: Content, format: str, refusals: Refusals, fleet: Fleet | None) -> Columns:
    if content.data.startswith(_PARQUET):
        if format == "tango":
            schema = own_format.schema(fleet)
        elif format == "google2019":
            schema = google2019.NESTED if b"resource_request" in content.data[-65536:] else google2019.FLAT
        else:
            raise file_refused(content.file, "a Parquet file", f"a file of the format {format}")
        return read_parquet(content.file, content.data, schema, refusals)
    if format == "google2019" and content.data.lstrip().startswith(b"{"):
        nested = b'"resource_request"' in content.data[:65536]
        return read_json_lines(content, google2019.NESTED if nested else google2019.FLAT, refusals)
    return read_csv(content, _schema(format, fleet), refusals)


def _schema(format: str, fleet: Fleet | None) -> Schema:
    if format == "tango":
        return own_format.schema(fleet)
    return {
        "google2011": google2011.SCHEMA,
        "google2019": google2019.FLAT,
        "alibaba2018": alibaba2018.SCHEMA,
        "azure-llm2023": azure_llm2023.SCHEMA,
        "worldcup98": worldcup98.SCHEMA,
    }[format]
