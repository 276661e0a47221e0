"""What people look at while a fleet runs: a few bounded reads, cheap enough to be repeated every second."""

from __future__ import annotations

from typing import Protocol

from tango.domain.live_view import LiveLately, LiveNow


class LiveView(Protocol):
    """Reads of the centre that change nothing. Raises: StoreUnavailable, StoreError."""

    def now(self) -> LiveNow:
        """The fleet at one instant; what is read is bounded by the number of nodes, not by that of requests."""
        ...

    def lately(self) -> LiveLately:
        """The last `WINDOW_S` seconds, or as much of it as the newest requests that are read at once reach back."""
        ...
