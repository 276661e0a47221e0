"""Tenants in placements: nobody is hidden by a flood, quotas hold back, and who has waited for long gets what others give up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.control.tenant_order import considered_now, held_back, overtaken_by, with_changes
from tango.domain.changes import Change, ChangeKind
from tango.domain.identity import RequestKey
from tango.domain.lifecycle import Event, Outcome
from tango.domain.reasons import StateReason
from tango.domain.snapshot_assembly import as_seen
from tango.domain.tenants import Tenant
from tango.errors import StoreUnavailable
from tango.scheduling.tenant_turns import Considered, as_read
from tango.settings import TenantSettings
from tests.fakes.faulty import Faulty
from tests.fakes.memory_state import MemoryState
from tests.fakes.store_world import StoreWorld, memory_world, memory_world_and_state
from tests.fakes.tenant_worlds import Tenancy, be, fleet

SMALL = be("small", cpu_millicores=100, memory_mib=64)
LARGE = be("large", cpu_millicores=1000, memory_mib=64)
FLEET = fleet(SMALL, LARGE, nodes=2, cpu_millicores=2000, memory_mib=64_000)


@pytest.fixture
def world() -> tuple[StoreWorld, MemoryState]:
    """Two nodes of two cores."""
    return memory_world_and_state(FLEET)


@pytest.fixture
def tenancy(world: tuple[StoreWorld, MemoryState]) -> Tenancy:
    """There; a placement looks at eight requests."""
    return Tenancy(world=world[0], batch_limit=8)


@pytest.fixture
def state(world: tuple[StoreWorld, MemoryState]) -> MemoryState:
    """What the stores keep."""
    return world[1]


def of_whom(tenancy: Tenancy) -> list[str]:
    """The tenants whose pods were made, in order."""
    runs = {row.run_id: row.name for row in tenancy.world.runs.runs(limit=100)}
    return [runs[p.run_id] for p in tenancy.clusters.placed]


def looked_at(tenancy: Tenancy) -> Considered:
    """What an explanation takes the next placement to look at."""
    snapshot = tenancy.world.fleet.snapshot(at_s=0.0)
    read = as_seen(tenancy.world.requests.pending_be(limit=tenancy.batch_limit), snapshot)
    return considered_now(read, snapshot, tenancy.world.tenants, limit=tenancy.batch_limit)


def notes(state: MemoryState) -> list[str]:
    """What the decisions say, each once."""
    return list(dict.fromkeys(decision.note for decision, _ in state.decisions))


def test_a_flood_of_one_tenant_hides_nobody(tenancy: Tenancy) -> None:
    """A hundred came first; the two of another are in the first placement all the same, one for one."""
    tenancy.wants("red", SMALL, 100)
    tenancy.wants("blue", SMALL, 2)

    tenancy.placement.tick()

    assert sorted(of_whom(tenancy)[:4]) == ["blue", "blue", "red", "red"]


def test_one_tenant_alone_is_placed_as_if_there_were_none(tenancy: Tenancy) -> None:
    """Nothing is reordered, and nobody asks what it holds; what others could hold is asked once a second, and only while it waits."""
    asked: list[float] = []
    in_flight = tenancy.world.tenants.in_flight
    tenancy.shares.tenants.in_flight = lambda: asked.append(tenancy.now_s) or in_flight()  # type: ignore[method-assign,func-returns-value]
    tenancy.wants("red", SMALL, 6)
    tenancy.placement.tick()
    assert (of_whom(tenancy), asked) == (["red"] * 6, [])

    tenancy.wants("red", LARGE, 8)
    for _ in range(20):
        tenancy.placement.tick()
        tenancy.now_s += 0.2

    assert 3 <= len(asked) <= 5


def test_a_quota_holds_back_and_lets_go_when_something_ends(tenancy: Tenancy, state: MemoryState) -> None:
    """Three pods fit into it. The decision names the tenant; what was held back comes when one of the three has ended."""
    tenancy.world.tenants.put([Tenant(name="blue", quota=(("cpu", 300),))])
    run_id = tenancy.wants("blue", SMALL, 5)

    tenancy.ticks()
    assert len(tenancy.clusters.placed) == 3
    assert notes(state) == ["over their quota: blue"]
    first = tenancy.clusters.placed[0]
    tenancy.world.requests.settle(
        [Outcome(run_id=run_id, request_id=first.request_id, epoch=1, event=Event.SUCCEED, finished_s=9.0)]
    )
    tenancy.ticks()

    assert len(tenancy.clusters.placed) == 4


def test_small_requests_behind_do_not_take_a_quota_from_a_large_one_before_them(tenancy: Tenancy) -> None:
    """Nor where a placement looks behind the oldest, because those fill it."""
    tenancy.world.tenants.put([Tenant(name="blue", quota=(("cpu", 1250),))])
    tenancy.wants("blue", LARGE, 9)
    tenancy.wants("blue", SMALL, 9)

    tenancy.turn(12)

    assert [p.service for p in tenancy.clusters.placed] == [
        "large",
        "small",
    ]  # each run had its turn, and then the large one is next


def test_who_has_waited_for_long_is_given_room_by_those_with_larger_shares(tenancy: Tenancy, state: MemoryState) -> None:
    """First nothing more goes to red, so that nothing that ends is lost to it; then pods go, of the largest share, with a reason."""
    tenancy.wants("red", SMALL, 60)
    tenancy.ticks()
    tenancy.wants("blue", LARGE, 1)
    tenancy.turn(2)
    assert not any(share.withheld for share in tenancy.world.tenants.told())

    tenancy.now_s += 6.0
    tenancy.turn(4)
    assert {share.tenant: share.withheld for share in tenancy.world.tenants.told()} == {"blue": False, "red": True}
    assert "red wait until blue has a share" in notes(state)[-1]
    assert tenancy.clusters.evicted == []
    tenancy.now_s += 30.0
    tenancy.turn(6)

    assert {(e.tenant, e.why) for e in tenancy.clusters.evicted} == {("red", "room for the share of blue")}
    assert len(tenancy.clusters.evicted) == 10
    assert of_whom(tenancy)[-1] == "blue"


def test_nobody_is_evicted_where_the_policy_looks_at_another_cluster(tenancy: Tenancy, state: MemoryState) -> None:
    """What would be freed elsewhere is of no use to it."""
    tenancy.shares.home_only = lambda _run: True
    tenancy.wants("red", SMALL, 60)
    tenancy.ticks()
    run_id = tenancy.wants("blue", LARGE, 1)
    for row in state.runs[run_id].rows:
        row.cluster = "c2"

    for _ in range(8):
        tenancy.turn(1, apart_s=10.0)

    assert tenancy.clusters.evicted == []


def test_what_becomes_free_while_a_placement_looks_behind_is_not_lost_to_larger_shares() -> None:
    """Blue has nothing left behind its oldest, and red has. What ends then is blue's all the same."""
    tenancy = Tenancy(world=memory_world(FLEET), batch_limit=16)
    tenancy.world.tenants.put([Tenant(name="blue", weight=3.0)])
    of = {"red": tenancy.wants("red", SMALL, 300), "blue": tenancy.wants("blue", SMALL, 70)}
    tenancy.ticks()
    assert tenancy.held(list(of)) == pytest.approx([0.25, 0.75])

    ended = 0
    for _ in range(24):  # one of blue after the other
        pod = [p for p in tenancy.clusters.placed if p.run_id == of["blue"]][ended]
        end = Outcome(run_id=pod.run_id, request_id=pod.request_id, epoch=pod.epoch, event=Event.SUCCEED, finished_s=9.0)
        ended += tenancy.world.requests.settle([end])
        tenancy.turn(1)

    assert ended == 24
    assert tenancy.held(list(of)) == pytest.approx([0.25, 0.75], abs=0.03)


