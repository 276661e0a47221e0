"""Requests of callers from the gateway's side of the journal to the centre's copies, on SQLite and PostgreSQL."""

from __future__ import annotations

import itertools
import math
import random
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tango.control.centre_line import CentreLine
from tango.control.following import Following
from tango.domain.calls import Answer, AnswerTo, Call, CallerRequest
from tango.domain.identity import RequestKey
from tango.domain.lifecycle import Event, Outcome
from tango.domain.plans import LcPlan
from tango.domain.requests import CalledArrivals, LcWork, Reason, RequestState
from tango.domain.runs import LiveUse, RunInfo, RunStatus
from tango.errors import NotOpen, StoreUnavailable
from tango.journal.callers import SKIPPED_NUMBERS
from tango.journal.journal import SqliteJournal
from tango.journal.schema import FORMAT, SCHEMA, UPGRADES
from tango.ports.requests import StartHere
from tango.settings import CallSettings, JournalSettings, LcSettings, LeaseSettings, StoreSettings
from tango.store.database import Database
from tango.store.fleet import PostgresFleetStore
from tango.store.live_runs import PostgresLiveRuns
from tango.store.runs import PostgresRunStore
from tango.store.shares import PostgresShareStore
from tango.store.tokens import PostgresTokenStore
from tests.fakes.journal_world import sqlite_journal_world
from tests.fakes.own_fleet import published
from tests.fakes.store_world import FLEET, LC_DECISION, OVER_S, WEB, success

GET = Call(
    method="GET",
    path="/v1/detect?size=3",
    headers=(("Accept", "text/plain"), ("X-Twice", "a"), ("X-Twice", "b")),
    is_repeatable=True,
)
POST = Call(method="POST", path="/v1/detect", body=bytes(range(256)) * 8)
TO = AnswerTo(address="unix:/run/gateway", key="k" * 20)


def asked(call: Call = GET, *, key: str = "", patience_s: float = 1.0, target_s: float = 0.5) -> CallerRequest:
    """A request of service web."""
    return CallerRequest(
        service="web",
        tenant="default",
        target_s=target_s,
        patience_s=patience_s,
        cpu_work_s=0.1,
        memory_mib=64.0,
        call=call,
        answer_to=TO,
        key=key,
    )


class Wall:
    """Unix time that tests move."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        """Now."""
        return self.now

    def now_s(self) -> float:
        """Now."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@dataclass
class Edge:
    """The journal of c1 with its line to the centre."""

    journal: SqliteJournal
    line: CentreLine
    live: PostgresLiveRuns
    runs: PostgresRunStore
    database: Database
    wall: Wall

    def opened(self) -> RunInfo:
        """The live run, open here too."""
        run = self.live.want()
        self.line.follow()
        return run

    def start(self, keys: list[RequestKey], *, lease_s: float = 60.0, shed: bool = False) -> list[LcWork]:
        """Dispatch and start these here, or shed them."""
        (run_id,) = {key.run_id for key in keys}
        snapshot = self.journal.snapshot(at_s=0.0)
        arrivals = self.journal.waiting_lc(run_id, [key.request_id for key in keys], snapshot)
        n = len(arrivals)
        plan = LcPlan(
            node=np.full(n, -1 if shed else 0, np.int32),
            late=np.zeros(n, np.bool_),
            shed=np.full(n, shed),
            expected_s=np.zeros(n),
            policy="test",
        )
        here = StartHere(rows=np.full(n, not shed), owner="w", lease_s=lease_s, planned_s=0.0)
        return list(self.journal.record_dispatch(run_id, arrivals, plan, snapshot, LC_DECISION, lease_s=60.0, here=here).started)

    def at_the_centre(self) -> list[tuple[Any, ...]]:
        """(request, state, attempt, reason, tenant) of every row, by number."""
        return self.database.rows(
            "SELECT request_id, state::text, attempt, reason, tenant FROM request ORDER BY run_id, request_id"
        )


