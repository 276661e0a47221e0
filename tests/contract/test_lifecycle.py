"""Every event on a request in every state, at the centre and in a journal, on the fakes and for real: what happens is what the table says.

The centre (memory, PostgreSQL) causes the events of BE, a journal (memory, SQLite) those of LC; the engine takes its codes from the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from tango.domain.identity import RequestKey
from tango.domain.jobs import NewJob
from tango.domain.lifecycle import (
    ENDS,
    IN_FLIGHT,
    LIVE,
    TERMINAL,
    TRANSITIONS,
    UNDER_WAY,
    Event,
    Guard,
    Outcome,
    Transition,
    state_after,
    transition,
    transitions_of,
)
from tango.domain.plans import BePlan
from tango.domain.requests import LcArrivals, Reason, RequestState
from tango.domain.runs import DecisionRecord, PendingRequests, RunStatus
from tango.domain.services import ServiceClass
from tango.errors import Fenced, UsageError
from tango.journal.journal import SqliteJournal
from tango.ports.leases import Fence
from tango.ports.requests import StartHere
from tango.store.database import Database
from tests.fakes.journal_world import JournalWorld, memory_journal_world, sqlite_journal_world
from tests.fakes.memory_journal import MemoryJournal
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
    put: Put


class Put(Protocol):
    """Puts a row into a state."""

    def __call__(
        self, run_id: int, request_id: int, to: RequestState, attempts: int, *, epoch: int = EPOCH, lease_s: float = OVER_S
    ) -> None:
        """`attempts` have begun so far; in flight its lease lasts for `lease_s` from now on."""
        ...


@pytest.fixture(params=["memory", "postgres"])
def prepared(request: pytest.FixtureRequest) -> PreparedStore:
    """One implementation after the other."""
    if request.param == "memory":
        store, state = memory_world_and_state()

        def put(
            run_id: int, request_id: int, to: RequestState, attempts: int, *, epoch: int = EPOCH, lease_s: float = OVER_S
        ) -> None:
            row = state.runs[run_id].rows[request_id]
            row.state, row.epoch, row.attempt, row.target_cluster, row.node = to, epoch, attempts, "c1", "c1-n1"
            row.pod = "pod"
            row.released_at_s, row.lease_until_s = -1.0, (state.now_s() + lease_s if to in IN_FLIGHT else 0.0)

        return PreparedStore(store, put)
    database = Database(request.getfixturevalue("database_url"))

    def put_row(
        run_id: int, request_id: int, to: RequestState, attempts: int, *, epoch: int = EPOCH, lease_s: float = OVER_S
    ) -> None:
        database.execute(
            "UPDATE request SET state = %s, epoch = %s, attempt = %s, target_cluster = 'c1', node = 'c1-n1', pod = 'pod', "
            "released_at = now() - interval '1 s', lease_until = CASE WHEN %s THEN now() + %s * interval '1 s' END "
            "WHERE run_id = %s AND request_id = %s",
            (str(to), epoch, attempts, to in IN_FLIGHT, lease_s, run_id, request_id),
        )

    return PreparedStore(postgres_world(database), put_row)


def place(store: StoreWorld, run_id: int, *, fence: Fence | None = None) -> None:
    """All rows to the first node, as a scheduler whose reading is old: it takes them for pending."""
    waiting = store.create(*[BATCH] * len(CASES))
    store.release(waiting)
    store.admit(waiting, range(len(CASES)))
    read = store.requests.pending_be(limit=len(CASES)).pending
    columns = {name: getattr(read, name) for name in read.__dataclass_fields__}
    columns |= {"run_id": np.full(len(CASES), run_id), "request_id": np.arange(len(CASES)), "epoch": np.full(len(CASES), EPOCH)}
    batch = PendingRequests(pending=type(read)(**columns), services=("batch",), clusters=("c1", "c2"))
    plan = BePlan(node=np.zeros(len(CASES), np.int32), policy="test")
    decision: DecisionRecord = DECISION
    store.requests.record_placement(
        batch, plan, store.fleet.snapshot(at_s=0.0), decision, fence=fence or store.fence(), lease_s=LIVE_S
    )


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
"""Who calls what in the store for each event of BE, and of LC what no journal has taken."""


@dataclass(frozen=True, slots=True)
class PreparedJournal:
    """A journal with a run of LC requests, one for each state, that were read when all of them were released; and a way to put them."""

    world: JournalWorld
    run_id: int
    read: LcArrivals
    put: Put


LC_STATES = tuple(RequestState)
LC_IDS = list(range(len(LC_STATES)))
LC_EPOCHS = [EPOCH] * len(LC_STATES)


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> PreparedJournal:
    """One implementation after the other."""
    world = memory_journal_world() if request.param == "memory" else sqlite_journal_world(tmp_path / "journal.db")
    put = put_in_memory(world.journal, world) if isinstance(world.journal, MemoryJournal) else put_in_file(world)
    run_id = world.create(*[WEB] * len(LC_STATES), gap_s=0.0, epoch=EPOCH)
    for request_id in LC_IDS:
        put(run_id, request_id, RequestState.RELEASED, EPOCH)
    return PreparedJournal(world, run_id, world.arrivals(run_id, LC_IDS), put)


def put_in_memory(journal: MemoryJournal, world: JournalWorld) -> Put:
    """On the fake."""

    def put(run_id: int, request_id: int, to: RequestState, attempts: int, *, epoch: int = EPOCH, lease_s: float = OVER_S) -> None:
        row = journal.rows[run_id, request_id]
        row.state, row.epoch, row.attempt, row.target_cluster, row.node, row.owner = to, epoch, attempts, "c1", "c1-n1", "w"
        row.released_at_s, row.lease_until_s = world.clock() - 1.0, world.clock() + lease_s

    return put


def put_in_file(world: JournalWorld) -> Put:
    """On SQLite; a time of release has what is under way alone."""
    journal = world.journal
    assert isinstance(journal, SqliteJournal)

    def put(run_id: int, request_id: int, to: RequestState, attempts: int, *, epoch: int = EPOCH, lease_s: float = OVER_S) -> None:
        now_s = world.clock()
        row = (str(to), epoch, attempts, now_s - 1.0 if to in UNDER_WAY else None, now_s + lease_s, run_id, request_id)
        sql = (
            "UPDATE request SET state = ?, epoch = ?, attempt = ?, target_cluster = 'c1', node = 'c1-n1', owner = 'w', "
            "released_at_s = ?, lease_until_s = ? WHERE run_id = ? AND request_id = ?"
        )
        journal._database.write(lambda connection: connection.execute(sql, row))

    return put


def called(of: PreparedJournal) -> None:
    """The requests are those of a caller, whom the row names."""
    journal = of.world.journal
    if not isinstance(journal, SqliteJournal):
        pytest.skip("the fake has no callers")
    journal._database.write(lambda connection: connection.execute("UPDATE request SET tenant = 'default'"))


def withdraw(of: PreparedJournal) -> None:
    """All of them, as by callers who have hung up."""
    called(of)
    of.world.journal.withdraw([RequestKey(of.run_id, k) for k in LC_IDS], reason=Reason.CALLER_GONE)


def end_here(event: Event) -> Callable[[PreparedJournal], object]:
    """All rows end so."""
    return lambda of: of.world.journal.settle(
        [Outcome(run_id=of.run_id, request_id=k, epoch=EPOCH, event=event, started_s=1.0, finished_s=2.0) for k in LC_IDS]
    )


def start_here(of: PreparedJournal) -> None:
    """All rows that were read, by a worker that has places free."""
    here = StartHere(rows=np.ones(len(LC_IDS), np.bool_), owner="w", lease_s=LIVE_S, planned_s=0.0)
    of.world.dispatch_read(of.run_id, of.read, here=here)


JOURNAL_CALLS: dict[Event, Callable[[PreparedJournal], object]] = {
    Event.RELEASE: lambda of: of.world.release(of.run_id),
    Event.ANNOUNCE: lambda of: of.world.journal.unclaimed(older_than_s=0.5, limit=1000),
    Event.DISPATCH: lambda of: of.world.dispatch_read(of.run_id, of.read),
    Event.START: start_here,
    Event.SHED: lambda of: of.world.dispatch_read(of.run_id, of.read, shed=True),
    Event.CLAIM: lambda of: of.world.journal.claim_execution(of.run_id, LC_IDS, LC_EPOCHS, owner="w", lease_s=LIVE_S),
    Event.SUCCEED: end_here(Event.SUCCEED),
    Event.FAIL: end_here(Event.FAIL),
    Event.REQUEUE: end_here(Event.REQUEUE),
    Event.EXHAUST: end_here(Event.REQUEUE),
    Event.RETURN: end_here(Event.RETURN),
    Event.CANCEL: lambda of: of.world.cancel(of.run_id),
    Event.WITHDRAW: withdraw,
}
"""Who calls what in the journal for each event of LC."""
ELSEWHERE = {
    Event.SUBMIT: "no state comes before it",
    Event.GIVE_UP: "only the simulator has users who give up",
    Event.LOSE: "it is told of requests that are not there (test_lc_requests)",
}


def at_the_centre(event: Event, state: RequestState, service_class: ServiceClass) -> Transition | None:
    """The row of the table for an event that the centre causes: of LC it only cancels what no journal has."""
    is_caused = service_class is ServiceClass.BE or event is Event.CANCEL
    return transition(event, state, service_class) if is_caused else None


def test_every_event_of_a_store_is_tried() -> None:
    """The table has no event that this suite leaves out, for either class."""
    of_class = {of: {t.event for t in TRANSITIONS if t.service_class in (None, of)} - set(ELSEWHERE) for of in ServiceClass}

    assert of_class[ServiceClass.BE] == set(CALLS) | {Event.WITHDRAW}
    assert of_class[ServiceClass.LC] == set(JOURNAL_CALLS)


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


@pytest.mark.parametrize("event", JOURNAL_CALLS)
def test_an_event_of_a_journal_happens_where_the_table_says_and_nowhere_else(journal: PreparedJournal, event: Event) -> None:
    """Ten LC requests, one in each state, as above."""
    attempts = MAX_ATTEMPTS if event is Event.EXHAUST else EPOCH
    for request_id, state in enumerate(LC_STATES):
        journal.put(journal.run_id, request_id, state, attempts)

    JOURNAL_CALLS[event](journal)

    rows, ended = journal.world.rows(journal.run_id), []
    for request_id, state in enumerate(LC_STATES):
        expected, row, case = transition(event, state, ServiceClass.LC), rows[request_id], f"{event} of a {state} request"
        if expected is None:
            assert (row.state, row.epoch, row.attempt, row.reason) == (state, EPOCH, attempts, ""), case
            continue
        assert row.state == (expected.after or state), case
        assert (row.epoch - EPOCH, row.attempt - attempts) == (expected.gives_out, expected.attempts_added), case
        assert expected.reason is None or row.reason.startswith(str(expected.reason)), case
        if expected.outcome:
            ended.append((request_id, EPOCH, expected.outcome))
    assert [attempt[:3] for attempt in journal.world.attempts(journal.run_id)] == ended


def test_a_job_is_withdrawn_where_the_table_says_and_nowhere_else(prepared: PreparedStore) -> None:
    """Ten jobs, one in each state."""
    store = prepared.store
    keys = [store.jobs.submit(NewJob(service=BATCH.name, key=str(state))).key for state in RequestState]
    for key, state in zip(keys, RequestState, strict=True):
        prepared.put(key.run_id, key.request_id, state, EPOCH)

    withdrawn = [store.jobs.withdraw(key) for key in keys]

    expected = [transition(Event.WITHDRAW, state, ServiceClass.BE) for state in RequestState]
    assert withdrawn == [t is not None for t in expected]
    assert [store.jobs.job(key).state for key in keys] == [
        str(t.after if t else state) for t, state in zip(expected, RequestState, strict=True)
    ]


CHOICES = {Guard.FITS, Guard.FITS_NOWHERE, Guard.ATTEMPTS_LEFT, Guard.ATTEMPTS_SPENT}
"""These choose between two events, which the same call causes above."""


def test_every_guard_is_tried() -> None:
    """In the world that causes the event."""
    guarded = {
        (of, t.event, guard) for t in TRANSITIONS for guard in t.guards for of in ServiceClass if t.service_class in (None, of)
    }
    asked = {(of, event, guard) for of, event, guard in guarded if event not in ELSEWHERE and guard not in CHOICES}

    tried = {(ServiceClass.BE, *pair) for pair in [*UNMET, (Event.WITHDRAW, Guard.LIVE_RUN)]}
    assert asked == tried | {(ServiceClass.LC, *pair) for pair in UNMET_IN_JOURNAL}


def overtaken(store: StoreWorld, run_id: int) -> None:
    """A scheduler whose lease is over, and another has it."""
    old = store.fence("old", ttl_s=OVER_S)
    store.fence("new")
    with pytest.raises(Fenced):
        place(store, run_id, fence=old)


def stopped(event: Event) -> Callable[[StoreWorld, int], object]:
    """The event, once the run is being cancelled."""

    def call(store: StoreWorld, run_id: int) -> None:
        store.runs.cancel(run_id)
        CALLS[event](store, run_id)

    return call


BY_EPOCH = (Event.RUN, Event.RENEW, Event.SUCCEED, Event.FAIL, Event.REQUEUE, Event.EXHAUST, Event.RETURN)
UNMET: dict[tuple[Event, Guard], Callable[[StoreWorld, int], object]] = {
    (Event.RELEASE, Guard.DUE): lambda store, run_id: store.release(run_id, until_s=-1.0),
    **{(e, Guard.RUN_OPEN): stopped(e) for e in (Event.RELEASE, Event.ANNOUNCE, Event.ADMIT, Event.REFUSE, Event.PLACE)},
    **{(e, Guard.EPOCH): CALLS[e] for e in (Event.PLACE, *BY_EPOCH)},
    (Event.PLACE, Guard.FENCE): overtaken,
    **{(e, Guard.LEASE_OVER): lambda store, _: store.requests.requeue_expired(limit=1000) for e in (Event.REQUEUE, Event.EXHAUST)},
    (Event.CANCEL, Guard.RUN_CANCELLED): lambda store, run_id: store.runs.sweep_cancelled(run_id, beyond=-1),
}
"""By event and guard, a call whose guard does not hold; of an epoch the rows have another one then, of a lease it stands."""


@pytest.mark.parametrize("guard", dict.fromkeys(guard for _, guard in UNMET))
def test_without_its_guard_nothing_happens(prepared: PreparedStore, guard: Guard) -> None:
    """A request in each state for every event that has the guard; all of them stay as they are."""
    store, epoch = prepared.store, EPOCH + (guard is Guard.EPOCH)
    for event in (event for event, of in UNMET if of is guard):
        attempts = MAX_ATTEMPTS if event is Event.EXHAUST else EPOCH
        run_id = store.create(*[BATCH] * len(RequestState), gap_s=0.0)
        for request_id, state in enumerate(RequestState):
            lease_s = LIVE_S if guard is Guard.LEASE_OVER else OVER_S
            prepared.put(run_id, request_id, state, attempts, epoch=epoch, lease_s=lease_s)

        UNMET[event, guard](store, run_id)

        rows = [(row.state, row.epoch, row.attempt) for row in store.rows(run_id)]
        assert rows == [(state, epoch, attempts) for state in RequestState], event
        assert store.attempts(run_id) == [], event


def test_a_request_of_a_trace_is_not_withdrawn(prepared: PreparedStore) -> None:
    """It is no job, and its run is not live."""
    run_id = prepared.store.create(BATCH)

    with pytest.raises(UsageError, match="there is no job"):
        prepared.store.jobs.withdraw(RequestKey(run_id, 0))


def stopped_here(event: Event) -> Callable[[PreparedJournal], object]:
    """The event, once the agent has told that the run is being cancelled."""

    def call(of: PreparedJournal) -> None:
        of.world.follow(of.run_id, RunStatus.CANCELLING)
        JOURNAL_CALLS[event](of)

    return call


def withdraw_uncalled(of: PreparedJournal) -> None:
    """As `withdraw`, of requests that nobody called for."""
    if not isinstance(of.world.journal, SqliteJournal):
        pytest.skip("the fake has no callers")
    of.world.journal.withdraw([RequestKey(of.run_id, k) for k in LC_IDS], reason=Reason.CALLER_GONE)


def sweep_while_it_beats(of: PreparedJournal) -> None:
    """The process that has them lives."""
    of.world.journal.heartbeat("w", lease_s=LIVE_S)
    of.world.journal.requeue_expired(limit=1000)


OF_OPEN_RUNS = (Event.RELEASE, Event.ANNOUNCE, Event.DISPATCH, Event.START, Event.SHED, Event.CLAIM)
OF_AN_EPOCH = (*OF_OPEN_RUNS[2:], Event.SUCCEED, Event.FAIL, Event.REQUEUE, Event.EXHAUST, Event.RETURN)
UNMET_IN_JOURNAL: dict[tuple[Event, Guard], Callable[[PreparedJournal], object]] = {
    (Event.RELEASE, Guard.DUE): lambda of: of.world.release(of.run_id, until_s=-1.0),
    **{(e, Guard.RUN_OPEN): stopped_here(e) for e in OF_OPEN_RUNS},
    **{(e, Guard.EPOCH): JOURNAL_CALLS[e] for e in OF_AN_EPOCH},
    **{(e, Guard.LEASE_OVER): sweep_while_it_beats for e in (Event.REQUEUE, Event.EXHAUST)},
    (Event.CANCEL, Guard.RUN_CANCELLED): lambda of: of.world.journal.cancel_stopped(limit=1000),
    (Event.WITHDRAW, Guard.LIVE_RUN): withdraw_uncalled,
}


@pytest.mark.parametrize(("event", "guard"), UNMET_IN_JOURNAL)
def test_without_its_guard_nothing_happens_in_a_journal(journal: PreparedJournal, event: Event, guard: Guard) -> None:
    """As at the centre."""
    attempts = MAX_ATTEMPTS if event is Event.EXHAUST else EPOCH
    epoch = EPOCH + (guard is Guard.EPOCH)
    for request_id, state in enumerate(LC_STATES):
        lease_s = LIVE_S if guard is Guard.LEASE_OVER else OVER_S
        journal.put(journal.run_id, request_id, state, attempts, epoch=epoch, lease_s=lease_s)

    UNMET_IN_JOURNAL[event, guard](journal)

    rows = journal.world.rows(journal.run_id)
    assert [(row.state, row.epoch, row.attempt) for row in rows] == [(s, epoch, attempts) for s in LC_STATES]
    assert journal.world.attempts(journal.run_id) == []


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
