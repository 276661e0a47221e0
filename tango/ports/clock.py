"""The clock, as a port: use cases ask it for the time and wait by it, and never read a clock themselves."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall time, passed in so that use cases can be tested without waiting."""

    def now_s(self) -> float:
        """Unix time in seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block this thread for so many seconds, at least 0."""
        ...
