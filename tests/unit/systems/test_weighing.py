"""What policies are said to have weighed, held to what they decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.bench.worlds import arrivals_for, busy_snapshot, fleet_of_size
from tango.domain.candidates import Weighing
from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.learning.policy import NetworkBePolicy
from tango.scheduling.be_policies import place_load_greedy
from tango.scheduling.be_weighing import WEIGHED_BE
from tango.scheduling.lc.built_in import POLICIES
from tango.scheduling.lc.weighing import WEIGHED_LC
from tango.settings import BeSettings, LcSettings, Settings
from tango.systems import be_policy, decided_lc, lc_policy
from tango.systems.weighing import AskedBe, weighed_be, weighed_lc
from tests.fakes.be_worlds import be_world
from tests.long import example_count

SETTINGS = Settings()
FLEETS = {nodes: fleet_of_size(nodes, clusters=clusters, seed=nodes) for nodes, clusters in ((4, 2), (12, 4), (40, 12))}
NETWORK = NetworkBePolicy("dcg-be", "", fallback=place_load_greedy)


def is_won_by(weighing: Weighing, chosen: int) -> bool:
    """Whether no node that could have taken the request had a better price than the chosen one."""
    prices = weighing.price[weighing.takes & np.isfinite(weighing.price)]
    best = prices.max() if weighing.highest_wins else prices.min()
    return bool(weighing.takes[chosen]) and float(weighing.price[chosen]) == float(best)


def drawn_lc(nodes: int, seed: int) -> tuple[LcArrivals, FleetSnapshot]:
    """A batch of one entry on a busy fleet, with some instances missing and lines that carry little."""
    fleet, rng = FLEETS[nodes], np.random.default_rng(seed)
    snapshot = busy_snapshot(fleet, seed=seed)
    lost = rng.random(snapshot.instance_limit.shape) < 0.3
    narrow = np.where(rng.random(snapshot.bandwidth_mbit_per_s.shape) < 0.5, 5.0, snapshot.bandwidth_mbit_per_s)
    np.fill_diagonal(narrow, np.inf)
    snapshot = replace(
        snapshot,
        instance_limit=np.where(lost, 0.0, snapshot.instance_limit),
        instance_count=np.where(lost, 0.0, snapshot.instance_count),
        in_flight=np.where(lost, 0.0, snapshot.in_flight * rng.integers(1, 9)),
        bandwidth_mbit_per_s=narrow,
    )
    return arrivals_for(fleet, int(rng.integers(1, 40)), entry=int(rng.integers(len(snapshot.clusters))), seed=seed), snapshot


@given(policy=st.sampled_from(WEIGHED_LC), nodes=st.sampled_from(sorted(FLEETS)), seed=st.integers(0, 100_000))
@settings(max_examples=example_count(60), deadline=None)
def test_the_price_that_is_told_of_the_chosen_instance_is_the_best_of_those_that_could_take_the_request(
    policy: str, nodes: int, seed: int
) -> None:
    """For each request of a batch, whichever LC policy decided, full lines and missing instances included; nothing it sees is changed."""
    arrivals, snapshot = drawn_lc(nodes, seed)
    in_flight, decides = snapshot.in_flight.copy(), lc_policy(policy, SETTINGS)
    plan = decided_lc(decides, arrivals, snapshot, LcSettings(), cycle="a test")

    rows = np.flatnonzero(plan.node >= 0).tolist()
    found = weighed_lc(decides, plan, arrivals, snapshot, LcSettings(), rows)

    assert len(found) == len(rows)
    assert [k for k, weighing in zip(rows, found, strict=True) if not is_won_by(weighing, int(plan.node[k]))] == []
    np.testing.assert_array_equal(snapshot.in_flight, in_flight)


@given(policy=st.sampled_from((*WEIGHED_BE, "dcg-be")), seed=st.integers(0, 100_000))
@settings(max_examples=example_count(60), deadline=None)
def test_the_price_that_is_told_of_the_chosen_node_is_the_best_of_those_with_room_for_the_pod(policy: str, seed: int) -> None:
    """For each request that was placed, those before it counted in, nodes that are not ready left out; of a network its very scores."""
    pending, snapshot = be_world(seed, devices=seed % 2 == 0)
    snapshot.node_ready[np.random.default_rng(seed).random(len(snapshot.nodes)) < 0.2] = False
    decides = NETWORK if policy == "dcg-be" else be_policy(policy, SETTINGS)
    plan = decides(pending, snapshot, BeSettings())

    rows = np.flatnonzero(plan.node >= 0).tolist()
    found = weighed_be(AskedBe(policy=decides, pending=pending, snapshot=snapshot, plan=plan), rows)

    assert plan.policy == policy
    assert len(found) == len(rows)
    assert [k for k, weighing in zip(rows, found, strict=True) if not is_won_by(weighing, int(plan.node[k]))] == []


@pytest.mark.parametrize("policy", [name for name in WEIGHED_LC if name != "round-robin"])
def test_parts_of_a_price_of_lc_add_up_to_it(policy: str) -> None:
    """Where a policy has parts; a learned one has figures instead."""
    arrivals, snapshot = drawn_lc(12, 5)
    decides = lc_policy(policy, SETTINGS)
    plan = decides(arrivals, snapshot, LcSettings())
    row = int(np.flatnonzero(plan.node >= 0)[0])

    (found,) = weighed_lc(decides, plan, arrivals, snapshot, LcSettings(), [row])

    told = np.isfinite(found.price)
    if found.parts:
        np.testing.assert_allclose(sum(found.parts.values())[told], found.price[told], atol=1e-9)
    assert bool(found.parts) == (policy != "dsaco")


@pytest.mark.parametrize("policy", WEIGHED_BE)
def test_parts_of_a_score_of_be_add_up_to_it(policy: str) -> None:
    """Of every built-in BE policy."""
    pending, snapshot = be_world(3)
    decides = be_policy(policy, SETTINGS)
    plan = decides(pending, snapshot, BeSettings())
    row = int(np.flatnonzero(plan.node >= 0)[-1])

    (found,) = weighed_be(AskedBe(policy=decides, pending=pending, snapshot=snapshot, plan=plan), [row])

    told = np.isfinite(found.price)
    np.testing.assert_allclose(sum(found.parts.values())[told], found.price[told], atol=1e-9)


def test_every_built_in_lc_policy_tells_what_it_weighs() -> None:
    """A new one is not forgotten."""
    assert sorted(WEIGHED_LC) == sorted(policy.name for policy in POLICIES)


def test_a_node_could_take_as_many_more_requests_as_are_given_to_it_before_one_is_late() -> None:
    """The capacity of a node in the flow: one instance, one cluster, requests of one service."""
    snapshot = busy_snapshot(FLEETS[4], seed=1)
    arrivals = arrivals_for(FLEETS[4], 1, seed=2)
    service = int(arrivals.service[0])
    alone = np.zeros_like(snapshot.instance_limit)
    alone[service, 0] = 2000.0
    snapshot = replace(
        snapshot,
        instance_limit=alone,
        instance_count=(alone > 0) * 1.0,
        in_flight=np.zeros_like(alone),
        node_cluster=snapshot.node_cluster,
    )
    decides = lc_policy("dss-lc", SETTINGS)
    plan = decides(arrivals, snapshot, LcSettings())
    (found,) = weighed_lc(decides, plan, arrivals, snapshot, LcSettings(), [0])
    fits = int(found.figures["more it could take in time"][0])

    many = replace(
        arrivals_for(FLEETS[4], fits + 1, seed=2),
        service=np.full(fits + 1, service, np.int32),
        target_s=np.full(fits + 1, arrivals.target_s[0]),
    )
    late = decides(many, snapshot, LcSettings()).late

    assert fits > 0
    assert late.tolist() == [False] * fits + [True]


def test_a_policy_of_others_tells_nothing_even_under_the_name_of_one_of_tango_s() -> None:
    """Its plan may call itself what it likes."""
    pending, snapshot = be_world(3)

    def by_hand(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        return BePlan(node=np.zeros(len(pending), np.int32), policy="load-greedy")

    def at_random(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
        raise AssertionError

    arrivals, seen = drawn_lc(4, 1)
    lc = lc_policy("dss-lc", SETTINGS)(arrivals, seen, LcSettings())
    plan = by_hand(pending, snapshot, BeSettings())

    assert weighed_be(AskedBe(policy=by_hand, pending=pending, snapshot=snapshot, plan=plan), [0]) == []
    assert weighed_lc(at_random, lc, arrivals, seen, LcSettings(), [0]) == []


def test_where_a_fallback_decided_its_prices_are_told() -> None:
    """By the name that the plan has, whose policy could not decide."""
    pending, snapshot = be_world(3)
    plan = replace(place_load_greedy(pending, snapshot, BeSettings()), fallback_reason="it has failed")
    row = int(np.flatnonzero(plan.node >= 0)[0])

    def fails(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        raise RuntimeError

    (found,) = weighed_be(AskedBe(policy=fails, pending=pending, snapshot=snapshot, plan=plan), [row])

    assert found.policy == "load-greedy"
    assert is_won_by(found, int(plan.node[row]))
