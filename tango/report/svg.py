"""Charts as inline SVG: marks over two axes, coloured by CSS classes, so that one drawing suits light and dark screens and print.

No script and no font is loaded. All text passes through `element`, which escapes it. Positions are rounded to a tenth of a pixel and
marks of one kind share one path, which keeps a page of a dozen charts near a hundred kilobytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDTH = 520.0
"""Default width of a chart, pixels."""
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 22.0, 30.0
"""Default margins around the plot area, pixels."""
NAMES_LEFT = 80.0, 206.0
"""Least and most left margin of charts with a name in each row: eight and twenty-two characters."""
GLYPH = 9.0
"""Width of a character for which a margin must have space, pixels: the widest of the fonts of the style sheets at the size that they
have on a phone. With the mean of a desk's font, 6.6, names were cut off at the edge of the drawing where another font was there."""

PICTURE_STYLE = """
svg { background: #fff }
text { font: 12px system-ui, sans-serif; fill: #444 } .grid { stroke: #ddd } .axis { stroke: #888 }
.line { fill: none; stroke-width: 2; stroke-linecap: round } .title { font-weight: 600 }
"""
"""Of pictures that stand alone; pages have style sheets."""


def element(name: str, *children: str | Markup, **attributes: object) -> Markup:
    """An SVG element. Attribute values, and children that are not Markup, are escaped; `_` in attribute names becomes `-`.

    A trailing `_` is dropped, so that `class_` can be given.
    """
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"' for key, value in attributes.items())
    inner = Markup("").join(children)
    return Markup(f"<{name}{given}>{inner}</{name}>") if inner else Markup(f"<{name}{given}/>")


def _text(value: object) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def nice_ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Multiples of a round step between `low` and `high`, about so many."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / about
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [round(k * step, 12) for k in range(first, last + 1)]


def log_ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """1, 2 and 5 times the powers of ten between `low` and `high`; fewer factors where those would be more than `about`."""
    powers = [10.0**k for k in range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)]
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [power * factor for power in powers for factor in factors if low <= power * factor <= high]
        if len(ticks) <= about:
            break
    return ticks


def time_ticks(end_s: float, *, about: int = 6) -> list[float]:
    """Instants from 0 to `end_s`, seconds, in steps that are round in seconds, minutes, hours or days; at most `about` + 1."""
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
    step = next((s for s in steps if end_s / s <= about), 86400 * float(np.ceil(end_s / about / 86400)))
    return [k * step for k in range(int(end_s / step + 1e-9) + 1)]


def time_label(at_s: float) -> str:
    """An instant for an axis: `45 s`, `10 min`, `2:30 min`, `2 h`."""
    if at_s == 0:
        return "0"
    if at_s < 120:
        return f"{at_s:g} s"
    minutes, seconds = divmod(round(at_s), 60)
    if at_s < 7200:
        return f"{minutes} min" if not seconds else f"{minutes}:{seconds:02} min"
    return f"{minutes // 60} h" if not minutes % 60 else f"{minutes // 60}:{minutes % 60:02} h"


def number_label(value: float) -> str:
    """A number for an axis: `1,500`, `0.25`."""
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:g}"


def ms_label(value: float) -> str:
    """Milliseconds for an axis: `50 ms`, `2 s`."""
    return f"{value:g} ms" if value < 1000 else f"{value / 1000:g} s"


