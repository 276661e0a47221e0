"""Pauses after failures in a row, for several things told apart by a key: doubled each time up to a bound, less up to half at random."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

MOST_DOUBLINGS = 30
"""Beyond this any bound is reached, and powers of two would grow without one."""


def pause_s(failures: int, first_s: float, longest_s: float) -> float:
    """Seconds to wait after one failure more than these in a row (0: the first), so that many who failed together come back apart."""
    return min(longest_s, first_s * 2.0 ** min(failures, MOST_DOUBLINGS)) * random.uniform(0.5, 1.0)


@dataclass(slots=True)
class Backoff:
    """What may be tried again, and when. Times are of any one clock, in seconds."""

    first_s: float = 1.0
    longest_s: float = 60.0
    free: int = 0
    """Failures in a row that cost no pause yet."""
    _failed: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By key: failures in a row, and the time before which nothing is tried."""

    def is_open(self, key: str, now_s: float) -> bool:
        """Whether it may be tried now."""
        return now_s >= self._failed.get(key, (0, now_s))[1]

    def has_failed(self, key: str) -> bool:
        """Whether it failed when it was last tried."""
        return key in self._failed

    def failed(self, key: str, now_s: float, *, at_least_s: float = 0.0) -> float:
        """It failed just now; gives the seconds until it may be tried again."""
        failures, _ = self._failed.get(key, (0, 0.0))
        wait_s = 0.0 if failures < self.free else pause_s(failures - self.free, self.first_s, self.longest_s)
        wait_s = max(at_least_s, wait_s)
        self._failed[key] = failures + 1, now_s + wait_s
        return wait_s

    def went_well(self, key: str) -> None:
        """It went well: the next failure is a first one."""
        self._failed.pop(key, None)
