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
from tango.node_model.interference import slow_down
from tango.node_model.pairing_heap import meld, without, without_root
from tango.node_model.state import FREE, FREE_LIST, IN_SERVICE, NONE, QUEUED, SEQUENCE, NodeStates

LC, POD = 0, 1


@in_place
def refresh(states: NodeStates, node: int) -> None:
    """Work out the rates of a node, and when its next request or pod ends.

    An instance with limit L and k requests in service wants min(k, L) cores; beyond the node's CPU all are scaled by one factor. Its
    requests share its cores evenly, and a core does 1 / (1 + beta x BE utilisation) of nominal work per second, or, where a fleet declares
    kinds of pressure, 1 / `slow_down`. So it is with the cores of a pod.
    """
    record = states.nodes[node]
    demand_cores = 0.0
    for i in range(states.instances.shape[1]):
        instance = states.instances[node, i]
        if instance.in_service > 0:
            demand_cores += min(float(instance.in_service), instance.limit_cores)
    record.lc_cores = min(demand_cores, record.cpu_cores)
    _share_among_pods(states, node, record.cpu_cores - record.lc_cores)

    scale = record.lc_cores / demand_cores if demand_cores > 0.0 else 0.0
    by_beta = 1.0 + record.beta * record.be_cores / record.cpu_cores
    is_declared = len(states.traits.is_sensitive) > 0
    if is_declared:
        _add_up_pressure(states, node, scale)
    record.lc_work_per_s = 0.0 if is_declared else record.lc_cores / by_beta
    record.be_work_per_s = 0.0
    record.next_instance = NONE
    record.next_pod = NONE
    shortest_s = np.inf
    for i in range(states.instances.shape[1]):
        instance = states.instances[node, i]
        if instance.in_service == 0:
            continue
        instance.cores = min(float(instance.in_service), instance.limit_cores) * scale
        inflation = by_beta
        if is_declared:
            exerted = states.exerted[node]
            inflation = slow_down(states.traits, instance.service, exerted, instance.cores, record.cpu_cores, by_beta)
            record.lc_work_per_s += instance.cores / inflation
        instance.rate = instance.cores / instance.in_service / inflation
        # All in service progress alike, so the next to end is the one with the least attained service missing.
        missing_s = states.requests[instance.heap].ends_at_attained_s - instance.attained_s
        if instance.rate > 0.0 and missing_s < shortest_s * instance.rate:
            shortest_s = max(0.0, missing_s / instance.rate)
            record.next_instance = i
    for p in range(record.pods):
        pod = states.pods[node, p]
        pod.rate = pod.cores
        if is_declared:
            pod.rate /= slow_down(states.traits, pod.service, states.exerted[node], pod.cores, record.cpu_cores, 1.0)
        record.be_work_per_s += pod.rate
        if pod.rate > 0.0 and pod.remaining_s < shortest_s * pod.rate:
            shortest_s = pod.remaining_s / pod.rate
            record.next_instance = NONE
            record.next_pod = p
        elif pod.remaining_s <= 0.0 and shortest_s > 0.0:
            shortest_s = 0.0
            record.next_instance = NONE
            record.next_pod = p
    record.next_s = record.clock_s + shortest_s


@in_place
def _add_up_pressure(states: NodeStates, node: int, scale: float) -> None:
    """Fill `NodeStates.exerted` of a node; its pods have their cores already, LC gets `scale` of what it wants."""
    exerted, pressure = states.exerted[node], states.traits.pressure
    for k in range(len(exerted)):
        exerted[k] = 0.0
    for i in range(states.instances.shape[1]):
        instance = states.instances[node, i]
        if instance.in_service > 0 and instance.service >= 0:
            cores = min(float(instance.in_service), instance.limit_cores) * scale
            for k in range(len(exerted)):
                exerted[k] += pressure[instance.service, k] * cores
    for p in range(states.nodes[node].pods):
        pod = states.pods[node, p]
        if pod.service >= 0:
            for k in range(len(exerted)):
                exerted[k] += pressure[pod.service, k] * pod.cores


@in_place
def _share_among_pods(states: NodeStates, node: int, free_cores: float) -> None:
    """Give the CPU that LC leaves to BE pods by weight, none more than its limit: weighted max-min fairness.

    Rows stand by limit / weight, the order in which a rising level of CPU per weight fills them, so one pass is enough.
    Source: progressive filling (Bertsekas and Gallager, Data Networks, 2nd edition, section 6.5.2), weighted.
    """
    record = states.nodes[node]
    weight = 0.0
    for p in range(record.pods):
        weight += states.pods[node, p].weight
    used_cores = 0.0
    left_cores = free_cores
    for p in range(record.pods):
        pod = states.pods[node, p]
        # The last pod's weight may differ from the weight left by rounding; it takes what is left.
        fraction = pod.weight / weight if pod.weight < weight else 1.0
        pod.cores = max(0.0, min(pod.limit_cores, left_cores * fraction))
        left_cores -= pod.cores
        weight -= pod.weight
        used_cores += pod.cores
    record.be_cores = min(used_cores, free_cores)


