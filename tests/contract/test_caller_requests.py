"""`CallerRequests`, on the fake and on SQLite: what gateways ask of a journal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tango.domain.calls import Answer, AnswerTo, Call, CallerRequest
from tango.domain.identity import RequestKey
from tango.domain.requests import Reason, RequestState
from tango.domain.runs import RunKind
from tango.errors import NotOpen
from tango.ports.callers import CallerRequests
from tests.fakes.caller_requests import RUN, MemoryCallers
from tests.fakes.journal_world import HairClock, open_journal, run_info, sqlite_journal_world
from tests.fakes.own_fleet import published
from tests.fakes.store_world import WEB, success

CALL = Call(
    method="POST",
    path="/v1/x?q=1",
    headers=(("Accept", "*/*"), ("X-Twice", "a"), ("X-Twice", "b")),
    body=bytes(range(256)),
    has_held=True,
)
ANSWER = Answer(status=201, headers=(("Content-Type", "text/plain"),), body=b"made", is_whole=True)


@dataclass(frozen=True)
class World:
    """A journal with an open live run."""

    callers: CallerRequests
    start: Callable[[RequestKey], int]
    """Begins an attempt; gives its epoch."""
    succeed: Callable[[RequestKey, int], None]
    """Ends it well."""


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """One implementation after the other."""
    if request.param == "memory":
        callers = MemoryCallers([WEB])
        return World(callers, callers.start, lambda key, _: callers.end(key, RequestState.SUCCEEDED))
    journals = sqlite_journal_world(tmp_path / "c1.db")
    journal = open_journal(tmp_path / "c1.db", wall_s=journals.clock)
    journal.follow([replace(run_info(RUN), kind=RunKind.LIVE, speed=1.0)])
    journal.add_numbers(RUN, 0, 99)

    def settle(key: RequestKey, epoch: int) -> None:
        journal.settle([success(*key, epoch)])

    return World(
        journal,
        lambda key: journals.start(key.run_id, [key.request_id]).started[0].epoch,
        settle,
    )


@pytest.fixture(params=["memory", "sqlite"])
def closed(request: pytest.FixtureRequest, tmp_path: Path) -> CallerRequests:
    """A journal that has no live run."""
    if request.param == "memory":
        callers = MemoryCallers([WEB])
        callers.is_open = False
        return callers
    journal = open_journal(tmp_path / "c1.db", wall_s=HairClock())
    journal.publish(published())
    return journal


def sent(*, tenant: str = "default", key: str = "", call: Call = CALL, to: AnswerTo | None = None) -> CallerRequest:
    """A request of service web."""
    return CallerRequest(
        service=WEB.name,
        tenant=tenant,
        target_s=0.1,
        patience_s=math.inf,
        cpu_work_s=0.02,
        memory_mib=32.0,
        call=call,
        answer_to=to,
        key=key,
    )


def test_what_is_accepted_waits_under_a_key_of_its_own(world: World) -> None:
    """In order; it can be asked for at once, and called with what was sent."""
    to = AnswerTo(address="unix:/run/gateway.sock", key="k")
    accepted = world.callers.accept([sent(to=to), sent(tenant="blue")])
    first, second = (of.key for of in accepted)
    found = world.callers.standings([first, second, RequestKey(RUN, 10**8)])

    assert [of.is_new for of in accepted] == [True, True]
    assert first != second
    assert {key: (s.state, s.service, s.tenant, s.has_ended) for key, s in found.items()} == {
        first: (RequestState.RELEASED, "web", "default", False),
        second: (RequestState.RELEASED, "web", "blue", False),
    }
    calls = world.callers.calls([first, second])
    assert calls[first].call == CALL
    assert (calls[first].answer_to, calls[second].answer_to) == (to, None)


def test_without_an_open_run_nothing_is_accepted(closed: CallerRequests) -> None:
    """Not even a part of a group."""
    with pytest.raises(NotOpen):
        closed.accept([sent(), sent()])

    assert closed.standings([RequestKey(RUN, 0), RequestKey(RUN, 1)]) == {}


def test_the_same_key_of_a_tenant_is_the_same_request(world: World) -> None:
    """Within one transaction and after it; no key is none."""
    first, twin, other, plain = world.callers.accept([sent(key="k"), sent(key="k"), sent(tenant="blue", key="k"), sent()])
    (later,) = world.callers.accept([sent(key="k")])

    assert [of.is_new for of in (first, twin, other, plain, later)] == [True, False, True, True, False]
    assert first.key == twin.key == later.key
    assert len({first.key, other.key, plain.key}) == 3


@pytest.mark.parametrize(
    "other",
    [
        replace(CALL, method="PUT"),
        replace(CALL, path="/v1/x?q=2"),
        replace(CALL, body=b"other"),
    ],
)
def test_a_key_with_other_content_is_taken(world: World, other: Call) -> None:
    """Within one transaction and after it: nothing is kept of it, and the first one's id is told. Headers alone make no other content."""
    first, twin, apart = world.callers.accept([sent(key="k"), sent(key="k", call=other), sent(key="k2", call=other)])
    (later,) = world.callers.accept([sent(key="k", call=other)])
    (again,) = world.callers.accept([sent(key="k", call=replace(CALL, headers=()))])

    assert [(of.is_new, of.is_taken) for of in (first, twin, apart, later, again)] == [
        (True, False),
        (False, True),
        (True, False),
        (False, True),
        (False, False),
    ]
    assert first.key == twin.key == later.key == again.key != apart.key


def test_a_withdrawn_request_ends_once_and_is_not_called(world: World) -> None:
    """Whether it ran or not, and for the reason that is given; what has ended stays as it ended."""
    waiting, running, late, ended = (of.key for of in world.callers.accept([sent() for _ in range(4)]))
    epoch = world.start(running)
    world.succeed(ended, world.start(ended))

    withdrawn = [
        world.callers.withdraw(keys, reason=reason)
        for keys, reason in (
            ([waiting, ended], Reason.CALLER_GONE),
            ([running], Reason.CALLER_TIMED_OUT),
            ([late, running], Reason.CANCELLED),
        )
    ]

    assert withdrawn == [1, 1, 1]
    found = world.callers.standings([waiting, running, late, ended])
    assert [(str(s.state), s.reason) for s in found.values()] == [
        ("cancelled", "caller-gone"),
        ("cancelled", "caller-timed-out"),
        ("cancelled", "cancelled-by-user"),
        ("succeeded", ""),
    ]
    assert world.callers.calls([waiting, running, ended]) == {}
    assert world.callers.still_run([(running, epoch)]) == set()


def test_the_answer_that_was_kept_first_stays(world: World) -> None:
    """Before its request is settled, and after."""
    (key,) = (of.key for of in world.callers.accept([sent()]))
    before = world.callers.answer(key)
    epoch = world.start(key)
    running = world.callers.still_run([(key, epoch), (key, epoch)]), world.callers.still_run([(key, epoch + 1)])
    world.callers.keep_answers([(key, ANSWER)])
    world.callers.keep_answers([(key, replace(ANSWER, body=b"again"))])
    world.succeed(key, epoch)

    assert before is None
    assert running == ({key}, set())
    assert world.callers.answer(key) == ANSWER
    assert world.callers.answer(RequestKey(RUN, 10**8)) is None
    standing = world.callers.standings([key])[key]
    assert (standing.state, standing.attempt) == (RequestState.SUCCEEDED, 1)
    assert standing.node.startswith("c1/")
