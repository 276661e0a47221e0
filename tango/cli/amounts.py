"""Spans of time and sizes as people type them: `30d`, `12h`, `20GB`."""

from __future__ import annotations

import re
from typing import Any

import click

_UNITS_S = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_UNITS_BYTES = {
    "": 1,
    "b": 1,
    "k": 10**3,
    "kb": 10**3,
    "m": 10**6,
    "mb": 10**6,
    "g": 10**9,
    "gb": 10**9,
    "t": 10**12,
    "tb": 10**12,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}
_FORM = re.compile(r"(\d+\.?\d*|\.\d+)\s*([A-Za-z]*)")


MOST = 1e18
"""Largest amount, in seconds or bytes: more than the age of the world, and a number for a database."""


def _bounded(kind: click.ParamType[Any], amount: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
    if amount > MOST:
        kind.fail(f"it is larger than any {kind.name} that there is.", param, ctx)
    return amount


class Span(click.ParamType[float]):
    """A span of time with its unit, as seconds."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises: click.BadParameter for what has no unit: nobody can tell `30` seconds from 30 days."""
        found = _FORM.fullmatch(str(value).strip())
        unit_s = _UNITS_S.get(found[2].lower()) if found else None
        if found is None or unit_s is None:
            self.fail(
                f"{value!r} is no span of time: a number with its unit was expected, such as 90s, 30min, 12h, 30d or 4w.",
                param,
                ctx,
            )
        return _bounded(self, float(found[1]) * unit_s, param, ctx)


class Size(click.ParamType[int]):
    """A number of bytes, with or without a unit."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Raises: click.BadParameter for another unit."""
        found = _FORM.fullmatch(str(value).strip())
        unit = _UNITS_BYTES.get(found[2].lower()) if found else None
        if found is None or unit is None:
            self.fail(f"{value!r} is no size: a number of bytes was expected, such as 500MB, 20GB or 2TiB.", param, ctx)
        return round(_bounded(self, float(found[1]) * unit, param, ctx))


SPAN = Span()
SIZE = Size()
