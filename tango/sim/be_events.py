"""BE pods: placed by the centre, admitted by the node, evicted by the sharing rule or for the share of a tenant. Compiled."""

from __future__ import annotations

import numpy as np

from tango.compiled import in_place, inlined
from tango.domain.resource_axis import CPU, MEMORY, PODS
from tango.node_model import kernel
from tango.node_model.capacity import lacks
from tango.sim import lifecycle
from tango.sim.accounts import asked, count_in_placed, count_in_running, count_out_running
from tango.sim.codes import (
    EVICTED,
    GAVE_WAY,
    NO_REASON,
    NODE_GONE,
    OUT_OF_CPU,
    OUT_OF_EXTENDED,
    OUT_OF_MEMORY,
    OUT_OF_PODS,
    PLACED,
    POD_START,
)
from tango.sim.heap import push
from tango.sim.losses import lose, requeue
from tango.sim.node_time import advance
from tango.sim.scaling_log import note
from tango.sim.state import EngineState


@in_place
def place(state: EngineState) -> None:
    """Let the first of `Lists.pending` become pods on the nodes of `Lists.placing`, which start at `CLOCK.placing_starts_s`.

    Those whose node is -1 stay pending, in their order.
    """
    clock, pending = state.clock[0], state.lists.pending
    kept = 0
    for k in range(clock.placing):
        request, node = pending[k], state.lists.placing[k]
        if node < 0:
            pending[kept] = request
            kept += 1
            continue
        progress = state.progress[request]
        lifecycle.move(lifecycle.PLACE, request, clock, state.arrivals, state.progress)
        progress.node = node
        count_in_placed(state, request, node)
        push(state.heap, state.heap_counts, clock.placing_starts_s, POD_START, request, progress.attempts, 0.0)
    for k in range(clock.placing, clock.pending):
        pending[kept] = pending[k]
        kept += 1
    clock.pending = kept
    clock.placing = 0


@inlined
def pod_starts(state: EngineState, request: int, epoch: int, at_s: float) -> None:
    """The kubelet admits a pod by what it asks for of every resource, or refuses it.

    The node may have changed since the snapshot that the placement was decided on: an LC instance has grown, or the node has failed.
    """
    progress = state.progress[request]
    if progress.state != PLACED or progress.attempts != epoch:
        return
    node, service = progress.node, state.arrivals.service[request]
    refused = NODE_GONE if state.sites[node].up == 0 else _refusal(state, request, node)
    if refused != NO_REASON:
        lose(state, request, node, refused, 0.0, at_s)
        requeue(state, request, epoch, at_s)
        return
    advance(state, node, at_s)
    lifecycle.move(lifecycle.RUN, request, state.clock[0], state.arrivals, state.progress)
    count_in_running(state, request, node)
    state.clock[0].moved += 1
    # CPU is shared by request, as cpu.weight is: the request is the pod's weight.
    limit_cores = state.be.limit[service] / 1e3 * state.sharing.shares.be_share[node]
    weight, memory_mib = state.be.requests[CPU, service], state.arrivals.memory_mib[request]
    work_s = state.arrivals.work_s[request]
    kernel.add_pod(state.states, node, request, service, weight, limit_cores, work_s, memory_mib, at_s)


@inlined
def _refusal(state: EngineState, request: int, node: int) -> int:
    """The reason of the first resource that the node lacks; NO_REASON when it lacks none."""
    holdings = state.holdings
    for resource in range(len(holdings.allocatable)):
        free = holdings.allocatable[resource, node] - holdings.lc[resource, node] - holdings.running[resource, node]
        if lacks(asked(state, request, resource), free):
            if resource == CPU:
                return OUT_OF_CPU
            if resource == MEMORY:
                return OUT_OF_MEMORY
            return OUT_OF_PODS if resource == PODS else OUT_OF_EXTENDED
    # The node model has rows for as many pods as can fit; sums of floats must not go beyond them.
    return OUT_OF_PODS if state.states.nodes[node].pods == state.states.pods.shape[1] else NO_REASON


@in_place
def evict(state: EngineState, request: int, at_s: float) -> None:
    """Stop a running pod for LC; its work is lost and it waits again at once. The node stands at or before `at_s`."""
    epoch = state.progress[request].attempts
    if _stop(state, request, at_s):
        requeue(state, request, epoch, at_s)


@inlined
def _stop(state: EngineState, request: int, at_s: float) -> bool:
    """Take a pod off its node, and note what it had done as lost; give whether it was there."""
    node = state.progress[request].node
    advance(state, node, at_s)
    row = kernel.pod_row(state.states, node, request)
    if row < 0:
        return False  # it ended while the node caught up
    done_s = kernel.remove_pod(state.states, node, row, at_s)
    count_out_running(state, request, node)
    lose(state, request, node, EVICTED, done_s, at_s)
    return True


@in_place
def pod_gives_way(state: EngineState, request: int, epoch: int, at_s: float) -> None:
    """A pod leaves its room to another tenant, unless its attempt is over by now."""
    node = state.progress[request].node
    advance(state, node, at_s)
    if state.progress[request].attempts != epoch or kernel.pod_row(state.states, node, request) < 0:
        return
    note(state, at_s, GAVE_WAY, node, state.arrivals.service[request], np.nan, np.nan, np.nan)
    if _stop(state, request, at_s):
        requeue(state, request, epoch, at_s)
