"""What happens on nodes: requests and pods come, run, end, are lost; answers go back. Compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined
from tango.node_model import kernel
from tango.node_model.state import FREE
from tango.sim.codes import (
    COMES_BACK,
    DISPATCHED,
    EXHAUSTED,
    FAILED,
    LC,
    LC_ARRIVE,
    NO_REASON,
    NODE_DOWN,
    NODE_GONE,
    NODE_LOST,
    NODE_UP,
    OUT_OF_CPU,
    OUT_OF_MEMORY,
    PENDING,
    PLACED,
    POD_START,
    RELEASED,
    RESIZE,
    RUNNING,
    SUCCEEDED,
    TIMED_OUT,
    UNREACHABLE,
)
from tango.sim.heap import USED, pop, push
from tango.sim.state import Engine


@inlined
def happen(e: Engine, end_s: float) -> None:
    """Everything on the heap before `end_s`."""
    heap, counts = e.heap, e.heap_counts
    while counts[USED] > 0 and heap[0].at_s < end_s:
        event = heap[0]
        at_s, kind, target, epoch, size = event.at_s, event.kind, event.target, event.epoch, event.size
        pop(heap, counts)
        e.clock[0].events += 1
        if kind == LC_ARRIVE:
            _lc_arrives(e, target, epoch, at_s)
        elif kind == POD_START:
            _pod_starts(e, target, epoch, at_s)
        elif kind == RESIZE:
            _resize(e, target, size, at_s)
        elif kind == COMES_BACK:
            come_back(e, target, epoch, at_s)
        elif kind == NODE_DOWN:
            _go_down(e, target, at_s)
        elif kind == NODE_LOST:
            _believe_ready(e, target, False)
        elif kind == NODE_UP:
            _come_up(e, target, at_s)
        if e.rules.audit and kind != COMES_BACK:
            audit(e)


@inlined
def run_nodes(e: Engine, end_s: float) -> None:
    """Run every node that has something to end by `end_s`."""
    nodes = e.states.nodes
    for n in range(len(nodes)):
        if nodes[n].next_s <= end_s:
            advance(e, n, end_s)
    if e.rules.audit:
        audit(e)


@in_place
def advance(e: Engine, n: int, to_s: float) -> None:
    """Run one node to `to_s` and settle what ended."""
    out = e.lists.out
    nodes = e.states.nodes
    if nodes[n].next_s > to_s:
        return
    while nodes[n].next_s <= to_s:
        used = kernel.advance_node(e.states, n, to_s, out, 0)
        e.clock[0].events += used
        for k in range(used):
            row = out[k]
            if row.kind == kernel.LC:
                _lc_ends(e, n, row.key, row.started_s, row.finished_s)
            else:
                _pod_ends(e, n, row.key, row.started_s, row.finished_s)


@in_place
def catch_up(e: Engine, now_s: float) -> None:
    """Bring every node to `now_s`; none has an event before it."""
    for n in range(len(e.sites)):
        kernel.integrate(e.states, n, now_s)


# ---- LC ------------------------------------------------------------------------------------------------------------------


@inlined
def _lc_arrives(e: Engine, r: int, epoch: int, at_s: float) -> None:
    row = e.progress[r]
    if row.state != DISPATCHED or row.attempts != epoch:
        return
    n, s = row.node, e.arrivals.service[r]
    if e.sites[n].up == 0:
        lose(e, r, n, UNREACHABLE, 0.0, at_s)
        come_back(e, r, epoch, at_s)
        return
    advance(e, n, at_s)
    chosen, least = e.places.first_row[s], 1 << 60
    for i in range(e.places.first_row[s], e.places.first_row[s + 1]):
        instance = e.states.instances[n, i]
        if instance.in_service + instance.queued < least:
            chosen, least = i, instance.in_service + instance.queued
    row.state = RUNNING
    kernel.submit(e.states, n, chosen, r, e.arrivals.work_s[r], e.arrivals.memory_mib[r], at_s)
    e.clock[0].in_nodes += 1


@inlined
def _lc_ends(e: Engine, n: int, r: int, started_s: float, finished_s: float) -> None:
    clock, row = e.clock[0], e.progress[r]
    s, home, c = e.arrivals.service[r], e.arrivals.entry[r], e.terrain.cluster_of[n]
    row.state = SUCCEEDED
    row.reason = NO_REASON
    row.started_s = started_s
    clock.in_nodes -= 1
    clock.terminal += 1
    clock.moved += 1
    e.truth.in_flight[s, n] -= 1.0
    if c == home:
        row.finished_s = finished_s + 0.5 * e.terrain.rtt_s[home, home]
        remember(e, s, n, row.finished_s - e.arrivals.due_s[r], finished_s)
    else:
        row.finished_s = finished_s  # until the answer has had its turn on the link
        e.lists.abroad_request[clock.abroad] = r
        e.lists.abroad_s[clock.abroad] = finished_s
        clock.abroad += 1


@inlined
def answer(e: Engine) -> None:
    """Send this window's answers from other clusters home, in order of time, one after another over each cluster's link."""
    clock, t = e.clock[0], e.terrain
    requests, times = e.lists.abroad_request, e.lists.abroad_s
    count = clock.abroad
    # Nodes were run one after another, so runs of rising times: insertion is short.
    for k in range(1, count):
        r, at_s = requests[k], times[k]
        j = k - 1
        while j >= 0 and (times[j] > at_s or (times[j] == at_s and requests[j] > r)):
            requests[j + 1], times[j + 1] = requests[j], times[j]
            j -= 1
        requests[j + 1], times[j + 1] = r, at_s
    for k in range(count):
        r = requests[k]
        row = e.progress[r]
        s, home, n = e.arrivals.service[r], e.arrivals.entry[r], row.node
        c = t.cluster_of[n]
        free_s = max(e.links.outward_s[c], times[k]) + 0.5 * t.payload_kib[s] * t.s_per_kib[home, c]
        e.links.outward_s[c] = free_s
        row.finished_s = free_s + 0.5 * t.rtt_s[home, c]
        remember(e, s, n, row.finished_s - e.arrivals.due_s[r], times[k])
    clock.abroad = 0


@inlined
def remember(e: Engine, s: int, n: int, latency_s: float, at_s: float) -> None:
    """Note an answer for the tail of its (service, node)."""
    tails = e.tails
    place = s * len(e.sites) + n
    head = tails.head[place]
    tails.at_s[place, head] = at_s
    tails.latency_s[place, head] = latency_s
    tails.head[place] = (head + 1) % tails.at_s.shape[1]


# ---- BE ------------------------------------------------------------------------------------------------------------------


@inlined
def _pod_starts(e: Engine, r: int, epoch: int, at_s: float) -> None:
    """The kubelet admits a pod by requests of CPU and by memory, or refuses it."""
    row = e.progress[r]
    if row.state != PLACED or row.attempts != epoch:
        return
    n, s = row.node, e.arrivals.service[r]
    site = e.sites[n]
    request, memory = e.be.request[s], e.arrivals.memory_mib[r]
    refused = NO_REASON
    if site.up == 0:
        refused = NODE_GONE
    elif site.lc_request + site.run_request + request > site.cpu + 1e-6 or e.states.nodes[n].pods == e.states.pods.shape[1]:
        refused = OUT_OF_CPU
    elif site.lc_memory + site.run_memory + memory > site.memory + 1e-6:
        refused = OUT_OF_MEMORY
    if refused != NO_REASON:
        lose(e, r, n, refused, 0.0, at_s)
        come_back(e, r, epoch, at_s)
        return
    advance(e, n, at_s)
    row.state = RUNNING
    site.run_request += request
    site.run_memory += memory
    e.clock[0].moved += 1
    limit_cores = e.be.limit[s] / 1e3 * e.sharing.shares.be_share[n]
    kernel.add_pod(e.states, n, r, request, limit_cores, e.arrivals.work_s[r], memory, at_s)


@inlined
def _pod_ends(e: Engine, n: int, r: int, started_s: float, finished_s: float) -> None:
    row = e.progress[r]
    row.state = SUCCEEDED
    row.reason = NO_REASON
    row.started_s = started_s
    row.finished_s = finished_s
    e.clock[0].terminal += 1
    e.clock[0].moved += 1
    _leave_node(e, r, n)
    close_books(e, r, n)


@inlined
def _leave_node(e: Engine, r: int, n: int) -> None:
    site = e.sites[n]
    site.run_request -= e.be.request[e.arrivals.service[r]]
    site.run_memory -= e.arrivals.memory_mib[r]


@inlined
def open_books(e: Engine, r: int, n: int) -> None:
    """Count a pod in by the centre's books."""
    site, s = e.sites[n], e.arrivals.service[r]
    site.placed_request += e.be.request[s]
    site.placed_limit += e.be.limit[s]
    site.placed_memory += e.arrivals.memory_mib[r]
    site.placed_pods += 1.0


