"""`RefusalStore`, on the fake and on PostgreSQL: pauses that grow, end, are cleared and forgotten."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Refusal, RefusalState
from tango.ports.refusals import RefusalStore
from tango.settings import RefusalSettings
from tango.store.database import Database
from tango.store.refusals import PostgresRefusals
from tests.fakes.memory_state import MemoryState
from tests.fakes.refusals import MemoryRefusals

QUOTA = Refusal.of(RefusalKind.QUOTA, cluster="c1", service="batch", words="exceeded quota: q")
NO_TOKEN = Refusal.of(RefusalKind.CREDENTIALS, cluster="c1", service="batch", words="Unauthorized")
NO_ROOM = Refusal.of(RefusalKind.NODE, cluster="c1", service="batch", node="n1", words="OutOfcpu")
OVER = RefusalSettings(first_pause_s=1e-12, longest_pause_s=1e-11)
"""Pauses that are over by the next call: no test waits."""
Make = Callable[[RefusalSettings], RefusalStore]


@pytest.fixture(params=["memory", "postgres"])
def make(request: pytest.FixtureRequest) -> Make:
    """One implementation after the other, with settings."""
    if request.param == "memory":
        state, shared = MemoryState(), {}  # type: ignore[var-annotated]
        return lambda settings: MemoryRefusals(state, settings, rows=shared)
    database = Database(request.getfixturevalue("database_url"))
    return lambda settings: PostgresRefusals(database, settings)


def rows(store: RefusalStore) -> list[tuple[str, str, str, str]]:
    """(cluster, service, node, role) of all."""
    return [(s.cluster, s.service, s.node, s.role) for s in store.pauses().states]


def only(store: RefusalStore) -> RefusalState:
    """The one row."""
    (found,) = store.pauses().states
    return found


def test_a_refusal_pauses_what_it_speaks_of(make: Make) -> None:
    """Its scope follows from its kind; the server's words are kept, at most some of them."""
    store = make(RefusalSettings())

    store.note([QUOTA, NO_TOKEN, NO_ROOM], role="scheduler")
    store.note([Refusal.of(RefusalKind.ADMISSION, cluster="c2", service="web", words="x" * 9999)], role="agent")

    assert rows(store) == [
        ("c1", "", "", "scheduler"),
        ("c1", "batch", "", "scheduler"),
        ("c1", "batch", "n1", "scheduler"),
        ("c2", "web", "", "agent"),
    ]
    states = store.pauses().states
    assert all(state.is_paused and 0.4 < state.left_s <= 1.0 and state.times == 1 for state in states)
    assert (states[0].kind, states[0].words, len(states[3].words)) == (RefusalKind.CREDENTIALS, "Unauthorized", 500)


@pytest.mark.parametrize("kind", [RefusalKind.PERMISSION, RefusalKind.NAMESPACE])
def test_what_is_missing_in_a_service_s_namespace_pauses_that_service_alone(make: Make, kind: RefusalKind) -> None:
    """A token that is not known, or a server that is busy, is the cluster's matter all the same."""
    store = make(RefusalSettings())

    store.note([Refusal.of(kind, cluster="c1", service="batch", namespace="team-a", words="no role")], role="agent")
    store.note([Refusal.of(RefusalKind.CREDENTIALS, cluster="c2", service="batch", namespace="team-a", words="no")], role="agent")
    store.note([Refusal.of(kind, cluster="c3", service="batch", words="no role")], role="agent")

    assert rows(store) == [("c1", "batch", "", "agent"), ("c2", "", "", "agent"), ("c3", "", "", "agent")]


def test_refusals_within_a_pause_make_it_no_longer(make: Make) -> None:
    """They are of pods that were under way: a batch of a hundred is one refusal."""
    store = make(RefusalSettings(first_pause_s=100.0, longest_pause_s=1000.0))

    store.note([QUOTA] * 5, role="scheduler")
    before = only(store)
    store.note([QUOTA], role="scheduler")

    assert (only(store).times, only(store).left_s <= before.left_s) == (1, True)


def test_a_refusal_after_a_pause_makes_a_longer_one_up_to_a_bound(make: Make) -> None:
    """Doubled each time."""
    store, longer = make(OVER), make(RefusalSettings(first_pause_s=10.0, longest_pause_s=60.0))

    store.note([QUOTA], role="scheduler")
    assert not only(store).is_paused
    longer.note([QUOTA], role="scheduler")
    second = only(longer)
    for _ in range(9):
        store.note([QUOTA], role="scheduler")  # within the second's pause: nothing

    assert (second.times, 10.0 <= second.left_s + 0.5 <= 20.5) == (2, True)
    assert only(store).times == 2


def test_a_server_that_asks_for_more_time_gets_it_up_to_the_bound(make: Make) -> None:
    """`Retry-After`, which may be a day by mistake."""
    store = make(RefusalSettings(longest_pause_s=60.0))

    store.note([Refusal.of(RefusalKind.THROTTLED, cluster="c1", service="", words="", at_least_s=30.0)], role="agent")
    store.note([Refusal.of(RefusalKind.THROTTLED, cluster="c2", service="", words="", at_least_s=86_400.0)], role="agent")

    assert [round(state.left_s / 10) for state in store.pauses().states] == [3, 6]


def test_what_is_taken_clears_the_rows_of_who_met_them(make: Make) -> None:
    """Of the cluster and of that service; not those of other services, of nodes, or of another role, which has its own credentials."""
    store = make(RefusalSettings())
    store.note([QUOTA, NO_TOKEN, NO_ROOM], role="scheduler")
    store.note([NO_TOKEN], role="agent")

    store.clear("c1", ["other"], role="scheduler")
    first = rows(store)
    store.clear("c1", ["batch"], role="scheduler")
    store.clear("c1", ["batch"], role="scheduler", node="n1")

    assert first == [("c1", "", "", "agent"), ("c1", "batch", "", "scheduler"), ("c1", "batch", "n1", "scheduler")]
    assert rows(store) == [("c1", "", "", "agent")]


def test_what_is_not_met_again_is_forgotten(make: Make) -> None:
    """A node may get no such pod for hours; the next refusal then is a first one."""
    store, forgetful = make(OVER), make(RefusalSettings(first_pause_s=1e-12, longest_pause_s=1e-11, forget_s=0.0))
    store.note([NO_ROOM], role="agent")
    store.note([NO_ROOM], role="agent")

    forgotten = rows(forgetful)
    forgetful.note([NO_ROOM], role="agent")

    assert (forgotten, only(store).times) == ([], 1)
