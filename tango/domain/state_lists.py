"""States of requests and of runs as lists of SQL, for the stores that have rows of them: the centre's PostgreSQL, a journal's SQLite."""

from __future__ import annotations

from collections.abc import Iterable

from tango.domain.lifecycle import IN_FLIGHT, LIVE, TERMINAL, WAITING
from tango.domain.requests import RequestState
from tango.domain.runs import OPEN, RunStatus


def listed(words: Iterable[RequestState | RunStatus]) -> str:
    """The words as an SQL list, `('a', 'b')`, for use after IN. They are names of enums, so nothing needs escaping."""
    return "(" + ", ".join(f"'{word}'" for word in words) + ")"


LIVE_STATES, IN_FLIGHT_STATES, WAITING_STATES, TERMINAL_STATES = listed(LIVE), listed(IN_FLIGHT), listed(WAITING), listed(TERMINAL)
OPEN_STATES = listed(OPEN)
"""Of runs; the others are of requests."""
