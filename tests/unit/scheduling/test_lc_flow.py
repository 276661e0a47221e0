"""`dss-lc`: the closed form against OR-tools, and what every plan must hold to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.bench.lc_flow_solver import link_capacity, solve_dispatch
from tango.domain.requests import LcArrivals
from tango.domain.resource_axis import CPU
from tango.domain.services import Service, ServiceClass
from tango.domain.smallest import smallest_snapshot
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.lc.columns import Belief, Terrain, belief_of, new_terrain
from tango.scheduling.lc.rule import lc_rule
from tango.settings import LcSettings
from tests.long import example_count

BUDGET_S = 0.15
WORK_S = 0.02


def fleet(seed: int, *, bandwidth: float = 1e4) -> FleetSnapshot:
    """Some clusters and nodes with one LC service, random limits, backlogs and distances; some nodes are down."""
    rng = np.random.default_rng(seed)
    clusters, nodes = int(rng.integers(1, 5)), int(rng.integers(1, 13))
    rtt = rng.uniform(1, 120, (clusters, clusters))
    np.fill_diagonal(rtt, 0.2)
    links = np.full((clusters, clusters), bandwidth)
    np.fill_diagonal(links, np.inf)
    one = smallest_snapshot()
    by_node = "allocatable lc_requests be_requests lc_cpu_limit be_cpu_limit cpu_used memory_used slack"
    service = Service(
        name="s",
        service_class=ServiceClass.LC,
        cpu_work_s=WORK_S,
        memory_mib=1,
        target_ms=BUDGET_S * 1e3,
        instance_memory_mib=int(rng.integers(1, 9)),
        payload_kib=64.0,
    )
    limit = rng.choice([0.0, 500.0, 1000.0, 2000.0], (1, nodes))
    return replace(
        one,
        clusters=tuple(f"c{k}" for k in range(clusters)),
        nodes=tuple(f"n{k}" for k in range(nodes)),
        services=(service,),
        node_cluster=rng.integers(0, clusters, nodes).astype(np.int32),
        node_ready=rng.random(nodes) > 0.1,
        rtt_ms=rtt,
        bandwidth_mbit_per_s=links,
        instance_limit=limit,
        instance_count=(limit > 0).astype(float),
        in_flight=rng.integers(0, 6, (1, nodes)).astype(float),
        in_flight_work_s=np.zeros((1, nodes)),
        pending_be=np.zeros(clusters),
        **{name: np.repeat(getattr(one, name), nodes, axis=-1) for name in by_node.split()},
    )


def arrivals(count: int) -> LcArrivals:
    """So many requests that enter at cluster 0 at once."""
    zeros, ones = np.zeros(count), np.ones(count)
    return LcArrivals(
        request_id=np.arange(count, dtype=np.int64),
        service=np.zeros(count, np.int32),
        entry_cluster=np.zeros(count, np.int32),
        due_s=zeros,
        target_s=BUDGET_S * ones,
        cpu_work_s=WORK_S * ones,
        memory_mib=ones,
        epoch=np.zeros(count, np.int32),
    )


def crowded(snapshot: FleetSnapshot, seed: int) -> FleetSnapshot:
    """The same with nodes of one to three cores and a second service in flight on them, which the batch has nothing of."""
    rng = np.random.default_rng(seed)
    n = len(snapshot.nodes)
    other = replace(snapshot.services[0], name="other")
    allocatable = snapshot.allocatable.copy()
    allocatable[CPU] = rng.choice([1000.0, 1500.0, 3000.0], n)
    return replace(
        snapshot,
        allocatable=allocatable,
        services=(*snapshot.services, other),
        instance_limit=np.vstack([snapshot.instance_limit, rng.choice([0.0, 700.0, 3000.0], n)]),
        instance_count=np.vstack([snapshot.instance_count, np.ones(n)]),
        in_flight=np.vstack([snapshot.in_flight, rng.integers(0, 6, n)]),
        in_flight_work_s=np.zeros((2, n)),
    )


def arranged(snapshot: FleetSnapshot) -> tuple[Terrain, Belief]:
    """A snapshot as the compiled steps take it."""
    terrain = new_terrain(
        snapshot.services,
        rtt_ms=snapshot.rtt_ms,
        bandwidth_mbit_per_s=snapshot.bandwidth_mbit_per_s,
        node_cluster=snapshot.node_cluster,
        work_s=np.full(len(snapshot.services), WORK_S),
        entries=np.zeros(1, np.int32),
    )
    return terrain, belief_of(snapshot)


@given(
    seed=st.integers(0, 100_000),
    count=st.integers(1, 40),
    bandwidth=st.sampled_from([5.0, 8.0, 40.0, 1e4]),
    full=st.booleans(),
)
@settings(max_examples=example_count(100), deadline=None)
def test_the_closed_form_costs_what_the_solver_costs(seed: int, count: int, bandwidth: float, full: bool) -> None:
    """As many requests within their target as the maximum flow, at its least cost, links that are narrow and crowded nodes included."""
    snapshot = fleet(seed, bandwidth=bandwidth)
    if full:
        snapshot = crowded(snapshot, seed)

    plan = lc_rule("dss-lc")(arrivals(count), snapshot, LcSettings())
    most, least_s = solve_dispatch(*arranged(snapshot), 0, 0, count, BUDGET_S)

    in_time = (plan.node >= 0) & ~plan.late
    assert in_time.sum() == most
    np.testing.assert_allclose(plan.expected_s[in_time].sum(), least_s, atol=2e-6 * max(1, count))


def test_a_narrow_link_carries_what_it_can_and_no_more() -> None:
    """64 KiB over 8 Mbit/s take 0.0655 s: two fit into 0.15 s, in the solver's count and in the plan; the next wait at home."""
    snapshot = fleet(0)
    pair = replace(
        snapshot,
        clusters=("home", "far"),
        node_cluster=np.where(np.arange(len(snapshot.nodes)) == 0, 0, 1).astype(np.int32),
        node_ready=np.ones(len(snapshot.nodes), np.bool_),
        rtt_ms=np.array([[0.2, 1.0], [1.0, 0.2]]),
        bandwidth_mbit_per_s=np.array([[np.inf, 8.0], [8.0, np.inf]]),
        instance_limit=np.full((1, len(snapshot.nodes)), 1000.0),
        instance_count=np.full((1, len(snapshot.nodes)), 100.0),
        in_flight=np.where(np.arange(len(snapshot.nodes)) == 0, 5.0, 0.0)[None, :],
        pending_be=np.zeros(2),
    )

    plan = lc_rule("dss-lc")(arrivals(6), pair, LcSettings())

    assert link_capacity(arranged(pair)[0], 0, 0).tolist() == [np.inf, 2.0]
    assert (pair.node_cluster[plan.node[~plan.late]] == 1).sum() == 2
    assert (pair.node_cluster[plan.node] == 0).sum() == 2
    assert plan.late.sum() == 2


