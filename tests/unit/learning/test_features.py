"""What the network sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.learning.features import CLUSTER_FEATURES, NEAR_CLUSTERS, NODE_FEATURES, _near_clusters, fleet_graph, kinds_of
from tests.fakes.be_worlds import be_world, reordered


@pytest.mark.parametrize("seed", range(5))
def test_reordering_the_nodes_reorders_the_rows_and_changes_nothing_else(seed: int) -> None:
    """Features follow the node, not its place in the list."""
    _, snapshot = be_world(seed)
    order = np.random.default_rng(seed).permutation(len(snapshot.nodes))
    before, after = fleet_graph(snapshot), fleet_graph(reordered(snapshot, order))
    np.testing.assert_allclose(after.node, before.node[order], rtol=1e-6)
    np.testing.assert_array_equal(after.node_cluster, before.node_cluster[order])
    np.testing.assert_allclose(after.cluster, before.cluster, rtol=1e-6)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_a_fleet_of_larger_machines_under_the_same_relative_load_looks_the_same(factor: float) -> None:
    """Features are ratios: pod sizes alone may tell the machines' size."""
    _, snapshot = be_world(1)
    scaled = replace(
        snapshot,
        **{
            name: getattr(snapshot, name) * factor
            for name in [
                "allocatable",
                "lc_requests",
                "be_requests",
                "lc_cpu_limit",
                "be_cpu_limit",
                "cpu_used",
                "memory_used",
                "instance_limit",
                "in_flight",
                "in_flight_work_s",
                "lc_cpu_recent",
            ]
        },
    )
    np.testing.assert_allclose(fleet_graph(scaled).node, fleet_graph(snapshot).node, rtol=1e-5)
    np.testing.assert_allclose(fleet_graph(scaled).cluster, fleet_graph(snapshot).cluster, rtol=1e-5)


def test_what_is_not_a_number_becomes_harmless() -> None:
    """One odd measurement does not reach the network as NaN or infinity."""
    _, snapshot = be_world(2)
    odd = replace(snapshot, slack=np.full(len(snapshot.nodes), np.nan), cpu_used=np.full(len(snapshot.nodes), np.inf))
    graph = fleet_graph(odd)
    assert np.isfinite(graph.node).all()
    assert np.isfinite(graph.cluster).all()
    assert graph.node.shape[1] == len(NODE_FEATURES)
    assert graph.cluster.shape[1] == len(CLUSTER_FEATURES)


def test_requests_of_one_size_are_one_kind() -> None:
    """Kinds are the distinct sizes, and every request finds its own."""
    pending, snapshot = be_world(3)
    kinds = kinds_of(pending, snapshot)
    found = kinds.sizes[kinds.of_request]
    np.testing.assert_array_equal(found[:, 0], pending.cpu_request_millicores)
    np.testing.assert_array_equal(found[:, 2], pending.memory_mib)
    assert len(np.unique(kinds.sizes, axis=0)) == len(kinds.sizes)


def test_sampled_neighbours_keep_large_fleets_cheap_and_the_rest_the_same() -> None:
    """Edges go to the nearest clusters alone; reordering the clusters reorders them."""
    rtt = np.random.default_rng(5).uniform(1, 50, (30, 30))
    rtt = (rtt + rtt.T) / 2
    edge_from, edge_to = _near_clusters(rtt)
    assert len(edge_from) == 30 * NEAR_CLUSTERS
    order = np.random.default_rng(6).permutation(30)
    moved_from, moved_to = _near_clusters(rtt[np.ix_(order, order)])
    assert set(zip(order[moved_from].tolist(), order[moved_to].tolist(), strict=True)) == set(
        zip(edge_from.tolist(), edge_to.tolist(), strict=True)
    )
