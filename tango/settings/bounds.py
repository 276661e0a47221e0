"""Bounds of settings."""

from __future__ import annotations

from tango.errors import ConfigError

LONGEST_S = 1e7
"""Seconds, a third of a year: beyond it a span is a slip of the keyboard."""


def within(settings: object, low: float, high: float, *names: str, above: bool = False) -> None:
    """Raises: ConfigError for a setting out of bounds; `above`: the lower bound itself is out of bounds too."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not (low <= value <= high and (value > low or not above)):
            bounds = f"above {low:g}" if above else f"from {low:g}"
            raise ConfigError(f"{type(settings).__name__} {name} is {value:g}, expected a number {bounds} to {high:g}")
