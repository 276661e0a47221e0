"""The form in which every benchmark returns its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Told = Callable[[str], None]
"""Receives messages about the progress of a benchmark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value, with the yardstick that was measured in the same run if there is one."""

    name: str
    value: float
    unit: str
    """Of both values, such as `1/s`."""
    yardstick: str = ""
    """What the other value is; empty: there is none."""
    yardstick_value: float | None = None

    def as_row(self) -> dict[str, object]:
        """The figure under the keys that `tango bench` prints as JSON: `name value unit yardstick yardstick_value ratio`.

        Numbers are rounded to four digits; `ratio` is value / yardstick_value.
        """
        ratio = self.value / self.yardstick_value if self.yardstick_value else None
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "yardstick": self.yardstick or None,
            "yardstick_value": None if self.yardstick_value is None else round(self.yardstick_value, 4),
            "ratio": None if ratio is None else round(ratio, 4),
        }
