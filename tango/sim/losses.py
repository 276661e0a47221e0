"""Attempts that came to nothing, and what follows: another attempt, or the end. Compiled."""

from __future__ import annotations

from tango.compiled import in_place
from tango.domain.lifecycle import FREE_EPOCHS
from tango.sim import lifecycle
from tango.sim.accounts import count_out_placed
from tango.sim.codes import EXHAUSTED, LC
from tango.sim.endings import observe_failure
from tango.sim.state import EngineState


@in_place
def lose(state: EngineState, request: int, node: int, reason: int, work_s: float, at_s: float) -> None:
    """Note that an attempt was lost with `work_s` CPU-seconds done; what becomes of the request is `requeue`'s or `fail`'s business.

    The two are apart because a loss happens before anybody knows of it: a node that fails loses its pods at once, and the centre
    notices after `Rules.lost_after_s`.
    """
    loss = state.lists.losses[state.clock[0].losses]
    loss.at_s = at_s
    loss.request = request
    loss.node = node
    loss.reason = reason
    loss.work_s = work_s
    state.clock[0].losses += 1
    state.progress[request].reason = reason


@in_place
def requeue(state: EngineState, request: int, epoch: int, at_s: float) -> None:
    """An attempt is known to be lost: its request waits again, or has failed for good after `Rules.most_attempts`.

    As live, a BE attempt costs nothing up to `FREE_EPOCHS`: its pod was refused or evicted, or its node failed, which is nothing that
    the request did. Live, a refusal costs nothing after that either; here it does, since a run must end. An LC attempt counts.

    Nothing happens where the attempt is no longer the request's current one, so that two who notice the same loss requeue it once.
    """
    clock, progress = state.clock[0], state.progress[request]
    is_lc = state.arrivals.service_class[request] == LC
    event = lifecycle.REQUEUE if is_lc or epoch > FREE_EPOCHS else lifecycle.RETURN
    allowed = lifecycle.ALLOWED[event, state.arrivals.service_class[request], progress.state]
    if progress.attempts != epoch or not allowed:
        return
    node, service = progress.node, state.arrivals.service[request]
    if is_lc:
        state.truth.in_flight[service, node] -= 1.0
        observe_failure(state, request, node, at_s)
    else:
        count_out_placed(state, request, node)
    if event == lifecycle.RETURN:
        progress.given_back += 1
    elif progress.attempts - progress.given_back >= state.rules.most_attempts:
        fail(state, request, lifecycle.EXHAUST, EXHAUSTED, at_s)
        return
    clock.moved += 1
    lifecycle.move(event, request, clock, state.arrivals, state.progress)
    if is_lc:
        state.arrivals.turn[request] += 1  # round robin must not lead it to the same dead end for ever
        state.lists.retries[clock.retries] = request
        clock.retries += 1
    else:
        state.lists.pending[clock.pending] = request
        clock.pending += 1


@in_place
def fail(state: EngineState, request: int, event: int, reason: int, at_s: float) -> None:
    """The request has ended without an answer, by an event of the lifecycle table."""
    progress = state.progress[request]
    lifecycle.move(event, request, state.clock[0], state.arrivals, state.progress)
    progress.reason = reason
    progress.finished_s = at_s
    state.clock[0].terminal += 1
    state.clock[0].moved += 1


@in_place
def insert_slot(state: EngineState, slot: int, count: int) -> int:
    """Add a row of the node model to `Lists.slots`, of which `count` are in use, and give the new count.

    They stand in order of their requests: which row a request has depends on how the arrays grew, and results must not.
    """
    slots, requests = state.lists.slots, state.states.requests
    k = count
    while k > 0 and requests[slots[k - 1]].key > requests[slot].key:
        slots[k] = slots[k - 1]
        k -= 1
    slots[k] = slot
    return count + 1
