"""The lifecycle table as SQL: what it renders, and that no statement says it a second time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tango.domain.lifecycle import Event
from tango.domain.requests import RequestState
from tango.domain.runs import RunStatus
from tango.domain.services import ServiceClass
from tango.store.lifecycle_sql import after, before, can, chunks, outcome_of, state_after

REPOSITORY = Path(__file__).parents[3]
NAMED = re.compile(rf"\b(?:state|status)\b[^\n\"=<]*(?:=|<>|\bIN\b|ANY)\s*\(?\s*'\{{?(?:{'|'.join({*RequestState, *RunStatus})})\b")
"""A condition or an assignment on `state` or `status` with the name of a state, or of a run's status, written out."""


def test_no_statement_writes_out_the_name_of_a_state() -> None:
    """Which states an event may find and which one follows stands in the table alone; migrations are history and stay as they are."""
    files = [*(REPOSITORY / "tango" / "store").glob("*.py"), *(REPOSITORY / "models").glob("*.py")]

    found = [f"{path.name}: {line.strip()}" for path in files for line in path.read_text().splitlines() if NAMED.search(line)]

    assert len(files) > 20
    assert found == []
    assert NAMED.search("WHERE r.state IN ('dispatched', 'placed')")
    assert NAMED.search("UPDATE request r SET state = 'released'")
    assert NAMED.search("AND (r.status = 'completed' AND NOT %(forget)s)")


def test_an_event_is_a_condition_on_state_and_class() -> None:
    """By class only where the event is of one."""
    assert can("r", Event.CLAIM) == "r.state IN ('dispatched') AND r.class = 'lc'"
    assert can("q", Event.RUN) == "q.state IN ('placed', 'running') AND q.class = 'be'"
    assert can("r", Event.REQUEUE, Event.FAIL) == "r.state IN ('dispatched', 'placed', 'running')"
    with pytest.raises(ValueError, match="different classes"):
        can("r", Event.DISPATCH, Event.ADMIT)


def test_what_follows_an_event_is_one_state_or_a_choice_by_class() -> None:
    """A statement that does not say the class cannot requeue."""
    assert before(Event.RELEASE) == "('accepted')"
    assert after(Event.PLACE) == "'placed'::request_state"
    assert after(Event.REQUEUE, ServiceClass.BE) == "'pending'::request_state"
    with pytest.raises(ValueError, match="requeue leads to"):
        after(Event.REQUEUE)
    with pytest.raises(ValueError, match="renew leads to"):
        after(Event.RENEW)
    assert state_after("e", "c", Event.REQUEUE, Event.FAIL) == (
        "CASE WHEN e = 'requeue' AND c = 'lc' THEN 'released'::request_state "
        "WHEN e = 'requeue' AND c = 'be' THEN 'pending'::request_state WHEN e = 'fail' THEN 'failed'::request_state END"
    )
    assert outcome_of("e", Event.REQUEUE, Event.EXHAUST) == "CASE e WHEN 'requeue' THEN 'requeued' WHEN 'exhaust' THEN 'failed' END"


def test_chunks_keep_the_order_and_the_size() -> None:
    """The last one has what is left."""
    assert list(chunks([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
    assert list(chunks([], 2)) == []
