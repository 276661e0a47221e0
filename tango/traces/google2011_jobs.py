"""Google ClusterData 2011 version 2, table `job_events`: 8 columns, no header, times in microseconds; jobs without their tasks."""

from __future__ import annotations

import numpy as np

from tango.domain.trace import Trace
from tango.traces.columns import Columns
from tango.traces.google2011 import SUBMIT
from tango.traces.recorded_requests import first_of_each, ints_of, trace_of_rows
from tango.traces.schema import AFTER_TRACE_US, TEN_YEARS_S, Field, Kind, Schema
from tango.traces.tasks_to_requests import service_class_of
from tango.traces.trace_format import Head, Sign, TraceFormat

SCHEMA = Schema(
    "google2011-jobs",
    (
        Field("time", Kind.INT, required=True, low=0, high=TEN_YEARS_S * 1e6, also=AFTER_TRACE_US),
        Field("missing_info", Kind.INT, low=0, high=2, kept=False),
        Field("job_id", Kind.INT, required=True, low=0),
        Field("event_type", Kind.INT, required=True, low=0, high=8),
        Field("user", Kind.TEXT, kept=False),
        Field("scheduling_class", Kind.INT, required=True, low=0, high=3),
        Field("job_name", Kind.TEXT, kept=False),
        Field("logical_job_name", Kind.TEXT, kept=False),
    ),
    header=False,
)


def trace_of(parts: list[Columns], source: str) -> Trace:
    """One request per job, at its first SUBMIT after time 0; classes as those of tasks. Works and memory are open."""
    time_us = ints_of(parts, "time")
    submitted = np.flatnonzero((time_us > 0) & (time_us < AFTER_TRACE_US) & (ints_of(parts, "event_type") == SUBMIT))
    job = ints_of(parts, "job_id")[submitted]
    arrival_s = time_us[submitted] / 1e6
    rows = first_of_each(job, arrival_s)
    jobs, code = np.unique(job[rows], return_inverse=True)
    classes = service_class_of(ints_of(parts, "scheduling_class")[submitted][rows])
    return trace_of_rows(arrival_s[rows], classes, source, origin=(code, [str(one) for one in jobs]))


def _recognised(head: Head) -> Sign:
    return Sign.LIKELY if head.is_table_of(len(SCHEMA.fields)) and head.first_value(5).isdigit() else Sign.NONE


FORMAT = TraceFormat(
    name=SCHEMA.format,
    recognised=_recognised,
    schema_of=lambda _content, _fleet: SCHEMA,
    content_of=trace_of,
    shape="8 columns without a header, of which the sixth is a number",
)
