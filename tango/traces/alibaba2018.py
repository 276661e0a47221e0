"""Alibaba cluster-trace-v2018, table `batch_task`: 9 columns, no header, times in seconds, best-effort work only."""

from __future__ import annotations

import numpy as np

from tango.domain.services import ServiceClass
from tango.domain.trace import ORIGIN, Trace
from tango.traces.columns import Columns
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
    start_s = np.concatenate([part.ints("start_time") for part in parts]).astype(np.float64)
    end_s = np.concatenate([part.floats("end_time") for part in parts])
    cpu = np.concatenate([part.floats("plan_cpu") for part in parts])
    memory = np.concatenate([part.floats("plan_mem") for part in parts])
    job, jobs = _words(parts, "job_name")
    task, tasks = _words(parts, "task_name")
    started = np.flatnonzero(start_s > 0)
    order = started[np.argsort(start_s[started], kind="stable")]
    key = job[order].astype(np.int64) * len(tasks) + task[order]
    rows = order[np.sort(np.unique(key, return_index=True)[1])]
    work_s = (end_s[rows] - start_s[rows]) * cpu[rows] / 100.0
    memory_mib = memory[rows] / 100.0 * MACHINE_MIB
    entry_jobs, entry = np.unique(job[rows], return_inverse=True)
    n = len(rows)
    return Trace(
        arrival_s=start_s[rows],
        service_class=np.full(n, int(ServiceClass.BE), np.int8),
        service=np.zeros(n, np.int32),
        cluster=entry.astype(np.int32),
        cpu_work_s=np.where(work_s > 0, work_s, np.nan),
        memory_mib=np.where(memory_mib > 0, memory_mib, np.nan),
        services=("",),
        clusters=tuple(f"{ORIGIN}{jobs[j]}" for j in entry_jobs) or ("",),
        source=source,
    )


def _words(parts: list[Columns], name: str) -> tuple[np.ndarray, list[str]]:
    """(n,) codes of a column over all parts, and the one list of words that they index."""
    words: dict[str, int] = {}
    codes = []
    for part in parts:
        code, own = part.texts(name)
        codes.append(np.array([words.setdefault(word, len(words)) for word in own] or [0], np.int64)[code])
    return np.concatenate(codes), list(words)


def _recognised(head: Head) -> Sign:
    return Sign.LIKELY if head.is_table_of(len(SCHEMA.fields)) else Sign.NONE


FORMAT = TraceFormat(
    name=SCHEMA.format,
    recognised=_recognised,
    schema_of=lambda _content, _fleet: SCHEMA,
    content_of=trace_of,
    shape="9 columns without a header",
)
