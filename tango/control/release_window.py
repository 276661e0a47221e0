"""How long the keeper of a journal gathers requests before it releases and announces them."""

from __future__ import annotations

from tango.settings import ReplaySettings

RATE_OVER_S = 0.5
"""Seconds that the moving average of the rate goes back. Chosen, not measured."""


class ReleaseWindow:
    """How long to gather requests before the next release: short at low rates, for low latency; longer at high rates, so that many
    requests share the cost of a message."""

    def __init__(self, settings: ReplaySettings) -> None:
        self._settings = settings
        self._last: tuple[float, int] | None = None
        self._rate_per_s = 0.0

    def length_s(self, now_s: float, released: int) -> float:
        """The window in seconds; `released`: requests released so far."""
        if self._last is not None and now_s > self._last[0]:
            elapsed_s = now_s - self._last[0]
            share = min(1.0, elapsed_s / RATE_OVER_S)
            self._rate_per_s += share * ((released - self._last[1]) / elapsed_s - self._rate_per_s)
        self._last = now_s, released
        s = self._settings
        return max(s.window_s, s.longest_window_s * min(1.0, self._rate_per_s / s.longest_window_at_per_s))
