"""The charts of a comparison. A system has one colour on the whole page; values are means over seeds with their range.

Charts over time are small multiples, with a panel for each system and the baseline's mean behind it, because seven lines with bands in
one panel could not be read. Where the lines of all systems share a panel, they differ by dashes as well as by colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from tango.analysis.comparison import CellResult, Comparison, Difference
from tango.analysis.metrics import MEASURED_FROM
from tango.report.svg import (
    BOTTOM,
    TOP,
    Chart,
    element,
    fitted,
    log_ticks,
    ms_label,
    nice_ticks,
    number_label,
    time_label,
    time_ticks,
)
from tango.systems import SYSTEMS

Floats = NDArray[np.float64]

COLOURS = 7
"""Number of colours `--c0` to `--c6` in comparison.css, which common kinds of colour blindness can tell apart."""
_PLAINEST, *_BETWEEN, _OWN = SYSTEMS
FIXED = {name: slot for slot, name in enumerate((_PLAINEST, _OWN, *_BETWEEN)) if slot < COLOURS}
"""Colours of the built-in systems that are listed first, the same on every page; the first and the last of all differ most."""
FULL, HALF, THIRD, QUARTER = 1190.0, 576.0, 382.0, 290.0
"""Widths of drawings in pixels. A page of 1,240 pixels shows each about unscaled, so that all text has one size."""
PLOT_SHARE = 0.42
"""Share of the plot in the width of a column of differences; the rest is text."""
LABELS_LEFT, WORDS_RIGHT = 124.0, 84.0
"""Pixels left of a plot for names of systems, and right of it for values."""
NEAREST_TICK = 52.0
"""Least distance of two labelled ticks, pixels."""
ROW = 26.0
"""Height of a row, pixels."""
MANY_CLUSTERS = 12
"""Most clusters that are drawn as single dots; more are drawn as a box plot."""
WIDEST = 2.5
"""The axis of a difference reaches at most this many times the largest mean; intervals beyond it end in an arrow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One drawing with its heading; `css` is the class of the coloured mark beside the heading, empty for none."""

    title: str
    drawing: Markup
    css: str = ""
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelGroup:
    """Panels that share axes, a note and a legend; `kind` is their layout: `wide`, `half` or `panels` (a grid)."""

    title: str
    note: str
    panels: tuple[Panel, ...]
    kind: str = "panels"
    legend: tuple[tuple[str, str], ...] = ()
    """Entries (CSS class of the mark, text)."""


def panel_width(panels: int) -> float:
    """Width in pixels of each of so many panels, in a grid of two, three or four columns, whichever leaves the fewest gaps."""
    return HALF if panels <= 2 else THIRD if panels in (3, 5, 6, 9) else QUARTER


def colours_of(systems: Sequence[str]) -> dict[str, str]:
    """CSS class by system. Systems without a fixed colour get a free one; when none is left, one that is used, with other dashes."""
    classes = {name: f"sys sys-{FIXED[name]}" for name in systems if name in FIXED}
    taken = {FIXED[name] for name in classes}
    free = [slot for slot in range(COLOURS) if slot not in taken] + list(range(COLOURS)) * len(systems)
    for name in systems:
        if name not in FIXED:
            css = f"sys sys-{free.pop(0)}"
            classes[name] = css if css not in classes.values() else f"{css} again"
    return {name: classes[name] for name in systems}


# ---- seeds ---------------------------------------------------------------------------------------------------------------------


def by_seed(cells: Sequence[CellResult], name: str) -> Floats:
    """The series `name` of each cell, shape (seeds, buckets), NaN for empty buckets; cells without the series are left out."""
    rows = [cell.series[name] for cell in cells if cell.series.get(name)]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(rows[0]) if rows else 0)


def across(rows: Floats) -> tuple[Floats, Floats, Floats]:
    """(mean, least, greatest) over the first axis (seeds), each of shape (buckets,); NaN where no seed has a value."""
    known = ~np.isnan(rows)
    count = known.sum(axis=0)
    mean = np.where(count > 0, np.where(known, rows, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
    low = np.where(count > 0, np.where(known, rows, np.inf).min(axis=0, initial=np.inf), np.nan)
    high = np.where(count > 0, np.where(known, rows, -np.inf).max(axis=0, initial=-np.inf), np.nan)
    return mean, low, high


def qos_by_seed(cells: Sequence[CellResult]) -> Floats:
    """Share of LC arrivals answered within target, shape (seeds, buckets); NaN for buckets without arrivals."""
    arrived, met = by_seed(cells, "lc_arrived"), by_seed(cells, "lc_met")
    return np.where(arrived > 0, met / np.where(arrived > 0, arrived, 1.0), np.nan)


# ---- differences ---------------------------------------------------------------------------------------------------------------


def difference_figure(comparison: Comparison, scenario: str, metrics: Sequence[str], colours: dict[str, str]) -> PanelGroup | None:
    """A matrix of systems by metrics with the mean difference to the baseline and its interval; None if nothing could be paired."""
    systems = [s for s in comparison.systems if s != comparison.baseline and comparison.of(scenario, s)]
    columns = []
    for name in metrics:
        rows = [comparison.rows[scenario, system, name] for system in systems]
        if any(row.paired.mean or row.half for row in rows):
            columns.append(rows)
    if not columns:
        return None
    label, head = 132.0, 46.0
    each = min((FULL - label) / len(columns), 260.0)
    chart = Chart((0.0, 1.0), (0.0, 1.0), height=head + ROW * len(systems) + BOTTOM, width=FULL)
    for place, system in enumerate(systems):
        y = head + (place + 0.5) * ROW
        chart.mark(element("rect", class_=f"swatch {colours[system]}", x=0.0, y=y - 5, width=10.0, height=10.0))
        chart.text(16.0, y + 4, fitted(system, label - 16.0), css="name", hint=system)
    for place, rows in enumerate(columns):
        _difference_column(chart, rows, colours, left=label + place * each, width=each, head=head)
    return PanelGroup(
        title=scenario,
        note="",
        kind="wide",
        panels=(Panel(title="", drawing=chart.render(f"Differences to {comparison.baseline} with intervals, {scenario}")),),
    )


def _difference_column(
    chart: Chart, rows: Sequence[Difference], colours: dict[str, str], *, left: float, width: float, head: float
) -> None:
    metric = rows[0].metric
    base = next((row.baseline_value for row in rows if row.baseline_value is not None), None)
    means = [abs(row.paired.mean) for row in rows if row.paired.mean is not None]
    ends = [abs(end) for row in rows for end in (row.paired.low, row.paired.high) if end is not None]
    # One wide interval, as few seeds give, must not press the other systems' differences together at 0.
    reach = min(max([*means, *ends]), WIDEST * max(means)) if max(means) > 0 else max(ends, default=0.0)
    reach = reach or 1.0
    lows = [0.0, *(max(low, -reach) for row in rows if (low := _low(row)) is not None)]
    highs = [0.0, *(min(high, reach) for row in rows if (high := _high(row)) is not None)]
    low, high = min(lows), max(highs)
    margin = max((high - low) * 0.08, 1e-12)
    scale = Chart((low - margin, high + margin), (0.0, 1.0), width=left + width * PLOT_SHARE, left=left + 6, right=0.0)
    bottom = head + ROW * len(rows)
    zero, first, last = (float(scale.x(v)) for v in (0.0, low - margin, high + margin))
    better = (zero, last) if metric.better > 0 else (first, zero)
    if metric.better:
        chart.mark(
            element("rect", class_="better", x=better[0], y=head, width=max(better[1] - better[0], 0.0), height=bottom - head)
        )
    chart.text(left + 6, 12.0, metric.title, css="name strong")
    side = {1: "right is better", -1: "left is better"}.get(metric.better, "")
    chart.text(left + 6, 29.0, f"baseline {metric.show(base)}" + (f", {side}" if side else ""))
    factor, unit = metric.axis(max(abs(low), abs(high)))
    for tick in nice_ticks(low * factor, high * factor, about=2):
        at = float(scale.x(tick / factor))
        chart.mark(element("line", class_="axis", x1=at, x2=at, y1=bottom, y2=bottom + 4))
        chart.text(at, bottom + 17, minus(number_label(tick)), anchor="middle")
    chart.text(left + width * PLOT_SHARE + 8, bottom + 17, unit)
    chart.mark(element("line", class_="axis", x1=first, x2=last, y1=bottom, y2=bottom))
    chart.mark(element("line", class_="zero", x1=zero, x2=zero, y1=head, y2=bottom))
    for place, row in enumerate(rows):
        y = head + (place + 0.5) * ROW
        if row.paired.mean is None:
            chart.text(zero + 6, y + 4, "not paired")
            continue
        _whisker(chart, scale, row, y, colours[row.system], (low - margin, high + margin))
        css = "name strong" if row.told_apart else "name"
        # The unit stands at the axis; five columns leave no space for it in every row.
        words = minus(metric.show_difference(row.paired.mean, row.half)).removesuffix(" pp")
        chart.text(left + width * PLOT_SHARE + 8, y + 4, words, css=css)


def minus(text: str) -> str:
    """The text with hyphens replaced by the minus sign, which is as wide as a plus."""
    return text.replace("-", "\N{MINUS SIGN}")


def _low(row: Difference) -> float | None:
    return row.paired.mean if row.paired.low is None else row.paired.low


def _high(row: Difference) -> float | None:
    return row.paired.mean if row.paired.high is None else row.paired.high


def _whisker(chart: Chart, scale: Chart, row: Difference, y: float, css: str, ends: tuple[float, float]) -> None:
    mean, low, high = row.paired.mean, row.paired.low, row.paired.high
    if mean is None:
        return
    if low is not None and high is not None:
        x0, x1 = float(scale.x(max(low, ends[0]))), float(scale.x(min(high, ends[1])))
        left = f"m4 -4l-4 4l4 4M{x0:.1f} {y:.1f}" if low < ends[0] else "m0 -4v8m0 -4"
        right = "m-4 -4l4 4l-4 4" if high > ends[1] else "m0 -4v8"
        chart.mark(element("path", class_=f"whisker {css}", d=f"M{x0:.1f} {y:.1f}{left}H{x1:.1f}{right}"))
    hollow = "" if row.told_apart else " hollow"
    chart.mark(element("circle", class_=f"dot {css}{hollow}", cx=float(scale.x(mean)), cy=y, r=4.5))


# ---- totals --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """One system's row in a chart of totals."""

    system: str
    values: tuple[float, ...]
    """One for each seed."""
    mark: float | None
    """Where a dashed line is drawn, such as the bound; None: nowhere."""
    text: str
    """Printed right of the row."""

    @property
    def mean(self) -> float:
        """Mean of `values`."""
        return float(np.mean(self.values))


