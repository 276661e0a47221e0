"""Alibaba cluster-trace-v2018, table `batch_task`: 9 columns, no header, times in seconds, best-effort work only."""

from __future__ import annotations

import numpy as np

from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.traces.columns import Columns
from tango.traces.recorded_requests import first_of_each, floats_of, ints_of, trace_of_rows, words_of
from tango.traces.schema import TEN_YEARS_S, Field, Kind, Schema
from tango.traces.tasks_to_requests import MACHINE_MIB
from tango.traces.trace_format import Head, Sign, TraceFormat

SCHEMA = Schema(
    "alibaba2018",
    (
        Field("task_name", Kind.TEXT, required=True),
        Field("instance_num", Kind.INT, low=0, high=10_000_000),
        Field("job_name", Kind.TEXT, required=True),
        Field("task_type", Kind.TEXT),
        Field(
            "status",
            Kind.TEXT,
            required=True,
            choices=("Waiting", "Running", "Terminated", "Failed", "Cancelled", "Interupted", "Ready"),
        ),
        Field("start_time", Kind.INT, required=True, low=0, high=TEN_YEARS_S),
        Field("end_time", Kind.INT, low=0, high=TEN_YEARS_S),
        Field("plan_cpu", Kind.FLOAT, low=0.0, high=1e6),
        Field("plan_mem", Kind.FLOAT, low=0.0, high=1e4),
    ),
    header=False,
)


def trace_of(parts: list[Columns], source: str) -> Trace:
    """One BE request per task (job, task name), at its first start; tasks that never started (start 0) are left out.

    Work = (end - start) x plan_cpu / 100 of one instance (plan_cpu 100 is one core); instances of a task are copies, each of which would
    be a pod of its own. NaN where end, duration or plan are missing or 0. Memory = plan_mem per cent of `MACHINE_MIB`, which is assumed.
    """
    start_s = ints_of(parts, "start_time").astype(np.float64)
    job, jobs = words_of(parts, "job_name")
    task, tasks = words_of(parts, "task_name")
    started = np.flatnonzero(start_s > 0)
    rows = started[first_of_each((job * len(tasks) + task)[started], start_s[started])]
    work_s = (floats_of(parts, "end_time") - start_s) * floats_of(parts, "plan_cpu") / 100.0
    return trace_of_rows(
        start_s[rows],
        np.full(len(rows), int(ServiceClass.BE), np.int8),
        source,
        origin=(job[rows], jobs),
        cpu_work_s=work_s[rows],
        memory_mib=floats_of(parts, "plan_mem")[rows] / 100.0 * MACHINE_MIB,
    )


def _recognised(head: Head) -> Sign:
    return Sign.LIKELY if head.is_table_of(len(SCHEMA.fields)) else Sign.NONE


FORMAT = TraceFormat(
    name=SCHEMA.format,
    recognised=_recognised,
    schema_of=lambda _content, _fleet: SCHEMA,
    content_of=trace_of,
    shape="9 columns without a header",
)
