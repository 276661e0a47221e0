"""Reads a trace of any known format: finds the files, recognises the format by content, reads each part, joins them into one `Trace`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from tango.domain.fleet import Fleet
from tango.domain.near_names import near_name
from tango.domain.services import ServiceClass
from tango.domain.trace import ORIGIN, Trace
from tango.errors import BadRow, BadRows, UsageError
from tango.traces import own_format
from tango.traces.columns import Columns
from tango.traces.csv_columns import read_csv
from tango.traces.files import Content, Form, expand, file_refused, read_content
from tango.traces.formats import FORMATS
from tango.traces.mapped_columns import mapped_format
from tango.traces.rate_curve import RateCurve
from tango.traces.refusals import REMEDY, Refusals
from tango.traces.structured_columns import read_json_lines, read_parquet
from tango.traces.trace_format import Head, Sign, TraceFormat


@dataclass(frozen=True)
class Reading:
    """A trace that was read, with what was refused on the way."""

    content: Trace | RateCurve
    """The requests, or counts of requests per minute where the format has only these."""
    format: str
    files: tuple[str, ...]
    rows: int
    """Rows that were accepted; a request may take several (submit, schedule, end)."""
    refusals: Refusals = field(default_factory=Refusals)
    notes: tuple[str, ...] = ()
    """Warnings about the trace, for whoever reads figures made from it."""

    @cached_property
    def trace(self) -> Trace:
        """The requests; counts are expanded to arrivals with seed 0. Raises: RequestRejected above `rate_curve.MAX_EXPANDED` requests."""
        return self.content.expanded(seed=0) if isinstance(self.content, RateCurve) else self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceInfo:
    """A trace in figures, as `tango trace info` prints it."""

    requests: int
    lc: int
    be: int
    span_s: float
    """Seconds from the first arrival to the last; for counts, from the first minute to the end of the last."""
    bad_rows: int
    services: int
    """Named services; 0 where the trace names none."""
    clusters: int
    """Named entry clusters; 0 where the trace names none (origins such as jobs are no clusters)."""


def read_trace(
    paths: str | Path | Sequence[str | Path],
    *,
    format: str | None = None,
    map: str = "",
    skip_bad: bool = False,
    fleet: Fleet | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Reading:
    """Read one trace from files or globs (several parts are joined in order of time).

    With `skip_bad` good rows are taken and bad ones listed in `refusals`; otherwise any bad row refuses the whole trace. With a `fleet`,
    rows that name a service or cluster unknown to it are bad. `progress` is called with (files read, files). A `map` reads any table: it
    gives Tango's own columns as expressions over the file's, such as `arrival_s=end - duration,cpu_work_s=duration` (docs/traces.md).
    Raises: BadRows with file, line, column, found and expected; UsageError for an unknown format, or what is no map.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(f"there is no trace format {format!r}{near_name(format, FORMATS)}; known formats: {', '.join(FORMATS)}")
    if map and format is not None:
        raise UsageError("a map makes a trace of a file of any form; leave out the format (--format)")
    files = expand([paths] if isinstance(paths, str | Path) else paths, stdin=True)
    refusals = Refusals()
    parts: list[Columns] = []
    known = mapped_format(map) if map else FORMATS[format] if format is not None else None
    assumed = ""
    for index, path in enumerate(files):
        content = read_content(path, salvage=skip_bad)
        if known is None:
            known = recognise(content)
            assumed = _assumption(content, known)
        before = len(refusals)
        parts.append(_read_part(content, known, refusals, fleet))
        refusals.sort_from(before)
        if content.cut:
            line = content.data.count(b"\n") + 1
            refusals.add(BadRow(file=content.file, line=line, column="", found=content.cut, expected=content.whole), "")
        if progress:
            progress(index + 1, len(files))
    if known is None:
        raise file_refused("", "no file", "at least one trace file")
    if not skip_bad:
        refusals.raise_if_any(remedy=f"{assumed}\n{REMEDY}" if assumed else REMEDY)
    requests = known.content_of(parts, " ".join(path.name for path in files))
    if not len(requests):
        # Without a single request the trace is useless: raise the reasons even with `skip_bad`.
        refusals.raise_if_any(remedy="no request is left without the bad rows")
        found = f"no arrival in {sum(len(part) for part in parts)} good rows"
        raise file_refused(str(files[0]), found, "at least one request")
    notes = [assumed] if assumed else []
    notes += _ignored(known, content, parts, fleet)
    notes += _absences(known, content, parts, fleet)
    notes += known.notes_of(parts)
    return Reading(
        requests, known.name, tuple(str(file) for file in files), sum(len(part) for part in parts), refusals, tuple(notes)
    )


