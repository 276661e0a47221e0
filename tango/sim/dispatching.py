"""LC in the engine: what arrives, what each cluster believes, where it sends its requests. Compiled.

One belief serves all clusters in turn. It stands as published; a dispatcher's own cluster is put in as it is, what the dispatcher has
sent abroad since the publication is counted in, the batch is planned, and what was touched is put back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined
from tango.domain.resource_axis import CPU, MEMORY
from tango.node_model import kernel
from tango.scheduling.lc.columns import Belief, Terrain, Traits
from tango.scheduling.lc.dispatch import count_in, dispatch, is_crowded, set_offer, set_price, set_prices
from tango.scheduling.lc.expected_time import demand_cores
from tango.sim import lifecycle
from tango.sim.codes import DISPATCHED, FAILED, LATE, LC, LC_ARRIVE, NOT_SENT, RUNNING
from tango.sim.heap import push
from tango.sim.state import Arrivals, EngineState, Links, Lists, Published, Truth


@in_place
def publish(e: EngineState, now_s: float) -> None:
    """Measure every node, and let all clusters know the state as it is now."""
    belief, published, truth, holdings = e.belief, e.published, e.truth, e.holdings
    for n in range(len(e.sites)):
        kernel.integrate(e.states, n, now_s)
        site, node = e.sites[n], e.states.nodes[n]
        busy_s = node.lc_busy_s + node.be_busy_s
        if now_s > site.then_s:
            site.used = (busy_s - site.busy_then_s) / (now_s - site.then_s) * 1e3
        site.busy_then_s = busy_s
        site.then_s = now_s
        memory = holdings.allocatable[MEMORY, n]
        belief.free_cpu[n] = 1.0 - site.used / holdings.allocatable[CPU, n]
        belief.free_memory[n] = (memory - holdings.lc[MEMORY, n] - holdings.running[MEMORY, n]) / memory
        belief.slack[n] = site.slack
    services, nodes = truth.in_flight.shape
    clusters = len(e.lists.sent_last)
    for s in range(services):
        for n in range(nodes):
            belief.in_flight[s, n] = published.in_flight[s, n] = truth.in_flight[s, n]
            belief.limit_cores[s, n] = published.limit[s, n] = truth.limit[s, n]
    set_prices(e.rules.lc_policy, e.terrain, belief)
    for n in range(nodes):
        published.demand[n] = belief.demand[n]
    for s in range(services):
        for n in range(nodes):
            published.price[s, n] = belief.price[s, n]
        for c in range(clusters):
            published.best_node[s, c] = belief.best_node[s, c]
            published.best_price[s, c] = belief.best_price[s, c]
    for c in range(clusters):
        r = e.lists.sent_last[c]
        while r >= 0:
            before = e.progress[r].sent_before
            e.progress[r].sent_before = NOT_SENT
            r = before
        e.lists.sent_last[c] = -1


@inlined
def gather(clock: Any, arrivals: Arrivals, progress: NDArray[np.void], lists: Lists, now_s: float) -> None:
    """Take in what has arrived by now: LC into the batch, by entry cluster and in order of arrival within it, BE to the pending."""
    first = clock.cursor
    last = first
    while last < len(arrivals.due_s) and arrivals.due_s[last] <= now_s:
        last += 1
    clock.cursor = last
    mark = lists.entry_first
    for c in range(len(mark)):
        mark[c] = 0
    for k in range(clock.retries):
        mark[arrivals.entry[lists.retries[k]] + 1] += 1
    for r in range(first, last):
        if arrivals.service_class[r] == LC:
            mark[arrivals.entry[r] + 1] += 1
        elif progress[r].state != FAILED:  # what fits no node was refused at the door
            lifecycle.move(lifecycle.RELEASE, r, clock, arrivals, progress)
            lifecycle.move(lifecycle.ADMIT, r, clock, arrivals, progress)
            lists.pending[clock.pending] = r
            clock.pending += 1
    for c in range(1, len(mark)):
        mark[c] += mark[c - 1]
    clock.batch = mark[len(mark) - 1]
    # `mark` says where each cluster's part begins; filling moves every mark to its part's end, which is the next one's begin.
    for k in range(clock.retries):
        r = lists.retries[k]
        lists.batch[mark[arrivals.entry[r]]] = r
        mark[arrivals.entry[r]] += 1
    for r in range(first, last):
        if arrivals.service_class[r] == LC:
            lifecycle.move(lifecycle.RELEASE, r, clock, arrivals, progress)
            lists.batch[mark[arrivals.entry[r]]] = r
            mark[arrivals.entry[r]] += 1
    for c in range(len(mark) - 1, 0, -1):
        mark[c] = mark[c - 1]
    mark[0] = 0
    clock.retries = 0


@in_place
def dispatch_batch(e: EngineState, now_s: float) -> None:
    """Let every cluster dispatch what entered there."""
    policy, lists, most_s = e.rules.lc_policy, e.lists, 0.0
    placed, late, shed = 0, 0, 0
    for c in range(len(lists.sent_last)):
        rows = lists.batch[lists.entry_first[c] : lists.entry_first[c + 1]]
        if len(rows) == 0:
            continue
        believe(policy, c, now_s, e.terrain, e.belief, e.truth, lists, e.arrivals, e.progress)
        dispatch(
            policy,
            c,
            rows,
            e.arrivals.service,
            e.arrivals.target_s,
            e.arrivals.turn,
            e.terrain,
            e.belief,
            lists.sent,
            e.choices,
            e.explore,
        )
        put_back(policy, c, rows, e.terrain, e.belief, e.published, lists, e.arrivals, e.progress, e.choices.node)
        decide_s = lists.charge_s[min(len(rows), len(lists.charge_s) - 1)]
        most_s = max(most_s, decide_s)
        shed_rows = 0 if e.rules.keep_late else len(rows)
        for k in range(shed_rows):
            lists.shed[k] = e.choices.late[rows[k]]
        done = carry_out(e, c, rows, lists.shed[:shed_rows], now_s, now_s + decide_s)
        placed, shed, late = placed + done[0], shed + done[1], late + done[2]
    write_cycle(e, now_s, placed, late, shed, most_s)


@inlined
def carry_out(
    e: EngineState, c: int, rows: NDArray[np.int64], shed: NDArray[np.bool_], now_s: float, sent_s: float
) -> tuple[int, int, int]:
    """Do what `Choices` says of these rows of cluster c; give how many were sent, given up on purpose, and sent although late.

    `shed` is empty, or as long as `rows`.
    """
    clock, progress = e.clock[0], e.progress
    placed, given_up, late = 0, 0, 0
    for k in range(len(rows)):
        r = rows[k]
        n = e.choices.node[r]
        if len(shed) > 0 and shed[k]:
            lifecycle.move(lifecycle.SHED, r, clock, e.arrivals, progress)
            progress[r].reason = LATE
            progress[r].finished_s = now_s
            clock.terminal += 1
            clock.moved += 1
            given_up += 1
        elif n >= 0:
            send(c, r, n, sent_s, e.terrain, e.truth, e.links, e.lists, clock, e.arrivals, progress, e.heap, e.heap_counts)
            placed += 1
            late += 1 if e.choices.late[r] else 0
        else:
            # No ready instance anywhere it may go: it is dispatched again in the next window, and given up in the end.
            e.lists.retries[clock.retries] = r
            clock.retries += 1
    return placed, given_up, late


@in_place
def write_cycle(e: EngineState, now_s: float, placed: int, late: int, shed: int, decide_s: float) -> None:
    """Note the dispatch of one window."""
    cycle = e.lists.cycles[e.clock[0].cycles]
    cycle.at_s = now_s
    cycle.considered = e.clock[0].batch
    cycle.placed = placed
    cycle.late = late
    cycle.shed = shed
    cycle.decide_s = decide_s
    e.clock[0].cycles += 1


@inlined
def believe(
    policy: Traits,
    home: int,
    now_s: float,
    t: Terrain,
    b: Belief,
    truth: Truth,
    lists: Lists,
    arrivals: Arrivals,
    progress: NDArray[np.void],
) -> None:
    """Put in what cluster `home` knows better than what was published: its own nodes, and what it has sent abroad and not got back."""
    for s in range(b.price.shape[0]):
        if t.target_s[s] == np.inf:
            continue
        for k in range(t.first[home], t.first[home + 1]):
            n = t.members[k]
            b.in_flight[s, n] = truth.in_flight[s, n]
            b.limit_cores[s, n] = truth.limit[s, n]
    if policy.counts_crowding:  # prices of all services depend on what all of them have in flight
        for k in range(t.first[home], t.first[home + 1]):
            b.demand[t.members[k]] = demand_cores(b, t.members[k])
    for s in range(b.price.shape[0]):
        if t.target_s[s] == np.inf:
            continue
        for k in range(t.first[home], t.first[home + 1]):
            set_price(policy, t, b, s, t.members[k])
        set_offer(t, b, s, home)
    r = lists.sent_last[home]
    while r >= 0:
        sent = progress[r]
        under_way = sent.state == DISPATCHED or sent.state == RUNNING or sent.finished_s > now_s
        if under_way and t.cluster_of[sent.node] != home:
            count_in(policy, t, b, arrivals.service[r], sent.node, 1.0)
        r = sent.sent_before


@inlined
def put_back(
    policy: Traits,
    home: int,
    rows: NDArray[np.int64],
    t: Terrain,
    b: Belief,
    published: Published,
    lists: Lists,
    arrivals: Arrivals,
    progress: NDArray[np.void],
    chosen: NDArray[np.int32],
) -> None:
    """Let the belief be as published again, wherever `believe` and the batch have touched it."""
    for s in range(b.price.shape[0]):
        if t.target_s[s] == np.inf:
            continue
        for k in range(t.first[home], t.first[home + 1]):
            _restore_one(s, t.members[k], t, b, published)
    r = lists.sent_last[home]
    while r >= 0:
        if progress[r].node >= 0:
            _restore(policy, arrivals.service[r], progress[r].node, t, b, published)
        r = progress[r].sent_before
    for r in rows:
        if chosen[r] >= 0:
            s = arrivals.service[r]
            _restore(policy, s, chosen[r], t, b, published)
            lists.sent[s, t.cluster_of[chosen[r]]] = 0.0


@inlined
def _restore(policy: Traits, s: int, n: int, t: Terrain, b: Belief, published: Published) -> None:
    """Undo what counting in a request of service s has changed on a node; on a crowded one its other services may have
    changed too."""
    if policy.counts_crowding and is_crowded(b, n):
        for k in range(b.price.shape[0]):
            if t.target_s[k] < np.inf:
                _restore_one(k, n, t, b, published)
    _restore_one(s, n, t, b, published)


@inlined
def _restore_one(s: int, n: int, t: Terrain, b: Belief, published: Published) -> None:
    c = t.cluster_of[n]
    b.in_flight[s, n] = published.in_flight[s, n]
    b.limit_cores[s, n] = published.limit[s, n]
    b.demand[n] = published.demand[n]
    b.price[s, n] = published.price[s, n]
    b.best_node[s, c] = published.best_node[s, c]
    b.best_price[s, c] = published.best_price[s, c]


@inlined
def send(
    home: int,
    r: int,
    n: int,
    sent_s: float,
    t: Terrain,
    truth: Truth,
    links: Links,
    lists: Lists,
    clock: Any,
    arrivals: Arrivals,
    progress: NDArray[np.void],
    heap: NDArray[np.void],
    heap_counts: NDArray[np.int64],
) -> None:
    """Send a request to a node: half the payload over the link of the node's cluster, half the round trip, then it is there.

    The same network as the virtual kubelet's: transfers of one direction follow one another on the cluster's link.
    """
    row = progress[r]
    s = arrivals.service[r]
    c = t.cluster_of[n]
    arrive_s = sent_s
    if c != home:
        links.inward_s[c] = max(links.inward_s[c], sent_s) + 0.5 * t.payload_kib[s] * t.s_per_kib[home, c]
        arrive_s = links.inward_s[c]
    if c != home and row.sent_before == NOT_SENT:
        # A later attempt may stand in the chain already, and must not make it a circle.
        row.sent_before = lists.sent_last[home]
        lists.sent_last[home] = r
    row.node = n
    lifecycle.move(lifecycle.DISPATCH, r, clock, arrivals, progress)
    truth.in_flight[s, n] += 1.0
    push(heap, heap_counts, arrive_s + 0.5 * t.rtt_s[home, c], LC_ARRIVE, r, row.attempts, 0.0)
