"""What clusters offer for a service, cheapest first, while a batch is dispatched. Compiled.

A batch asks again and again for the cheapest offer, and each request raises only what one node costs. So the offers that have been looked
at stand in a heap by their cost, one heap for each service, and clusters come into it from near to far, none before even an idle node
there could be the cheapest. A request then costs a look at the top instead of one at every near cluster.

The entry cluster stands beside the heap and is looked at each time: which of its equally quick nodes it offers follows what BE loses
there, and may change back and forth while no price does.

It rests on two things: within a batch no price falls (`dispatch.count_in` raises them), so that a cost in the heap that is out of date is
too low, and is corrected when it comes to the top; and a link that carries no more stays full, so that its cluster leaves the heap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined
from tango.scheduling.lc.columns import Belief, Terrain
from tango.scheduling.lc.expected_time import cheapest_in_time, link_carries, network_s

SIZE, NEXT, FULL_LINKS = range(3)
"""Columns of `Belief.ranks`."""
NOT_BEGUN = -1
"""Size of a heap of which nobody has asked in this batch."""


@inlined
def forget_offers(belief: Belief) -> None:
    """Begin a batch: prices may have fallen since the last one, and the requests of another entry rank clusters otherwise."""
    for service in range(len(belief.ranks)):
        belief.ranks[service, SIZE] = NOT_BEGUN


@in_place
def cheapest_offer(
    terrain: Terrain, belief: Belief, entry: int, service: int, budget_s: float, sent: NDArray[np.float64], minds_links: bool
) -> int:
    """As `expected_time.cheapest_in_time`, which looks at every near cluster, and the same node; -1 where no node has an instance."""
    ranks, ranked = belief.ranks, belief.ranked
    if ranks[service, SIZE] == NOT_BEGUN:
        ranks[service, SIZE] = ranks[service, NEXT] = ranks[service, FULL_LINKS] = 0
    home = belief.best_node[service, entry]
    home_cost = network_s(terrain, entry, entry, service) + belief.best_price[service, entry]
    while True:
        _take_in(terrain, belief, entry, service, home_cost)
        top = ranked[service, 0]
        if home >= 0 and (ranks[service, SIZE] == 0 or _before(home_cost, home, top)):
            if home_cost <= budget_s or ranks[service, FULL_LINKS] == 0:
                return int(home)
            break
        if ranks[service, SIZE] == 0:
            break
        cluster, node = top.cluster, belief.best_node[service, top.cluster]
        cost = network_s(terrain, entry, cluster, service) + belief.best_price[service, cluster]
        if cost != top.cost or node != top.node:
            top.cost, top.node = cost, node
            _sink(belief, service)
        elif minds_links and not link_carries(terrain, entry, cluster, service, sent[service, cluster] + 1.0):
            ranks[service, FULL_LINKS] += 1
            ranks[service, SIZE] -= 1
            ranked[service, 0] = ranked[service, ranks[service, SIZE]]
            _sink(belief, service)
        elif cost <= budget_s or ranks[service, FULL_LINKS] == 0:
            return int(node)
        else:
            break
    if ranks[service, FULL_LINKS] == 0:
        return -1
    # What is late may go over a full link as well as over another.
    return cheapest_in_time(terrain, belief, entry, service, budget_s, sent, minds_links)


@inlined
def _take_in(terrain: Terrain, belief: Belief, entry: int, service: int, home_cost: float) -> None:
    """Put the next clusters into the heap as long as an idle node there could be as cheap as the top, and as the entry cluster."""
    ranks, ranked = belief.ranks, belief.ranked
    while ranks[service, NEXT] < terrain.near.shape[1]:
        cluster = terrain.near[entry, ranks[service, NEXT]]
        size = ranks[service, SIZE]
        least = terrain.rtt_s[entry, cluster] + terrain.work_s[service]
        if least > home_cost or (size > 0 and least > ranked[service, 0].cost):
            return
        ranks[service, NEXT] += 1
        node = belief.best_node[service, cluster]
        if cluster == entry or node < 0:
            continue
        cost = network_s(terrain, entry, cluster, service) + belief.best_price[service, cluster]
        ranks[service, SIZE] += 1
        at = size
        while at > 0:
            parent = (at - 1) >> 1
            if not _before(cost, node, ranked[service, parent]):
                break
            ranked[service, at] = ranked[service, parent]
            at = parent
        ranked[service, at].cost = cost
        ranked[service, at].node = node
        ranked[service, at].cluster = cluster


@inlined
def _before(cost: float, node: int, other: Any) -> bool:
    """Whether an offer comes before another: the cheaper one, among equals the lower node."""
    return bool(cost < other.cost or (cost == other.cost and node < other.node))


@inlined
def _sink(belief: Belief, service: int) -> None:
    """Let the offer at the top find its place: it has become dearer, or another one has been put there."""
    ranked, size = belief.ranked, belief.ranks[service, SIZE]
    cost, node, cluster = ranked[service, 0].cost, ranked[service, 0].node, ranked[service, 0].cluster
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size:
            right = ranked[service, child + 1]
            if _before(right.cost, right.node, ranked[service, child]):
                child += 1
        if _before(cost, node, ranked[service, child]):
            break
        ranked[service, at] = ranked[service, child]
        at = child
    ranked[service, at].cost = cost
    ranked[service, at].node = node
    ranked[service, at].cluster = cluster
