"""A model of Google's 2011 trace: arrivals in batches, and lognormal CPU requests, durations and memory requests.

All constants were measured on part 0 of `task_events`, trace time 600 to 3,600 s (google/cluster-data, version 2, CC-BY 4.0); see
docs/traces.md.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tango.domain.services import ServiceClass
from tango.traces.tasks_to_requests import MACHINE_MIB

GAP_CV = 4.9
"""Coefficient of variation of the gaps between submissions."""
BUSIEST_SHARE = 3154 / 41460
"""Share of the busiest second in all submissions."""
BATCHES_PER_REQUEST = 2 / (GAP_CV**2 + 1)
"""Batches over requests, p. With Poisson batches and negligible gaps within them CV^2 = 2/p - 1, solved for p."""
BATCH_SPREAD = 2.4
"""Sigma of the lognormal batch sizes, with which the largest of 3,300 batches has about BUSIEST_SHARE of all requests."""
WITHIN_BATCH_S = 0.0002
"""Mean gap within a batch, seconds: 3,154 tasks came within a second."""

# Quantiles of the standard normal distribution at 0.90 and 0.99, from which the sigmas below follow.
_Z90, _Z99 = 1.2815515655446004, 2.3263478740408408
CPU_SIGMA = math.log(0.25 / 0.025) / _Z99
"""Sigma of the CPU request: median 0.025 of a machine, 99th percentile 0.25."""
MEMORY_SIGMA = math.log(0.175 / 0.0255) / _Z99
"""Sigma of the memory request: median 0.0255 of a machine, 99th percentile 0.175."""
MEMORY_MEDIAN_MIB = 0.0255 * MACHINE_MIB
LIFE_SIGMA = math.log(1570 / 369) / _Z90
"""Sigma of the duration of finished tasks of scheduling class 0: median 369 s, 90th percentile 1,570 s."""


def arrivals(
    count: int, duration_s: float, clusters: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """(times in seconds, rows of entry clusters), shape (count,) each. A batch enters at one cluster, as a job's tasks do."""
    batches = min(count, max(1, round(count * BATCHES_PER_REQUEST)))
    size = _batch_sizes(count, batches, rng)
    batch = np.repeat(np.arange(batches), size)
    begin = rng.random(batches) * duration_s
    gap = rng.exponential(WITHIN_BATCH_S, count)
    passed = np.cumsum(gap)
    first = np.cumsum(size) - size
    within = passed - passed[first][batch]
    # A batch that would run over the end is moved forward as a whole.
    longest = np.maximum.reduceat(within, first)
    begin = np.clip(begin, 0.0, np.maximum(duration_s - longest, 0.0))
    time_s = np.minimum(begin[batch] + within, duration_s)
    return time_s, rng.integers(0, clusters, batches).astype(np.int32)[batch]


def works(service_class: ServiceClass, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Relative works, shape (count,). BE: duration x CPU request. LC: CPU request alone, as LC tasks of the trace are long-running."""
    sigma = CPU_SIGMA if service_class is ServiceClass.LC else math.hypot(CPU_SIGMA, LIFE_SIGMA)
    return np.exp(sigma * rng.standard_normal(count))


def memories_mib(service_class: ServiceClass, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Memory of BE requests in whole MiB, shape (count,); NaN for LC, whose memory is that of its service."""
    if service_class is ServiceClass.LC:
        return np.full(count, np.nan)
    return np.clip(np.round(MEMORY_MEDIAN_MIB * np.exp(MEMORY_SIGMA * rng.standard_normal(count))), 16.0, MACHINE_MIB)


def _batch_sizes(count: int, batches: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Sizes of batches, at least 1 each, that add up to `count`; none has much more than BUSIEST_SHARE of it."""
    weight = np.exp(BATCH_SPREAD * rng.standard_normal(batches))
    for _ in range(20):
        weight = np.minimum(weight / weight.sum(), max(BUSIEST_SHARE, 1.5 / batches))
    return 1 + rng.multinomial(count - batches, weight / weight.sum())
