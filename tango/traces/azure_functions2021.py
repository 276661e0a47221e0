"""Azure Functions invocation trace of 2021: a header `app,func,end_timestamp,duration` and one invocation per row, times in seconds.

Source: Zhang et al., "Faster and Cheaper Serverless Computing on Harvested Resources", SOSP 2021; Azure/AzurePublicDataset.
"""

from __future__ import annotations

import numpy as np

from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.traces.columns import Columns
from tango.traces.recorded_requests import floats_of, trace_of_rows, words_of
from tango.traces.schema import TEN_YEARS_S, Field, Kind, Schema
from tango.traces.trace_format import Sign, TraceFormat

LC_BELOW_S = 1.0
"""An invocation that takes less is taken for LC, any other for BE. The trace says nothing of who waits; a second is the limit
for a person's flow of thought to stay uninterrupted (Nielsen, Usability Engineering, 1993, chapter 5). `--map` draws it elsewhere."""

SCHEMA = Schema(
    "azure-functions2021",
    (
        Field("app", Kind.TEXT, required=True),
        Field("func", Kind.TEXT, required=True, kept=False),
        Field("end_timestamp", Kind.FLOAT, required=True, low=0.0, high=TEN_YEARS_S),
        Field("duration", Kind.FLOAT, required=True, low=0.0, high=TEN_YEARS_S),
    ),
    header=True,
)


def trace_of(parts: list[Columns], source: str) -> Trace:
    """One request per invocation, when it began (end - duration); those of an application enter at one cluster.

    Work is the duration, on one core: an upper bound, since functions also wait; NaN for a duration of 0. Memory is not in the trace.
    """
    duration_s = floats_of(parts, "duration")
    is_lc = duration_s < LC_BELOW_S
    return trace_of_rows(
        # A function that began with the trace may come out a rounding error below its zero.
        np.maximum(floats_of(parts, "end_timestamp") - duration_s, 0.0),
        np.where(is_lc, int(ServiceClass.LC), int(ServiceClass.BE)).astype(np.int8),
        source,
        origin=words_of(parts, "app"),
        cpu_work_s=duration_s,
    )


FORMAT = TraceFormat(
    name=SCHEMA.format,
    recognised=lambda head: Sign.SURE if {"func", "end_timestamp", "duration"} <= head.names else Sign.NONE,
    schema_of=lambda _content, _fleet: SCHEMA,
    content_of=trace_of,
    notes_of=lambda _parts: (
        f"the trace has no classes: invocations below {LC_BELOW_S:g} s are taken for LC, and works are durations on one core",
    ),
)
