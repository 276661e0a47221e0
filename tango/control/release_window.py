"""How long the keeper of a journal gathers requests before it releases and announces them."""

from __future__ import annotations

from tango.settings import ReplaySettings

RATE_OVER_S = 0.5
"""Seconds that the moving average of the rate goes back. Chosen, not measured."""
LATE_WEIGHT, MOST_LATE_S = 0.05, 0.1
"""Weight of one waking in the moving average of how late the keeper is woken: some twenty windows; and the most that one counts."""
LATE_TIMES = 10.0
"""How many times as long as that a window is at the least. A thread that is woken 4 ms late found both cores taken: what a message costs by
itself is then taken from requests, and windows of 40 ms cost half as much as those of 20 ms."""


class ReleaseWindow:
    """How long to gather requests before the next release: short at low rates, for low latency; longer at high rates, and where the
    machine is busy, so that many requests share the cost of a message."""

    def __init__(self, settings: ReplaySettings) -> None:
        self._settings = settings
        self._last: tuple[float, int] | None = None
        self._rate_per_s = 0.0
        self._late_s = 0.0

    def woken(self, *, late_s: float) -> None:
        """The keeper was woken so many seconds later than it asked for; less than 0: somebody else woke it."""
        self._late_s += LATE_WEIGHT * (min(MOST_LATE_S, max(0.0, late_s)) - self._late_s)

    def length_s(self, now_s: float, released: int) -> float:
        """The window in seconds; `released`: requests released so far."""
        if self._last is not None and now_s > self._last[0]:
            elapsed_s = now_s - self._last[0]
            share = min(1.0, elapsed_s / RATE_OVER_S)
            self._rate_per_s += share * ((released - self._last[1]) / elapsed_s - self._rate_per_s)
        self._last = now_s, released
        s = self._settings
        by_rate_s = s.longest_window_s * min(1.0, self._rate_per_s / s.longest_window_at_per_s)
        return max(s.window_s, by_rate_s, min(s.longest_wait_s, LATE_TIMES * self._late_s))
