"""`tango bench placement` on an embedded server, as small as it goes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tango.bench.placement import measure
from tango.errors import ConfigError
from tests.integration.kube_cluster import EmbeddedCluster

NODE = {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "20"}, "conditions": [{"type": "Ready", "status": "True"}]}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """A cluster of somebody's, with one node."""
    cluster = EmbeddedCluster(tmp_path_factory.mktemp("theirs"))
    try:
        cluster.start()
        cluster.call("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}})
        cluster.call("PATCH", "/api/v1/nodes/n1/status", {"status": NODE})
        yield cluster
    finally:
        cluster.stop()


def test_pods_go_through_the_learned_placement_and_are_gone_at_the_end(theirs: EmbeddedCluster) -> None:
    """Both sides place the same number on the same server; its namespace and its pods go with the benchmark."""
    told: list[str] = []

    figures = measure(pods=15, rounds=2, kubeconfig_path=theirs.kubeconfig, context="root", told=told.append)

    first, *parts = figures
    assert "15 pods, 1 nodes, decided by dcg-be" in first.name
    assert "(" not in first.name.partition("(")[2], "no fallback decided"
    assert first.value > 0
    assert first.yardstick_value is not None
    assert first.yardstick_value > 0
    assert [f.unit for f in parts] == ["ms"] * 4
    assert sum(f.value for f in parts) == pytest.approx(1e3 / first.value, rel=0.5)
    assert [line.split(":")[0] for line in told[-2:]] == ["round 1", "round 2"]
    assert theirs.call("GET", "/api/v1/pods")["items"] == []
    names = {
        n["metadata"]["name"] for n in theirs.call("GET", "/api/v1/namespaces")["items"] if "deletionTimestamp" not in n["metadata"]
    }
    assert "tango-bench" not in names


def test_neither_a_namespace_that_is_in_use_nor_nodes_without_room_are_taken(theirs: EmbeddedCluster) -> None:
    """What is in it may be of use to somebody; and a benchmark that waits for room measures the nodes."""
    theirs.new_namespace("in-use")

    with pytest.raises(ConfigError, match="namespace 'in-use' is there already"):
        measure(pods=1, kubeconfig_path=theirs.kubeconfig, context="root", namespace="in-use")
    with pytest.raises(ConfigError, match=r"room for 20, 21 are wanted; give fewer: --pods 20"):
        measure(pods=21, kubeconfig_path=theirs.kubeconfig, context="root", namespace="roomy")
