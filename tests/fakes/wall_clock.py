"""Wall time that passes only while somebody sleeps, for use cases that take a `clock`."""

from __future__ import annotations

from collections.abc import Callable

from tests.fakes.memory_state import MemoryState


class WallClock:
    """Implements `tango.ports.clock.Clock`. The stores' clock goes along, so that leases run out while a use case sleeps.

    Every look moves it by a hair, as in `MemoryState`: a loop that waits for a time is never caught by a rounding error.
    """

    def __init__(self, state: MemoryState, *, start_s: float) -> None:
        self._state = state
        self._now_s = start_s
        self._planned: list[tuple[float, Callable[[], object]]] = []
        self.slept_s: list[float] = []
        """Lengths asked for, in order."""

    def now_s(self) -> float:
        """Unix seconds."""
        self._now_s += 1e-6
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Turn both clocks on; what was planned for a time on the way happens before the sleeper wakes."""
        assert seconds >= 0.0, f"nobody can sleep {seconds} s"
        self.slept_s.append(seconds)
        self.turn(seconds)
        due = [plan for plan in self._planned if plan[0] <= self._now_s]
        self._planned = [plan for plan in self._planned if plan[0] > self._now_s]
        for _, act in due:
            act()

    def turn(self, seconds: float) -> None:
        """Let time pass for everybody."""
        self._now_s += seconds
        self._state.time_s += seconds

    def at(self, at_s: float, act: Callable[[], object]) -> None:
        """Do something when somebody has slept past Unix time `at_s`."""
        self._planned.append((at_s, act))
