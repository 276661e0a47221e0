"""The figures of a run, live or simulated, in the one form in which they are shown and stored."""

from __future__ import annotations

import dataclasses

from tango.analysis.comparison import CellResult
from tango.analysis.metrics import Figure, RunMetrics, ServiceFigures
from tango.control.finish_run import RunRecords, figures_now
from tango.ports.simulations import SimulationStore


def run_figures(run_id: int, *, simulations: SimulationStore, records: RunRecords) -> RunMetrics:
    """Of a simulated run what was stored with it, which has more than its rows say; of a live one what its rows say by now."""
    result = simulations.result(run_id)
    if result is not None:
        return metrics_of_result(run_id, CellResult.from_dict(result))
    return figures_now(run_id, records=records)


def stored_figures(run_id: int, result: CellResult) -> dict[str, Figure]:
    """The figures of a simulated run as `run_metric` keeps them: those of a live run, and what only a simulation has."""
    bounds = {f"{name}_bound": value for name, value in result.bound.items()}
    return {**result.figures, "run": run_id, **bounds, "simulated_s": result.details["simulated_s"]}


def metrics_of_result(run_id: int, result: CellResult) -> RunMetrics:
    """A stored result as `RunMetrics`, the form in which the figures of a live run are shown."""
    known = {f.name for f in dataclasses.fields(ServiceFigures)}
    services = tuple(ServiceFigures(**{k: v for k, v in row.items() if k in known}) for row in result.services)  # type: ignore[arg-type]
    return RunMetrics(figures=stored_figures(run_id, result), services=services, details=result.details)