@dataclass(slots=True)
class Chart:
    """A plot area with a horizontal and a vertical scale, and the marks drawn so far. Sizes are pixels; y grows downwards in SVG."""

    x_range: tuple[float, float]
    """Values at the left and the right end of the plot area."""
    y_range: tuple[float, float]
    """Values at its bottom and its top."""
    height: float = 220.0
    left: float = LEFT
    right: float = RIGHT
    width: float = WIDTH
    log_x: bool = False
    """Whether the horizontal scale is logarithmic; its range must then be above 0."""
    log_y: bool = False
    parts: list[Markup] = field(default_factory=list)

    @property
    def bottom(self) -> float:
        """Vertical position of the horizontal axis."""
        return self.height - BOTTOM

    def x(self, value: Floats | float) -> Floats:
        """Horizontal positions of values, same shape."""
        low, high = self.x_range
        if self.log_x:
            value, low, high = np.log10(value), float(np.log10(low)), float(np.log10(high))
        share = (np.asarray(value, dtype=np.float64) - low) / max(high - low, 1e-12)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: Floats | float) -> Floats:
        """Vertical positions of values, same shape."""
        low, high = self.y_range
        if self.log_y:
            value, low, high = np.log10(value), float(np.log10(low)), float(np.log10(high))
        share = (np.asarray(value, dtype=np.float64) - low) / max(high - low, 1e-12)
        return self.bottom - share * (self.bottom - TOP)

    def axes(
        self,
        *,
        x_ticks: Sequence[float],
        x_label: Callable[[float], str],
        y_ticks: Sequence[float] = (),
        y_label: Callable[[float], str] = number_label,
        unit: str = "",
    ) -> None:
        """Draw grid lines, ticks with labels, the horizontal axis, and the unit of the vertical axis in the corner."""
        right = self.width - self.right
        for tick in y_ticks:
            at = float(self.y(tick))
            self.parts.append(element("line", class_="grid", x1=self.left, x2=right, y1=at, y2=at))
            self.parts.append(element("text", y_label(tick), class_="tick", x=self.left - 6, y=at + 4, text_anchor="end"))
        for tick in x_ticks:
            at = float(self.x(tick))
            anchor = "end" if at > right - 14 else "middle"  # a label centred on the right edge would be cut off
            self.parts.append(element("line", class_="axis", x1=at, x2=at, y1=self.bottom, y2=self.bottom + 4))
            self.parts.append(
                element("text", x_label(tick), class_="tick", x=min(at, right), y=self.bottom + 18, text_anchor=anchor)
            )
        self.parts.append(element("line", class_="axis", x1=self.left, x2=right, y1=self.bottom, y2=self.bottom))
        if unit:
            self.parts.append(element("text", unit, class_="tick", x=0.0, y=12.0))

    def band(self, start: float, end: float) -> None:
        """Shade the plot area outside `start` to `end` of the horizontal axis."""
        for low, high in ((self.x_range[0], start), (end, self.x_range[1])):
            if high > low:
                x0, x1 = float(self.x(low)), float(self.x(high))
                self.parts.append(element("rect", class_="outside", x=x0, y=TOP, width=x1 - x0, height=self.bottom - TOP))

    def line(self, xs: Floats, ys: Floats, *, css: str) -> None:
        """Draw a line that is interrupted where a value is NaN; a single value between gaps becomes a dot."""
        px, py = self.x(xs), self.y(ys)
        known = ~np.isnan(ys)
        commands: list[str] = []
        for index in np.flatnonzero(known):
            joined = index > 0 and known[index - 1]
            commands.append(f"{'L' if joined else 'M'}{px[index]:.1f} {py[index]:.1f}")
            if not joined and (index + 1 == len(ys) or not known[index + 1]):
                commands.append("h.01")  # a line without length is not drawn at all; with round caps this one is a dot
        if commands:
            self.parts.append(element("path", class_=f"line {css}", d="".join(commands)))

    def area(self, xs: Floats, lows: Floats, highs: Floats, *, css: str) -> None:
        """Fill the area between two lines where both have values; a single value between gaps becomes a thin bar."""
        px, low, high = self.x(xs), self.y(lows), self.y(highs)
        known = np.flatnonzero(~np.isnan(lows) & ~np.isnan(highs))
        commands: list[str] = []
        for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
            there = [f"{px[i]:.1f} {high[i]:.1f}" for i in run]
            back = [f"{px[i]:.1f} {low[i]:.1f}" for i in run[::-1]]
            if len(run) == 1:
                there.append(f"{px[run[0]] + 1:.1f} {high[run[0]]:.1f}")
            commands.append("M" + "L".join(there + back) + "z" if there else "")
        if any(commands):
            self.parts.append(element("path", class_=css, d="".join(commands)))

    def bars(self, lefts: Floats, rights: Floats, heights: Floats, *, css: str, base: Floats | float = 0.0) -> None:
        """Draw vertical bars as one path, from `base` upwards by `heights`; bars of height 0 are left out."""
        base = np.broadcast_to(np.asarray(base, dtype=np.float64), heights.shape)
        x0, x1 = self.x(lefts), self.x(rights)
        y0, y1 = self.y(base), self.y(base + heights)
        # A gap of 0.6 pixels separates neighbours; bars that are narrower than that keep 0.4 pixels, so that none vanishes.
        commands = [
            f"M{x0[i]:.1f} {y0[i]:.1f}H{max(x1[i] - 0.6, x0[i] + 0.4):.1f}V{y1[i]:.1f}H{x0[i]:.1f}z"
            for i in np.flatnonzero(heights > 0)
        ]
        if commands:
            self.parts.append(element("path", class_=f"bar {css}", d="".join(commands)))

    def text(self, at_x: float, at_y: float, words: str, *, css: str = "tick", anchor: str = "start", hint: str = "") -> None:
        """Draw text at a position; `hint` is its tooltip."""
        children: list[str | Markup] = [words]
        if hint:
            children.append(element("title", hint))
        self.parts.append(element("text", *children, class_=css, x=at_x, y=at_y, text_anchor=anchor))

    def row_name(self, at_y: float, name: str, *, css: str = "name", hint: str = "") -> None:
        """Draw the name of a row, right-aligned in the left margin and cut to it; the tooltip is the whole name, or another text."""
        self.text(self.left - 6, at_y, fitted(name, self.left - 6), css=css, anchor="end", hint=hint or name)

    def mark(self, shape: Markup) -> None:
        """Add any other shape."""
        self.parts.append(shape)

    def render(self, label: str) -> Markup:
        """The chart as an <svg> element; screen readers read `label`."""
        return element(
            "svg", *self.parts, viewBox=f"0 0 {self.width:.0f} {self.height:.0f}", role="img", aria_label=label, class_="chart"
        )


