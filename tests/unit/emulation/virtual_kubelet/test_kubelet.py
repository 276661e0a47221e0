"""The kubelet against an API server in memory."""

from __future__ import annotations

import asyncio
import contextlib
import platform
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tango.domain.fleet import Cluster, Fleet, Node
from tango.emulation.virtual_kubelet import kubelet as kubelet_module
from tango.emulation.virtual_kubelet import metrics_writer
from tango.emulation.virtual_kubelet.kubelet import VirtualKubelet
from tango.emulation.virtual_kubelet.metrics_writer import MetricsWriter
from tango.emulation.virtual_kubelet.node_objects import ARCHITECTURES
from tango.emulation.virtual_kubelet.node_timeline import NodeTimeline
from tango.emulation.virtual_kubelet.pod_addresses import PodAddresses
from tango.errors import ClusterError
from tests.fakes.kube_client import FakeKubeClient

Json = dict[str, Any]
NODE = Node(name="n1", cpu_millicores=2000, memory_mib=2048)
FLEET = Fleet(name="f", clusters=(Cluster(name="here", nodes=(NODE,)),), services=())
PODS = "/api/v1/namespaces/tango/pods"


@pytest.fixture
async def client() -> FakeKubeClient:
    """An empty API server."""
    return FakeKubeClient()


@pytest.fixture
async def kubelet(client: FakeKubeClient) -> AsyncIterator[VirtualKubelet]:
    """A kubelet that is not started yet; stopped at the end."""
    loop = asyncio.get_running_loop()
    timeline = NodeTimeline([2.0], beta=0.0, call_later=loop.call_later)
    made = VirtualKubelet(client, FLEET, FLEET.clusters[0], namespace="tango", timeline=timeline, addresses=PodAddresses())  # type: ignore[arg-type]
    yield made
    await made.stop()


async def turns(holds: Callable[[], bool]) -> None:
    """Give the loop turns until something holds; fails when it never does."""
    for _ in range(2000):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to hold")


def pod(name: str, kind: str, *, phase: str = "Pending", work_s: float = 60.0, **metadata: Any) -> Json:
    """A pod that is bound to the node."""
    container: Json = {"name": "work", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "64Mi"}}}
    if kind == "be":
        container["env"] = [{"name": "TANGO_CPU_WORK_S", "value": str(work_s)}]
    else:
        container["ports"] = [{"containerPort": 18080}]
    status: Json = {"phase": phase}
    if phase == "Running":
        state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        status["containerStatuses"] = [{"name": "work", "restartCount": 2, "state": state}]
    labels = {"tango/class": kind}
    return {
        "metadata": {"namespace": "tango", "labels": labels, **metadata},
        "spec": {"nodeName": "n1", "containers": [container]},
        "status": status,
    }


def phase(client: FakeKubeClient, name: str) -> str:
    """The pod's phase on the server."""
    return str(client.objects[f"{PODS}/{name}"]["status"]["phase"])


async def test_a_known_node_is_brought_up_to_date_and_keeps_foreign_taints(client: FakeKubeClient, kubelet: VirtualKubelet) -> None:
    """The not-ready taint goes, what an administrator set stays, the lease is there."""
    taints = [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}, {"key": "mine", "effect": "NoSchedule"}]
    client.put("/api/v1/nodes/n1", {"metadata": {"labels": {"old": "x"}}, "spec": {"taints": taints, "unschedulable": True}})

    running = asyncio.create_task(kubelet.run())
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"
    await turns(lambda: lease in client.objects)
    running.cancel()

    node = client.objects["/api/v1/nodes/n1"]
    assert [t["key"] for t in node["spec"]["taints"]] == ["mine", "virtual-kubelet.io/provider"]
    assert node["spec"]["unschedulable"] is True
    assert node["metadata"]["labels"] == {
        "old": "x",
        "tango/cluster": "here",
        "type": "virtual-kubelet",
        "kubernetes.io/hostname": "n1",
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": ARCHITECTURES.get(platform.machine(), platform.machine()),
    }
    assert node["status"]["allocatable"] == {"cpu": "2", "memory": "2Gi", "pods": "110"}


