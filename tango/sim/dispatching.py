"""LC in the engine: what arrives, what each cluster believes, where it sends its requests. Compiled.

One belief serves all clusters in turn. It stands as published; a dispatcher's own cluster is put in as it is, what the dispatcher has
sent abroad since the publication is counted in, its requests of the window are planned, and what was touched is put back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined
from tango.domain.resource_axis import CPU, MEMORY
from tango.node_model import kernel
from tango.scheduling.budget import late_or_shed
from tango.scheduling.lc.columns import ELSEWHERE, Asks, Belief, Terrain, Traits
from tango.scheduling.lc.dispatch import count_in, dispatch, is_crowded, set_offer, set_price, set_prices
from tango.scheduling.lc.expected_time import demand_cores
from tango.sim import lifecycle
from tango.sim.codes import DISPATCHED, FAILED, LATE, LC, LC_ARRIVE, NOT_SENT, RUNNING
from tango.sim.heap import push
from tango.sim.state import Arrivals, EngineState, Lists, Published


@in_place
def measure_nodes(state: EngineState, now_s: float) -> None:
    """Note what every node has used since it was last measured, and what is free on it."""
    belief, holdings = state.belief, state.holdings
    for node in range(len(state.sites)):
        kernel.integrate(state.states, node, now_s)
        site, measured = state.sites[node], state.states.nodes[node]
        busy_s = measured.lc_busy_s + measured.be_busy_s
        if now_s > site.then_s:
            site.used = (busy_s - site.busy_then_s) / (now_s - site.then_s) * 1e3
        site.busy_then_s = busy_s
        site.then_s = now_s
        memory = holdings.allocatable[MEMORY, node]
        belief.free_cpu[node] = 1.0 - site.used / holdings.allocatable[CPU, node]
        belief.free_memory[node] = (memory - holdings.lc[MEMORY, node] - holdings.running[MEMORY, node]) / memory
        belief.slack[node] = site.slack


@in_place
def publish(state: EngineState, now_s: float) -> None:
    """Measure every node, and let all clusters know the state as it is now."""
    measure_nodes(state, now_s)
    belief, published, truth = state.belief, state.published, state.truth
    services, nodes = truth.in_flight.shape
    clusters = len(state.lists.sent_last)
    for service in range(services):
        for node in range(nodes):
            belief.in_flight[service, node] = published.in_flight[service, node] = truth.in_flight[service, node]
            belief.limit_cores[service, node] = published.limit[service, node] = truth.limit[service, node]
    set_prices(state.rules.lc_policy, state.terrain, belief)
    for node in range(nodes):
        published.demand[node] = belief.demand[node]
    for service in range(services):
        for node in range(nodes):
            published.price[service, node] = belief.price[service, node]
        for cluster in range(clusters):
            published.best_node[service, cluster] = belief.best_node[service, cluster]
            published.best_price[service, cluster] = belief.best_price[service, cluster]
    for cluster in range(clusters):
        request = state.lists.sent_last[cluster]
        while request >= 0:
            before = state.progress[request].sent_before
            state.progress[request].sent_before = NOT_SENT
            request = before
        state.lists.sent_last[cluster] = -1


@inlined
def gather(clock: Any, arrivals: Arrivals, progress: NDArray[np.void], lists: Lists, now_s: float) -> None:
    """Take in what has arrived by now: LC to be dispatched, by entry cluster and in order of arrival within it, BE to the pending."""
    first = clock.cursor
    last = first
    while last < len(arrivals.due_s) and arrivals.due_s[last] <= now_s:
        last += 1
    clock.cursor = last
    mark = lists.entry_first
    for cluster in range(len(mark)):
        mark[cluster] = 0
    for k in range(clock.retries):
        mark[arrivals.entry[lists.retries[k]] + 1] += 1
    for request in range(first, last):
        if arrivals.service_class[request] == LC:
            mark[arrivals.entry[request] + 1] += 1
        elif progress[request].state != FAILED:  # what fits no node was refused at the door
            lifecycle.move(lifecycle.RELEASE, request, clock, arrivals, progress)
            lifecycle.move(lifecycle.ADMIT, request, clock, arrivals, progress)
            lists.pending[clock.pending] = request
            clock.pending += 1
    for cluster in range(1, len(mark)):
        mark[cluster] += mark[cluster - 1]
    clock.dispatching = mark[len(mark) - 1]
    # `mark` says where each cluster's part begins; filling moves every mark to its part's end, which is the next one's begin.
    for k in range(clock.retries):
        request = lists.retries[k]
        lists.dispatching[mark[arrivals.entry[request]]] = request
        mark[arrivals.entry[request]] += 1
    for request in range(first, last):
        if arrivals.service_class[request] == LC:
            lifecycle.move(lifecycle.RELEASE, request, clock, arrivals, progress)
            lists.dispatching[mark[arrivals.entry[request]]] = request
            mark[arrivals.entry[request]] += 1
    for cluster in range(len(mark) - 1, 0, -1):
        mark[cluster] = mark[cluster - 1]
    mark[0] = 0
    clock.retries = 0


@inlined
def open_cycle(state: EngineState) -> None:
    """Begin the dispatch of a window, with the first cluster."""
    cycle = state.lists.cycles[state.clock[0].cycles]
    cycle.placed = cycle.late = cycle.shed = 0
    cycle.decide_s = 0.0
    state.clock[0].asked = state.clock[0].answered = 0


@in_place
def dispatch_window(state: EngineState, now_s: float) -> bool:
    """Let every cluster dispatch what entered there, and note the cycle.

    True: a policy in Python has to decide for cluster `CLOCK.asked` first, on what is now believed; it writes into `Choices` and
    `Lists.shed`, and the next call goes on with that.
    """
    clock, policy, lists = state.clock[0], state.rules.lc_policy, state.lists
    cycle, elsewhere = lists.cycles[clock.cycles], policy.place == ELSEWHERE
    while clock.asked < len(lists.sent_last):
        home = clock.asked
        rows = lists.dispatching[lists.entry_first[home] : lists.entry_first[home + 1]]
        if len(rows) == 0:
            clock.asked += 1
            continue
        if clock.answered == 0:
            believe(state, home, now_s)
            if elsewhere:
                clock.answered = 1
                return True
            dispatch(
                policy,
                home,
                rows,
                Asks(state.arrivals.service, state.arrivals.target_s, state.arrivals.turn),
                state.terrain,
                state.belief,
                lists.sent,
                state.choices,
                state.explore,
            )
        clock.answered = 0
        put_back(state, home, rows[:0] if elsewhere else rows)  # a policy in Python counts nothing into this belief
        decide_s = lists.charge_s[min(len(rows), len(lists.charge_s) - 1)]
        cycle.decide_s = max(cycle.decide_s, decide_s)
        shed_rows = len(rows) if elsewhere or not state.rules.keep_late or state.rules.sheds_overdue else 0
        if not elsewhere:
            for k in range(shed_rows):
                late_one = state.choices.late[rows[k]] and not state.rules.keep_late
                lists.shed[k] = late_one or _is_overdue(state, rows[k], now_s)
        done = carry_out(state, home, rows, lists.shed[:shed_rows], now_s, now_s + decide_s)
        cycle.placed += done[0]
        cycle.shed += done[1]
        cycle.late += done[2]
        clock.asked += 1
    cycle.at_s = now_s
    cycle.considered = clock.dispatching
    clock.cycles += 1
    return False


@inlined
def _is_overdue(state: EngineState, request: int, now_s: float) -> bool:
    """Whether the answer of a request, as `Choices` expects it, comes later than is waited for."""
    waited_s, has_node = now_s - state.arrivals.due_s[request], state.choices.node[request] >= 0
    target_s, until_s = state.arrivals.target_s[request], state.arrivals.patience_s[request]
    _, is_shed = late_or_shed(waited_s, state.choices.expected_s[request], has_node, False, target_s, until_s, 0.0)
    return is_shed


@inlined
def carry_out(
    state: EngineState, home: int, rows: NDArray[np.int64], shed: NDArray[np.bool_], now_s: float, sent_s: float
) -> tuple[int, int, int]:
    """Do what `Choices` says of these rows, which entered at `home`; give how many were sent, given up on purpose, and sent although late.

    `shed` is empty, or as long as `rows`.
    """
    clock, progress = state.clock[0], state.progress
    placed, given_up, late = 0, 0, 0
    for k in range(len(rows)):
        request = rows[k]
        node = state.choices.node[request]
        if len(shed) > 0 and shed[k]:
            lifecycle.move(lifecycle.SHED, request, clock, state.arrivals, progress)
            progress[request].reason = LATE
            progress[request].finished_s = now_s
            clock.terminal += 1
            clock.moved += 1
            given_up += 1
        elif node >= 0:
            send(state, home, request, node, sent_s)
            placed += 1
            late += 1 if state.choices.late[request] else 0
        else:
            # No ready instance anywhere it may go: it is dispatched again in the next window, and given up in the end.
            state.lists.retries[clock.retries] = request
            clock.retries += 1
    return placed, given_up, late


@inlined
def believe(state: EngineState, home: int, now_s: float) -> None:
    """Put in what cluster `home` knows better than what was published: its own nodes, and what it has sent abroad and not got back."""
    policy, terrain, belief, truth = state.rules.lc_policy, state.terrain, state.belief, state.truth
    belief.now[0].at_s = now_s
    belief.now[0].first = home * belief.price.size
    for service in range(belief.price.shape[0]):
        if terrain.target_s[service] == np.inf:
            continue
        for k in range(terrain.first[home], terrain.first[home + 1]):
            node = terrain.members[k]
            belief.in_flight[service, node] = truth.in_flight[service, node]
            belief.limit_cores[service, node] = truth.limit[service, node]
    if policy.counts_crowding:  # prices of all services depend on what all of them have in flight
        for k in range(terrain.first[home], terrain.first[home + 1]):
            node = terrain.members[k]
            belief.demand[node] = demand_cores(belief, node)
            belief.be_limit[node] = state.sites[node].placed_limit / 1e3
    for service in range(belief.price.shape[0]):
        if terrain.target_s[service] == np.inf:
            continue
        for k in range(terrain.first[home], terrain.first[home + 1]):
            set_price(policy, terrain, belief, service, terrain.members[k])
        set_offer(terrain, belief, service, home)
    request = state.lists.sent_last[home]
    while request >= 0:
        sent = state.progress[request]
        under_way = sent.state == DISPATCHED or sent.state == RUNNING or sent.finished_s > now_s
        if under_way and terrain.cluster_of[sent.node] != home:
            count_in(policy, terrain, belief, state.arrivals.service[request], sent.node, 1.0)
        request = sent.sent_before


@inlined
def put_back(state: EngineState, home: int, rows: NDArray[np.int64]) -> None:
    """Let the belief be as published again, wherever `believe` and the dispatch of these rows have touched it."""
    policy, terrain, belief, published = state.rules.lc_policy, state.terrain, state.belief, state.published
    service_of, chosen, sent = state.arrivals.service, state.choices.node, state.lists.sent
    for k in range(terrain.first[home], terrain.first[home + 1]):
        belief.be_limit[terrain.members[k]] = np.inf
    for service in range(belief.price.shape[0]):
        if terrain.target_s[service] == np.inf:
            continue
        for k in range(terrain.first[home], terrain.first[home + 1]):
            _restore_one(service, terrain.members[k], terrain, belief, published)
    request = state.lists.sent_last[home]
    while request >= 0:
        if state.progress[request].node >= 0:
            _restore(policy, service_of[request], state.progress[request].node, terrain, belief, published)
        request = state.progress[request].sent_before
    for request in rows:
        if chosen[request] >= 0:
            _restore(policy, service_of[request], chosen[request], terrain, belief, published)
            sent[service_of[request], terrain.cluster_of[chosen[request]]] = 0.0


@inlined
def _restore(policy: Traits, service: int, node: int, terrain: Terrain, belief: Belief, published: Published) -> None:
    """Undo what counting in a request of a service has changed on a node; on a crowded one its other services may have
    changed too."""
    if policy.counts_crowding and is_crowded(belief, node):
        for other in range(belief.price.shape[0]):
            if terrain.target_s[other] < np.inf:
                _restore_one(other, node, terrain, belief, published)
    _restore_one(service, node, terrain, belief, published)


@inlined
def _restore_one(service: int, node: int, terrain: Terrain, belief: Belief, published: Published) -> None:
    cluster = terrain.cluster_of[node]
    belief.in_flight[service, node] = published.in_flight[service, node]
    belief.limit_cores[service, node] = published.limit[service, node]
    belief.demand[node] = published.demand[node]
    belief.price[service, node] = published.price[service, node]
    belief.best_node[service, cluster] = published.best_node[service, cluster]
    belief.best_price[service, cluster] = published.best_price[service, cluster]


@inlined
def send(state: EngineState, home: int, request: int, node: int, sent_s: float) -> None:
    """Send a request to a node: half the payload over the link of the node's cluster, half the round trip, then it is there.

    The same network as the virtual kubelet's: transfers of one direction follow one another on the cluster's link.
    """
    terrain, links, lists, row = state.terrain, state.links, state.lists, state.progress[request]
    service = state.arrivals.service[request]
    cluster = terrain.cluster_of[node]
    arrive_s = sent_s
    if cluster != home:
        links.inward_s[cluster] = (
            max(links.inward_s[cluster], sent_s) + 0.5 * terrain.payload_kib[service] * terrain.s_per_kib[home, cluster]
        )
        arrive_s = links.inward_s[cluster]
    if cluster != home and row.sent_before == NOT_SENT:
        # A later attempt may stand in the chain already, and must not make it a circle.
        row.sent_before = lists.sent_last[home]
        lists.sent_last[home] = request
    row.node = node
    row.sent_s = sent_s
    lifecycle.move(lifecycle.DISPATCH, request, state.clock[0], state.arrivals, state.progress)
    state.truth.in_flight[service, node] += 1.0
    push(state.heap, state.heap_counts, arrive_s + 0.5 * terrain.rtt_s[home, cluster], LC_ARRIVE, request, row.attempts, 0.0)
