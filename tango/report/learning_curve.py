"""The learning curve of a training as a stand-alone SVG: gain over the reference policy on the validation seeds, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from tango.report.svg import PICTURE_STYLE, TOP, Chart, element, nice_ticks, number_label

_STYLE = (
    PICTURE_STYLE
    + """.gain { stroke: #0072b2 } .interval { fill: #0072b2; opacity: .18 }
.reference { stroke: #999; stroke-dasharray: 4 4 } .best { fill: #d55e00 }
"""
)
_HEIGHT = 280.0
"""Of the picture, in its own units (`Chart.width`)."""


def learning_curve(rows: Sequence[Mapping[str, Any]], *, title: str) -> str:
    """SVG text of the validations among the rows of a training's curve file; says "No validation yet." if there is none."""
    points = [row for row in rows if row.get("kind") == "validation"]
    chart = Chart((0.0, 1.0), (0.0, 1.0), height=_HEIGHT)
    if points:
        chart = _curve(points)
    else:
        chart.text(chart.left, _HEIGHT / 2, "No validation yet.")
    chart.text(chart.left, TOP + 14, title, css="title")
    drawing = chart.render(f"{title}: gain on the validation seeds over iterations")
    # A file of its own needs a namespace and a size, which an <svg> inside a page does not.
    sized = drawing.replace("<svg ", Markup('<svg xmlns="http://www.w3.org/2000/svg" width="{:.0f}" ').format(1.5 * chart.width), 1)
    opening = sized.index(">") + 1
    return f"{sized[:opening]}{element('style', Markup(_STYLE))}{sized[opening:]}\n"


def _curve(points: Sequence[Mapping[str, Any]]) -> Chart:
    at, gain, margin = (
        np.array([float(row[name]) for row in points]) for name in ("iteration", "validation_gain", "validation_margin")
    )
    low, high = min(0.0, float((gain - margin).min())), max(0.0, float((gain + margin).max()))
    padding = 0.15 * (high - low) or 1e-3
    chart = Chart((0.0, float(at[-1])), (low - padding, high + 2 * padding), height=_HEIGHT)
    chart.axes(
        x_ticks=nice_ticks(0.0, float(at[-1])),
        x_label=number_label,
        y_ticks=nice_ticks(low - padding, high + 2 * padding),
        y_label=lambda value: f"{value:+.4g}" if value else "0",
        unit=f"gain over {points[-1]['validation_reference']}, mean and 95 % interval over validation seeds; iterations",
    )
    chart.line(np.array([0.0, float(at[-1])]), np.zeros(2), css="reference")
    chart.area(at, gain - margin, gain + margin, css="interval")
    chart.line(at, gain, css="gain")
    best = int(np.argmax(gain))
    chart.mark(element("circle", class_="best", cx=float(chart.x(at[best])), cy=float(chart.y(gain[best])), r=4.0))
    return chart
