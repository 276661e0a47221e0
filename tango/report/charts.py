"""The charts of a run's report. Times on their axes are trace seconds: wall seconds of the run times its speed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from tango.analysis.metrics import GIVE_UP_TARGETS, measured_span
from tango.domain.lifecycle import TERMINAL
from tango.domain.outcomes import SCALING_KINDS, SCALING_OUTCOMES, Decisions, NodeSamples, RunOutcomes, ScalingEvents
from tango.domain.requests import RequestState
from tango.domain.resource_axis import MAY_RUN
from tango.domain.services import ServiceClass
from tango.report.series import Floats, TimeBins, log_edges, population, share_grid, time_bins
from tango.report.svg import (
    TOP,
    WIDTH,
    Chart,
    element,
    heatmap,
    log_ticks,
    ms_label,
    names_left,
    nice_ticks,
    number_label,
    time_label,
    time_ticks,
)
from tango.report.tables import milliseconds

MANY_LINES = 6
"""Most clusters that are drawn as lines, one colour each; more are drawn as a heat map only."""
MANY_ROWS = 48
"""Most nodes that get a row of their own; beyond, rows are clusters, since names would overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartFigure:
    """One chart with its title, one sentence on how to read it, and its legend."""

    title: str
    note: str
    drawing: Markup
    legend: tuple[tuple[str, str], ...] = ()
    """Entries (CSS class of the mark, text)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The time axis that all charts of a report share: trace seconds from 0 to `end_s`, its bins, and the measured span."""

    end_s: float
    bins: TimeBins
    window_s: tuple[float, float]

    def chart(self, top: float, *, unit: str = "", height: float = 220.0, percent: bool = False) -> Chart:
        """An empty chart over time whose vertical axis reaches from 0 to at least `top`."""
        ticks = nice_ticks(0.0, max(top, 1e-9), about=4)
        if ticks[-1] < top:  # the axis ends at a tick, so one more is needed for what lies above the last
            ticks.append(ticks[-1] + (ticks[1] - ticks[0] if len(ticks) > 1 else top))
        chart = Chart((0.0, self.end_s), (0.0, ticks[-1]), height=height)
        chart.band(*self.window_s)
        label = percent_label if percent else number_label
        chart.axes(x_ticks=time_ticks(self.end_s), x_label=time_label, y_ticks=ticks, y_label=label, unit=unit)
        return chart


def percent_label(share: float) -> str:
    """`80 %`."""
    return f"{share * 100:.0f} %"


def frame_of(outcomes: RunOutcomes) -> Frame:
    """The time axis of a run: from its zero to its end, or to its last arrival if that is later."""
    end_s = max(outcomes.span_s, outcomes.wall_s * outcomes.speed, 1e-3)
    measured = measured_span(outcomes)
    return Frame(end_s=end_s, bins=time_bins(end_s), window_s=(measured.start_s * outcomes.speed, measured.end_s * outcomes.speed))


def _top(*series: Floats) -> float:
    return max([1e-9, *(float(np.nanmax(s)) for s in series if len(s) and not np.all(np.isnan(s)))])


def flow_figure(outcomes: RunOutcomes, frame: Frame, service_class: ServiceClass) -> ChartFigure:
    """Arrivals and completions per second of one class, over time."""
    mine = outcomes.service_class == service_class
    done = mine & outcomes.in_state(RequestState.SUCCEEDED)
    arrivals = frame.bins.counts(outcomes.due_s[mine] * outcomes.speed) / frame.bins.step_s
    completions = frame.bins.counts(outcomes.finished_s[done] * outcomes.speed) / frame.bins.step_s
    chart = frame.chart(_top(arrivals, completions), unit="requests per second")
    css, word = ("lc", "LC") if service_class is ServiceClass.LC else ("be", "BE")
    edges = frame.bins.edges_s
    chart.bars(edges[:-1], np.minimum(edges[1:], frame.end_s), arrivals, css=f"{css} soft")
    chart.line(np.minimum(frame.bins.centres_s, frame.end_s), completions, css=css)
    return ChartFigure(
        title=f"{word} requests over time",
        note=f"{int(mine.sum()):,} arrivals, {int(done.sum()):,} completed.",
        drawing=chart.render(f"{word} arrivals and completions per second over time"),
        legend=((f"box {css} soft", "arrivals"), (f"stroke {css}", "completions")),
    )


