"""Placement by quotas (`kueue`) and of the whole queue at once (`packing`), in fleets that can be filled on paper."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.domain.requests import BePending
from tango.domain.resource_axis import CPU
from tango.domain.smallest import smallest_pending, smallest_snapshot
from tango.domain.snapshot import FleetSnapshot
from tango.errors import ConfigError
from tango.scheduling.be_kueue import place_kueue
from tango.scheduling.be_packing import place_packing
from tango.scheduling.be_policies import place_kube_packed, place_kube_spread
from tango.scheduling.plan_checks import check_be_plan
from tango.settings import BeSettings, Settings
from tango.systems import be_policy, usable_system
from tests.fakes.be_worlds import asking, be_world
from tests.long import example_count


def clusters(*millicores: Sequence[float]) -> FleetSnapshot:
    """Clusters in a row, whose nodes have so many millicores beside an LC instance of 100."""
    one, cpu = smallest_snapshot(), np.array([c for cluster in millicores for c in cluster])
    row = np.arange(len(millicores))
    by_node = "lc_requests be_requests lc_cpu_limit be_cpu_limit cpu_used memory_used slack node_ready"
    by_service = "instance_limit instance_count in_flight in_flight_work_s"
    return replace(
        one,
        clusters=tuple("abcdef"[: len(millicores)]),
        nodes=tuple(f"n{k}" for k in range(len(cpu))),
        node_cluster=np.repeat(row, [len(cluster) for cluster in millicores]).astype(np.int32),
        allocatable=np.stack((cpu + 100.0, np.full(len(cpu), 4096.0), np.full(len(cpu), 110.0))),
        rtt_ms=0.2 + 1.0 * np.abs(row[:, None] - row[None, :]),
        bandwidth_mbit_per_s=np.full((len(row), len(row)), 1e4),
        pending_be=np.zeros(len(millicores)),
        **{name: np.repeat(getattr(one, name), len(cpu), axis=-1) for name in (*by_node.split(), *by_service.split())},
    )


def waiting(*millicores: float, entry: Sequence[int] | None = None) -> BePending:
    """Requests of so many millicores and 1 MiB, the oldest first."""
    rows = smallest_pending().rows(np.zeros(len(millicores), np.intp))
    found = asking(rows, cpu_request=np.array(millicores, np.float64))
    return replace(
        found,
        request_id=np.arange(len(millicores)),
        entry_cluster=np.zeros(len(millicores), np.int32) if entry is None else np.array(entry, np.int32),
    )


# ---- quotas ------------------------------------------------------------------------------------------------------------


def test_a_request_goes_home_while_the_quota_lasts_and_then_borrows_of_the_nearest() -> None:
    """Two thousand at home, entered in the middle; the next nearest is the first of the two neighbours."""
    snapshot = clusters([1000], [1000, 1000], [5000])

    plan = place_kueue(waiting(1000, 1000, 1000, 1000, entry=[1] * 4), snapshot, BeSettings())

    assert sorted(plan.node[:2].tolist()) == [1, 2]
    assert plan.node[2:].tolist() == [0, 3]


def test_one_that_no_quota_covers_does_not_hold_up_those_behind_it() -> None:
    """BestEffortFIFO."""
    plan = place_kueue(waiting(9000, 500), clusters([1000]), BeSettings())

    assert plan.node.tolist() == [-1, 0]


def test_what_is_admitted_by_a_sum_and_fits_on_no_node_holds_its_quota() -> None:
    """Three fifths are free on each of two nodes, after the first two: 800 are covered by their sum of 1,200, though neither has room
    for it; the next 500 find 400 of the quota left and go abroad, the next 400 stay."""
    snapshot = clusters([1000, 1000], [1000])

    plan = place_kueue(waiting(400, 400, 800, 500, 400), snapshot, BeSettings())

    assert sorted(plan.node[:2].tolist()) == [0, 1]
    assert plan.node[2:].tolist()[:2] == [-1, 2]
    assert plan.node[4] in (0, 1)


def test_a_cluster_on_none_of_whose_nodes_a_request_ever_fits_is_passed_over() -> None:
    """A quota of 3,000 in three small nodes does not admit 2,000; the large node of the other cluster does."""
    plan = place_kueue(waiting(2000), clusters([1000, 1000, 1000], [2000]), BeSettings())

    assert plan.node.tolist() == [3]


# ---- the solver --------------------------------------------------------------------------------------------------------


def test_the_solver_fills_what_placement_one_by_one_leaves_empty() -> None:
    """300 and 300 spread over two nodes leave no room for 1,000; together they leave one node to it. Packing one by one is as lucky."""
    snapshot, pending = clusters([1000, 1000]), waiting(300, 300, 1000, 400)

    spread, solved = (place(pending, snapshot, BeSettings()).node for place in (place_kube_spread, place_packing))

    assert (spread >= 0).tolist() == [True, True, False, True]
    assert (solved >= 0).all()


def test_of_equal_requests_the_oldest_are_placed() -> None:
    """Where not all fit."""
    plan = place_packing(waiting(600, 600, 600), clusters([1000], [1000]), BeSettings())

    assert (plan.node >= 0).tolist() == [True, True, False]
    assert plan.policy == "packing"


def test_nothing_is_packed_on_a_node_that_is_not_ready_and_nothing_waits_for_nothing() -> None:
    """The edges: a node down, no room at all, no request."""
    down = replace(clusters([1000, 1000]), node_ready=np.array([False, True]))

    assert place_packing(waiting(600, 400), down, BeSettings()).node.tolist() == [1, 1]
    assert place_packing(waiting(9000), clusters([1000]), BeSettings()).node.tolist() == [-1]
    assert len(place_packing(waiting(), clusters([1000]), BeSettings()).node) == 0


def test_requests_of_many_sizes_are_packed_by_rounded_memory() -> None:
    """A hundred sizes, each of which still fits where it is put."""
    pending, snapshot = be_world(11)
    pending = asking(pending.rows(np.arange(100) % len(pending)), memory=np.linspace(100, 700, 100))

    plan = place_packing(pending, snapshot, BeSettings())

    check_be_plan(plan, pending, snapshot, cycle="a test")
    assert (plan.node >= 0).any()


def test_without_its_solver_the_policy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is named, and not when requests wait."""
    monkeypatch.setitem(sys.modules, "highspy", None)

    with pytest.raises(ConfigError, match="pip install 'highspy"):
        usable_system("dss-lc/packing/burst", Settings())