@in_place
def integrate(states: NodeStates, node: int, to_s: float) -> None:
    """Let a node run on to `to_s` at the rates it has; `to_s` must not lie beyond its next event."""
    record = states.nodes[node]
    elapsed_s = to_s - record.clock_s
    if elapsed_s <= 0.0:
        return
    for i in range(states.instances.shape[1]):
        instance = states.instances[node, i]
        if instance.in_service > 0:
            instance.attained_s += instance.rate * elapsed_s
            instance.busy_s += instance.cores * elapsed_s
    for p in range(record.pods):
        pod = states.pods[node, p]
        pod.remaining_s = max(0.0, pod.remaining_s - pod.rate * elapsed_s)
    record.lc_busy_s += record.lc_cores * elapsed_s
    record.lc_work_s += record.lc_work_per_s * elapsed_s
    record.be_busy_s += record.be_cores * elapsed_s
    record.be_work_s += record.be_work_per_s * elapsed_s
    record.clock_s = to_s


@in_place
def start_queued(states: NodeStates, node: int, row: int) -> None:
    """Take waiting requests into service, in order, as long as memory and concurrency hold.

    A request that does not fit blocks those behind it: an instance serves in order of arrival, as a server's accept queue does.
    """
    instance = states.instances[node, row]
    while instance.queue_first != NONE and instance.in_service < instance.concurrency:
        slot = instance.queue_first
        request = states.requests[slot]
        if instance.memory_held_mib + request.memory_mib > instance.memory_mib:
            return
        _unqueue(states, node, row, slot)
        request.stage = IN_SERVICE
        request.started_s = states.nodes[node].clock_s
        request.ends_at_attained_s = instance.attained_s + request.work_s
        request.child = NONE
        request.next = NONE
        request.previous = NONE
        instance.heap = meld(states.requests, instance.heap, slot)
        instance.memory_held_mib += request.memory_mib
        instance.in_service += 1


@in_place
def _unqueue(states: NodeStates, node: int, row: int, slot: int) -> None:
    instance = states.instances[node, row]
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
def _leave_service(states: NodeStates, node: int, row: int, slot: int) -> None:
    """Give back what a request in service held; its heap links are the caller's business."""
    instance = states.instances[node, row]
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
def advance_node(states: NodeStates, node: int, to_s: float, out: NDArray[np.void], used: int) -> int:
    """Run a node to `to_s`, write what ended to `out` from row `used` on, and give the rows then in use.

    When `out` is full the node stops at its last written event: `next_s` is still at or before `to_s`, so call again.
    """
    record = states.nodes[node]
    while record.next_s <= to_s:
        if used == len(out):
            return used
        integrate(states, node, record.next_s)
        record.clock_s = record.next_s
        ended = out[used]
        ended.node = node
        ended.finished_s = record.clock_s
        if record.next_instance != NONE:
            row = record.next_instance
            instance = states.instances[node, row]
            slot = instance.heap
            request = states.requests[slot]
            ended.kind = LC
            ended.key = request.key
            ended.started_s = request.started_s
            ended.work_s = request.work_s
            # Not what the steps added up to: rounding must not leave a request with work that is already done.
            instance.attained_s = request.ends_at_attained_s
            instance.heap = without_root(states.requests, slot)
            _leave_service(states, node, row, slot)
            _release(states, slot)
            start_queued(states, node, row)
        else:
            pod = states.pods[node, record.next_pod]
            ended.kind = POD
            ended.key = pod.key
            ended.started_s = pod.started_s
            ended.work_s = pod.work_s
            _take_pod_row(states, node, record.next_pod)
        used += 1
        refresh(states, node)
    integrate(states, node, to_s)
    return used


@in_place
def advance(states: NodeStates, to_s: float, out: NDArray[np.void]) -> int:
    """Run all nodes to `to_s` and give the rows of `out` in use, by node, each node's in order of time.

    When that is all of `out`, call again: some node may have stopped early.
    """
    used = 0
    for node in range(len(states.nodes)):
        used = advance_node(states, node, to_s, out, used)
    return used


@in_place
def drain(states: NodeStates, to_s: float, out: NDArray[np.void]) -> int:
    """As `advance`, but nodes without an event by `to_s` are left at their own clock, where they cost nothing."""
    used = 0
    for node in range(len(states.nodes)):
        if states.nodes[node].next_s <= to_s:
            used = advance_node(states, node, to_s, out, used)
    return used


