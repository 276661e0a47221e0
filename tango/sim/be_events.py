"""BE pods: placed by the centre, admitted by the node, evicted by the sharing rule. Compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined
from tango.node_model import kernel
from tango.sim import lifecycle
from tango.sim.accounts import count_in_placed, count_in_running, count_out_running
from tango.sim.codes import NO_REASON, NODE_GONE, OUT_OF_CPU, OUT_OF_MEMORY, PLACED, POD_START
from tango.sim.heap import push
from tango.sim.losses import lose, requeue
from tango.sim.node_time import advance
from tango.sim.state import EngineState

ROUNDING = 1e-6
"""Millicores and MiB that a sum of requests may exceed allocatable by: sums are kept by adding and subtracting floats."""


@in_place
def place(state: EngineState, requests: NDArray[np.int64], nodes: NDArray[np.int32], start_s: float) -> None:
    """Let pending requests become pods that start at `start_s`; node -1 stays pending.

    `requests` are the first of `Lists.pending`, in its order, which those that stay keep.
    """
    kept = 0
    for k in range(len(requests)):
        request, node = requests[k], nodes[k]
        if node < 0:
            state.lists.pending[kept] = request
            kept += 1
            continue
        progress = state.progress[request]
        lifecycle.move(lifecycle.PLACE, request, state.clock[0], state.arrivals, state.progress)
        progress.node = node
        count_in_placed(state, request, node)
        push(state.heap, state.heap_counts, start_s, POD_START, request, progress.attempts, 0.0)
    for k in range(len(requests), state.clock[0].pending):
        state.lists.pending[kept] = state.lists.pending[k]
        kept += 1
    state.clock[0].pending = kept


@inlined
def pod_starts(state: EngineState, request: int, epoch: int, at_s: float) -> None:
    """The kubelet admits a pod by its requests of CPU and memory, or refuses it.

    The node may have changed since the snapshot that the placement was decided on: an LC instance has grown, or the node has failed.
    """
    progress = state.progress[request]
    if progress.state != PLACED or progress.attempts != epoch:
        return
    node, service = progress.node, state.arrivals.service[request]
    site = state.sites[node]
    cpu_millicores, memory_mib = state.be.request[service], state.arrivals.memory_mib[request]
    no_pod_row = state.states.nodes[node].pods == state.states.pods.shape[1]
    refused = NO_REASON
    if site.up == 0:
        refused = NODE_GONE
    elif site.lc_request + site.run_request + cpu_millicores > site.cpu + ROUNDING or no_pod_row:
        refused = OUT_OF_CPU
    elif site.lc_memory + site.run_memory + memory_mib > site.memory + ROUNDING:
        refused = OUT_OF_MEMORY
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
    kernel.add_pod(state.states, node, request, cpu_millicores, limit_cores, state.arrivals.work_s[request], memory_mib, at_s)


@in_place
def evict(state: EngineState, request: int, reason: int, at_s: float) -> None:
    """Stop a running pod; its work is lost and it waits again at once. The node stands at or before `at_s`."""
    node = state.progress[request].node
    advance(state, node, at_s)
    row = kernel.pod_row(state.states, node, request)
    if row < 0:
        return  # it ended while the node caught up
    done_s = kernel.remove_pod(state.states, node, row, at_s)
    count_out_running(state, request, node)
    lose(state, request, node, reason, done_s, at_s)
    requeue(state, request, state.progress[request].attempts, at_s)
