"""BE placement by rule: the compiled steps against plain NumPy, one request after another over all nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.be_headroom import BeHeadroom
from tango.scheduling.be_policies import place_kube, place_kube_packed, place_kube_spread, place_load_greedy, place_scoring
from tango.settings import BeSettings
from tests.fakes.be_worlds import asking, be_world, reordered
from tests.long import example_count

Score = Callable[[BeHeadroom, BePending, int], NDArray[np.float64]]


def share(headroom: BeHeadroom, pending: BePending, k: int) -> NDArray[np.float64]:
    """`load-greedy`: BE's share of what LC leaves, the request included."""
    left = np.maximum(1.0, headroom.snapshot.cpu_allocatable - headroom.snapshot.lc_cpu_in_use)
    return -(headroom.be_limit + pending.cpu_limit_millicores[k]) / left


def weighted(headroom: BeHeadroom, pending: BePending, k: int) -> NDArray[np.float64]:
    """`scoring`: free CPU, free memory, short queue."""
    cpu = np.maximum(1.0, headroom.snapshot.cpu_allocatable)
    free_cpu = 1 - headroom.snapshot.cpu_used / cpu
    return (
        0.4 * free_cpu
        + 0.2 * (headroom.memory_mib / np.maximum(1.0, headroom.snapshot.memory_allocatable))
        - 0.4 * (headroom.be_limit / cpu)
    )


def kube(headroom: BeHeadroom, pending: BePending, k: int) -> NDArray[np.float64]:
    """`k8s-native`: LeastAllocated and BalancedAllocation in the entry cluster."""
    cpu = 1 - (headroom.cpu_millicores - pending.cpu_request_millicores[k]) / np.maximum(1.0, headroom.snapshot.cpu_allocatable)
    memory = 1 - (headroom.memory_mib - pending.memory_mib[k]) / np.maximum(1.0, headroom.snapshot.memory_allocatable)
    at_home = headroom.snapshot.node_cluster == pending.entry_cluster[k]
    return np.where(at_home, (1 - cpu + 1 - memory) / 2 + (1 - np.abs(cpu - memory) / 2), -np.inf)


def spread(headroom: BeHeadroom, pending: BePending, k: int) -> NDArray[np.float64]:
    """`k8s-spread`: the same over all clusters."""
    cpu, memory = used_with(headroom, pending, k)
    return np.asarray((1 - cpu + 1 - memory) / 2 + (1 - np.abs(cpu - memory) / 2))


def packed(headroom: BeHeadroom, pending: BePending, k: int) -> NDArray[np.float64]:
    """`k8s-packed`: RequestedToCapacityRatio from nothing at 0 % to the most at 100 %, and BalancedAllocation."""
    cpu, memory = used_with(headroom, pending, k)
    return np.asarray((cpu + memory) / 2 + (1 - np.abs(cpu - memory) / 2))


def used_with(headroom: BeHeadroom, pending: BePending, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of CPU and memory that would be requested with the request."""
    cpu = 1 - (headroom.cpu_millicores - pending.cpu_request_millicores[k]) / np.maximum(1.0, headroom.snapshot.cpu_allocatable)
    return cpu, 1 - (headroom.memory_mib - pending.memory_mib[k]) / np.maximum(1.0, headroom.snapshot.memory_allocatable)


def placed(pending: BePending, snapshot: FleetSnapshot, score: Score) -> NDArray[np.int32]:
    """The rule, written out."""
    headroom = BeHeadroom(snapshot)
    node = np.full(len(pending), -1, np.int32)
    for k in range(len(pending)):
        scores = np.where(headroom.fits(pending, k), score(headroom, pending, k), -np.inf)
        if np.isfinite(scores.max(initial=-np.inf)):
            node[k] = int(np.argmax(scores))
            headroom.count_in(pending, k, int(node[k]))
    return node


def many_times(snapshot: FleetSnapshot, times: int) -> FleetSnapshot:
    """A fleet whose nodes all stand there so many times: every score is tied."""
    return reordered(snapshot, np.tile(np.arange(len(snapshot.nodes)), times))


POLICIES = [
    (place_load_greedy, share),
    (place_scoring, weighted),
    (place_kube, kube),
    (place_kube_spread, spread),
    (place_kube_packed, packed),
]


@pytest.mark.parametrize(("place", "score"), POLICIES)
@given(
    seed=st.integers(0, 10_000),
    times=st.integers(1, 6),
    requests=st.integers(0, 250),
    sizes=st.sampled_from(("few", "memory", "all")),
    devices=st.booleans(),
)
@settings(max_examples=example_count(60), deadline=None)
def test_the_compiled_step_places_as_the_rule_written_out(
    place: Callable[..., object], score: Score, seed: int, times: int, requests: int, sizes: str, devices: bool
) -> None:
    """Over up to seven blocks of nodes with ties, some down, some full: the same node for every request."""
    pending, snapshot = be_world(seed, ticks=2, devices=devices)
    rng = np.random.default_rng(seed)
    snapshot = many_times(snapshot, times)
    snapshot.node_ready[rng.random(len(snapshot.nodes)) < 0.1] = False
    pending = pending.rows(rng.integers(0, len(pending), requests if len(pending) else 0))
    count = len(pending)
    if sizes != "few":
        pending = asking(pending, memory=rng.uniform(16, 6000, count))
    if sizes == "all":
        request = rng.uniform(50, 3000, count)
        pending = asking(pending, cpu_request=request, cpu_limit=request * rng.uniform(1, 2, count))

    plan = place(pending, snapshot, BeSettings())

    np.testing.assert_array_equal(plan.node, placed(pending, snapshot, score))


@pytest.mark.parametrize(("place", "score"), POLICIES)
def test_a_fleet_that_fills_up_takes_what_fits_and_leaves_the_rest(place: Callable[..., object], score: Score) -> None:
    """When the nodes are full, small requests behind a large one that fits nowhere are still placed, as by the rule."""
    pending, snapshot = be_world(7)
    pending = pending.rows(np.arange(600) % len(pending))
    pending = asking(pending, memory=np.where(np.arange(600) % 3 == 0, 1e6, 64.0))

    node = place(pending, snapshot, BeSettings()).node

    assert (node[::3] == -1).all()
    assert (node >= 0).any()
    assert (node[1::3] == -1).any()
    np.testing.assert_array_equal(node, placed(pending, snapshot, score))


@pytest.mark.parametrize(("place", "_score"), POLICIES)
def test_a_plan_leaves_the_snapshot_as_it_was(place: Callable[..., object], _score: Score) -> None:
    """The headroom is counted down in copies."""
    pending, snapshot = be_world(3)
    before = {name: np.copy(getattr(snapshot, name)) for name in ("be_cpu_limit", "be_cpu_request", "be_memory_held", "be_pods")}

    node = place(pending, snapshot, BeSettings()).node

    assert (node >= 0).any()
    for name, held in before.items():
        np.testing.assert_array_equal(getattr(snapshot, name), held)
