"""LC dispatch of one entry cluster, compiled: the step that live dispatch and the simulator's engine share.

A request of service s that enters at cluster e and runs on node n of cluster c costs

    weight x network(e, c, s) + price(s, n)

For the policies that go by time, the weight is 1 and the price the expected time on the node; `SCORING` has a score of its own. `FLOW`
counts crowding too: all LC services of a node share its CPU, so where their requests want more of it than there is, each of them takes
longer, whatever its own service's limit allows.

The network is the same for all nodes of a cluster, so each cluster offers its cheapest node, and clusters are tried from near to far
until even an idle node there would be dearer than what has been found. That gives the same plan as a look at every node (a test holds
them together) at a cost that grows with the clusters tried, not with the nodes there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.compiled import compiled, in_place, inlined

ROUND_ROBIN, LEAST_LOADED, GREEDY, FLOW, SCORING, LEARNED, PYTHON = range(7)
"""Codes of LC policies in compiled code; `PYTHON` makes the simulator return to the interpreter."""

FREE_CPU_WEIGHT, FREE_MEMORY_WEIGHT, NEAR_WEIGHT, QUEUE_WEIGHT = range(4)
"""Places in `Terrain.score_weights`."""

CANDIDATES = 8
"""Clusters that `LEARNED` looks at: the nearest with an instance."""
OFFER_FEATURES = (
    "network time / budget, at most 4",
    "expected time on the node / budget, at most 4",
    "the offer is of the entry cluster",
    "work in flight / instance limit / budget, at most 4",
    "share of the node's CPU in use",
    "least slack of the node's LC services, at least -4",
)
"""What `LEARNED` sees of an offer, as `learned_features` computes it; a checkpoint holds for this list alone."""
LEARNED_FEATURES = len(OFFER_FEATURES)


class Terrain(NamedTuple):
    """What does not change from request to request; s services, n nodes, c clusters."""

    work_s: NDArray[np.float64]
    """(s,) mean work of a request."""
    payload_kib: NDArray[np.float64]
    """(s,)"""
    target_s: NDArray[np.float64]
    """(s,) what a link carries is counted over this"""
    rtt_s: NDArray[np.float64]
    """(c, c)"""
    s_per_kib: NDArray[np.float64]
    """(c, c) transfer time; 0 on the diagonal."""
    near: NDArray[np.int32]
    """(c, c) clusters by round trip, nearest first."""
    first: NDArray[np.int64]
    """(c + 1,) cluster k has the nodes `members[first[k]:first[k + 1]]`."""
    members: NDArray[np.int64]
    cluster_of: NDArray[np.int32]
    """(n,)"""
    score_weights: NDArray[np.float64]
    """(4,) of `SCORING`: free CPU, free memory, nearness, short queue."""
    layer: NDArray[np.float64]
    """(h, LEARNED_FEATURES + 1) hidden layer of `LEARNED`, bias last; (0, 7) without."""
    head: NDArray[np.float64]
    """(h,)"""


class Belief(NamedTuple):
    """What a dispatcher takes the nodes' state to be; it counts in what it gives out."""

    limit_cores: NDArray[np.float64]
    """(s, n) CPU of the ready instances; 0: none."""
    places: NDArray[np.float64]
    """(s, n) requests that the instances hold in memory."""
    in_flight: NDArray[np.float64]
    """(s, n)"""
    cores: NDArray[np.float64]
    """(n,) CPU of the node."""
    demand: NDArray[np.float64]
    """(n,) `demand_cores` of what is in flight; kept up to date for `FLOW` alone."""
    free_cpu: NDArray[np.float64]
    """(n,) share of the CPU that was measured idle."""
    free_memory: NDArray[np.float64]
    """(n,)"""
    slack: NDArray[np.float64]
    """(n,) least slack of the node's LC services."""
    longest_queue: NDArray[np.float64]
    """(s,) requests per core on the busiest node, at least 1: the scale of `SCORING`."""
    price: NDArray[np.float64]
    """(s, n)"""
    best_node: NDArray[np.int32]
    """(s, c) what each cluster offers; -1: nothing."""
    best_price: NDArray[np.float64]
    """(s, c)"""
    scratch: NDArray[np.float64]
    """(LEARNED_FEATURES,)"""


class Choices(NamedTuple):
    """Where each of m requests goes."""

    node: NDArray[np.int32]
    """(m,) -1: there is no ready instance."""
    expected_s: NDArray[np.float64]
    late: NDArray[np.bool_]


class Exploration(NamedTuple):
    """For training `LEARNED`: noise to sample by, and what each choice saw. Arrays of length 0 switch both off."""

    noise: NDArray[np.float32]
    """(m, CANDIDATES) Gumbel noise."""
    seen: NDArray[np.float32]
    """(m, CANDIDATES, LEARNED_FEATURES)"""
    chosen: NDArray[np.int32]
    """(m,) candidate taken; -1: none."""