async def test_a_kubelet_that_was_taken_for_dead_tells_that_it_lives(client: FakeKubeClient, kubelet: VirtualKubelet) -> None:
    """Its node was made Unknown and its pods not ready while it stood still: it posts the node's status and theirs."""
    client.put(f"{PODS}/serve", pod("serve", "lc"))
    running = asyncio.create_task(kubelet.run())

    def ready(path: str) -> list[str]:
        conditions = (client.objects[path].get("status") or {}).get("conditions") or []
        return [c["status"] for c in conditions if c["type"] == "Ready"]

    await turns(lambda: ready(f"{PODS}/serve") == ["True"])
    served = client.objects[f"{PODS}/serve"]
    silent = [{"type": "Ready", "status": "False"}]
    client.put(f"{PODS}/serve", {**served, "status": {**served["status"], "conditions": silent}})
    node = client.objects["/api/v1/nodes/n1"]
    unknown = [{"type": "Ready", "status": "Unknown"}]
    client.put("/api/v1/nodes/n1", {**node, "status": {**node["status"], "conditions": unknown}})

    await turns(lambda: ready("/api/v1/nodes/n1") == ["True"] and ready(f"{PODS}/serve") == ["True"])
    running.cancel()


async def test_pods_found_running_at_the_start_have_lived_through_a_reboot(client: FakeKubeClient, kubelet: VirtualKubelet) -> None:
    """LC containers restart, BE pods are lost, ended pods are left alone, pods under deletion are let go."""
    client.put(f"{PODS}/serve", pod("serve", "lc", phase="Running"))
    client.put(f"{PODS}/work", pod("work", "be", phase="Running"))
    client.put(f"{PODS}/done", pod("done", "be", phase="Succeeded"))
    client.put(f"{PODS}/fresh", pod("fresh", "be"))
    client.put(f"{PODS}/leaving", pod("leaving", "be", phase="Running", deletionTimestamp="2026-01-01T00:00:00Z"))

    running = asyncio.create_task(kubelet.run())
    await turns(
        lambda: (
            phase(client, "work") == "Failed"
            and phase(client, "fresh") == "Running"
            and f"{PODS}/leaving" not in client.objects
            and bool(client.objects[f"{PODS}/serve"]["status"].get("podIP"))
        )
    )
    running.cancel()

    serve = client.objects[f"{PODS}/serve"]["status"]
    assert (serve["phase"], serve["containerStatuses"][0]["restartCount"]) == ("Running", 3)
    assert client.objects[f"{PODS}/work"]["status"]["reason"] == "NodeLost"
    assert not [path for _, path, _ in client.calls if "/done" in path]


async def test_a_pod_costs_no_call_but_its_states(client: FakeKubeClient, kubelet: VirtualKubelet) -> None:
    """One status write for a short pod; its own echo in the watch costs nothing."""
    running = asyncio.create_task(kubelet.run())
    await turns(lambda: bool(client._watchers))

    client.put(f"{PODS}/short", pod("short", "be", work_s=0.0))
    await turns(lambda: phase(client, "short") == "Succeeded")
    for _ in range(50):
        await asyncio.sleep(0)
    running.cancel()

    assert [(method, path) for method, path, _ in client.calls if "pods/" in path] == [("PATCH", f"{PODS}/short/status")]


async def test_pods_of_other_nodes_are_none_of_its_business(client: FakeKubeClient, kubelet: VirtualKubelet) -> None:
    """Only pods bound to its own nodes are touched."""
    elsewhere = pod("far", "be")
    elsewhere["spec"]["nodeName"] = "n9"
    client.put(f"{PODS}/far", elsewhere)

    running = asyncio.create_task(kubelet.run())
    await turns(lambda: bool(client._watchers))
    running.cancel()

    assert kubelet.pool.runs == {}


async def test_a_deleted_pod_goes_after_its_last_state(client: FakeKubeClient, kubelet: VirtualKubelet) -> None:
    """First how it ended, then the delete with grace 0 that holds for this uid only."""
    running = asyncio.create_task(kubelet.run())
    await turns(lambda: bool(client._watchers))
    stored = client.put(f"{PODS}/work", pod("work", "be"))
    await turns(lambda: phase(client, "work") == "Running")

    marked = {
        **client.objects[f"{PODS}/work"]["metadata"],
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 5,
    }
    client.put(f"{PODS}/work", {**client.objects[f"{PODS}/work"], "metadata": marked})
    await turns(lambda: f"{PODS}/work" not in client.objects)
    running.cancel()

    (_, _, last), (method, _, options) = client.calls[-2:]
    assert last["status"]["phase"] == "Failed"
    assert method == "DELETE"
    assert (options["gracePeriodSeconds"], options["preconditions"]) == (0, {"uid": stored["metadata"]["uid"]})