def edge_of(database: Database, folder: Path, wall: Wall, *, boot: str = "") -> Edge:
    """The processes of c1, with the journal in this folder."""
    runs = PostgresRunStore(database)
    live = PostgresLiveRuns(database, delete=runs.delete)
    journal = SqliteJournal(
        folder / "c1.db",
        cluster="c1",
        lease=LeaseSettings(),
        lc=LcSettings(),
        store=StoreSettings(),
        wall_s=wall,
        boot=boot,
    )
    journal.publish(published(FLEET))
    shares, seconds = PostgresShareStore(database), itertools.count()
    line = CentreLine(
        "c1",
        shares=shares,
        following=Following(shares, ["c1"], monotonic=lambda: next(seconds)),
        tokens=PostgresTokenStore(database),
        live=live,
        journal=journal,
        clock=wall,
        settings=JournalSettings(),
    )
    return Edge(journal, line, live, runs, database, wall)


@pytest.fixture
def edge(database_url: str, tmp_path: Path) -> Iterator[Edge]:
    """Of a fleet of two clusters."""
    database = Database(database_url)
    PostgresFleetStore(database).declare(FLEET, kubeconfig="/none", contexts={c.name: c.name for c in FLEET.clusters})
    found = edge_of(database, tmp_path, Wall())
    yield found
    found.journal.close()
    database.close()


# ---- accepted ----------------------------------------------------------------------------------------------------------


def test_without_a_live_run_nothing_is_accepted_and_one_is_opened(edge: Edge) -> None:
    """The first caller of all is turned away once; the agent hears of it and fetches a run and numbers."""
    edge.line.follow()
    with pytest.raises(NotOpen, match="cluster c1 has no live run that is open"):
        edge.journal.accept([asked()])
    before = edge.journal.opens()
    edge.line.follow()
    edge.line.follow()

    (accepted,) = edge.journal.accept([asked()])

    assert accepted.is_new
    assert edge.live.turn() is not None
    assert (before, edge.journal.opens()) == (False, True)


def test_what_is_accepted_has_its_row_its_call_and_its_number(edge: Edge) -> None:
    """In order, released at once, and with all that was sent."""
    run = edge.opened()

    accepted = edge.journal.accept([asked(GET), asked(POST)])

    keys = [a.key for a in accepted]
    assert [key.run_id for key in keys] == [run.run_id] * 2
    assert keys[0].request_id + 1 == keys[1].request_id
    found = edge.journal.standings([*keys, RequestKey(run.run_id, 5_000_000)])
    assert {key: (s.state, s.service, s.tenant) for key, s in found.items()} == {
        key: (RequestState.RELEASED, "web", "default") for key in keys
    }
    assert found[keys[0]].due_at_s == pytest.approx(edge.wall.now)
    calls = edge.journal.calls(keys)
    assert [calls[key].call for key in keys] == [GET, POST]
    assert calls[keys[0]].answer_to == TO


def test_a_key_of_a_caller_is_one_request(edge: Edge) -> None:
    """Within one transaction and later, while it is kept; another caller's key is another."""
    edge.opened()
    first, twin, other = edge.journal.accept([asked(key="a"), asked(key="a"), replace(asked(key="a"), tenant="other")])
    (later,) = edge.journal.accept([asked(key="a")])
    edge.wall.sleep(CallSettings().keep_s + 1.0)
    edge.journal.drop_old(limit=100)
    (new,) = edge.journal.accept([asked(key="a")])

    assert (first.is_new, twin.is_new, other.is_new, later.is_new, new.is_new) == (True, False, True, False, True)
    assert first.key == twin.key == later.key
    assert len({first.key, other.key, new.key}) == 3