def test_a_scheduler_without_the_lease_takes_nothing_back(tenancy: Tenancy, state: MemoryState) -> None:
    """What it remembers is of another time."""
    tenancy.wants("red", SMALL, 60)
    tenancy.ticks()
    tenancy.wants("blue", LARGE, 1)
    tenancy.turn(2)
    held = state.leases["scheduler"]
    state.leases["scheduler"] = (replace(held[0], owner="another"), float("inf"))

    tenancy.now_s += 60.0
    tenancy.turn(2)

    assert tenancy.clusters.evicted == []


def test_a_store_that_cannot_be_told_of_shares_costs_no_placement(tenancy: Tenancy) -> None:
    """What was placed has its pods."""
    tenancy.shares.tenants = Faulty(tenancy.world.tenants, tell=[StoreUnavailable("away")])  # type: ignore[assignment]
    for name in ("red", "blue"):
        tenancy.wants(name, SMALL, 2)

    tenancy.turn(1)

    assert len(tenancy.clusters.placed) == 4


def test_a_budget_of_nothing_lets_one_request_through_at_a_time() -> None:
    """The first is whole, however little may go at once; the next one comes a round later."""
    settings = TenantSettings(reclaim_after_s=0.0, hold_after_s=0.0, reclaim_share=0.0, reclaim_every_s=10.0)
    tenancy = Tenancy(world=memory_world(FLEET), settings=settings)
    tenancy.wants("red", SMALL, 40)
    tenancy.ticks()
    tenancy.wants("blue", SMALL, 5)

    counts = []
    for _ in range(4):
        tenancy.turn(3)
        counts.append(len(tenancy.clusters.evicted))
        tenancy.now_s += 10.0

    assert counts == [1, 2, 3, 4]


