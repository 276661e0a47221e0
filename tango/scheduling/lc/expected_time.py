"""How long one more request would take: LC policies price nodes by it, and a request beyond its budget is late. Compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import inlined
from tango.scheduling.lc.columns import Belief, Terrain, Traits


@inlined
def time_on_node_s(work_s: float, limit_cores: float, places: float, in_flight: float) -> float:
    """Expected time of one more request on a node, network excluded: service under processor sharing, and waiting for memory.

    With k requests in service on L cores each has min(1, L / k) of a core, so one more is served in work x max(1, (k + 1) / L); those
    beyond what memory holds wait for as many to leave, at L / work a second. Convex and rising in `in_flight`; infinity where there is
    no ready instance. An estimate: that k stays as it is until the request ends is the simplification.
    """
    if limit_cores <= 0.0:
        return np.inf
    most_held = max(1.0, places)
    held = min(in_flight + 1.0, most_held)
    service_s = work_s * max(1.0, held / limit_cores)
    waiting_s = max(0.0, in_flight + 1.0 - most_held) * work_s / limit_cores
    return service_s + waiting_s


@inlined
def time_alone_s(terrain: Terrain, belief: Belief, service: int, node: int) -> float:
    """Expected time of one more request of a service on a node, as its own service's instances there give it."""
    return time_on_node_s(
        terrain.work_s[service], belief.limit_cores[service, node], belief.places[service, node], belief.in_flight[service, node]
    )


@inlined
def demand_cores(belief: Belief, node: int) -> float:
    """CPU that the LC requests in flight on a node would use: a core each, but those of a service no more than its limit."""
    cores = 0.0
    for service in range(belief.in_flight.shape[0]):
        cores += min(belief.in_flight[service, node], belief.limit_cores[service, node])
    return cores


@inlined
def crowding(belief: Belief, service: int, node: int, in_flight: float) -> float:
    """Factor, at least 1, by which the CPU of a node stretches the time of one more request of a service of which `in_flight` are there.

    What the node's other services want stands in `Belief.demand`. It never falls as `in_flight` rises.
    """
    if belief.demand[node] + (in_flight - belief.in_flight[service, node]) + 1.0 <= belief.cores[node]:
        return 1.0
    limit_cores = belief.limit_cores[service, node]
    demand = belief.demand[node] - min(belief.in_flight[service, node], limit_cores) + min(in_flight + 1.0, limit_cores)
    return float(max(1.0, demand / belief.cores[node]))


@inlined
def taken_from_be(belief: Belief, node: int) -> float:
    """Cores, 0 to 1, that the BE pods of a node would lose to one more LC request; 1 where they are not known."""
    return float(min(1.0, max(0.0, belief.be_limit[node] + belief.demand[node] + 1.0 - belief.cores[node])))


@inlined
def expected_on_node_s(policy: Traits, terrain: Terrain, belief: Belief, service: int, node: int) -> float:
    """What a policy takes the time of one more request of a service on a node to be."""
    time_s = time_alone_s(terrain, belief, service, node)
    if policy.counts_crowding:
        time_s *= crowding(belief, service, node, belief.in_flight[service, node])
    return time_s


@inlined
def network_s(terrain: Terrain, entry: int, cluster: int, service: int) -> float:
    """Round trip and transfer from an entry to a cluster."""
    return float(terrain.rtt_s[entry, cluster] + terrain.payload_kib[service] * terrain.s_per_kib[entry, cluster])


@inlined
def link_carries(terrain: Terrain, entry: int, cluster: int, service: int, requests: float) -> bool:
    """Whether the link from the entry to a cluster carries this many payloads within the service's target."""
    return bool(requests * terrain.payload_kib[service] * terrain.s_per_kib[entry, cluster] <= terrain.target_s[service])


@inlined
def cheapest_in_time(
    terrain: Terrain, belief: Belief, entry: int, service: int, budget_s: float, sent: NDArray[np.float64], minds_links: bool
) -> int:
    """The node of least network time and price within the budget, else the cheapest of all; ties go to the lower row.

    For prices that are seconds. With `minds_links` only over a link that carries one more. Clusters are tried from near to far until
    even an idle node there would be dearer than what has been found.
    """
    best, best_s = -1, np.inf
    spill, spill_s = -1, np.inf
    for k in range(terrain.near.shape[1]):
        cluster = terrain.near[entry, k]
        least_s = terrain.rtt_s[entry, cluster] + terrain.work_s[service]
        if least_s > best_s or (best < 0 and least_s > budget_s and least_s > spill_s):
            break
        node = belief.best_node[service, cluster]
        if node < 0:
            continue
        cost = network_s(terrain, entry, cluster, service) + belief.best_price[service, cluster]
        if cost < spill_s or (cost == spill_s and node < spill):
            spill, spill_s = node, cost
        if (
            cost <= budget_s
            and (cost < best_s or (cost == best_s and node < best))
            and (not minds_links or link_carries(terrain, entry, cluster, service, sent[service, cluster] + 1.0))
        ):
            best, best_s = node, cost
    return best if best >= 0 else spill
