"""Azure LLM inference traces of 2023, 2024 and 2025: a header and one latency-critical request per row, without durations or resources.

The file of 2024 has times with an offset and fractions of several lengths; that of 2025, of requests with images, has `NumImages`.
"""

from __future__ import annotations

import re

import numpy as np

from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.traces.columns import Columns
from tango.traces.schema import SINCE_1990_NS, UNTIL_2200_NS, Field, Kind, Schema
from tango.traces.trace_format import Head, Sign, TraceFormat

_TIME = Field("TIMESTAMP", Kind.TIMESTAMP, required=True, low=SINCE_1990_NS, high=UNTIL_2200_NS)
_TOKENS = (
    Field("ContextTokens", Kind.INT, required=True, low=0, high=100_000_000),
    Field("GeneratedTokens", Kind.INT, required=True, low=0, high=100_000_000),
)
SCHEMA_2023 = Schema("azure-llm2023", (_TIME, *_TOKENS), header=True, ordered_by="TIMESTAMP")
SCHEMA_2024 = Schema("azure-llm2024", (_TIME, *_TOKENS), header=True)
SCHEMA_2025 = Schema("azure-lmm2025", (_TIME, Field("NumImages", Kind.INT, low=0, high=100_000, kept=False), *_TOKENS), header=True)
_OFFSET = re.compile(r"[ T][0-9:.]+(Z|[+-][0-9:]{4,5})$")


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


def _year(head: Head) -> int:
    """Of which of the traces a file is; 0: of none."""
    if not head.names & set(SCHEMA_2023.names):
        return 0
    if "NumImages" in head.names:
        return 2025
    return 2024 if _OFFSET.search(head.second_line.partition(",")[0].strip('" ')) else 2023


def _of(year: int, schema: Schema) -> TraceFormat:
    return TraceFormat(
        name=schema.format,
        recognised=lambda head: Sign.SURE if _year(head) == year else Sign.NONE,
        schema_of=lambda _content, _fleet: schema,
        content_of=trace_of,
    )


YEARS = (_of(2023, SCHEMA_2023), _of(2024, SCHEMA_2024), _of(2025, SCHEMA_2025))
