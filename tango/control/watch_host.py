"""Look how far the CPU of this host is used while anything is to be served here, and tell the centre."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tango.domain.host_use import CpuTimes, HostUse, use_between


@dataclass(slots=True, kw_only=True)
class HostWatch:
    """Of one process; those of several processes on a host tell the same of it."""

    host: str
    read: Callable[[], CpuTimes]
    is_busy: Callable[[], bool]
    """Whether anything is to be served: while nothing is, nothing is written."""
    note: Callable[[HostUse], None]
    every_s: float
    """Seconds that a sample is of."""
    _before: CpuTimes | None = field(default=None)

    def step(self) -> float:
        """One look; gives the seconds until the next. Raises: StoreUnavailable, and the time until the next look is told with that one."""
        if not self.is_busy():
            self._before = None
            return self.every_s
        now = self.read()
        found = use_between(self.host, self._before, now) if self._before is not None else None
        if found is not None:
            self.note(found)
        if found is not None or self._before is None:
            self._before = now
        return self.every_s
