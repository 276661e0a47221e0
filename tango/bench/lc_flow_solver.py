"""LC dispatch as a min-cost flow for OR-tools: the yardstick of the closed form in `tango.scheduling.lc.dss_lc`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.errors import ConfigError
from tango.scheduling.lc.columns import Belief, Terrain
from tango.scheduling.lc.dss_lc import unit_times_s

try:
    from ortools.graph.python import min_cost_flow
except ImportError as missing:
    raise ConfigError(
        "`tango bench scheduler` and the tests measure against OR-tools, which is not installed: run `make install`, "
        "or `pip install 'tango-edge[bench]'`"
    ) from missing

MICRO = 1_000_000
"""OR-tools takes whole costs: seconds are rounded to microseconds."""


def solve_dispatch(terrain: Terrain, belief: Belief, entry: int, service: int, count: int, budget_s: float) -> tuple[int, float]:
    """(requests that can meet the target, least sum of their expected completion times in seconds) for `count` equal requests.

    `entry` and `service` are rows of the terrain; `budget_s` is the target. The graph has a source, the clusters and a sink. An arc from
    source to cluster has the capacity of the link; each request that a node could take is an arc of capacity 1 from its cluster to the
    sink, whose cost is the expected completion if the node takes that many. These costs rise, so the flow fills them in order.
    Raises: ArithmeticError if the solver finds no optimum, which a feasible flow of 0 excludes.
    """
    links = link_capacity(terrain, entry, service)
    clusters = len(links)
    cost_s = unit_times_s(terrain, belief, entry, service, count, budget_s)
    node, _ = np.nonzero(np.isfinite(cost_s))
    cost = np.rint(cost_s[np.isfinite(cost_s)] * MICRO).astype(np.int64)
    # Where the links let everything through, an optimum uses only the `count` cheapest arcs; leaving out the others saves most of the time.
    if np.all(links >= count) and len(cost) > count:
        kept = np.argpartition(cost, count - 1)[:count]
        node, cost = node[kept], cost[kept]
    source, sink = clusters, clusters + 1
    flow = min_cost_flow.SimpleMinCostFlow()
    everything = np.arange(clusters, dtype=np.int32)
    flow.add_arcs_with_capacity_and_unit_cost(
        np.full(clusters, source, np.int32), everything, np.minimum(links, count).astype(np.int64), np.zeros(clusters, np.int64)
    )
    flow.add_arcs_with_capacity_and_unit_cost(
        terrain.cluster_of[node].astype(np.int32), np.full(len(node), sink, np.int32), np.ones(len(node), np.int64), cost
    )
    flow.set_nodes_supplies(np.array([source, sink], np.int32), np.array([count, -count], np.int64))
    if flow.solve_max_flow_with_min_cost() != flow.OPTIMAL:
        raise ArithmeticError("the min-cost flow of an LC dispatch has no optimum")
    return flow.maximum_flow(), flow.optimal_cost() / MICRO


def link_capacity(terrain: Terrain, entry: int, service: int) -> NDArray[np.float64]:
    """(clusters,) whole requests whose payload the link from `entry` carries within the target; infinity for `entry` itself."""
    transfer_s = terrain.payload_kib[service] * terrain.s_per_kib[entry]
    with np.errstate(divide="ignore"):
        # With the closed form's tolerance of 1e-9, so that both count a quotient just below a whole number as that number.
        capacity = np.floor(terrain.target_s[service] / transfer_s + 1e-9)
    return np.asarray(capacity)
