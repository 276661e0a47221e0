"""The LC dispatch flow stated for OR-tools: the yardstick of the closed form, and the way for graphs that are no tree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from ortools.graph.python import min_cost_flow

from tango.scheduling.completion import LcView
from tango.scheduling.lc_flow import marginal_s

MICRO = 1_000_000


def solve_dispatch(
    view: LcView, service: int, count: int, budget_s: float, node_cluster: NDArray[np.int32], links: NDArray[np.float64]
) -> tuple[int, float]:
    """(requests that can meet the target, their least total expected completion in seconds) for `count` equal requests.

    Vertices: source, clusters, nodes, sink. A node has one unit arc per request it could take, at rising cost; the arcs of a
    cluster share its link. Costs are rounded to microseconds.
    """
    clusters, nodes = len(links), len(node_cluster)
    flow = min_cost_flow.SimpleMinCostFlow()
    source, sink = clusters + nodes, clusters + nodes + 1
    for c in range(clusters):
        flow.add_arc_with_capacity_and_unit_cost(source, c, int(min(links[c], count)), 0)
    for n in range(nodes):
        if view.limit_cores[service, n] <= 0:
            continue
        flow.add_arc_with_capacity_and_unit_cost(int(node_cluster[n]), clusters + n, count, 0)
        for k in range(count):
            cost_s = marginal_s(
                view.work_s[service],
                view.network_s[service, n],
                view.limit_cores[service, n],
                view.places[service, n],
                view.in_flight[service, n] + k,
            )
            if cost_s > budget_s:
                break
            flow.add_arc_with_capacity_and_unit_cost(clusters + n, sink, 1, round(cost_s * MICRO))
    flow.set_node_supply(source, count)
    flow.set_node_supply(sink, -count)
    if flow.solve_max_flow_with_min_cost() != flow.OPTIMAL:
        raise ArithmeticError("the min-cost flow of an LC dispatch has no optimum")
    return flow.maximum_flow(), flow.optimal_cost() / MICRO
