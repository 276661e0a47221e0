"""Placement by the network: the mask, the capacity counted down, and the compiled loop against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tango.domain.requests import BePending
from tango.domain.resource_axis import CPU, MEMORY
from tango.domain.snapshot import FleetSnapshot
from tango.learning import assignment
from tango.learning.assignment import PAIRS, Demand, Headroom, Scorer, assign
from tango.learning.features import MOST_KINDS, fleet_graph, kinds_of, node_headroom
from tango.learning.network import PlacementNetwork, batch_graphs
from tango.learning.policy import demand_of, place_by_network, scorer_of
from tests.fakes.be_worlds import asking, be_world, reordered
from tests.long import example_count


def _network(seed: int) -> PlacementNetwork:
    torch.manual_seed(seed)
    return PlacementNetwork(16).eval()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=example_count(60), deadline=None)
def test_no_plan_of_any_network_breaks_the_mask(seed: int) -> None:
    """Whatever the weights are: only ready nodes, requests within allocatable CPU and memory, and nothing that fits is left out."""
    pending, snapshot = be_world(seed, devices=seed % 2 == 0)
    down = np.random.default_rng(seed).random(len(snapshot.nodes)) < 0.2
    snapshot.node_ready[down] = False
    node = place_by_network(_network(seed), pending, snapshot)
    held = snapshot.lc_requests + snapshot.be_requests
    for k, chosen in enumerate(node):
        asked = pending.requests[:, k : k + 1]
        fits = snapshot.node_ready & ((asked == 0) | (held + asked <= snapshot.allocatable + 1e-6)).all(axis=0)
        if chosen < 0:
            assert not fits.any()
            continue
        assert fits[chosen]
        held[:, chosen] += pending.requests[:, k]


@pytest.mark.parametrize("seed", range(6))
def test_the_compiled_loop_chooses_what_torch_would(seed: int) -> None:
    """Every choice has the highest score that the torch actor gives to what that choice saw."""
    pending, snapshot = be_world(seed)
    network = _network(seed)
    kinds = kinds_of(pending, snapshot)
    with torch.no_grad():
        embedded, _ = network.encode(batch_graphs([fleet_graph(snapshot)]))
        scorer = scorer_of(network, network.actor_node(embedded), kinds)
    demand = demand_of(pending, kinds)
    kept, pair, allowed = _arrays_for(len(pending), len(snapshot.nodes))
    chosen = assignment.sample(scorer, demand, node_headroom(snapshot), -1, kept, pair, allowed)
    made = np.count_nonzero(chosen >= 0)
    of_kept = torch.from_numpy(kinds.features[kinds.of_request[kept[:made]]])
    with torch.no_grad():
        scores = network.scores(embedded[None], of_kept[:, None], torch.from_numpy(pair[:made])).numpy()
    scores = np.where(allowed[:made], scores, -np.inf)
    assert made > 0
    np.testing.assert_array_equal(kept[:made], np.flatnonzero(chosen >= 0))
    np.testing.assert_allclose(scores[np.arange(made), chosen[kept[:made]]], scores.max(axis=1), atol=1e-4)


def _arrays_for(count: int, nodes: int) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """What `assignment.sample` fills: rows, pair features and masks of so many placements."""
    return np.zeros(count, np.int64), np.zeros((count, nodes, PAIRS), np.float32), np.zeros((count, nodes), np.bool_)


def test_what_is_kept_of_many_placements_is_an_even_draw() -> None:
    """Of all placements of a tick each is kept as often as any other, once at most, with its own mask."""
    pending, snapshot = be_world(2)
    network = _network(5)
    scorer, demand = _seen(network, pending, snapshot)
    chosen = assign(scorer, demand, node_headroom(snapshot))
    made = np.flatnonzero(chosen >= 0)
    kept, pair, allowed = _arrays_for(4, len(snapshot.nodes))
    counts = np.zeros(len(pending))
    for seed in range(3000):
        sampled = assignment.sample(scorer, demand, node_headroom(snapshot), seed, kept, pair, allowed)
        assert len(set(kept.tolist())) == 4
        assert allowed[np.arange(4), sampled[kept]].all()
        counts[kept] += 1

    assert len(made) == len(pending) > 8
    np.testing.assert_allclose(counts / 3000, 4 / len(made), atol=0.035)


def test_the_order_of_the_nodes_does_not_matter() -> None:
    """The same nodes are chosen by name when the fleet is listed in another order."""
    pending, snapshot = be_world(11)
    order = np.random.default_rng(0).permutation(len(snapshot.nodes))
    network = _network(3)
    straight = [snapshot.nodes[k] if k >= 0 else "" for k in place_by_network(network, pending, snapshot)]
    shuffled = reordered(snapshot, order)
    other = [shuffled.nodes[k] if k >= 0 else "" for k in place_by_network(network, pending, shuffled)]
    assert straight == other


def _crowded(seed: int, *, times: int, requests: int, distinct: bool) -> tuple[BePending, FleetSnapshot]:
    """A fleet of some blocks of nodes, every node there several times so that scores tie, some of them down, and many requests."""
    pending, snapshot = be_world(seed, ticks=3, devices=seed % 2 == 0)
    rng = np.random.default_rng(seed)
    snapshot = reordered(snapshot, np.tile(np.arange(len(snapshot.nodes)), times))
    snapshot.node_ready[rng.random(len(snapshot.nodes)) < 0.1] = False
    pending = pending.rows(rng.integers(0, len(pending), requests))
    if distinct:
        pending = asking(pending, memory=rng.uniform(16, 6000, requests))
    return pending, snapshot


def _seen(network: PlacementNetwork, pending: BePending, snapshot: FleetSnapshot) -> tuple[Scorer, Demand]:
    kinds = kinds_of(pending, snapshot)
    with torch.no_grad():
        embedded, _ = network.encode(batch_graphs([fleet_graph(snapshot)]))
        return scorer_of(network, network.actor_node(embedded), kinds), demand_of(pending, kinds)


def _by_the_book(scorer: Scorer, demand: Demand, left: Headroom) -> NDArray[np.int32]:
    """Every node scored anew for every request, in the kernel's order of additions."""
    headroom = left.figures
    chosen = np.full(len(demand.of_request), -1, np.int32)
    for k, u in enumerate(demand.of_request.tolist()):
        request, limit, memory = demand.scored[u]
        limits = headroom[:, assignment.BE_LIMIT] + limit
        pair = np.stack(
            (
                np.minimum(4.0, limits / headroom[:, assignment.LC_LEAVES]),
                np.minimum(1.0, headroom[:, assignment.LC_LEAVES] / limits),
                (headroom[:, assignment.REQUESTED] + request) / headroom[:, assignment.CPU_OF],
                (headroom[:, assignment.MEMORY_HELD] + memory) / headroom[:, assignment.MEMORY_OF],
                np.minimum(4.0, limits / headroom[:, assignment.LC_LEAVES_MOSTLY]),
                np.minimum(4.0, limit / headroom[:, assignment.LC_LEAVES]),
                np.clip((headroom[:, assignment.LC_LEAVES] - limits) / headroom[:, assignment.SCALE], -4.0, 4.0),
                np.clip((headroom[:, assignment.LC_LEAVES_MOSTLY] - limits) / headroom[:, assignment.SCALE], -4.0, 4.0),
            )
        ).astype(np.float32)
        held = scorer.nodes + scorer.kinds[:, u]
        for d in range(PAIRS):
            held = held + pair[d][:, None] * scorer.weights[:, d]
        score = np.zeros(len(headroom), np.float32)
        for h in range(held.shape[1]):
            score += scorer.head[h] * np.maximum(held[:, h], np.float32(0))
        asked = demand.requests[:, k : k + 1]
        fits = left.ready & ((asked == 0) | (asked <= left.free + 1e-6)).all(axis=0)
        if fits.any():
            chosen[k] = int(np.argmax(np.where(fits, score, -np.inf)))
            size = demand.requests[CPU, k], demand.limit[k], demand.requests[MEMORY, k]
            headroom[chosen[k], [assignment.REQUESTED, assignment.BE_LIMIT, assignment.MEMORY_HELD]] += size
            left.free[:, chosen[k]] -= demand.requests[:, k]
    return chosen


