"""The LC dispatch flow stated for OR-tools: the yardstick of the closed form, and the way for graphs that are no tree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.errors import ConfigError
from tango.scheduling.lc_dispatch import Belief, Terrain, unit_times_s

try:
    from ortools.graph.python import min_cost_flow
except ImportError as missing:
    raise ConfigError(
        "`tango bench scheduler` and the tests measure against OR-tools, which is not installed: run `make install`, "
        "or `pip install 'tango-edge[bench]'`"
    ) from missing

MICRO = 1_000_000


def solve_dispatch(terrain: Terrain, belief: Belief, entry: int, service: int, count: int, budget_s: float) -> tuple[int, float]:
    """(requests that can meet the target, their least total expected completion in seconds) for `count` equal requests.

    Vertices: source, clusters, sink. A node has one unit arc per request it could take, at rising cost, from its cluster; the arcs of a
    cluster share its link. Of each cluster only the cheapest `count` units can be in an optimum, so the others are left out. Costs are
    rounded to microseconds.
    """
    links = link_capacity(terrain, entry, service)
    clusters = len(links)
    cost_s = unit_times_s(terrain, belief, entry, service, count, budget_s)
    node, _ = np.nonzero(np.isfinite(cost_s))
    cost = np.rint(cost_s[np.isfinite(cost_s)] * MICRO).astype(np.int64)
    # Not all units that meet the budget can be used: no more than `count` in all, and the links let any of the cheapest through.
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
    """(c,) whole requests whose payload each link carries within the target; infinity at home."""
    transfer_s = terrain.payload_kib[service] * terrain.s_per_kib[entry]
    with np.errstate(divide="ignore"):
        # The same comparison as the closed form makes, so that a quotient just below a whole number counts as in it.
        capacity = np.floor(terrain.target_s[service] / transfer_s + 1e-9)
    return np.asarray(capacity)