def population_figure(outcomes: RunOutcomes, frame: Frame) -> ChartFigure:
    """Numbers of requests in the system over time: open LC requests, and BE requests that wait or run."""
    at_s = np.linspace(0.0, frame.end_s, 181)  # a point for every two to three of the chart's pixels
    speed = outcomes.speed
    end_s = np.where(np.isnan(outcomes.finished_s), np.inf, outcomes.finished_s) * speed
    # Requests that ended without a time are left out: nobody knows until when they were in the system.
    gone = outcomes.in_state(RequestState.FAILED, RequestState.SHED, RequestState.CANCELLED) & np.isinf(end_s)
    started_s = np.where(np.isnan(outcomes.started_s), end_s, outcomes.started_s * speed)
    lc, be = outcomes.service_class == ServiceClass.LC, outcomes.service_class == ServiceClass.BE
    due_s = np.where(gone, np.nan, outcomes.due_s * speed)
    start_known_s = np.where(gone | np.isinf(started_s), np.nan, started_s)
    lc_open = population(due_s[lc], end_s[lc], at_s)
    be_waiting = population(due_s[be], started_s[be], at_s)
    be_running = population(start_known_s[be], end_s[be], at_s)
    chart = frame.chart(_top(lc_open, be_waiting, be_running), unit="requests")
    chart.line(at_s, be_running, css="be")
    chart.line(at_s, be_waiting, css="be dashed")
    chart.line(at_s, lc_open, css="lc")
    return ChartFigure(
        title="Requests in the system",
        note="LC from due time to completion; BE waiting for a node, and running.",
        drawing=chart.render("LC requests open, BE requests waiting and running over time"),
        legend=(("stroke lc", "LC open"), ("stroke be dashed", "BE waiting"), ("stroke be", "BE running")),
    )


def qos_figure(outcomes: RunOutcomes, frame: Frame) -> ChartFigure:
    """Share of LC requests answered within target, over the time of their arrival.

    A request counts once it has ended or is open for `GIVE_UP_TARGETS` targets, as in the QoS rate of `tango.analysis.metrics`.
    """
    given_up = outcomes.wall_s > outcomes.due_s + GIVE_UP_TARGETS * outcomes.target_s
    lc = (outcomes.service_class == ServiceClass.LC) & (outcomes.in_state(*TERMINAL) | given_up)
    met = outcomes.in_state(RequestState.SUCCEEDED) & (outcomes.finished_s - outcomes.due_s <= outcomes.target_s)
    coarse = time_bins(frame.end_s, at_most=60)
    rate = coarse.mean(outcomes.due_s[lc] * outcomes.speed, met[lc].astype(np.float64))
    chart = frame.chart(1.0, unit="", percent=True)
    chart.line(np.minimum(coarse.centres_s, frame.end_s), rate, css="lc")
    return ChartFigure(
        title="LC requests within target",
        note="By arrival; failed, shed and given-up requests count as missed.",
        drawing=chart.render("Share of LC requests within target over time"),
        legend=(("stroke lc", "QoS rate"),),
    )


def latency_figure(outcomes: RunOutcomes) -> ChartFigure | None:
    """A histogram of latency for each LC service on a common logarithmic axis, with its target; None if no LC request succeeded.

    It covers the arrivals in the run's measured span, as the table of services does.
    """
    lc = (outcomes.service_class == ServiceClass.LC) & outcomes.in_state(RequestState.SUCCEEDED)
    lc &= measured_span(outcomes).holds(outcomes.due_s)
    # At least 0.1 ms, since the axis is logarithmic.
    latency_ms = np.maximum((outcomes.finished_s - outcomes.due_s) * outcomes.speed * 1000.0, 0.1)
    if not lc.any():
        return None
    services = [s for s in range(len(outcomes.services)) if (lc & (outcomes.service == s)).any()]
    targets_ms = {
        s: float(np.nanmedian(outcomes.target_s[lc & (outcomes.service == s)])) * outcomes.speed * 1000.0 for s in services
    }
    low = min(float(latency_ms[lc].min()), *targets_ms.values())
    high = max(float(latency_ms[lc].max()), *targets_ms.values())
    edges = log_edges(low, high * 1.05)
    row = 58.0
    names = [outcomes.services[s] for s in services]
    chart = Chart(
        (edges[0], edges[-1]), (0.0, 1.0), height=TOP + 30.0 + row * len(services), left=names_left(names), right=66.0, log_x=True
    )
    chart.axes(x_ticks=log_ticks(edges[0], edges[-1]), x_label=ms_label)
    for place, service in enumerate(services):
        values = latency_ms[lc & (outcomes.service == service)]
        counts = np.histogram(values, edges)[0].astype(np.float64)
        _latency_row(chart, place, row, edges, counts / counts.max(), targets_ms[service])
        name, p95_ms = outcomes.services[service], float(np.quantile(values, 0.95))
        base = TOP + (place + 1) * row
        chart.row_name(base - 22, name)
        chart.text(chart.left - 6, base - 7, f"{len(values):,}", anchor="end")
        chart.text(WIDTH - 4, base - 22, milliseconds(p95_ms), css="name", anchor="end")
        chart.text(WIDTH - 4, base - 7, "p95", anchor="end")
    return ChartFigure(
        title="LC latency by service",
        note="Completed arrivals of the measured span, from due time, logarithmic; rows are scaled to their highest bar.",
        drawing=chart.render("Histogram of latency for each LC service, with its target"),
        legend=(("box lc", "within target"), ("box be", "late"), ("stroke target", "target")),
    )


