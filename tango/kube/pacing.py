"""At most so many calls a second to one API server, with some at once, and fewer while it says that these are too many: a guest leaves room
for others, whatever goes wrong.

The generic cell rate algorithm (ITU-T I.371): one number, the time at which the calls so far would be done at the given rate. The rate
falls by half with a refusal for overload and comes back bit by bit, as TCP's congestion window does (AIMD; Chiu and Jain, 1989).
"""

from __future__ import annotations

import time
from collections.abc import Callable

SLOWED_EVERY_S = 1.0
"""Seconds in which several refusals count as one: what was under way when the first came says nothing new."""
RECOVERED_PER_S = 0.05
"""Share of the full rate that comes back in a second: all of it twenty seconds after all was taken."""
LEAST_SHARE = 1 / 32
"""Least share of the full rate: some calls must go on, to see when the server takes more."""


class Pace:
    """Calls per second, and how many may come at once after a pause."""

    def __init__(self, calls_per_s: float, at_once: int, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._interval_s, self._slack_s, self._now_s = 1.0 / calls_per_s, (at_once - 1) / calls_per_s, now_s
        self._done_at_s = -float("inf")
        self._share, self._slowed_at_s = 1.0, -float("inf")
        """Of the full rate, at the last refusal."""

    def turn_s(self) -> float:
        """Take the next turn, and give the seconds until it comes; 0: now."""
        now_s = self._now_s()
        due_s = max(self._done_at_s, now_s)
        self._done_at_s = due_s + self._interval_s / self._share_at(now_s)
        return max(0.0, due_s - self._slack_s - now_s)

    def slowed(self) -> None:
        """The server has refused a call because there are too many: half as many from now on."""
        now_s = self._now_s()
        if now_s - self._slowed_at_s >= SLOWED_EVERY_S:
            self._share, self._slowed_at_s = max(LEAST_SHARE, self._share_at(now_s) / 2), now_s
            self._done_at_s = max(self._done_at_s, now_s + self._slack_s)  # none at once

    def _share_at(self, now_s: float) -> float:
        return 1.0 if self._share >= 1.0 else min(1.0, self._share + RECOVERED_PER_S * (now_s - self._slowed_at_s))
