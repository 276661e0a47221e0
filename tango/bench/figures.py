"""The one form in which every benchmark reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value, beside a yardstick measured in the same run where there is one."""

    name: str
    value: float
    unit: str
    yardstick: str = ""
    yardstick_value: float | None = None

    def as_row(self) -> dict[str, object]:
        """Keys: `name value unit yardstick yardstick_value ratio`."""
        ratio = self.value / self.yardstick_value if self.yardstick_value else None
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "yardstick": self.yardstick or None,
            "yardstick_value": None if self.yardstick_value is None else round(self.yardstick_value, 4),
            "ratio": None if ratio is None else round(ratio, 4),
        }