def test_without_numbers_nothing_is_accepted(edge: Edge) -> None:
    """Nor half of a group; more numbers come with the next look."""
    run = edge.opened()
    left = edge.journal.numbers_left(run.run_id)
    edge.journal._database.write(lambda c: c.execute("UPDATE number_block SET next = last WHERE first > 0"))
    edge.journal._database.write(lambda c: c.execute("UPDATE number_block SET next = last + 1 WHERE first = 0"))
    short = edge.journal.numbers_left(run.run_id)
    with pytest.raises(NotOpen, match="no numbers left"):
        edge.journal.accept([asked(), asked(), asked()])
    edge.line.follow()

    assert left >= JournalSettings().numbers_ahead
    assert short < 3
    assert len({a.key for a in edge.journal.accept([asked() for _ in range(4)])}) == 4


def test_a_dispatch_knows_the_patience_of_callers_and_leaves_works_as_they_are(edge: Edge) -> None:
    """A target of the caller's own must not make the work of its service look smaller."""
    edge.opened()
    keys = [a.key for a in edge.journal.accept([asked(patience_s=0.3, target_s=0.05), asked(patience_s=math.inf)])]

    arrivals = edge.journal.waiting_lc(keys[0].run_id, [k.request_id for k in keys], edge.journal.snapshot(at_s=0.0))
    works = edge.start(keys)

    assert isinstance(arrivals, CalledArrivals)
    assert arrivals.patience_s.tolist() == [0.3, math.inf]
    assert [(w.patience_s, w.is_called) for w in works] == [(0.3, True), (math.inf, True)]


# ---- ended -------------------------------------------------------------------------------------------------------------


def test_an_answer_is_kept_with_the_request_until_it_is_old(edge: Edge) -> None:
    """The call goes when the request ends; the row stays after its shipment, so that it can be asked for."""
    edge.opened()
    (key,) = [a.key for a in edge.journal.accept([asked(POST)])]
    (work,) = edge.start([key])
    answer = Answer(status=201, headers=(("Content-Type", "text/plain"),), body=b"done", is_whole=True)
    edge.journal.keep_answers([(key, answer)])
    edge.journal.keep_answers([(key, replace(answer, body=b"again"))])
    edge.journal.settle([success(key.run_id, key.request_id, work.epoch)])
    edge.line.ship()

    assert edge.journal.answer(key) == answer
    assert edge.journal.standings([key])[key].state is RequestState.SUCCEEDED
    assert edge.journal.calls([key]) == {}
    assert edge.journal.drop_old(limit=10) == 0
    edge.wall.sleep(CallSettings().keep_s + 1.0)
    assert edge.journal.drop_old(limit=10) == 1
    assert edge.journal.answer(key) is None
    assert edge.journal.standings([key]) == {}


def test_answers_are_dropped_beyond_their_size_oldest_first(edge: Edge, tmp_path: Path) -> None:
    """However young they are: callers must not fill the disk."""
    edge.opened()
    keys = [a.key for a in edge.journal.accept([asked() for _ in range(4)])]
    for work in edge.start(keys):
        key = RequestKey(work.run_id, work.request_id)
        edge.journal.keep_answers([(key, Answer(status=200, headers=(), body=b"x" * (400 << 10), is_whole=True))])
        edge.journal.settle([success(work.run_id, work.request_id, work.epoch)])
    small = SqliteJournal(
        tmp_path / "c1.db",
        cluster="c1",
        lease=LeaseSettings(),
        lc=LcSettings(),
        store=StoreSettings(),
        call=CallSettings(kept_mib=1),
        wall_s=edge.wall,
    )

    def counted() -> tuple[int, int]:
        sums = "SELECT (SELECT value FROM meta WHERE name = 'answer_bytes'), sum(length(body) + length(headers)) FROM answer"
        found: tuple[int, int] = edge.journal._database.read(lambda c: c.execute(sums).fetchone())
        return found

    before = counted()
    assert small.drop_old(limit=100) == 2
    assert [small.answer(key) is not None for key in keys] == [False, False, True, True]
    after = counted()
    small.close()

    # What is kept is counted as it comes, is told again, and goes: to add it up would keep all others waiting.
    assert before[0] == before[1] > 4 * (400 << 10) > after[0] == after[1]


