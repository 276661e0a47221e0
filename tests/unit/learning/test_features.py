"""What the network sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.learning.features import CLUSTER_FEATURES, NODE_FEATURES, fleet_graph, kinds_of
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
    """Features are ratios: only in-flight work against limits and pod sizes may tell the machines' size."""
    _, snapshot = be_world(1)
    scaled = replace(
        snapshot,
        **{
            name: getattr(snapshot, name) * factor
            for name in [
                "cpu_allocatable",
                "memory_allocatable",
                "lc_cpu_limit",
                "lc_cpu_request",
                "lc_memory_held",
                "be_cpu_request",
                "be_cpu_limit",
                "be_memory_held",
                "cpu_used",
                "memory_used",
                "instance_limit",
                "in_flight",
                "in_flight_work_s",
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
