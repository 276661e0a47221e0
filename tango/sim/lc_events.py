"""LC requests that reach their node, and those whose user has gone. Compiled."""

from __future__ import annotations

from tango.compiled import in_place, inlined
from tango.node_model import kernel
from tango.node_model.state import FREE
from tango.sim import lifecycle
from tango.sim.codes import DISPATCHED, TIMED_OUT, UNREACHABLE
from tango.sim.endings import observe_failure
from tango.sim.losses import fail, insert_slot, lose, requeue
from tango.sim.node_time import advance
from tango.sim.state import EngineState


@inlined
def lc_arrives(state: EngineState, request: int, epoch: int, at_s: float) -> None:
    """An attempt reaches its node: it joins the instance of its service that has the fewest requests, or finds the node down."""
    progress = state.progress[request]
    if progress.state != DISPATCHED or progress.attempts != epoch:
        return
    node, service = progress.node, state.arrivals.service[request]
    if state.sites[node].up == 0:
        lose(state, request, node, UNREACHABLE, 0.0, at_s)
        requeue(state, request, epoch, at_s)
        return
    advance(state, node, at_s)
    chosen, least = state.places.first_row[service], 1 << 60
    for row in range(state.places.first_row[service], state.places.first_row[service + 1]):
        instance = state.states.instances[node, row]
        if instance.in_service + instance.queued < least:
            chosen, least = row, instance.in_service + instance.queued
    lifecycle.move(lifecycle.CLAIM, request, state.clock[0], state.arrivals, state.progress)
    kernel.submit(state.states, node, chosen, request, state.arrivals.work_s[request], state.arrivals.memory_mib[request], at_s)
    state.clock[0].in_nodes += 1


@in_place
def give_up(state: EngineState, now_s: float) -> None:
    """Fail the LC requests whose user no longer waits: on nodes and among those to be dispatched again.

    One that is on its way to a node is found in a later round, once it is there or has come back.
    """
    clock, requests, slots = state.clock[0], state.states.requests, state.lists.slots
    count = 0
    for slot in range(len(requests)):
        if requests[slot].stage != FREE and _is_over(state, requests[slot].key, now_s):
            count = insert_slot(state, slot, count)
    for k in range(count):
        slot = slots[k]
        request, node = requests[slot].key, requests[slot].node
        kernel.cancel(state.states, slot, now_s)
        clock.in_nodes -= 1
        state.truth.in_flight[state.arrivals.service[request], node] -= 1.0
        lose(state, request, node, TIMED_OUT, 0.0, now_s)
        observe_failure(state, request, node, now_s)
        fail(state, request, lifecycle.FAIL, TIMED_OUT, now_s)
    kept = 0
    for k in range(clock.retries):
        request = state.lists.retries[k]
        if _is_over(state, request, now_s):
            fail(state, request, lifecycle.GIVE_UP, TIMED_OUT, now_s)
        else:
            state.lists.retries[kept] = request
            kept += 1
    clock.retries = kept


@in_place
def _is_over(state: EngineState, request: int, now_s: float) -> bool:
    """Whether the request is older than `give_up_targets` targets and than `give_up_least_s`."""
    waits_s = max(state.rules.give_up_least_s, state.rules.give_up_targets * state.arrivals.target_s[request])
    return bool(now_s - state.arrivals.due_s[request] > waits_s)
