"""The compiled dispatch step against a plain look at every node, and the policies that look at the entry cluster alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.domain.requests import LcArrivals
from tango.domain.smallest import smallest_arrivals, smallest_snapshot
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.lc.columns import NO_NOISE, NO_WEIGHTS, Asks, Belief, Terrain, new_belief, new_choices
from tango.scheduling.lc.dispatch import count_in, dispatch, see_home, set_prices
from tango.scheduling.lc.expected_time import time_on_node_s
from tango.scheduling.lc.rule import LcRule, lc_rule
from tango.settings import LcSettings
from tests.long import example_count

SEARCHING = ("load-greedy", "dss-lc", "scoring")
"""Policies that look at the whole fleet by a price."""


class Drawn(NamedTuple):
    """A random step: what is known, and the requests that come, entry by entry."""

    terrain: Terrain
    belief: Belief
    service: np.ndarray
    entry: np.ndarray
    budget_s: np.ndarray
    be_cores: np.ndarray


def drawn(seed: int, *, payloads: bool) -> Drawn:
    """Few distinct values, all of them sums of powers of two, so that ties are frequent and none of them is broken by rounding.

    Without payloads the longest way is a power of two as well, by which scores are divided.
    """
    rng = np.random.default_rng(seed)
    s, c, n, m = int(rng.integers(1, 4)), int(rng.integers(1, 7)), int(rng.integers(1, 13)), int(rng.integers(1, 41))
    rtt_s = rng.choice([1, 2, 4, 8, 16], (c, c)) / 256
    np.fill_diagonal(rtt_s, rng.choice([0.0, 1 / 256]))
    s_per_kib = rng.choice([0.0, 1.0, 4.0], (c, c)) / 1024
    np.fill_diagonal(s_per_kib, 0.0)
    cluster_of = rng.integers(0, c, n).astype(np.int32)
    terrain = Terrain(
        work_s=rng.choice([1, 2, 4], s) / 64,
        payload_kib=rng.choice([0.0, 4.0, 8.0], s) if payloads else np.zeros(s),
        target_s=rng.choice([1, 4, 8], s) / 64,
        rtt_s=rtt_s,
        s_per_kib=s_per_kib,
        near=np.argsort(rtt_s, axis=1, kind="stable").astype(np.int32),
        first=np.concatenate(([0], np.cumsum(np.bincount(cluster_of, minlength=c)))),
        members=np.argsort(cluster_of, kind="stable"),
        cluster_of=cluster_of,
        weights=np.array([[0.25, 0.125, 0.5, 0.125]]),
    )
    belief = new_belief(
        limit_cores=rng.choice([0.0, 0.5, 1.0, 2.0], (s, n)),
        places=rng.choice([1.0, 2.0, 8.0], (s, n)),
        in_flight=rng.choice([0.0, 0.0, 1.0, 2.0, 4.0], (s, n)),
        cores=rng.choice([1.0, 2.0, 4.0], n),
        clusters=c,
    )._replace(
        demand=np.full(n, np.nan),
        be_limit=np.full(n, np.inf),
        free_cpu=rng.choice([0.0, 0.5, 1.0], n),
        free_memory=rng.choice([0.25, 0.5], n),
    )
    return Drawn(
        terrain,
        belief,
        rng.integers(0, s, m).astype(np.int32),
        rng.integers(0, c, m),
        rng.choice([2, 8, 16, 64], m) / 256,
        rng.choice([0.0, 0.5, 1.0, 4.0], n),
    )


def plain(policy: str, step: Drawn) -> tuple[list[int], list[bool], list[float]]:
    """(nodes, late, expected) by trying every node for every request: what the step is meant to find."""
    t, b = step.terrain, step.belief
    in_flight = b.in_flight.copy()
    services, nodes = in_flight.shape
    longest = [
        max([1.0] + [in_flight[s, n] / b.limit_cores[s, n] for n in range(nodes) if b.limit_cores[s, n]]) for s in range(services)
    ]
    chosen, late, expected = [-1] * len(step.service), [False] * len(step.service), [math.inf] * len(step.service)
    for entry in range(len(t.rtt_s)):
        sent: dict[tuple[int, int], int] = {}
        farthest = t.near[entry, -1]
        for r in np.flatnonzero(step.entry == entry).tolist():
            s, budget_s = int(step.service[r]), step.budget_s[r]

            def away_s(c: int, s: int = s, entry: int = entry) -> float:
                return t.rtt_s[entry, c] + t.payload_kib[s] * t.s_per_kib[entry, c]

            def time_s(n: int, s: int = s) -> float:
                on_it, limit, places = in_flight[s, n] + 1, b.limit_cores[s, n], b.places[s, n]
                service_s = t.work_s[s] * max(1.0, min(on_it, places) / limit)
                alone_s = service_s + max(0.0, on_it - places) * t.work_s[s] / limit
                wanted = sum(min(in_flight[k, n] + (k == s), b.limit_cores[k, n]) for k in range(services))
                return alone_s * max(1.0, wanted / b.cores[n]) if policy == "dss-lc" else alone_s

            usable = [n for n in range(nodes) if b.limit_cores[s, n] > 0]
            if not usable:
                continue
            cost = {n: away_s(t.cluster_of[n]) + time_s(n) for n in usable}
            carried = {
                n: (sent.get((s, t.cluster_of[n]), 0) + 1) * t.payload_kib[s] * t.s_per_kib[entry, t.cluster_of[n]] <= t.target_s[s]
                for n in usable
            }
            if policy == "scoring":
                free_cpu, free_memory, near, queue = t.weights[0]
                scale = max(1e-9, away_s(farthest))
                score = {
                    n: near * away_s(t.cluster_of[n]) / scale
                    + (
                        queue * (in_flight[s, n] / b.limit_cores[s, n] / longest[s])
                        - free_cpu * b.free_cpu[n]
                        - free_memory * b.free_memory[n]
                    )
                    for n in usable
                }
                n = min(usable, key=lambda n: (score[n], n))
            else:
                in_time = [n for n in usable if cost[n] <= budget_s and (policy == "load-greedy" or carried[n])]
                # Of the entry cluster's equally quick nodes the one where BE loses least; of another's the first.
                lost = dict.fromkeys(usable, 1.0)
                if policy == "dss-lc":
                    for n in (n for n in usable if t.cluster_of[n] == entry):
                        wanted = step.be_cores[n] + sum(min(in_flight[k, n], b.limit_cores[k, n]) for k in range(services)) + 1.0
                        lost[n] = min(1.0, max(0.0, wanted - b.cores[n]))
                offered = {
                    c: min((cost[n], lost[n], n) for n in usable if t.cluster_of[n] == c)[2]
                    for c in set(t.cluster_of[usable].tolist())
                }
                n = min(set(offered.values()) & set(in_time) or offered.values(), key=lambda n: (cost[n], n))
            chosen[r], expected[r] = n, cost[n]
            late[r] = bool(cost[n] > budget_s or (policy == "dss-lc" and not carried[n]))
            in_flight[s, n] += 1
            sent[s, t.cluster_of[n]] = sent.get((s, t.cluster_of[n]), 0) + 1
    return chosen, late, expected


@pytest.mark.parametrize("policy", SEARCHING)
@given(seed=st.integers(0, 1_000_000))
@settings(max_examples=example_count(80), deadline=None)
def test_offers_of_clusters_lead_to_the_plan_of_a_look_at_every_node(policy: str, seed: int) -> None:
    """Several services, entries and budgets, narrow links, equal nodes: the same node for every request, not one as good."""
    step = drawn(seed, payloads=policy != "scoring")
    expected = plain(policy, step)
    m, (services, _) = len(step.service), step.belief.price.shape
    to = new_choices(m)
    traits = lc_rule(policy).traits

    set_prices(traits, step.terrain, step.belief)
    for entry in range(len(step.terrain.rtt_s)):
        see_home(traits, step.terrain, step.belief, entry, step.be_cores)
        dispatch(
            traits,
            entry,
            np.flatnonzero(step.entry == entry),
            Asks(step.service, step.budget_s, np.arange(m)),
            step.terrain,
            step.belief,
            np.zeros((services, len(step.terrain.rtt_s))),
            to,
            NO_NOISE,
        )
        see_home(traits, step.terrain, step.belief, entry, np.full(step.belief.price.shape[1], np.inf))

    assert to.node.tolist() == expected[0]
    assert to.late.tolist() == expected[1]
    assert to.expected_s.tolist() == pytest.approx(expected[2], rel=1e-12)


@given(work_s=st.floats(0.001, 2.0), limit=st.floats(0.05, 8.0), places=st.integers(1, 20), in_flight=st.integers(0, 60))
@settings(deadline=None)
def test_expected_time_rises_with_the_queue_and_is_convex(work_s: float, limit: float, places: int, in_flight: int) -> None:
    """Each further request costs at least as much as the one before it, and never less than its own work: the search stops by that."""
    first, second, third = (time_on_node_s(work_s, limit, float(places), float(in_flight + k)) for k in range(3))

    assert work_s <= first <= second <= third
    assert third - second >= second - first - 1e-9
    assert time_on_node_s(work_s, 0.0, float(places), float(in_flight)) == math.inf


# ---- crowding ----------------------------------------------------------------------------------------------------------


def one_node(cores: float, limits: list[float], in_flight: list[int], *, places: float = 64.0) -> tuple[Terrain, Belief]:
    """Some services on a single node, priced for `dss-lc`."""
    s = len(limits)
    terrain = Terrain(
        work_s=np.full(s, 0.1),
        payload_kib=np.zeros(s),
        target_s=np.full(s, 1.0),
        rtt_s=np.zeros((1, 1)),
        s_per_kib=np.zeros((1, 1)),
        near=np.zeros((1, 1), np.int32),
        first=np.array([0, 1]),
        members=np.zeros(1, np.int64),
        cluster_of=np.zeros(1, np.int32),
        weights=NO_WEIGHTS,
    )
    belief = new_belief(
        limit_cores=np.array(limits)[:, None],
        places=np.full((s, 1), places),
        in_flight=np.array(in_flight, np.float64)[:, None],
        cores=np.array([cores]),
        clusters=1,
    )._replace(demand=np.full(1, np.nan))
    set_prices(lc_rule("dss-lc").traits, terrain, belief)
    return terrain, belief


def test_requests_of_another_service_make_a_full_node_dearer() -> None:
    """Four cores, two services that may each use all of them: six requests of one make the first of the other take 7/4 as long."""
    _, belief = one_node(4.0, [4.0, 4.0], [6, 0])

    assert belief.demand.tolist() == [4.0]
    assert belief.price[:, 0].tolist() == pytest.approx([0.1 * 7 / 4, 0.1 * 5 / 4])


LIMITS = st.lists(st.floats(0.05, 9.0), min_size=3, max_size=3)
COUNTS = st.lists(st.integers(0, 30), min_size=3, max_size=3)


@given(cores=st.floats(0.5, 16.0), limits=LIMITS, in_flight=COUNTS, places=st.integers(1, 20))
@settings(deadline=None)
def test_a_crowded_node_is_never_cheaper_and_an_uncrowded_one_costs_the_same(
    cores: float, limits: list[float], in_flight: list[int], places: int
) -> None:
    """At least the time that the service's own limit gives; exactly that while the node has a whole core for one request more."""
    _, belief = one_node(cores, limits, in_flight, places=float(places))

    alone = [time_on_node_s(0.1, limit, float(places), float(on_it)) for limit, on_it in zip(limits, in_flight, strict=True)]
    assert (belief.price[:, 0] >= alone).all()
    if belief.demand[0] + 1.0 <= cores:
        assert belief.price[:, 0].tolist() == alone


