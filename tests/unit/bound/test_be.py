"""The BE bound: worlds that can be worked out on paper, the exhaustive optimum of tiny ones, and properties of every world."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from tango.bound import be_bound, bound_of
from tango.bound.be import be_of
from tango.bound.loss import STEP_S, best_be, tiny_be, tiny_fleet, tiny_lc
from tango.domain.fleet import Cluster, Fleet, Node
from tango.domain.services import Service, ServiceClass
from tests.fakes.run_records import i4, outcomes_of

WEB = Service(name="web", service_class=ServiceClass.LC, cpu_work_s=0.1, memory_mib=64, target_ms=1000.0, instance_memory_mib=1024)
BATCH = Service(name="batch", service_class=ServiceClass.BE, cpu_work_s=10.0, memory_mib=512, cpu_limit_millicores=1000)


def fleet_of(*nodes: tuple[float, int]) -> Fleet:
    """One cluster with nodes n1, n2 … of so many cores and MiB, of which an LC instance has 1024."""
    made = tuple(Node(name=f"n{k + 1}", cpu_millicores=int(1000 * cores), memory_mib=mib) for k, (cores, mib) in enumerate(nodes))
    return Fleet(name="pair", clusters=(Cluster(name="c1", nodes=made),), services=(WEB, BATCH))


def pod(due: float, work: float, *, memory: float = 512.0) -> dict[str, object]:
    """A BE request that the evaluated run never ran. The measured span of `outcomes_of` is 10 s to 100 s."""
    return {"cls": 1, "due": due, "work": work, "memory": memory, "state": "pending", "node": -1}


def lc(start: float, end: float, *, work: float | None = None, node: int = 0) -> dict[str, object]:
    """An LC request that the evaluated run completed, at a full core unless told otherwise."""
    return {"due": start, "start": start, "end": end, "work": end - start if work is None else work, "node": node}


def bound(fleet: Fleet, *rows: dict[str, object]) -> float:
    """Over 90 s, so that CPU-seconds can be read off: 90 x the bound."""
    found = be_bound(fleet, outcomes_of(list(rows), node_cluster=i4([0, 0])))
    assert found is not None
    return 90.0 * found


def test_nodes_of_one_name_are_two_nodes() -> None:
    """LC work on the n1 of c2 takes nothing of the n1 of c1, whose memory is of another kind."""
    ones = tuple(
        Cluster(name=name, nodes=(Node(name="n1", cpu_millicores=1000, memory_mib=mib),))
        for name, mib in (("c1", 2048), ("c2", 16384))
    )
    fleet = Fleet(name="pair", clusters=ones, services=(WEB, BATCH))
    rows = [pod(0.0, 500.0), pod(0.0, 500.0), *(lc(10.0 + k, 11.0 + k, node=1) for k in range(90))]

    found = be_bound(fleet, outcomes_of(rows, nodes=("n1", "n1")))
    distinct = dataclasses.replace(ones[1], nodes=(dataclasses.replace(ones[1].nodes[0], name="n2"),))
    apart = be_bound(dataclasses.replace(fleet, clusters=(ones[0], distinct)), outcomes_of(rows, nodes=("n1", "n2")))

    assert found == apart == pytest.approx(1.0)


@pytest.mark.parametrize(("pods", "work_s"), [(1, 90.0), (2, 180.0), (3, 180.0)])
def test_pods_are_held_by_their_limit_and_then_by_the_node(pods: int, work_s: float) -> None:
    """Pods of one core each on two cores, each with more work than the measured span has seconds."""
    assert bound(fleet_of((2.0, 16384)), *[pod(0.0, 500.0)] * pods) == pytest.approx(work_s)


def test_memory_that_instances_leave_holds_pods_back() -> None:
    """1024 of 2048 MiB are an LC instance's: one pod of 1000 MiB fits, and all of its time is 90 s."""
    assert bound(fleet_of((4.0, 2048)), *[pod(0.0, 500.0, memory=1000.0)] * 3) == pytest.approx(90.0 * 1024 / 1000)


