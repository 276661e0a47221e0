"""Every event on a request in every state, through the in-memory store and through PostgreSQL: what happens is what the table says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from tango.domain.lifecycle import (
    ENDS,
    IN_FLIGHT,
    LIVE,
    TERMINAL,
    TRANSITIONS,
    UNDER_WAY,
    Event,
    Outcome,
    Transition,
    state_after,
    transition,
    transitions_of,
)
from tango.domain.plans import BePlan
from tango.domain.requests import RequestState
from tango.domain.runs import DecisionRecord, PendingBatch
from tango.domain.services import ServiceClass
from tango.store.database import Database
from tests.fakes.store_world import (
    BATCH,
    DECISION,
    LIVE_S,
    MAX_ATTEMPTS,
    MOST_MEMORY_MIB,
    OVER_S,
    WEB,
    ZERO_S,
    StoreWorld,
    memory_world_and_state,
    postgres_world,
)

CASES = [(state, service_class) for service_class in ServiceClass for state in RequestState]
"""One request each, in this order: the request's id is the case's place."""
EPOCH = 1
"""Of every row: in flight it is the epoch under which the request was given out."""


@dataclass(frozen=True, slots=True)
class PreparedStore:
    """A store, and a way to put its rows into any state."""

    store: StoreWorld
    put: Callable[[int, int, RequestState, int], None]
    """(run, request, state, attempts so far)"""


@pytest.fixture(params=["memory", "postgres"])
def prepared(request: pytest.FixtureRequest) -> PreparedStore:
    """One implementation after the other."""
    if request.param == "memory":
        store, state = memory_world_and_state()

        def put(run_id: int, request_id: int, to: RequestState, attempts: int) -> None:
            row = state.runs[run_id].rows[request_id]
            row.state, row.epoch, row.attempt, row.target_cluster, row.node = to, EPOCH, attempts, "c1", "c1-n1"
            row.pod = "pod"
            row.released_at_s, row.lease_until_s = -1.0, (-1.0 if to in IN_FLIGHT else 0.0)

        return PreparedStore(store, put)
    database = Database(request.getfixturevalue("database_url"))

    def put_row(run_id: int, request_id: int, to: RequestState, attempts: int) -> None:
        database.execute(
            "UPDATE request SET state = %s, epoch = %s, attempt = %s, target_cluster = 'c1', node = 'c1-n1', pod = 'pod', "
            "released_at = now() - interval '1 s', lease_until = CASE WHEN %s THEN now() - interval '1 s' END "
            "WHERE run_id = %s AND request_id = %s",
            (str(to), EPOCH, attempts, to in IN_FLIGHT, run_id, request_id),
        )

    return PreparedStore(postgres_world(database), put_row)


def place(store: StoreWorld, run_id: int) -> None:
    """All rows to the first node, as a scheduler whose reading is old: it takes them for pending."""
    waiting = store.create(*[BATCH] * len(CASES))
    store.release(waiting)
    store.admit(waiting, range(len(CASES)))
    read = store.requests.pending_be(limit=len(CASES)).pending
    columns = {name: getattr(read, name) for name in read.__dataclass_fields__}
    columns |= {"run_id": np.full(len(CASES), run_id), "request_id": np.arange(len(CASES)), "epoch": np.full(len(CASES), EPOCH)}
    batch = PendingBatch(pending=type(read)(**columns), services=("batch",), clusters=("c1", "c2"))
    plan = BePlan(node=np.zeros(len(CASES), np.int32), policy="test")
    decision: DecisionRecord = DECISION
    store.requests.record_placement(batch, plan, store.fleet.snapshot(at_s=0.0), decision, fence=store.fence(), lease_s=LIVE_S)


def end(event: Event) -> Callable[[StoreWorld, int], object]:
    """All rows end so."""
    return lambda store, run_id: store.requests.settle(
        [Outcome(run_id=run_id, request_id=k, epoch=EPOCH, event=event, started_s=1.0, finished_s=2.0) for k in IDS]
    )


IDS = list(range(len(CASES)))
EPOCHS = [EPOCH] * len(CASES)
CALLS: dict[Event, Callable[[StoreWorld, int], object]] = {
    Event.RELEASE: lambda store, run_id: store.release(run_id),
    Event.ANNOUNCE: lambda store, run_id: store.requests.unclaimed(older_than_s=0.5, limit=1000),
    Event.ADMIT: lambda store, run_id: store.requests.admit_be(run_id, IDS, most_memory_mib=MOST_MEMORY_MIB),
    Event.REFUSE: lambda store, run_id: store.requests.admit_be(run_id, IDS, most_memory_mib={"batch": -1.0}),
    Event.PLACE: place,
    Event.RUN: lambda store, run_id: store.requests.mark_running([(run_id, k, EPOCH, ZERO_S) for k in IDS], lease_s=LIVE_S),
    Event.RENEW: lambda store, run_id: store.requests.renew(run_id, IDS, EPOCHS, lease_s=LIVE_S),
    Event.SUCCEED: end(Event.SUCCEED),
    Event.FAIL: end(Event.FAIL),
    Event.REQUEUE: end(Event.REQUEUE),
    Event.EXHAUST: end(Event.REQUEUE),
    Event.RETURN: end(Event.RETURN),
    Event.CANCEL: lambda store, run_id: store.cancel(run_id),
}
"""Who calls what in the store for each event; only the simulator knows a user who gives up, and a submit has no state before it."""
OF_JOURNALS = {Event.DISPATCH, Event.START, Event.SHED, Event.CLAIM, Event.WITHDRAW, Event.LOSE}
"""Events of LC alone, which only a journal can cause."""


def at_the_centre(event: Event, state: RequestState, service_class: ServiceClass) -> Transition | None:
    """The row of the table for an event that the centre causes: of LC it only cancels what no journal has."""
    is_caused = service_class is ServiceClass.BE or event is Event.CANCEL
    return transition(event, state, service_class) if is_caused else None


def test_every_event_of_a_store_is_tried() -> None:
    """The table has no event that this suite leaves out."""
    assert set(CALLS) == set(Event) - {Event.SUBMIT, Event.GIVE_UP} - OF_JOURNALS


@pytest.mark.parametrize("event", CALLS)
def test_an_event_happens_where_the_table_says_and_nowhere_else(prepared: PreparedStore, event: Event) -> None:
    """Twenty requests, one in each state and class: next state, epoch, attempt and `attempt` row are those of the table; all other
    requests stay as they were."""
    store = prepared.store
    attempts = MAX_ATTEMPTS if event is Event.EXHAUST else EPOCH
    run_id = store.create(*[WEB if service_class is ServiceClass.LC else BATCH for _, service_class in CASES], gap_s=0.0)
    for request_id, (state, _) in enumerate(CASES):
        prepared.put(run_id, request_id, state, attempts)

    CALLS[event](store, run_id)

    rows, ended = store.rows(run_id), []
    for request_id, (state, service_class) in enumerate(CASES):
        expected = at_the_centre(event, state, service_class)
        case = f"{event} of a {state} {service_class.label} request"
        row = rows[request_id]
        if expected is None:
            assert (row.state, row.epoch, row.attempt, row.reason) == (state, EPOCH, attempts, ""), case
            continue
        assert row.state == (expected.after or state), case
        assert (row.epoch - EPOCH, row.attempt - attempts) == (expected.gives_out, expected.attempts_added), case
        assert expected.reason is None or row.reason.startswith(str(expected.reason)), case
        if expected.outcome:
            ended.append((request_id, EPOCH, expected.outcome))
    assert [attempt[:3] for attempt in store.attempts(run_id)] == ended


def test_an_expired_lease_requeues_as_the_table_says(prepared: PreparedStore) -> None:
    """The reconciler's requeue is the same event, on every BE request in flight whose lease is over, and on no other."""
    store = prepared.store
    run_id = store.create(*[WEB if service_class is ServiceClass.LC else BATCH for _, service_class in CASES], gap_s=0.0)
    for request_id, (state, _) in enumerate(CASES):
        prepared.put(run_id, request_id, state, EPOCH)

    store.requests.requeue_expired(limit=1000)

    found = [(at_the_centre(Event.REQUEUE, *case), case[0]) for case in CASES]
    assert [row.state for row in store.rows(run_id)] == [str(t.after if t else state) for t, state in found]
    assert OVER_S < 0


