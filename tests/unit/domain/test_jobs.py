"""What a job may ask for, who pays when an attempt ends badly, and what it says of its own progress."""

from __future__ import annotations

import pytest

from tango.bootstrap.environment import NO_SETTINGS
from tango.domain.jobs import MOST_BYTES, OWN_VARIABLES, JobEnd, NewJob, Progress, progress_of, work_lost_s
from tango.domain.lifecycle import Event, Outcome
from tango.domain.requests import Reason
from tango.errors import RequestRejected


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"service": ""}, "service is ''"),
        ({"command": ()}, "command is ()"),
        ({"args": ("x" * MOST_BYTES, "y")}, f"args is '{MOST_BYTES + 1} bytes"),
        ({"key": "k" * 201}, "key is '201 characters', expected at most 200"),
        ({"deadline_s": 0.5}, "deadline_s is 0.5, expected seconds from 1"),
        ({"deadline_s": float("nan")}, "deadline_s is nan"),
        ({"retries": -1}, "retries is -1"),
        ({"retries": 1, "retry_on": (0,)}, "retry_on is (0,), expected exit codes from 1 to 255"),
        ({"retry_on": (75,)}, "expected retries above 0 beside it"),
        ({"priority": 101}, "priority is 101"),
        ({"env": (("A B", "x"),)}, "env 'A B' is no name of a variable"),
        ({"env": (("A", "x"), ("A", "y"))}, "env A is given twice"),
        ({"env": (("TANGO_ATTEMPT", "9"),)}, "env TANGO_ATTEMPT is Tango's own"),
        ({"env": (("DB_PASSWORD", "x"),)}, "env DB_PASSWORD looks like a secret"),
        ({"args": ("a\0b",)}, "the character NUL"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(asked: dict[str, object], says: str) -> None:
    """Found and expected stand in the message."""
    with pytest.raises(RequestRejected) as refused:
        NewJob(**{"service": "batch"} | asked)  # type: ignore[arg-type]

    assert says in str(refused.value)


def test_a_variable_that_only_looks_like_a_secret_can_be_allowed_by_name() -> None:
    """And an empty value is no secret."""
    allowed = NewJob(service="batch", env=(("API_TOKEN", "public"),), allow_literal=("API_TOKEN",))
    empty = NewJob(service="batch", env=(("API_TOKEN", ""),))

    assert (allowed.env, empty.env) == ((("API_TOKEN", "public"),), (("API_TOKEN", ""),))


@pytest.mark.parametrize(
    ("own", "code", "left", "retry_on", "event"),
    [
        (True, 1, 0, (), Event.FAIL),
        (True, 1, 1, (), Event.REQUEUE),
        (True, 1, 1, (75,), Event.FAIL),
        (True, 75, 1, (75, 137), Event.REQUEUE),
        (True, 75, 0, (75,), Event.FAIL),
        (True, None, 1, (75,), Event.FAIL),
        (False, 1, 1, (), Event.FAIL),
    ],
)
def test_only_a_failure_of_its_own_is_tried_again_and_only_by_its_exit_code(
    own: bool, code: int | None, left: int, retry_on: tuple[int, ...], event: Event
) -> None:
    """The last row is one that no retry helps, such as a deadline."""
    outcome = Outcome(run_id=1, request_id=1, epoch=1, event=Event.FAIL, reason=Reason.EXIT_CODE)
    end = JobEnd(outcome=outcome, is_own_fault=own, exit_code=code)

    assert end.event(retries_left=left, retry_on=retry_on) is event


@pytest.mark.parametrize("event", [Event.SUCCEED, Event.REQUEUE])
def test_other_ends_stay_what_they_are_whatever_retries_are_left(event: Event) -> None:
    """A success is none to try again, and an eviction is requeued without any left."""
    end = JobEnd(outcome=Outcome(run_id=1, request_id=1, epoch=1, event=event))

    assert {end.event(retries_left=left, retry_on=()) for left in (0, 3)} == {event}


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ('{"saved_s": 30}', Progress(saved_s=30.0)),
        ('{"done_s": 40.5, "saved_s": 30, "epoch": 7}', Progress(done_s=40.5, saved_s=30.0)),
        ('{"done_s": "many", "saved_s": 30}', Progress(saved_s=30.0)),
        ('{"saved_s": -1}', None),
        ('{"saved_s": true}', None),
        ('{"cpu_work_s": 3}', None),
        ("[30]", None),
        ("Killed\n", None),
        ("", None),
    ],
)
def test_progress_is_what_the_job_says_or_nothing(message: str, found: Progress | None) -> None:
    """Any other text is a message to people."""
    assert progress_of(message) == found


@pytest.mark.parametrize(
    ("progress", "lost_s"),
    [
        (None, 50.0),
        (Progress(saved_s=30.0), 20.0),
        (Progress(done_s=40.0, saved_s=30.0), 10.0),
        (Progress(done_s=30.0, saved_s=40.0), 0.0),
    ],
)
def test_work_that_was_saved_is_not_lost(progress: Progress | None, lost_s: float) -> None:
    """Of an attempt that ran 50 s."""
    assert work_lost_s(progress, ran_s=50.0) == lost_s


def test_variables_of_jobs_are_no_settings() -> None:
    """A job may call the command line."""
    assert set(OWN_VARIABLES) <= set(NO_SETTINGS)
