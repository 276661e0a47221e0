"""The figures of a run: one function for live and simulated runs. A test compares the SQL views with it.

Definitions are in `docs/metrics.md`. All figures are over one measured span, from 10 % of the trace's span to its last arrival, except the
counts of states (`accepted` to `live`) and `wall_s`, which are of the whole run. Times and CPU-seconds are in trace time (wall time x
speed); milliseconds of decisions and resizes are wall time, since deciding is no part of the trace. A figure without data is None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.domain.lifecycle import TERMINAL
from tango.domain.observations import NODE_PRESSURES
from tango.domain.outcomes import (
    SCALING_KINDS,
    SCALING_OUTCOMES,
    AttemptLosses,
    Decisions,
    HostSamples,
    NodeSamples,
    RequestPhases,
    RunOutcomes,
    ScalingEvents,
)
from tango.domain.requests import Reason, RequestState
from tango.domain.runs import RunInfo, StateCounts
from tango.domain.services import ServiceClass

Figure = float | int | str | None

MEASURED = (
    "lc_arrived",
    "lc_qos_rate",
    "lc_latency_p50_ms",
    "lc_latency_p95_ms",
    "lc_latency_p99_ms",
    "be_completed",
    "be_cpu_seconds_per_s",
    "utilization_cpu",
    "utilization_memory",
    "waste_cpu_seconds",
    "evictions",
    "resizes",
    "decisions",
    "decision_ms_p50",
    "decision_ms_p99",
    "fairness_jain",
    "wall_s",
)
"""Figures for which all requests of a run have to be read."""
MEASURED_FROM = 0.1
"""Share of the trace's span at which the measured span begins; before it the fleet fills up (warm-up)."""
GIVE_UP_TARGETS = 10.0
"""An LC request that is unfinished so many targets after its due time counts as missed."""
TOLERANCE_S = 1e-6
"""Tolerance of the measured span's ends. A due time is an arrival divided by the speed; rounding must not exclude the last arrival."""