def test_a_caller_who_is_gone_ends_his_request_wherever_it_stands(edge: Edge) -> None:
    """Waiting, running, or ended already; a second time changes nothing. The executor sees that nobody wants the answer."""
    edge.opened()
    waiting, running, ended = [a.key for a in edge.journal.accept([asked(), asked(), asked()])]
    works = {w.request_id: w for w in edge.start([running, ended])}
    edge.journal.settle([success(ended.run_id, ended.request_id, works[ended.request_id].epoch)])
    told = [(key, works[key.request_id].epoch) for key in (running, ended)]
    before = edge.journal.still_run(told)

    withdrawn = [edge.journal.withdraw([waiting, running, ended], reason=Reason.CALLER_TIMED_OUT) for _ in range(2)]

    assert withdrawn == [2, 0]
    assert (before, edge.journal.still_run(told)) == ({running}, set())
    found = edge.journal.standings([waiting, running, ended])
    assert [(str(s.state), s.reason) for s in found.values()] == [
        ("cancelled", "caller-timed-out"),
        ("cancelled", "caller-timed-out"),
        ("succeeded", ""),
    ]
    edge.line.ship()
    assert [row[1] for row in edge.at_the_centre()] == ["cancelled", "cancelled", "succeeded"]
    assert [row[3] for row in edge.at_the_centre()] == ["caller-timed-out", "caller-timed-out", ""]
    by_reason = edge.database.rows("SELECT reason, attempts FROM attempt_failures")
    assert by_reason == [("caller-timed-out", 1)]


def test_what_is_shed_has_ended_for_its_caller_too(edge: Edge) -> None:
    """Its call is gone, its end can be asked for."""
    edge.opened()
    (key,) = [a.key for a in edge.journal.accept([asked()])]

    edge.start([key], shed=True)

    assert edge.journal.calls([key]) == {}
    found = edge.journal.standings([key])[key]
    assert (found.state, found.reason, found.has_ended) == (RequestState.SHED, "target-unreachable", True)


def test_a_call_that_must_not_run_twice_fails_with_its_worker(edge: Edge) -> None:
    """Nobody knows how far it had come; one that may be repeated waits for the next worker."""
    edge.opened()
    repeatable, once = [a.key for a in edge.journal.accept([asked(GET), asked(POST)])]
    edge.start([repeatable, once], lease_s=OVER_S)
    edge.wall.sleep(1000.0)

    again = edge.journal.requeue_expired(limit=10)

    assert [batch.request_ids for batch in again] == [(repeatable.request_id,)]
    found = edge.journal.standings([repeatable, once])
    assert [(str(s.state), s.reason) for s in found.values()] == [("released", "lease-expired"), ("failed", "lease-expired")]


def test_a_call_is_under_way_for_as_long_as_its_caller_waits(edge: Edge) -> None:
    """While its worker lives nobody else serves it: it would have been begun anew before it could be answered."""
    edge.opened()
    patient, usual = [a.key for a in edge.journal.accept([asked(GET, patience_s=60.0), asked(GET)])]
    edge.start([patient, usual], lease_s=10.0)
    edge.wall.sleep(40.0)
    edge.journal.heartbeat("w", lease_s=1000.0)

    again = edge.journal.requeue_expired(limit=10)
    edge.wall.sleep(60.0)
    later = edge.journal.requeue_expired(limit=10)

    assert [batch.request_ids for batch in again] == [(usual.request_id,)]
    assert [batch.request_ids for batch in later] == [(patient.request_id,)]


# ---- at the centre -----------------------------------------------------------------------------------------------------


