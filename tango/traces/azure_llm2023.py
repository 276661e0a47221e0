"""Azure LLM inference trace 2023: a header and one latency-critical request per row, in order of time, without durations or resources."""

from __future__ import annotations

import numpy as np

from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.traces.columns import Columns
from tango.traces.schema import SINCE_1990_NS, UNTIL_2200_NS, Field, Kind, Schema
from tango.traces.trace_format import Head, Sign, TraceFormat

SCHEMA = Schema(
    "azure-llm2023",
    (
        Field("TIMESTAMP", Kind.TIMESTAMP, required=True, low=SINCE_1990_NS, high=UNTIL_2200_NS),
        Field("ContextTokens", Kind.INT, required=True, low=0, high=100_000_000),
        Field("GeneratedTokens", Kind.INT, required=True, low=0, high=100_000_000),
    ),
    header=True,
    ordered_by="TIMESTAMP",
)


def trace_of(parts: list[Columns], source: str) -> Trace:
    """One LC request per row, in seconds from the first; work and memory are unknown (NaN)."""
    time_ns = np.sort(np.concatenate([part.ints("TIMESTAMP") for part in parts]), kind="stable")
    n = len(time_ns)
    unknown = np.full(n, np.nan)
    return Trace(
        arrival_s=(time_ns - time_ns[0]) / 1e9 if n else np.zeros(0),
        service_class=np.full(n, int(ServiceClass.LC), np.int8),
        service=np.zeros(n, np.int32),
        cluster=np.zeros(n, np.int32),
        cpu_work_s=unknown,
        memory_mib=unknown.copy(),
        services=("",),
        clusters=("",),
        source=source,
    )


def _recognised(head: Head) -> Sign:
    return Sign.SURE if head.names & set(SCHEMA.names) else Sign.NONE


FORMAT = TraceFormat(
    name=SCHEMA.format,
    recognised=_recognised,
    schema_of=lambda _content, _fleet: SCHEMA,
    content_of=trace_of,
)
