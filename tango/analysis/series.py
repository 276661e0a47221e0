"""Summaries of a run's columns for plots: a few kilobytes, whatever the run's size, so that every cell can keep them.

Series have `BUCKETS` equal buckets of the trace's span. the measured span is then buckets 6 to 59, and the sum of a series over
them is the figure of that name in `tango.analysis.metrics`. What happens after the last arrival is in no bucket. Numbers are in trace
time, rounded to six significant digits, and None without data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.analysis.metrics import MEASURED_FROM, TOLERANCE_S, measured_span, node_capacity, useful_share
from tango.domain.outcomes import (
    SCALING_KINDS,
    SCALING_OUTCOMES,
    STATE_CODE,
    AttemptLosses,
    NodeSamples,
    RunOutcomes,
    ScalingEvents,
)
from tango.domain.requests import Reason, RequestState
from tango.domain.services import ServiceClass

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BUCKETS = 60
"""Divisible by ten, so that the measured span begins at the edge of a bucket."""
FIRST_MEASURED_BUCKET = round(MEASURED_FROM * BUCKETS)
"""First bucket inside the measured span."""
LATENCY_SHARES: tuple[float, ...] = (*(k / 100 for k in range(100)), 0.995, 0.999, 1.0)
"""Quantiles of latency that are kept: every per cent, and the tail."""
CLUSTER_SHARES: tuple[float, ...] = tuple(k / 100 for k in range(0, 101, 2))
"""Quantiles over clusters that are kept if a fleet has more than `MOST_CLUSTERS`."""
MOST_CLUSTERS = 64
"""Most clusters whose figures are kept one by one."""


def plain_numbers(values: Floats) -> list[float | None]:
    """The values rounded to six significant digits; NaN and infinity become None."""
    return [_short(value) if np.isfinite(value) else None for value in values.tolist()]


def _short(value: float) -> float:
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() else rounded  # JSON has `47` for a count, not `47.0`


def run_series(
    outcomes: RunOutcomes, losses: AttemptLosses, samples: NodeSamples, scaling: ScalingEvents
) -> dict[str, list[float | None]]:
    """By name: `edge_s` with BUCKETS + 1 numbers, and series with BUCKETS numbers each; empty if the trace has no span."""
    if not outcomes.span_s > 0.0:
        return {}
    buckets = _Buckets(outcomes)
    length_s = buckets.step_s
    is_be = outcomes.service_class == ServiceClass.BE
    lc, met = _lc_met(outcomes)
    succeeded = outcomes.state == STATE_CODE[RequestState.SUCCEEDED]
    be_work = buckets.useful_work(outcomes, succeeded & is_be)
    lc_work = buckets.useful_work(outcomes, succeeded & ~is_be)
    cpu, _ = node_capacity(samples, len(outcomes.nodes), measured_span(outcomes))
    cores = float(cpu.sum()) / 1000.0
    known = ~np.isnan(samples.cpu_used_millicores)
    used = buckets.sums(samples.at_s[known], samples.cpu_used_millicores[known])
    allocatable = buckets.sums(samples.at_s[known], samples.cpu_allocatable_millicores[known])
    resized = (scaling.kind == SCALING_KINDS.index("resize")) & (scaling.outcome == SCALING_OUTCOMES.index("done"))
    evicted = np.isin(losses.reason, [i for i, text in enumerate(losses.reasons) if text == Reason.EVICTED])
    series = {
        "edge_s": np.linspace(0.0, outcomes.span_s, BUCKETS + 1),
        "lc_arrived": buckets.counts(outcomes.due_s[lc]),
        "lc_met": buckets.counts(outcomes.due_s[met]),
        "be_completed": buckets.counts(outcomes.finished_s[succeeded & is_be]),
        "be_cpu_seconds_per_s": be_work / length_s,
        "be_waiting": _be_waiting(outcomes, is_be, at_s=buckets.ends_s),
        "utilization_cpu": _over(be_work + lc_work, np.full(BUCKETS, cores * length_s)),
        "busy_cpu": _over(used, allocatable),
        "waste_cpu_seconds": buckets.sums(losses.at_s, losses.work_lost_s) * outcomes.speed,
        "evictions": buckets.counts(losses.at_s[evicted]),
        "resizes": buckets.counts(scaling.at_s[resized]),
    }
    return {name: plain_numbers(values) for name, values in series.items()}


def run_distributions(outcomes: RunOutcomes, samples: NodeSamples) -> dict[str, Any]:
    """Distributions over the measured span: latencies of each LC service, and figures of each cluster.

    `latency` is a list of objects `service target_ms completed quantiles_ms`, with quantiles at `latency_shares`. `clusters` has
    `utilization_cpu` of the nodes of each cluster and `qos_rate` of the requests that entered there, in the order of `names`; on fleets
    of more than MOST_CLUSTERS it has their quantiles at `shares` instead.
    """
    return {
        "latency_shares": list(LATENCY_SHARES),
        "latency": _latencies(outcomes),
        "clusters": _clusters(outcomes, samples),
    }


class _Buckets:
    """Equal buckets over the span, in wall seconds as the columns are."""

    def __init__(self, outcomes: RunOutcomes) -> None:
        self.span_s = outcomes.span_s / outcomes.speed
        self.step_s = self.span_s / BUCKETS
        self.ends_s: Floats = np.linspace(self.step_s, self.span_s, BUCKETS)

    def index(self, at_s: Floats) -> NDArray[np.intp]:
        """The bucket of each instant of the span, same shape; the end of the span belongs to the last bucket."""
        return np.minimum((at_s + TOLERANCE_S) / self.step_s, BUCKETS - 1).astype(np.intp)

    def _inside(self, at_s: Floats) -> Bools:
        return (at_s >= -TOLERANCE_S) & (at_s <= self.span_s + TOLERANCE_S)

    def counts(self, at_s: Floats) -> Floats:
        """Number of instants in each bucket, shape (BUCKETS,)."""
        return np.bincount(self.index(at_s[self._inside(at_s)]), minlength=BUCKETS).astype(np.float64)

    def sums(self, at_s: Floats, values: Floats) -> Floats:
        """Sum of the values of the instants in each bucket, shape (BUCKETS,)."""
        inside = self._inside(at_s)
        return _summed(self.index(at_s[inside]), values[inside])

    def useful_work(self, outcomes: RunOutcomes, chosen: Bools) -> Floats:
        """CPU-seconds done in each bucket by the chosen requests, shape (BUCKETS,), spread over time as in `useful_share`."""
        chosen = chosen & (outcomes.finished_s >= 0.0)
        end_s, work_s = outcomes.finished_s[chosen], outcomes.cpu_work_s[chosen]
        start_s = np.fmin(outcomes.started_s[chosen], end_s)
        instant = end_s <= start_s
        done = self.sums(end_s[instant], work_s[instant])
        spread = ~instant & (start_s < self.span_s)
        start_s, end_s, work_s = start_s[spread], end_s[spread], work_s[spread]
        rate = work_s / (end_s - start_s)
        end_s = np.minimum(end_s, self.span_s)
        first = np.minimum(start_s / self.step_s, BUCKETS - 1).astype(np.intp)
        last = np.minimum(end_s / self.step_s, BUCKETS - 1).astype(np.intp)
        # Most LC requests lie in one bucket. The others fill the rest of their first bucket, a part of their last one, and all between;
        # those between are summed by differences at their ends, so that the cost does not grow with the number of buckets crossed.
        within = first == last
        done += _summed(first[within], (rate * (end_s - start_s))[within])
        over = ~within
        start_s, end_s, rate, first, last = start_s[over], end_s[over], rate[over], first[over], last[over]
        done += _summed(first, rate * ((first + 1) * self.step_s - start_s))
        done += _summed(last, rate * (end_s - last * self.step_s))
        whole = np.cumsum(_summed(first + 1, rate, BUCKETS + 1) - _summed(last, rate, BUCKETS + 1))[:BUCKETS]
        return done + np.maximum(whole, 0.0) * self.step_s


def _summed(row: NDArray[np.intp] | NDArray[np.int32], values: Floats, rows: int = BUCKETS) -> Floats:
    """Sums of values by row, shape (rows,), as floats even without any value, where `bincount` returns integers."""
    return np.bincount(row, weights=values, minlength=rows).astype(np.float64, copy=False)


def _lc_met(outcomes: RunOutcomes) -> tuple[Bools, Bools]:
    """Masks (LC requests that have arrived, those of them answered within target), shape (n,)."""
    lc = (outcomes.service_class == ServiceClass.LC) & (outcomes.due_s <= outcomes.wall_s + TOLERANCE_S)
    met = lc & (outcomes.state == STATE_CODE[RequestState.SUCCEEDED])
    return lc, met & (outcomes.finished_s - outcomes.due_s <= outcomes.target_s)


def _be_waiting(outcomes: RunOutcomes, is_be: Bools, *, at_s: Floats) -> Floats:
    """Number of BE requests that are due and whose last attempt has not started, at each instant.

    Requests that failed, were shed or cancelled are left out, since most of them have no time at which they ended.
    """
    gone = outcomes.in_state(RequestState.FAILED, RequestState.SHED, RequestState.CANCELLED)
    mine = is_be & ~gone
    started_s = np.where(np.isnan(outcomes.started_s[mine]), np.inf, outcomes.started_s[mine])
    due = np.searchsorted(np.sort(outcomes.due_s[mine]), at_s + TOLERANCE_S, side="right")
    return (due - np.searchsorted(np.sort(started_s), at_s + TOLERANCE_S, side="right")).astype(np.float64)


def _over(part: Floats, whole: Floats) -> Floats:
    return np.where(whole > 0.0, part / np.where(whole > 0.0, whole, 1.0), np.nan)


def _latencies(outcomes: RunOutcomes) -> list[dict[str, Any]]:
    lc = (outcomes.service_class == ServiceClass.LC) & (outcomes.due_s <= outcomes.wall_s + TOLERANCE_S)
    lc &= measured_span(outcomes).holds(outcomes.due_s)
    service, state = outcomes.service[lc], outcomes.state[lc]
    latency_ms = (outcomes.finished_s[lc] - outcomes.due_s[lc]) * (outcomes.speed * 1000.0)
    target_ms = outcomes.target_s[lc] * (outcomes.speed * 1000.0)
    succeeded = (state == STATE_CODE[RequestState.SUCCEEDED]) & ~np.isnan(latency_ms)
    rows = []
    for index in np.unique(service).tolist():
        mine = service == index
        values = np.sort(latency_ms[mine & succeeded])
        rows.append(
            {
                "service": outcomes.services[index],
                "target_ms": plain_numbers(np.array([np.nanmedian(target_ms[mine])]))[0],
                "completed": len(values),
                "quantiles_ms": plain_numbers(np.quantile(values, LATENCY_SHARES)) if len(values) else [],
            }
        )
    return rows


def _clusters(outcomes: RunOutcomes, samples: NodeSamples) -> dict[str, Any]:
    measured, count = measured_span(outcomes), len(outcomes.clusters)
    work_s = useful_share(outcomes, measured) * outcomes.cpu_work_s
    ran = outcomes.node >= 0
    done_s = _summed(outcomes.node[ran], work_s[ran], len(outcomes.nodes))
    cpu, _ = node_capacity(samples, len(outcomes.nodes), measured)
    cores_s = _summed(outcomes.node_cluster, cpu / 1000.0 * measured.length_s, count)
    utilization = _over(_summed(outcomes.node_cluster, done_s, count), cores_s)
    lc, met = _lc_met(outcomes)
    arrived = measured.holds(outcomes.due_s)
    entered = np.bincount(outcomes.entry_cluster[lc & arrived], minlength=count).astype(np.float64)
    qos_rate = _over(np.bincount(outcomes.entry_cluster[met & arrived], minlength=count).astype(np.float64), entered)
    figures = {"utilization_cpu": utilization, "qos_rate": qos_rate}
    if count <= MOST_CLUSTERS:
        return {"count": count, "names": list(outcomes.clusters)} | {k: plain_numbers(v) for k, v in figures.items()}
    return {"count": count, "shares": list(CLUSTER_SHARES)} | {k: _quantiles(v) for k, v in figures.items()}


def _quantiles(values: Floats) -> list[float | None]:
    known = values[~np.isnan(values)]
    return plain_numbers(np.quantile(known, CLUSTER_SHARES)) if len(known) else []