def totals_chart(
    totals: Sequence[Total], colours: dict[str, str], *, label: Callable[[float], str], words: str, least: float | None = None
) -> Markup:
    """A chart with a row for each system: the mean, each seed as a thin line, the mark as a dashed one.

    Means are bars from 0. With `least` they are dots, on an axis that spans the values and at least `least`, so that small differences
    do not look large.
    """
    every = [v for t in totals for v in (*t.values, *(() if t.mark is None else (t.mark,)))]
    from_zero, high = least is None, max(every)
    low = 0.0 if least is None else min(min(every), high - least)
    margin = (high - low) * 0.05 or abs(high) * 0.01 or 1.0
    left = LABELS_LEFT
    chart = _rows_chart((low if from_zero else low - margin, high + margin), len(totals))
    chart.axes(x_ticks=nice_ticks(*chart.x_range, about=4), x_label=label)
    for place, total in enumerate(totals):
        y, css = 8.0 + (place + 0.5) * ROW, colours[total.system]
        at = float(chart.x(total.mean))
        chart.row_name(y + 4, total.system)
        if from_zero:
            chart.mark(element("rect", class_=f"total {css}", x=left, y=y - 7, width=max(at - left, 0.5), height=14.0))
        ticks = "".join(f"M{x:.1f} {y - 6:.1f}v12" for x in chart.x(np.array(total.values)).tolist())
        chart.mark(element("path", class_=f"seeds {css}", d=ticks))
        if not from_zero:
            chart.mark(element("circle", class_=f"dot {css}", cx=at, cy=y, r=4.5))
        if total.mark is not None:
            x = float(chart.x(total.mark))
            chart.mark(element("line", class_="line target", x1=x, x2=x, y1=y - 11, y2=y + 11))
        chart.text(HALF - WORDS_RIGHT + 8, y + 4, total.text, css="name")
    return chart.render(words)