def test_the_sets_of_states_follow_from_the_table() -> None:
    """Terminal is what nothing leaves; in flight what has an epoch to end; everything live can be cancelled."""
    left = {state for t in TRANSITIONS for state in t.before}
    entered = {t.after for t in TRANSITIONS if t.gives_out or t.event in (Event.CLAIM, Event.RUN)}

    assert set(TERMINAL) == set(RequestState) - left
    assert set(IN_FLIGHT) == entered == {s for t in transitions_of(Event.RENEW) for s in t.before}
    assert set(LIVE) == {s for t in transitions_of(Event.CANCEL) for s in t.before} == set(UNDER_WAY) | {RequestState.ACCEPTED}


def test_each_event_has_one_row_for_a_state_and_a_class() -> None:
    """So that the next state is a function; and what ends an epoch ends it under that epoch alone."""
    for event in Event:
        for state, service_class in CASES:
            assert sum(t.event is event and t.applies(state, service_class) for t in TRANSITIONS) <= 1
    assert all(bool(t.outcome) == (t.before == IN_FLIGHT and t.after is not None) for t in TRANSITIONS)
    assert set(ENDS) < {t.event for t in TRANSITIONS if t.outcome}


def test_the_state_is_what_the_events_lead_to() -> None:
    """A store that keeps events alone can tell where each request stands, and refuses what cannot have happened."""
    lc = [Event.SUBMIT, Event.RELEASE, Event.DISPATCH, Event.CLAIM, Event.REQUEUE, Event.START, Event.SUCCEED]
    be = [Event.SUBMIT, Event.RELEASE, Event.ADMIT, Event.PLACE, Event.RUN, Event.RENEW, Event.REQUEUE, Event.PLACE, Event.FAIL]

    assert state_after(lc, ServiceClass.LC) is RequestState.SUCCEEDED
    assert state_after(lc[:5], ServiceClass.LC) is RequestState.RELEASED
    assert state_after(be, ServiceClass.BE) is RequestState.FAILED
    assert state_after(be[:7], ServiceClass.BE) is RequestState.PENDING
    with pytest.raises(ValueError, match="class be that is released cannot dispatch"):
        state_after(lc, ServiceClass.BE)
    with pytest.raises(ValueError, match="class lc that is succeeded cannot cancel"):
        state_after([*lc, Event.CANCEL], ServiceClass.LC)
