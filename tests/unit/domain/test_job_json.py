"""What an order of a job may say as JSON."""

from __future__ import annotations

from typing import Any

import pytest

from tango.domain.job_json import new_job_of
from tango.domain.jobs import NewJob
from tango.errors import RequestRejected


def test_an_order_is_read_whole() -> None:
    """Only the service is needed."""
    order = {
        "service": "s",
        "command": ["sh"],
        "args": ["-c", "x"],
        "env": {"A": "b"},
        "cluster": "c1",
        "key": "k",
        "deadline_s": 9,
        "retries": 2,
        "retry_on": [75],
        "priority": -1,
        "allow_literal": ["X"],
    }

    found = new_job_of(order, tenant="ana")

    assert found == NewJob(
        service="s",
        command=("sh",),
        args=("-c", "x"),
        env=(("A", "b"),),
        cluster="c1",
        tenant="ana",
        key="k",
        deadline_s=9,
        retries=2,
        retry_on=(75,),
        priority=-1,
        allow_literal=("X",),
    )
    assert new_job_of({"service": "s"}, tenant="t") == NewJob(service="s", tenant="t")


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ([], "found list, expected an object"),
        ({"service": "s", "arg": []}, "'arg' is no member (did you mean 'args'?); there are: service, command"),
        ({"service": 3}, "service is 3"),
        ({}, "service is ''"),
        ({"service": "s", "args": "x"}, "args is 'x', expected a list of texts"),
        ({"service": "s", "args": [1]}, "args has 1 in it"),
        ({"service": "s", "env": {"A": 1}}, "env A is 1, expected a text"),
        ({"service": "s", "retries": True}, "retries is True"),
        ({"service": "s", "deadline_s": "9"}, "deadline_s is '9', expected seconds"),
        ({"service": "s", "tenant": "x"}, "'tenant' is no member"),
    ],
)
def test_an_order_with_no_meaning_is_refused_by_its_member(order: Any, says: str) -> None:
    """What was found and what is expected; the tenant is the token's to say."""
    with pytest.raises(RequestRejected) as refused:
        new_job_of(order, tenant="t")

    assert says in str(refused.value)
