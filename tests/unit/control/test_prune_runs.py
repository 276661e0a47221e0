"""Pruning: which runs are deleted at a command and again and again, and which are not touched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tango.control.prune_runs import LEASE, Pruned, Retention, prune_runs, to_prune
from tango.domain.retention import RetentionRule
from tango.domain.runs import RunKind, RunStatus
from tango.domain.services import ServiceClass
from tango.errors import StoreBusy, UsageError
from tango.settings import RetentionSettings, StoreSettings
from tests.fakes.control_world import ControlWorld, control_world
from tests.fakes.memory_state import Attempt
from tests.fakes.run_store import MemoryRunStore
from tests.fakes.store_world import WEB, ZERO_S

DAY_S = 86_400.0
SETTINGS = RetentionSettings(older_than_s=30 * DAY_S, keep=1, slice_s=1.0)


def ended(
    world: ControlWorld, kind: RunKind = RunKind.REPLAYED, status: RunStatus = RunStatus.COMPLETED, days_ago: float = 0
) -> int:
    """A run of this kind that has ended so, some days before ZERO_S."""
    run_id = world.submit(WEB)
    run = world.state.runs[run_id]
    run.info = replace(run.info, kind=kind, status=status)
    run.ended_at_s = ZERO_S - days_ago * DAY_S
    return run_id


def left(world: ControlWorld) -> list[int]:
    """Ids of the runs that are there, oldest first."""
    return sorted(run.run_id for kind in RunKind for run in world.runs.runs(kind=kind))


def pruned(world: ControlWorld, rule: RetentionRule) -> Pruned:
    """What a command does at ZERO_S."""
    return prune_runs(world.runs, rule, now_s=ZERO_S)


def attempt(run_id: int, request_id: int) -> Attempt:
    """What is recorded of a request that was answered."""
    return Attempt(
        run_id=run_id,
        request_id=request_id,
        epoch=1,
        service="web",
        cluster="c1",
        node="c1-n1",
        service_class=ServiceClass.LC,
        latency_s=0.1,
        outcome="succeeded",
        reason="",
        work_lost_s=0.0,
        ended_at_s=ZERO_S,
    )


def new_retention(world: ControlWorld, settings: RetentionSettings = SETTINGS) -> Retention:
    """That of a process that has just begun."""
    return Retention(runs=world.runs, leases=world.leases, clock=world.clock, settings=settings)


def test_the_newest_ended_runs_of_each_kind_are_kept(world: ControlWorld) -> None:
    """However a run ended, and each kind for itself: many simulated runs do not push the live ones out."""
    live = [ended(world, status=status) for status in (RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.COMPLETED)]
    simulated = [ended(world, RunKind.SIMULATED, status) for status in (RunStatus.COMPLETED, RunStatus.FAILED)]

    done = pruned(world, RetentionRule(keep=1))

    assert (done.kept, done.deleted) == (2, 3)
    assert left(world) == [live[-1], simulated[-1]]


def test_a_run_that_has_not_ended_is_neither_deleted_nor_counted(world: ControlWorld) -> None:
    """It may be the oldest of all; it takes no place of one that is kept."""
    going = world.submit(WEB)
    old, new = ended(world), ended(world)

    done = pruned(world, RetentionRule(keep=1))

    assert done.deleted == 1
    assert old not in left(world)
    assert left(world) == [going, new]


def test_one_kind_can_be_pruned_alone(world: ControlWorld) -> None:
    """And with `keep` 0 nothing of it stays."""
    live = ended(world)
    ended(world, RunKind.SIMULATED)

    done = pruned(world, RetentionRule(keep=0, kinds=(RunKind.SIMULATED,)))

    assert done.deleted == 1
    assert left(world) == [live]


def test_whoever_asks_for_a_pruned_run_hears_why_it_is_not_there(world: ControlWorld) -> None:
    """A number that was written down weeks ago is no typing error."""
    old = ended(world, days_ago=31)

    pruned(world, RetentionRule(keep=0, older_than_s=30 * DAY_S))

    with pytest.raises(
        UsageError, match=rf"no run {old} any more: it was deleted on .* \(ended more than 30 d ago, tango run prune\)"
    ):
        world.runs.run(old)


def test_what_would_be_deleted_is_told_and_stays(world: ControlWorld) -> None:
    """For `--dry-run`."""
    old, new = ended(world, days_ago=3), ended(world)

    found = to_prune(world.runs, RetentionRule(keep=0, older_than_s=2 * DAY_S), now_s=ZERO_S)

    assert [(one.run.run_id, one.why) for one in found] == [(old, "ended more than 2 d ago")]
    assert left(world) == [old, new]


def test_the_periodic_pruning_is_off_unless_somebody_has_set_it(world: ControlWorld) -> None:
    """A run is what people come back to: nothing goes by itself."""
    ended(world, days_ago=5000)

    assert not RetentionSettings().is_on
    assert new_retention(world, RetentionSettings()).prune(owner="a")["deleted"] == 0
    assert len(left(world)) == 1


def test_the_periodic_pruning_keeps_what_its_settings_say(world: ControlWorld) -> None:
    """Too old ones go but for the newest of a kind."""
    oldest, old, _young = ended(world, days_ago=90), ended(world, days_ago=60), ended(world, days_ago=1)
    only_one = ended(world, RunKind.SIMULATED, days_ago=200)

    report = new_retention(world).prune(owner="a")

    assert report == {"deleted": 2, "left": 0, "observations": 0}
    assert not {oldest, old} & set(left(world))
    assert only_one in left(world)
    assert "by retention" in world.state.deleted[oldest]


def test_one_process_prunes_at_a_time(world: ControlWorld) -> None:
    """The others find nothing to do."""
    ended(world, days_ago=90), ended(world, days_ago=60)
    assert world.leases.acquire(LEASE, owner="b", ttl_s=100.0) is not None

    assert new_retention(world).prune(owner="a")["deleted"] == 0
    assert len(left(world)) == 2


def test_what_does_not_fit_into_a_slice_goes_with_the_next_ones() -> None:
    """A run of many attempts is deleted chunk by chunk and is the run of whoever comes next, whichever process that is."""
    world = control_world(store=StoreSettings(chunk_rows=2))
    run_id = ended(world, days_ago=90)
    ended(world)
    world.state.attempts = [attempt(run_id, k) for k in range(9)]
    settings = replace(SETTINGS, slice_s=4e-6)  # each look at the test's clock takes 1 us
    reports = []

    while run_id in left(world) and len(reports) < 50:
        reports.append(new_retention(world, settings).prune(owner="a"))

    assert len(reports) > 1
    assert [report["deleted"] for report in reports] == [0] * (len(reports) - 1) + [1]


def test_a_run_that_somebody_reads_is_left_to_the_next_time(world: ControlWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go meanwhile."""
    read, other = ended(world, days_ago=90), ended(world, days_ago=60)
    ended(world)
    delete = MemoryRunStore.delete

    def busy(self: MemoryRunStore, run_id: int, *, why: str = "", within_s: float = 60.0) -> None:
        if run_id == read:
            raise StoreBusy(f"run {run_id} is read")
        delete(self, run_id, why=why, within_s=within_s)

    monkeypatch.setattr(MemoryRunStore, "delete", busy)
    first = new_retention(world).prune(owner="a")
    monkeypatch.setattr(MemoryRunStore, "delete", delete)
    second = new_retention(world).prune(owner="a")

    assert (first["deleted"], first["left"], second["deleted"]) == (1, 1, 1)
    assert not {read, other} & set(left(world))