@inlined
def close_books(e: Engine, r: int, n: int) -> None:
    """Count a pod out again."""
    site, s = e.sites[n], e.arrivals.service[r]
    site.placed_request -= e.be.request[s]
    site.placed_limit -= e.be.limit[s]
    site.placed_memory -= e.arrivals.memory_mib[r]
    site.placed_pods -= 1.0


@in_place
def place(e: Engine, rows: NDArray[np.int64], nodes: NDArray[np.int32], start_s: float) -> None:
    """Let pending requests become pods that start at `start_s`; -1 stays pending. The list of the pending keeps its order."""
    kept = 0
    for k in range(len(rows)):
        r, n = rows[k], nodes[k]
        if n < 0:
            e.lists.pending[kept] = r
            kept += 1
            continue
        row = e.progress[r]
        row.state = PLACED
        row.node = n
        row.attempts += 1
        open_books(e, r, n)
        push(e.heap, e.heap_counts, start_s, POD_START, r, row.attempts, 0.0)
    for k in range(len(rows), e.clock[0].pending):
        e.lists.pending[kept] = e.lists.pending[k]
        kept += 1
    e.clock[0].pending = kept


@in_place
def evict(e: Engine, r: int, reason: int, at_s: float) -> None:
    """Stop a running pod; its work is lost and it waits again at once. The node stands at or before `at_s`."""
    n = e.progress[r].node
    advance(e, n, at_s)
    p = kernel.pod_row(e.states, n, r)
    if p < 0:
        return
    done_s = kernel.remove_pod(e.states, n, p, at_s)
    _leave_node(e, r, n)
    lose(e, r, n, reason, done_s, at_s)
    come_back(e, r, e.progress[r].attempts, at_s)


