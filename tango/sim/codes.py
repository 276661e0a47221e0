"""Numbers that the compiled steps share: kinds of events, states and reasons of requests, why the engine comes back."""

from __future__ import annotations

from tango.domain.outcomes import SCALING_KINDS, STATE_CODE
from tango.domain.requests import Reason, RequestState
from tango.domain.services import ServiceClass

REACHED, GROW, DISPATCH, OVER = range(4)
"""Why `run_windows` came back: the window is reached, an array must grow, a policy in Python must dispatch, every request has ended."""

NODE_DOWN, NODE_LOST, NODE_UP, RESIZE, GIVE_WAY, POD_START, REQUEUE, LC_ARRIVE = range(8)
"""Kinds of events, which are their priorities too: at one instant machines come first, then what runs on them, then what comes."""

ACCEPTED = STATE_CODE[RequestState.ACCEPTED]
PENDING = STATE_CODE[RequestState.PENDING]
RELEASED = STATE_CODE[RequestState.RELEASED]
DISPATCHED = STATE_CODE[RequestState.DISPATCHED]
PLACED = STATE_CODE[RequestState.PLACED]
RUNNING = STATE_CODE[RequestState.RUNNING]
SUCCEEDED = STATE_CODE[RequestState.SUCCEEDED]
FAILED = STATE_CODE[RequestState.FAILED]
SHED = STATE_CODE[RequestState.SHED]

REASONS: tuple[str, ...] = tuple(str(reason) for reason in Reason)
NO_REASON = REASONS.index(Reason.NONE)
EVICTED = REASONS.index(Reason.EVICTED)
NODE_GONE = REASONS.index(Reason.NODE_LOST)
OUT_OF_CPU = REASONS.index(Reason.OUT_OF_CPU)
OUT_OF_MEMORY = REASONS.index(Reason.OUT_OF_MEMORY)
OUT_OF_PODS = REASONS.index(Reason.OUT_OF_PODS)
OUT_OF_EXTENDED = REASONS.index(Reason.OUT_OF_EXTENDED)
UNREACHABLE = REASONS.index(Reason.INSTANCE_UNREACHABLE)
TIMED_OUT = REASONS.index(Reason.TIMED_OUT)
EXHAUSTED = REASONS.index(Reason.ATTEMPTS_EXHAUSTED)
LATE = REASONS.index(Reason.TARGET_UNREACHABLE)
DOES_NOT_FIT = REASONS.index(Reason.DOES_NOT_FIT)

RESIZED, PUSHED_OUT = SCALING_KINDS.index("resize"), SCALING_KINDS.index("evict")
GAVE_WAY = len(SCALING_KINDS)
"""An eviction for the share of another tenant: in results an eviction with a reason of its own."""
NOT_SENT = -2
"""In `PROGRESS.sent_before`: the request has not been sent abroad since the last publication."""
LC, BE = int(ServiceClass.LC), int(ServiceClass.BE)
