"""Verdicts as forest plots: a row for each other system, a panel for each figure, each difference with its interval and the margin.

The axis always spans a few margins, whatever the differences are, because what matters is on which side of the margin an interval lies.
A difference beyond the axis is an arrow at the edge, with its number beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tango.analysis.verdicts import JUDGED, Judged, Verdict, Verdicts
from tango.report.comparison_charts import FULL, ROW, Panel, PanelGroup, minus
from tango.report.svg import BOTTOM, Chart, element, fitted, nice_ticks, number_label, shorten
from tango.report.verdict_tables import difference_in_words, verdict_in_words

LABEL, HEAD = 142.0, 30.0
"""Pixels left of the panels for names, and above them for titles."""
PLOT_SHARE = 0.45
"""Share of the plot in the width of a panel; the rest is text."""
MARGINS_SHOWN = 4.0
"""Length of the axis to either side of 0, in margins."""
REACH = 4.0
"""Length of the axis to either side of 0, in per cent, for a figure without a margin."""
BEST = "against the best of the others"


class ForestRow(NamedTuple):
    """A row of the plot: its name, the CSS class of its mark (empty: the colour of text), and (verdict, text after it) by figure."""

    name: str
    css: str
    verdicts: Sequence[tuple[Verdict, str]]


def verdict_figures(verdicts: Verdicts, colours: dict[str, str]) -> list[PanelGroup]:
    """The plots: if there are several scenarios, one against the best other system in each; then one against all for each scenario.

    Empty if there are no intervals, which need two seeds.
    """
    if not verdicts.summary()["tests"]:
        return []
    scenarios = dict.fromkeys(row.scenario for row in verdicts.rows)
    groups = []
    if len(scenarios) > 1:
        rows = [ForestRow(scenario, "", _of_best(verdicts, scenario)) for scenario in scenarios]
        groups.append(_group(verdicts, BEST, rows))
    for scenario in scenarios:
        rows = [
            ForestRow(other, colours[other], [(row, _claim(row)) for row in found])
            for (where, other), found in verdicts.pairs.items()
            if where == scenario
        ]
        groups.append(_group(verdicts, scenario, rows))
    return groups


def _of_best(verdicts: Verdicts, scenario: str) -> list[tuple[Verdict, str]]:
    return [(row, shorten(row.baseline, 12)) for row in verdicts.rows if row.scenario == scenario and row.best]


def _claim(row: Verdict) -> str:
    """The text after a difference: the claim, preceded by "not held" if the margin is not held."""
    words = verdict_in_words(row) if row.holds is False else row.claim
    return words.replace("no", "not held", 1) if row.holds is False else words


def _group(verdicts: Verdicts, title: str, rows: Sequence[ForestRow]) -> PanelGroup:
    words = f"{verdicts.system} minus each other system with intervals and margins, {title}"
    heading = f"{verdicts.system} {title}" if title == BEST else title
    return PanelGroup(title=heading, note="", kind="wide", panels=(Panel(title="", drawing=_forest(rows).render(words)),))


def _forest(rows: Sequence[ForestRow]) -> Chart:
    chart = Chart((0.0, 1.0), (0.0, 1.0), height=HEAD + ROW * len(rows) + BOTTOM, width=FULL)
    for place, row in enumerate(rows):
        y = HEAD + (place + 0.5) * ROW
        if row.css:
            chart.mark(element("rect", class_=f"swatch {row.css}", x=0.0, y=y - 5, width=10.0, height=10.0))
        chart.text(16.0 if row.css else 0.0, y + 4, fitted(row.name, LABEL - 16.0), css="name", hint=row.name)
    width = (FULL - LABEL) / len(JUDGED)
    for place, judged in enumerate(JUDGED):
        _column(chart, judged, rows, left=LABEL + place * width, width=width)
    return chart


def _column(chart: Chart, judged: Judged, rows: Sequence[ForestRow], *, left: float, width: float) -> None:
    margin = None if judged.margin is None else 100.0 * judged.margin
    reach = REACH if margin is None else MARGINS_SHOWN * margin
    scale = Chart((-reach, reach), (0.0, 1.0), width=left + width * PLOT_SHARE, left=left + 6, right=0.0)
    bottom = HEAD + ROW * len(rows)
    first, zero, last = (float(scale.x(v)) for v in (-reach, 0.0, reach))
    # A margin says how much worse is still good enough, so what counts as held begins to the left of 0.
    held = zero if margin is None else float(scale.x(-margin))
    chart.mark(element("rect", class_="better", x=held, y=HEAD, width=last - held, height=bottom - HEAD))
    chart.text(left + 6, 14.0, f"{judged.metric.title}, {'%' if judged.relative else 'points'}", css="name strong")
    for tick in nice_ticks(-reach, reach, about=4):
        at = float(scale.x(tick))
        chart.mark(element("line", class_="axis", x1=at, x2=at, y1=bottom, y2=bottom + 4))
        chart.text(at, bottom + 17, minus(number_label(tick)), anchor="middle")
    chart.mark(element("line", class_="axis", x1=first, x2=last, y1=bottom, y2=bottom))
    chart.mark(element("line", class_="zero", x1=zero, x2=zero, y1=HEAD, y2=bottom))
    if margin is not None:
        chart.mark(element("line", class_="line target", x1=held, x2=held, y1=HEAD - 6, y2=bottom))
    for place, row in enumerate(rows):
        for verdict, words in row.verdicts:
            if verdict.judged is judged:
                _row(chart, scale, verdict, words, row.css, y=HEAD + (place + 0.5) * ROW, at=left + width * PLOT_SHARE + 10)


def _row(chart: Chart, scale: Chart, row: Verdict, words: str, css: str, *, y: float, at: float) -> None:
    paired = row.difference.paired
    mean, low, high = (row.shown(value) for value in (paired.mean, paired.low, paired.high))
    bad = " bad" if row.holds is False else ""
    text = f"{minus(difference_in_words(row))}{'*' if row.best and css else ''} {words}".strip()
    chart.text(at, y + 4, text, css=f"name{bad}")
    if mean is None:
        return
    (start, end), color = scale.x_range, css or "sys"
    if low is not None and high is not None and low < end and high > start:
        x0, x1 = float(scale.x(max(low, start))), float(scale.x(min(high, end)))
        left = "m0 -4v8m0 -4" if low >= start else ""
        right = "m0 -4v8" if high <= end else ""
        chart.mark(element("path", class_=f"whisker {color}", d=f"M{x0:.1f} {y:.1f}{left}H{x1:.1f}{right}"))
    # A mean beyond the axis becomes an arrowhead at that edge, pointing outwards.
    if start <= mean <= end:
        hollow = "" if row.claim else " hollow"
        chart.mark(element("circle", class_=f"dot {color}{hollow}", cx=float(scale.x(mean)), cy=y, r=4.5))
    else:
        x, way = (float(scale.x(end)), -1) if mean > end else (float(scale.x(start)), 1)
        chart.mark(element("path", class_=f"dot {color}", d=f"M{x:.1f} {y:.1f}l{way * 9} -5v10z"))
