"""At most so many calls a second to one API server, with some at once: a guest leaves room for others, whatever goes wrong.

The generic cell rate algorithm (ITU-T I.371): one number, the time at which the calls so far would be done at the given rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Calls per second, and how many may come at once after a pause."""

    def __init__(self, calls_per_s: float, at_once: int, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._interval_s, self._slack_s, self._now_s = 1.0 / calls_per_s, (at_once - 1) / calls_per_s, now_s
        self._done_at_s = -float("inf")

    def turn_s(self) -> float:
        """Take the next turn, and give the seconds until it comes; 0: now."""
        now_s = self._now_s()
        due_s = max(self._done_at_s, now_s)
        self._done_at_s = due_s + self._interval_s
        return max(0.0, due_s - self._slack_s - now_s)
