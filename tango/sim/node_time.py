"""Moves nodes through time by the node model, and settles what ends on the way. Compiled.

A node stands at its own clock, which lies behind the engine's as long as nothing happens there: no rate changes between two of its
events (`node_model.kernel`), so that an idle node costs nothing. Whoever changes a node brings it to that time first.
"""

from __future__ import annotations

from tango.compiled import in_place, inlined
from tango.node_model import kernel
from tango.node_model.state import NodeStates
from tango.sim.audit import audit
from tango.sim.endings import lc_ends, pod_ends
from tango.sim.state import EngineState


@in_place
def advance(state: EngineState, node: int, to_s: float) -> None:
    """Run one node to `to_s` and settle what ended."""
    out, nodes = state.lists.out, state.states.nodes
    while nodes[node].next_s <= to_s:
        used = kernel.advance_node(state.states, node, to_s, out, 0)
        state.clock[0].events += used
        for k in range(used):
            row = out[k]
            if row.kind == kernel.LC:
                lc_ends(state, node, row.key, row.started_s, row.finished_s)
            else:
                pod_ends(state, node, row.key, row.started_s, row.finished_s)


@inlined
def run_nodes(state: EngineState, end_s: float) -> None:
    """Run every node on which something ends by `end_s`."""
    nodes = state.states.nodes
    for node in range(len(nodes)):
        if nodes[node].next_s <= end_s:
            advance(state, node, end_s)
    if state.rules.audit:
        audit(state)


@in_place
def catch_up(states: NodeStates, now_s: float) -> None:
    """Bring every node's figures to `now_s`; none has an event before it."""
    for node in range(len(states.nodes)):
        kernel.integrate(states, node, now_s)
