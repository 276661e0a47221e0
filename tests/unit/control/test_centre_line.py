"""The line to the centre: a share is handed over whole, what happened is shipped once, and a cut at any call loses nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from tango.control.centre_line import NOTED_AGAIN_S, CentreLine
from tango.control.following import Following
from tango.domain.runs import RunStatus
from tango.domain.shares import LcWait
from tango.errors import StoreUnavailable
from tango.settings import JournalSettings
from tests.fakes.control_world import ControlWorld, control_world
from tests.fakes.faulty import Faulty
from tests.fakes.journal_world import LC, JournalWorld, memory_rows
from tests.fakes.memory_journal import MemoryJournal
from tests.fakes.own_fleet import published
from tests.fakes.store_world import BATCH, MAX_ATTEMPTS, WEB, ZERO_S, success
from tests.fakes.tokens import MemoryTokenStore

SETTINGS = JournalSettings(share_rows=2, shipment_events=3, ahead_s=100.0)


@pytest.fixture
def centre() -> ControlWorld:
    """In memory; it is ZERO_S."""
    return control_world()


@pytest.fixture
def edge(centre: ControlWorld) -> JournalWorld:
    """The journal of c1, without a request."""
    journal = MemoryJournal("c1", max_attempts=MAX_ATTEMPTS, lc=LC, wall_s=centre.clock.now_s)
    journal.publish(published())
    return JournalWorld(journal, centre.clock.now_s, lambda run_id: memory_rows(journal, run_id))  # type: ignore[arg-type]


class Cut:
    """A port that answers so many calls, then is away until `mended`; the call at which it is cut happens, and its answer is lost."""

    def __init__(self, port: Any, *, after: int) -> None:
        self._port, self.left = port, after

    def mended(self) -> None:
        """From now on every call is answered."""
        self.left = 10**9

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.left <= 0:
                raise StoreUnavailable("the line is cut")
            found = getattr(self._port, name)(*args, **kwargs)
            self.left -= 1
            if self.left == 0:
                raise StoreUnavailable("the line was cut")
            return found

        return call


NO_LIVE: Any = None
"""Of no use without a live run; `tests/integration/test_requests_of_callers.py` has one."""


def line_of(centre: ControlWorld, edge: JournalWorld, *, shares: Any = None, settings: JournalSettings = SETTINGS) -> CentreLine:
    """The line of c1."""
    shares, seconds = shares or centre.shares, itertools.count()  # between two looks a second passes, so that each reads anew
    following = Following(shares, ["c1"], monotonic=lambda: next(seconds))
    return CentreLine(
        "c1",
        shares=shares,
        tokens=MemoryTokenStore(),
        live=NO_LIVE,
        following=following,
        journal=edge.journal,
        clock=centre.clock,
        settings=settings,
    )


def work(edge: JournalWorld, run_id: int) -> None:
    """Release, dispatch and settle everything that the journal has of a run."""
    edge.release(run_id)
    started = edge.start(run_id, range(100)).started
    edge.journal.settle([success(run_id, w.request_id, w.epoch) for w in started])


# ---- runs --------------------------------------------------------------------------------------------------------------


def test_a_journal_is_told_of_its_runs_only_when_they_have_changed(centre: ControlWorld, edge: JournalWorld) -> None:
    """Four times a second they are looked at, and mostly nothing has."""
    run_id = centre.create(WEB)
    journal = Faulty(edge.journal)
    line = line_of(centre, replace(edge, journal=journal))

    def told() -> int:
        before = len(journal.calls_of("follow"))
        line.follow()
        return len(journal.calls_of("follow")) - before

    found = [told(), told()]
    centre.runs.set_status(run_id, RunStatus.RUNNING)
    found += [told(), told()]

    assert found == [1, 0, 1, 0]
    assert [run.status for run in edge.journal.runs()] == [RunStatus.RUNNING]


# ---- hand-over ---------------------------------------------------------------------------------------------------------


def test_a_share_is_handed_over_in_parts_and_only_the_own_one(centre: ControlWorld, edge: JournalWorld) -> None:
    """LC that enters c1, in order; what enters c2 and BE stay where they are."""
    run_id = centre.create(*[WEB] * 9, BATCH)

    line_of(centre, edge).follow()

    assert [row.state for row in edge.rows(run_id)] == ["accepted"] * 5
    assert edge.journal.taken_to(run_id) == 8
    own, other = centre.shares.shares(run_id)
    assert (own.handed_to, own.complete) == (8, True)
    assert (other.handed_to, other.complete) == (-1, False)


def test_what_is_due_much_later_is_handed_over_later(centre: ControlWorld, edge: JournalWorld) -> None:
    """A journal need not hold a week: what is due within `ahead_s`, to the end of a part; the rest as time goes on."""
    run_id = centre.create(*[WEB] * 12, gap_s=30.0)
    line = line_of(centre, edge)

    line.follow()
    first = edge.journal.taken_to(run_id)
    centre.clock.turn(200.0)
    line.follow()

    assert first == 6
    assert edge.journal.taken_to(run_id) == 10
    assert centre.shares.shares(run_id)[0].complete


def test_a_run_that_was_stopped_first_is_not_taken(centre: ControlWorld, edge: JournalWorld) -> None:
    """The centre cancels what was never handed over."""
    run_id = centre.create(WEB)
    centre.runs.cancel(run_id)

    line_of(centre, edge).follow()

    assert edge.rows(run_id) == []
    assert centre.runs.sweep_cancelled(run_id).cancelled == 1


def test_a_run_that_is_stopped_later_is_cancelled_by_the_journal_as_far_as_it_has_it(
    centre: ControlWorld, edge: JournalWorld
) -> None:
    """The rest by the centre, once the line has said how far that is: together all of it, and none twice."""
    run_id = centre.create(*[WEB] * 12, gap_s=30.0)
    line = line_of(centre, edge)
    line.follow()
    centre.runs.cancel(run_id)
    before = centre.runs.sweep_cancelled(run_id)

    line.follow()
    by_journal = edge.journal.cancel_stopped(limit=100)
    line.ship()
    by_centre = centre.runs.sweep_cancelled(run_id)

    assert by_journal == 4  # 0, 2, 4, 6
    assert before.cancelled == 6  # the whole share of c2, which nobody has opened
    assert by_centre.cancelled == 2  # 8 and 10
    assert set(centre.states(run_id)) == {"cancelled"}
    assert centre.runs.close_cancelled(run_id)


# ---- shipments ---------------------------------------------------------------------------------------------------------


def test_what_happened_is_shipped_in_parts(centre: ControlWorld, edge: JournalWorld) -> None:
    """All of it in one call, however many shipments that takes; the journal forgets what has ended."""
    run_id = centre.create(*[WEB] * 10)
    line = line_of(centre, edge)
    line.follow()
    work(edge, run_id)

    line.ship()

    assert centre.states(run_id)[::2] == ["succeeded"] * 5
    assert edge.rows(run_id) == []
    assert edge.journal.unshipped(limit=1) is None


def test_the_journals_file_is_looked_after_while_the_line_is_cut(
    centre: ControlWorld, edge: JournalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first step on, before the centre has ever been reached."""
    calls: list[int] = []
    monkeypatch.setattr(edge.journal, "copy_back", lambda: calls.append(1))

    line_of(centre, edge, shares=Cut(centre.shares, after=0)).ship()

    assert calls == [1]


