"""`dss-lc`: the closed form against OR-tools, and what every plan must hold to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.domain.requests import LcArrivals
from tango.domain.services import Service, ServiceClass
from tango.domain.smallest import smallest_snapshot
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.completion import lc_view
from tango.scheduling.lc_flow import link_capacity, plan_dss_lc
from tango.scheduling.lc_flow_solver import solve_dispatch
from tango.settings import LcSettings


def _fleet(seed: int, *, bandwidth: float = 1e4) -> FleetSnapshot:
    """Some clusters and nodes with one LC service, random limits, backlogs and distances; some nodes are down."""
    rng = np.random.default_rng(seed)
    clusters, nodes = int(rng.integers(1, 5)), int(rng.integers(1, 13))
    rtt = rng.uniform(1, 120, (clusters, clusters))
    np.fill_diagonal(rtt, 0.2)
    links = np.full((clusters, clusters), bandwidth)
    np.fill_diagonal(links, np.inf)
    one = smallest_snapshot()
    spread = {
        name: np.repeat(getattr(one, name), nodes)
        for name in [
            "cpu_allocatable",
            "memory_allocatable",
            "lc_cpu_limit",
            "lc_cpu_request",
            "lc_memory_held",
            "be_cpu_request",
            "be_cpu_limit",
            "be_memory_held",
            "be_pods",
            "cpu_used",
            "memory_used",
            "slack",
        ]
    }
    service = Service(
        name="s",
        service_class=ServiceClass.LC,
        cpu_work_s=0.02,
        memory_mib=1,
        target_ms=150.0,
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
        **spread,
    )


def _arrivals(count: int) -> LcArrivals:
    zeros, ones = np.zeros(count), np.ones(count)
    return LcArrivals(
        request_id=np.arange(count, dtype=np.int64),
        service=np.zeros(count, np.int32),
        entry_cluster=np.zeros(count, np.int32),
        due_s=zeros,
        deadline_s=0.15 * ones,
        cpu_work_s=0.02 * ones,
        memory_mib=ones,
        epoch=np.zeros(count, np.int32),
    )


@given(seed=st.integers(0, 100_000), count=st.integers(1, 40), bandwidth=st.sampled_from([5.0, 40.0, 1e4]))
@settings(max_examples=120, deadline=None)
def test_the_closed_form_costs_what_the_solver_costs(seed: int, count: int, bandwidth: float) -> None:
    """As many requests within their target as the maximum flow, at its least cost, links that are narrow included."""
    fleet, arrivals = _fleet(seed, bandwidth=bandwidth), _arrivals(count)
    plan = plan_dss_lc(arrivals, fleet, LcSettings())
    view = lc_view(arrivals, fleet, 0)
    links = link_capacity(fleet, 0, 64.0, 0.15)
    most, least_s = solve_dispatch(view, 0, count, 0.15, fleet.node_cluster, np.floor(np.minimum(links, 1e6)))
    in_time = (plan.node >= 0) & ~plan.late
    assert in_time.sum() == most
    np.testing.assert_allclose(plan.expected_s[in_time].sum(), least_s, atol=2e-6 * max(1, count))


@given(seed=st.integers(0, 100_000), count=st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_nothing_is_dropped_in_silence_and_no_node_is_impossible(seed: int, count: int) -> None:
    """A request gets a ready node with an instance; -1 comes only where there is none at all; lateness is marked."""
    fleet, arrivals = _fleet(seed), _arrivals(count)
    plan = plan_dss_lc(arrivals, fleet, LcSettings())
    usable = fleet.node_ready & (fleet.instance_limit[0] > 0)
    sent = plan.node >= 0
    assert usable[plan.node[sent]].all()
    assert sent.all() or not usable.any()
    assert not plan.shed.any()
    assert (plan.expected_s[sent & ~plan.late] <= 0.15 + 1e-9).all()


def test_what_cannot_be_in_time_is_shed_only_where_the_setting_says_so() -> None:
    """`keep_late=False` turns late requests into shed ones, and leaves the others alone."""
    fleet, arrivals = _fleet(3), _arrivals(60)
    kept, shed = plan_dss_lc(arrivals, fleet, LcSettings()), plan_dss_lc(arrivals, fleet, LcSettings(keep_late=False))
    assert kept.late.any()
    np.testing.assert_array_equal(shed.shed, kept.late)
    assert (shed.node[shed.shed] == -1).all()
    np.testing.assert_array_equal(shed.node[~shed.shed], kept.node[~shed.shed])


def test_requests_in_flight_send_the_next_ones_elsewhere() -> None:
    """Between two equal nodes the idle one is chosen."""
    fleet = _fleet(1)
    n = len(fleet.nodes)
    even = replace(
        fleet,
        node_ready=np.ones(n, np.bool_),
        node_cluster=np.zeros(n, np.int32),
        instance_limit=np.full((1, n), 1000.0),
        instance_count=np.ones((1, n)),
        in_flight=np.array([[4.0] * (n - 1) + [0.0]]),
    )
    assert plan_dss_lc(_arrivals(1), even, LcSettings()).node[0] == n - 1