@given(seed=st.integers(0, 10_000), times=st.integers(1, 6), requests=st.integers(1, 200), distinct=st.booleans())
@settings(max_examples=example_count(60), deadline=None)
def test_the_fast_step_places_as_the_slow_ones(seed: int, times: int, requests: int, distinct: bool) -> None:
    """Blocks and rows of scores that are kept change no choice, ties and different sizes by the hundred included; nor does no noise."""
    pending, snapshot = _crowded(seed, times=times, requests=requests, distinct=distinct)
    scorer, demand = _seen(_network(seed), pending, snapshot)

    fast = assign(scorer, demand, node_headroom(snapshot))

    np.testing.assert_array_equal(fast, _by_the_book(scorer, demand, node_headroom(snapshot)))
    sampled = assignment.sample(scorer, demand, node_headroom(snapshot), -1, *_arrays_for(8, len(snapshot.nodes)))
    np.testing.assert_array_equal(fast, sampled)


def test_noise_makes_the_choice_a_sample_of_the_softmax() -> None:
    """With Gumbel noise, nodes are chosen as often as the softmax of their scores says."""
    pending, snapshot = be_world(4)
    pending = pending.rows(np.zeros(1, np.int64))
    network = _network(1)
    scorer, demand = _seen(network, pending, snapshot)
    count = len(snapshot.nodes)
    kept, record, allowed = _arrays_for(1, count)
    chosen = [
        int(assignment.sample(scorer, demand, node_headroom(snapshot), seed, kept, record, allowed)[0]) for seed in range(4000)
    ]
    with torch.no_grad():
        embedded, _ = network.encode(batch_graphs([fleet_graph(snapshot)]))
        kind = torch.from_numpy(kinds_of(pending, snapshot).features)
        logits = network.scores(embedded, kind, torch.from_numpy(record[0])).masked_fill(~torch.from_numpy(allowed[0]), -torch.inf)
    wanted = torch.softmax(logits, 0).numpy()

    np.testing.assert_allclose(np.bincount(chosen, minlength=count) / 4000, wanted, atol=0.03)


def test_many_different_sizes_are_scored_as_few() -> None:
    """2,000 different memory sizes of a few services become some dozens of kinds, whose least is the least of their requests."""
    pending, snapshot = _crowded(8, times=1, requests=2000, distinct=True)

    kinds = kinds_of(pending, snapshot)

    assert len(np.unique(pending.memory_mib)) > 1900
    assert len(kinds.sizes) <= 2 * MOST_KINDS
    for u in range(len(kinds.sizes)):
        own = pending.memory_mib[kinds.of_request == u]
        assert kinds.least[MEMORY, u] == own.min()
        assert own.min() <= kinds.sizes[u, 2] <= own.max()
        assert own.max() <= 1.45 * own.min()
