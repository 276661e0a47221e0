"""What a recorded live run ran on and under: the fleet and the system that its simulation is to have.

The database keeps a run's fleet by name and hash only. The fleet itself is the one in force, a built-in one or a file that the user
names; clusters that had joined by kubeconfig stand in no file and are made of what was observed of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Protocol

import numpy as np

from tango.domain.fleet import Cluster, Fleet, Link, Node
from tango.domain.outcomes import NodeSamples, RunOutcomes
from tango.domain.runs import RunInfo, RunKind, RunStatus
from tango.domain.snapshot import FleetSnapshot
from tango.errors import ConfigError, UsageError
from tango.fleets import load_fleet
from tango.systems import System, mixed


class FleetInForce(Protocol):
    """What is known of the fleet in force."""

    def declared(self) -> Fleet:
        """As declared, without clusters that joined. Raises: UsageError before the first declaration."""
        ...

    def snapshot(self, *, at_s: float) -> FleetSnapshot:
        """The fleet as last observed, with clusters that have joined."""
        ...


def require_replayable(run: RunInfo) -> None:
    """Raises: UsageError for a run that is simulated or has not completed: its rows do not say what a live run took."""
    if run.kind is RunKind.SIMULATED or run.status is not RunStatus.COMPLETED:
        raise UsageError(f"run {run.run_id} is {run.kind} and {run.status}, expected a replayed or live run that is completed")


def with_sharing_of(outcomes: RunOutcomes, system: System) -> System:
    """The system as the run had it: one submitted with --no-reassure never resized an instance, which is the sharing rule `static`."""
    return system if outcomes.reassure else mixed(system, sharing="static")


def fleet_of_run(outcomes: RunOutcomes, samples: NodeSamples, *, in_force: FleetInForce, named: str | None = None) -> Fleet:
    """The fleet that the run ran on: `named`, else the one in force or the built-in one of its name if the run's hash is its own.

    Clusters that had joined by kubeconfig are added as they were observed. Raises: UsageError if neither has the run's hash; as
    `load_fleet` for a `named` fleet.
    """
    if named is not None:
        return _with_joined(load_fleet(named), outcomes, samples, in_force)
    found = []
    with contextlib.suppress(UsageError):  # nothing was ever declared: a database that was brought along
        found.append(in_force.declared())
    with contextlib.suppress(UsageError, ConfigError):  # the fleet came from a file
        found.append(load_fleet(outcomes.fleet))
    for fleet in found:
        if fleet.source_hash == outcomes.fleet_hash:
            return _with_joined(fleet, outcomes, samples, in_force)
    raise UsageError(
        f"run {outcomes.run_id} ran on fleet {outcomes.fleet!r} ({outcomes.fleet_hash[:12]}), which is neither in force nor built in; "
        "name its file with --fleet FILE"
    )


def _with_joined(fleet: Fleet, outcomes: RunOutcomes, samples: NodeSamples, in_force: FleetInForce) -> Fleet:
    """The fleet with the clusters of the run that it does not declare, and links as the current snapshot has them."""
    declared = {cluster.name for cluster in fleet.clusters}
    joined = [
        _observed_cluster(row, outcomes, samples)
        for row, name in enumerate(outcomes.clusters)
        if name not in declared and (outcomes.node_cluster == row).any()
    ]
    if not joined:
        return fleet
    snapshot = in_force.snapshot(at_s=0.0)
    row_of = {name: row for row, name in enumerate(snapshot.clusters)}
    links = [
        Link(
            from_cluster=one.name,
            to_cluster=other.name,
            rtt_ms=float(snapshot.rtt_ms[row_of[one.name], row_of[other.name]]),
            bandwidth_mbit_per_s=float(snapshot.bandwidth_mbit_per_s[row_of[one.name], row_of[other.name]]),
        )
        for position, one in enumerate(joined)
        for other in (*fleet.clusters, *joined[:position])
        if one.name in row_of and other.name in row_of
    ]
    return dataclasses.replace(fleet, clusters=(*fleet.clusters, *joined), links=(*fleet.links, *links))


def _observed_cluster(row: int, outcomes: RunOutcomes, samples: NodeSamples) -> Cluster:
    """A cluster of the run from its samples: each node has the mean of what was allocatable. A node without a sample is left out."""
    nodes = []
    for node in np.flatnonzero(outcomes.node_cluster == row).tolist():
        seen = samples.node == node
        if not seen.any():
            continue
        devices = samples.extended_allocatable[:, seen].mean(axis=1) if samples.extended else []
        amounts = ((name, round(amount)) for name, amount in zip(samples.extended, devices, strict=True) if amount >= 1)
        nodes.append(
            Node(
                name=outcomes.nodes[node],
                cpu_millicores=round(samples.cpu_allocatable_millicores[seen].mean()),
                memory_mib=round(samples.memory_allocatable_mib[seen].mean()),
                extended=tuple(amounts),
            )
        )
    return Cluster(name=outcomes.clusters[row], nodes=tuple(nodes))