@given(cores=st.floats(0.5, 16.0), limits=LIMITS, in_flight=COUNTS, service=st.integers(0, 2))
@settings(deadline=None)
def test_no_price_of_a_node_falls_when_a_request_is_counted_in(
    cores: float, limits: list[float], in_flight: list[int], service: int
) -> None:
    """Of no service; and what is counted in leaves the same prices as if it had been there from the start."""
    terrain, belief = one_node(cores, limits, in_flight)
    before = belief.price.copy()

    count_in(lc_rule("dss-lc").traits, terrain, belief, service, 0, 1.0)

    in_flight[service] += 1
    anew = one_node(cores, limits, in_flight)[1]
    assert (belief.price >= before - 1e-12).all()
    assert belief.demand.tolist() == anew.demand.tolist()
    assert belief.price.tolist() == anew.price.tolist()
    assert belief.best_price.tolist() == anew.best_price.tolist()


def test_the_other_policies_do_not_know_crowding() -> None:
    """`load-greedy` takes the crowded node that `dss-lc` avoids: two of another service fill its two cores."""
    crowded = replace(
        snapshot_of([2000.0, 1000.0], [0, 0]),
        allocatable=np.array([[2000.0, 2000.0], [1024.0, 1024.0], [110.0, 110.0]]),
        services=(smallest_snapshot().services[0], replace(smallest_snapshot().services[0], name="other")),
        instance_limit=np.array([[2000.0, 2000.0], [2000.0, 2000.0]]),
        instance_count=np.ones((2, 2)),
        in_flight=np.array([[0.0, 0.0], [4.0, 0.0]]),
        in_flight_work_s=np.zeros((2, 2)),
    )

    assert lc_rule("load-greedy")(arrivals_of(1), crowded, LcSettings()).node.tolist() == [0]
    assert lc_rule("dss-lc")(arrivals_of(1), crowded, LcSettings()).node.tolist() == [1]


