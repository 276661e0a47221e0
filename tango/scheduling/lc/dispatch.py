"""LC dispatch of one entry cluster, compiled: the step that live dispatch and the simulator's engine share.

A request of service s that enters at cluster e and runs on node n of cluster c costs

    weight x network(e, c, s) + price(s, n)

The policy's file says what the price is and how a node is chosen by it; for the policies that go by time, the weight is 1 and the price
the expected time on the node. The network is the same for all nodes of a cluster, so each cluster offers its cheapest node. That gives
the same plan as a look at every node (a test holds them together) at a cost that grows with the clusters tried, not with the nodes there
are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined, one_of
from tango.scheduling.lc.built_in import POLICIES
from tango.scheduling.lc.columns import Ask, Belief, Choices, Exploration, Terrain, Traits
from tango.scheduling.lc.expected_time import demand_cores, expected_on_node_s, link_carries, network_s, time_alone_s

_price = one_of([policy.price for policy in POLICIES], otherwise=time_alone_s)
_choose = one_of([policy.choose for policy in POLICIES], otherwise=POLICIES[0].choose)


@inlined
def set_price(policy: Traits, t: Terrain, b: Belief, s: int, n: int) -> None:
    """Work out the price of node n for service s."""
    b.price[s, n] = _price(policy.place, t, b, s, n)


@inlined
def set_offer(t: Terrain, b: Belief, s: int, c: int) -> None:
    """Find the cheapest node of cluster c for service s; among equals the first."""
    node, least = -1, np.inf
    for k in range(t.first[c], t.first[c + 1]):
        n = t.members[k]
        if b.price[s, n] < least:
            node, least = n, b.price[s, n]
    b.best_node[s, c] = node
    b.best_price[s, c] = least


@in_place
def set_prices(policy: Traits, t: Terrain, b: Belief) -> None:
    """Price every node, and let every cluster offer its cheapest."""
    if policy.counts_crowding:
        for n in range(b.price.shape[1]):
            b.demand[n] = demand_cores(b, n)
    for s in range(b.price.shape[0]):
        longest = 1.0
        for n in range(b.price.shape[1]):
            if b.limit_cores[s, n] > 0.0:
                longest = max(longest, b.in_flight[s, n] / b.limit_cores[s, n])
        b.longest_queue[s] = longest
        for n in range(b.price.shape[1]):
            set_price(policy, t, b, s, n)
        for c in range(len(t.first) - 1):
            set_offer(t, b, s, c)


@inlined
def count_in(policy: Traits, t: Terrain, b: Belief, s: int, n: int, requests: float) -> None:
    """Add requests to what is believed to be in flight on a node."""
    b.in_flight[s, n] += requests
    if policy.counts_crowding:
        b.demand[n] = demand_cores(b, n)
        if is_crowded(b, n):
            for k in range(b.in_flight.shape[0]):
                if k != s and b.limit_cores[k, n] > 0.0:
                    set_price(policy, t, b, k, n)
                    set_offer(t, b, k, t.cluster_of[n])
    set_price(policy, t, b, s, n)
    set_offer(t, b, s, t.cluster_of[n])


@inlined
def is_crowded(b: Belief, n: int) -> bool:
    """Whether one more request of any service may find the node crowded, so that the prices of all its services depend on each other."""
    return bool(b.demand[n] + 1.0 > b.cores[n])


@in_place
def dispatch(
    policy: Traits,
    entry: int,
    rows: NDArray[np.int64],
    service: NDArray[np.int32],
    budget_s: NDArray[np.float64],
    turn: NDArray[np.int64],
    t: Terrain,
    b: Belief,
    sent: NDArray[np.float64],
    to: Choices,
    explore: Exploration,
) -> None:
    """Choose a node for each of `rows`, which index the columns and entered at `entry`; count each choice in.

    `sent` (s, c) counts what this batch has given to each link. `turn` numbers requests in the order of their arrival.
    """
    for row in rows:
        s = service[row]
        n = _choose(policy.place, t, b, Ask(entry, s, budget_s[row], turn[row], row), sent, explore)
        to.node[row] = n
        if n < 0:
            to.expected_s[row] = np.inf
            to.late[row] = False
            continue
        c = t.cluster_of[n]
        expected_s = network_s(t, entry, c, s) + expected_on_node_s(policy, t, b, s, n)
        late = expected_s > budget_s[row]
        if policy.minds_links and not late and not link_carries(t, entry, c, s, sent[s, c] + 1.0):
            late = True
        to.expected_s[row] = expected_s
        to.late[row] = late
        sent[s, c] += 1.0
        count_in(policy, t, b, s, n, 1.0)
