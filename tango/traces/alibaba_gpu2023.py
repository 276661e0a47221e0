"""Alibaba cluster-trace-gpu-v2023, a list of pods as a trace: a header, and one pod per row, times in seconds.

The same list is a population for the study that `tango bench fgd` repeats (`gpu_lists`). Source: Weng et al., "Beware of Fragmentation",
USENIX ATC '23; alibaba/clusterdata.
"""

from __future__ import annotations

import numpy as np

from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.traces.columns import Columns
from tango.traces.recorded_requests import floats_of, trace_of_rows, words_of
from tango.traces.schema import TEN_YEARS_S, Field, Kind, Schema
from tango.traces.trace_format import Sign, TraceFormat

SCHEMA = Schema(
    "alibaba-gpu2023",
    (
        Field("name", Kind.TEXT, required=True, kept=False),
        Field("cpu_milli", Kind.INT, required=True, low=0, high=10_000_000),
        Field("memory_mib", Kind.INT, required=True, low=0, high=100_000_000),
        Field("qos", Kind.TEXT, required=True, choices=("LS", "BE", "Burstable", "Guaranteed")),
        Field("creation_time", Kind.INT, required=True, low=0, high=TEN_YEARS_S),
        Field("deletion_time", Kind.INT, low=0, high=TEN_YEARS_S),
        Field("scheduled_time", Kind.INT, low=0, high=TEN_YEARS_S),
    ),
    header=True,
    extra_columns=True,
)
"""Further columns are the pod's GPUs, which a trace of requests has no place for, and its phase."""
LC_QOS = ("LS", "Guaranteed")
"""Qualities of service that are LC: latency-sensitive, and pods with resources for themselves alone; BE and Burstable ones are BE."""


def trace_of(parts: list[Columns], source: str) -> Trace:
    """One request per pod, when it is created.

    Work of BE = (deletion - scheduling) x cpu_milli / 1000; NaN for a pod that was never scheduled. LC works are NaN: an LC pod is a
    standing service, and its life is not the work of a request.
    """
    code, words = words_of(parts, "qos")
    is_lc = np.array([word in LC_QOS for word in words] or [False])[code]
    work_s = (floats_of(parts, "deletion_time") - floats_of(parts, "scheduled_time")) * floats_of(parts, "cpu_milli") / 1000.0
    return trace_of_rows(
        floats_of(parts, "creation_time"),
        np.where(is_lc, int(ServiceClass.LC), int(ServiceClass.BE)).astype(np.int8),
        source,
        cpu_work_s=np.where(is_lc, np.nan, work_s),
        memory_mib=floats_of(parts, "memory_mib"),
    )


def _notes(parts: list[Columns]) -> tuple[str, ...]:
    """Pods that were alive when the list was drawn up stand at its beginning, whenever they were created."""
    created_s = floats_of(parts, "creation_time")
    begin_s = float(np.quantile(created_s, 0.01)) if len(created_s) else 0.0
    if begin_s <= created_s.max(initial=0.0) / 2:
        return ()
    return (f"the first pods are those that had lived on since: 99 % are created after {begin_s:.0f} s, where --from may begin",)


FORMAT = TraceFormat(
    name=SCHEMA.format,
    recognised=lambda head: Sign.SURE if {"cpu_milli", "qos", "creation_time"} <= head.names else Sign.NONE,
    schema_of=lambda _content, _fleet: SCHEMA,
    content_of=trace_of,
    notes_of=_notes,
)
