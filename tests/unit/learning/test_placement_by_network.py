"""Placement by the network: the mask, the capacity counted down, and the compiled loop against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.learning.assignment import PAIRS, assign
from tango.learning.features import fleet_graph, kinds_of, node_room
from tango.learning.network import PlacementNetwork, batch_graphs
from tango.learning.policy import place_by_network
from tests.fakes.be_worlds import be_world, reordered


def _network(seed: int) -> PlacementNetwork:
    torch.manual_seed(seed)
    return PlacementNetwork(16).eval()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_no_plan_of_any_network_breaks_the_mask(seed: int) -> None:
    """Whatever the weights are: only ready nodes, requests within allocatable CPU and memory, and nothing that fits is left out."""
    pending, snapshot = be_world(seed)
    down = np.random.default_rng(seed).random(len(snapshot.nodes)) < 0.2
    snapshot.node_ready[down] = False
    node = place_by_network(_network(seed), pending, snapshot)
    cpu, memory = snapshot.cpu_requested.copy(), snapshot.memory_allocatable - snapshot.memory_free
    for k, chosen in enumerate(node):
        fits = (
            snapshot.node_ready
            & (cpu + pending.cpu_request_millicores[k] <= snapshot.cpu_allocatable)
            & (memory + pending.memory_mib[k] <= snapshot.memory_allocatable)
        )
        if chosen < 0:
            assert not fits.any()
            continue
        assert fits[chosen]
        cpu[chosen] += pending.cpu_request_millicores[k]
        memory[chosen] += pending.memory_mib[k]


@pytest.mark.parametrize("seed", range(6))
def test_the_compiled_loop_chooses_what_torch_would(seed: int) -> None:
    """Every choice has the highest score that the torch actor gives to what that choice saw."""
    pending, snapshot = be_world(seed)
    network = _network(seed)
    kinds = kinds_of(pending, snapshot)
    with torch.no_grad():
        embedded, _ = network.encode(batch_graphs([fleet_graph(snapshot)]))
        nodes, sizes = network.actor_node(embedded).numpy(), network.actor_kind(torch.from_numpy(kinds.features)).numpy()
        weights, head = network.actor_pair.weight.numpy(), network.actor_out.weight.numpy()[0]
    pair = np.zeros((len(pending), len(snapshot.nodes), PAIRS), np.float32)
    allowed = np.zeros((len(pending), len(snapshot.nodes)), np.bool_)
    chosen = assign(
        nodes,
        sizes,
        weights,
        head,
        node_room(snapshot),
        kinds.sizes,
        kinds.of_request,
        np.zeros((0, 0), np.float32),
        pair,
        allowed,
    )
    with torch.no_grad():
        scores = network.scores(embedded[None], torch.from_numpy(kinds.features[kinds.of_request])[:, None], torch.from_numpy(pair))
    scores = np.where(allowed, scores.numpy(), -np.inf)
    made = chosen >= 0
    assert made.any()
    np.testing.assert_allclose(scores[made, chosen[made]], scores[made].max(axis=1), atol=1e-4)


def test_the_order_of_the_nodes_does_not_matter() -> None:
    """The same nodes are chosen by name when the fleet is listed in another order."""
    pending, snapshot = be_world(11)
    order = np.random.default_rng(0).permutation(len(snapshot.nodes))
    network = _network(3)
    straight = [snapshot.nodes[k] if k >= 0 else "" for k in place_by_network(network, pending, snapshot)]
    shuffled = reordered(snapshot, order)
    other = [shuffled.nodes[k] if k >= 0 else "" for k in place_by_network(network, pending, shuffled)]
    assert straight == other
