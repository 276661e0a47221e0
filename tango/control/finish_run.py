"""Finish a run: compute its figures once all its requests are terminal, and store them.

Live and simulated runs use the same function, `tango.analysis.metrics.run_metrics`, so that their figures can be compared.
"""

from __future__ import annotations

from typing import Protocol

from tango.analysis.metrics import RunMetrics, run_metrics
from tango.domain.outcomes import AttemptLosses, Decisions, NodeSamples, RunOutcomes, ScalingEvents
from tango.domain.runs import RunInfo, RunStatus
from tango.ports.runs import RunStore


class RunRecords(Protocol):
    """Everything recorded under a run, as columns (`tango.domain.outcomes`)."""

    def outcomes(self, run_id: int) -> RunOutcomes:
        """One element per request."""
        ...

    def losses(self, run_id: int) -> AttemptLosses:
        """One element per attempt whose work was lost."""
        ...

    def node_samples(self, run_id: int) -> NodeSamples:
        """Node states, sampled between the run's beginning and its end."""
        ...

    def decisions(self, run_id: int) -> Decisions:
        """One element per scheduling decision."""
        ...

    def scaling_events(self, run_id: int) -> ScalingEvents:
        """Resizes of LC instances and evictions of BE pods."""
        ...


def figures_now(run_id: int, *, records: RunRecords) -> RunMetrics:
    """The figures of a run from what is recorded by now; the run need not have ended."""
    return run_metrics(
        records.outcomes(run_id),
        records.losses(run_id),
        records.node_samples(run_id),
        records.decisions(run_id),
        records.scaling_events(run_id),
    )


def finish_run(run: RunInfo, *, runs: RunStore, records: RunRecords) -> None:
    """Compute and save the figures of a run whose requests are all terminal. A second call saves the same figures again."""
    runs.save_metrics(run.run_id, {**figures_now(run.run_id, records=records), "status": str(RunStatus.COMPLETED)})
