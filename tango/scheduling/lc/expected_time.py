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
def time_alone_s(t: Terrain, b: Belief, s: int, n: int) -> float:
    """Expected time of one more request of service s on node n, as its own service's instances there give it."""
    return time_on_node_s(t.work_s[s], b.limit_cores[s, n], b.places[s, n], b.in_flight[s, n])


@inlined
def demand_cores(b: Belief, n: int) -> float:
    """CPU that the LC requests in flight on a node would use: a core each, but those of a service no more than its limit."""
    cores = 0.0
    for s in range(b.in_flight.shape[0]):
        cores += min(b.in_flight[s, n], b.limit_cores[s, n])
    return cores


@inlined
def crowding(b: Belief, s: int, n: int, in_flight: float) -> float:
    """Factor, at least 1, by which the CPU of a node stretches the time of one more request of a service of which `in_flight` are there.

    What the node's other services want stands in `Belief.demand`. It never falls as `in_flight` rises.
    """
    if b.demand[n] + (in_flight - b.in_flight[s, n]) + 1.0 <= b.cores[n]:
        return 1.0
    limit_cores = b.limit_cores[s, n]
    demand = b.demand[n] - min(b.in_flight[s, n], limit_cores) + min(in_flight + 1.0, limit_cores)
    return float(max(1.0, demand / b.cores[n]))


@inlined
def expected_on_node_s(policy: Traits, t: Terrain, b: Belief, s: int, n: int) -> float:
    """What a policy takes the time of one more request of service s on node n to be."""
    time_s = time_alone_s(t, b, s, n)
    if policy.counts_crowding:
        time_s *= crowding(b, s, n, b.in_flight[s, n])
    return time_s


@inlined
def network_s(t: Terrain, entry: int, c: int, s: int) -> float:
    """Round trip and transfer from an entry to a cluster."""
    return float(t.rtt_s[entry, c] + t.payload_kib[s] * t.s_per_kib[entry, c])


@inlined
def link_carries(t: Terrain, entry: int, c: int, s: int, requests: float) -> bool:
    """Whether the link from the entry to a cluster carries this many payloads within the service's target."""
    return bool(requests * t.payload_kib[s] * t.s_per_kib[entry, c] <= t.target_s[s])


@inlined
def cheapest_in_time(
    t: Terrain, b: Belief, entry: int, s: int, budget_s: float, sent: NDArray[np.float64], minds_links: bool
) -> int:
    """The node of least network time and price within the budget, else the cheapest of all; ties go to the lower row.

    For prices that are seconds. With `minds_links` only over a link that carries one more. Clusters are tried from near to far until
    even an idle node there would be dearer than what has been found.
    """
    best, best_s = -1, np.inf
    spill, spill_s = -1, np.inf
    for k in range(t.near.shape[1]):
        c = t.near[entry, k]
        least_s = t.rtt_s[entry, c] + t.work_s[s]
        if least_s > best_s or (best < 0 and least_s > budget_s and least_s > spill_s):
            break
        n = b.best_node[s, c]
        if n < 0:
            continue
        cost = network_s(t, entry, c, s) + b.best_price[s, c]
        if cost < spill_s or (cost == spill_s and n < spill):
            spill, spill_s = n, cost
        if (
            cost <= budget_s
            and (cost < best_s or (cost == best_s and n < best))
            and (not minds_links or link_carries(t, entry, c, s, sent[s, c] + 1.0))
        ):
            best, best_s = n, cost
    return best if best >= 0 else spill