def _rows_chart(x_range: tuple[float, float], rows: int) -> Chart:
    return Chart(x_range, (0.0, 1.0), height=8.0 + ROW * rows + BOTTOM, width=HALF, left=LABELS_LEFT, right=WORDS_RIGHT)


# ---- over time -----------------------------------------------------------------------------------------------------------------


def _time_chart(edges: Floats, y_range: tuple[float, float], y_label: Callable[[float], str], unit: str, *, width: float) -> Chart:
    end_s = float(edges[-1])
    ticks = nice_ticks(*y_range, about=3)
    wide = width > THIRD
    chart = Chart((0.0, end_s), y_range, width=width, height=220.0 if wide else 168.0, left=46.0)
    chart.band(end_s * MEASURED_FROM, end_s)
    chart.axes(x_ticks=time_ticks(end_s, about=6 if wide else 4), x_label=time_label, y_ticks=ticks, y_label=y_label, unit=unit)
    return chart


def time_panels(
    rows: dict[str, Floats],
    edges: Floats,
    colours: dict[str, str],
    *,
    baseline: str,
    y_range: tuple[float, float],
    y_label: Callable[[float], str],
    unit: str = "",
    words: str,
) -> tuple[Panel, ...]:
    """A panel for each system with its mean over seeds, their range, and the baseline's mean behind it; `edges` has (buckets + 1,)."""
    centres = (edges[:-1] + edges[1:]) / 2
    means = {system: across(values) for system, values in rows.items()}
    panels = []
    for system, (mean, low, high) in means.items():
        chart = _time_chart(edges, y_range, y_label, unit, width=panel_width(len(means)))
        if len(rows[system]) > 1:
            chart.area(centres, low, high, css=f"spread {colours[system]}")
        if baseline in means and system != baseline:
            chart.line(centres, means[baseline][0], css="behind")
        chart.line(centres, mean, css=f"{colours[system]} solid")
        panels.append(Panel(title=system, css=colours[system], drawing=chart.render(f"{words}, {system}")))
    return tuple(panels)