def heatmap(grid: Floats, rows: Sequence[str], end: float, ticks: Sequence[float], label: str, *, levels: int = 8) -> Markup:
    """A heat map of shares from 0 to 1, shape (rows, bins), in `levels` steps of one colour; NaN stays empty.

    `end` is the time at the right end of the axis, in the unit of `ticks`.
    """
    row_height = 20.0 if len(rows) <= 16 else 14.0 if len(rows) <= 32 else 9.0
    chart = Chart((0.0, end), (0.0, 1.0), height=TOP + BOTTOM + row_height * len(rows), left=names_left(rows))
    chart.axes(x_ticks=ticks, x_label=time_label)
    count = grid.shape[1]
    xs = chart.x(np.minimum(np.arange(count + 1) * (end / count), end))
    level = np.clip(np.floor(np.nan_to_num(grid) * levels), 0, levels - 1)
    for step in range(levels):
        commands = []
        for row, column in np.argwhere((level == step) & ~np.isnan(grid)):
            y0 = TOP + row * row_height
            # 0.2 pixels of overlap hide the hairlines that antialiasing leaves between neighbours.
            commands.append(f"M{xs[column]:.1f} {y0:.1f}H{xs[column + 1] + 0.2:.1f}V{y0 + row_height - 1:.1f}H{xs[column]:.1f}z")
        if commands:
            chart.mark(element("path", class_=f"heat heat-{step}", d="".join(commands)))
    every = 1 if row_height >= 14 else 2  # in lower rows names of 12 pixels would overlap
    for index, name in enumerate(rows):
        if index % every == 0:
            chart.row_name(TOP + index * row_height + row_height / 2 + 4, name, css="tick")
    return chart.render(label)


def names_left(names: Sequence[str]) -> float:
    """A left margin in which all of these names are drawn whole, if that leaves the plot more than half of the width."""
    least, most = NAMES_LEFT
    return float(min(max(least, GLYPH * max((len(name) for name in names), default=0) + 8.0), most))


def fitted(name: str, pixels: float) -> str:
    """The name, cut in its middle where it needs more than so many pixels in the widest font."""
    return shorten(name, int(pixels / GLYPH))


def shorten(name: str, at_most: int) -> str:
    """The name cut to `at_most` characters with an ellipsis in its middle, where long names differ least."""
    if len(name) <= at_most:
        return name
    tail = at_most // 2
    return f"{name[: at_most - tail - 1]}…{name[-tail:]}"
