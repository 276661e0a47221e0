"""What a cluster without a metrics server is asked."""

from __future__ import annotations

import pytest

from tango.errors import ClusterUnavailable, Forbidden, NotFound
from tango.kube.cluster_watch import KubernetesWatch
from tests.fakes.kube_client import FakeKubeClient

NODES = "/apis/metrics.k8s.io/v1beta1/nodes"


@pytest.mark.parametrize(
    "error",
    [NotFound("404", status=404), Forbidden("403", status=403), ClusterUnavailable("503: the API service is not available")],
    ids=["none", "not-for-us", "broken"],
)
async def test_a_metrics_server_that_does_not_answer_is_asked_ever_less_often(error: Exception) -> None:
    """Not once a second for ever; usage is unknown meanwhile, and that is no error."""
    client = FakeKubeClient()
    client.failures[NODES] = [error] * 100
    watch = KubernetesWatch(client, namespace="tango")  # type: ignore[arg-type]

    found = [await watch.node_usage() for _ in range(50)]

    assert found == [{}] * 50
    assert len(client.calls) == 1


async def test_when_it_answers_its_figures_are_there() -> None:
    """By node."""
    client = FakeKubeClient()
    client.put(NODES, {"items": [{"metadata": {"name": "n1"}, "usage": {"cpu": "1"}}]})
    watch = KubernetesWatch(client, namespace="tango")  # type: ignore[arg-type]

    assert await watch.node_usage() == {"n1": {"cpu": "1"}}