def time_lines(rows: dict[str, Floats], edges: Floats, colours: dict[str, str], *, unit: str, words: str) -> Markup:
    """One chart with the mean over seeds of every system."""
    means = {system: across(values)[0] for system, values in rows.items()}
    chart = _time_chart(edges, (0.0, top_of(means.values())), number_label, unit, width=HALF)
    for system, mean in means.items():
        chart.line((edges[:-1] + edges[1:]) / 2, mean, css=colours[system])
    return chart.render(words)


def top_of(series: Iterable[Floats]) -> float:
    """A round number at or above the greatest value of all series."""
    highest = max([1e-9, *(float(np.nanmax(s)) for s in series if s.size and not np.all(np.isnan(s)))])
    ticks = nice_ticks(0.0, highest, about=3)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else highest
    return ticks[-1] if ticks[-1] >= highest else ticks[-1] + step


# ---- distributions -------------------------------------------------------------------------------------------------------------


def tail_panels(cells: dict[str, list[CellResult]], colours: dict[str, str]) -> tuple[Panel, ...]:
    """A panel per LC service: the share of its answers that took longer than each latency, and its target.

    Quantiles are averaged over seeds rank by rank. Both axes are logarithmic, so that a tail of one in a thousand can be seen.
    """
    tails: dict[str, dict[str, Floats]] = {}
    targets: dict[str, float] = {}
    slower: Floats = np.zeros(0)
    for system, mine in cells.items():
        found: dict[str, list[list[float]]] = {}
        for cell in mine:
            slower = 1.0 - np.array(cell.distributions.get("latency_shares", slower), dtype=np.float64)
            for row in cell.distributions.get("latency", ()):
                if row["target_ms"] is not None:
                    targets.setdefault(row["service"], row["target_ms"])
                    found.setdefault(row["service"], []).extend([row["quantiles_ms"]] if row["quantiles_ms"] else [])
        for service, quantiles in found.items():
            if quantiles:
                tails.setdefault(service, {})[system] = np.array(quantiles, dtype=np.float64).mean(axis=0)
    width = panel_width(len(tails))
    return tuple(_tail_panel(service, targets[service], lines, slower, colours, width) for service, lines in tails.items())


