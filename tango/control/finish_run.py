"""Finish a run: compute its figures once all its requests are terminal, and store them.

Live and simulated runs use the same function, `tango.analysis.metrics.run_metrics`, so that their figures can be compared. In which process
it is done says `figures_apart`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from tango.analysis.metrics import RunMetrics, ServiceFigures, run_metrics
from tango.domain.outcomes import (
    AttemptLosses,
    Decisions,
    HostSamples,
    NodeSamples,
    RequestPhases,
    RunOutcomes,
    ScalingEvents,
)
from tango.ports.figures import FiguresClaim, FiguresStore


class RunRecords(Protocol):
    """Everything recorded under a run, as columns (`tango.domain.outcomes`)."""

    def outcomes(self, run_id: int) -> RunOutcomes:
        """One element per request."""
        ...

    def phases(self, run_id: int) -> RequestPhases | None:
        """Where the time of its requests went, in their order; None for a simulated run."""
        ...

    def hosts(self, run_id: int) -> HostSamples | None:
        """How far hosts were used meanwhile; None for a simulated run."""
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
        phases=records.phases(run_id),
        hosts=records.hosts(run_id),
    )


def finish_run(claim: FiguresClaim, *, store: FiguresStore, records: RunRecords) -> bool:
    """Compute and save the figures of a claimed run; False where somebody else has saved them, or has claimed the run since."""
    found = figures_now(claim.run_id, records=records)
    kept = {
        "figures": dict(found.figures),
        "services": [service.as_dict() for service in found.services],
        "details": dict(found.details),
    }
    return store.save(claim, kept, found.figures)


def kept_metrics(kept: Mapping[str, Any]) -> RunMetrics:
    """What `finish_run` has saved, as it was computed; figures that this version does not know are left out."""
    known = {f.name for f in dataclasses.fields(ServiceFigures)}
    services = tuple(ServiceFigures(**{k: v for k, v in row.items() if k in known}) for row in kept["services"])
    return RunMetrics(figures=kept["figures"], services=services, details=kept["details"])
