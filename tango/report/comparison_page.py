"""A comparison as one self-contained HTML page, without scripts and network, for light and dark screens and for print.

The page begins with all scenarios as differences to the baseline with their intervals. A section for each scenario has its charts and
its full table. The end explains the figures, says what was run and gives the command that runs it again.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from tango import __version__
from tango.analysis.compared_metrics import METRICS, NOTHING, ComparedMetric
from tango.analysis.comparison import BOUNDED, CellResult, Comparison, Difference, tenant_table
from tango.analysis.intervals import finite
from tango.analysis.verdicts import Verdicts
from tango.report.comparison_charts import (
    Panel,
    PanelGroup,
    Total,
    by_seed,
    cluster_figure,
    colours_of,
    difference_figure,
    minus,
    qos_by_seed,
    tail_panels,
    time_lines,
    time_panels,
    top_of,
    totals_chart,
)
from tango.report.svg import number_label
from tango.report.tables import number
from tango.report.verdict_charts import verdict_figures
from tango.report.verdict_tables import relative_table

KEY_METRICS = ("lc_qos_rate", "lc_latency_p99_ms", "be_cpu_seconds_per_s", "utilization_cpu", "waste_cpu_seconds")
"""Metrics in the summary, in this order."""

MARKS = {
    "lc_qos_rate": "Dashed: the bound.",
    "be_cpu_seconds_per_s": "Dashed: the bound, beside the LC work that the same system completed.",
    "utilization_cpu": "Dashed: CPU in use as sampled, interference and thrown-away work included.",
}
"""By metric: the explanation of the dashed line in its chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellText:
    """One cell of a table, as text: a system's mean and, except for the baseline, its difference to the baseline."""

    value: str
    difference: str = ""
    relative: str = ""
    verdict: str = ""
    """`better`, `worse` or `differs` if the interval excludes 0, else empty."""
    pairs: str = ""
    """Number of pairs behind the difference, if it is smaller than the system's number of seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One metric in a table."""

    title: str
    anchor: str
    unit: str
    entries: tuple[CellText, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario's part of the page."""

    name: str
    systems: tuple[tuple[str, str, int], ...]
    """Entries (name, CSS class, number of seeds)."""
    requests: str
    """Number of requests, or its range over the cells, as text."""
    blocks: tuple[tuple[str, tuple[PanelGroup, ...]], ...]
    """Entries (heading, groups of charts)."""
    rows: tuple[Row, ...]
    service_rows: tuple[tuple[str, tuple[Row, ...]], ...]
    """Entries (service, rows)."""


def comparison_page(
    comparison: Comparison,
    *,
    title: str,
    command: str,
    fleet_hash: str,
    notes: Sequence[str] = (),
    verdicts: Verdicts | None = None,
) -> str:
    """The text of the page; with `verdicts` it has a section on the judged system. All text from the cells is escaped."""
    # StrictUndefined: a name that the template misspells fails a test instead of leaving a gap in the page.
    environment = Environment(
        loader=PackageLoader("tango.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=number)
    colours = colours_of(comparison.systems)
    scenarios = [_scenario(comparison, name, colours) for name in comparison.scenarios]
    summary = [difference_figure(comparison, name, KEY_METRICS, colours) for name in comparison.scenarios]
    seeds = sorted({cell.seed for cell in comparison.cells})
    return environment.get_template("comparison.html.j2").render(
        version=__version__,
        versions=f"Tango {__version__}, Python {platform.python_version()}, NumPy {np.__version__}",
        title=title,
        command=command,
        fleet=", ".join(dict.fromkeys(cell.fleet for cell in comparison.cells)) or NOTHING,
        fleet_hash=fleet_hash,
        baseline=comparison.baseline,
        comparison=comparison,
        systems=_systems(comparison, colours),
        seeds=_ranges(seeds),
        seed_count=len(seeds),
        total=sum(_requests(cell) for cell in comparison.cells),
        scenarios=scenarios,
        judged=None if verdicts is None else (verdicts, verdict_figures(verdicts, colours), relative_table(verdicts)),
        tenants=tenant_table(comparison) if comparison.tenants() else None,
        summary=[group for group in summary if group is not None],
        bounded=any(cell.bound.get(name) is not None for cell in comparison.cells for name in BOUNDED),
        sizes=_sizes(comparison),
        notes=list(dict.fromkeys((*comparison.notes, *(verdicts.notes if verdicts else ()), *notes))),
    )


# ---- what was run --------------------------------------------------------------------------------------------------------------


def _requests(cell: CellResult) -> int:
    count = cell.figures.get("simulated_requests")
    return count if isinstance(count, int) else 0


def _between(counts: Sequence[int]) -> str:
    """The range of counts as text: `8,078`, or `8,012 to 8,101`."""
    low, high = min(counts, default=0), max(counts, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _ranges(seeds: Sequence[int]) -> str:
    """Seeds as text: `1 to 20` if they have no gap, else `1, 2, 7`."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(str(seed) for seed in seeds)


def _systems(comparison: Comparison, colours: dict[str, str]) -> list[tuple[str, str, str, str, str, str]]:
    """Rows (name, CSS class, LC policy, BE policy, sharing rule, networks), one for each system."""
    rows = []
    for system in comparison.systems:
        mine = [cell for cell in comparison.cells if cell.system == system]
        networks = dict.fromkeys(str(c.figures["checkpoint"]) for c in mine if c.figures.get("checkpoint"))
        rows.append((system, colours[system], mine[0].lc, mine[0].be, mine[0].sharing, ", ".join(networks) or "none"))
    return rows


def _sizes(comparison: Comparison) -> list[tuple[int, list[str]]]:
    """Rows (seed, number of requests in each scenario); all systems of a seed serve the same requests."""
    counts: dict[tuple[str, int], int] = {}
    for cell in comparison.cells:
        counts[cell.scenario, cell.seed] = _requests(cell)
    seeds = sorted({cell.seed for cell in comparison.cells})
    return [(seed, [f"{counts[s, seed]:,}" if (s, seed) in counts else NOTHING for s in comparison.scenarios]) for seed in seeds]


# ---- a scenario ----------------------------------------------------------------------------------------------------------------


def _scenario(comparison: Comparison, name: str, colours: dict[str, str]) -> Scenario:
    cells = {system: mine for system in comparison.systems if (mine := comparison.of(name, system))}
    blocks = (
        ("Latency-critical requests", _lc_groups(comparison, name, cells, colours)),
        ("Best-effort work", _be_groups(comparison, name, cells, colours)),
        ("The fleet and what it cost", _fleet_groups(comparison, name, cells, colours)),
    )
    metrics = [metric for metric in comparison.metrics if not metric.service]
    services = dict.fromkeys(metric.service for metric in comparison.metrics if metric.service)
    of_services = []
    for service in services:
        rows = tuple(_row(comparison, name, m, list(cells)) for m in comparison.metrics if m.service == service)
        if any(entry.value != NOTHING for row in rows for entry in row.entries):
            of_services.append((service, rows))
    return Scenario(
        name=name,
        systems=tuple((system, colours[system], len(mine)) for system, mine in cells.items()),
        requests=_between([_requests(cell) for mine in cells.values() for cell in mine]),
        blocks=tuple((heading, groups) for heading, groups in blocks if groups),
        rows=tuple(_row(comparison, name, metric, list(cells)) for metric in metrics),
        service_rows=tuple(of_services),
    )


def _lc_groups(
    comparison: Comparison, scenario: str, cells: dict[str, list[CellResult]], colours: dict[str, str]
) -> tuple[PanelGroup, ...]:
    groups = [
        _totals(comparison, scenario, colours, "lc_qos_rate", "Mean over seeds (dot) and each seed (thin marks).", least=0.02),
        _clusters(
            cells, colours, "qos_rate", "QoS rate by cluster", "Of what entered there, mean over seeds. The bar is the median."
        ),
    ]
    rows = {system: qos for system, mine in cells.items() if (qos := qos_by_seed(mine)).size}
    if rows:
        lowest = min((float(np.nanmin(r)) for r in rows.values() if not np.isnan(r).all()), default=0.0)
        # One floor for all systems, so that their panels can be compared; the note names it.
        floor = 0.98 if lowest >= 0.98 else float(np.floor(lowest * 10) / 10) if lowest < 1.0 else 0.0
        panels = time_panels(
            rows,
            _edges(cells),
            colours,
            baseline=comparison.baseline,
            y_range=(floor, 1.0),
            y_label=lambda share: f"{share * 100:g} %",
            words="QoS rate over time",
        )
        note = "By arrival, over trace time." + (f" The axis begins at {floor * 100:g} %." if floor else "")
        groups.append(PanelGroup(title="QoS rate over time", note=note, panels=panels, legend=_time_legend(comparison, cells)))
    tails = tail_panels(cells, colours)
    if tails:
        groups.append(
            PanelGroup(
                title="LC latency by service",
                note="Share of answers that took longer, from due time; arrivals of the measured span, quantiles averaged over seeds. "
                "Further left and lower is better; where a line crosses its target is the share of answers that came late.",
                panels=tails,
                legend=(*((f"stroke {colours[s]}", s) for s in cells), ("stroke target", "target")),
            )
        )
    return tuple(group for group in groups if group is not None)


def _be_groups(
    comparison: Comparison, scenario: str, cells: dict[str, list[CellResult]], colours: dict[str, str]
) -> tuple[PanelGroup, ...]:
    groups = [
        _totals(
            comparison,
            scenario,
            colours,
            "be_cpu_seconds_per_s",
            "Useful CPU-seconds per second; thin marks: seeds.",
        ),
        _lines(
            cells,
            colours,
            "be_waiting",
            "BE requests waiting",
            "Due and not started (for the last time), mean over seeds.",
            "requests",
        ),
        _totals(
            comparison, scenario, colours, "waste_cpu_seconds", "CPU-seconds of attempts that came to nothing, for any reason."
        ),
        _totals(comparison, scenario, colours, "evictions", "BE pods taken off their node because LC needed the memory."),
    ]
    rows = {system: work for system, mine in cells.items() if (work := by_seed(mine, "be_cpu_seconds_per_s")).size}
    if rows and any(np.nan_to_num(work).any() for work in rows.values()):
        panels = time_panels(
            rows,
            _edges(cells),
            colours,
            baseline=comparison.baseline,
            y_range=(0.0, top_of(rows.values())),
            y_label=number_label,
            unit="CPU-s/s",
            words="BE throughput over time",
        )
        note = "Useful CPU-seconds per second, over trace time."
        groups.insert(
            2, PanelGroup(title="BE throughput over time", note=note, panels=panels, legend=_time_legend(comparison, cells))
        )
    return tuple(group for group in groups if group is not None)


def _fleet_groups(
    comparison: Comparison, scenario: str, cells: dict[str, list[CellResult]], colours: dict[str, str]
) -> tuple[PanelGroup, ...]:
    groups = (
        _clusters(
            cells,
            colours,
            "utilization_cpu",
            "CPU utilisation by cluster",
            "Useful work over the allocatable CPU of each cluster in the measured span, mean over seeds. The bar is the median.",
        ),
        _totals(comparison, scenario, colours, "utilization_cpu", "Useful work of both classes over allocatable CPU."),
        _totals(comparison, scenario, colours, "fairness_jain", "Jain's index of the clusters' QoS rates; 1 is even.", least=0.05),
        _totals(comparison, scenario, colours, "resizes", "Resizes of LC instances that took effect in the measured span."),
        _totals(comparison, scenario, colours, "decision_ms_p99", "Wall milliseconds that a decision takes, 99th percentile."),
    )
    return tuple(group for group in groups if group is not None)


def _edges(cells: dict[str, list[CellResult]]) -> NDArray[np.float64]:
    return np.array(next(c.series["edge_s"] for mine in cells.values() for c in mine if c.series.get("edge_s")), dtype=np.float64)


def _time_legend(comparison: Comparison, cells: dict[str, list[CellResult]]) -> tuple[tuple[str, str], ...]:
    words: list[tuple[str, str]] = [("stroke", "mean over seeds")]
    if any(len(mine) > 1 for mine in cells.values()):
        words.append(("box spread", "lowest to highest seed"))
    if comparison.baseline in cells and len(cells) > 1:
        words.append(("stroke behind", f"{comparison.baseline} (baseline)"))
    return tuple(words)


def _metric(name: str) -> ComparedMetric:
    return next(metric for metric in METRICS if metric.name == name)


def _mark_of(cell: CellResult, name: str) -> object:
    return cell.details.get("busy_cpu") if name == "utilization_cpu" else cell.bound.get(name)


def _totals(
    comparison: Comparison, scenario: str, colours: dict[str, str], name: str, note: str, *, least: float | None = None
) -> PanelGroup | None:
    """A chart of one metric with a row for each system; None if the metric is 0 or missing everywhere."""
    metric, totals = _metric(name), []
    for system in comparison.systems:
        mine = comparison.of(scenario, system)
        row = comparison.row(scenario, system, name)
        known = [cell.figures.get(name) for cell in mine]
        values = tuple(float(v) for v in known if isinstance(v, (int, float)))
        marks = [finite(_mark_of(cell, name)) for cell in mine]
        if row is not None and values:
            known_marks = [m for m in marks if m is not None]
            mark = float(np.mean(known_marks)) if known_marks else None
            totals.append(Total(system=system, values=values, mark=mark, text=metric.show(row.value)))
    if not any(value for total in totals for value in total.values):
        return None
    label = {"share": lambda v: f"{v * 100:g} %", "ms": lambda v: f"{v:g} ms", "index": lambda v: f"{v:g}"}.get(
        metric.unit, number_label
    )
    drawing = totals_chart(totals, colours, label=label, words=f"{metric.title} by system", least=least)
    if any(total.mark is not None for total in totals):
        note = f"{note} {MARKS[name]}"
    unit = f", {metric.unit}" if metric.unit not in ("share", "ms", "index", "") else ""
    return PanelGroup(title=metric.title + unit, note=note, kind="half", panels=(Panel(title="", drawing=drawing),))


def _clusters(cells: dict[str, list[CellResult]], colours: dict[str, str], name: str, title: str, note: str) -> PanelGroup | None:
    drawing = cluster_figure(cells, name, colours, f"{title}, by system")
    return None if drawing is None else PanelGroup(title=title, note=note, kind="half", panels=(Panel(title="", drawing=drawing),))


def _lines(
    cells: dict[str, list[CellResult]], colours: dict[str, str], name: str, title: str, note: str, unit: str
) -> PanelGroup | None:
    rows = {system: values for system, mine in cells.items() if (values := by_seed(mine, name)).size}
    if not any(np.nan_to_num(values).any() for values in rows.values()):
        return None
    drawing: Markup = time_lines(rows, _edges(cells), colours, unit=unit, words=f"{title} over time, by system")
    legend = tuple((f"stroke {colours[system]}", system) for system in rows)
    return PanelGroup(title=title, note=note, kind="half", panels=(Panel(title="", drawing=drawing),), legend=legend)


# ---- the table -----------------------------------------------------------------------------------------------------------------


def _row(comparison: Comparison, scenario: str, metric: ComparedMetric, systems: Sequence[str]) -> Row:
    entries = tuple(_entry(comparison, comparison.rows[scenario, system, metric.name]) for system in systems)
    anchor = metric.key + ("_to_bound" if metric.distance else "")
    unit = "" if metric.unit in ("share", "ms", "index") else metric.unit
    return Row(title=metric.title, anchor=anchor, unit=unit, entries=entries)


def _entry(comparison: Comparison, row: Difference) -> CellText:
    value = row.metric.show(row.value)
    if row.system == comparison.baseline or row.paired.mean is None:
        return CellText(value=value, difference="baseline" if row.system == comparison.baseline else NOTHING)
    verdict = ""
    if row.told_apart:
        verdict = "differs" if not row.metric.better else "better" if row.paired.mean * row.metric.better > 0 else "worse"
    relative = row.paired.relative
    return CellText(
        value=value,
        difference=minus(row.metric.show_difference(row.paired.mean, row.half)),
        relative="" if relative is None or row.metric.unit in ("share", "index") else minus(f"{relative * 100:+,.0f} %"),
        verdict=verdict,
        pairs=f"{row.paired.pairs} pairs" if 1 < row.paired.pairs < row.seeds else "1 pair" if row.paired.pairs == 1 else "",
    )
