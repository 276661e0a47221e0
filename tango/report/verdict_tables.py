"""Verdicts as two tables for a terminal, and the texts that these share with the plots of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tango.analysis.compared_metrics import NOTHING
from tango.analysis.comparison import TableColumn
from tango.analysis.verdicts import JUDGED, Verdict, Verdicts

HEADINGS = {"lc_qos_rate": "QoS rate", "be_cpu_seconds_per_s": "BE", "utilization_cpu": "CPU"}
"""Short headings of the judged figures."""


def verdict_table(verdicts: Verdicts) -> tuple[list[TableColumn], list[dict[str, str]]]:
    """(columns, rows): for each scenario and other system the differences ± half their interval, whether the margin holds, and the claim.

    `*` marks the best other system of the scenario, by its mean of the figure.
    """
    many = len({row.scenario for row in verdicts.rows}) > 1
    columns = [TableColumn("scenario", "scenario", 10, right=False)] if many else []
    columns += [TableColumn("baseline", f"{verdicts.system} against", 10, right=False), TableColumn("pairs", "seeds", 2)]
    for priority, judged in zip((9, 8, 7), JUDGED, strict=True):
        name = judged.metric.name
        unit = "%" if judged.relative else "points"
        columns.append(TableColumn(name, f"{HEADINGS[name]}, {unit}", priority))
        columns.append(TableColumn(f"{name}_verdict", "holds" if judged.margin is not None else "Holm", priority, right=False))
        if not judged.relative:
            columns.append(TableColumn(f"{name}_relative", f"{HEADINGS[name]}, %", 1, wide=True))
        columns.append(TableColumn(f"{name}_p", "p (Holm)", 1, wide=True))
    return columns, [_table_row(pair, rows) for pair, rows in verdicts.pairs.items()]


def relative_table(verdicts: Verdicts) -> tuple[list[TableColumn], list[dict[str, str]]]:
    """(columns, rows): for each other system the mean, least and greatest relative difference over all scenarios."""
    columns = [TableColumn("baseline", f"{verdicts.system} relative to", 10, right=False)]
    columns += [TableColumn(judged.metric.name, f"{judged.metric.title}, %", 9) for judged in JUDGED]
    rows = [{"baseline": other, **{n: _spread(s) for n, s in figures.items()}} for other, figures in verdicts.relative().items()]
    return columns, rows


def _spread(shares: tuple[float, float, float]) -> str:
    """Mean, least and greatest share as text in per cent, `+22.3 (+11.0 to +35.4)`; one number if all are equal."""
    mean, least, most = (_signed(100.0 * share) for share in shares)
    return mean if least == most else f"{mean} ({least} to {most})"


def _table_row(pair: tuple[str, str], rows: Iterable[Verdict]) -> dict[str, str]:
    texts = {"scenario": pair[0], "baseline": pair[1]}
    for row in rows:
        name, relative = row.judged.metric.name, row.difference.paired.relative
        texts["pairs"] = str(row.difference.paired.pairs)
        texts[name] = f"{difference_in_words(row)}{'*' if row.best else ' '}"
        texts[f"{name}_verdict"] = verdict_in_words(row)
        texts[f"{name}_relative"] = NOTHING if relative is None else _signed(100.0 * relative)
        texts[f"{name}_p"] = NOTHING if row.p_holm is None else f"{row.p_holm:.2g}"
    return texts


def difference_in_words(row: Verdict) -> str:
    """A difference as text, `+0.726 ± 0.082`, in points or per cent; `0` if there is none, a dash without pairs."""
    mean, half = row.shown(row.difference.paired.mean), row.shown(row.difference.half)
    if mean is None:
        return NOTHING
    if mean == 0.0 and not half:
        return "0"
    places = _places(max(abs(mean), half or 0.0))
    return f"{mean:+,.{places}f}" if half is None else f"{mean:+,.{places}f} ± {half:,.{places}f}"


def verdict_in_words(row: Verdict) -> str:
    """Whether the margin holds and what may be claimed: `yes`, `yes, better`, `no, worse`; only the claim if there is no margin."""
    if row.difference.paired.low is None:
        return NOTHING
    if row.holds is None:
        return row.claim or NOTHING
    return ("yes" if row.holds else "no") + (f", {row.claim}" if row.claim else "")


def _signed(value: float) -> str:
    """A number with its sign and three digits; `0` for 0."""
    return "0" if value == 0.0 else f"{value:+,.{_places(abs(value))}f}"


def _places(size: float) -> int:
    return 2 if size == 0.0 else min(3, max(0, 2 - math.floor(math.log10(size))))
