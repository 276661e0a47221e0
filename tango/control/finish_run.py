"""Close a run: compute its figures once, by the one metrics function, and keep them."""

from __future__ import annotations

from typing import Protocol

from tango.analysis.metrics import RunMetrics, run_metrics
from tango.domain.outcomes import AttemptLosses, Decisions, NodeSamples, RunOutcomes, ScalingEvents
from tango.domain.runs import RunInfo, RunStatus
from tango.ports import RunStore


class RunRecords(Protocol):
    """Everything recorded under a run, as columns."""

    def outcomes(self, run_id: int) -> RunOutcomes:
        """One element a request."""
        ...

    def losses(self, run_id: int) -> AttemptLosses:
        """One element an attempt that was thrown away."""
        ...

    def node_samples(self, run_id: int) -> NodeSamples:
        """Node states over the run's life."""
        ...

    def decisions(self, run_id: int) -> Decisions:
        """Scheduling cycles."""
        ...

    def scaling_events(self, run_id: int) -> ScalingEvents:
        """Resizes and evictions."""
        ...


def figures_now(run_id: int, *, records: RunRecords) -> RunMetrics:
    """The figures of a run as of now, by the one metrics function."""
    return run_metrics(
        records.outcomes(run_id),
        records.losses(run_id),
        records.node_samples(run_id),
        records.decisions(run_id),
        records.scaling_events(run_id),
    )


def finish_run(run: RunInfo, *, runs: RunStore, records: RunRecords) -> None:
    """Compute and save the figures of a run whose requests are all terminal. Twice: the same figures again."""
    runs.save_metrics(run.run_id, {**figures_now(run.run_id, records=records), "status": str(RunStatus.COMPLETED)})