@in_place
def submit(states: NodeStates, node: int, row: int, key: int, work_s: float, memory_mib: float, at_s: float) -> int:
    """Put a request into the instance of a row at `at_s` and give the request's own row; it starts at once if it fits, else it waits.

    Before: the node has no event before `at_s`, and the pool has a free row.
    """
    integrate(states, node, at_s)
    slot = states.pool[FREE_LIST]
    request = states.requests[slot]
    states.pool[FREE_LIST] = request.next
    request.key = key
    request.node = node
    request.instance = row
    request.work_s = work_s
    request.memory_mib = memory_mib
    request.sequence = states.pool[SEQUENCE]
    request.started_s = np.nan
    states.pool[SEQUENCE] += 1
    instance = states.instances[node, row]
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
        start_queued(states, node, row)
        refresh(states, node)
    return int(slot)


@in_place
def cancel(states: NodeStates, slot: int, at_s: float) -> None:
    """Take a request out, waiting or in service, at `at_s`; the node has no event before `at_s`."""
    node, row = states.requests[slot].node, states.requests[slot].instance
    integrate(states, node, at_s)
    instance = states.instances[node, row]
    if states.requests[slot].stage == QUEUED:
        _unqueue(states, node, row, slot)
    else:
        instance.heap = without(states.requests, instance.heap, slot)
        _leave_service(states, node, row, slot)
    _release(states, slot)
    start_queued(states, node, row)
    refresh(states, node)


@in_place
def add_pod(
    states: NodeStates,
    node: int,
    key: int,
    service: int,
    weight: float,
    limit_cores: float,
    work_s: float,
    memory_mib: float,
    at_s: float,
) -> None:
    """Start a BE pod of a row of `NeighbourTraits` (-1: none) on a node at `at_s`. Before: no event before `at_s`, and a free row."""
    integrate(states, node, at_s)
    row = _put_pod_row(states, node, key, weight, limit_cores, work_s, work_s, at_s, memory_mib)
    states.pods[node, row].service = service
    refresh(states, node)


@in_place
def _put_pod_row(
    states: NodeStates,
    node: int,
    key: int,
    weight: float,
    limit_cores: float,
    work_s: float,
    remaining_s: float,
    started_s: float,
    memory_mib: float,
) -> int:
    """Insert by (limit / weight, key), so that the result does not depend on the order in which pods came; give the row. The service is
    the caller's to set."""
    rows = states.pods
    p = states.nodes[node].pods
    while p > 0:
        other = rows[node, p - 1]
        here, there = limit_cores * other.weight, other.limit_cores * weight
        if there < here or (there == here and other.key < key):
            break
        rows[node, p] = rows[node, p - 1]
        p -= 1
    pod = rows[node, p]
    pod.key = key
    pod.weight = weight
    pod.limit_cores = limit_cores
    pod.work_s = work_s
    pod.remaining_s = remaining_s
    pod.started_s = started_s
    pod.memory_mib = memory_mib
    pod.cores = 0.0
    pod.rate = 0.0
    states.nodes[node].pods += 1
    return int(p)


@in_place
def _take_pod_row(states: NodeStates, node: int, taken: int) -> None:
    states.nodes[node].pods -= 1
    for p in range(taken, states.nodes[node].pods):
        states.pods[node, p] = states.pods[node, p + 1]


@in_place
def pod_row(states: NodeStates, node: int, key: int) -> int:
    """Row of the pod on a node, or -1."""
    for p in range(states.nodes[node].pods):
        if states.pods[node, p].key == key:
            return p
    return NONE


@in_place
def remove_pod(states: NodeStates, node: int, row: int, at_s: float) -> float:
    """Stop the pod of a row at `at_s` and give the nominal CPU-seconds it had done; no event before `at_s`."""
    integrate(states, node, at_s)
    done_s = states.pods[node, row].work_s - states.pods[node, row].remaining_s
    _take_pod_row(states, node, row)
    refresh(states, node)
    return float(done_s)


@in_place
def resize_pod(states: NodeStates, node: int, row: int, weight: float, limit_cores: float, at_s: float) -> None:
    """Change weight and limit of the pod of a row at `at_s`; no event before `at_s`."""
    integrate(states, node, at_s)
    pod = states.pods[node, row]
    key, service, memory_mib = pod.key, pod.service, pod.memory_mib
    work_s, remaining_s, started_s = pod.work_s, pod.remaining_s, pod.started_s
    _take_pod_row(states, node, row)
    row = _put_pod_row(states, node, key, weight, limit_cores, work_s, remaining_s, started_s, memory_mib)
    states.pods[node, row].service = service
    refresh(states, node)


@in_place
def resize_instance(states: NodeStates, node: int, row: int, limit_cores: float, memory_mib: float, at_s: float) -> None:
    """Change the limits of an instance at `at_s`; requests in service keep their memory, waiting ones may start."""
    integrate(states, node, at_s)
    instance = states.instances[node, row]
    instance.limit_cores = limit_cores
    instance.memory_mib = memory_mib
    start_queued(states, node, row)
    refresh(states, node)
