"""Capacity: how many nodes of which kind requests need for a QoS rate, and which load a fleet bears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tango.analysis.comparison import CellResult
from tango.api.fleets import FleetLike, as_fleet
from tango.api.policies import Changes, SystemLike, as_system
from tango.api.simulations import NO_CHANGES
from tango.api.tables import table_of
from tango.api.workloads import WorkloadLike, as_workload
from tango.domain.seeds import COMPARISON
from tango.experiments.cells import Cell
from tango.experiments.planning import CapacityDemand, CapacityPlan, Goal, MakeCell, Search, carried_out, search_load, search_nodes
from tango.experiments.sweeps import KeptResults, StandingProcesses, run_cells
from tango.fleets.sizing import kind_named, usual_kinds
from tango.traces.workloads import Workload

Simulated = Callable[[int], None]
"""Called with the number of simulations that are finished; how many there will be nobody knows before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Answers to a question of capacity, and what was tried for them. `print` shows the answers in words."""

    plan: CapacityPlan

    @property
    def is_met(self) -> bool:
        """Whether anything that was asked for meets the target."""
        return self.plan.is_met

    def answers(self) -> pa.Table:
        """A row for each kind of node: `kind found nodes added cores memory_gib load qos_rate qos_low qos_high …`.

        `found` is `found`, `least` (the least that is asked for is enough), `none` (the most is not; the row has its figures) or `unfit`
        (no node of the kind holds some service; figures are null).
        """
        rows = [
            {"kind": of.kind, "found": str(of.found), **(of.candidate.as_dict() if of.candidate else {})}
            for of in self.plan.answers
        ]
        return table_of([{name: row.get(name) for name in max(rows, key=len)} for row in rows])

    def candidates(self) -> pa.Table:
        """A row for each fleet, or load, that was simulated, with `verdict` (met, missed, undecided), and `answer` where it is one."""
        return table_of(self.plan.rows())

    def __str__(self) -> str:
        return "\n".join(self.plan.sentences())


def plan(
    workload: WorkloadLike,
    system: SystemLike = "tango",
    *,
    fleet: FleetLike,
    target_qos: float,
    be_share: float | None = None,
    kinds: Sequence[str] = (),
    beside: bool = False,
    most: int | None = None,
    seeds: int | Sequence[int] = 5,
    settings: Changes = NO_CHANGES,
    tuned: bool = True,
    processes: int = 1,
    keep_in: str | Path | None = None,
    progress: Simulated | None = None,
) -> Capacity:
    """The least number of nodes of each kind with which the whole 95 % interval of the QoS rate lies at `target_qos` or above.

    Clusters, network and services are those of `fleet`, and a workload's load is a share of its CPU as declared: what is asked stays the
    same while nodes change. `kinds` are `CPU/MEMORY` such as `4/16Gi`, or `declared`; none: those of the fleet, and the declared ones.
    They take the place of the declared nodes, or with `beside` are added to them; `most` bounds the search. `be_share` asks for that share
    of the offered BE work too. Other arguments are those of `compare`, `keep_in` and `processes` with the same limits.
    Raises: UsageError for kinds and shares that there are not, and requests without LC; else as `simulate`.
    """
    where = as_fleet(fleet)
    goal, demand = (
        Goal(target_qos=target_qos, be_share=be_share),
        CapacityDemand(workload=as_workload(workload), fleet=where, seeds=_seeds(seeds)),
    )
    chosen = tuple(kind_named(text, where) for text in dict.fromkeys(kinds)) or usual_kinds(where)
    make_cell = _cells_of(system, settings, tuned=tuned)
    searches = [search_nodes(demand, goal, kind, make_cell, beside=beside, most=most) for kind in chosen]
    return _carried_out(searches, goal, system, processes, keep_in, progress)


def highest_load(
    workload: WorkloadLike,
    system: SystemLike = "tango",
    *,
    fleet: FleetLike,
    target_qos: float,
    be_share: float | None = None,
    step: float = 0.05,
    seeds: int | Sequence[int] = 5,
    settings: Changes = NO_CHANGES,
    tuned: bool = True,
    processes: int = 1,
    keep_in: str | Path | None = None,
    progress: Simulated | None = None,
) -> Capacity:
    """The highest load, a multiple of `step`, at which a fleet as declared meets `target_qos`; arguments are those of `plan`.

    The workload's own load does not count. Raises: as `plan`.
    """
    goal, demand = (
        Goal(target_qos=target_qos, be_share=be_share),
        CapacityDemand(workload=as_workload(workload), fleet=as_fleet(fleet), seeds=_seeds(seeds)),
    )
    searches = [search_load(demand, goal, _cells_of(system, settings, tuned=tuned), step=step)]
    return _carried_out(searches, goal, system, processes, keep_in, progress, of_loads=True)


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(range(COMPARISON.start, COMPARISON.start + seeds) if isinstance(seeds, int) else seeds)


def _cells_of(system: SystemLike, settings: Changes, *, tuned: bool) -> MakeCell:
    chosen = as_system(system)

    def cell(workload: Workload, fleet: str, seed: int) -> Cell:
        return chosen.cell(workload, fleet, seed, settings, tuned=tuned, bound=False)

    return cell


def _carried_out(
    searches: Sequence[Search],
    goal: Goal,
    system: SystemLike,
    processes: int,
    keep_in: str | Path | None,
    progress: Simulated | None,
    *,
    of_loads: bool = False,
) -> Capacity:
    own = as_system(system).own
    kept = None if keep_in is None else KeptResults(Path(keep_in))
    finished = 0

    def done(_cell: Cell, _result: CellResult, _was_kept: bool) -> None:
        nonlocal finished
        finished += 1
        if progress is not None:
            progress(finished)

    with StandingProcesses(processes) as standing:

        def run(cells: Sequence[Cell]) -> list[CellResult]:
            ours = dict.fromkeys(range(len(cells)), own) if own else {}
            return run_cells(cells, processes=standing, kept=kept, done=done, own=ours)

        return Capacity(plan=carried_out(searches, goal, run, of_loads=of_loads))
