"""Several systems on the same requests, paired by seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from tango.analysis.comparison import CellResult, Comparison, comparison_table
from tango.analysis.comparison import compare as compared
from tango.analysis.verdicts import Verdicts, judge
from tango.api.fleets import FleetLike, as_text
from tango.api.policies import Changes, SystemLike, as_system
from tango.api.simulations import NO_CHANGES, called
from tango.api.tables import table_of
from tango.api.workloads import WorkloadLike, as_workload
from tango.domain.near_names import near_name
from tango.domain.seeds import COMPARISON
from tango.domain.tenants import Tenant
from tango.errors import UsageError
from tango.experiments.cells import Cell
from tango.experiments.sweeps import KeptResults, run_cells
from tango.traces.workloads import Workload

Finished = Callable[[int, int], None]
"""Called with the number of cells that are finished, and of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemComparison:
    """Results of several systems on the same requests. `print` shows the table of `tango compare`."""

    comparison: Comparison

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures has to know, such as a policy whose time to decide nobody has measured."""
        return self.comparison.notes

    def runs(self) -> pa.Table:
        """A row for each scenario, system and seed, with all figures of the run (docs/metrics.md), and `…_bound` of what has one."""
        return table_of([_run_row(cell) for cell in self.comparison.cells])

    def services(self) -> pa.Table:
        """A row for each scenario, system, seed and service, with the columns of `Simulation.services`."""
        return table_of([{**_identity(cell), **row} for cell in self.comparison.cells for row in cell.services])

    def means(self) -> pa.Table:
        """A row for each scenario and system: the mean over its seeds of each compared figure."""
        c = self.comparison
        metrics = [metric.name for metric in c.metrics if not metric.service]
        pairs = dict.fromkeys((scenario, system) for scenario, system, _ in c.rows)
        return table_of(
            [
                {
                    "scenario": scenario,
                    "system": system,
                    "seeds": len(c.of(scenario, system)),
                    **{name: c.rows[scenario, system, name].value for name in metrics},
                }
                for scenario, system in pairs
            ]
        )

    def differences(self) -> pa.Table:
        """A row for each scenario, system other than the baseline, and figure: means, the mean paired difference and its 95 % interval.

        `value` and `baseline_value` are means over seeds, `mean low high` the difference to the baseline seed by seed (Student's t),
        `relative` its mean over the baseline's, `p` that of the test of none; `better` is 1 where higher is better, -1 where lower.
        """
        return table_of([row.as_dict() for row in self.comparison.rows.values() if row.system != self.comparison.baseline])

    def tenants(self) -> pa.Table:
        """A row for each scenario, system and tenant: the mean over seeds of each column of `Simulation.tenants`."""
        return table_of(self.comparison.tenants())

    def judge(self, system: str) -> Verdicts:
        """One system against all others: whether it holds within the margins of docs/simulator.md, and which claims are significant."""
        _require_one_of(system, self.comparison.systems, "system")
        return judge(self.comparison, system)

    def __str__(self) -> str:
        columns, rows = comparison_table(self.comparison)
        shown = [column for column in columns if not column.wide]
        lines = [[column.title for column in shown], *([row[column.key] for column in shown] for row in rows)]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                text.rjust(width) if column.right else text.ljust(width)
                for column, text, width in zip(shown, line, widths, strict=True)
            ).rstrip()
            for line in lines
        )


def compare(
    workloads: WorkloadLike | Sequence[WorkloadLike],
    systems: Sequence[SystemLike],
    *,
    fleet: FleetLike,
    seeds: int | Sequence[int] = 5,
    baseline: str | None = None,
    settings: Changes = NO_CHANGES,
    tuned: bool = True,
    bound: bool = False,
    tenants: Sequence[Tenant] = (),
    processes: int = 1,
    keep_in: str | Path | None = None,
    progress: Finished | None = None,
) -> SystemComparison:
    """Simulate each system on each workload and seed; all systems of a seed serve the same requests.

    `seeds` is how many, from 3,000,000 on as `tango compare` takes them, or which. `baseline` is the system that the others are compared
    with: the first one. `tenants` is what is declared of tenants. Runs that deadlock count as they stand, with a note. With `keep_in`
    finished cells are kept in that folder and found again; those of functions are not, since a function is not known by its name. They
    also run in this process alone, whatever `processes`: a policy that is to run in several is named `FILE.py:FUNCTION`. A script that
    asks for several processes needs the usual line `if __name__ == "__main__":`.
    Raises: UsageError for names that there are not or that are there twice; else as `simulate`.
    """
    chosen = [as_system(one) for one in systems]
    drawn = [as_workload(one) for one in ([workloads] if isinstance(workloads, Workload | str | Path) else workloads)]
    some = list(range(COMPARISON.start, COMPARISON.start + seeds) if isinstance(seeds, int) else seeds)
    names = [one.called for one in chosen]
    _require_once("system", names, "a function or checkpoint is told from another by system(..., called=NAME)")
    _require_once("workload", [one.label for one in drawn], "files are told apart by their names, not by their folders")
    _require_once("seed", list(map(str, some)), "equal seeds give equal results")
    first = names[0] if baseline is None else _require_one_of(baseline, names, "baseline")
    where = as_text(fleet)
    # Systems vary fastest: a process keeps the requests that it drew last, and all systems of a seed share them.
    asked = [
        (one, replace(one.cell(workload, where, seed, settings, tuned=tuned, bound=bound), tenants=tuple(tenants)))
        for workload in drawn
        for seed in some
        for one in chosen
    ]
    finished = 0

    def done(_cell: Cell, _result: CellResult, _was_kept: bool) -> None:
        nonlocal finished
        finished += 1
        if progress is not None:
            progress(finished, len(asked))

    results = run_cells(
        [cell for _, cell in asked],
        processes=processes,
        kept=None if keep_in is None else KeptResults(Path(keep_in)),
        done=done,
        own={k: one.own for k, (one, _) in enumerate(asked) if one.own},
    )
    told = [called(result, one.called) for (one, _), result in zip(asked, results, strict=True)]
    return SystemComparison(comparison=compared(told, first))


def _require_once(what: str, names: Sequence[str], otherwise: str) -> None:
    """Raises: UsageError for none, and for a name that is there twice."""
    if not names:
        raise UsageError(f"no {what} is given, expected one or more")
    for name, count in Counter(names).items():
        if count > 1:
            raise UsageError(f"the {what} {name!r} is there {count} times, expected each once; {otherwise}")


def _require_one_of(name: str, names: Sequence[str], what: str) -> str:
    if name not in names:
        raise UsageError(f"the {what} {name!r}{near_name(name, names)} is not among the systems: {', '.join(names)}")
    return name


def _identity(cell: CellResult) -> dict[str, str | int]:
    return {"scenario": cell.scenario, "system": cell.system, "seed": cell.seed}


def _run_row(cell: CellResult) -> dict[str, object]:
    bounds = {f"{name}_bound": value for name, value in cell.bound.items()}
    return {**_identity(cell), **cell.figures, **bounds, "fleet_hash": cell.fleet_hash}
