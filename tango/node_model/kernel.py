"""The compiled steps of the node model.

Every step keeps two promises: `next_s` of each node is right, and no rate changes between `clock_s` and `next_s`. So a node costs
nothing between its events, and an event costs O(instances + pods of that node + log of the requests in service).

Processor sharing is exact: all requests in service of an instance progress alike, so that one attained-service clock per instance
replaces one remaining work per request (a request ends when the clock has gone on by its work). Source: the virtual time of Parekh
and Gallager, IEEE/ACM Transactions on Networking 1993, section III.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.node_model.pairing_heap import meld, without, without_root
from tango.node_model.state import FREE, FREE_LIST, IN_SERVICE, NONE, QUEUED, SEQUENCE, NodeStates

LC, POD = 0, 1


@in_place
def refresh(states: NodeStates, n: int) -> None:
    """Work out the rates of node n, and when its next request or pod ends."""
    node = states.nodes[n]
    demand_cores = 0.0
    for i in range(states.instances.shape[1]):
        instance = states.instances[n, i]
        if instance.in_service > 0:
            demand_cores += min(float(instance.in_service), instance.limit_cores)
    node.lc_cores = min(demand_cores, node.cpu_cores)
    _share_among_pods(states, n, node.cpu_cores - node.lc_cores)

    scale = node.lc_cores / demand_cores if demand_cores > 0.0 else 0.0
    inflation = 1.0 + node.beta * node.be_cores / node.cpu_cores
    node.lc_work_per_s = node.lc_cores / inflation
    node.next_instance = NONE
    node.next_pod = NONE
    shortest_s = np.inf
    for i in range(states.instances.shape[1]):
        instance = states.instances[n, i]
        if instance.in_service == 0:
            continue
        instance.cores = min(float(instance.in_service), instance.limit_cores) * scale
        instance.rate = instance.cores / instance.in_service / inflation
        missing_s = states.requests[instance.heap].ends_at_attained_s - instance.attained_s
        if instance.rate > 0.0 and missing_s < shortest_s * instance.rate:
            shortest_s = max(0.0, missing_s / instance.rate)
            node.next_instance = i
    for p in range(node.pods):
        pod = states.pods[n, p]
        if pod.cores > 0.0 and pod.remaining_s < shortest_s * pod.cores:
            shortest_s = pod.remaining_s / pod.cores
            node.next_instance = NONE
            node.next_pod = p
        elif pod.remaining_s <= 0.0 and shortest_s > 0.0:
            shortest_s = 0.0
            node.next_instance = NONE
            node.next_pod = p
    node.next_s = node.clock_s + shortest_s


@in_place
def _share_among_pods(states: NodeStates, n: int, free_cores: float) -> None:
    """Water-filling: rows stand by limit / weight, so that one pass finds which pods reach their cap."""
    node = states.nodes[n]
    weight = 0.0
    for p in range(node.pods):
        weight += states.pods[n, p].weight
    used_cores = 0.0
    left_cores = free_cores
    for p in range(node.pods):
        pod = states.pods[n, p]
        # The last pod's weight may differ from the weight left by rounding; it takes what is left.
        fraction = pod.weight / weight if pod.weight < weight else 1.0
        pod.cores = max(0.0, min(pod.limit_cores, left_cores * fraction))
        left_cores -= pod.cores
        weight -= pod.weight
        used_cores += pod.cores
    node.be_cores = min(used_cores, free_cores)


@in_place
def integrate(states: NodeStates, n: int, to_s: float) -> None:
    """Let node n run on to `to_s` at the rates it has; `to_s` must not lie beyond its next event."""
    node = states.nodes[n]
    elapsed_s = to_s - node.clock_s
    if elapsed_s <= 0.0:
        return
    for i in range(states.instances.shape[1]):
        instance = states.instances[n, i]
        if instance.in_service > 0:
            instance.attained_s += instance.rate * elapsed_s
            instance.busy_s += instance.cores * elapsed_s
    for p in range(node.pods):
        pod = states.pods[n, p]
        pod.remaining_s = max(0.0, pod.remaining_s - pod.cores * elapsed_s)
    node.lc_busy_s += node.lc_cores * elapsed_s
    node.lc_work_s += node.lc_work_per_s * elapsed_s
    node.be_busy_s += node.be_cores * elapsed_s
    node.clock_s = to_s


@in_place
def start_queued(states: NodeStates, n: int, i: int) -> None:
    """Take waiting requests into service, in order, as long as memory and concurrency hold."""
    instance = states.instances[n, i]
    while instance.queue_first != NONE and instance.in_service < instance.concurrency:
        slot = instance.queue_first
        request = states.requests[slot]
        if instance.memory_held_mib + request.memory_mib > instance.memory_mib:
            return
        _unqueue(states, n, i, slot)
        request.stage = IN_SERVICE
        request.started_s = states.nodes[n].clock_s
        request.ends_at_attained_s = instance.attained_s + request.work_s
        request.child = NONE
        request.next = NONE
        request.previous = NONE
        instance.heap = meld(states.requests, instance.heap, slot)
        instance.memory_held_mib += request.memory_mib
        instance.in_service += 1


@in_place
def _unqueue(states: NodeStates, n: int, i: int, slot: int) -> None:
    instance = states.instances[n, i]
    before, after = states.requests[slot].previous, states.requests[slot].next
    if before == NONE:
        instance.queue_first = after
    else:
        states.requests[before].next = after
    if after == NONE:
        instance.queue_last = before
    else:
        states.requests[after].previous = before
    instance.queued -= 1


@in_place
def _leave_service(states: NodeStates, n: int, i: int, slot: int) -> None:
    """Give back what a request in service held; its heap links are the caller's business."""
    instance = states.instances[n, i]
    instance.in_service -= 1
    instance.memory_held_mib -= states.requests[slot].memory_mib
    if instance.in_service == 0:
        # An idle instance starts its clock again, so that rounding errors never add up over a long run.
        instance.attained_s = 0.0
        instance.memory_held_mib = 0.0
        instance.rate = 0.0