def test_the_centre_hears_of_each_request_once_in_its_last_state(edge: Edge) -> None:
    """Accepted and ended within one shipment or over several; counts hold, and a figure of the run is that of its rows."""
    run = edge.opened()
    first, second = [a.key for a in edge.journal.accept([asked(), asked()])]
    (work,) = edge.start([first])
    edge.line.ship()
    halfway = edge.at_the_centre()
    edge.journal.settle([success(first.run_id, first.request_id, work.epoch)])
    (third,) = [a.key for a in edge.journal.accept([asked()])]
    (last,) = edge.start([third])
    edge.journal.settle(
        [Outcome(run_id=third.run_id, request_id=third.request_id, epoch=last.epoch, event=Event.FAIL, reason=Reason.SERVICE_ERROR)]
    )
    edge.line.ship()
    edge.runs.fold_counts()

    numbers = [key.request_id for key in (first, second, third)]
    assert halfway == [(numbers[0], "running", 1, "", "default"), (numbers[1], "released", 0, "", "default")]
    assert edge.at_the_centre() == [
        (numbers[0], "succeeded", 1, "", "default"),
        (numbers[1], "released", 0, "", "default"),
        (numbers[2], "failed", 1, "service-error", "default"),
    ]
    assert edge.runs.counts(run.run_id).by_state == {"succeeded": 1, "released": 1, "failed": 1}
    assert edge.runs.run(run.run_id).accepted == 3
    (share, _) = PostgresShareStore(edge.database).shares(run.run_id)
    assert (share.accepted, share.terminal) == (3, 2)
    outcomes = edge.database.rows("SELECT outcome FROM attempt ORDER BY request_id")
    assert outcomes == [("succeeded",), ("failed",)]


def test_a_request_counts_for_no_more_work_than_it_had_time(edge: Edge) -> None:
    """What was assumed of its service is far more than this one took, told with its acceptance or after it."""
    edge.opened()
    at_once, later, failed = [a.key for a in edge.journal.accept([asked(), asked(), asked()])]

    def settle(key: RequestKey, epoch: int, event: Event) -> None:
        due_s = edge.wall.now
        edge.journal.settle(
            [
                Outcome(
                    run_id=key.run_id,
                    request_id=key.request_id,
                    epoch=epoch,
                    event=event,
                    reason=Reason.NONE if event is Event.SUCCEED else Reason.SERVICE_ERROR,
                    started_s=due_s,
                    finished_s=due_s + 0.004,
                )
            ]
        )

    works = {work.request_id: work.epoch for work in edge.start([at_once, later, failed])}
    settle(at_once, works[at_once.request_id], Event.SUCCEED)
    edge.line.ship()
    settle(later, works[later.request_id], Event.SUCCEED)
    settle(failed, works[failed.request_id], Event.FAIL)
    edge.line.ship()

    found = edge.database.rows("SELECT request_id, round(cpu_work_s::numeric, 6)::float8 FROM request ORDER BY 1")
    assert found == [(at_once.request_id, 0.004), (later.request_id, 0.004), (failed.request_id, 0.1)]


def test_a_closed_run_accepts_nothing_and_ends_with_its_last_request(edge: Edge) -> None:
    """What it has accepted is served in it, while the next run accepts; the centre completes it after the last shipment."""
    run = edge.opened()
    (key,) = [a.key for a in edge.journal.accept([asked()])]
    following = edge.live.set_use(LiveUse(system="scoring"))
    edge.line.follow()
    (other,) = [a.key for a in edge.journal.accept([asked()])]
    (work,) = edge.start([key])
    edge.line.follow()
    still_live = edge.runs.all_terminal(run.run_id)
    edge.journal.settle([success(key.run_id, key.request_id, work.epoch)])
    edge.line.follow()
    not_shipped = edge.runs.all_terminal(run.run_id)
    edge.line.ship()
    edge.line.follow()

    assert (key.run_id, other.run_id) == (run.run_id, following.run_id)
    assert (still_live, not_shipped) == (False, False)
    database = edge.database
    database.execute("UPDATE lc_share SET complete = true WHERE cluster <> 'c1'")  # the other clusters
    assert edge.runs.all_terminal(run.run_id)
    assert edge.runs.run(run.run_id).status is RunStatus.DRAINING


