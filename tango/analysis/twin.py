"""How far the simulation of a recorded run lies from the run: errors of the latencies of each LC service, and their mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tango.analysis.metrics import arrived_in_measured_span, quantiles
from tango.domain.outcomes import RunOutcomes
from tango.domain.requests import RequestState
from tango.domain.services import ServiceClass

STATISTICS = ("mean", "p50", "p90", "p99")
"""Of the latencies of a service's requests that succeeded, from due time, in milliseconds of trace time."""
LEAST_REQUESTS = 100
"""Requests of a service below which its tail is chance: its 99th percentile is that of one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceError:
    """One LC service in both runs: `live` and `simulated` in milliseconds by statistic, `error` relative to `live`."""

    service: str
    requests: int
    """Of the live run that succeeded in its measured span."""
    live: Mapping[str, float]
    simulated: Mapping[str, float]

    @property
    def error(self) -> dict[str, float]:
        """(simulated - live) / live, by statistic."""
        return {name: (self.simulated[name] - self.live[name]) / self.live[name] for name in STATISTICS}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "service": self.service,
            "requests": self.requests,
            "live_ms": dict(self.live),
            "simulated_ms": dict(self.simulated),
            "error": self.error,
        }


def service_errors(live: RunOutcomes, simulated: RunOutcomes) -> list[ServiceError]:
    """Of the LC services that have `LEAST_REQUESTS` successes in the measured span of both runs, in the fleet's order.

    The runs name the same services; `simulated` may be another live run of the same requests.
    """
    found = []
    of_live, of_simulated = _latencies(live), _latencies(simulated)
    for name, latency_ms in of_live.items():
        other_ms = of_simulated.get(name, np.zeros(0))
        if min(len(latency_ms), len(other_ms)) >= LEAST_REQUESTS:
            found.append(
                ServiceError(service=name, requests=len(latency_ms), live=_statistics(latency_ms), simulated=_statistics(other_ms))
            )
    return found


def mean_absolute_errors(errors: Iterable[ServiceError]) -> dict[str, float]:
    """Mean over the services of the absolute relative error, by statistic (MAPE); nothing where no service has enough requests."""
    rows = [error.error for error in errors]
    return {name: float(np.mean([abs(row[name]) for row in rows])) for name in STATISTICS if rows}


def _latencies(outcomes: RunOutcomes) -> dict[str, Any]:
    chosen = arrived_in_measured_span(outcomes) & outcomes.in_state(RequestState.SUCCEEDED)
    chosen &= outcomes.service_class == ServiceClass.LC
    latency_ms = (outcomes.finished_s - outcomes.due_s) * outcomes.speed * 1000.0
    return {name: latency_ms[chosen & (outcomes.service == k)] for k, name in enumerate(outcomes.services)}


def _statistics(latency_ms: Any) -> dict[str, float]:
    values = [float(np.mean(latency_ms)), *quantiles(latency_ms, (0.5, 0.9, 0.99))]
    return {name: float(value or 0.0) for name, value in zip(STATISTICS, values, strict=True)}