@in_place
def _release(states: NodeStates, slot: int) -> None:
    states.requests[slot].stage = FREE
    states.requests[slot].next = states.pool[FREE_LIST]
    states.pool[FREE_LIST] = slot


@in_place
def advance_node(states: NodeStates, n: int, to_s: float, out: NDArray[np.void], used: int) -> int:
    """Run node n to `to_s`, write what ended to `out` from row `used` on, and give the rows then in use.

    When `out` is full the node stops at its last written event: `next_s` is still at or before `to_s`, so call again.
    """
    node = states.nodes[n]
    while node.next_s <= to_s:
        if used == len(out):
            return used
        integrate(states, n, node.next_s)
        node.clock_s = node.next_s
        row = out[used]
        row.node = n
        row.finished_s = node.clock_s
        if node.next_instance != NONE:
            i = node.next_instance
            instance = states.instances[n, i]
            slot = instance.heap
            request = states.requests[slot]
            row.kind = LC
            row.key = request.key
            row.started_s = request.started_s
            row.work_s = request.work_s
            instance.attained_s = request.ends_at_attained_s
            instance.heap = without_root(states.requests, slot)
            _leave_service(states, n, i, slot)
            _release(states, slot)
            start_queued(states, n, i)
        else:
            pod = states.pods[n, node.next_pod]
            row.kind = POD
            row.key = pod.key
            row.started_s = pod.started_s
            row.work_s = pod.work_s
            _take_pod_row(states, n, node.next_pod)
        used += 1
        refresh(states, n)
    integrate(states, n, to_s)
    return used


@in_place
def advance(states: NodeStates, to_s: float, out: NDArray[np.void]) -> int:
    """Run all nodes to `to_s` and give the rows of `out` in use, by node, each node's in order of time.

    When that is all of `out`, call again: some node may have stopped early.
    """
    used = 0
    for n in range(len(states.nodes)):
        used = advance_node(states, n, to_s, out, used)
    return used


@in_place
def drain(states: NodeStates, to_s: float, out: NDArray[np.void]) -> int:
    """As `advance`, but nodes without an event by `to_s` are left at their own clock, where they cost nothing."""
    used = 0
    for n in range(len(states.nodes)):
        if states.nodes[n].next_s <= to_s:
            used = advance_node(states, n, to_s, out, used)
    return used


@in_place
def submit(states: NodeStates, n: int, i: int, key: int, work_s: float, memory_mib: float, at_s: float) -> int:
    """Put a request into instance i of node n at `at_s` and give its row; it starts at once if it fits, else it waits.

    Before: the node has no event before `at_s`, and the pool has a free row.
    """
    integrate(states, n, at_s)
    slot = states.pool[FREE_LIST]
    request = states.requests[slot]
    states.pool[FREE_LIST] = request.next
    request.key = key
    request.node = n
    request.instance = i
    request.work_s = work_s
    request.memory_mib = memory_mib
    request.sequence = states.pool[SEQUENCE]
    request.started_s = np.nan
    states.pool[SEQUENCE] += 1
    instance = states.instances[n, i]
    request.stage = QUEUED
    request.next = NONE
    request.previous = instance.queue_last
    if instance.queue_last == NONE:
        instance.queue_first = slot
    else:
        states.requests[instance.queue_last].next = slot
    instance.queue_last = slot
    instance.queued += 1
    if instance.queue_first == slot:
        start_queued(states, n, i)
        refresh(states, n)
    return int(slot)