def test_devices_hold_pods_back_as_memory_does() -> None:
    """Three pods of one core that ask for one device each, on four cores with two devices."""
    fleet = fleet_of((4.0, 16384))
    [cluster] = fleet.clusters
    nodes = tuple(dataclasses.replace(node, extended=(("nvidia.com/gpu", 2000),)) for node in cluster.nodes)
    asking = tuple(dataclasses.replace(s, extended=(("nvidia.com/gpu", 1000),)) if s == BATCH else s for s in fleet.services)
    with_devices = dataclasses.replace(fleet, clusters=(dataclasses.replace(cluster, nodes=nodes),), services=asking)
    without = dataclasses.replace(fleet, services=asking)

    assert bound(fleet, *[pod(0.0, 500.0)] * 3) == pytest.approx(270.0)
    assert bound(with_devices, *[pod(0.0, 500.0)] * 3) == pytest.approx(180.0)
    assert bound(without, *[pod(0.0, 500.0)] * 3) == 0.0


def test_pod_larger_than_every_node_runs_nowhere() -> None:
    """Two nodes with 1024 MiB left each do not hold a pod of 1500 MiB together."""
    assert bound(fleet_of((4.0, 2048), (4.0, 2048)), pod(0.0, 500.0, memory=1500.0)) == 0.0


def test_all_that_is_offered_is_no_more_than_that() -> None:
    """Three pods of 5 CPU-seconds."""
    assert bound(fleet_of((4.0, 16384)), *[pod(20.0, 5.0)] * 3) == pytest.approx(15.0)


def test_work_counts_from_its_arrival() -> None:
    """A pod that comes at 88 s has 12 s left in the measured span, whatever its work."""
    assert bound(fleet_of((4.0, 16384)), pod(88.0, 500.0)) == pytest.approx(12.0)


def test_lc_work_of_the_evaluated_run_is_taken_off() -> None:
    """One core; LC had it from 20 s to 60 s in pieces of 100 ms, each within a second."""
    pieces = [lc(20.0 + k / 2, 20.1 + k / 2) for k in range(80)]

    assert bound(fleet_of((1.0, 16384)), pod(0.0, 500.0), *pieces) == pytest.approx(82.0)


def test_lc_work_across_edges_of_buckets_is_taken_off_too() -> None:
    """A request that ran from 20.7 s to 23.2 s on a full core leaves 87.5 s, in whatever buckets they lie."""
    assert bound(fleet_of((1.0, 16384)), pod(0.0, 500.0), lc(20.7, 23.2)) == pytest.approx(87.5)


def test_lc_work_at_an_end_of_the_window_counts_as_far_as_it_must_lie_in_it() -> None:
    """Of 2 CPU-seconds between 8 s and 11 s one second can lie before the span at most two, so none need be in it; of 2.5, half."""
    fleet = fleet_of((1.0, 16384))

    assert bound(fleet, pod(0.0, 500.0), lc(8.0, 11.0, work=2.0)) == pytest.approx(90.0)
    assert bound(fleet, pod(0.0, 500.0), lc(8.0, 11.0, work=2.5)) == pytest.approx(89.5)


def test_lc_work_of_other_nodes_and_other_fates_is_not_taken_off() -> None:
    """What failed did no useful work, and a node that the fleet does not have gives none."""
    gone = {**lc(20.0, 20.5), "state": "failed"}

    assert bound(fleet_of((1.0, 16384)), pod(0.0, 500.0), gone, lc(30.0, 30.5, node=1)) == pytest.approx(90.0)


def test_pod_does_not_catch_up_beyond_its_limit() -> None:
    """LC has both cores from 10 s to 55 s; the pod then has 45 s of one core, though two are idle."""
    busy = [lc(10.0 + k, 11.0 + k) for k in range(45) for _ in range(2)]

    assert bound(fleet_of((2.0, 16384)), pod(0.0, 500.0), *busy) == pytest.approx(45.0)


