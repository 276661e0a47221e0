"""What a process needs to know of a run again and again: its system, its speed, its zero."""

from __future__ import annotations

from tango.domain.runs import RunInfo
from tango.ports import Clock, RunStore


class RunFacts:
    """The fixed facts of runs, each read once. `RunInfo.status` is as of that reading: who wants the status asks the store."""

    def __init__(self, runs: RunStore, clock: Clock) -> None:
        self._runs = runs
        self._clock = clock
        self._seen: dict[int, RunInfo] = {}

    def info(self, run_id: int) -> RunInfo:
        """A run; read again until its zero is known. Raises: UsageError for one that does not exist."""
        seen = self._seen.get(run_id)
        if seen is None or seen.started_at_s is None:
            seen = self._seen[run_id] = self._runs.run(run_id)
        return seen

    def zero_s(self, run_id: int) -> float:
        """Unix time of a run's zero; now, while it has not begun. Raises: as `info`."""
        zero_s = self.info(run_id).started_at_s
        return self._clock.now_s() if zero_s is None else zero_s
