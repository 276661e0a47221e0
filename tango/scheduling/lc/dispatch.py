"""LC dispatch of one entry cluster, compiled: the step that live dispatch and the simulator's engine share.

A request of service s that enters at cluster e and runs on node n of cluster c costs

    weight x network(e, c, s) + price(s, n)

The policy's file says what the price is and how a node is chosen by it; for the policies that go by time, the weight is 1 and the price
the expected time on the node. The network is the same for all nodes of a cluster, so each cluster offers its cheapest node. That gives
the same plan as a look at every node (a test holds them together) at a cost that grows with the clusters tried, not with the nodes there
are. Of its equally cheap nodes a cluster offers the first; the entry cluster of a policy that counts crowding offers the one where the
request takes least CPU from BE (`taken_from_be`), which no price knows, since LC goes first on every node.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined, one_of
from tango.scheduling.lc.built_in import POLICIES
from tango.scheduling.lc.columns import Ask, Asks, Belief, Choices, Exploration, Terrain, Traits
from tango.scheduling.lc.expected_time import demand_cores, expected_on_node_s, link_carries, network_s, taken_from_be, time_alone_s
from tango.scheduling.lc.offers import forget_offers

_price = one_of([policy.price for policy in POLICIES], otherwise=time_alone_s)
_choose = one_of([policy.choose for policy in POLICIES], otherwise=POLICIES[0].choose)


@inlined
def set_price(policy: Traits, terrain: Terrain, belief: Belief, service: int, node: int) -> None:
    """Work out the price of a node for a service."""
    belief.price[service, node] = _price(policy.place, terrain, belief, service, node)


@inlined
def set_offer(terrain: Terrain, belief: Belief, service: int, cluster: int) -> None:
    """Find the cheapest node of a cluster for a service; among equals the one where BE loses least, and among equals of these the first."""
    cheapest, least, taken = -1, np.inf, np.inf
    for k in range(terrain.first[cluster], terrain.first[cluster + 1]):
        node = terrain.members[k]
        price = belief.price[service, node]
        if price < least or (price == least and cheapest >= 0 and taken_from_be(belief, node) < taken):
            cheapest, least, taken = node, price, taken_from_be(belief, node)
    belief.best_node[service, cluster] = cheapest
    belief.best_price[service, cluster] = least


@in_place
def set_prices(policy: Traits, terrain: Terrain, belief: Belief) -> None:
    """Price every node for every LC service, and let every cluster offer its cheapest."""
    if policy.counts_crowding:
        for node in range(belief.price.shape[1]):
            belief.demand[node] = demand_cores(belief, node)
    for service in range(belief.price.shape[0]):
        if terrain.target_s[service] == np.inf:
            continue
        longest = 1.0
        for node in range(belief.price.shape[1]):
            if belief.limit_cores[service, node] > 0.0:
                longest = max(longest, belief.in_flight[service, node] / belief.limit_cores[service, node])
        belief.longest_queue[service] = longest
        for node in range(belief.price.shape[1]):
            set_price(policy, terrain, belief, service, node)
        for cluster in range(len(terrain.first) - 1):
            set_offer(terrain, belief, service, cluster)


@inlined
def count_in(policy: Traits, terrain: Terrain, belief: Belief, service: int, node: int, requests: float) -> None:
    """Add requests to what is believed to be in flight on a node."""
    belief.in_flight[service, node] += requests
    if policy.counts_crowding:
        taken = taken_from_be(belief, node)
        belief.demand[node] = demand_cores(belief, node)
        if not is_crowded(belief, node) and taken_from_be(belief, node) != taken:
            for other in range(belief.in_flight.shape[0]):
                if other != service and belief.limit_cores[other, node] > 0.0:
                    set_offer(terrain, belief, other, terrain.cluster_of[node])
        if is_crowded(belief, node):
            for other in range(belief.in_flight.shape[0]):
                if other != service and belief.limit_cores[other, node] > 0.0:
                    set_price(policy, terrain, belief, other, node)
                    set_offer(terrain, belief, other, terrain.cluster_of[node])
    set_price(policy, terrain, belief, service, node)
    set_offer(terrain, belief, service, terrain.cluster_of[node])


@inlined
def is_crowded(belief: Belief, node: int) -> bool:
    """Whether one more request of any service may find the node crowded, so that the prices of all its services depend on each other."""
    return bool(belief.demand[node] + 1.0 > belief.cores[node])


@in_place
def see_home(policy: Traits, terrain: Terrain, belief: Belief, home: int, be_limit: NDArray[np.float64]) -> None:
    """Put in what BE may use of the nodes of an entry cluster, (n,) cores; infinity of all takes it out again. No price changes."""
    if not policy.counts_crowding:
        return
    for k in range(terrain.first[home], terrain.first[home + 1]):
        belief.be_limit[terrain.members[k]] = be_limit[terrain.members[k]]
    for service in range(belief.price.shape[0]):
        if terrain.target_s[service] < np.inf:
            set_offer(terrain, belief, service, home)


@in_place
def dispatch(
    policy: Traits,
    entry: int,
    rows: NDArray[np.int64],
    asks: Asks,
    terrain: Terrain,
    belief: Belief,
    sent: NDArray[np.float64],
    to: Choices,
    explore: Exploration,
) -> None:
    """Choose a node for each of `rows`, which index `asks` and `to` and entered at `entry`; count each choice in.

    `sent` (s, c) counts what this batch has given to each link.
    """
    forget_offers(belief)
    for row in rows:
        service = asks.service[row]
        ask = Ask(entry, service, asks.budget_s[row], asks.turn[row], row)
        node = _choose(policy.place, terrain, belief, ask, sent, explore)
        to.node[row] = node
        if node < 0:
            to.expected_s[row] = np.inf
            to.late[row] = False
            continue
        cluster = terrain.cluster_of[node]
        expected_s = network_s(terrain, entry, cluster, service) + expected_on_node_s(policy, terrain, belief, service, node)
        late = expected_s > ask.budget_s
        if policy.minds_links and not late and not link_carries(terrain, entry, cluster, service, sent[service, cluster] + 1.0):
            late = True
        to.expected_s[row] = expected_s
        to.late[row] = late
        sent[service, cluster] += 1.0
        count_in(policy, terrain, belief, service, node, 1.0)