def info_of(reading: Reading) -> TraceInfo:
    """The figures of a trace; counts of requests are summed without expanding them."""
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
        clusters=sum(1 for name in trace.clusters if name and not name.startswith(ORIGIN)),
    )


def recognise(content: Content) -> TraceFormat:
    """The format of a file by its content: that with the surest sign.

    Raises: BadRows if no known format recognises it, or none of its first rows is one of the format that its shape speaks for.
    """
    head = Head(content)
    sign, found = max(((found.recognised(head), found) for found in FORMATS.values()), key=lambda pair: pair[0])
    if sign is Sign.LIKELY and head.form is Form.CSV:
        tried = Refusals()
        if not len(_read_part(head.sample, found, tried, None)):
            tried.raise_if_any(
                remedy=f"it was taken for {found.name} for its {found.shape}; --format NAME names another: {', '.join(FORMATS)}"
            )
    if sign is not Sign.NONE:
        return found
    expected = f"one of the formats {', '.join(FORMATS)} (a Tango file begins with the header {','.join(own_format.COLUMNS)})"
    first = f"{head.first_line[:80]!r} with {head.width or len(head.names)} columns"
    reason = BadRow(file=content.file, line=1, column="", found=first, expected=expected)
    raise BadRows([reason], remedy="--format NAME overrides the guess; --map makes a trace of any table")


def _assumption(content: Content, format: TraceFormat) -> str:
    """What speaks for a format that was only likely; empty where the names of columns say it."""
    if format.recognised(Head(content)) is Sign.SURE:
        return ""
    return f"{Path(content.file).name} is taken for {format.name} for its {format.shape}; --format NAME overrides it"


def _ignored(format: TraceFormat, content: Content, parts: list[Columns], fleet: Fleet | None) -> list[str]:
    """A note of the columns that were not read because the format has none of their names."""
    known = format.schema_of(content, fleet).names
    names = dict.fromkeys(name for part in parts for name in part.ignored)
    told = ", ".join(name + near_name(name, known) for name in names)
    return [f"columns that the format {format.name} does not have are ignored: {told}"] if names else []


def _absences(format: TraceFormat, content: Content, parts: list[Columns], fleet: Fleet | None) -> list[str]:
    """A note for each column that readers of figures miss where no part has it, or any value in it."""
    return [
        f"no value of {' or '.join(field.all_names)}: {field.if_absent}"
        for field in format.schema_of(content, fleet).fields
        if field.if_absent and all(field.name not in part.by_name or part.by_name[field.name].null.all() for part in parts)
    ]


def _read_part(content: Content, format: TraceFormat, refusals: Refusals, fleet: Fleet | None) -> Columns:
    if format.read_part is not None:
        return format.read_part(content, fleet, refusals)
    schema = format.schema_of(content, fleet)
    if content.form is Form.PARQUET:
        if Form.PARQUET not in format.forms:
            raise file_refused(content.file, "a Parquet file", f"a file of the format {format.name}")
        return read_parquet(content.file, content.data, schema, refusals)
    if content.form is Form.JSON_LINES and Form.JSON_LINES in format.forms:
        return read_json_lines(content, schema, refusals)
    return read_csv(content, schema, refusals)
