"""The QoS bound: worlds that can be worked out on paper, the exhaustive optimum of tiny ones, and properties of every world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.bound import qos_bound
from tango.bound.loss import STEP_S, best_qos, tiny_fleet, tiny_lc
from tango.bound.qos import _Groups, _least_work, qos_of
from tango.domain.fleet import Cluster, Fleet, NetworkModel, Node
from tango.domain.runs import NewRequests
from tango.domain.services import Service, ServiceClass

WEB = Service(name="web", service_class=ServiceClass.LC, cpu_work_s=0.06, memory_mib=32, target_ms=100.0, instance_memory_mib=256)


def fleet_of(cores: list[list[float]], *, rtt_ms: float = 2.0) -> Fleet:
    """Clusters with nodes of so many cores, `rtt_ms` apart and without a round trip within."""
    return Fleet(
        name="small",
        clusters=tuple(
            Cluster(
                name=f"c{c}",
                nodes=tuple(Node(name=f"c{c}n{n}", cpu_millicores=int(1000 * k), memory_mib=4096) for n, k in enumerate(row)),
            )
            for c, row in enumerate(cores)
        ),
        services=(WEB,),
        network=NetworkModel(base_rtt_ms=rtt_ms, local_rtt_ms=0.0, rtt_ms_per_km=0.0),
    )


def lc(
    due_s: list[float], work_s: list[float], *, cluster: list[int] | None = None, clusters: int = 1, target_s: float = 0.1
) -> NewRequests:
    """LC requests of one service."""
    n = len(due_s)
    return NewRequests(
        due_s=np.array(due_s),
        target_s=np.full(n, target_s),
        service_class=np.zeros(n, np.int8),
        service=np.zeros(n, np.int32),
        cluster=np.array(cluster or [0] * n, np.int32),
        cpu_work_s=np.array(work_s),
        memory_mib=np.full(n, 32.0),
        services=("web",),
        clusters=tuple(f"c{c}" for c in range(clusters)),
    )


def test_of_two_requests_that_need_more_than_the_core_one_is_met() -> None:
    """Twice 60 ms do not go into 100 ms of one core; 1.67 requests would, and requests are whole."""
    assert qos_bound(fleet_of([[1.0]]), lc([1.0, 1.0], [0.06, 0.06]), span_s=1.0) == 0.5


def test_second_core_lets_both_in() -> None:
    """An underloaded world has a bound of exactly 1."""
    assert qos_bound(fleet_of([[2.0]]), lc([1.0, 1.0], [0.06, 0.06]), span_s=1.0) == 1.0


def test_short_requests_go_first() -> None:
    """Of 100 ms, works of 20, 20, 60 and 90 ms leave time for the three shortest."""
    assert qos_bound(fleet_of([[1.0]]), lc([1.0] * 4, [0.09, 0.02, 0.06, 0.02]), span_s=1.0) == 0.75


def test_request_longer_than_its_target_is_never_met() -> None:
    """One request uses one core, however many there are."""
    assert qos_bound(fleet_of([[8.0]]), lc([1.0, 1.0], [0.05, 0.2]), span_s=1.0) == 0.5


def test_request_that_needs_exactly_its_target_is_met() -> None:
    """The edge belongs to it, whatever rounding does to due + target - due."""
    assert qos_bound(fleet_of([[1.0]]), lc([0.7], [0.1]), span_s=0.7) == 1.0


def test_node_of_half_a_core_takes_twice_as_long() -> None:
    """A request cannot have more than the largest node."""
    assert qos_bound(fleet_of([[0.5]]), lc([1.0], [0.06]), span_s=1.0) == 0.0


def test_network_takes_half_a_round_trip_at_each_end() -> None:
    """Of 120 ms, 40 ms are on the way: two works of 40 ms fit into the 80 ms between, three do not."""
    fleet = fleet_of([[1.0]])
    fleet = replace(fleet, network=replace(fleet.network, local_rtt_ms=40.0))

    for requests, rate in ((2, 1.0), (3, 2 / 3)):
        found = qos_of(fleet, lc([1.0] * requests, [0.04] * requests, target_s=0.12), span_s=1.0, bucket_s=0.02)

        assert found.rate == pytest.approx(rate)


def test_neighbours_help_only_where_the_round_trip_leaves_time() -> None:
    """At 20 ms between clusters the second request runs next door, at 50 ms only one of the two has time for the way."""
    requests = lc([1.0, 1.0], [0.06, 0.06], cluster=[0, 0], clusters=2)

    assert qos_bound(fleet_of([[1.0], [1.0]], rtt_ms=20.0), requests, span_s=1.0) == 1.0
    assert qos_bound(fleet_of([[1.0], [1.0]], rtt_ms=50.0), requests, span_s=1.0) == 0.5


def test_clusters_are_matched_by_name() -> None:
    """Requests may list their clusters in another order than the fleet does."""
    requests = lc([1.0, 1.0], [0.06, 0.06], cluster=[0, 0], clusters=2)
    fleet = fleet_of([[1.0], [2.0]], rtt_ms=50.0)

    assert qos_bound(fleet, requests, span_s=1.0) == 0.5
    assert qos_bound(fleet, replace(requests, clusters=("c1", "c0")), span_s=1.0) == 1.0


def test_requests_outside_the_window_cost_nothing() -> None:
    """What came before 10 % of the span may be dropped, and without a request in the measured span there is no rate."""
    fleet = fleet_of([[1.0]])

    assert qos_bound(fleet, lc([0.99, 0.99, 1.0], [0.06] * 3), span_s=10.0) == 1.0
    assert qos_bound(fleet, lc([0.5], [0.06]), span_s=10.0) is None


def test_bound_is_never_below_the_optimum_of_a_tiny_world() -> None:
    """Exhaustive search over all schedules of 150 worlds, with buckets of one step, two and four; and it is often met."""
    exact = 0
    for seed in range(150):
        rng = np.random.default_rng(10_000 + seed)
        fleet = tiny_fleet(rng)
        requests = tiny_lc(rng, fleet)
        span_s = float(requests.due_s[-1])
        optimum = best_qos(fleet, requests, span_s=span_s)
        assert optimum is not None

        rates = [qos_of(fleet, requests, span_s=span_s, bucket_s=k * STEP_S).rate for k in (1, 2, 4)]

        assert all(rate is not None and rate >= optimum - 1e-12 for rate in [*rates, qos_bound(fleet, requests, span_s=span_s)]), (
            seed
        )
        exact += rates[0] == optimum
    assert exact > 100


def test_longer_bucket_never_lowers_the_bound() -> None:
    """A bucket of twice the length allows all that the two did."""
    for seed in range(100):
        rng = np.random.default_rng(20_000 + seed)
        fleet = tiny_fleet(rng)
        requests = tiny_lc(rng, fleet)

        rates = [qos_of(fleet, requests, span_s=1.0, bucket_s=k * STEP_S).rate or 0.0 for k in (0.5, 1, 2, 4, 8)]

        assert rates == sorted(rates), seed


def test_more_cores_never_lower_the_bound() -> None:
    """The optimum of a larger fleet is no smaller."""
    for seed in range(100):
        rng = np.random.default_rng(30_000 + seed)
        fleet = tiny_fleet(rng)
        requests = tiny_lc(rng, fleet)

        rates = [qos_of(scaled(fleet, k), requests, span_s=1.0, bucket_s=STEP_S).rate or 0.0 for k in (1.0, 1.3, 2.0, 3.0)]

        assert rates == sorted(rates), seed


def scaled(fleet: Fleet, factor: float) -> Fleet:
    """The same fleet with so many times the cores."""
    return replace(
        fleet,
        clusters=tuple(
            replace(c, nodes=tuple(replace(n, cpu_millicores=int(n.cpu_millicores * factor)) for n in c.nodes))
            for c in fleet.clusters
        ),
    )


@pytest.mark.parametrize("load", [0.5, 0.8, 1.25, 2.0])
def test_bound_follows_a_steady_load(load: float) -> None:
    """Below capacity exactly 1; above it, what the core can do of the shortest requests and no more than 2 % beyond."""
    rng = np.random.default_rng(5)
    n = 4000
    work_s = np.sort(rng.lognormal(np.log(0.02), 0.5, n)).clip(0.0, 0.09)
    span_s = float(work_s.sum()) / (4.0 * load)
    due_s = np.linspace(0.1 * span_s, span_s, n)
    requests = lc(list(due_s), list(rng.permutation(work_s)))

    rate = qos_bound(fleet_of([[4.0]]), requests, span_s=span_s)

    # 0.9 of the span takes the arrivals, so the load is 1 / 0.9 of `load`.
    served = float(np.searchsorted(np.cumsum(work_s), 4.0 * (0.9 * span_s + 0.1)) / n)
    if load / 0.9 < 1.0:
        assert rate == 1.0
    else:
        assert rate is not None
        assert served < 1.0
        assert served <= rate <= 1.02 * served


def test_clusters_that_only_some_can_reach_are_kept_apart() -> None:
    """Three clusters in a row: the middle one helps both ends, which cannot help each other."""
    fleet = fleet_of([[1.0], [1.0], [1.0]])
    fleet = replace(
        fleet,
        clusters=tuple(replace(c, x_km=1000.0 * k) for k, c in enumerate(fleet.clusters)),
        network=NetworkModel(base_rtt_ms=0.0, local_rtt_ms=0.0, rtt_ms_per_km=0.03),
    )
    mostly_left = lc([1.0] * 5, [0.06] * 5, cluster=[0, 0, 0, 0, 2], clusters=3)
    both_ends = lc([1.0] * 4, [0.06] * 4, cluster=[0, 0, 2, 2], clusters=3)

    assert qos_bound(fleet, mostly_left, span_s=1.0) == 0.8
    assert qos_bound(fleet, both_ends, span_s=1.0) == 1.0


def test_least_work_lies_below_the_shortest_requests_and_meets_their_sum() -> None:
    """The curve is never above the work of the y shortest requests, and equals it for none and for all."""
    rng = np.random.default_rng(3)
    for n in (1, 2, 15, 16, 17, 100, 1000):
        work_s = np.sort(rng.lognormal(0.0, 1.0, n))
        zero = np.zeros(1, np.int64)
        group, length, slope_s = _least_work(_Groups(zero, zero, zero, zero, np.array([n]), work_s))

        assert not group.any()
        assert (np.diff(slope_s) >= 0.0).all()
        curve_s = np.interp(np.arange(n + 1), np.append(0.0, np.cumsum(length)), np.append(0.0, np.cumsum(length * slope_s)))
        truth_s = np.append(0.0, np.cumsum(work_s))
        assert (curve_s <= truth_s + 1e-9).all()
        assert curve_s[-1] == pytest.approx(truth_s[-1])
        assert (truth_s - curve_s <= (0.02 * truth_s[-1] if n > 16 else 1e-9)).all()