def test_the_centre_counts_what_is_in_flight(centre: ControlWorld, edge: JournalWorld) -> None:
    """As the journal has it, and told again only when it has changed."""
    run_id = centre.create(*[WEB] * 4)
    line = line_of(centre, edge)
    line.publish()
    line.follow()
    edge.release(run_id)
    edge.start(run_id, range(4))

    line.ship()
    before = centre.shares.lc_waits()
    more = centre.create(WEB, WEB)
    line.follow()
    edge.release(more)
    centre.clock.turn(2.0)
    line.ship()

    assert centre.fleet.snapshot(at_s=0.0).in_flight.sum() == 2
    assert (before, centre.shares.lc_waits()) == ({}, {"c1": LcWait(under_way=3, late=1)})


def test_counts_that_have_not_changed_are_told_again_after_a_while(centre: ControlWorld, edge: JournalWorld) -> None:
    """The centre does not wait for its disk with them: a loss of power may have brought back what was before."""
    run_id = centre.create(WEB)
    line = line_of(centre, edge)
    line.publish()
    line.follow()
    edge.release(run_id)
    edge.start(run_id, [0])
    line.ship()
    centre.state.in_flight.clear()

    line.ship()
    before = dict(centre.state.in_flight)
    centre.clock.turn(NOTED_AGAIN_S + 1.0)
    line.ship()

    assert before == {}
    assert [found.requests for found in centre.state.in_flight["c1"]] == [1]


