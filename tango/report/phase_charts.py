"""Where the time of requests went, as bars: a row for each service, those in time above those that were late."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from tango.analysis.metrics import arrived_in_measured_span
from tango.domain.outcomes import PHASES, RequestPhases, RunOutcomes
from tango.domain.requests import RequestState
from tango.domain.services import ServiceClass
from tango.report.charts import ChartFigure
from tango.report.series import Floats
from tango.report.svg import TOP, WIDTH, Chart, element, ms_label, names_left, nice_ticks
from tango.report.tables import milliseconds

WORDS = {
    ServiceClass.LC: ("release", "earlier attempts", "message and decision", "sending", "network and queue", "service and answer"),
    ServiceClass.BE: ("release", "earlier attempts", "waiting for room", "", "pod's start", "running"),
}
"""Of `PHASES`, what each is called; empty: there is none."""
BAR, GAP = 15.0, 7.0
"""Height of a bar and the space after it, pixels."""


def phase_figures(outcomes: RunOutcomes, phases: RequestPhases) -> list[ChartFigure]:
    """A chart for each class of which any request has ended with its parts known: arrivals of the measured span that succeeded."""
    parts_s = np.stack([np.nan_to_num(getattr(phases, name)) for name in PHASES]) * outcomes.speed
    known = ~np.isnan(phases.dispatch_s) & ~np.isnan(phases.serve_s)
    counted = known & arrived_in_measured_span(outcomes) & outcomes.in_state(RequestState.SUCCEEDED)
    return [
        _figure(outcomes, parts_s, counted & (outcomes.service_class == c), c)
        for c in ServiceClass
        if (counted & (outcomes.service_class == c)).any()
    ]


def _figure(outcomes: RunOutcomes, parts_s: Floats, counted: NDArray[np.bool_], of: ServiceClass) -> ChartFigure:
    late = counted & (outcomes.finished_s - outcomes.due_s > outcomes.target_s)  # never of BE, which has no target
    rows: list[tuple[str, int, Floats]] = []
    for service, name in enumerate(outcomes.services):
        mine = outcomes.service == service
        for word, among in (("", counted & ~late & mine), ("late", late & mine)):
            if among.any():
                rows.append((f"{name}{word and ', ' + word}", int(among.sum()), parts_s[:, among].mean(axis=1)))
    longest = max(float(means.sum()) for _, _, means in rows)
    top_ms = 1.02 * longest * 1e3
    height = TOP + 30.0 + (BAR + GAP) * len(rows)
    chart = Chart((0.0, top_ms), (0.0, 1.0), height=height, left=names_left([name for name, _, _ in rows]), right=70.0)
    chart.axes(x_ticks=nice_ticks(0.0, top_ms, about=4), x_label=ms_label)
    for place, (name, count, means) in enumerate(rows):
        top = TOP + place * (BAR + GAP)
        ends = chart.x(np.concatenate([[0.0], np.cumsum(means * 1e3)]))
        for part, (begin, end) in enumerate(itertools.pairwise(ends)):
            if end - begin >= 0.2:
                chart.mark(element("path", class_=f"bar part-{part}", d=f"M{begin:.1f} {top:.1f}H{end:.1f}v{BAR:.0f}H{begin:.1f}z"))
        chart.row_name(top + BAR - 3.5, name, hint=f"{name}: {count:,} requests")
        chart.text(WIDTH - 4, top + BAR - 3.5, milliseconds(float(means.sum()) * 1e3), css="name", anchor="end")
    spent = np.max([means for _, _, means in rows], axis=0) > 0
    legend = tuple((f"box part-{k}", word) for k, word in enumerate(WORDS[of]) if word and spent[k])
    return ChartFigure(
        title=f"{of.label.upper()} requests by part of their way",
        note="Means from due time to the end, by service"
        + (", of those in time and of those that were late." if late.any() else "."),
        drawing=chart.render(f"Mean time of {of.label.upper()} requests in each part of their way, by service"),
        legend=legend,
    )