def test_of_equally_quick_nodes_at_home_the_one_where_be_loses_least_is_taken() -> None:
    """Two nodes of a core, one with a BE pod that may use half of it; abroad BE is not looked at."""
    beside_be = replace(snapshot_of([1000.0, 1000.0], [0, 0]), be_cpu_limit=np.array([500.0, 0.0]))
    abroad = replace(snapshot_of([0.0, 1000.0, 1000.0], [0, 1, 1]), be_cpu_limit=np.array([0.0, 500.0, 0.0]))

    assert lc_rule("dss-lc")(arrivals_of(1), beside_be, LcSettings()).node.tolist() == [1]
    assert lc_rule("load-greedy")(arrivals_of(1), beside_be, LcSettings()).node.tolist() == [0]
    assert lc_rule("dss-lc")(arrivals_of(1), abroad, LcSettings()).node.tolist() == [1]


# ---- policies of the entry cluster -------------------------------------------------------------------------------------


def snapshot_of(limits: list[float], clusters: list[int], *, in_flight: list[float] | None = None) -> FleetSnapshot:
    """One service over some nodes of two clusters, 1 ms apart."""
    one, n = smallest_snapshot(), len(limits)
    by_node = "node_ready allocatable lc_requests be_requests lc_cpu_limit be_cpu_limit cpu_used memory_used slack"
    return replace(
        one,
        clusters=("a", "b"),
        nodes=tuple(f"n{k}" for k in range(n)),
        node_cluster=np.array(clusters, np.int32),
        rtt_ms=np.array([[0.2, 1.0], [1.0, 0.2]]),
        bandwidth_mbit_per_s=np.array([[np.inf, 1e4], [1e4, np.inf]]),
        instance_limit=np.array([limits]),
        instance_count=np.array([[float(limit > 0) for limit in limits]]),
        in_flight=np.array([in_flight or [0.0] * n]),
        in_flight_work_s=np.zeros((1, n)),
        pending_be=np.zeros(2),
        **{name: np.repeat(getattr(one, name), n, axis=-1) for name in by_node.split()},
    )


