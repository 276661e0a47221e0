"""The cells of a comparison: every system on every workload, variation and seed, each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tango.domain.checkpoints import CheckpointFile
from tango.domain.tenants import Tenant
from tango.errors import UsageError
from tango.experiments.cells import Cell
from tango.experiments.tuning import merged, tuned_settings
from tango.systems import System
from tango.traces.workloads import Workload

Variation = tuple[str, Mapping[str, Mapping[str, Any]]]
"""(label, changes of `Settings` by group and field)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedSystems:
    """Systems, and how they are set up."""

    systems: Sequence[System]
    checkpoints: Mapping[str, CheckpointFile] = field(default_factory=dict)
    """By name of the system; one that is not there decides by the checkpoint that is shipped."""
    tuned: bool = True
    """Whether each has the parameters that `tango tune` found for it; else the defaults."""

    def settings_of(self, system: System, changes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        """The changes of settings that a system is simulated with; `changes` go over what was tuned."""
        return merged(tuned_settings(system), changes) if self.tuned else changes


def comparison_cells(
    compared: ComparedSystems,
    workloads: Sequence[Workload],
    *,
    fleet: str,
    seeds: Sequence[int],
    variations: Sequence[Variation] = (("", {}),),
    bound: bool = True,
    tenants: Sequence[Tenant] = (),
) -> list[Cell]:
    """The cells, in the order in which they are simulated; `fleet` and `tenants` as a `Cell` has them.

    Systems vary fastest: a process keeps the requests that it drew last, and all systems of a seed share them.
    Raises: UsageError for two cells of one scenario, system and seed, which the comparison could not tell apart.
    """
    cells = [
        Cell(
            workload=workload,
            fleet=fleet,
            system=system,
            seed=seed,
            settings=compared.settings_of(system, changes),
            variation=label,
            bound=bound,
            checkpoint=compared.checkpoints.get(system.name),
            tenants=tuple(tenants),
        )
        for workload in workloads
        for label, changes in variations
        for seed in seeds
        for system in compared.systems
    ]
    for (scenario, _, _), count in Counter((cell.scenario, cell.system.name, cell.seed) for cell in cells).items():
        if count > 1:
            raise UsageError(
                f"the scenario {scenario!r} is there twice, expected each TRACE, --load, --beta and --staleness once "
                "(files are told apart by their names, not by their folders)"
            )
    return cells
