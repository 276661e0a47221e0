"""What journals commit is counted once: requests that ended by service and outcome, latencies, dispatches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tango.domain.lifecycle import Event, Outcome
from tango.domain.requests import Reason
from tango.exporter.processes import counted
from tango.telemetry import catalogue as of
from tests.fakes.counting import counting, series
from tests.fakes.journal_world import JournalWorld, sqlite_journal_world
from tests.fakes.store_world import CHAT, WEB, success


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where this process counts."""
    with counting(tmp_path / "metrics"):
        yield tmp_path / "metrics"


@pytest.fixture
def world(tmp_path: Path) -> JournalWorld:
    """A journal on SQLite."""
    return sqlite_journal_world(tmp_path / "c1.db")


def test_requests_that_end_are_counted_once_by_service_and_outcome(folder: Path, world: JournalWorld) -> None:
    """Due at 0, 1, 2 and 3 s with half a second: one in time, one late, one shed, one failed; a second end counts no more."""
    run_id = world.released(WEB, WEB, CHAT, WEB)
    world.start(run_id, [0, 1, 3])
    world.dispatch(run_id, [2], shed=True)
    failure = Outcome(run_id=run_id, request_id=3, epoch=1, event=Event.FAIL, reason=Reason.INSTANCE_REFUSED)
    ends = [success(run_id, 0, 1, finished_s=0.25), success(run_id, 1, 1, finished_s=2.0), failure]
    for _ in range(2):
        world.journal.settle(ends)

    assert series(folder, of.SERVICE_REQUESTS) == {
        ("web", "in_time"): 1,
        ("web", "late"): 1,
        ("chat", "shed"): 1,
        ("web", "failed"): 1,
    }
    (latencies,) = counted(folder).series(of.LATENCY).values()
    assert latencies[-1] == pytest.approx(1.25)
    assert latencies[:-1] == [float(bound in (0.3, 1.0)) for bound in of.LATENCIES_S] + [0.0]


def test_what_is_tried_again_has_not_ended(folder: Path, world: JournalWorld) -> None:
    """A requeue is no end of the request; the cancellation of its run is."""
    run_id = world.released(WEB, WEB)
    world.start(run_id, [0, 1])
    world.journal.settle(
        [Outcome(run_id=run_id, request_id=0, epoch=1, event=Event.REQUEUE, reason=Reason.TIMED_OUT, work_lost_s=0.1)]
    )
    assert series(folder, of.SERVICE_REQUESTS) == {}

    world.cancel(run_id)
    assert series(folder, of.SERVICE_REQUESTS) == {("web", "cancelled"): 2}


def test_a_transaction_that_is_rolled_back_counts_nothing(
    folder: Path, world: JournalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it did is undone, and done by a later one."""
    run_id = world.released(WEB)
    world.start(run_id, [0])

    def fails(*_: object) -> None:
        raise OSError("no disk")

    with monkeypatch.context() as patch:
        patch.setattr("tango.journal.attempts.note_ended", fails)
        with pytest.raises(OSError, match="no disk"):
            world.journal.settle([success(run_id, 0, 1)])
    assert series(folder, of.SERVICE_REQUESTS) == {}

    world.journal.settle([success(run_id, 0, 1, finished_s=0.1)])
    assert series(folder, of.SERVICE_REQUESTS) == {("web", "in_time"): 1}


def test_dispatches_are_counted_with_the_time_of_each_phase(folder: Path, world: JournalWorld) -> None:
    """As the decision's record has them; recording it is measured here."""
    run_id = world.released(WEB)
    world.dispatch(run_id, [0])

    phases = counted(folder).series(of.DECISION)
    assert {labels: sum(values[:-1]) for labels, values in phases.items()} == {
        ("lc", "snapshot"): 1,
        ("lc", "decide"): 1,
        ("lc", "apply"): 1,
    }
    assert phases["lc", "decide"][-1] == pytest.approx(0.2e-3)
    assert series(folder, of.DECIDED) == {("lc", "placed"): 1}
