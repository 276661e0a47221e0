"""Takes the events of a window from the heap, each to what it does. Compiled."""

from __future__ import annotations

from tango.compiled import inlined
from tango.sim.audit import audit
from tango.sim.be_events import pod_gives_way, pod_starts
from tango.sim.codes import GIVE_WAY, LC_ARRIVE, NODE_DOWN, NODE_LOST, NODE_UP, POD_START, REQUEUE, RESIZE
from tango.sim.heap import USED, pop
from tango.sim.lc_events import lc_arrives
from tango.sim.losses import requeue
from tango.sim.node_events import node_comes_up, node_goes_down, node_is_missed, resize_takes_effect
from tango.sim.state import EngineState


@inlined
def run_events(state: EngineState, end_s: float) -> None:
    """Everything on the heap before `end_s`, in order of (time, kind, sequence); events that follow from events included."""
    heap, counts = state.heap, state.heap_counts
    while counts[USED] > 0 and heap[0].at_s < end_s:
        event = heap[0]
        # Copied before `pop`, which puts another event into this place.
        at_s, kind, target, epoch, size = event.at_s, event.kind, event.target, event.epoch, event.size
        pop(heap, counts)
        state.clock[0].events += 1
        if kind == LC_ARRIVE:
            lc_arrives(state, target, epoch, at_s)
        elif kind == POD_START:
            pod_starts(state, target, epoch, at_s)
        elif kind == RESIZE:
            resize_takes_effect(state, target, size, at_s)
        elif kind == GIVE_WAY:
            pod_gives_way(state, target, epoch, at_s)
        elif kind == REQUEUE:
            requeue(state, target, epoch, at_s)
        elif kind == NODE_DOWN:
            node_goes_down(state, target, at_s)
        elif kind == NODE_LOST:
            node_is_missed(state, target)
        elif kind == NODE_UP:
            node_comes_up(state, target, at_s)
        if state.rules.audit and kind != REQUEUE:
            audit(state)
