"""A cell on its way to a worker and back: as the database takes it, and as the worker that claimed it computes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tango.bootstrap.checkpoint_files import file_here
from tango.control.simulation_worker import Simulated
from tango.control.sweeps import SweepCell
from tango.domain.checkpoints import SHORT
from tango.domain.simulations import ClaimedSimulation, NewSimulation, SimulatedRows
from tango.errors import UsageError
from tango.experiments.cells import Cell, evaluated, fleet_of, simulate_cell
from tango.ports.checkpoints import CheckpointStore
from tango.settings.explaining import ExplainSettings
from tango.traces.workloads import is_pattern

IN_SCENARIO = {("sim", "beta"), ("sim", "staleness_s")}
"""Settings that the variation of a cell names."""


def ordered(cell: Cell) -> SweepCell:
    """The cell as a sweep orders it. Trace files are named in full: a worker stands in another folder."""

    def absolute(source: tuple[str, ...]) -> tuple[str, ...]:
        return source if is_pattern(source) else tuple(str(Path(path).absolute()) for path in source)

    key = cell.key()
    # What follows is of the cell as the worker will read it: its key there is over the full names.
    cell = dataclasses.replace(
        cell, workload=dataclasses.replace(cell.workload, lc=absolute(cell.workload.lc), be=absolute(cell.workload.be))
    )
    fleet = fleet_of(cell.fleet)
    simulation = NewSimulation(
        key=cell.key(),
        cell=cell.as_dict(),
        name=cell.scenario,
        system=cell.system.name,
        fleet=fleet.name,
        fleet_hash=fleet.source_hash,
        seed=cell.seed,
        trace_source=trace_source(cell),
        span_s=cell.workload.duration_s,
        settings=cell.as_dict()["settings"],
    )
    return SweepCell(key=key, simulation=simulation, checkpoint=cell.checkpoint)


def trace_source(cell: Cell) -> str:
    """The scenario in full: its label, the duration, and every setting that its variation leaves out."""
    others = {
        f"{group}.{name}": value
        for group, values in sorted(cell.settings.items())
        for name, value in sorted(values.items())
        if not (cell.variation and (group, name) in IN_SCENARIO)
    }
    if cell.checkpoint is not None:
        others["checkpoint"] = cell.checkpoint.digest[:SHORT]
    return " ".join(
        [cell.scenario, f"{cell.workload.duration_s:g}s", *(f"{name}={_shown(value)}" for name, value in others.items())]
    )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedCells:
    """Computes claimed cells on this host; a `tango.control.simulation_worker.Compute`."""

    checkpoints: CheckpointStore
    kept: ExplainSettings = field(default_factory=ExplainSettings)
    """Of how many requests the candidates are kept, where the rows of a run are."""

    def __call__(self, claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
        """The cell's run with its figures. Raises: UsageError where this worker would make another result than the key promises."""
        cell = Cell.from_dict(claim.cell)
        if cell.key() != claim.key:
            raise UsageError(
                "this worker would make another result than the command asks for: its version of Tango, its trace files or its "
                f"checkpoints differ (key {cell.key()[:12]}, expected {claim.key[:12]}). Bring them to the same state and start the "
                "worker again."
            )
        if cell.checkpoint is not None and cell.checkpoint.changed():
            # The file lies on the host of the command; the registry has it for all others.
            file = file_here(cell.checkpoint.digest, cell.checkpoint.policy, self.checkpoints)
            cell = dataclasses.replace(cell, checkpoint=file)
        kept = self.kept if claim.record else None
        run, requests = simulate_cell(cell, progress=lambda _share, _now_s: stands(), kept=kept)
        rows = SimulatedRows(
            outcomes=run.outcomes,
            losses=run.losses,
            samples=run.samples,
            decisions=run.decisions,
            scaling=run.scaling,
            weighed=run.weighed,
        )
        return Simulated(result=evaluated(cell, run, requests), rows=rows if claim.record else None)
