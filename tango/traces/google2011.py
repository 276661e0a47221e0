"""Google ClusterData 2011 version 2, table `task_events`: 13 columns, no header, times in microseconds."""

from __future__ import annotations

import numpy as np

from tango.domain.trace import Trace
from tango.traces.columns import Columns
from tango.traces.schema import AFTER_TRACE_US, TEN_YEARS_S, Field, Kind, Schema
from tango.traces.tasks_to_requests import TaskEvents, requests_of
from tango.traces.trace_format import Head, Sign, TraceFormat

SUBMIT, SCHEDULE, EVICT, FAIL, FINISH, KILL, LOST = range(7)
"""Codes of `event_type`."""

SCHEMA = Schema(
    "google2011",
    (
        Field("time", Kind.INT, required=True, low=0, high=TEN_YEARS_S * 1e6, also=AFTER_TRACE_US),
        Field("missing_info", Kind.INT, low=0, high=2, kept=False),
        Field("job_id", Kind.INT, required=True, low=0),
        Field("task_index", Kind.INT, required=True, low=0, high=10_000_000),
        Field("machine_id", Kind.INT, low=0, kept=False),
        Field("event_type", Kind.INT, required=True, low=0, high=8),
        Field("user", Kind.TEXT, kept=False),
        Field("scheduling_class", Kind.INT, required=True, low=0, high=3),
        Field("priority", Kind.INT, required=True, low=0, high=11, kept=False),
        Field("cpu_request", Kind.FLOAT, low=0.0, high=1.0),
        Field("memory_request", Kind.FLOAT, low=0.0, high=1.0),
        Field("disk_request", Kind.FLOAT, low=0.0, high=1.0, kept=False),
        Field("different_machines", Kind.INT, low=0, high=1, kept=False),
    ),
    header=False,
    ordered_by="time",
)


def trace_of(parts: list[Columns], source: str) -> Trace:
    """The requests of all parts together: the events of one task may lie in several files."""
    rows = [_after_start(part) for part in parts]
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    time_us, job, task, event, scheduling_class, cpu, memory = columns
    if np.any(np.diff(time_us) < 0):
        order = np.argsort(time_us, kind="stable")
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
        with_life=True,
        source=source,
    )


def _after_start(part: Columns) -> tuple[np.ndarray, ...]:
    """The columns of a part without rows of time 0 (state before the trace) and of 2^63 - 1 (events after it)."""
    time_us = part.ints("time")
    keep = (time_us > 0) & (time_us < AFTER_TRACE_US)
    ints = (part.ints(name)[keep] for name in ("job_id", "task_index", "event_type", "scheduling_class"))
    floats = (part.floats(name)[keep] for name in ("cpu_request", "memory_request"))
    return (time_us[keep], *ints, *floats)


def _recognised(head: Head) -> Sign:
    return Sign.LIKELY if head.is_table_of(len(SCHEMA.fields)) else Sign.NONE


FORMAT = TraceFormat(
    name=SCHEMA.format,
    recognised=_recognised,
    schema_of=lambda _content, _fleet: SCHEMA,
    content_of=trace_of,
    shape="13 columns without a header",
)
