"""Resizes and evictions, written down as they are decided. Compiled."""

from __future__ import annotations

from tango.compiled import in_place
from tango.sim.state import EngineState


@in_place
def note(state: EngineState, at_s: float, kind: int, node: int, service: int, before: float, after: float, slack: float) -> None:
    """Write a scaling event down."""
    event = state.lists.scalings[state.clock[0].scalings]
    event.at_s = at_s
    event.kind = kind
    event.node = node
    event.service = service
    event.before = before
    event.after = after
    event.slack = slack
    state.clock[0].scalings += 1
    state.clock[0].moved += 1