# ---- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["k8s-spread", "k8s-packed", "kueue", "packing"])
@given(seed=st.integers(0, 10_000), devices=st.booleans())
@settings(max_examples=example_count(15), deadline=None)
def test_a_plan_can_be_carried_out(policy: str, seed: int, devices: bool) -> None:
    """With devices that only some nodes have, and nodes that are not ready."""
    pending, snapshot = be_world(seed, devices=devices)
    snapshot.node_ready[np.random.default_rng(seed).random(len(snapshot.nodes)) < 0.2] = False
    before = snapshot.be_requests.copy()

    plan = be_policy(policy, Settings())(pending, snapshot, BeSettings())

    check_be_plan(plan, pending, snapshot, cycle="a test")
    assert plan.policy == policy
    np.testing.assert_array_equal(snapshot.be_requests, before)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=example_count(10), deadline=None)
def test_the_solver_places_at_least_as_much_cpu_as_packing_one_by_one(seed: int) -> None:
    """But for its gap."""
    pending, snapshot = be_world(seed)
    pending = pending.rows(np.arange(200) % len(pending))

    def placed_cpu(node: np.ndarray) -> float:
        return float(pending.requests[CPU][node >= 0].sum())

    solved, one_by_one = (place(pending, snapshot, BeSettings()).node for place in (place_packing, place_kube_packed))

    assert placed_cpu(solved) >= 0.99 * placed_cpu(one_by_one)