async def test_a_server_that_takes_no_metrics_is_left_in_peace(client: FakeKubeClient, kubelet: VirtualKubelet) -> None:
    """A real metrics-server answers 405: one line in the log, and no further write."""
    path = "/apis/metrics.k8s.io/v1beta1/nodes/n1"
    client.failures[path] = [ClusterError("no", status=405)] * 2
    writer = MetricsWriter(client, kubelet.pool, "here", every_s=0.0)  # type: ignore[arg-type]

    await writer.run()

    assert [called for _, called, _ in client.calls] == [path]


async def test_metrics_that_are_forbidden_for_a_while_are_written_again(client: FakeKubeClient, kubelet: VirtualKubelet) -> None:
    """As after a restart of a server that has not read its roles yet."""
    path = "/apis/metrics.k8s.io/v1beta1/nodes/n1"
    client.failures[path] = [ClusterError("RBAC", status=403), ClusterError("RBAC", status=403)]
    writer = MetricsWriter(client, kubelet.pool, "here", every_s=0.001)  # type: ignore[arg-type]
    writing = asyncio.create_task(writer.run())

    async with asyncio.timeout(60):
        while path not in client.objects:
            await asyncio.sleep(0.001)
    writing.cancel()

    assert client.objects[path]["metadata"]["name"] == "n1"
    assert client.failures[path] == []


async def test_metrics_tell_rates_and_go_with_their_pod(client: FakeKubeClient, kubelet: VirtualKubelet) -> None:
    """Pods are written from the second time they are seen on, and taken away when they are gone."""
    made = pod("work", "be")
    made["metadata"] |= {"uid": "u1", "name": "work"}
    await kubelet.pool.start(made)
    writer = MetricsWriter(client, kubelet.pool, "here", pods_every=1)  # type: ignore[arg-type]
    path = "/apis/metrics.k8s.io/v1beta1/namespaces/tango/pods/work"

    await writer.write()
    first = path in client.objects
    await writer.write()
    second = client.objects[path]["containers"][0]
    kubelet.pool.forget("u1")
    await writer.write()

    assert not first
    assert second["name"] == "work"
    assert int(second["usage"]["cpu"].removesuffix("n")) > 0
    assert path not in client.objects


async def test_metrics_of_an_idle_node_are_not_written_every_second(
    client: FakeKubeClient, kubelet: VirtualKubelet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stays the same is written again after a while, or once it has changed; after a failure at once, for the server may be empty."""
    path = "/apis/metrics.k8s.io/v1beta1/nodes/n1"
    writer = MetricsWriter(client, kubelet.pool, "here")  # type: ignore[arg-type]

    async def writes() -> int:
        """How often the node's metrics were sent in one round."""
        before = len(client.calls)
        with contextlib.suppress(ClusterError):
            await writer.write()
        return sum(called == path for _, called, _ in client.calls[before:])

    at_rest = [await writes() for _ in range(3)]
    client.failures[path] = [ClusterError("full", status=507)]
    made = pod("work", "be")
    made["metadata"] |= {"uid": "u1", "name": "work"}
    await kubelet.pool.start(made)
    changed = [await writes(), await writes()]
    monkeypatch.setattr(metrics_writer, "UNCHANGED_EVERY_S", 0.0)
    again = await writes()

    assert at_rest == [1, 0, 0]
    assert changed == [1, 1]
    assert again == 1


async def test_metrics_that_break_once_are_written_again(client: FakeKubeClient, kubelet: VirtualKubelet) -> None:
    """A defect in one round ends neither the writer nor the kubelet that runs it."""
    node = "/apis/metrics.k8s.io/v1beta1/nodes/n1"
    client.failures[node] = [ZeroDivisionError("a defect")]
    writer = MetricsWriter(client, kubelet.pool, "here", every_s=0.0)  # type: ignore[arg-type]

    running = asyncio.create_task(writer.run())
    await turns(lambda: node in client.objects)
    running.cancel()

    assert writer.broken == 1


async def test_a_heartbeat_that_breaks_ends_no_pods(
    client: FakeKubeClient, kubelet: VirtualKubelet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process has the pods of all clusters: a defect of one beat is logged, and the next beat comes."""
    monkeypatch.setattr(kubelet_module, "RENEW_EVERY_S", 0.0001)
    beats: list[str] = []
    renew = kubelet._renew_lease

    async def breaks_once(node: str) -> None:
        beats.append(node)
        if len(beats) == 2:  # the first is the registration
            raise ZeroDivisionError("a defect")
        await renew(node)

    monkeypatch.setattr(kubelet, "_renew_lease", breaks_once)
    running = asyncio.create_task(kubelet.run())

    await turns(lambda: len(beats) > 3)

    assert (kubelet.broken, running.done()) == (1, False)
    running.cancel()