def _latency_row(chart: Chart, place: int, row: float, edges: Floats, heights: Floats, target_ms: float) -> None:
    base, tall = TOP + (place + 1) * row, row - 16.0
    x = chart.x(edges)
    tops = base - np.maximum(1.0, heights * tall)
    cut = float(chart.x(target_ms))
    for css, low, high in (("lc", -np.inf, cut), ("be", cut, np.inf)):
        left, right = np.clip(x[:-1], low, high), np.clip(x[1:], low, high)
        commands = [
            f"M{left[i]:.1f} {base:.1f}H{max(right[i] - 0.6, left[i] + 0.3):.1f}V{tops[i]:.1f}H{left[i]:.1f}z"
            for i in np.flatnonzero((heights > 0) & (right > left))
        ]
        if commands:
            chart.mark(element("path", class_=f"bar {css}", d="".join(commands)))
    chart.mark(element("line", class_="axis", x1=chart.left, x2=WIDTH - chart.right, y1=base, y2=base))
    chart.mark(element("line", class_="line target", x1=cut, x2=cut, y1=base - row + 8, y2=base))
    near_right = cut > WIDTH - chart.right - 60
    chart.text(
        cut + (-5 if near_right else 5), base - row + 16, ms_label(round(target_ms, 1)), anchor="end" if near_right else "start"
    )


def _node_labels(outcomes: RunOutcomes) -> tuple[str, ...]:
    """What to call each node: with its cluster, since other clusters may have nodes of the same names."""
    return tuple(str(node) for node in outcomes.node_keys)


def utilization_figures(outcomes: RunOutcomes, samples: NodeSamples, frame: Frame) -> list[ChartFigure]:
    """CPU and memory measured, and extended resources held, over allocatable: by cluster as lines, if they are few, and by node or cluster
    as heat maps."""
    if not len(samples):
        return []
    at_s = samples.at_s * outcomes.speed
    beside = zip(samples.extended, samples.extended_held, samples.extended_allocatable, strict=True)
    extended = [found for found in beside if not found[0].startswith(MAY_RUN)]  # of those there is plenty
    kinds = (
        ("CPU in use", "Measured", samples.cpu_used_millicores, samples.cpu_allocatable_millicores),
        ("Memory in use", "Measured", samples.memory_used_mib, samples.memory_allocatable_mib),
        *((f"{name} held", "Requested by pods", held, allocatable) for name, held, allocatable in extended),
    )
    cluster = outcomes.node_cluster[samples.node]
    figures = []
    coarse = time_bins(frame.end_s, at_most=60)
    by_node = len(outcomes.nodes) <= MANY_ROWS
    rows = _node_labels(outcomes) if by_node else outcomes.clusters
    row = samples.node if by_node else cluster
    if len(outcomes.clusters) <= MANY_LINES:
        for word, how, part, whole in kinds:
            grid = share_grid(coarse, at_s, cluster, len(outcomes.clusters), part, whole)
            chart = frame.chart(max(1.0, _top(grid.ravel())), percent=True)
            for index in range(len(outcomes.clusters)):
                chart.line(np.minimum(coarse.centres_s, frame.end_s), grid[index], css=f"series-{index}")
            legend = tuple((f"stroke series-{i}", name) for i, name in enumerate(outcomes.clusters))
            figures.append(
                ChartFigure(
                    title=f"{word} by cluster",
                    note=f"{how}, over allocatable.",
                    drawing=chart.render(f"{word} over allocatable, by cluster over time"),
                    legend=legend,
                )
            )
    for word, how, part, whole in kinds:
        grid = share_grid(coarse, at_s, row, len(rows), part, whole)
        end_s = coarse.count * coarse.step_s
        figures.append(
            ChartFigure(
                title=f"{word} by {'node' if by_node else 'cluster'}",
                note=f"{how}, over allocatable; empty where there is none, or nothing was measured.",
                drawing=heatmap(grid, rows, end_s, time_ticks(frame.end_s), f"{word} over allocatable, over time"),
                legend=(("ramp", "0 % to 100 %"),),
            )
        )
    return figures


