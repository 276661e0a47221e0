"""The table of `tango.domain.lifecycle` as codes, and the one step by which a request changes its state in the engine. Compiled.

Codes of events are their places in `Event`, codes of states their places in `RequestState`, and classes are 0 LC and 1 BE.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.compiled import inlined
from tango.domain.lifecycle import Event, state_after, transition, transitions_of
from tango.domain.outcomes import STATE_CODE
from tango.domain.requests import RequestState
from tango.domain.services import ServiceClass
from tango.sim.state import Arrivals

_EVENTS = tuple(Event)
RELEASE, ADMIT = _EVENTS.index(Event.RELEASE), _EVENTS.index(Event.ADMIT)
DISPATCH, SHED, CLAIM = _EVENTS.index(Event.DISPATCH), _EVENTS.index(Event.SHED), _EVENTS.index(Event.CLAIM)
PLACE, RUN = _EVENTS.index(Event.PLACE), _EVENTS.index(Event.RUN)
SUCCEED, FAIL, GIVE_UP = _EVENTS.index(Event.SUCCEED), _EVENTS.index(Event.FAIL), _EVENTS.index(Event.GIVE_UP)
REQUEUE, RETURN, EXHAUST = _EVENTS.index(Event.REQUEUE), _EVENTS.index(Event.RETURN), _EVENTS.index(Event.EXHAUST)

_CAN = [[[transition(e, s, c) for s in RequestState] for c in ServiceClass] for e in _EVENTS]
ALLOWED = np.array([[[found is not None for found in states] for states in classes] for classes in _CAN])
"""(events, classes, states) whether the event can happen."""
AFTER = np.array(
    [
        [
            next((STATE_CODE[found.after] for found in states if found is not None and found.after is not None), -1)
            for states in classes
        ]
        for classes in _CAN
    ],
    np.int8,
)
"""(events, classes) the state that follows; -1 where the event does not happen to the class or leaves the state as it is."""
GIVES_OUT = np.array([any(t.gives_out for t in transitions_of(e)) for e in _EVENTS], np.int32)
"""(events,) 1 where the event begins a new attempt."""

REFUSED = STATE_CODE[RequestState(str(state_after((Event.RELEASE, Event.REFUSE), ServiceClass.BE, state=RequestState.ACCEPTED)))]
"""State of a BE request that fits no node. The engine knows sizes and nodes before it begins and refuses it then, in one step."""


@inlined
def move(event: int, request: int, clock: Any, arrivals: Arrivals, progress: NDArray[np.void]) -> None:
    """Let an event happen to a request: the state and the attempt that follow. What the table does not allow is counted."""
    row, label = progress[request], arrivals.service_class[request]
    if not ALLOWED[event, label, row.state]:
        clock.forbidden += 1
    row.state = AFTER[event, label]
    row.attempts += GIVES_OUT[event]