def test_what_the_figure_credits_at_the_ends_is_added() -> None:
    """A pod that had 10 CPU-seconds from 0 s to 20 s is credited 5 in the measured span; it may have done all or none of them there."""
    ran = {"cls": 1, "due": 0.0, "start": 0.0, "end": 20.0, "work": 10.0, "memory": 512.0}
    full_speed = {**ran, "work": 20.0}

    assert bound(fleet_of((1.0, 16384)), ran) == pytest.approx(10.0 + 5.0)
    assert bound(fleet_of((1.0, 16384)), full_speed) == pytest.approx(20.0)


def test_nothing_to_stand_on() -> None:
    """No BE request: 0. A measured span without length: None, as the figure is."""
    fleet = fleet_of((1.0, 16384))

    assert be_bound(fleet, outcomes_of([lc(20.0, 20.5)])) == 0.0
    assert be_bound(fleet, outcomes_of([pod(0.0, 1.0)], span_s=0.0)) is None


def test_bound_is_never_below_the_optimum_of_a_tiny_world() -> None:
    """Exhaustive search over all schedules of 100 worlds, with buckets of one step, three and nine; and it is often met."""
    exact = 0
    for seed in range(100):
        fleet, outcomes = tiny_be(np.random.default_rng(10_000 + seed), most=3)
        optimum = best_be(fleet, outcomes)

        found = [be_of(fleet, outcomes, bucket_s=k * STEP_S) for k in (1, 3, 9)]

        assert all(rate is not None and rate >= optimum - 1e-9 for rate in [*found, be_bound(fleet, outcomes)]), seed
        exact += found[0] == pytest.approx(optimum)
    assert exact > 60


def test_longer_bucket_never_lowers_the_bound() -> None:
    """A bucket of three times the length allows all that the three did."""
    for seed in range(60):
        fleet, outcomes = tiny_be(np.random.default_rng(20_000 + seed))

        found = [be_of(fleet, outcomes, bucket_s=k * STEP_S) or 0.0 for k in (1, 3, 9)]

        assert found[0] <= found[1] + 1e-9 <= found[2] + 2e-9, seed


def test_more_cores_and_more_memory_never_lower_the_bound() -> None:
    """The optimum of a larger fleet is no smaller."""
    for seed in range(60):
        fleet, outcomes = tiny_be(np.random.default_rng(30_000 + seed))

        found = [be_bound(grown(fleet, cpu, memory), outcomes) or 0.0 for cpu, memory in ((1.0, 1.0), (1.5, 1.0), (1.5, 2.0))]

        assert found[0] <= found[1] + 1e-9 <= found[2] + 2e-9, seed


def grown(fleet: Fleet, cpu: float, memory: float) -> Fleet:
    """The same fleet with so many times the cores and the memory."""
    return replace(
        fleet,
        clusters=tuple(
            replace(
                c,
                nodes=tuple(
                    replace(n, cpu_millicores=int(n.cpu_millicores * cpu), memory_mib=int(n.memory_mib * memory)) for n in c.nodes
                ),
            )
            for c in fleet.clusters
        ),
    )


def test_both_bounds_of_a_run_come_together() -> None:
    """`bound_of` gives what the two give, and compares equal whatever the time it took."""
    fleet, outcomes = tiny_be(np.random.default_rng(1))
    requests = tiny_lc(np.random.default_rng(2), tiny_fleet(np.random.default_rng(1)))
    requests = replace(requests, clusters=tuple(c.name for c in fleet.clusters), cluster=np.zeros_like(requests.cluster))

    first, second = (bound_of(fleet, requests, outcomes) for _ in range(2))

    assert first == second
    assert first.be_cpu_seconds_per_s == be_bound(fleet, outcomes)
    assert first.lc_qos_rate is not None
