"""The clock, as a port: use cases ask it for the time and never read it themselves."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall time, passed in so that use cases can be tested without waiting."""

    def now_s(self) -> float:
        """Unix time in seconds."""
        ...
