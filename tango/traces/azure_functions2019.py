"""Azure Functions trace of 2019, three tables: invocations by minute of a day, and distributions of durations and of memory.

Only the first has arrivals. They are counts, as those of the World Cup, and stay counts as long as they can. The other two say how long
functions take and what they hold, and belong to other invocations than a sample of the first may have: reading one of them says what a
service with its figures would be. Source: Shahrad et al., "Serverless in the Wild", USENIX ATC 2020; Azure/AzurePublicDataset.
"""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from tango.errors import RequestRejected
from tango.traces.columns import Columns
from tango.traces.rate_curve import MINUTE_S, RateCurve
from tango.traces.recorded_requests import floats_of
from tango.traces.schema import Field, Kind, Schema
from tango.traces.trace_format import Head, Sign, TraceFormat

MINUTES = 1440
"""Of a day: a table of invocations has a column for each."""
_DAY = re.compile(r"\.d([0-9]{2})\.")
_HASHES = tuple(Field(name, Kind.TEXT, kept=False, in_header=False) for name in ("HashOwner", "HashApp", "HashFunction"))
_MOST_MS, _MOST_MIB = 1e9, 1e6

INVOCATIONS = Schema(
    "azure-functions2019",
    (
        *_HASHES,
        Field("Trigger", Kind.TEXT, kept=False, in_header=False),
        *(
            Field(f"minute_{k}", Kind.INT, low=0, high=1_000_000_000, also_named=(str(k),), in_header=k == 1)
            for k in range(1, MINUTES + 1)
        ),
    ),
    header=True,
)
DURATIONS = Schema(
    "azure-functions2019-durations",
    (
        *_HASHES,
        Field("Average", Kind.FLOAT, required=True, low=0.0, high=_MOST_MS),
        Field("Count", Kind.INT, required=True, low=0),
    ),
    header=True,
    extra_columns=True,
)
MEMORY = Schema(
    "azure-functions2019-memory",
    (
        *_HASHES,
        Field("AverageAllocatedMb", Kind.FLOAT, required=True, low=0.0, high=_MOST_MIB),
        Field("SampleCount", Kind.INT, required=True, low=0),
    ),
    header=True,
    extra_columns=True,
)


def curve_of(parts: list[Columns], source: str) -> RateCurve:
    """Invocations of all functions in each minute. Files of several days have them in their names (`.d01.` …); others are of one day."""
    count: dict[int, NDArray[np.int64]] = {}
    for part in parts:
        found = _DAY.search(part.file)
        day = int(found[1]) if found else 0
        of_day = count.setdefault(day, np.zeros(MINUTES, np.int64))
        of_day += [part.ints(name).sum() if (name := f"minute_{k + 1}") in part.by_name else 0 for k in range(MINUTES)]
    first = min(count)
    begin_s = np.concatenate([((day - first) * MINUTES + np.arange(MINUTES)) * MINUTE_S for day in sorted(count)])
    return RateCurve(begin_s=begin_s, count=np.concatenate([count[day] for day in sorted(count)]), source=source)


def no_arrivals_in_durations(parts: list[Columns], source: str) -> RateCurve:
    """Raises: RequestRejected, with what a service of these durations would be."""
    mean_ms, cv, median_ms = _weighted(floats_of(parts, "Average"), floats_of(parts, "Count"))
    raise RequestRejected(
        f"{source} has durations and no arrivals: {sum(map(len, parts))} functions, by invocations a mean of {mean_ms / 1000:.3g} s, "
        f"median {median_ms / 1000:.3g} s, coefficient of variation {cv:.2g} between functions; a service of them has cpu_work_s: "
        f"{mean_ms / 1000:.3g} and cpu_work_cv: {cv:.2g}. The table of invocations has the arrivals"
    )


def no_arrivals_in_memory(parts: list[Columns], source: str) -> RateCurve:
    """Raises: RequestRejected, with what a service of this memory would be."""
    mean, cv, median = _weighted(floats_of(parts, "AverageAllocatedMb"), floats_of(parts, "SampleCount"))
    raise RequestRejected(
        f"{source} has memory and no arrivals: {sum(map(len, parts))} applications, by samples a mean of {mean:.0f} MB, median "
        f"{median:.0f} MB, coefficient of variation {cv:.2g}; a service of them has memory_mib: {mean:.0f}. The table of invocations "
        "has the arrivals"
    )


def _weighted(values: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[float, float, float]:
    """(mean, coefficient of variation, median) of values with weights."""
    if not weight.sum():
        weight = np.ones_like(weight)
    mean = float(np.average(values, weights=weight))
    spread = math.sqrt(float(np.average((values - mean) ** 2, weights=weight)))
    order = np.argsort(values)
    middle = int(np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2))
    return mean, spread / mean if mean else 0.0, float(values[order][min(middle, len(values) - 1)])


def _is_invocations(head: Head) -> bool:
    return "minute_1" in head.names or {"HashApp", "1", str(MINUTES)} <= head.names


TABLES = (
    TraceFormat(
        name=INVOCATIONS.format,
        recognised=lambda head: Sign.SURE if _is_invocations(head) else Sign.NONE,
        schema_of=lambda _content, _fleet: INVOCATIONS,
        content_of=curve_of,
    ),
    TraceFormat(
        name=DURATIONS.format,
        recognised=lambda head: Sign.SURE if "percentile_Average_50" in head.names else Sign.NONE,
        schema_of=lambda _content, _fleet: DURATIONS,
        content_of=no_arrivals_in_durations,
    ),
    TraceFormat(
        name=MEMORY.format,
        recognised=lambda head: Sign.SURE if "AverageAllocatedMb" in head.names else Sign.NONE,
        schema_of=lambda _content, _fleet: MEMORY,
        content_of=no_arrivals_in_memory,
    ),
)