# ---- losses --------------------------------------------------------------------------------------------------------------


@in_place
def lose(e: Engine, r: int, n: int, reason: int, work_s: float, at_s: float) -> None:
    """Note an attempt that came to nothing."""
    loss = e.lists.losses[e.clock[0].losses]
    loss.at_s = at_s
    loss.request = r
    loss.node = n
    loss.reason = reason
    loss.work_s = work_s
    e.clock[0].losses += 1
    e.progress[r].reason = reason


@in_place
def come_back(e: Engine, r: int, epoch: int, at_s: float) -> None:
    """What ran, or was about to, is known to be lost: it waits again, or has failed for good."""
    clock, row = e.clock[0], e.progress[r]
    if row.attempts != epoch or (row.state != DISPATCHED and row.state != RUNNING and row.state != PLACED):
        return
    n, s = row.node, e.arrivals.service[r]
    is_lc = e.arrivals.service_class[r] == LC
    if is_lc:
        e.truth.in_flight[s, n] -= 1.0
    else:
        close_books(e, r, n)
    clock.moved += 1
    if row.attempts >= e.rules.most_attempts:
        row.state = FAILED
        row.reason = EXHAUSTED
        row.finished_s = at_s
        clock.terminal += 1
    elif is_lc:
        row.state = RELEASED
        e.arrivals.turn[r] += 1  # round robin must not lead it to the same dead end for ever
        e.lists.retries[clock.retries] = r
        clock.retries += 1
    else:
        row.state = PENDING
        e.lists.pending[clock.pending] = r
        clock.pending += 1


@in_place
def give_up(e: Engine, now_s: float) -> None:
    """LC requests whose user has gone are taken out: after ten targets, and not before `give_up_least_s`."""
    clock, requests, slots = e.clock[0], e.states.requests, e.lists.slots
    count = 0
    for slot in range(len(requests)):
        if requests[slot].stage != FREE and _is_over(e, requests[slot].key, now_s):
            count = _in_order(e, slot, count)
    for k in range(count):
        slot = slots[k]
        r, n = requests[slot].key, requests[slot].node
        kernel.cancel(e.states, slot, now_s)
        clock.in_nodes -= 1
        e.truth.in_flight[e.arrivals.service[r], n] -= 1.0
        lose(e, r, n, TIMED_OUT, 0.0, now_s)
        _fail(e, r, TIMED_OUT, now_s)
    kept = 0
    for k in range(clock.retries):
        r = e.lists.retries[k]
        if _is_over(e, r, now_s):
            _fail(e, r, TIMED_OUT, now_s)
        else:
            e.lists.retries[kept] = r
            kept += 1
    clock.retries = kept


@in_place
def _in_order(e: Engine, slot: int, count: int) -> int:
    """Add a row of the node model to `slots`, which stand by request: which row a request has depends on how the arrays grew."""
    slots, requests = e.lists.slots, e.states.requests
    k = count
    while k > 0 and requests[slots[k - 1]].key > requests[slot].key:
        slots[k] = slots[k - 1]
        k -= 1
    slots[k] = slot
    return count + 1


@in_place
def _is_over(e: Engine, r: int, now_s: float) -> bool:
    waits_s = max(e.rules.give_up_least_s, e.rules.give_up_targets * e.arrivals.target_s[r])
    return bool(now_s - e.arrivals.due_s[r] > waits_s)


@in_place
def _fail(e: Engine, r: int, reason: int, at_s: float) -> None:
    row = e.progress[r]
    row.state = FAILED
    row.reason = reason
    row.finished_s = at_s
    e.clock[0].terminal += 1
    e.clock[0].moved += 1


