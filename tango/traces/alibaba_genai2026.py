"""Alibaba cluster-trace-v2026-GenAI, table of requests: a header, and one request for images per row.

Source: alibaba/clusterdata, cluster-trace-v2026-GenAI, `lora_request_trace.csv`.
"""

from __future__ import annotations

import numpy as np

from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.traces.columns import Columns
from tango.traces.recorded_requests import floats_of, ints_of, trace_of_rows, words_of
from tango.traces.schema import SINCE_1990_NS, UNTIL_2200_NS, Field, Kind, Schema
from tango.traces.trace_format import Sign, TraceFormat

SCHEMA = Schema(
    "alibaba-genai2026",
    (
        Field("gmt_create", Kind.TIMESTAMP, required=True, low=SINCE_1990_NS, high=UNTIL_2200_NS),
        Field("predict_type", Kind.TEXT, kept=False),
        Field("predict_status", Kind.TEXT, kept=False, in_header=False),
        Field("exec_time_seconds", Kind.FLOAT, low=0.0, high=1e6),
        Field("groupId", Kind.TEXT, in_header=False),
    ),
    header=True,
    extra_columns=True,
)
"""Further columns are lengths of prompts, numbers of images, steps and adapters, and the model."""


def trace_of(parts: list[Columns], source: str) -> Trace:
    """One LC request per row, in seconds from the first; requests of a group enter at one cluster.

    Work is the time of execution, one CPU-second a second; NaN where it is missing or 0, as of requests that failed at once.
    """
    time_ns = ints_of(parts, "gmt_create")
    return trace_of_rows(
        (time_ns - time_ns.min(initial=UNTIL_2200_NS)) / 1e9,
        np.full(len(time_ns), int(ServiceClass.LC), np.int8),
        source,
        origin=words_of(parts, "groupId"),
        cpu_work_s=floats_of(parts, "exec_time_seconds"),
    )


FORMAT = TraceFormat(
    name=SCHEMA.format,
    recognised=lambda head: Sign.SURE if {"gmt_create", "exec_time_seconds"} <= head.names else Sign.NONE,
    schema_of=lambda _content, _fleet: SCHEMA,
    content_of=trace_of,
    notes_of=lambda _parts: (
        "works are seconds of execution on a GPU, taken for CPU-seconds: a load, or --lc-work-s of `tango trace convert`, scales them",
    ),
)
