"""The figures of a run, live or simulated, in the one form in which they are shown and stored."""

from __future__ import annotations

from dataclasses import dataclass

from tango.analysis.comparison import CellResult
from tango.analysis.metrics import Figure, RunMetrics, metrics_of_counts
from tango.control.finish_run import RunRecords, figures_now, kept_metrics
from tango.ports.figures import FiguresStore
from tango.ports.runs import RunStore
from tango.ports.simulations import SimulationStore

MOST_NOW = 50_000
"""Requests of a run up to which its figures are computed whenever somebody looks, in about a second. Of a larger one there are its counts
until it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Finds the figures of runs."""

    runs: RunStore
    figures: FiguresStore
    simulations: SimulationStore
    records: RunRecords

    def of(self, run_id: int, *, most_now: int = MOST_NOW) -> RunMetrics:
        """Of a simulated run what was stored with it, which has more than its rows say; of a live one what was computed at its end, or,
        before that, what its rows say by now; where it has more than `most_now` of them, counts alone, and None for all else."""
        result = self.simulations.result(run_id)
        if result is not None:
            return metrics_of_result(run_id, CellResult.from_dict(result))
        info, kept = self.runs.run(run_id), self.figures.kept(run_id)
        if kept is not None:
            found = kept_metrics(kept)
            return RunMetrics(figures={**found.figures, "status": str(info.status)}, services=found.services, details=found.details)
        return (
            figures_now(run_id, records=self.records)
            if info.accepted <= most_now
            else metrics_of_counts(info, self.runs.counts(run_id))
        )


def stored_figures(run_id: int, result: CellResult) -> dict[str, Figure]:
    """The figures of a simulated run as `run_metric` keeps them: those of a live run, and what only a simulation has."""
    bounds = {f"{name}_bound": value for name, value in result.bound.items()}
    return {**result.figures, "run": run_id, **bounds, "simulated_s": result.details["simulated_s"]}


def metrics_of_result(run_id: int, result: CellResult) -> RunMetrics:
    """A stored result as `RunMetrics`, the form in which the figures of a live run are shown."""
    return kept_metrics({"figures": stored_figures(run_id, result), "services": result.services, "details": result.details})
