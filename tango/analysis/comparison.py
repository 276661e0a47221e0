"""Comparisons: cells of several systems over seeds, paired by seed, with the confidence interval of each difference.

    simulated columns, figures ─► cell_result ─► CellResult (JSON) ─┐
                                  (any process, any machine)        ├─► compare ─► Comparison ─► page, table, JSON
                                                    baseline's name ┘

All systems of a scenario serve the same requests for the same seed. Differences are therefore taken seed by seed (a paired design),
which removes the variation that a seed causes in all systems alike. The interval is Student's t over these differences. It covers chance
in the arrivals; it does not say what another fleet or another workload would show.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from tango.analysis.compared_metrics import METRICS, NOTHING, PER_SERVICE, ComparedMetric
from tango.analysis.intervals import Paired, finite, paired_difference
from tango.analysis.metrics import Figure, RunMetrics
from tango.analysis.series import run_distributions, run_series
from tango.analysis.tenant_figures import tenant_figures
from tango.domain.outcomes import AttemptLosses, NodeSamples, RunOutcomes, ScalingEvents
from tango.domain.tenant_shares import TenantSeries
from tango.errors import UsageError

_BE = "be_cpu_seconds_per_s"
BOUNDED = ("lc_qos_rate", _BE)
"""Figures for which `tango.bound` computes a bound."""


class FinishedRun(Protocol):
    """The part of a simulation's result that a comparison needs; `tango.sim.outcomes.SimulatedRun` implements it."""

    @property
    def outcomes(self) -> RunOutcomes:
        """The requests and how they ended."""

    @property
    def losses(self) -> AttemptLosses:
        """Attempts that ended without a counted result."""

    @property
    def samples(self) -> NodeSamples:
        """Samples of the nodes over time."""

    @property
    def scaling(self) -> ScalingEvents:
        """Resizes and evictions."""

    @property
    def digest(self) -> str:
        """SHA-256 over the outcome columns and the scaling events."""

    @property
    def events(self) -> int:
        """Number of events that changed a node's state."""

    @property
    def took_s(self) -> float:
        """Wall seconds of the engine."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks that a reader of the figures must know, such as a fallback that decided."""

    @property
    def tenants(self) -> TenantSeries | None:
        """What tenants held over time; None: one has all, and none is declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellLabel:
    """The identity of a cell in a comparison."""

    scenario: str
    """Workload and variation, as tables print them; cells are compared within a scenario."""
    system: str
    lc: str
    be: str
    sharing: str
    seed: int
    key: str = ""
    """The cell's key in the folder of kept results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """The result of one system on one scenario with one seed: numbers, texts and lists, which JSON keeps unchanged."""

    scenario: str
    system: str
    lc: str
    be: str
    sharing: str
    seed: int
    key: str
    fleet: str
    fleet_hash: str
    figures: Mapping[str, Figure]
    """The figures of `RunMetrics`, and `digest simulated_requests events wall_s`; `wall_s` is the simulation's own duration."""
    details: Mapping[str, Figure]
    """The details of `RunMetrics`, and `simulated_s`."""
    services: Sequence[Mapping[str, Figure]]
    """The `ServiceFigures` of each service."""
    bound: Mapping[str, float | None]
    """The bound of each figure of `BOUNDED`, None if it was not computed."""
    distance: Mapping[str, float | None]
    """The bound minus the value reached, by figure."""
    series: Mapping[str, Sequence[float | None]]
    """From `tango.analysis.series.run_series`."""
    distributions: Mapping[str, Any]
    """From `tango.analysis.series.run_distributions`."""
    notes: Sequence[str] = ()
    tenants: Sequence[Mapping[str, Figure]] = ()
    """The `TenantFigures` of each tenant; none where one has all BE requests and none is declared."""

    def as_dict(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {name: _plain(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CellResult:
        """The result from a JSON object of `as_dict`; unknown keys are ignored. Raises: UsageError for missing keys."""
        missing = [f.name for f in dataclasses.fields(cls) if f.name not in values and f.default is dataclasses.MISSING]
        if missing:
            raise UsageError(f"a cell's result lacks {', '.join(missing)}: it was written by another version, simulate it again")
        return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values})


def cell_result(
    run: FinishedRun, metrics: RunMetrics, label: CellLabel, *, bound: Mapping[str, float | None] | None = None
) -> CellResult:
    """The result of one simulated run; `bound` has the keys of `BOUNDED`, None if it was not computed."""
    outcomes = run.outcomes
    reach = {name: finite((bound or {}).get(name)) for name in BOUNDED}
    own: dict[str, Figure] = {
        "digest": run.digest,
        "simulated_requests": len(outcomes),
        "events": int(run.events),
        "wall_s": float(run.took_s),
    }
    return CellResult(
        **{name: getattr(label, name) for name in CellLabel.__slots__},
        fleet=outcomes.fleet,
        fleet_hash=outcomes.fleet_hash,
        figures=_plain({**metrics, **own}),
        details=_plain({**metrics.details, "simulated_s": outcomes.wall_s * outcomes.speed}),
        services=_plain([service.as_dict() for service in metrics.services]),
        bound=reach,
        distance={name: _minus(reach[name], finite(metrics[name])) for name in BOUNDED},
        series=run_series(outcomes, run.losses, run.samples, run.scaling),
        distributions=run_distributions(outcomes, run.samples),
        notes=list(run.notes),
        tenants=_plain([] if run.tenants is None else [of_one.as_dict() for of_one in tenant_figures(outcomes, run.tenants)]),
    )


# ---- differences ---------------------------------------------------------------------------------------------------------------


def metrics_of(cells: Iterable[CellResult]) -> tuple[ComparedMetric, ...]:
    """The metrics to compare: `METRICS`, and those of `PER_SERVICE` for each LC service of the cells."""
    names = dict.fromkeys(str(row["service"]) for cell in cells for row in cell.services if row.get("service_class") == "lc")
    return (*METRICS, *(dataclasses.replace(metric, service=name) for name in names for metric in PER_SERVICE))


def value_of(cell: CellResult, metric: ComparedMetric) -> float | None:
    """The value of a metric in a cell; None if the cell has none, or one that is not a finite number."""
    if metric.service:
        rows = [row for row in cell.services if row.get("service") == metric.service]
        return finite(rows[0].get(metric.key)) if rows else None
    if metric.distance:
        return finite(cell.distance.get(metric.key))
    return finite(cell.figures.get(metric.key, cell.details.get(metric.key)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A metric of one system in one scenario: its mean over seeds, and the paired difference to the baseline."""

    scenario: str
    system: str
    metric: ComparedMetric
    value: float | None
    """Mean over the system's seeds."""
    seeds: int
    """Number of seeds with a value."""
    baseline_value: float | None
    """The baseline's mean over the paired seeds."""
    paired: Paired

    @property
    def half(self) -> float | None:
        """Half of the confidence interval's length."""
        mean, high = self.paired.mean, self.paired.high
        return None if mean is None or high is None else high - mean

    @property
    def told_apart(self) -> bool:
        """Whether the confidence interval excludes 0."""
        low, high = self.paired.low, self.paired.high
        return low is not None and high is not None and (low > 0.0 or high < 0.0)

    def as_dict(self) -> dict[str, Any]:
        """The row of `differences` in JSON."""
        return {
            "scenario": self.scenario,
            "system": self.system,
            "metric": self.metric.name,
            "unit": self.metric.unit,
            "better": self.metric.better,
            "value": self.value,
            "seeds": self.seeds,
            "baseline_value": self.baseline_value,
            **self.paired._asdict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Cells and their differences. Scenarios and systems are in the order in which the cells first name them."""

    baseline: str
    cells: tuple[CellResult, ...]
    metrics: tuple[ComparedMetric, ...]
    scenarios: tuple[str, ...]
    systems: tuple[str, ...]
    rows: Mapping[tuple[str, str, str], Difference]
    """By (scenario, system, name of the metric), with rows of the baseline too."""
    notes: tuple[str, ...] = ()
    """Seeds that were left out, and the remarks of cells."""

    def row(self, scenario: str, system: str, metric: str) -> Difference | None:
        """The row of these names; None if the system has no cell in the scenario."""
        return self.rows.get((scenario, system, metric))

    def of(self, scenario: str, system: str | None = None) -> list[CellResult]:
        """The cells of a scenario, or of one system in it."""
        return [c for c in self.cells if c.scenario == scenario and system in (None, c.system)]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `tango compare -o json`: `cells differences bound tenants`, and `baseline notes`."""
        return {
            "cells": [_flat(cell) for cell in self.cells],
            "differences": [row.as_dict() for row in self.rows.values() if row.system != self.baseline],
            "bound": [self._bound(*pair) for pair in dict.fromkeys((c.scenario, c.system) for c in self.cells)],
            "tenants": self.tenants(),
            "baseline": self.baseline,
            "notes": list(self.notes),
        }

    def _bound(self, scenario: str, system: str) -> dict[str, Any]:
        """Means over the system's seeds. The BE bound differs between systems, since each completed other LC work."""
        cells = self.of(scenario, system)
        means = {name: _mean([c.bound.get(name) for c in cells]) for name in BOUNDED}
        distances = {f"{name}_distance": _mean([c.distance.get(name) for c in cells]) for name in BOUNDED}
        shares = {"be_share_of_bound": self.be_share_of_bound(scenario, system)}
        return {"scenario": scenario, "system": system, "seeds": len(cells), **means, **distances, **shares}

    def tenants(self) -> list[dict[str, Any]]:
        """Of each scenario, system and tenant the means over seeds of its `TenantFigures`; none where no cell has tenants."""
        rows = []
        for scenario, system in dict.fromkeys((c.scenario, c.system) for c in self.cells):
            by_name: dict[str, list[Mapping[str, Figure]]] = {}
            for cell in self.of(scenario, system):
                for row in cell.tenants:
                    by_name.setdefault(str(row["tenant"]), []).append(row)
            for name, of_seeds in sorted(by_name.items()):
                means = {key: _mean([finite(row[key]) for row in of_seeds]) for key in of_seeds[0] if key != "tenant"}
                rows.append({"scenario": scenario, "system": system, "tenant": name, "seeds": len(of_seeds), **means})
        return rows

    def be_share_of_bound(self, scenario: str, system: str) -> float | None:
        """BE throughput divided by its bound, averaged over the system's seeds; None without a bound."""
        return _mean([_share(c.figures.get(_BE), c.bound.get(_BE)) for c in self.of(scenario, system)])


def _flat(cell: CellResult) -> dict[str, Any]:
    """A cell as `tango simulate -o json` prints a run, with the figures at the top level."""
    values = cell.as_dict()
    return {**values.pop("figures"), **values}


def compare(cells: Iterable[CellResult], baseline: str) -> Comparison:
    """Pair the cells by seed within each scenario. Cells without a partner are left out of the differences and named in `notes`.

    Raises: UsageError if a cell is given twice, or if cells of one scenario and seed did not serve the same requests.
    """
    kept = tuple(cells)
    _check(kept)
    metrics = metrics_of(kept)
    scenarios = tuple(dict.fromkeys(c.scenario for c in kept))
    systems = tuple(dict.fromkeys(c.system for c in kept))
    by_seed: dict[tuple[str, str], dict[int, CellResult]] = {}
    for cell in kept:
        by_seed.setdefault((cell.scenario, cell.system), {})[cell.seed] = cell
    rows = []
    for (scenario, system), mine in by_seed.items():
        theirs = {} if system == baseline else by_seed.get((scenario, baseline), {})
        rows += [difference_of(scenario, system, metric, mine, theirs) for metric in metrics]
    remarks = dict.fromkeys(f"{c.system}: {note}" for c in kept for note in c.notes)
    return Comparison(
        baseline=baseline,
        cells=kept,
        metrics=metrics,
        scenarios=scenarios,
        systems=systems,
        rows={(row.scenario, row.system, row.metric.name): row for row in rows},
        notes=(*_missing(by_seed, scenarios, systems, baseline), *remarks),
    )


def difference_of(
    scenario: str, system: str, metric: ComparedMetric, mine: Mapping[int, CellResult], theirs: Mapping[int, CellResult]
) -> Difference:
    """The difference of a metric between a system's cells and a baseline's, both given by seed."""
    values = {seed: value_of(cell, metric) for seed, cell in mine.items()}
    base = {seed: value_of(cell, metric) for seed, cell in theirs.items()}
    return Difference(
        scenario=scenario,
        system=system,
        metric=metric,
        value=_mean(list(values.values())),
        seeds=sum(value is not None for value in values.values()),
        baseline_value=_mean([base[seed] for seed in base if values.get(seed) is not None]),
        paired=paired_difference(values, base),
    )


def _check(cells: Sequence[CellResult]) -> None:
    seen: dict[tuple[str, str, int], CellResult] = {}
    served: dict[tuple[str, int], CellResult] = {}
    for cell in cells:
        if seen.setdefault((cell.scenario, cell.system, cell.seed), cell) is not cell:
            raise UsageError(
                f"{cell.system} with seed {cell.seed} in scenario {cell.scenario!r} is there twice, expected one cell of each"
            )
        first = served.setdefault((cell.scenario, cell.seed), cell)
        for what in ("fleet_hash", "simulated_requests"):
            one, other = (getattr(c, what, None) or c.figures.get(what) for c in (first, cell))
            if one != other:
                raise UsageError(
                    f"scenario {cell.scenario!r}, seed {cell.seed}: {first.system} and {cell.system} cannot be paired, their {what} differ "
                    f"({one}, {other}); simulate both again"
                )


def _missing(
    by_seed: Mapping[tuple[str, str], Mapping[int, CellResult]], scenarios: Sequence[str], systems: Sequence[str], baseline: str
) -> list[str]:
    """A sentence for each system and scenario in which the system and the baseline do not have the same seeds."""
    notes = []
    for scenario in scenarios:
        base = set(by_seed.get((scenario, baseline), {}))
        if not base:
            notes.append(f"{scenario}: the baseline {baseline} has no result, so there are no differences")
            continue
        for system in systems:
            mine = set(by_seed.get((scenario, system), {}))
            if mine - base:
                notes.append(f"{scenario}: {baseline} lacks {_seeds(mine - base)} of {system}, left out of its differences")
            if base - mine:
                notes.append(f"{scenario}: {system} lacks {_seeds(base - mine)} of {baseline}, left out of its differences")
    return notes


def _seeds(seeds: set[int]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(str(seed) for seed in sorted(seeds))


# ---- the table of the terminal -------------------------------------------------------------------------------------------------


class TableColumn(NamedTuple):
    """A column of `comparison_table`: key in the rows, heading, and priority (on a narrow terminal the lowest go first, 10 never)."""

    key: str
    title: str
    priority: int
    right: bool = True
    wide: bool = False


_TABLE: tuple[tuple[str, str, int, int, bool], ...] = (
    ("lc_qos_rate", "QoS rate", 10, 9, False),
    ("be_cpu_seconds_per_s", "BE CPU-s/s", 9, 8, False),
    ("lc_latency_p99_ms", "LC p99", 6, 3, False),
    ("utilization_cpu", "CPU", 5, 2, False),
    ("waste_cpu_seconds", "waste CPU-s", 4, 1, False),
    ("lc_latency_p95_ms", "LC p95", 4, 1, True),
    ("be_completed", "BE completed", 4, 1, True),
    ("evictions", "evictions", 4, 1, True),
    ("resizes", "resizes", 4, 1, True),
    ("fairness_jain", "fairness", 4, 1, True),
    ("decision_ms_p99", "decision p99", 4, 1, True),
)
"""(metric, heading, priority of the mean, priority of the difference, only in wide tables)."""


def comparison_table(comparison: Comparison) -> tuple[list[TableColumn], list[dict[str, str]]]:
    """(columns, rows) of texts: for each scenario and system the mean over seeds, the difference to the baseline and that to the bound."""
    many = len(comparison.scenarios) > 1
    columns = [TableColumn("scenario", "scenario", 10, right=False)] if many else []
    columns += [TableColumn("system", "system", 10, right=False), TableColumn("seeds", "seeds", 7)]
    for key, title, priority, of_difference, wide in _TABLE:
        columns.append(TableColumn(key, title, priority, wide=wide))
        columns.append(TableColumn(f"{key}_difference", "difference", of_difference, wide=wide))
        if key in BOUNDED:
            columns.append(TableColumn(f"{key}_to_bound", "to bound", of_difference - 1, wide=wide))
        if key == _BE:
            columns.append(TableColumn("be_share_of_bound", "of bound", 1, wide=True))
    present = dict.fromkeys((scenario, system) for scenario, system, _ in comparison.rows)
    return columns, [_table_row(comparison, scenario, system) for scenario, system in present]


def _table_row(comparison: Comparison, scenario: str, system: str) -> dict[str, str]:
    texts = {"scenario": scenario, "system": system, "seeds": str(len(comparison.of(scenario, system)))}
    for name in [key for key, *_ in _TABLE] + [f"{key}_to_bound" for key in BOUNDED]:
        row = comparison.rows[scenario, system, name]
        texts[name] = row.metric.show(row.value)
        own = system == comparison.baseline
        texts[f"{name}_difference"] = "baseline" if own else row.metric.show_difference(row.paired.mean, row.half)
    share = comparison.be_share_of_bound(scenario, system)
    texts["be_share_of_bound"] = NOTHING if share is None else f"{share * 100:.2f} %"
    return texts


_TENANT_TABLE: tuple[tuple[str, str, int, bool, Callable[[float], str]], ...] = (
    ("weight", "weight", 8, False, "{:g}".format),
    ("requests", "requests", 5, False, "{:,.0f}".format),
    ("cpu_seconds", "CPU-s done", 8, False, "{:,.0f}".format),
    ("wait_mean_s", "mean wait s", 7, False, "{:.2f}".format),
    ("share", "share", 10, False, "{:.2%}".format),
    ("fair_share", "fair share", 10, False, "{:.2%}".format),
    ("below", "below", 5, False, "{:.2%}".format),
    ("withheld", "withheld", 4, True, "{:.2%}".format),
    ("over_quota", "over quota", 4, True, "{:.2%}".format),
    ("gave_way", "gave way", 6, False, "{:,.1f}".format),
)
"""(figure of `TenantFigures`, heading, priority, only in wide tables, how a mean is written)."""


def tenant_table(comparison: Comparison) -> tuple[list[TableColumn], list[dict[str, str]]]:
    """(columns, rows) of texts: what each tenant got under each system of each scenario, means over the seeds."""
    many = len(comparison.scenarios) > 1
    columns = [TableColumn("scenario", "scenario", 10, right=False)] if many else []
    columns += [TableColumn("system", "system", 10, right=False), TableColumn("tenant", "tenant", 10, right=False)]
    columns += [TableColumn(key, title, priority, wide=wide) for key, title, priority, wide, _ in _TENANT_TABLE]
    rows = []
    for row in comparison.tenants():
        texts = {name: str(row[name]) for name in ("scenario", "system", "tenant")}
        for key, *_, written in _TENANT_TABLE:
            texts[key] = NOTHING if row[key] is None else written(row[key]).replace("%", " %")
        rows.append(texts)
    return columns, rows


# ---- numbers -------------------------------------------------------------------------------------------------------------------


def _minus(bound: float | None, reached: float | None) -> float | None:
    return None if bound is None or reached is None else bound - reached


def _share(reached: Figure, bound: float | None) -> float | None:
    part, whole = finite(reached), finite(bound)
    return part / whole if part is not None and whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in map(finite, values) if value is not None]
    return math.fsum(known) / len(known) if known else None


def _plain(value: Any) -> Any:
    """The value built of JSON's types: tuples become lists, NaN and infinity None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