@inlined
def time_on_node_s(work_s: float, limit_cores: float, places: float, in_flight: float) -> float:
    """Expected time of one more request on a node, network excluded: service under processor sharing, and waiting for memory.

    Convex and rising in `in_flight`; infinity where there is no ready instance.
    """
    if limit_cores <= 0.0:
        return np.inf
    room = max(1.0, places)
    held = min(in_flight + 1.0, room)
    service_s = work_s * max(1.0, held / limit_cores)
    waiting_s = max(0.0, in_flight + 1.0 - room) * work_s / limit_cores
    return service_s + waiting_s


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
def expected_on_node_s(policy: int, t: Terrain, b: Belief, s: int, n: int, in_flight: float) -> float:
    """What a policy takes the time of one more request on a node to be, with `in_flight` of its service there."""
    time_s = time_on_node_s(t.work_s[s], b.limit_cores[s, n], b.places[s, n], in_flight)
    if policy == FLOW:
        time_s *= crowding(b, s, n, in_flight)
    return time_s


@inlined
def set_price(policy: int, t: Terrain, b: Belief, s: int, n: int) -> None:
    """Work out the price of node n for service s."""
    if policy == SCORING:
        if b.limit_cores[s, n] <= 0.0:
            b.price[s, n] = np.inf
            return
        weights = t.score_weights
        queue = b.in_flight[s, n] / b.limit_cores[s, n] / b.longest_queue[s]
        b.price[s, n] = (
            weights[QUEUE_WEIGHT] * queue
            - weights[FREE_CPU_WEIGHT] * b.free_cpu[n]
            - weights[FREE_MEMORY_WEIGHT] * b.free_memory[n]
        )
    else:
        b.price[s, n] = expected_on_node_s(policy, t, b, s, n, b.in_flight[s, n])


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
def set_prices(policy: int, t: Terrain, b: Belief) -> None:
    """Price every node, and let every cluster offer its cheapest."""
    if policy == FLOW:
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
def count_in(policy: int, t: Terrain, b: Belief, s: int, n: int, requests: float) -> None:
    """Add requests to what is believed to be in flight on a node."""
    b.in_flight[s, n] += requests
    if policy == FLOW:
        b.demand[n] = demand_cores(b, n)
        if b.demand[n] + 1.0 > b.cores[n]:
            # One more request of any service may find the node crowded: the prices of the others change too.
            for k in range(b.in_flight.shape[0]):
                if k != s and b.limit_cores[k, n] > 0.0:
                    set_price(policy, t, b, k, n)
                    set_offer(t, b, k, t.cluster_of[n])
    set_price(policy, t, b, s, n)
    set_offer(t, b, s, t.cluster_of[n])


@inlined
def network_s(t: Terrain, entry: int, c: int, s: int) -> float:
    """Round trip and transfer from an entry to a cluster."""
    return float(t.rtt_s[entry, c] + t.payload_kib[s] * t.s_per_kib[entry, c])


@inlined
def _carried(t: Terrain, entry: int, c: int, s: int, requests: float) -> bool:
    """Whether the link from the entry to a cluster carries this many payloads within the service's target."""
    return bool(requests * t.payload_kib[s] * t.s_per_kib[entry, c] <= t.target_s[s])