def arrivals_of(count: int, *, entry: int = 0, first_id: int = 0) -> LcArrivals:
    """Some requests of one entry cluster."""
    one = smallest_arrivals()
    columns = {name: np.repeat(getattr(one, name), count) for name in one.__slots__}
    return LcArrivals(
        **(columns | {"request_id": np.arange(first_id, first_id + count), "entry_cluster": np.full(count, entry, np.int32)})
    )


def test_round_robin_takes_the_ready_endpoints_of_the_entry_cluster_in_turn() -> None:
    """By the number of the request; the node without an instance and the other cluster are never chosen, load does not matter."""
    snapshot = snapshot_of([500.0, 0.0, 500.0, 500.0, 500.0], [0, 0, 0, 1, 0], in_flight=[9.0, 0.0, 0.0, 0.0, 0.0])

    plan = lc_rule("round-robin")(arrivals_of(7, first_id=4), snapshot, LcSettings())

    assert plan.node.tolist() == [2, 4, 0, 2, 4, 0, 2]


def test_a_retry_takes_the_next_endpoint_in_turn() -> None:
    """A request whose attempt was lost does not come to the same dead endpoint again."""
    snapshot = snapshot_of([500.0, 500.0, 500.0], [0, 0, 0])
    again = replace(arrivals_of(3), epoch=np.array([0, 1, 2], np.int32))

    assert lc_rule("round-robin")(again, snapshot, LcSettings()).node.tolist() == [0, 2, 1]


