"""Cancelling in the background: chunk by chunk, pods and all, by whoever comes, as often as it takes."""

from __future__ import annotations

import pytest

from tango.control.cancel_run import LEASE, CancelSweep, cancel_active, requests_left
from tango.domain.identity import PodKey
from tango.domain.runs import RunStatus
from tango.settings import CancelSettings, StoreSettings
from tests.fakes.control_world import ControlWorld, control_world
from tests.fakes.store_world import BATCH, LIVE_S, WEB

SETTINGS = CancelSettings(slice_s=5e-6, lease_s=10.0, late_pod_s=1.0)
"""Each look at the test's clock takes 1 us: a slice has time for a few chunks."""


class Records:
    """BE pods that cancellations cut off, as the attempts tell them."""

    def __init__(self, world: ControlWorld) -> None:
        self.world = world

    def cancelled_pods(self, run_id: int) -> list[PodKey]:
        """By attempt."""
        cut = [a for a in self.world.state.attempts if a.run_id == run_id and a.outcome == "cancelled"]
        rows = [self.world.row(run_id, a.request_id) for a in cut]
        return [PodKey(row.target_cluster, row.pod) for row in rows if row.pod]


@pytest.fixture
def world() -> ControlWorld:
    """In memory, two requests a chunk."""
    return control_world(store=StoreSettings(chunk_rows=2))


def new_sweep(world: ControlWorld, *, settings: CancelSettings = SETTINGS) -> CancelSweep:
    """That of a process that has just begun."""
    return CancelSweep(
        runs=world.runs,
        records=Records(world),
        leases=world.leases,
        clusters=lambda: world.clusters,
        clock=world.clock,
        order_figures=world.figures.order,
        settings=settings,
    )


def test_a_cancelled_run_is_swept_in_slices_and_closed(world: ControlWorld) -> None:
    """No slice takes more than its time; what is left is told meanwhile, and the books add up after each."""
    run_id = world.created(*[WEB] * 20)
    world.runs.cancel(run_id)
    sweep, left, reports = new_sweep(world), [requests_left(run_id, runs=world.runs)], []

    while world.runs.run(run_id).status is RunStatus.CANCELLING:
        reports.append(sweep.sweep(owner="a"))
        left.append(requests_left(run_id, runs=world.runs))
        assert world.runs.counts(run_id).accepted == 20

    assert len(reports) > 2
    assert sum(report["cancelled"] for report in reports) == 20
    assert left[0] == 20
    assert left[-1] == 0
    assert sorted(left, reverse=True) == left
    assert world.states(run_id) == ["cancelled"] * 20


def test_pods_of_cancelled_requests_are_deleted_and_once_more_before_the_run_is_closed(world: ControlWorld) -> None:
    """The scheduler may have been between the record of a placement and its pod: such a pod comes late."""
    run_id = world.pending(BATCH, BATCH, BATCH)
    world.place(world.requests.pending_be(limit=2), world.fence())
    pods = [PodKey("c1", world.row(run_id, k).pod) for k in (0, 1)]
    world.runs.cancel(run_id)

    report = new_sweep(world, settings=CancelSettings(late_pod_s=1.0)).sweep(owner="a")

    assert report == {"cancelled": 3, "pods": 2, "closed": 1}
    assert world.clusters.deleted == pods + pods
    assert world.clock.slept_s == [1.0]
    assert world.runs.run(run_id).status is RunStatus.CANCELLED


def test_another_process_goes_on_where_one_died(world: ControlWorld) -> None:
    """Where a sweep stands is only a hint: a process without it finds what is live by itself."""
    run_id = world.created(*[WEB] * 12)
    world.runs.cancel(run_id)
    first = new_sweep(world).sweep(owner="a")["cancelled"]
    world.clock.turn(11.0)

    second = new_sweep(world, settings=CancelSettings()).sweep(owner="b")

    assert 0 < first < 12
    assert second == {"cancelled": 12 - first, "pods": 0, "closed": 1}


def test_one_sweeps_at_a_time(world: ControlWorld) -> None:
    """While somebody holds the lease nothing is done, and afterwards it is free again."""
    run_id = world.created(WEB)
    world.runs.cancel(run_id)
    held = world.leases.acquire(LEASE, owner="a", ttl_s=LIVE_S)

    report = new_sweep(world).sweep(owner="b")

    assert report["cancelled"] == 0
    world.leases.release(held)
    assert new_sweep(world, settings=CancelSettings()).sweep(owner="b")["closed"] == 1
    assert world.free(LEASE)


def test_without_a_cancelled_run_nothing_is_asked_of_anybody(world: ControlWorld) -> None:
    """The tick comes every second: it takes no lease and calls no cluster."""
    run_id = world.created(WEB)

    assert new_sweep(world).sweep(owner="a") == {"cancelled": 0, "pods": 0, "closed": 0}
    assert world.clusters.calls == []
    assert requests_left(run_id, runs=world.runs) is None


def test_all_that_is_active_can_be_cancelled_at_once(world: ControlWorld) -> None:
    """What an interrupted command left behind; a run that has ended stays what it is, and a second call finds nothing."""
    going, ended = world.created(WEB), world.created(WEB)
    world.runs.set_status(ended, RunStatus.COMPLETED)

    stopped = cancel_active(world.runs)

    assert stopped == [going]
    assert world.runs.run(going).status is RunStatus.CANCELLING
    assert world.runs.run(ended).status is RunStatus.COMPLETED
    assert cancel_active(world.runs) == []