@in_place
def dispatch(
    policy: int,
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

    `sent` (s, c) counts what this batch has given to each link; `FLOW` alone minds it. `turn` numbers requests for `ROUND_ROBIN`.
    """
    for row in rows:
        s = service[row]
        late = False
        if policy == ROUND_ROBIN:
            n = _in_turn(t, b, entry, s, turn[row])
        elif policy == LEAST_LOADED:
            n = int(b.best_node[s, entry])
        elif policy == LEARNED:
            n = _by_network(t, b, entry, s, budget_s[row], row, explore)
        elif policy == SCORING:
            n = _by_score(t, b, entry, s)
        else:
            n = _within_budget(policy, t, b, entry, s, budget_s[row], sent)
        to.node[row] = n
        if n < 0:
            to.expected_s[row] = np.inf
            to.late[row] = False
            continue
        c = t.cluster_of[n]
        expected_s = network_s(t, entry, c, s) + expected_on_node_s(policy, t, b, s, n, b.in_flight[s, n])
        late = expected_s > budget_s[row]
        if policy == FLOW and not late and not _carried(t, entry, c, s, sent[s, c] + 1.0):
            late = True
        to.expected_s[row] = expected_s
        to.late[row] = late
        sent[s, c] += 1.0
        count_in(policy, t, b, s, n, 1.0)


@inlined
def _within_budget(policy: int, t: Terrain, b: Belief, entry: int, s: int, budget_s: float, sent: NDArray[np.float64]) -> int:
    """The cheapest node within the budget over a link with room, else the cheapest of all; ties go to the lower row."""
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
            and (policy != FLOW or _carried(t, entry, c, s, sent[s, c] + 1.0))
        ):
            best, best_s = n, cost
    return best if best >= 0 else spill


@in_place
def _by_score(t: Terrain, b: Belief, entry: int, s: int) -> int:
    """The node of the least weighted score; nearness is scaled by the farthest cluster."""
    farthest = t.near[entry, t.near.shape[1] - 1]
    scale = max(1e-9, network_s(t, entry, farthest, s))
    best, least = -1, np.inf
    for c in range(t.near.shape[1]):
        n = b.best_node[s, c]
        if n < 0:
            continue
        cost = t.score_weights[NEAR_WEIGHT] * network_s(t, entry, c, s) / scale + b.best_price[s, c]
        if cost < least or (cost == least and n < best):
            best, least = n, cost
    return best


@in_place
def _in_turn(t: Terrain, b: Belief, entry: int, s: int, turn: int) -> int:
    ready = 0
    for k in range(t.first[entry], t.first[entry + 1]):
        if b.limit_cores[s, t.members[k]] > 0.0:
            ready += 1
    if ready == 0:
        return -1
    wanted = turn % ready
    for k in range(t.first[entry], t.first[entry + 1]):
        n = t.members[k]
        if b.limit_cores[s, n] > 0.0:
            if wanted == 0:
                return int(n)
            wanted -= 1
    return -1


@in_place
def _by_network(t: Terrain, b: Belief, entry: int, s: int, budget_s: float, row: int, explore: Exploration) -> int:
    """The offer that the learned scores prefer, among the nearest clusters that have one."""
    best, best_score, candidate, taken = -1, -np.inf, 0, -1
    seen = b.scratch
    for k in range(t.near.shape[1]):
        c = t.near[entry, k]
        n = b.best_node[s, c]
        if n < 0:
            continue
        learned_features(t, b, entry, s, c, n, budget_s, seen)
        score = 0.0
        for h in range(len(t.head)):
            held = t.layer[h, LEARNED_FEATURES]
            for f in range(LEARNED_FEATURES):
                held += t.layer[h, f] * seen[f]
            if held > 0.0:
                score += t.head[h] * held
        if len(explore.noise):
            score += explore.noise[row, candidate]
            for f in range(LEARNED_FEATURES):
                explore.seen[row, candidate, f] = seen[f]
        if score > best_score:
            best, best_score, taken = n, score, candidate
        candidate += 1
        if candidate == CANDIDATES:
            break
    if len(explore.noise):
        explore.chosen[row] = taken
    return int(best)


@in_place
def learned_features(t: Terrain, b: Belief, entry: int, s: int, c: int, n: int, budget_s: float, out: NDArray[np.float64]) -> None:
    """Fill in the `OFFER_FEATURES` of an offer."""
    out[0] = min(4.0, network_s(t, entry, c, s) / budget_s)
    out[1] = min(4.0, time_on_node_s(t.work_s[s], b.limit_cores[s, n], b.places[s, n], b.in_flight[s, n]) / budget_s)
    out[2] = 1.0 if c == entry else 0.0
    out[3] = min(4.0, b.in_flight[s, n] * t.work_s[s] / b.limit_cores[s, n] / budget_s)
    out[4] = 1.0 - b.free_cpu[n]
    out[5] = max(-4.0, b.slack[n])


@compiled
def unit_times_s(t: Terrain, b: Belief, entry: int, s: int, count: int, budget_s: float) -> NDArray[np.float64]:
    """(n, u) expected completion of the first, second, ... further request of a service on every node, as `FLOW` takes it to be; infinity
    beyond the budget."""
    nodes = b.in_flight.shape[1]
    most = 0
    for n in range(nodes):
        units = 0
        away_s = network_s(t, entry, t.cluster_of[n], s)
        while units < count:
            time_s = away_s + expected_on_node_s(FLOW, t, b, s, n, b.in_flight[s, n] + units)
            if time_s > budget_s:
                break
            units += 1
        most = max(most, units)
    out = np.full((nodes, max(1, most)), np.inf)
    for n in range(nodes):
        away_s = network_s(t, entry, t.cluster_of[n], s)
        for u in range(most):
            time_s = away_s + expected_on_node_s(FLOW, t, b, s, n, b.in_flight[s, n] + u)
            if time_s > budget_s:
                break
            out[n, u] = time_s
    return out