class MeasuredSpan(NamedTuple):
    """The interval over which figures are taken, in wall seconds since the run's zero, both ends included."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """Length in wall seconds."""
        return self.end_s - self.start_s

    def holds(self, at_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which instants lie in the measured span, same shape; NaN does not."""
        return (at_s >= self.start_s - TOLERANCE_S) & (at_s <= self.end_s + TOLERANCE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFigures:
    """The figures of one service, in trace time. LC figures are over arrivals in the measured span, BE throughput over work done in it."""

    service: str
    service_class: str
    """`lc` or `be`."""
    arrived: int
    succeeded: int
    """Of the requests that arrived in the measured span, whenever they finished; so too the next three."""
    failed: int
    shed: int
    unfinished: int
    target_ms: float | None
    qos_rate: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    latency_p999_ms: float | None
    completed_per_s: float | None
    cpu_seconds_per_s: float | None

    def as_dict(self) -> dict[str, Figure]:
        """The figures by name, for tables and JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMetrics(Mapping[str, Figure]):
    """The figures of a run as a mapping, under the keys of `tango run show`; `services` and `details` are further attributes."""

    figures: Mapping[str, Figure]
    services: tuple[ServiceFigures, ...]
    details: Mapping[str, Figure]
    """Further figures for reports: the measured span, BE requests per second, measured busy CPU, milliseconds of resizes."""

    def __getitem__(self, key: str) -> Figure:
        return self.figures[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.figures)

    def __len__(self) -> int:
        return len(self.figures)


def measured_span(outcomes: RunOutcomes) -> MeasuredSpan:
    """The measured span of a run: from `MEASURED_FROM` of the trace's span to its end, which is the last arrival. Of a live run all of it,
    to its closing."""
    span_s = outcomes.span_s / outcomes.speed
    return MeasuredSpan(0.0 if outcomes.is_live else MEASURED_FROM * span_s, span_s)


def quantiles(values: NDArray[np.float64], shares: tuple[float, ...]) -> list[float | None]:
    """Quantiles at `shares`, interpolated linearly between ranks as PostgreSQL's `percentile_cont` does; NaN values are left out.

    All are None if no value is left.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return [None] * len(shares)
    return [float(q) for q in np.quantile(known, shares)]


def useful_share(outcomes: RunOutcomes, measured: MeasuredSpan) -> NDArray[np.float64]:
    """Share of each request's work that its successful attempt did inside the measured span, shape (n,); 0 without one.

    Work is spread evenly over [started, finished]; an attempt that took no time did it at its end.
    """
    kept = outcomes.in_state(RequestState.SUCCEEDED) & ~np.isnan(outcomes.finished_s)
    finished_s = np.where(kept, outcomes.finished_s, 0.0)
    started_s = np.where(np.isnan(outcomes.started_s) | ~kept, finished_s, np.minimum(outcomes.started_s, finished_s))
    inside_s = np.minimum(finished_s, measured.end_s) - np.maximum(started_s, measured.start_s)
    length_s = finished_s - started_s
    instant = length_s <= 0.0
    spread = np.clip(inside_s, 0.0, None) / np.where(instant, 1.0, length_s)
    return np.where(kept, np.where(instant, measured.holds(finished_s), np.minimum(spread, 1.0)), 0.0)


def held_seconds(outcomes: RunOutcomes, measured: MeasuredSpan) -> NDArray[np.float64]:
    """Wall seconds inside the measured span for which each request's successful attempt held its memory, shape (n,)."""
    kept = outcomes.in_state(RequestState.SUCCEEDED) & ~np.isnan(outcomes.finished_s) & ~np.isnan(outcomes.started_s)
    inside_s = np.minimum(outcomes.finished_s, measured.end_s) - np.maximum(outcomes.started_s, measured.start_s)
    return np.where(kept, np.clip(np.nan_to_num(inside_s), 0.0, None), 0.0)


def node_capacity(samples: NodeSamples, nodes: int, measured: MeasuredSpan) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(millicores, MiB): mean allocatable of each node, shape (nodes,), over the samples in the measured span, or all if it has none.

    A node that fails keeps its capacity in the mean, so that utilisation also falls with what a failure made unusable.
    """
    inside = measured.holds(samples.at_s)
    chosen = inside if inside.any() else np.ones(len(samples), dtype=bool)
    row = samples.node[chosen]
    seen = np.maximum(np.bincount(row, minlength=nodes), 1)
    cpu = np.bincount(row, weights=samples.cpu_allocatable_millicores[chosen], minlength=nodes) / seen
    memory = np.bincount(row, weights=samples.memory_allocatable_mib[chosen], minlength=nodes) / seen
    return cpu, memory


def _extended_held(samples: NodeSamples, measured: MeasuredSpan) -> dict[str, float | None]:
    """By extended resource: what requests held of it over what nodes had, over the samples in the measured span."""
    if not samples.extended:
        return {}
    inside = measured.holds(samples.at_s)
    held, there = samples.extended_held[:, inside].sum(axis=1), samples.extended_allocatable[:, inside].sum(axis=1)
    return {name: _ratio(float(held[k]), float(there[k])) for k, name in enumerate(samples.extended)}


PRESSURE = "pressure "
"""Before the name of a node in the details of a run."""


def _node_pressures(
    outcomes: RunOutcomes, samples: NodeSamples, measured: MeasuredSpan
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """(the most of any node, each node's by its key): means over the samples in the measured span. Nothing where no node's agent told."""
    inside = measured.holds(samples.at_s)
    most: dict[str, float | None] = {}
    by_node: dict[str, float | None] = {}
    for name in NODE_PRESSURES:
        column = getattr(samples, name)
        told = inside & ~np.isnan(column) if column is not None else np.zeros(len(samples), np.bool_)
        if not told.any():
            continue
        row = samples.node[told]
        count = np.bincount(row, minlength=len(outcomes.nodes))
        mean = np.bincount(row, weights=column[told], minlength=len(outcomes.nodes)) / np.maximum(count, 1)
        most[f"{name}_worst_node"] = float(mean.max())
        by_node |= {f"{PRESSURE}{name} {outcomes.node_keys[n]}": float(mean[n]) for n in np.flatnonzero(count).tolist()}
    return most, by_node


def jain_index(values: NDArray[np.float64]) -> float | None:
    """Jain's fairness index, (sum x)^2 / (n sum x^2): 1 if all are equal, 1/n if one has everything; None if all are 0 or none.

    Source: Jain, Chiu, Hawe, DEC-TR-301 (1984), equation 2.
    """
    largest = float(values.max(initial=0.0))
    if not largest > 0.0:
        return None
    scaled = values / largest  # the index does not change, and no square can underflow
    return float(scaled.sum()) ** 2 / (len(values) * float(np.sum(scaled**2)))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0.0 else None


class LcOutcomes(NamedTuple):
    """Masks over all requests, shape (n,): LC arrivals in the measured span; those of them whose outcome is known; those within target."""

    arrived: NDArray[np.bool_]
    decided: NDArray[np.bool_]
    met: NDArray[np.bool_]

    def rate(self, among: NDArray[np.bool_]) -> float | None:
        """Share within target of those requests in `among` whose outcome is known."""
        return _ratio(float(np.count_nonzero(self.met & among)), float(np.count_nonzero(self.decided & among)))


def arrived_in_measured_span(outcomes: RunOutcomes) -> NDArray[np.bool_]:
    """(n,) whether each request arrived in the measured span and before the run's end."""
    return measured_span(outcomes).holds(outcomes.due_s) & (outcomes.due_s <= outcomes.wall_s + TOLERANCE_S)


def lc_outcomes_of(outcomes: RunOutcomes) -> LcOutcomes:
    """The LC requests of a run that arrived in its measured span, as `lc_qos_rate` counts them."""
    lc = arrived_in_measured_span(outcomes) & (outcomes.service_class == ServiceClass.LC)
    # A request that is still open counts as missed once nobody waits for it, so that a run has figures before its last one ends.
    given_up = outcomes.wall_s > outcomes.due_s + GIVE_UP_TARGETS * outcomes.target_s
    decided = lc & (outcomes.in_state(*TERMINAL) | given_up)
    latency_s = outcomes.finished_s - outcomes.due_s
    met = lc & outcomes.in_state(RequestState.SUCCEEDED) & (latency_s <= outcomes.target_s)
    return LcOutcomes(lc, decided, met)


def metrics_of_counts(run: RunInfo, counts: StateCounts) -> RunMetrics:
    """What is known of a run without reading its requests: the keys of `run_metrics`, None for all but counts and what names the run."""
    return RunMetrics(
        figures={
            "run": run.run_id,
            "status": str(run.status),
            "system": run.system,
            "fleet": run.fleet,
            "seed": run.seed,
            "checkpoint": None,
            "accepted": counts.accepted,
            **{str(s): counts.by_state.get(str(s), 0) for s in TERMINAL},
            "live": counts.accepted - counts.terminal,
            **dict.fromkeys(MEASURED),
        },
        services=(),
        details={},
    )


def _service_figures(
    outcomes: RunOutcomes, arrived: NDArray[np.bool_], lc_outcomes: LcOutcomes, measured: MeasuredSpan, share: NDArray[np.float64]
) -> tuple[ServiceFigures, ...]:
    succeeded = outcomes.in_state(RequestState.SUCCEEDED)
    failed, shed = outcomes.in_state(RequestState.FAILED), outcomes.in_state(RequestState.SHED)
    latency_ms = (outcomes.finished_s - outcomes.due_s) * outcomes.speed * 1000.0
    length_s = measured.length_s * outcomes.speed
    rows = []
    for index, name in enumerate(outcomes.services):
        mine = outcomes.service == index
        if not mine.any():
            continue
        came = mine & arrived
        ended = came & succeeded
        target_s = outcomes.target_s[mine]
        is_lc = int(outcomes.service_class[mine][0]) == ServiceClass.LC
        p50, p95, p99, p999 = quantiles(latency_ms[ended], (0.5, 0.95, 0.99, 0.999))
        rows.append(
            ServiceFigures(
                service=name,
                service_class=ServiceClass.LC.label if is_lc else ServiceClass.BE.label,
                arrived=int(came.sum()),
                succeeded=int(ended.sum()),
                failed=int((came & failed).sum()),
                shed=int((came & shed).sum()),
                unfinished=int((came & ~succeeded & ~failed & ~shed).sum()),
                target_ms=float(np.nanmedian(target_s)) * outcomes.speed * 1000.0 if is_lc else None,
                qos_rate=lc_outcomes.rate(mine),
                latency_p50_ms=p50,
                latency_p95_ms=p95,
                latency_p99_ms=p99,
                latency_p999_ms=p999,
                completed_per_s=_ratio(float((mine & succeeded & measured.holds(outcomes.finished_s)).sum()), length_s),
                cpu_seconds_per_s=_ratio(float(np.sum((share * outcomes.cpu_work_s)[mine])) * outcomes.speed, length_s),
            )
        )
    return tuple(rows)


FULL_AT = 0.95
"""Share of a host's CPU time from which it has none left: what is missing goes to the kernel's count in hundredths and to its switches."""


def host_details(
    outcomes: RunOutcomes, measured: MeasuredSpan, phases: RequestPhases | None, hosts: HostSamples | None
) -> dict[str, Figure]:
    """How far the host that was fullest was used in the measured span, and how late LC was released and dispatched meanwhile: whether the
    figures of a live run are the system's or its machine's. Nothing of a simulated run."""
    found: dict[str, Figure] = {}
    if hosts is not None and len(hosts):
        inside = measured.holds(hosts.at_s)
        inside = inside if inside.any() else np.ones(len(hosts), np.bool_)  # a run of less than a second
        host = hosts.host[inside]
        count = np.bincount(host, minlength=len(hosts.hosts))
        full, used, stolen = (
            np.bincount(host, weights=column, minlength=len(hosts.hosts)) / np.maximum(count, 1)
            for column in ((hosts.used[inside] >= FULL_AT).astype(np.float64), hosts.used[inside], hosts.stolen[inside])
        )
        worst = int(np.lexsort((used, full))[-1])
        found |= {
            "host": hosts.hosts[worst],
            "host_full": float(full[worst]),
            "host_used": float(used[worst]),
            "host_stolen": float(stolen[worst]),
        }
    if phases is not None:
        lc = arrived_in_measured_span(outcomes) & (outcomes.service_class == ServiceClass.LC)
        for name in ("release", "dispatch"):
            (p95_s,) = quantiles(getattr(phases, f"{name}_s")[lc], (0.95,))
            found[f"{name}_ms_p95"] = None if p95_s is None else p95_s * 1000.0
    return found


def run_metrics(
    outcomes: RunOutcomes,
    losses: AttemptLosses,
    samples: NodeSamples,
    decisions: Decisions,
    scaling: ScalingEvents,
    *,
    phases: RequestPhases | None = None,
    hosts: HostSamples | None = None,
) -> RunMetrics:
    """All figures of a run; the keys are exactly those that `tango run show` prints. `phases` and `hosts` are of live runs."""
    speed = outcomes.speed
    measured = measured_span(outcomes)
    length_s = measured.length_s
    is_be = outcomes.service_class == ServiceClass.BE
    succeeded = outcomes.in_state(RequestState.SUCCEEDED)
    terminal = outcomes.in_state(*TERMINAL)

    # LC: requests are selected by arrival in the measured span and followed to their end, even beyond it.
    arrived, lc_outcomes = arrived_in_measured_span(outcomes), lc_outcomes_of(outcomes)
    latency_ms = (outcomes.finished_s - outcomes.due_s)[lc_outcomes.arrived & succeeded] * speed * 1000.0
    p50, p95, p99, p999 = quantiles(latency_ms, (0.5, 0.95, 0.99, 0.999))
    by_cluster = [lc_outcomes.rate(outcomes.entry_cluster == c) for c in range(len(outcomes.clusters))]

    # Throughput and utilisation: useful work done in the measured span, whenever its request arrived.
    share = useful_share(outcomes, measured)
    work_s = share * outcomes.cpu_work_s
    completed_be = int(np.count_nonzero(is_be & succeeded & measured.holds(outcomes.finished_s)))
    cpu, memory = node_capacity(samples, len(outcomes.nodes), measured)
    memory_mib_s = held_seconds(outcomes, measured) * outcomes.memory_mib
    in_measured = measured.holds(samples.at_s)
    used = samples.cpu_used_millicores[in_measured]
    # A sample without a measurement counts on neither side.
    allocatable = np.where(np.isnan(used), 0.0, samples.cpu_allocatable_millicores[in_measured])

    lost = measured.holds(losses.at_s)
    evicted = lost & np.isin(losses.reason, [i for i, text in enumerate(losses.reasons) if text == Reason.EVICTED])
    resized = measured.holds(scaling.at_s) & (scaling.kind == SCALING_KINDS.index("resize"))
    resized &= scaling.outcome == SCALING_OUTCOMES.index("done")
    decided = measured.holds(decisions.at_s)
    decide_p50, decide_p99 = quantiles(decisions.decide_ms[decided], (0.5, 0.99))
    resize_p50, resize_p99 = quantiles(scaling.actuation_ms[resized], (0.5, 0.99))

    figures: dict[str, Figure] = {
        "run": outcomes.run_id,
        "status": outcomes.status,
        "system": outcomes.system,
        "fleet": outcomes.fleet,
        "seed": outcomes.seed,
        "checkpoint": outcomes.checkpoint or None,
        "accepted": len(outcomes),
        **{str(s): int(np.count_nonzero(outcomes.in_state(s))) for s in TERMINAL},
        "live": int(np.count_nonzero(~terminal)),
        "lc_arrived": int(lc_outcomes.arrived.sum()),
        "lc_qos_rate": lc_outcomes.rate(lc_outcomes.arrived),
        "lc_latency_p50_ms": p50,
        "lc_latency_p95_ms": p95,
        "lc_latency_p99_ms": p99,
        "be_completed": completed_be,
        "be_cpu_seconds_per_s": _ratio(float(work_s[is_be].sum()), length_s),
        "utilization_cpu": _ratio(float(work_s.sum()), float(cpu.sum()) / 1000.0 * length_s),
        "utilization_memory": _ratio(float(memory_mib_s.sum()), float(memory.sum()) * length_s),
        "waste_cpu_seconds": float(losses.work_lost_s[lost].sum()) * speed,
        "evictions": int(evicted.sum()),
        "resizes": int(resized.sum()),
        "decisions": int(decided.sum()),
        "decision_ms_p50": decide_p50,
        "decision_ms_p99": decide_p99,
        "fairness_jain": jain_index(np.array([rate for rate in by_cluster if rate is not None])),
        "wall_s": outcomes.wall_s,
    }
    worst, by_node = _node_pressures(outcomes, samples, measured)
    details: dict[str, Figure] = {
        "window_start_s": measured.start_s * speed,
        "window_end_s": measured.end_s * speed,
        "lc_undecided": int((lc_outcomes.arrived & ~lc_outcomes.decided).sum()),
        "lc_latency_p999_ms": p999,
        "be_completed_per_s": _ratio(float(completed_be), length_s * speed),
        "busy_cpu": _ratio(float(np.nansum(used)), float(allocatable.sum())),
        "waste_by_eviction_cpu_seconds": float(losses.work_lost_s[evicted].sum()) * speed,
        "resize_ms_p50": resize_p50,
        "resize_ms_p99": resize_p99,
        **{f"held {name}": share for name, share in _extended_held(samples, measured).items()},
        **worst,
        **by_node,
        **host_details(outcomes, measured, phases, hosts),
    }
    services = _service_figures(outcomes, arrived, lc_outcomes, measured, share)
    return RunMetrics(figures=figures, services=services, details=details)
