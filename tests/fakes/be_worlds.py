"""Random snapshots and pending BE requests for tests of placement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.training.worlds import World, draw_world


def be_world(seed: int, *, ticks: int = 6) -> tuple[BePending, FleetSnapshot]:
    """A world after some ticks of doing nothing, with what waits in it."""
    rng = np.random.default_rng(seed)
    world = World(draw_world(rng), rng)
    for _ in range(ticks):
        world.step(np.full(world.pending_count, -1, np.int32))
    return world.pending(), world.snapshot()


def reordered(snapshot: FleetSnapshot, order: np.ndarray) -> FleetSnapshot:
    """The same fleet with its nodes in another order."""
    by_node = [
        "node_cluster",
        "node_ready",
        "cpu_allocatable",
        "memory_allocatable",
        "lc_cpu_limit",
        "lc_cpu_request",
        "lc_memory_held",
        "be_cpu_request",
        "be_cpu_limit",
        "be_memory_held",
        "be_pods",
        "cpu_used",
        "memory_used",
        "slack",
        "lc_cpu_recent",
    ]
    changed = {name: getattr(snapshot, name)[order] for name in by_node}
    for name in ("instance_limit", "instance_count", "in_flight", "in_flight_work_s"):
        changed[name] = getattr(snapshot, name)[:, order]
    return replace(snapshot, nodes=tuple(snapshot.nodes[k] for k in order), **changed)
