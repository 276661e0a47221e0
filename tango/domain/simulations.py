"""Simulated runs in the database: cells of a comparison that workers compute.

A simulated run is a row of `run` beside the live ones, with its cell and, at the end, its result. A worker claims it under an epoch and a
lease, and renews the lease while it simulates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tango.domain.outcomes import AttemptLosses, Decisions, NodeSamples, RunOutcomes, ScalingEvents
from tango.domain.runs import ENDED, RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSimulation:
    """A cell that is to be stored. Cells with the same key have the same result."""

    key: str
    cell: Mapping[str, Any]
    """The cell as a JSON object, which the worker reads."""
    name: str
    system: str
    fleet: str
    fleet_hash: str
    seed: int
    trace_source: str
    """Workload and everything else that the figures depend on, as text; runs that differ in it are never averaged."""
    span_s: float
    settings: Mapping[str, Any]
    """Settings that differ from their defaults, by group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSimulation:
    """The run that has, or will have, the result of a cell."""

    run_id: int
    is_new: bool
    """Whether the run was created now; False: one of this key was finished or in progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedSimulation:
    """A simulated run that a worker has claimed."""

    run_id: int
    epoch: int
    key: str
    cell: Mapping[str, Any]
    record: bool
    """Whether the rows of its requests are to be stored too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationProgress:
    """The progress of a simulated run."""

    run_id: int
    status: RunStatus
    failure: str
    """Why it failed; empty if it has not."""

    @property
    def ended(self) -> bool:
        """Whether its status is final."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRows:
    """The rows of a simulated run, in the form in which a live run leaves them in the tables."""

    outcomes: RunOutcomes
    losses: AttemptLosses
    samples: NodeSamples
    decisions: Decisions
    scaling: ScalingEvents
    weighed: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """By row of `decisions` the candidates of requests that were kept of it, as `tango.domain.candidates.written` has them."""
