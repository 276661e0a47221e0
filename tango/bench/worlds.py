"""Fleets, snapshots and requests of any size for benchmarks, with machines and services of the built-in fleet `paper`."""

from __future__ import annotations

import dataclasses

import numpy as np

from tango.domain.fleet import Fleet
from tango.domain.requests import BePending, LcArrivals
from tango.domain.resource_axis import CPU, PODS
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import pending_columns
from tango.fleets import load_fleet
from tango.fleets.declarations import hash_of
from tango.fleets.recipes import FleetRecipe, edge_machines, expand
from tango.scheduling.lc.columns import IN_PYTHON, NO_WEIGHTS
from tango.settings import Settings
from tango.sim.simulation_state import SimulationState
from tango.sim.views import Views


def fleet_of_size(nodes: int, *, clusters: int | None = None, seed: int = 1) -> Fleet:
    """A generated fleet with exactly `nodes` nodes; by default a cluster has ten on average."""
    like = load_fleet("paper")
    count = clusters or max(1, round(nodes / 10))
    recipe = FleetRecipe(
        clusters=count,
        nodes_min=1,
        nodes_max=max(20, -(-nodes // count)),
        nodes=nodes,
        area_km=1000.0,
        seed=seed,
        machines=edge_machines((0.3, 0.5, 0.2)),
    )
    fleet = dataclasses.replace(like, name=f"bench-{nodes}", clusters=expand(recipe))
    return dataclasses.replace(fleet, source_hash=hash_of(fleet))


def busy_snapshot(fleet: Fleet, *, seed: int = 1) -> FleetSnapshot:
    """A snapshot of the fleet in which nodes and instances are about half busy, at random."""
    nothing = NewRequests(
        due_s=np.zeros(0),
        target_s=np.zeros(0),
        service_class=np.zeros(0, np.int8),
        service=np.zeros(0, np.int32),
        cluster=np.zeros(0, np.int32),
        cpu_work_s=np.zeros(0),
        memory_mib=np.zeros(0),
        services=tuple(s.name for s in fleet.services),
        clusters=tuple(c.name for c in fleet.clusters),
    )
    world = SimulationState(
        fleet, nothing, Settings(), lc_policy=IN_PYTHON, lc_weights=NO_WEIGHTS, sharing="static", charge_s=np.zeros(1)
    )
    rng = np.random.default_rng(seed)
    idle = Views(world).centre()
    limit = world.engine.truth.limit * 1e3
    in_flight = np.where(limit > 0, rng.integers(0, 4, limit.shape), 0).astype(np.float64)
    held = rng.uniform(0.1, 0.6, len(idle.nodes))
    be_requests = held * (idle.allocatable - idle.lc_requests)
    be_requests[PODS] = np.ceil(4 * held)
    return dataclasses.replace(
        idle,
        instance_limit=limit,
        instance_count=(limit > 0).astype(np.float64),
        in_flight=in_flight,
        in_flight_work_s=0.5 * in_flight,
        be_requests=be_requests,
        be_cpu_limit=2 * be_requests[CPU],
        cpu_used=idle.cpu_allocatable * rng.uniform(0.2, 0.9, len(idle.nodes)),
        slack=rng.uniform(-0.5, 1.0, len(idle.nodes)),
    )


def arrivals_for(fleet: Fleet, count: int, *, entry: int = 0, seed: int = 1) -> LcArrivals:
    """`count` LC requests, of services drawn uniformly, that entered at the cluster of row `entry`."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero([s.service_class is ServiceClass.LC for s in fleet.services])
    service = rng.choice(rows, count).astype(np.int32)
    target_s = np.array([(s.target_ms or 0.0) / 1e3 for s in fleet.services])[service]
    return LcArrivals(
        request_id=np.arange(count, dtype=np.int64),
        service=service,
        entry_cluster=np.full(count, entry, np.int32),
        due_s=np.zeros(count),
        target_s=target_s,
        cpu_work_s=np.array([s.cpu_work_s for s in fleet.services])[service],
        memory_mib=np.array([float(s.memory_mib) for s in fleet.services])[service],
        epoch=np.zeros(count, np.int32),
    )


def pending_for(fleet: Fleet, count: int, *, seed: int = 1) -> BePending:
    """`count` BE requests, of services and entry clusters drawn uniformly."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero([s.service_class is ServiceClass.BE for s in fleet.services])
    service = rng.choice(rows, count).astype(np.int32)
    return pending_columns(
        fleet.services,
        run_id=np.zeros(count, np.int64),
        request_id=np.arange(count, dtype=np.int64),
        service=service,
        entry_cluster=rng.integers(0, len(fleet.clusters), count).astype(np.int32),
        waited_s=np.zeros(count),
        cpu_work_s=np.array([s.cpu_work_s for s in fleet.services])[service],
        memory_mib=np.array([float(s.memory_mib) for s in fleet.services])[service],
        epoch=np.zeros(count, np.int32),
    )