def test_conservation_holds_over_both_sides_wherever_the_line_is_cut(edge: Edge) -> None:
    """Accepted = terminal + live at the edge at every instant, and at the centre after each shipment, whatever was cut or repeated."""
    rng = random.Random(5)
    run = edge.opened()
    accepted: list[RequestKey] = []
    for _ in range(40):
        accepted += [a.key for a in edge.journal.accept([asked() for _ in range(rng.randrange(4))])]
        waiting = [key for key, s in edge.journal.standings(accepted).items() if s.state is RequestState.RELEASED]
        works = edge.start(rng.sample(waiting, min(3, len(waiting)))) if waiting else []
        edge.journal.settle([success(w.run_id, w.request_id, w.epoch) for w in works if rng.random() < 0.8])
        edge.journal.withdraw(rng.sample(accepted, min(1, len(accepted))), reason=Reason.CALLER_GONE)
        standing = edge.journal.standings(accepted)
        assert len(standing) == len(set(accepted)) == len(accepted)
        if rng.random() < 0.4:
            shipment = edge.journal.unshipped(limit=rng.randrange(1, 30))
            if shipment is not None:
                for _ in range(rng.randrange(1, 3)):  # its answer was lost
                    position = PostgresShareStore(edge.database).apply(shipment)
                if rng.random() < 0.7:
                    edge.journal.shipped(position)
        counts = edge.runs.counts(run.run_id)
        assert counts.accepted <= len(accepted)
    while edge.line.ship() and edge.journal.unshipped(limit=1) is not None:
        pass

    states = {key.request_id: str(s.state) for key, s in edge.journal.standings(accepted).items()}
    assert {row[0]: row[1] for row in edge.at_the_centre()} == states
    assert edge.runs.counts(run.run_id).accepted == len(accepted)


def test_after_a_loss_of_power_no_number_is_another_request_s_and_no_call_runs_twice(edge: Edge, tmp_path: Path) -> None:
    """Requests of the last moments are gone with numbers that their callers know, and with whether a call was sent."""
    edge.opened()
    once, repeatable = [a.key for a in edge.journal.accept([asked(POST), asked(GET)])]

    after = edge_of(edge.database, tmp_path, edge.wall, boot="the next one")  # nobody has closed the file
    (new,) = [a.key for a in after.journal.accept([asked()])]

    found = after.journal.standings([once, repeatable])
    assert new.request_id > repeatable.request_id + SKIPPED_NUMBERS
    assert [(str(found[key].state), found[key].reason) for key in (once, repeatable)] == [
        ("failed", "journal-lost"),
        ("released", ""),
    ]


def test_after_a_boot_a_journal_that_had_been_closed_goes_on_as_it_was(edge: Edge, tmp_path: Path) -> None:
    """Whoever closes it last has all of it on the disk."""
    edge.opened()
    (once,) = [a.key for a in edge.journal.accept([asked(POST)])]
    edge.journal.close()

    after = edge_of(edge.database, tmp_path, edge.wall, boot="the next one")
    (new,) = [a.key for a in after.journal.accept([asked()])]

    assert new.request_id == once.request_id + 1
    assert str(after.journal.standings([once])[once].state) == "released"


def test_requests_that_are_lost_with_a_journal_under_a_running_agent_have_failed(edge: Edge, tmp_path: Path) -> None:
    """Its line sees that the journal has forgotten what it was told."""
    run = edge.opened()
    edge.line.follow()
    (key,) = [a.key for a in edge.journal.accept([asked()])]
    edge.line.ship()
    for path in tmp_path.iterdir():
        path.unlink()

    for _ in range(3):
        edge.line.follow()
    edge.line.ship()

    assert [(k, state, reason) for k, state, _, reason, _ in edge.at_the_centre()] == [(key.request_id, "failed", "journal-lost")]
    assert edge.journal.numbers_left(run.run_id) > 0