@pytest.mark.parametrize("after", range(1, 16))
def test_a_cut_at_any_call_loses_nothing_and_doubles_nothing(centre: ControlWorld, edge: JournalWorld, after: int) -> None:
    """Whichever call it meets, with its answer lost: when the line is back all goes on to the same end."""
    run_id = centre.create(*[WEB] * 10)
    shares = Cut(centre.shares, after=after)
    line = line_of(centre, edge, shares=shares)

    for k in itertools.count():
        try:
            line.follow()
            work(edge, run_id)
            line.ship()
            break
        except StoreUnavailable:
            assert k < 3
            shares.mended()

    assert centre.states(run_id)[::2] == ["succeeded"] * 5
    assert centre.attempts(run_id) == [(k, 1, "succeeded", "") for k in range(0, 10, 2)]
    assert centre.shares.shares(run_id)[0].terminal == 5


def test_what_a_restored_centre_has_forgotten_is_shipped_once_more(centre: ControlWorld, edge: JournalWorld) -> None:
    """A journal keeps what it has shipped for a while: nothing is lost, nothing runs twice, each counts once."""
    line, run_id = restored(centre, edge, kept_events=1000)

    line.ship()
    again = [row.state for row in edge.rows(run_id)]
    line.follow()
    work(edge, run_id)
    edge.journal.settle([success(run_id, 6, 1)])
    line.ship()

    assert again == ["running", "accepted"]  # 6 and 8
    assert centre.states(run_id)[::2] == ["succeeded"] * 5
    assert [a[:3] for a in centre.attempts(run_id)] == [(k, 1, "succeeded") for k in range(0, 9, 2)]
    assert (centre.shares.gaps(), centre.shares.shares(run_id)[0].terminal) == ([], 5)


def restored(centre: ControlWorld, edge: JournalWorld, *, kept_events: int = 0) -> tuple[CentreLine, int]:
    """A centre as its backup had it: it knows that 0 has ended, and that 2, 4 and 6 run. Its journal keeps so many events.

    2 has ended since then, and was shipped; 4 has ended and was not; 6 is under way, and 8 is not due.
    """
    edge.keeps(kept_events)
    run_id = centre.create(*[WEB] * 9)
    line = line_of(centre, edge)
    line.follow()
    edge.release(run_id, until_s=6.5)
    started = {w.request_id: w.epoch for w in edge.start(run_id, range(9)).started}
    edge.journal.settle([success(run_id, 0, started[0])])
    line.ship()
    backup = dict(centre.state.positions), [replace(row) for row in centre.state.runs[run_id].rows], list(centre.state.attempts)
    edge.journal.settle([success(run_id, 2, started[2])])
    line.ship()
    edge.journal.settle([success(run_id, 4, started[4])])
    centre.state.positions, centre.state.runs[run_id].rows, centre.state.attempts = backup
    share = centre.state.shares[run_id, "c1"]
    share.terminal, share.opened, share.handed_to = 1, False, -1
    return line, run_id


def test_a_journal_goes_on_by_itself_without_what_neither_has(centre: ControlWorld, edge: JournalWorld) -> None:
    """What it has is kept, ended or not; what had ended in between runs once more; each counts once; what is lost is told."""
    line, run_id = restored(centre, edge)

    line.ship()
    again = [row.state for row in edge.rows(run_id)]
    line.follow()
    work(edge, run_id)
    edge.journal.settle([success(run_id, 6, 1)])
    line.ship()

    assert [(gap.cluster, gap.missing > 0) for gap in centre.shares.gaps()] == [("c1", True)]
    assert again == ["accepted", "running", "accepted"]  # 2, 6 and 8
    assert centre.states(run_id)[::2] == ["succeeded"] * 5
    assert [a[:3] for a in centre.attempts(run_id)] == [(k, 1 + (k == 2), "succeeded") for k in range(0, 9, 2)]
    assert centre.shares.shares(run_id)[0].terminal == 5


@pytest.mark.parametrize("kept_events", [0, 1, 1000])
@pytest.mark.parametrize("after", range(1, 9))
def test_a_cut_while_a_journal_goes_on_loses_nothing_and_doubles_nothing(
    centre: ControlWorld, edge: JournalWorld, after: int, kept_events: int
) -> None:
    """At whichever call, with all of what was forgotten still there, some, or none."""
    _, run_id = restored(centre, edge, kept_events=kept_events)
    shares = Cut(centre.shares, after=10**9)
    line = line_of(centre, edge, shares=shares)
    line.follow()
    shares.left = after

    for k in itertools.count():
        try:
            line.ship()
            line.follow()
            work(edge, run_id)
            edge.journal.settle([success(run_id, 6, 1)])
            line.ship()
            break
        except StoreUnavailable:
            assert k < 3
            shares.mended()

    assert centre.states(run_id)[::2] == ["succeeded"] * 5
    assert [a[:3] for a in centre.attempts(run_id)] == [(k, 1 + (k == 2 and not kept_events), "succeeded") for k in range(0, 9, 2)]


