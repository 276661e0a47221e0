"""Burstiness and sizes of Google's 2011 trace, as figures: arrivals in batches, lognormal requests, lives and memory.

All figures are of `task_events` part 0, trace time 600 to 3,600 s (google/cluster-data, version 2, CC-BY 4.0); see docs/traces.md.
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
"""Of all submissions, those of the busiest second."""
BATCHES_PER_REQUEST = 2 / (GAP_CV**2 + 1)
"""With Poisson batches, negligible gaps within them and p batches a request, CV^2 = 2/p - 1."""
BATCH_SPREAD = 2.4
"""Sigma of the lognormal batch sizes: the largest of 3,300 batches then holds about BUSIEST_SHARE of all requests."""
WITHIN_BATCH_S = 0.0002
"""Mean gap within a batch: 3,154 tasks came within a second."""

_Z90, _Z99 = 1.2815515655446004, 2.3263478740408408
CPU_SIGMA = math.log(0.25 / 0.025) / _Z99
"""CPU request: median 0.025, 99 % 0.25 of a machine."""
MEMORY_SIGMA = math.log(0.175 / 0.0255) / _Z99
"""Memory request: median 0.0255, 99 % 0.175."""
MEMORY_MEDIAN_MIB = 0.0255 * MACHINE_MIB
LIFE_SIGMA = math.log(1570 / 369) / _Z90
"""Life of finished class 0 tasks: median 369 s, 90 % 1,570 s."""


def arrivals(n: int, duration_s: float, clusters: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Times and entry clusters of n requests of one class. A batch enters at one cluster, as the tasks of a job do."""
    batches = min(n, max(1, round(n * BATCHES_PER_REQUEST)))
    size = _batch_sizes(n, batches, rng)
    batch = np.repeat(np.arange(batches), size)
    begin = rng.random(batches) * duration_s
    gap = rng.exponential(WITHIN_BATCH_S, n)
    passed = np.cumsum(gap)
    first = np.cumsum(size) - size
    within = passed - passed[first][batch]
    # A batch that would run over the end is moved forward as a whole.
    longest = np.maximum.reduceat(within, first)
    begin = np.clip(begin, 0.0, np.maximum(duration_s - longest, 0.0))
    time_s = np.minimum(begin[batch] + within, duration_s)
    return time_s, rng.integers(0, clusters, batches).astype(np.int32)[batch]


def works(service_class: ServiceClass, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Relative works. BE: life x CPU request. LC: CPU request alone, since lives of LC tasks are those of standing services."""
    sigma = CPU_SIGMA if service_class is ServiceClass.LC else math.hypot(CPU_SIGMA, LIFE_SIGMA)
    return np.exp(sigma * rng.standard_normal(n))


def memories_mib(service_class: ServiceClass, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Memory of BE requests in whole MiB; unknown for LC, whose memory is its service's."""
    if service_class is ServiceClass.LC:
        return np.full(n, np.nan)
    return np.clip(np.round(MEMORY_MEDIAN_MIB * np.exp(MEMORY_SIGMA * rng.standard_normal(n))), 16.0, MACHINE_MIB)


def _batch_sizes(n: int, batches: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Sizes from 1 that add up to n, none with much more than BUSIEST_SHARE of it."""
    weight = np.exp(BATCH_SPREAD * rng.standard_normal(batches))
    for _ in range(20):
        weight = np.minimum(weight / weight.sum(), max(BUSIEST_SHARE, 1.5 / batches))
    return 1 + rng.multinomial(n - batches, weight / weight.sum())
