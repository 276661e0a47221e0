"""A cache of what does not change in a run: its system, its speed, its time zero."""

from __future__ import annotations

from typing import Protocol

from tango.domain.runs import RunInfo
from tango.ports.clock import Clock


class KnownRuns(Protocol):
    """The centre's store of runs, or the journal, which has those of its cluster."""

    def run(self, run_id: int) -> RunInfo:
        """Raises: UsageError if there is no such run."""
        ...


class RunFacts:
    """Runs by id, each read from the store once it has begun. `RunInfo.status` may be out of date here; ask the store for it."""

    def __init__(self, runs: KnownRuns, clock: Clock) -> None:
        self._runs = runs
        self._clock = clock
        self._seen: dict[int, RunInfo] = {}

    def info(self, run_id: int) -> RunInfo:
        """A run; read from the store again until its zero is known. Raises: UsageError for one that does not exist, StoreUnavailable."""
        seen = self._seen.get(run_id)
        if seen is None or seen.started_at_s is None:
            seen = self._seen[run_id] = self._runs.run(run_id)
        return seen

    def zero_s(self, run_id: int) -> float:
        """Unix time of a run's zero; the present time while the run has not begun. Raises: as `info`."""
        zero_s = self.info(run_id).started_at_s
        return self._clock.now_s() if zero_s is None else zero_s
