"""Simulated runs as the database keeps them: cells that workers compute, from the order to the result.

A simulated run is a row of `run` beside the live ones, with its cell and, in the end, its result. A worker claims it under an epoch and
a lease; the lease is renewed while the simulation goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tango.domain.outcomes import AttemptLosses, Decisions, NodeSamples, RunOutcomes, ScalingEvents
from tango.domain.runs import ENDED, RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSimulation:
    """A cell about to be stored. Cells of one key have one result."""

    key: str
    cell: Mapping[str, Any]
    """JSON of the cell, as the worker that computes it will read it."""
    name: str
    system: str
    fleet: str
    fleet_hash: str
    seed: int
    trace_source: str
    """Workload and whatever else the figures depend on, in words: runs that differ in it are never averaged."""
    span_s: float
    settings: Mapping[str, Any]
    """What differs from the settings by default, by group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSimulation:
    """The run that has, or will have, the result of a cell."""

    run_id: int
    is_new: bool
    """False: it was there already, finished or under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedSimulation:
    """A simulated run in a worker's hands."""

    run_id: int
    epoch: int
    key: str
    cell: Mapping[str, Any]
    record: bool
    """Whether the rows of its requests are to be kept as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationState:
    """Where a simulated run stands."""

    run_id: int
    status: RunStatus
    failure: str
    """Why it failed; empty where it has not."""

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRows:
    """What a live run would have left in the tables."""

    outcomes: RunOutcomes
    losses: AttemptLosses
    samples: NodeSamples
    decisions: Decisions
    scaling: ScalingEvents
