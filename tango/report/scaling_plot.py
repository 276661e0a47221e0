"""Engine time over the number of requests and of nodes, as a stand-alone SVG with two panels on logarithmic axes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from tango.report.svg import PICTURE_STYLE, WIDTH, Chart, element, log_ticks, number_label

_STYLE = (
    PICTURE_STYLE
    + """.tango { stroke: #0072b2 } .bare { stroke: #d55e00 }
.linear { stroke: #999; stroke-width: 1; stroke-dasharray: 4 4 }
"""
)
_ROW = re.compile(r"engine seconds, (\d+) (requests|nodes),")


def scaling_plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """SVG text of the rows that `tango bench simulator --scaling -o json` prints; rows of other names are ignored."""
    panels = []
    for k, (unit, title) in enumerate((("requests", "1,000 nodes"), ("nodes", "1,000,000 requests"))):
        points = sorted(
            (float(found[1]), float(row["value"]), float(row["yardstick_value"]))
            for row in rows
            if (found := _ROW.match(str(row["name"]))) and found[2] == unit
        )
        panel = _panel(np.array(points), unit, title)
        # An <svg> inside another needs a position and a size of its own.
        panels.append(panel.replace("<svg ", Markup(f'<svg x="{k * WIDTH:.0f}" y="0" width="{WIDTH:.0f}" height="260" '), 1))
    body = Markup("").join((element("style", Markup(_STYLE)), *panels))
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH:.0f} 260" width="{2 * WIDTH:.0f}" height="260">{body}</svg>\n'


def _panel(points: np.ndarray, unit: str, title: str) -> Markup:
    at, tango, bare = points.T
    low, high = float(min(tango.min(), bare.min())) / 1.5, float(max(tango.max(), bare.max())) * 1.5
    chart = Chart((float(at.min()), float(at.max())), (low, high), height=260.0, log_x=True, log_y=True)
    chart.axes(
        x_ticks=at.tolist(),
        x_label=lambda v: f"{v / 1e6:g} M" if v >= 1e6 else f"{v / 1e3:g} k" if v >= 1e3 else f"{v:g}",
        y_ticks=log_ticks(low, high),
        y_label=number_label,
        unit=f"engine seconds over {unit}, {title}",
    )
    if unit == "requests":
        chart.line(at, tango[0] * at / at[0], css="linear")
    chart.line(at, bare, css="bare")
    chart.line(at, tango, css="tango")
    for name, values, lift in (("tango", tango, -8.0), ("bare engine", bare, 18.0)):
        chart.text(float(chart.x(at[-2])), float(chart.y(values[-2])) + lift, name, anchor="middle")
    return chart.render(f"engine seconds over {unit}")