# ---- machines ------------------------------------------------------------------------------------------------------------


@in_place
def _resize(e: Engine, i: int, limit: float, at_s: float) -> None:
    """An instance's new limit takes effect."""
    rows = len(e.places.row_service)
    n, row = i // rows, i % rows
    if e.sites[n].up == 0:
        return
    advance(e, n, at_s)
    kernel.resize_instance(e.states, n, row, limit / 1e3, e.states.instances[n, row].memory_mib, at_s)


@in_place
def _go_down(e: Engine, n: int, at_s: float) -> None:
    """A machine stops: what runs there is lost, which is noticed after a while."""
    advance(e, n, at_s)
    site, requests = e.sites[n], e.states.requests
    if site.up == 0:
        return
    site.up = 0
    seen_s = at_s + e.rules.lost_after_s
    push(e.heap, e.heap_counts, seen_s, NODE_LOST, n, 0, 0.0)
    for i in range(e.states.instances.shape[1]):
        # Nobody may start for a place that becomes free while the machine dies.
        e.states.instances[n, i].concurrency = 0
    count = 0
    for slot in range(len(requests)):
        if requests[slot].stage != FREE and requests[slot].node == n:
            count = _in_order(e, slot, count)
    for k in range(count):
        slot = e.lists.slots[k]
        r = requests[slot].key
        kernel.cancel(e.states, slot, at_s)
        e.clock[0].in_nodes -= 1
        lose(e, r, n, NODE_GONE, 0.0, at_s)
        push(e.heap, e.heap_counts, seen_s, COMES_BACK, r, e.progress[r].attempts, 0.0)
    while e.states.nodes[n].pods > 0:
        last = e.states.nodes[n].pods - 1
        r = e.states.pods[n, last].key
        done_s = kernel.remove_pod(e.states, n, last, at_s)
        _leave_node(e, r, n)
        lose(e, r, n, NODE_GONE, done_s, at_s)
        push(e.heap, e.heap_counts, seen_s, COMES_BACK, r, e.progress[r].attempts, 0.0)


@in_place
def _come_up(e: Engine, n: int, at_s: float) -> None:
    """A machine is back with fresh instances, of the declared size."""
    advance(e, n, at_s)
    kernel.integrate(e.states, n, at_s)
    site, rows = e.sites[n], len(e.places.row_service)
    if site.up == 1:
        return
    site.up = 1
    e.clock[0].moved += 1
    site.lc_request = site.lc_limit = 0.0
    for i in range(rows):
        s = e.places.row_service[i]
        instance = e.states.instances[n, i]
        instance.limit_cores = e.sharing.declared.limit_millicores[s] / 1e3
        instance.concurrency = e.places.concurrency[s]
        at = n * rows + i
        e.sharing.instances.limit_millicores[at] = e.sharing.declared.limit_millicores[s]
        e.sharing.instances.request_millicores[at] = e.sharing.declared.request_millicores[s]
        e.sharing.changed_s[at] = at_s
        site.lc_request += e.sharing.declared.request_millicores[s]
        site.lc_limit += e.sharing.declared.limit_millicores[s]
    _believe_ready(e, n, True)


@in_place
def _believe_ready(e: Engine, n: int, ready: bool) -> None:
    site, rows = e.sites[n], len(e.places.row_service)
    if not ready and site.up == 1:
        return  # it was back before anybody noticed
    site.ready = 1 if ready else 0
    for i in range(rows):
        e.sharing.instances.ready[n * rows + i] = ready
    set_limits(e, n)


@in_place
def set_limits(e: Engine, n: int) -> None:
    """What dispatchers may count on at a node: the limits of its instances, nothing when it is not ready."""
    rows = len(e.places.row_service)
    for s in range(e.truth.limit.shape[0]):
        e.truth.limit[s, n] = 0.0
    if e.sites[n].ready == 0:
        return
    for i in range(rows):
        e.truth.limit[e.places.row_service[i], n] += e.sharing.instances.limit_millicores[n * rows + i] / 1e3


@in_place
def audit(e: Engine) -> None:
    """Keep the most by which any node's CPU or memory was ever exceeded."""
    clock = e.clock[0]
    for n in range(len(e.sites)):
        node, site = e.states.nodes[n], e.sites[n]
        clock.worst_cpu = max(clock.worst_cpu, node.lc_cores + node.be_cores - node.cpu_cores)
        clock.worst_memory = max(clock.worst_memory, site.lc_memory + site.run_memory - site.memory)
        for i in range(len(e.places.row_service)):
            instance = e.states.instances[n, i]
            clock.worst_memory = max(clock.worst_memory, instance.memory_held_mib - instance.memory_mib)