def test_a_number_that_a_restored_centre_has_given_to_another_run_is_left_alone(centre: ControlWorld, edge: JournalWorld) -> None:
    """The journal has the run that the centre has forgotten: nothing of the new one is taken under its number."""
    run_id = centre.create(*[WEB] * 4, name="forgotten")
    line = line_of(centre, edge)
    line.follow()
    del centre.state.runs[run_id], centre.state.shares[run_id, "c1"], centre.state.shares[run_id, "c2"]
    other = centre.create(*[WEB] * 6)

    line.follow()

    assert other == run_id
    assert (edge.journal.run(run_id).name, len(edge.rows(run_id))) == ("forgotten", 2)
    assert centre.shares.shares(other)[0].handed_to == -1


def test_a_journal_that_served_another_centre_begins_anew(centre: ControlWorld, edge: JournalWorld) -> None:
    """Its database was made anew: runs are numbered from 1 again, and what the journal knows of run 1 is of another one."""
    old = control_world()
    first = old.create(*[WEB] * 4)
    line = line_of(old, edge)
    line.follow()
    work(edge, first)
    run_id = centre.create(*[WEB] * 10)

    line = line_of(centre, edge)
    line.follow()
    work(edge, run_id)
    line.ship()

    assert run_id == first
    assert centre.states(run_id)[::2] == ["succeeded"] * 5


def test_runs_are_known_beside_the_cluster_with_their_beginning_and_end(centre: ControlWorld, edge: JournalWorld) -> None:
    """The keeper releases by the zero that the centre has set; an ended run is forgotten."""
    run_id = centre.submit(WEB)
    line = line_of(centre, edge)
    line.follow()
    before = edge.journal.run(run_id).started_at_s
    centre.runs.begin(run_id, at_s=ZERO_S + 5.0)
    line.follow()
    begun = edge.journal.run(run_id).started_at_s
    work(edge, run_id)
    line.ship()
    centre.runs.set_status(run_id, RunStatus.COMPLETED)
    line.follow()

    assert (before, begun) == (None, ZERO_S + 5.0)
    assert edge.journal.runs() == []


def test_what_a_lost_journal_had_is_taken_by_the_one_that_follows_it(centre: ControlWorld, edge: JournalWorld) -> None:
    """As far as the centre has it live, under its epochs: nothing stays behind, and what had ended does not run again."""
    run_id = centre.create(*[WEB] * 6)
    line = line_of(centre, edge)
    line.follow()
    edge.release(run_id)
    started = edge.start(run_id, [0, 2]).started
    edge.journal.settle([success(run_id, 0, started[0].epoch)])
    line.ship()
    fresh = MemoryJournal("c1", max_attempts=MAX_ATTEMPTS, lc=LC, wall_s=centre.clock.now_s, identity=2)
    fresh.publish(published())
    after = JournalWorld(fresh, centre.clock.now_s, lambda run_id: memory_rows(fresh, run_id))  # type: ignore[arg-type]

    line = line_of(centre, after)
    line.follow()
    line.follow()
    taken = [(row.state, row.epoch) for row in after.rows(run_id)]
    work(after, run_id)
    line.ship()

    assert taken == [("accepted", 1), ("accepted", 0)]
    assert centre.states(run_id)[::2] == ["succeeded"] * 3
    assert [a[:3] for a in centre.attempts(run_id)] == [(0, 1, "succeeded"), (2, 2, "succeeded"), (4, 1, "succeeded")]


def test_a_run_that_was_stopped_after_its_journal_was_lost_ends_all_the_same(centre: ControlWorld, edge: JournalWorld) -> None:
    """The journal that follows takes what the lost one had, and cancels it."""
    run_id = centre.create(*[WEB] * 6)
    line_of(centre, edge).follow()
    centre.runs.cancel(run_id)
    fresh = MemoryJournal("c1", max_attempts=MAX_ATTEMPTS, lc=LC, wall_s=centre.clock.now_s, identity=2)
    after = JournalWorld(fresh, centre.clock.now_s, lambda run_id: memory_rows(fresh, run_id))  # type: ignore[arg-type]

    line = line_of(centre, after)
    line.follow()
    fresh.cancel_stopped(limit=100)
    line.ship()
    centre.runs.sweep_cancelled(run_id)

    assert set(centre.states(run_id)) == {"cancelled"}
    assert centre.runs.close_cancelled(run_id)