def decision_figures(decisions: Decisions, frame: Frame, speed: float) -> list[ChartFigure]:
    """Scheduling cycles per second, and the 99th percentile of their decision times in milliseconds."""
    if not len(decisions):
        return []
    at_s = decisions.at_s * speed
    coarse = time_bins(frame.end_s, at_most=60)
    edges = coarse.edges_s
    lc, be = decisions.kind == ServiceClass.LC, decisions.kind == ServiceClass.BE
    lc_rate, be_rate = coarse.counts(at_s[lc]) / coarse.step_s, coarse.counts(at_s[be]) / coarse.step_s
    count = frame.chart(_top(lc_rate + be_rate), unit="decisions per second")
    right = np.minimum(edges[1:], frame.end_s)
    count.bars(edges[:-1], right, lc_rate, css="lc")
    count.bars(edges[:-1], right, be_rate, css="be", base=lc_rate)
    p99s = [coarse.quantile(at_s[kind], decisions.decide_ms[kind], 0.99) for kind in (lc, be)]
    took = frame.chart(_top(*p99s), unit="milliseconds (p99 per interval)")
    for series, css in zip(p99s, ("lc", "be"), strict=True):
        took.line(np.minimum(coarse.centres_s, frame.end_s), series, css=css)
    policies = ", ".join(decisions.policies[p] for p in np.unique(decisions.policy))
    considered, unplaced = int(decisions.considered.sum()), int(decisions.unplaced.sum())
    return [
        ChartFigure(
            title="Decisions",
            note=f"{len(decisions):,} decisions over {considered:,} requests, {unplaced:,} left waiting. Policies: {policies}.",
            drawing=count.render("LC and BE decisions per second over time"),
            legend=(("box lc", "LC dispatch"), ("box be", "BE placement")),
        ),
        ChartFigure(
            title="Time to decide",
            note="Wall time of the decision alone, without gathering and applying.",
            drawing=took.render("99th percentile of decision milliseconds over time"),
            legend=(("stroke lc", "LC dispatch"), ("stroke be", "BE placement")),
        ),
    ]


def scaling_figure(outcomes: RunOutcomes, scaling: ScalingEvents, frame: Frame) -> ChartFigure | None:
    """Resizes and evictions as marks over time, with a row for each node, or cluster on large fleets; None if there were none."""
    done = scaling.outcome == SCALING_OUTCOMES.index("done")
    if not done.any():
        return None
    by_node = len(outcomes.nodes) <= MANY_ROWS
    rows = _node_labels(outcomes) if by_node else outcomes.clusters
    place = scaling.node if by_node else np.where(scaling.node >= 0, outcomes.node_cluster[scaling.node], -1)
    evict = done & (scaling.kind == SCALING_KINDS.index("evict"))
    resize = done & ~evict
    grow = resize & (scaling.after_millicores > scaling.before_millicores)
    shrink = resize & (scaling.after_millicores < scaling.before_millicores)
    request = resize & ~grow & ~shrink  # under `burst` the limit stays and the CPU request moves
    tall = 18.0 if len(rows) <= 16 else 13.0
    chart = Chart((0.0, frame.end_s), (0.0, 1.0), height=TOP + 30.0 + tall * len(rows), left=names_left(rows))
    chart.band(*frame.window_s)
    chart.axes(x_ticks=time_ticks(frame.end_s), x_label=time_label)
    for index, name in enumerate(rows):
        y = TOP + (index + 0.5) * tall
        chart.mark(element("line", class_="grid", x1=chart.left, x2=WIDTH - chart.right, y1=y, y2=y))
        chart.row_name(y + 4, name, css="tick")
    shapes = (
        ("grow", grow, "m-4 3.5h8l-4 -7z"),
        ("shrink", shrink, "m-4 -3.5h8l-4 7z"),
        ("request", request, "m0 -4l4 4l-4 4l-4 -4z"),
        ("evict", evict, "m-4 -4l8 8m0 -8l-8 8"),
    )
    for css, chosen, shape in shapes:
        chart.mark(_marks(chart, scaling.at_s[chosen] * outcomes.speed, place[chosen], tall, shape, css))
    failed = int((~done).sum())
    moved = f", {int(request.sum())} CPU requests moved" if request.any() else ""
    note = f"{int(grow.sum())} grown, {int(shrink.sum())} shrunk{moved}, {int(evict.sum())} evicted"
    return ChartFigure(
        title="Resizes and evictions",
        note=note + (f"; {failed} more were deferred or refused." if failed else "."),
        drawing=chart.render("Resizes and evictions by node over time"),
        legend=(
            ("glyph grow", "▲ grown"),
            ("glyph shrink", "▼ shrunk"),
            *([("glyph request", "◆ CPU request moved")] if request.any() else []),
            ("glyph evict", "✕ BE evicted"),
        ),
    )


def _marks(chart: Chart, at_s: Floats, row: NDArray[np.int32], tall: float, shape: str, css: str) -> Markup:
    xs = chart.x(at_s)
    commands = [f"M{x:.1f} {TOP + (r + 0.5) * tall:.1f}{shape}" for x, r in zip(xs, row, strict=True) if r >= 0]
    return element("path", class_=f"event {css}", d="".join(commands)) if commands else Markup("")