def _tail_panel(
    service: str, target_ms: float, lines: dict[str, Floats], slower: Floats, colours: dict[str, str], width: float
) -> Panel:
    drawn = slower > 0.0005
    values = np.maximum(np.array([line[drawn] for line in lines.values()]), 0.01)
    low, high = min(float(values.min()), target_ms) * 0.9, max(float(values.max()), target_ms) * 1.1
    chart = Chart((low, high), (0.001, 1.0), width=width, height=212.0, left=46.0, log_x=True, log_y=True)
    shares = [1.0, 0.1, 0.01, 0.001]
    chart.axes(
        x_ticks=_apart(chart, log_ticks(low, high, about=5)), x_label=ms_label, y_ticks=shares, y_label=lambda s: f"{s * 100:g} %"
    )
    at = float(chart.x(target_ms))
    chart.mark(element("line", class_="line target", x1=at, x2=at, y1=TOP - 8, y2=chart.bottom))
    chart.text(at - 5, TOP - 10, f"target {ms_label(round(target_ms, 1))}", anchor="end" if at > 130 else "start")
    for (system, _), row in zip(lines.items(), values, strict=True):
        chart.line(row, slower[drawn], css=colours[system])
    return Panel(title=service, drawing=chart.render(f"Share of answers of {service} that took longer, by system"))


def _apart(chart: Chart, ticks: Sequence[float]) -> list[float]:
    """The ticks without those whose labels would overlap with the one before."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or float(chart.x(tick)) - float(chart.x(kept[-1])) >= NEAREST_TICK:
            kept.append(tick)
    return kept


def cluster_figure(cells: dict[str, list[CellResult]], name: str, colours: dict[str, str], words: str) -> Markup | None:
    """The spread of a share over clusters, with a row for each system: a dot for each cluster, or a box plot where they are many.

    None if no cell has the figure.
    """
    spread = {system: values for system, mine in cells.items() if len(values := _cluster_values(mine, name))}
    if not spread:
        return None
    count = max(int(c.distributions["clusters"]["count"]) for mine in cells.values() for c in mine if c.distributions)
    low = min(float(v.min()) for v in spread.values())
    high = max(float(v.max()) for v in spread.values())
    # The axis begins at one of a few round shares: near 100 % differences would not be seen on an axis from 0.
    floor = 0.0 if low < 0.5 else 0.5 if low < 0.8 else 0.8 if low < 0.9 else 0.9 if low < 0.98 else 0.98
    chart = _rows_chart((floor, max(1.0, high)), len(spread))
    chart.axes(x_ticks=nice_ticks(*chart.x_range, about=4), x_label=lambda s: f"{s * 100:g} %")
    for place, (system, values) in enumerate(spread.items()):
        y, css = 8.0 + (place + 0.5) * ROW, colours[system]
        at = chart.x(np.quantile(values, (0.0, 0.25, 0.5, 0.75, 1.0)))
        chart.row_name(y + 4, system)
        chart.mark(element("line", class_=f"whisker {css}", x1=float(at[0]), x2=float(at[4]), y1=y, y2=y))
        if count > MANY_CLUSTERS:
            box = element("rect", class_=f"total {css}", x=float(at[1]), y=y - 7, width=max(float(at[3] - at[1]), 1.0), height=14.0)
            chart.mark(box)
        else:
            for x in chart.x(values).tolist():
                chart.mark(element("circle", class_=f"dot small {css}", cx=x, cy=y, r=3.5))
        chart.mark(element("line", class_=f"median {css}", x1=float(at[2]), x2=float(at[2]), y1=y - 9, y2=y + 9))
        chart.text(HALF - WORDS_RIGHT + 8, y + 4, f"{np.median(values) * 100:.1f} %", css="name")
    return chart.render(words)


def _cluster_values(cells: Sequence[CellResult], name: str) -> Floats:
    """Mean over seeds for each cluster, or for each quantile if cells keep only these; those without a value are left out."""
    rows = [c.distributions["clusters"][name] for c in cells if c.distributions and c.distributions["clusters"].get(name)]
    if not rows:
        return np.zeros(0)
    mean, _, _ = across(np.array(rows, dtype=np.float64))
    return mean[~np.isnan(mean)]
