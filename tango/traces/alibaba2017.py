"""Alibaba cluster-trace-v2017, table `batch_task`: 8 columns, with a header or without, times in seconds, best-effort work only.

Source: alibaba/clusterdata, cluster-trace-v2017. The published table has no header; copies of it have one in words.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.traces.columns import Columns
from tango.traces.files import Content
from tango.traces.recorded_requests import first_of_each, floats_of, ints_of, trace_of_rows
from tango.traces.schema import TEN_YEARS_S, Field, Kind, Schema
from tango.traces.tasks_to_requests import MACHINE_MIB
from tango.traces.trace_format import Head, Sign, TraceFormat

STATUSES = ("Ready", "Waiting", "Running", "Terminated", "Failed", "Cancelled")

SCHEMA = Schema(
    "alibaba2017",
    (
        Field("create_time", Kind.INT, required=True, low=-TEN_YEARS_S, high=TEN_YEARS_S, also_named=("task_create_time",)),
        Field("end_time", Kind.INT, low=-TEN_YEARS_S, high=TEN_YEARS_S, also_named=("task_end_time",)),
        Field("job_id", Kind.INT, required=True, low=0),
        Field("task_id", Kind.INT, required=True, low=0, high=10_000_000),
        Field("instances", Kind.INT, low=0, high=10_000_000, kept=False, also_named=("number_of_instances",)),
        Field("status", Kind.TEXT, required=True, choices=STATUSES, kept=False),
        Field("plan_cpu", Kind.FLOAT, low=0.0, high=1e6, also_named=("number_of_cpus_requested_per_instance_in_the_task",)),
        Field("plan_mem", Kind.FLOAT, low=0.0, high=1.0, also_named=("normalized_memory_requested_per_instance_in_the_task",)),
    ),
    header=True,
)


def trace_of(parts: list[Columns], source: str) -> Trace:
    """One BE request per task (job, task), when it is created; tasks from before the trace began (negative times) are left out.

    Work = (end - creation) x plan_cpu / 100 of one instance (plan_cpu 100 is one core), so the wait for a machine counts as work; NaN where
    one of them is missing, as of tasks that never ran. Memory is a part of the largest machine, for which `MACHINE_MIB` is assumed.
    """
    create_s = ints_of(parts, "create_time").astype(np.float64)
    job = ints_of(parts, "job_id")
    jobs, code = np.unique(job, return_inverse=True)
    task = ints_of(parts, "task_id")
    arrived = np.flatnonzero(create_s >= 0)
    key = code.astype(np.int64) * (int(task.max(initial=0)) + 1) + task
    rows = arrived[first_of_each(key[arrived], create_s[arrived])]
    work_s = (floats_of(parts, "end_time") - create_s) * floats_of(parts, "plan_cpu") / 100.0
    return trace_of_rows(
        create_s[rows],
        np.full(len(rows), int(ServiceClass.BE), np.int8),
        source,
        origin=(code[rows], [str(one) for one in jobs]),
        cpu_work_s=work_s[rows],
        memory_mib=floats_of(parts, "plan_mem")[rows] * MACHINE_MIB,
    )


def _has_header(head: Head) -> bool:
    return "task_create_time" in head.names or {"create_time", "plan_cpu"} <= head.names


def _recognised(head: Head) -> Sign:
    """Sure by its names; without a header likely by its columns, of which the sixth is a status in words."""
    if _has_header(head):
        return Sign.SURE
    return Sign.LIKELY if head.is_table_of(len(SCHEMA.fields)) and head.first_value(5) in STATUSES else Sign.NONE


def _schema_of(content: Content) -> Schema:
    return SCHEMA if _has_header(Head(content)) else dataclasses.replace(SCHEMA, header=False)


FORMAT = TraceFormat(
    name=SCHEMA.format,
    recognised=_recognised,
    schema_of=lambda content, _fleet: _schema_of(content),
    content_of=trace_of,
    shape="8 columns without a header, of which the sixth is a status in words",
)
