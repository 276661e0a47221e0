"""By how much one run of some requests is better than another run of the same, with an interval over blocks of time.

A single run of each has no seeds to pair; its blocks of arrivals serve instead. Both runs have the same requests in a block, so that what
makes a block easy or hard for both falls out of the difference (batch means, Law, Simulation Modeling and Analysis, section 9.5.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from tango.analysis.intervals import mean_interval
from tango.analysis.metrics import MeasuredSpan, lc_outcomes_of, measured_span, useful_share
from tango.domain.outcomes import RunOutcomes
from tango.domain.requests import RequestState
from tango.domain.services import ServiceClass

BLOCK_S = 5.0
"""Trace seconds of a block: some hundred requests at the rates of live runs, and longer than what ties neighbours together."""


class Gap(NamedTuple):
    """A figure of the second run less that of the first: mean over blocks with its 95 % interval; None with one block."""

    mean: float
    low: float | None
    high: float | None

    @property
    def exceeds_its_interval(self) -> bool:
        """Whether zero lies outside: one of the runs is the better one."""
        return self.low is not None and self.high is not None and not self.low <= 0.0 <= self.high


def gaps(first: RunOutcomes, second: RunOutcomes) -> dict[str, Gap]:
    """The gap in each of `FIGURES` that has a value in a block of both; blocks without one are left out.

    Raises: ValueError for runs of different numbers of requests.
    """
    if len(first) != len(second):
        raise ValueError(f"runs of {len(first)} and {len(second)} requests, expected the same ones")
    found = {}
    for figure, of in FIGURES.items():
        differences = [b - a for a, b in zip(_by_block(first, of), _by_block(second, of), strict=True) if np.isfinite(b - a)]
        if differences:
            found[figure] = Gap(*mean_interval(differences))
    return found


def _by_block(outcomes: RunOutcomes, of: Callable[[RunOutcomes, MeasuredSpan], float]) -> list[float]:
    whole, length_s = measured_span(outcomes), BLOCK_S / outcomes.speed
    count = max(1, int((whole.end_s - whole.start_s) // length_s))
    return [of(outcomes, MeasuredSpan(whole.start_s + k * length_s, whole.start_s + (k + 1) * length_s)) for k in range(count)]


def _qos_rate(outcomes: RunOutcomes, block: MeasuredSpan) -> float:
    lc = lc_outcomes_of(outcomes)
    rate = lc.rate(block.holds(outcomes.due_s))
    return np.nan if rate is None else rate


def _lc_latency_ms(outcomes: RunOutcomes, block: MeasuredSpan) -> float:
    ended = outcomes.in_state(RequestState.SUCCEEDED) & (outcomes.service_class == ServiceClass.LC) & block.holds(outcomes.due_s)
    latency_s = (outcomes.finished_s - outcomes.due_s)[ended]
    return float(latency_s.mean()) * outcomes.speed * 1e3 if len(latency_s) else np.nan


def _be_work(outcomes: RunOutcomes, block: MeasuredSpan) -> float:
    is_be = outcomes.service_class == ServiceClass.BE
    return float((useful_share(outcomes, block) * outcomes.cpu_work_s)[is_be].sum() / (block.end_s - block.start_s))


FIGURES: Mapping[str, Callable[[RunOutcomes, MeasuredSpan], float]] = {
    "lc_qos_rate": _qos_rate,
    "lc_latency_mean_ms": _lc_latency_ms,
    "be_cpu_seconds_per_s": _be_work,
}
"""What two runs are compared in. The latency is of requests that succeeded, from due time, in trace time."""
