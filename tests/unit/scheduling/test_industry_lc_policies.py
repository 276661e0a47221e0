"""What industry runs for LC: each policy's known behaviour in worlds that can be reckoned on paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tango.bench.worlds import arrivals_for, busy_snapshot, fleet_of_size
from tango.domain.requests import LcArrivals
from tango.domain.seen_answers import SEEN
from tango.domain.smallest import smallest_arrivals, smallest_snapshot
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.lc.rule import lc_rule
from tango.scheduling.lc.weighing import weigh_lc
from tango.scheduling.plan_checks import check_lc_plan
from tango.settings import LcSettings
from tests.long import example_count

INDUSTRY = ("least-request", "locality", "waterfall", "l3", "prequal", "c3")
FLEETS = {nodes: fleet_of_size(nodes, clusters=clusters, seed=nodes) for nodes, clusters in ((4, 2), (12, 4))}


def mesh(cores: Sequence[Sequence[float]], in_flight: Sequence[Sequence[float]] | None = None) -> FleetSnapshot:
    """Clusters in a row, each 1 ms from the next, with so many cores of the one service on each of their nodes."""
    one, flat = smallest_snapshot(), np.array([c for cluster in cores for c in cluster])
    there = np.zeros(len(flat)) if in_flight is None else np.array([k for cluster in in_flight for k in cluster], np.float64)
    row = np.arange(len(cores))
    by_node = "allocatable lc_requests be_requests lc_cpu_limit be_cpu_limit cpu_used memory_used slack node_ready"
    return replace(
        one,
        clusters=tuple("abcdef"[: len(cores)]),
        nodes=tuple(f"n{k}" for k in range(len(flat))),
        node_cluster=np.repeat(row, [len(cluster) for cluster in cores]).astype(np.int32),
        rtt_ms=0.2 + 1.0 * np.abs(row[:, None] - row[None, :]),
        bandwidth_mbit_per_s=np.where(row[:, None] == row[None, :], np.inf, 1e4),
        instance_limit=1e3 * flat[None, :],
        instance_count=(flat > 0)[None, :] * 1.0,
        in_flight=there[None, :],
        in_flight_work_s=np.zeros((1, len(flat))),
        pending_be=np.zeros(len(cores)),
        **{name: np.repeat(getattr(one, name), len(flat), axis=-1) for name in by_node.split()},
    )


def asking(count: int = 1, *, first_id: int = 0, entry: int = 0) -> LcArrivals:
    """Requests of the one service."""
    one = smallest_arrivals()
    columns = {name: np.repeat(getattr(one, name), count) for name in one.__slots__}
    ids = np.arange(first_id, first_id + count, dtype=np.int64)
    return LcArrivals(**(columns | {"request_id": ids, "entry_cluster": np.full(count, entry, np.int32)}))


def with_seen(snapshot: FleetSnapshot, **columns: Sequence[float]) -> FleetSnapshot:
    """With what the entry cluster has seen of each node."""
    seen = np.zeros((1, len(snapshot.nodes)), SEEN)
    for name, values in columns.items():
        seen[name][0] = values
    return replace(snapshot, answers=seen)


def shares(policy: str, snapshot: FleetSnapshot, settings: LcSettings | None = None, *, times: int = 1000) -> NDArray[np.float64]:
    """(n,) how often each node is chosen for a single request, over many of them."""
    rule = lc_rule(policy)
    chosen = Counter(int(rule(asking(first_id=k), snapshot, settings or LcSettings()).node[0]) for k in range(times))
    return np.array([chosen[n] / times for n in range(len(snapshot.nodes))])


# ---- power of two choices ----------------------------------------------------------------------------------------------


def test_an_idle_node_among_busy_ones_gets_the_requests_that_draw_it() -> None:
    """Two of four are drawn: the idle one is among them half of the time, and then it is taken; the busiest never is."""
    found = shares("least-request", mesh([[1, 1, 1, 1]], [[0, 5, 5, 9]]))

    assert found[0] == pytest.approx(1 / 2, abs=0.05)
    assert found[3] == 0.0
    assert found[1] == pytest.approx(found[2], abs=0.06)


def test_all_choices_are_the_least_loaded_of_all() -> None:
    """As many choices as replicas: the least loaded, whichever request asks."""
    found = shares("least-request", mesh([[1, 1, 1, 1]], [[3, 2, 5, 9]]), LcSettings(choices=4), times=50)

    assert found.tolist() == [0, 1, 0, 0]


def test_the_two_that_are_drawn_are_different_and_drawn_evenly() -> None:
    """Each of five replicas is among the two of a request in two fifths of the cases."""
    snapshot, rule = mesh([[1] * 5]), lc_rule("least-request")
    drawn = np.array([weigh_lc(rule, asking(first_id=k), snapshot, LcSettings(), 0).takes for k in range(600)])

    assert (drawn.sum(axis=1) == 2).all()
    assert drawn.mean(axis=0) == pytest.approx([0.4] * 5, abs=0.07)


def test_a_retry_draws_other_replicas() -> None:
    """Chance follows the request and its epoch."""
    snapshot, rule = mesh([[1] * 8]), lc_rule("least-request")
    first = [rule(asking(first_id=2 * k), snapshot, LcSettings()).node[0] for k in range(64)]
    again = [
        rule(replace(asking(first_id=2 * k), epoch=np.array([1], np.int32)), snapshot, LcSettings()).node[0] for k in range(64)
    ]

    assert sum(a != b for a, b in zip(first, again, strict=True)) > 32


def test_least_request_knows_the_replicas_of_its_entry_cluster_alone() -> None:
    """Where that has none there is no node, though the next cluster is idle."""
    plan = lc_rule("least-request")(asking(2), mesh([[0], [1]]), LcSettings())

    assert plan.node.tolist() == [-1, -1]
    assert shares("least-request", mesh([[1], [1]], [[99], [0]]), times=20).tolist() == [1, 0]


# ---- locality and outlier detection ------------------------------------------------------------------------------------


def test_a_healthy_home_gets_everything_whatever_its_load() -> None:
    """Locality spills by health and not by load."""
    assert shares("locality", mesh([[1], [1]], [[99], [0]]), times=50).tolist() == [1, 0]


def test_what_ejections_take_from_home_goes_to_the_next_cluster_alone() -> None:
    """Two of four replicas are out: 1.4 x 1/2 = 70 % of the requests stay at home, 30 % go next door, none farther."""
    snapshot = with_seen(mesh([[1] * 4, [1], [1]]), out_until_s=[9.0, 9.0, 0, 0, 0, 0])

    found = shares("locality", snapshot)

    assert found[:2].tolist() == [0, 0]
    assert found[2:4].sum() == pytest.approx(0.7, abs=0.05)
    assert found[4] == pytest.approx(0.3, abs=0.05)
    assert found[5] == 0.0


def test_an_ejected_replica_is_back_when_its_time_is_over() -> None:
    """Its time is that of the snapshot."""
    snapshot = with_seen(mesh([[1, 1]]), out_until_s=[30.0, 0.0])

    assert shares("locality", replace(snapshot, at_s=29.0), times=40).tolist() == [0, 1]
    assert shares("locality", replace(snapshot, at_s=30.0), times=40)[0] > 0.2


def test_a_cluster_without_instances_is_passed_over_and_where_all_are_ejected_they_are_used() -> None:
    """Not ready means not listed, which is no failure of health; and somebody has to serve."""
    assert shares("locality", mesh([[0], [1], [1]]), times=20).tolist() == [0, 1, 0]
    assert shares("locality", with_seen(mesh([[1], [1]]), out_until_s=[9.0, 9.0]), times=20).tolist() == [1, 0]
    assert lc_rule("locality")(asking(), mesh([[0], [0]]), LcSettings()).node.tolist() == [-1]


# ---- waterfall ---------------------------------------------------------------------------------------------------------


def test_waterfall_fills_home_to_its_share_and_then_the_next_nearest() -> None:
    """Four cores a cluster at 0.8 hold three requests each; when all are full, the least loaded get one more."""
    snapshot, cluster = mesh([[2, 2], [2, 2], [4]]), np.array([0, 0, 1, 1, 2])

    plan = lc_rule("waterfall")(asking(12), snapshot, LcSettings(spill_load=0.8))

    assert cluster[plan.node].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 1, 2]


def test_waterfall_stays_at_home_below_its_share_and_leaves_at_it() -> None:
    """With one more, eight of ten cores are in use, and then nine; it entered at the middle of three clusters."""
    below, at = (mesh([[5], [5, 5], [5]], [[0], [busy, 0], [0]]) for busy in (7.0, 8.0))

    assert lc_rule("waterfall")(asking(entry=1), below, LcSettings()).node[0] in (1, 2)
    assert lc_rule("waterfall")(asking(entry=1), at, LcSettings()).node[0] in (0, 3)


# ---- L3 ----------------------------------------------------------------------------------------------------------------


def test_l3_divides_requests_by_latency() -> None:
    """0.1 s at home and 0.3 s next door: three of four stay."""
    found = shares("l3", with_seen(mesh([[1], [1]]), answers=[9, 9], answer_s=[0.1, 0.3]))

    assert found.tolist() == pytest.approx([0.75, 0.25], abs=0.05)


def test_l3_counts_failures_as_time_and_requests_in_flight_by_their_square() -> None:
    """Half of the calls home fail: 0.1 + 0.6 s against 0.1 s. One in flight next door: (1 + 1)^2. Weights 1/0.7 and 1/0.4."""
    snapshot = with_seen(mesh([[1], [1]], [[0], [1]]), answers=[9, 9], answer_s=[0.1, 0.1], failing=[0.5, 0.0])

    found = shares("l3", snapshot)

    assert found[0] == pytest.approx((1 / 0.7) / (1 / 0.7 + 1 / 0.4), abs=0.05)


def test_l3_looks_at_the_nearest_clusters_that_have_an_instance() -> None:
    """Within its reach; where none of them has one there is no node."""
    assert shares("l3", mesh([[0], [1], [1]]), LcSettings(reach=2), times=30).tolist() == [0, 1, 0]
    assert shares("l3", mesh([[0], [1], [1]]), LcSettings(reach=1), times=5).tolist() == [0, 0, 0]


# ---- Prequal -----------------------------------------------------------------------------------------------------------


def test_prequal_takes_the_cold_replica_of_least_latency() -> None:
    """The quickest has more in flight than three fifths of all, so that it is hot; of the two cold ones the quicker."""
    snapshot = with_seen(mesh([[1, 1, 1]], [[1, 1, 9]]), answers=[9, 9, 9], answer_s=[0.3, 0.2, 0.01])

    assert shares("prequal", snapshot, LcSettings(hot_quantile=0.6), times=10).tolist() == [0, 1, 0]


def test_prequal_takes_the_fewest_requests_in_flight_where_all_are_hot() -> None:
    """At a quantile of nothing everybody is, and latency does not matter any more."""
    snapshot = with_seen(mesh([[1, 1, 1]], [[2, 1, 9]]), answers=[9, 9, 9], answer_s=[0.1, 0.9, 0.01])

    assert shares("prequal", snapshot, LcSettings(hot_quantile=0.0), times=10).tolist() == [0, 1, 0]


def test_prequal_takes_a_replica_that_it_has_not_seen_to_be_idle() -> None:
    """Work and link: 10.2 ms, quicker than what has been seen of the other."""
    snapshot = with_seen(mesh([[1, 1]]), answers=[9, 0], answer_s=[0.011, 0.0])

    assert shares("prequal", snapshot, times=10).tolist() == [0, 1]


# ---- C3 ----------------------------------------------------------------------------------------------------------------


def test_c3_scores_by_the_cube_of_the_queue() -> None:
    """By hand: 0.2 - 0.1 + 3^3 x 0.1 = 2.8 and 0.5 - 0.3 + 1.5^3 x 0.3 = 1.2125, so the slower one with the shorter queue is taken."""
    snapshot = with_seen(mesh([[1, 2]], [[2, 1]]), answers=[5, 5], answer_s=[0.2, 0.5], served_s=[0.1, 0.3])

    weighed = weigh_lc(lc_rule("c3"), asking(), snapshot, LcSettings(), 0)

    assert weighed.price.tolist() == pytest.approx([2.8, 1.2125])
    assert shares("c3", snapshot, times=5).tolist() == [0, 1]


def test_c3_with_a_power_of_one_would_take_the_quicker_one() -> None:
    """0.1 + 3 x 0.1 = 0.4 against 0.2 + 1.5 x 0.3 = 0.65."""
    snapshot = with_seen(mesh([[1, 2]], [[2, 1]]), answers=[5, 5], answer_s=[0.2, 0.5], served_s=[0.1, 0.3])

    assert shares("c3", snapshot, LcSettings(queue_exponent=1.0), times=5).tolist() == [1, 0]


# ---- all of them -------------------------------------------------------------------------------------------------------


@given(policy=st.sampled_from(INDUSTRY), nodes=st.sampled_from(sorted(FLEETS)), seed=st.integers(0, 100_000))
@settings(max_examples=example_count(60), deadline=None)
def test_a_plan_can_be_carried_out_and_comes_out_alike_twice(policy: str, nodes: int, seed: int) -> None:
    """With missing instances, nodes that are not ready and whatever was seen; what the policy was shown stays as it was."""
    fleet, rng = FLEETS[nodes], np.random.default_rng(seed)
    busy = busy_snapshot(fleet, seed=seed)
    lost = rng.random(busy.instance_limit.shape) < 0.4
    seen = np.zeros(lost.shape, SEEN)
    for name in SEEN.names or ():
        seen[name] = rng.integers(0, 3, lost.shape)
    snapshot = replace(
        busy,
        instance_limit=np.where(lost, 0.0, busy.instance_limit),
        instance_count=np.where(lost, 0.0, busy.instance_count),
        node_ready=rng.random(nodes) < 0.8,
        answers=seen if rng.random() < 0.8 else None,
        at_s=1.5,
    )
    chosen = LcSettings(choices=int(rng.integers(2, 9)), probes=int(rng.integers(2, 9)), reach=int(rng.integers(1, 9)))
    arrivals = arrivals_for(fleet, 30, entry=int(rng.integers(len(snapshot.clusters))), seed=seed)
    before, seen_before = snapshot.in_flight.copy(), seen.copy()

    plan, again = (lc_rule(policy)(arrivals, snapshot, chosen) for _ in range(2))

    check_lc_plan(plan, arrivals, snapshot, cycle="a test")
    np.testing.assert_array_equal(plan.node, again.node)
    np.testing.assert_array_equal(snapshot.in_flight, before)
    np.testing.assert_array_equal(seen, seen_before)