@given(seed=st.integers(0, 100_000), count=st.integers(1, 60))
@settings(max_examples=example_count(100), deadline=None)
def test_nothing_is_dropped_in_silence_and_no_node_is_impossible(seed: int, count: int) -> None:
    """A request gets a ready node with an instance; -1 comes only where there is none at all; lateness is marked."""
    snapshot = fleet(seed)

    plan = lc_rule("dss-lc")(arrivals(count), snapshot, LcSettings())

    usable = snapshot.node_ready & (snapshot.instance_limit[0] > 0)
    sent = plan.node >= 0
    assert usable[plan.node[sent]].all()
    assert sent.all() or not usable.any()
    assert not plan.shed.any()
    assert (plan.expected_s[sent & ~plan.late] <= BUDGET_S + 1e-9).all()
    assert (plan.expected_s[sent & plan.late] > BUDGET_S - 1e-9).all()


def test_what_cannot_be_in_time_is_shed_only_where_the_setting_says_so() -> None:
    """`keep_late=False` turns late requests into shed ones, and leaves the others alone."""
    snapshot = fleet(3)

    kept, shed = (lc_rule("dss-lc")(arrivals(60), snapshot, LcSettings(keep_late=late)) for late in (True, False))

    assert kept.late.any()
    np.testing.assert_array_equal(shed.shed, kept.late)
    assert not shed.late.any()
    assert (shed.node[shed.shed] == -1).all()
    np.testing.assert_array_equal(shed.node[~shed.shed], kept.node[~shed.shed])


def test_requests_in_flight_send_the_next_ones_elsewhere() -> None:
    """Between equal nodes the idle one is chosen."""
    snapshot = fleet(1)
    n = len(snapshot.nodes)
    even = replace(
        snapshot,
        node_ready=np.ones(n, np.bool_),
        node_cluster=np.zeros(n, np.int32),
        instance_limit=np.full((1, n), 1000.0),
        instance_count=np.ones((1, n)),
        in_flight=np.array([[4.0] * (n - 1) + [0.0]]),
    )

    assert lc_rule("dss-lc")(arrivals(1), even, LcSettings()).node[0] == n - 1


def test_an_empty_batch_has_an_empty_plan() -> None:
    """Nothing arrived: nothing is planned, and nothing breaks."""
    plan = lc_rule("dss-lc")(arrivals(0), fleet(1), LcSettings())

    assert len(plan.node) == len(plan.late) == len(plan.shed) == len(plan.expected_s) == 0
