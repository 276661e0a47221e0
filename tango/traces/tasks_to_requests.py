"""Turns the task events of Google's Borg traces into requests.

One task is one request. Its arrival is the first SUBMIT after the trace began; later SUBMITs are further attempts. Its life runs from
SCHEDULE to its end, or to the end of the trace. Sources: Reiss, Wilkes, Hellerstein, "Google cluster-usage traces: format + schema"
(2011, version 2); Wilkes, "Google cluster-usage traces v3" (2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.services import ServiceClass
from tango.domain.trace import ORIGIN, Trace

MACHINE_CORES = 16.0
"""Cores of "the largest machine", the unit of Google's CPU requests. Google does not publish it: an assumption, which sets the
scale of works and not their shape, since mapping rescales them."""

MACHINE_MIB = 32768.0
"""MiB of memory of the largest machine, likewise assumed. A median request (0.0255) is then 836 MiB, plausible for a pod at the edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvents:
    """Events after the trace began, in order of time, shape (n,)."""

    time_us: NDArray[np.int64]
    job: NDArray[np.int64]
    task: NDArray[np.int64]
    is_submit: NDArray[np.bool_]
    is_schedule: NDArray[np.bool_]
    is_end: NDArray[np.bool_]
    scheduling_class: NDArray[np.int64]
    cpu_request: NDArray[np.float64]
    """Fraction of the largest machine; NaN where empty."""
    memory_request: NDArray[np.float64]


def service_class_of(scheduling_class: NDArray[np.int64]) -> NDArray[np.int8]:
    """(n,) service classes: Borg's scheduling classes 2 and 3 are latency-critical, 0 and 1 best-effort; the priority is not used."""
    return np.where(scheduling_class >= 2, int(ServiceClass.LC), int(ServiceClass.BE)).astype(np.int8)


def requests_of(events: TaskEvents, *, with_life: bool, source: str) -> Trace:
    """One request per submitted task, in order of first submissions.

    The life of a request is that of its last attempt that was scheduled: from SCHEDULE to the next EVICT, FAIL, FINISH, KILL or
    LOST, or to the last event of the window where none follows (censored: a lower bound). Work = life x CPU request x
    `MACHINE_CORES`; NaN for a task never scheduled or without a request, and for all where `with_life` is false. LC works are
    NaN too: an LC task is a standing service, and its life is not the work of a request. The entry is the job (`~<job id>`).
    """
    jobs, job_code = np.unique(events.job, return_inverse=True)
    width = int(events.task.max()) + 1 if len(events.task) else 1
    keys, key_of = np.unique(job_code.astype(np.int64) * width + events.task, return_inverse=True)
    first = _first(key_of, events.is_submit, len(keys))
    asked = np.flatnonzero(first >= 0)
    asked = asked[np.argsort(first[asked], kind="stable")]
    row = first[asked]
    life_s = _life_s(events, key_of, len(keys))[asked] if with_life else np.full(len(asked), np.nan)
    with np.errstate(invalid="ignore"):
        work_s = life_s * events.cpu_request[row] * MACHINE_CORES
    classes = service_class_of(events.scheduling_class[row])
    work_s = np.where((work_s > 0) & (classes == int(ServiceClass.BE)), work_s, np.nan)
    memory_mib = events.memory_request[row] * MACHINE_MIB
    entry_jobs, entry = np.unique(job_code[row], return_inverse=True)
    return Trace(
        arrival_s=events.time_us[row] / 1e6,
        service_class=classes,
        service=np.zeros(len(row), np.int32),
        cluster=entry.astype(np.int32),
        cpu_work_s=work_s,
        memory_mib=np.where(memory_mib > 0, memory_mib, np.nan),
        services=("",),
        clusters=tuple(f"{ORIGIN}{job}" for job in jobs[entry_jobs]) or ("",),
        source=source,
    )


def _first(key_of: NDArray[np.intp], where: NDArray[np.bool_], keys: int) -> NDArray[np.int64]:
    """(keys,) index of the first event of each key where `where` is set, or -1."""
    first = np.full(keys, -1, np.int64)
    rows = np.flatnonzero(where)[::-1]
    # Of repeated indices the last assignment remains (NumPy's documented order), so going backwards leaves the first event.
    first[key_of[rows]] = rows
    return first


def _life_s(events: TaskEvents, key_of: NDArray[np.intp], keys: int) -> NDArray[np.float64]:
    """(keys,) seconds of the last scheduled attempt, NaN where there was none."""
    last_schedule = np.full(keys, -1, np.int64)
    rows = np.flatnonzero(events.is_schedule)
    last_schedule[key_of[rows]] = rows
    after = np.arange(len(key_of)) > last_schedule[key_of]
    end = _first(key_of, events.is_end & after, keys)
    window_end_us = events.time_us[-1] if len(events.time_us) else 0
    end_us = np.where(end >= 0, events.time_us[end], window_end_us)
    life_s = (end_us - events.time_us[last_schedule]) / 1e6
    return np.where(last_schedule >= 0, life_s, np.nan)
