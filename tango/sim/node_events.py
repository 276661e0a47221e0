"""Nodes that fail and return, and resizes that take effect. Compiled.

A failure has two instants: `node_goes_down`, when everything that runs there is lost, and `node_is_missed`, when Tango notices. In
between requests are still sent there and come to nothing.
"""

from __future__ import annotations

from tango.compiled import in_place
from tango.domain.resource_axis import CPU
from tango.node_model import kernel
from tango.node_model.state import FREE
from tango.sim.accounts import count_out_running
from tango.sim.codes import NODE_GONE, NODE_LOST, REQUEUE
from tango.sim.heap import push
from tango.sim.losses import insert_slot, lose
from tango.sim.node_time import advance
from tango.sim.state import EngineState


@in_place
def resize_takes_effect(state: EngineState, instance: int, limit_millicores: float, at_s: float) -> None:
    """The kubelet has carried out a resize; `instance` is a row of `Sharing.instances`."""
    rows = len(state.places.row_service)
    node, row = instance // rows, instance % rows
    if state.sites[node].up == 0:
        return
    advance(state, node, at_s)
    memory_mib = state.states.instances[node, row].memory_mib
    kernel.resize_instance(state.states, node, row, limit_millicores / 1e3, memory_mib, at_s)


@in_place
def node_goes_down(state: EngineState, node: int, at_s: float) -> None:
    """A node stops: what runs there is lost now, and requeued when that is noticed."""
    advance(state, node, at_s)
    site, requests = state.sites[node], state.states.requests
    if site.up == 0:
        return
    site.up = 0
    noticed_s = at_s + state.rules.lost_after_s
    push(state.heap, state.heap_counts, noticed_s, NODE_LOST, node, 0, 0.0)
    for row in range(state.states.instances.shape[1]):
        # `cancel` below starts whoever waits for the place; none may start on a node that has stopped.
        state.states.instances[node, row].concurrency = 0
    count = 0
    for slot in range(len(requests)):
        if requests[slot].stage != FREE and requests[slot].node == node:
            count = insert_slot(state, slot, count)
    for k in range(count):
        slot = state.lists.slots[k]
        request = requests[slot].key
        kernel.cancel(state.states, slot, at_s)
        state.clock[0].in_nodes -= 1
        lose(state, request, node, NODE_GONE, 0.0, at_s)
        push(state.heap, state.heap_counts, noticed_s, REQUEUE, request, state.progress[request].attempts, 0.0)
    while state.states.nodes[node].pods > 0:
        last = state.states.nodes[node].pods - 1
        request = state.states.pods[node, last].key
        done_s = kernel.remove_pod(state.states, node, last, at_s)
        count_out_running(state, request, node)
        lose(state, request, node, NODE_GONE, done_s, at_s)
        push(state.heap, state.heap_counts, noticed_s, REQUEUE, request, state.progress[request].attempts, 0.0)


@in_place
def node_comes_up(state: EngineState, node: int, at_s: float) -> None:
    """A node is back with fresh instances of the declared size, and Tango sees it at once."""
    advance(state, node, at_s)
    kernel.integrate(state.states, node, at_s)
    site, sharing = state.sites[node], state.sharing
    rows = len(state.places.row_service)
    if site.up == 1:
        return
    site.up = 1
    state.clock[0].moved += 1
    site.lc_limit = state.holdings.lc[CPU, node] = 0.0
    for row in range(rows):
        service = state.places.row_service[row]
        limit_millicores = sharing.declared.limit_millicores[service]
        request_millicores = sharing.declared.request_millicores[service]
        instance = state.states.instances[node, row]
        instance.limit_cores = limit_millicores / 1e3
        instance.concurrency = state.places.concurrency[service]
        at = node * rows + row
        sharing.instances.limit_millicores[at] = limit_millicores
        sharing.instances.request_millicores[at] = request_millicores
        sharing.changed_s[at] = at_s
        state.holdings.lc[CPU, node] += request_millicores
        site.lc_limit += limit_millicores
    _set_ready(state, node, True)


@in_place
def node_is_missed(state: EngineState, node: int) -> None:
    """Tango notices that a node is down, unless it is back already."""
    if state.sites[node].up == 0:
        _set_ready(state, node, False)


@in_place
def _set_ready(state: EngineState, node: int, ready: bool) -> None:
    rows = len(state.places.row_service)
    state.sites[node].ready = 1 if ready else 0
    for row in range(rows):
        state.sharing.instances.ready[node * rows + row] = ready
    set_limits(state, node)


@in_place
def set_limits(state: EngineState, node: int) -> None:
    """What dispatchers may count on at a node: the limits of its instances, nothing when it is not ready."""
    rows = len(state.places.row_service)
    for service in range(state.truth.limit.shape[0]):
        state.truth.limit[service, node] = 0.0
    if state.sites[node].ready == 0:
        return
    for row in range(rows):
        service = state.places.row_service[row]
        state.truth.limit[service, node] += state.sharing.instances.limit_millicores[node * rows + row] / 1e3