def test_requests_that_are_lost_with_a_journal_have_failed(edge: Edge, tmp_path: Path) -> None:
    """Nobody has what their callers sent any more; the run ends, and what the new journal accepts is untouched."""
    run = edge.opened()
    waiting, running, ended = [a.key for a in edge.journal.accept([asked(), asked(), asked()])]
    works = {w.request_id: w for w in edge.start([running, ended])}
    edge.journal.settle([success(ended.run_id, ended.request_id, works[ended.request_id].epoch)])
    edge.line.ship()
    edge.journal.close()
    for path in tmp_path.glob("c1.db*"):
        path.unlink()
    again = edge_of(edge.database, tmp_path, edge.wall)
    again.line.follow()
    (new,) = [a.key for a in again.journal.accept([asked()])]
    again.line.follow()
    again.line.ship()

    found = {row[0]: (row[1], row[3]) for row in edge.at_the_centre()}
    assert found == {
        waiting.request_id: ("failed", "journal-lost"),
        running.request_id: ("failed", "journal-lost"),
        ended.request_id: ("succeeded", ""),
        new.request_id: ("released", ""),
    }
    (share, _) = PostgresShareStore(edge.database).shares(run.run_id)
    assert (share.accepted, share.terminal) == (4, 3)
    again.journal.close()


# ---- the file ----------------------------------------------------------------------------------------------------------


def test_a_journal_of_the_version_before_is_made_one_of_this(tmp_path: Path) -> None:
    """With what it has; an upgrade must not cost the requests that wait in it."""
    world = sqlite_journal_world(tmp_path / "c1.db")
    run_id = world.released(WEB, WEB)
    world.journal.close()
    old = sqlite3.connect(tmp_path / "c1.db")
    for table in ("number_block", "call", "answer", "call_key"):
        old.execute(f"DROP TABLE {table}")
    for table, columns in (
        ("request", ("tenant", "patience_s", "is_repeatable", "waits_from_s", "dispatched_at_s", "decided")),
        (
            "event",
            ("due_s", "target_s", "cpu_work_s", "memory_mib", "tenant", "waits_from_s", "dispatched_at_s", "sent_s", "decided"),
        ),
    ):
        for column in columns:
            old.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    old.execute("UPDATE meta SET value = 1 WHERE name = 'format'")
    old.commit()
    old.close()
    fresh = sqlite3.connect(":memory:")
    for statement in SCHEMA:
        fresh.execute(statement)

    upgraded = sqlite_journal_world(tmp_path / "c1.db")

    assert set(UPGRADES) == set(range(1, FORMAT))
    assert upgraded.journal.waiting() == 2
    assert len(upgraded.arrivals(run_id, [0, 1])) == 2

    def columns_of(connection: sqlite3.Connection) -> dict[str, set[str]]:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in tables}

    assert upgraded.journal._database.read(columns_of) == columns_of(fresh)
    upgraded.journal.close()


def test_a_full_disk_accepts_nothing(edge: Edge) -> None:
    """The gateway hears of it at once and keeps nothing half."""
    run = edge.opened()
    left = edge.journal.numbers_left(run.run_id)
    (pages,) = edge.journal._database.read(lambda c: c.execute("PRAGMA page_count").fetchone())

    def full(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    edge.journal._database.read(full)
    with pytest.raises(StoreUnavailable, match="free some space on its disk"):
        edge.journal.accept([asked(replace(POST, body=b"x" * (1 << 20)))])

    assert edge.journal.numbers_left(run.run_id) == left
    assert edge.journal.waiting() == 0
