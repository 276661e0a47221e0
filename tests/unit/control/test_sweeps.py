"""Sweeps on workers: what has no result is ordered once, and a command that waits asks again and says what is missing."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from tango.analysis.comparison import CellResult
from tango.control.sweeps import SweepCell
from tango.domain.checkpoints import CheckpointFile
from tango.domain.runs import RunStatus
from tango.errors import TangoError
from tango.learning.shipped import shipped_path
from tests.fakes.sweep_world import CELL, RESULT, SweepWorld, cells, fails


@pytest.fixture
def world() -> SweepWorld:
    """Nothing is ordered yet."""
    return SweepWorld()


def _nothing_said() -> None:
    """Nobody has to be told anything."""


def test_only_what_is_new_is_published(world: SweepWorld) -> None:
    """What is under way has its message already."""
    first = world.order(cells(1))

    second = world.order(cells(2))

    assert (len(first.new), first.under_way) == (1, 0)
    assert (len(second.new), second.under_way, second.finished) == (1, 1, frozenset())
    assert world.publisher.simulated == [*first.new, *second.new]


def test_cells_with_one_key_share_a_run(world: SweepWorld) -> None:
    """Equal cells have equal results: one computation answers both."""
    twice = cells(1) * 2

    order = world.order(twice)
    world.work(*order.new)
    results = world.sweep().results(order, done=lambda *_: None, nobody=_nothing_said)

    assert len(order.new) == 1
    assert results == [replace(RESULT, key="here-0")] * 2


def test_a_result_that_is_here_is_not_ordered_unless_its_rows_are_asked_for(world: SweepWorld) -> None:
    """Rows are in the database alone."""
    world.kept.keep(replace(RESULT, key="here-0"))

    figures_only = world.sweep().order(cells(2), record=False, forget=False)
    with_rows = world.sweep().order(cells(2), record=True, forget=False)

    assert list(figures_only.kept) == [0]
    assert list(figures_only.awaited.values()) == [(1,)]
    assert not with_rows.kept
    assert sorted(with_rows.awaited.values()) == [(0,), (1,)]


def test_results_come_in_order_and_are_kept_here(world: SweepWorld) -> None:
    """From this host, from an earlier command, and from now; each is told once, with whether it was there before."""
    asked = cells(3)
    world.kept.keep(replace(RESULT, key="here-1"))
    world.work(*world.order(asked[2:]).new)
    order = world.order(asked)
    told: list[tuple[int, str, bool]] = []

    def next_moment(_s: float) -> None:
        world.work(*order.new)

    def done(k: int, result: CellResult, before: bool) -> None:
        told.append((k, result.key, before))

    results = world.sweep(next_moment).results(order, done=done, nobody=_nothing_said)

    assert [result.key for result in results] == ["here-0", "here-1", "here-2"]
    assert sorted(told) == [(0, "here-0", False), (1, "here-1", True), (2, "here-2", True)]
    assert sorted(world.kept.results) == ["here-0", "here-1", "here-2"]


def test_cells_that_fail_are_told_after_the_others_are_kept(world: SweepWorld) -> None:
    """Failed with its words, cancelled, deleted: each is named by what the user asked for."""
    order = world.order(cells(4))
    failed, cancelled, deleted, good = sorted(order.new)
    world.work(failed, fails)
    world.store.cancel(cancelled)
    del world.store.runs[deleted]
    world.work(good)

    with pytest.raises(TangoError) as error:
        world.sweep().results(order, done=lambda *_: None, nobody=_nothing_said)

    assert str(error.value).splitlines() == [
        "3 of 4 cells failed; the others are kept:",
        f"tango, seed 0 (run {failed}): ValueError: no",
        f"tango, seed 1 (run {cancelled}): it was cancelled",
        f"run {deleted} was deleted",
    ]
    assert list(world.kept.results) == ["here-3"]


def test_a_cell_s_checkpoint_is_registered_before_the_cell_is_published(world: SweepWorld, tmp_path: Path) -> None:
    """A worker on another host has no file of this one; a cell whose result is here needs none, and a second order copies nothing."""
    path = tmp_path / "mine.pt"
    path.write_bytes(shipped_path("dcg-be").read_bytes())
    file = CheckpointFile(path=str(path), digest=hashlib.sha256(path.read_bytes()).hexdigest(), policy="dcg-be")
    asked = [SweepCell(key="here-0", simulation=CELL, checkpoint=file)]
    world.kept.keep(replace(RESULT, key="here-0"))
    world.order(asked)
    before = world.checkpoints.registered()
    world.kept.results.clear()

    world.order(asked)
    path.unlink()
    world.order(asked)

    assert before == []
    assert [(stored.digest, stored.note) for stored in world.checkpoints.registered()] == [
        (file.digest, "for a comparison on workers")
    ]


def test_a_broker_that_is_away_costs_only_time(world: SweepWorld) -> None:
    """The rows stand, and are published when it is back."""
    world.publisher.away = True
    (run_id,) = world.ordered()
    world.store.age(run_id, 60.0)

    def next_moment(_s: float) -> None:
        world.publisher.away = False
        if world.publisher.simulated:
            world.work(run_id)
        world.store.age(run_id, 60.0)

    ended = world.awaited([run_id], next_moment)

    assert world.publisher.simulated == [run_id]
    assert [state.status for state in ended] == [RunStatus.COMPLETED]


def test_the_command_waits_for_all_and_tells_each_once(world: SweepWorld) -> None:
    """A failed cell does not end the others."""
    run_ids = world.ordered(3)
    todo = list(run_ids)

    def next_moment(_s: float) -> None:
        run_id = todo.pop(0)
        if run_id == run_ids[0]:
            world.work(run_id, fails)
        else:
            world.work(run_id)

    ended = world.awaited(run_ids, next_moment)

    assert [state.run_id for state in ended] == run_ids
    assert [state.status for state in ended] == [RunStatus.FAILED, RunStatus.COMPLETED, RunStatus.COMPLETED]


def test_a_lost_message_is_published_again(world: SweepWorld) -> None:
    """After a while, a few at a time while nobody works; messages that come twice do no harm."""
    run_ids = world.ordered(20)
    world.publisher.simulated.clear()  # the broker forgot

    def next_moment(_s: float) -> None:
        for run_id in world.publisher.simulated:
            world.work(run_id)
        for run_id in run_ids:
            world.store.age(run_id, 4.0)

    world.awaited(run_ids, next_moment)

    assert sorted(set(world.publisher.simulated)) == run_ids
    assert len(world.publisher.simulated) == 20


def test_the_command_says_what_to_start_when_nobody_takes_a_cell(world: SweepWorld) -> None:
    """After some seconds, not at once, and not again and again."""
    run_ids = world.ordered()
    slept_s, hints = [0.0], []

    def sleep(for_s: float) -> None:
        slept_s[0] += for_s
        if slept_s[0] >= 60.0:
            world.work(run_ids[0])

    list(world.sweep(sleep).ended(run_ids, nobody=lambda: hints.append(slept_s[0])))

    assert len(hints) == 1
    assert 5.0 < hints[0] < 10.0


def test_a_deleted_run_is_not_waited_for(world: SweepWorld) -> None:
    """Somebody may tidy up meanwhile."""
    run_ids = world.ordered(2)
    world.work(run_ids[0])
    del world.store.runs[run_ids[1]]

    assert [state.run_id for state in world.awaited(run_ids, lambda _s: None)] == run_ids[:1]