@pytest.mark.parametrize("policy", [lc_rule("round-robin"), lc_rule("ceres")], ids=lambda policy: policy.name)
def test_policies_of_the_entry_cluster_find_no_node_where_that_has_none(policy: LcRule) -> None:
    """The other cluster has an idle instance: -1 all the same, neither late nor shed."""
    plan = policy(arrivals_of(2), snapshot_of([0.0, 500.0], [0, 1]), LcSettings(keep_late=False))

    assert plan.node.tolist() == [-1, -1]
    assert not plan.late.any()
    assert not plan.shed.any()
    assert np.isinf(plan.expected_s).all()


def test_ceres_takes_the_least_loaded_instance_of_the_entry_cluster() -> None:
    """Seven are in flight on the first node: the second and third share the batch, and the idle node next door gets nothing."""
    snapshot = snapshot_of([500.0, 500.0, 500.0, 500.0], [0, 0, 0, 1], in_flight=[7.0, 1.0, 2.0, 0.0])

    plan = lc_rule("ceres")(arrivals_of(4), snapshot, LcSettings())

    assert plan.node.tolist() == [1, 1, 2, 1]


def test_load_greedy_goes_abroad_when_that_is_quicker() -> None:
    """The same fleet: the idle node of the other cluster is 0.8 ms farther and 10 ms quicker."""
    snapshot = snapshot_of([500.0, 500.0, 500.0, 500.0], [0, 0, 0, 1], in_flight=[7.0, 1.0, 2.0, 0.0])

    assert lc_rule("load-greedy")(arrivals_of(1), snapshot, LcSettings()).node.tolist() == [3]


def test_a_node_that_is_not_ready_is_no_candidate() -> None:
    """An instance on a node that is gone counts for nothing, whatever its limit."""
    snapshot = snapshot_of([500.0, 500.0], [0, 0])
    gone = replace(snapshot, node_ready=np.array([False, True]))

    for policy in (lc_rule("round-robin"), lc_rule("ceres"), lc_rule("load-greedy")):
        assert policy(arrivals_of(2), gone, LcSettings()).node.tolist() == [1, 1]