@in_place
def cancel(states: NodeStates, slot: int, at_s: float) -> None:
    """Take a request out, waiting or in service, at `at_s`; the node has no event before `at_s`."""
    n, i = states.requests[slot].node, states.requests[slot].instance
    integrate(states, n, at_s)
    instance = states.instances[n, i]
    if states.requests[slot].stage == QUEUED:
        _unqueue(states, n, i, slot)
    else:
        instance.heap = without(states.requests, instance.heap, slot)
        _leave_service(states, n, i, slot)
    _release(states, slot)
    start_queued(states, n, i)
    refresh(states, n)


@in_place
def add_pod(
    states: NodeStates, n: int, key: int, weight: float, limit_cores: float, work_s: float, memory_mib: float, at_s: float
) -> None:
    """Start a BE pod on node n at `at_s`. Before: no event before `at_s`, and a free row."""
    integrate(states, n, at_s)
    _put_pod_row(states, n, key, weight, limit_cores, work_s, work_s, at_s, memory_mib)
    refresh(states, n)


@in_place
def _put_pod_row(
    states: NodeStates,
    n: int,
    key: int,
    weight: float,
    limit_cores: float,
    work_s: float,
    remaining_s: float,
    started_s: float,
    memory_mib: float,
) -> None:
    """Insert by (limit / weight, key), so that the result does not depend on the order in which pods came."""
    rows = states.pods
    p = states.nodes[n].pods
    while p > 0:
        other = rows[n, p - 1]
        here, there = limit_cores * other.weight, other.limit_cores * weight
        if there < here or (there == here and other.key < key):
            break
        rows[n, p] = rows[n, p - 1]
        p -= 1
    pod = rows[n, p]
    pod.key = key
    pod.weight = weight
    pod.limit_cores = limit_cores
    pod.work_s = work_s
    pod.remaining_s = remaining_s
    pod.started_s = started_s
    pod.memory_mib = memory_mib
    pod.cores = 0.0
    states.nodes[n].pods += 1


@in_place
def _take_pod_row(states: NodeStates, n: int, taken: int) -> None:
    states.nodes[n].pods -= 1
    for p in range(taken, states.nodes[n].pods):
        states.pods[n, p] = states.pods[n, p + 1]


@in_place
def pod_row(states: NodeStates, n: int, key: int) -> int:
    """Row of the pod on node n, or -1."""
    for p in range(states.nodes[n].pods):
        if states.pods[n, p].key == key:
            return p
    return NONE


@in_place
def remove_pod(states: NodeStates, n: int, p: int, at_s: float) -> float:
    """Stop the pod of row p at `at_s` and give the CPU-seconds it had done; no event before `at_s`."""
    integrate(states, n, at_s)
    done_s = states.pods[n, p].work_s - states.pods[n, p].remaining_s
    _take_pod_row(states, n, p)
    refresh(states, n)
    return float(done_s)


@in_place
def resize_pod(states: NodeStates, n: int, p: int, weight: float, limit_cores: float, at_s: float) -> None:
    """Change weight and limit of the pod of row p at `at_s`; no event before `at_s`."""
    integrate(states, n, at_s)
    pod = states.pods[n, p]
    key, work_s, remaining_s, started_s, memory_mib = pod.key, pod.work_s, pod.remaining_s, pod.started_s, pod.memory_mib
    _take_pod_row(states, n, p)
    _put_pod_row(states, n, key, weight, limit_cores, work_s, remaining_s, started_s, memory_mib)
    refresh(states, n)


@in_place
def resize_instance(states: NodeStates, n: int, i: int, limit_cores: float, memory_mib: float, at_s: float) -> None:
    """Change the limits of an instance at `at_s`; requests in service keep their memory, waiting ones may start."""
    integrate(states, n, at_s)
    instance = states.instances[n, i]
    instance.limit_cores = limit_cores
    instance.memory_mib = memory_mib
    start_queued(states, n, i)
    refresh(states, n)
