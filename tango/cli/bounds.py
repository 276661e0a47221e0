"""Types of options that are numbers. Every option of a number has one of these, so that what it takes ends where the rest of Tango does."""

from __future__ import annotations

import math
from typing import Any

import click

MOST_WHOLE = 2**63 - 1
"""Largest value of PostgreSQL's bigint."""


class Real(click.FloatRange):
    """A finite number within bounds; click's own lets NaN through, since every comparison with it is false."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Fails for what is no number, not finite, or out of bounds."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number} is no finite number.", param, ctx)
        return number


class Whole(click.IntRange):
    """A whole number within its bounds, and within those of PostgreSQL's bigint.

    Of a larger one PostgreSQL would speak in its own words ("bigint out of range"), late and without the name of the option.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Fails for what is no whole number, or out of bounds."""
        number = int(super().convert(value, param, ctx))
        if not -MOST_WHOLE <= number <= MOST_WHOLE:
            self.fail(f"it has {len(str(abs(number)))} digits; at most {MOST_WHOLE} was expected.", param, ctx)
        return number
