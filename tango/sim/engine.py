"""The discrete-event engine: windows of LC dispatch, events inside them, and the node model; compiled (docs/decisions/0011).

A window [t, t + w) goes in this order, which depends on nothing but its inputs:

1. at t: publication and sharing where they are due, then LC dispatch of all clusters on what has arrived by t;
2. events before t + w in order of (time, kind, sequence), each on one node, which is first run up to the event's time;
3. every node runs to t + w; answers from other clusters take their turn on the links in order of time.

The steps only write into the arrays of `state.EngineState`. `dispatching` has LC dispatch, `sharing_round` the sharing rule, `events`
the loop over the heap. What an event does stands in `lc_events`, `be_events` and `node_events`, by what it happens to; `node_time` runs
nodes between events, `endings` settles what ends well, `losses` what is lost, and `accounts` keeps what BE pods hold.
"""

from __future__ import annotations

import numpy as np

from tango.compiled import in_place, inlined
from tango.sim.be_events import place
from tango.sim.codes import DISPATCH, GROW, OVER, REACHED
from tango.sim.dispatching import dispatch_window, gather, measure_nodes, open_cycle, publish
from tango.sim.endings import send_answers, settle
from tango.sim.events import run_events
from tango.sim.heap import USED
from tango.sim.lc_events import give_up
from tango.sim.node_time import run_nodes
from tango.sim.sharing_round import is_at_rest, share_out
from tango.sim.state import EngineState

DECIDE, ASK, RUN = range(3)
"""Phases of a window; a policy in Python is asked for one cluster after another."""
OPEN, SHARED, PUBLISHED = range(3)
"""Whether a round of the sharing rule, and a publication, could change anything while nothing but BE pods runs (`CLOCK.settled`)."""


@in_place
def run_windows(state: EngineState, until: int, ask_again: bool) -> int:
    """Run up to the beginning of window `until`, and say why it came back (`codes`).

    With `ask_again` also to the first placement before that in which something is pending; to be asked where nothing is.

    The one step that Python calls: what the centre has placed meanwhile (`Lists.placing`) and what a policy in Python has decided is taken
    up here. Code that takes the state out of Python objects is as large as the engine, and every further step that Python called
    would have its own.
    """
    clock = state.clock[0]
    if clock.placing > 0:
        clock.settled = OPEN
        place(state)
    while clock.window < until:
        if clock.terminal == len(state.progress):
            return OVER
        if ask_again and clock.pending > 0 and clock.phase == DECIDE and clock.window % state.rules.place_every == 0:
            return REACHED
        begin_s = clock.window * state.rules.window_s
        if clock.phase == DECIDE:
            if must_grow(state):
                return GROW
            share_and_publish(state, begin_s)
            gather(clock, state.arrivals, state.progress, state.lists, begin_s)
            clock.phase = RUN
            if clock.dispatching > 0:
                clock.phase = ASK
                open_cycle(state)
        if clock.phase == ASK:
            if dispatch_window(state, begin_s):
                return DISPATCH
            clock.phase = RUN
            if clock.terminal == len(state.progress):
                return OVER
        clock.dispatching = 0
        end_s = (clock.window + 1) * state.rules.window_s
        events = clock.events
        run_events(state, end_s)
        run_nodes(state, end_s)
        send_answers(state)
        if clock.events != events:
            clock.settled = OPEN
        clock.phase = DECIDE
        clock.window += 1
        skip_idle(state, until)
    return OVER if clock.terminal == len(state.progress) else REACHED


@inlined
def share_and_publish(state: EngineState, begin_s: float) -> None:
    """What is due at the beginning of a window, as far as it could change anything: nodes are measured in any case."""
    clock, rules = state.clock[0], state.rules
    if clock.settling > 0:
        settle(state, begin_s)
    if clock.window % rules.share_every == 0 and clock.settled == OPEN:
        give_up(state, begin_s)
        changes = clock.scalings
        share_out(state, begin_s)
        if clock.scalings == changes and only_pods_run(state) and is_at_rest(state):
            clock.settled = SHARED
    if clock.window % rules.publish_every == 0:
        if clock.settled == PUBLISHED:
            measure_nodes(state, begin_s)
        else:
            publish(state, begin_s)
            if clock.settled == SHARED:
                clock.settled = PUBLISHED


@inlined
def only_pods_run(state: EngineState) -> bool:
    """Whether all LC requests have ended and none is to come, and nothing is to happen but ends of BE pods and placements."""
    clock = state.clock[0]
    no_arrival = clock.cursor == len(state.arrivals.due_s)
    return bool(no_arrival and clock.retries == 0 and clock.in_nodes == 0 and clock.settling == 0 and state.heap_counts[USED] == 0)


@inlined
def skip_idle(state: EngineState, until: int) -> None:
    """Go on to the next window in which anything is due: an arrival, an event, an end, a round of the sharing rule, a publication or a
    placement. What lies between would change nothing."""
    clock, rules = state.clock[0], state.rules
    if clock.retries > 0 or rules.audit:
        return
    due_s = state.arrivals.due_s[clock.cursor] if clock.cursor < len(state.arrivals.due_s) else np.inf
    event_s = state.heap[0].at_s if state.heap_counts[USED] > 0 else np.inf
    next_s = min(due_s, event_s)
    if next_s <= (clock.window + 1) * rules.window_s:
        return
    for node in range(len(state.states.nodes)):
        next_s = min(next_s, state.states.nodes[node].next_s)
    while (
        clock.window < until
        and next_s > (clock.window + 1) * rules.window_s
        and clock.window % rules.share_every > 0
        and clock.window % rules.publish_every > 0
        and clock.window % rules.place_every > 0
    ):
        clock.window += 1


@in_place
def must_grow(state: EngineState) -> bool:
    """Whether an array might overflow in the next window: `SimulationState.grow` grows what this looks at."""
    clock = state.clock[0]
    begin_s = clock.window * state.rules.window_s
    coming = clock.retries
    cursor = clock.cursor
    while cursor < len(state.arrivals.due_s) and state.arrivals.due_s[cursor] <= begin_s:
        cursor += 1
        coming += 1
    at_most = clock.in_nodes + state.heap_counts[USED] + coming
    pods, instances = len(state.sharing.evictable), len(state.sharing.changed_s)
    return bool(
        state.heap_counts[USED] + coming + instances + clock.in_nodes + pods > len(state.heap)
        or at_most > len(state.states.requests)
        or at_most > len(state.lists.retries)
        or at_most > len(state.lists.abroad_s)
        or at_most > len(state.lists.slots)
        or clock.settling + at_most > len(state.lists.settling_s)
        or coming > len(state.lists.dispatching)
        or clock.losses + at_most + pods > len(state.lists.losses)
        or clock.scalings + pods + instances > len(state.lists.scalings)
        or clock.cycles + 1 > len(state.lists.cycles)
    )