# ---- what is told of it ----------------------------------------------------------------------------------------------------------


def test_an_explanation_says_what_a_quota_lacks_and_so_much_more_would_do(tenancy: Tenancy) -> None:
    """With the stated amount it would be looked at, with half of it not."""
    tenancy.world.tenants.put([Tenant(name="blue", quota=(("cpu", 300),))])
    run_id = tenancy.wants("blue", SMALL, 6)
    tenancy.ticks()

    found = held_back(looked_at(tenancy), RequestKey(run_id, 4))

    assert found is not None
    assert found.reason is StateReason.OVER_QUOTA
    assert found.words == "it needs 100m of cpu, and tenant blue holds 300m of its quota of 300m; 1 of its tenant wait before it"
    (change,) = found.changes
    assert (change.kind, change.tenant, change.resource, change.amount) == (ChangeKind.QUOTA_RAISED, "blue", "cpu", 200.0)
    for amount, is_looked_at in ((change.amount, True), (change.amount / 2, False)):
        tenancy.world.tenants.put([Tenant(name="blue", quota=(("cpu", 300 + round(amount)),))])
        assert (held_back(looked_at(tenancy), RequestKey(run_id, 4)) is None) == is_looked_at


def test_a_request_that_is_larger_than_the_whole_quota_needs_room_for_what_its_tenant_holds_too(tenancy: Tenancy) -> None:
    """Not only for itself; and for none of those before it that are larger still, which hold back nobody."""
    tenancy.world.tenants.put([Tenant(name="blue", quota=(("cpu", 300),))])
    tenancy.wants("blue", SMALL, 2)
    tenancy.ticks()
    run_id = tenancy.wants("blue", LARGE, 1)
    seen = looked_at(tenancy)

    found = held_back(seen, RequestKey(run_id, 0))

    assert found is not None
    (change,) = found.changes
    assert change.amount == 200.0 + LARGE.cpu_request_millicores - 300.0
    raised, half = (with_changes(seen, [c], limit=64) for c in (change, change.halved()))
    assert (held_back(raised, RequestKey(run_id, 0)), len(raised.batch.pending)) == (None, 1)
    assert held_back(half, RequestKey(run_id, 0)) is not None


def test_an_explanation_says_who_comes_first_by_shares(tenancy: Tenancy, state: MemoryState) -> None:
    """Red came first and holds all: what blue sent later comes before what red still waits for."""
    red = tenancy.wants("red", SMALL, 60)
    tenancy.ticks()
    blue = tenancy.wants("blue", SMALL, 2)
    for row in state.runs[red].rows:
        row.due_s -= 100.0
    seen = looked_at(tenancy)
    waited = np.where(seen.read.pending.run_id == red, 100.0, 0.0)
    seen = replace(seen, read=replace(seen.read, pending=replace(seen.read.pending, waited_s=waited)))

    assert overtaken_by(seen, RequestKey(red, 45)) == ("blue",)
    assert overtaken_by(seen, RequestKey(blue, 0)) == ()
    assert overtaken_by(as_read(seen.read, limit=8), RequestKey(red, 45)) == ()


def test_an_explanation_knows_who_gets_nothing_more(tenancy: Tenancy) -> None:
    """As placements have told a moment ago, with both shares."""
    red = tenancy.wants("red", SMALL, 60)
    tenancy.ticks()
    tenancy.wants("blue", LARGE, 1)
    for _ in range(3):
        tenancy.turn(2, apart_s=6.0)

    found = held_back(looked_at(tenancy), RequestKey(red, 40))

    assert found is not None
    assert found.reason is StateReason.BEHIND_SHARE
    assert found.words.startswith("its tenant red holds 100.0% of the fleet, and gets nothing more until blue (0.0%)")
    assert found.changes == (Change(kind=ChangeKind.SHARE_REACHED, tenant="blue"),)
    assert str(found.changes[0]) == "tenant blue, which waits below its share, has its next request"
    assert held_back(with_changes(looked_at(tenancy), found.changes, limit=64), RequestKey(red, 40)) is None
