"""Pruning: which runs are deleted, and which are not touched."""

from __future__ import annotations

from dataclasses import replace

from tango.control.prune_runs import Pruned, prune_runs
from tango.domain.runs import RunKind, RunStatus
from tests.fakes.control_world import ControlWorld
from tests.fakes.store_world import WEB


def ended(world: ControlWorld, kind: RunKind = RunKind.REPLAYED, status: RunStatus = RunStatus.COMPLETED) -> int:
    """A run of this kind that has ended so."""
    run_id = world.submit(WEB)
    run = world.state.runs[run_id]
    run.info = replace(run.info, kind=kind, status=status)
    return run_id


def left(world: ControlWorld) -> list[int]:
    """Ids of the runs that are there, oldest first."""
    return sorted(run.run_id for kind in RunKind for run in world.runs.runs(kind=kind))


def test_the_newest_ended_runs_of_each_kind_are_kept(world: ControlWorld) -> None:
    """However a run ended, and each kind for itself: many simulated runs do not push the live ones out."""
    live = [ended(world, status=status) for status in (RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.COMPLETED)]
    simulated = [ended(world, RunKind.SIMULATED, status) for status in (RunStatus.COMPLETED, RunStatus.FAILED)]

    done = prune_runs(world.runs, keep=1)

    assert done == Pruned(kept=2, deleted=3)
    assert left(world) == [live[-1], simulated[-1]]


def test_a_run_that_has_not_ended_is_neither_deleted_nor_counted(world: ControlWorld) -> None:
    """It may be the oldest of all; it takes no place of one that is kept."""
    going = world.submit(WEB)
    old, new = ended(world), ended(world)

    done = prune_runs(world.runs, keep=1)

    assert done == Pruned(kept=1, deleted=1)
    assert old not in left(world)
    assert left(world) == [going, new]


def test_one_kind_can_be_pruned_alone(world: ControlWorld) -> None:
    """And with `keep` 0 nothing of it stays."""
    live = ended(world)
    ended(world, RunKind.SIMULATED)

    done = prune_runs(world.runs, keep=0, kinds=(RunKind.SIMULATED,))

    assert done == Pruned(kept=0, deleted=1)
    assert left(world) == [live]
