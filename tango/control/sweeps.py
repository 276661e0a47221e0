"""Sweeps on workers: the cells of a comparison become simulated runs, workers claim and compute them, the command waits.

    Sweep.order ──► rows (PostgreSQL) ──► messages with run ids ──► SimulationWorker: claim ─► compute ─► result, figures, rows
    Sweep.results ◄─────────────────────── states ◄──────────────────────────────────────────────────────────┘
         └─► what nobody has taken, or whose worker is gone, is published again

As everywhere, the row decides and a message only says where to look. Command, workers and broker may be killed at any time: finished
cells are kept, and the same command continues with the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from tango.analysis.comparison import CellResult
from tango.control.checkpoints import register_missing
from tango.domain.checkpoints import CheckpointFile
from tango.domain.simulations import NewSimulation, SimulationProgress
from tango.errors import BrokerUnavailable, TangoError
from tango.ports.checkpoints import CheckpointStore
from tango.ports.messages import Publisher
from tango.ports.simulations import SimulationStore
from tango.settings import LeaseSettings

log = structlog.get_logger(__name__)

LOST_AFTER = 5.0
"""Age at which a message counts as lost, in units of `LeaseSettings.unclaimed_after_s`. More than one, because a simulator may still be
loading or compiling when its first message comes. Chosen, not measured."""
IDLE_LIMIT, BUSY_LIMIT = 8, 500
"""Most runs that are published again at a time, while no worker holds a lease and while one does. Chosen, not measured."""
LOOK_EVERY_S = 0.5
"""Seconds between two looks of the waiting command at the states of its runs."""
NOBODY_AFTER_S = 8.0
"""Seconds without any worker at work, after which the command says what is missing."""


class ResultFolder(Protocol):
    """Results that this host has kept, by the keys of their cells."""

    def find(self, key: str) -> CellResult | None:
        """The result under a key, if it is here."""
        ...

    def keep(self, result: CellResult) -> None:
        """Keep a result under its key."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepCell:
    """A cell that is asked for."""

    key: str
    """Under which this host keeps its result. That of `simulation` may be another, since it names trace files in full."""
    simulation: NewSimulation
    checkpoint: CheckpointFile | None = None
    """The file that the cell brings; it is registered with the order, since a worker on another host does not have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOrder:
    """The cells of a sweep, and where the result of each comes from."""

    cells: tuple[SweepCell, ...]
    kept: Mapping[int, CellResult]
    """Results that were found on this host, by position in `cells`."""
    awaited: Mapping[int, tuple[int, ...]]
    """Positions in `cells` by the run that has, or will have, their result."""
    new: frozenset[int]
    """The awaited runs that were created now."""
    finished: frozenset[int]
    """The awaited runs that had ended before."""

    @property
    def under_way(self) -> int:
        """How many runs another command has ordered and nobody has finished yet."""
        return len(self.awaited) - len(self.new) - len(self.finished)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Has cells computed by the workers of the queue `simulate`."""

    simulations: SimulationStore
    checkpoints: CheckpointStore
    publisher: Publisher
    kept: ResultFolder
    settings: LeaseSettings
    sleep: Callable[[float], None]

    def order(self, cells: Sequence[SweepCell], *, record: bool, forget: bool) -> SweepOrder:
        """Store a run for each cell that is neither finished nor under way, in one transaction, then publish the new runs.

        With `record` the rows of the requests are kept too; with `forget` finished runs do not count. An unreachable broker is no error:
        `results` publishes them again. Raises: StoreUnavailable, CheckpointError.
        """
        # Rows are in the database alone: for them a result that lies in the folder is not enough.
        kept = {} if record else self._kept(cells)
        wanted = [k for k in range(len(cells)) if k not in kept]
        files = [file for k in wanted if (file := cells[k].checkpoint) is not None]
        register_missing(files, store=self.checkpoints, note="for a comparison on workers")
        opened = self.simulations.open([cells[k].simulation for k in wanted], record=record, forget=forget)
        awaited: dict[int, tuple[int, ...]] = {}
        for k, run in zip(wanted, opened, strict=True):
            awaited[run.run_id] = (*awaited.get(run.run_id, ()), k)
        new = frozenset(run.run_id for run in opened if run.is_new)
        self._publish([run.run_id for run in opened if run.is_new])
        ended = {state.run_id for state in self.simulations.states(list(awaited)) if state.ended}
        return SweepOrder(cells=tuple(cells), kept=kept, awaited=awaited, new=new, finished=frozenset(ended - new))

    def results(
        self, order: SweepOrder, *, done: Callable[[int, CellResult, bool], None], nobody: Callable[[], None]
    ) -> list[CellResult]:
        """The results of all cells, in their order; waits for those that are not there yet.

        `done` is called for each finished cell with its position, its result, and whether it was finished before the order; `nobody` when
        no worker has held a lease for a while. Raises: StoreUnavailable; TangoError when cells failed, with why: the others have been
        waited for and are kept.
        """
        results = dict(order.kept)
        for k, result in order.kept.items():
            done(k, result, True)
        left, failures = dict(order.awaited), []
        for state in self.ended(list(left), nobody=nobody):
            stored = self.simulations.result(state.run_id)
            for k in left.pop(state.run_id):
                cell = order.cells[k].simulation
                if stored is None:
                    why = state.failure or f"it was {state.status}"
                    failures.append(f"{cell.system}, seed {cell.seed} (run {state.run_id}): {why}")
                    continue
                results[k] = dataclasses.replace(CellResult.from_dict(stored), key=order.cells[k].key)
                self.kept.keep(results[k])
                done(k, results[k], state.run_id in order.finished)
        failures += [f"run {run_id} was deleted" for run_id in left]
        if failures:
            raise TangoError(f"{len(failures)} of {len(order.cells)} cells failed; the others are kept:\n" + "\n".join(failures))
        return [results[k] for k in range(len(order.cells))]

    def ended(self, run_ids: Sequence[int], *, nobody: Callable[[], None]) -> Iterator[SimulationProgress]:
        """Each run once, as it ends. Publishes what nobody has taken again, and calls `nobody` when no worker is at work.

        Without a deadline on purpose: a sweep may take hours, and workers may be started after it. Runs deleted meanwhile are not waited
        for. Raises: StoreUnavailable.
        """
        waiting = sorted(set(run_ids))
        idle_s, next_hint_s = 0.0, NOBODY_AFTER_S
        while waiting:
            states = self.simulations.states(waiting)
            yield from (state for state in states if state.ended)
            waiting = [state.run_id for state in states if not state.ended]
            if not waiting:
                return
            busy = self.simulations.anybody_works()
            self._publish(
                self.simulations.unclaimed(
                    waiting,
                    after_s=LOST_AFTER * self.settings.unclaimed_after_s,
                    busy=busy,
                    limit=BUSY_LIMIT if busy else IDLE_LIMIT,
                )
            )
            idle_s, next_hint_s = (0.0, NOBODY_AFTER_S) if busy else (idle_s + LOOK_EVERY_S, next_hint_s)
            if idle_s >= next_hint_s:
                nobody()
                next_hint_s = idle_s * 8
            self.sleep(LOOK_EVERY_S)

    def _kept(self, cells: Sequence[SweepCell]) -> dict[int, CellResult]:
        found = ((k, self.kept.find(cell.key)) for k, cell in enumerate(cells))
        return {k: result for k, result in found if result is not None}

    def _publish(self, run_ids: Sequence[int]) -> None:
        if not run_ids:
            return
        try:
            self.publisher.simulations(run_ids)
        except BrokerUnavailable as error:
            log.warning("simulations_not_published", error=str(error))
