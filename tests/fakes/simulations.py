"""Simulated runs in memory: the same contract as `tango.store.simulations`, held to it by `tests/contract/test_simulation_store.py`."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tango.domain.runs import ENDED, RunStatus
from tango.domain.simulations import (
    ClaimedSimulation,
    NewSimulation,
    OpenedSimulation,
    SimulatedRows,
    SimulationProgress,
)

LIVE = (RunStatus.ACCEPTED, RunStatus.RUNNING)


@dataclass(slots=True)
class Simulation:
    """One simulated run."""

    new: NewSimulation
    record: bool
    published_at_s: float
    status: RunStatus = RunStatus.ACCEPTED
    epoch: int = 0
    lease_until_s: float | None = None
    published: int = 1
    result: dict[str, Any] | None = None
    figures: dict[str, Any] | None = None
    rows: SimulatedRows | None = None
    failure: str = ""


class MemorySimulationStore:
    """Implements `tango.ports.simulations.SimulationStore`; its clock moves by a hair at every call, and by `age`."""

    def __init__(self) -> None:
        self.runs: dict[int, Simulation] = {}
        self._time_s = 0.0
        self._lock = threading.RLock()

    def _now_s(self) -> float:
        self._time_s += 1e-6
        return self._time_s

    def age(self, run_id: int, by_s: float) -> None:
        """As if the run had been published longer ago."""
        self.runs[run_id].published_at_s -= by_s

    def cancel(self, run_id: int) -> None:
        """As `RunStore.cancel`."""
        if self.runs[run_id].status not in ENDED:
            self.runs[run_id].status = RunStatus.CANCELLED

    def open(self, cells: Sequence[NewSimulation], *, record: bool, forget: bool) -> list[OpenedSimulation]:
        """Find or add."""
        with self._lock:
            here = {run_id for run_id, run in self.runs.items() if run.status in LIVE}
            done = {run_id for run_id, run in self.runs.items() if run.status is RunStatus.COMPLETED and not forget}
            opened: list[OpenedSimulation] = []
            for cell in cells:
                same = [k for k in sorted(here | done) if self.runs[k].new.key == cell.key and (self.runs[k].record or not record)]
                found = max(same, key=lambda k: (k in done, k), default=None)
                is_new = found is None
                if found is None:
                    found = max(self.runs, default=0) + 1
                    self.runs[found] = Simulation(cell, record, self._now_s())
                    here.add(found)
                elif self.runs[found].status in LIVE and self.runs[found].lease_until_s is None:
                    self.runs[found].published, self.runs[found].published_at_s = 1, self._now_s()
                new_before = {run.run_id for run in opened if run.is_new}
                opened.append(OpenedSimulation(run_id=found, is_new=is_new or found in new_before))
            return opened

    def claim(self, run_id: int, *, owner: str, lease_s: float, most_claims: int) -> ClaimedSimulation | None:
        """Take it."""
        with self._lock:
            run = self.runs.get(run_id)
            if run is None or run.status not in LIVE or self._held(run):
                return None
            run.epoch, run.lease_until_s = run.epoch + 1, self._now_s() + lease_s
            if run.epoch > most_claims:
                self._end(run, RunStatus.FAILED, f"given up after {most_claims} attempts")
                return None
            run.status = RunStatus.RUNNING
            return ClaimedSimulation(run_id=run_id, epoch=run.epoch, key=run.new.key, cell=run.new.cell, record=run.record)

    def renew(self, claim: ClaimedSimulation, *, lease_s: float) -> bool:
        """Extend."""
        with self._lock:
            run = self.runs[claim.run_id]
            if run.status is not RunStatus.RUNNING or run.epoch != claim.epoch:
                return False
            run.lease_until_s = self._now_s() + lease_s
            return True

    def finish(
        self,
        claim: ClaimedSimulation,
        *,
        result: Mapping[str, Any],
        figures: Mapping[str, float | int | str | None],
        rows: SimulatedRows | None,
    ) -> bool:
        """Complete."""
        with self._lock:
            run = self.runs[claim.run_id]
            if run.status is not RunStatus.RUNNING:
                return False
            run.result, run.figures, run.rows = dict(result), dict(figures), rows
            self._end(run, RunStatus.COMPLETED, "")
            return True

    def fail(self, claim: ClaimedSimulation, message: str) -> bool:
        """End without a result."""
        with self._lock:
            run = self.runs[claim.run_id]
            if run.status not in LIVE or run.epoch != claim.epoch:
                return False
            self._end(run, RunStatus.FAILED, message)
            return True

    def states(self, run_ids: Sequence[int]) -> list[SimulationProgress]:
        """By id."""
        with self._lock:
            known = sorted(k for k in set(run_ids) if k in self.runs)
            return [SimulationProgress(run_id=k, status=self.runs[k].status, failure=self.runs[k].failure) for k in known]

    def result(self, run_id: int) -> Mapping[str, Any] | None:
        """Of a completed run."""
        return self.runs[run_id].result if run_id in self.runs else None

    def unclaimed(self, run_ids: Sequence[int], *, after_s: float, busy: bool, limit: int) -> list[int]:
        """Those to be published again."""
        with self._lock:
            now_s, found = self._now_s(), []
            for run_id in sorted(set(run_ids)):
                run = self.runs.get(run_id)
                if run is None or run.status not in LIVE or self._held(run):
                    continue
                wait_s = after_s * (2.0 ** min(run.published - 1, 12) if busy else 1.0)
                left = run.lease_until_s is not None and run.lease_until_s > run.published_at_s
                if left or run.published_at_s < now_s - wait_s:
                    found.append(run_id)
            for run_id in found[:limit]:
                self.runs[run_id].published += 1
                self.runs[run_id].published_at_s = self._now_s()
            return found[:limit]

    def anybody_works(self) -> bool:
        """Whether a lease stands."""
        return any(self._held(run) for run in self.runs.values())

    def _held(self, run: Simulation) -> bool:
        return run.lease_until_s is not None and run.lease_until_s >= self._now_s()

    def _end(self, run: Simulation, status: RunStatus, failure: str) -> None:
        run.status, run.failure, run.lease_until_s = status, failure, None
