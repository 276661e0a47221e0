"""A clock and timers that a test turns by hand, for code that takes `clock` and `call_later`."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class ManualTimer:
    """What `call_later` gives."""

    call: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        """Do not call."""
        self.cancelled = True


class ManualClock:
    """Time stands still until `run_to`; timers fire up to `late_s` after their time, as those of an event loop do."""

    def __init__(self, *, late_s: float = 0.0) -> None:
        self.now_s = 100.0
        self.late_s = late_s
        self.fired = 0
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int, ManualTimer]] = []

    def __call__(self) -> float:
        """The time."""
        return self.now_s

    def call_later(self, delay_s: float, call: Callable[[], None]) -> ManualTimer:
        """Set a timer."""
        timer = ManualTimer(call)
        heapq.heappush(self._timers, (self.now_s + delay_s + self.late_s, next(self._numbers), timer))
        return timer

    def run_to(self, at_s: float) -> None:
        """Turn the clock on to `at_s` (counted from 100) and fire what falls due on the way."""
        while self._timers and self._timers[0][0] <= 100.0 + at_s:
            due_s, _, timer = heapq.heappop(self._timers)
            self.now_s = max(self.now_s, due_s)
            if not timer.cancelled:
                self.fired += 1
                timer.call()
        self.now_s = 100.0 + at_s
