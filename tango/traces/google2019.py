"""Google ClusterData 2019 (version 3), instance events: CSV with a header, JSON lines or Parquet as BigQuery exports them.

A public random sample of rows is recognised by its column `row`. Its gaps and durations are not those of the trace, so that only
classes, resource requests and entries are taken from it, and no work.
"""

from __future__ import annotations

import numpy as np

from tango.domain.trace import Trace
from tango.traces.columns import Columns
from tango.traces.files import Form
from tango.traces.schema import AFTER_TRACE_US, TEN_YEARS_S, Field, Kind, Schema
from tango.traces.tasks_to_requests import TaskEvents, requests_of
from tango.traces.trace_format import Head, Sign, TraceFormat

SUBMIT, QUEUE, ENABLE, SCHEDULE, EVICT, FAIL, FINISH, KILL, LOST, UPDATE_PENDING, UPDATE_RUNNING = range(11)
"""Codes of the column `type`."""

SCHEMA = Schema(
    "google2019",
    (
        Field("row", Kind.INT, in_header=False),
        Field("time", Kind.INT, required=True, low=0, high=TEN_YEARS_S * 1e6, also=AFTER_TRACE_US, unit="us"),
        Field("type", Kind.INT, required=True, low=0, high=10),
        Field("collection_id", Kind.INT, required=True, low=0),
        Field("scheduling_class", Kind.INT, required=True, low=0, high=3),
        Field("collection_type", Kind.INT, low=0, high=1, in_header=False, if_absent="alloc sets count as requests"),
        Field("priority", Kind.INT, low=0, high=500, in_header=False),
        Field("instance_index", Kind.INT, required=True, low=0, high=10_000_000),
        Field(
            "cpu_request",
            Kind.FLOAT,
            low=0.0,
            high=1.0,
            in_header=False,
            also_named=("resource_request.cpus", "resource_request_cpus", "cpus"),
            path=("resource_request", "cpus"),
            if_absent="works are drawn from the services",
        ),
        Field(
            "memory_request",
            Kind.FLOAT,
            low=0.0,
            high=1.0,
            in_header=False,
            also_named=("resource_request.memory", "resource_request_memory", "memory"),
            path=("resource_request", "memory"),
            if_absent="memory is that of the services",
        ),
        Field("cell", Kind.INT, low=1, high=8, in_header=False),
    ),
    header=True,
    extra_columns=True,
)
"""BigQuery exports resource requests as a nested record where the file's form has records; tools that flatten it join the names."""

_ITS_OWN = ("collection_id", "scheduling_class")
"""Columns by which the format is recognised: no other format has them."""
SAMPLE_NOTE = "a random sample of rows: gaps between arrivals are not those of the trace, and works are unknown"


def is_sample(parts: list[Columns]) -> bool:
    """Whether the rows come from the public random sample."""
    return any("row" in part.by_name for part in parts)


def trace_of(parts: list[Columns], source: str) -> Trace:
    """Requests of all parts: instances of jobs (not alloc sets) that were submitted after the trace began."""
    columns = [np.concatenate(column) for column in zip(*(_events(part) for part in parts), strict=True)]
    order = np.argsort(columns[0], kind="stable")
    time_us, job, task, event, scheduling_class, cpu, memory = (column[order] for column in columns)
    return requests_of(
        TaskEvents(
            time_us=time_us.astype(np.int64),
            job=job.astype(np.int64),
            task=task.astype(np.int64),
            is_submit=event == SUBMIT,
            is_schedule=event == SCHEDULE,
            is_end=(event >= EVICT) & (event <= LOST),
            scheduling_class=scheduling_class.astype(np.int64),
            cpu_request=cpu.astype(np.float64),
            memory_request=memory.astype(np.float64),
        ),
        with_life=not is_sample(parts),
        source=source,
    )


def _events(part: Columns) -> tuple[np.ndarray, ...]:
    time_us = part.ints("time")
    keep = (time_us > 0) & (time_us < AFTER_TRACE_US)
    if "collection_type" in part.by_name:
        keep &= part.ints("collection_type") == 0
    ints = (part.ints(name)[keep] for name in ("collection_id", "instance_index", "type", "scheduling_class"))
    floats = (part.floats(name)[keep] for name in ("cpu_request", "memory_request"))
    return (time_us[keep], *ints, *floats)


def _recognised(head: Head) -> Sign:
    """Sure by its columns; else likely by JSON lines, in which no other known format comes."""
    if head.names & set(_ITS_OWN):
        return Sign.SURE
    return Sign.LIKELY if head.form is Form.JSON_LINES else Sign.NONE


FORMAT = TraceFormat(
    name=SCHEMA.format,
    recognised=_recognised,
    schema_of=lambda _content, _fleet: SCHEMA,
    content_of=trace_of,
    forms=frozenset(Form),
    shape="JSON lines, in which no other known format comes",
    notes_of=lambda parts: (SAMPLE_NOTE,) if is_sample(parts) else (),
)
