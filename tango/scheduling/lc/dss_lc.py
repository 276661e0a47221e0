"""`dss-lc`: minimum-cost flow of a batch over clusters and nodes, in closed form.

Source: Tango (Feng et al., ICPP 2023, doi 10.1145/3605573.3605589), the LC dispatcher as a minimum-cost flow over edge clusters.
Departures: the cost of an arc is the expected completion of one more request, which rises with the number sent, instead of a fixed
distance, and counts that all LC services of a node share its CPU (`expected_time.crowding`); the capacity of a node is what still meets the
target, so that it follows from the cost; what fits nowhere is spread by expected completion and marked late.

From one entry the graph is a tree: node arcs inside cluster links inside the source. Unit costs of a service on a node rise with each
request, and the links are nested capacities, so filling the cheapest free unit first is optimal (a greedy over a laminar matroid;
Edmonds 1971). `tango/bench/lc_flow_solver.py` states the same flow for OR-tools, and a test holds the one to the other. A batch of
several services is filled service by service as its requests come, which is no optimum over all of them: on a crowded node what one
service sends raises the price of the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import compiled, inlined
from tango.scheduling.lc.columns import Ask, Belief, Exploration, Terrain
from tango.scheduling.lc.expected_time import crowding, network_s, time_alone_s, time_on_node_s
from tango.scheduling.lc.offers import cheapest_offer
from tango.scheduling.lc.policy import CompiledPolicy


@inlined
def _time_on_shared_cpu_s(terrain: Terrain, belief: Belief, service: int, node: int) -> float:
    return time_alone_s(terrain, belief, service, node) * crowding(belief, service, node, belief.in_flight[service, node])


@inlined
def _cheapest_over_free_links(terrain: Terrain, belief: Belief, ask: Ask, sent: NDArray[np.float64], _explore: Exploration) -> int:
    return cheapest_offer(terrain, belief, ask.entry, ask.service, ask.budget_s, sent, True)


POLICY = CompiledPolicy(
    name="dss-lc", choose=_cheapest_over_free_links, price=_time_on_shared_cpu_s, counts_crowding=True, minds_links=True
)


@compiled
def unit_times_s(terrain: Terrain, belief: Belief, entry: int, service: int, count: int, budget_s: float) -> NDArray[np.float64]:
    """(n, u) expected completion of the first, second, ... further request of a service on every node; infinity beyond the budget.

    The unit costs of the flow's arcs, for the solver that the closed form is held to.
    """
    nodes = belief.in_flight.shape[1]
    most = 0
    for node in range(nodes):
        units = 0
        while units < count and _unit_s(terrain, belief, entry, service, node, units) <= budget_s:
            units += 1
        most = max(most, units)
    out = np.full((nodes, max(1, most)), np.inf)
    for node in range(nodes):
        for u in range(most):
            time_s = _unit_s(terrain, belief, entry, service, node, u)
            if time_s > budget_s:
                break
            out[node, u] = time_s
    return out


@inlined
def _unit_s(terrain: Terrain, belief: Belief, entry: int, service: int, node: int, before: int) -> float:
    in_flight = belief.in_flight[service, node] + before
    alone_s = time_on_node_s(terrain.work_s[service], belief.limit_cores[service, node], belief.places[service, node], in_flight)
    return network_s(terrain, entry, terrain.cluster_of[node], service) + alone_s * crowding(belief, service, node, in_flight)
