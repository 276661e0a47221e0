"""The virtual kubelet as a process of its own against the embedded API server as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest

from tango.domain.identity import NodeKey
from tango.domain.kubelet_ways import ANNOTATION
from tango.domain.runs import Placement
from tango.domain.services import Service, ServiceClass
from tango.errors import Invalid, NotFound
from tango.kube.api_client import MERGE_PATCH, KubeClient
from tango.kube.manifests import be_pod, binding, lc_instance
from tango.settings import KubeSettings
from tests.commands import Started, start_program
from tests.waiting import WITHIN_S

Json = dict[str, Any]
T = TypeVar("T")
PODS = "/api/v1/namespaces/tango/pods"
WEB = Service(
    name="web",
    service_class=ServiceClass.LC,
    cpu_work_s=0.01,
    memory_mib=32,
    target_ms=200.0,
    instance_memory_mib=256,
    cpu_request_millicores=200,
    cpu_limit_millicores=1000,
)
CRUNCH = Service(name="crunch", service_class=ServiceClass.BE, cpu_work_s=1.0, memory_mib=64)
FLEET = """
apiVersion: tango/v1
kind: Fleet
metadata: {name: pair}
spec:
  network: {base_rtt_ms: 40, local_rtt_ms: 0.2}
  beta: 0.0
  actuation_delay_s: 0.3
  clusters:
    - name: here
      nodes: [{name: n1, cpu_millicores: 4000, memory_mib: 16384, extended: {nvidia.com/gpu: 1}}]
    - name: there
      nodes: [{name: n2, cpu_millicores: 4000, memory_mib: 4096}]
  services:
    - {name: web, class: lc, cpu_work_s: 0.01, memory_mib: 32, instance_memory_mib: 256, target_ms: 200}
"""
TOKENS = 'root-token,root,1,"system:masters"\nkubelet-token,kubelet,2,"system:nodes"\n'


@dataclass(slots=True)
class Cluster:
    """The running pair of processes, and an administrator's client."""

    client: KubeClient
    start_kubelet: Callable[[], Started]
    kubelet: Started

    async def create(self, body: Json, node: str = "n1") -> str:
        """Create a pod and bind it, as the scheduler does."""
        made = await self.client.request("POST", PODS, body=body)
        name, uid = made["metadata"]["name"], made["metadata"]["uid"]
        await self.client.request("POST", f"{PODS}/{name}/binding", body=binding(name, uid, node))
        return str(name)

    async def pod(self, name: str) -> Json:
        """The pod as it is on the server."""
        return await self.client.request("GET", f"{PODS}/{name}")

    async def until(self, name: str, holds: Callable[[Json], bool]) -> Json:
        """The pod, once something holds of it."""

        async def look() -> Json | None:
            pod = await self.pod(name)
            return pod if holds(pod) else None

        return await until(look)

    async def resize(self, name: str, requests: Json, limits: Json) -> None:
        """Resize the pod's one container."""
        body = {"spec": {"containers": [{"name": "work", "resources": {"requests": requests, "limits": limits}}]}}
        await self.client.request("PATCH", f"{PODS}/{name}/resize", body=body)


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    """What `look` gives once it gives something; fails when it does not in time."""
    async with asyncio.timeout(WITHIN_S):
        while (found := await look()) is None:
            await asyncio.sleep(0.02)
        return found


def container(pod: Json) -> Json:
    """Status of the pod's one container."""
    return dict(((pod.get("status") or {}).get("containerStatuses") or [{}])[0])


def conditions(pod: Json) -> dict[str, Json]:
    """Conditions of the pod by type."""
    return {c["type"]: c for c in pod["status"].get("conditions") or []}


def ready(pod: Json) -> bool:
    """The pod's container is ready."""
    return bool(container(pod).get("ready"))


def best_effort(request_id: int, *, work_s: float, cpu: int = 500, gpus: int = 0) -> Json:
    """A BE pod as the gateway makes it."""
    placement = Placement(
        run_id=1,
        request_id=request_id,
        epoch=1,
        pod=f"be-r1-{request_id}-e1",
        cluster="here",
        node="n1",
        service="crunch",
        cpu_work_s=work_s,
        memory_mib=64,
        cpu_request_millicores=cpu,
        cpu_limit_millicores=max(1000, cpu + 1),
        extended=(("nvidia.com/gpu", 1000 * gpus),) if gpus else (),
    )
    return be_pod(placement, CRUNCH)


@pytest.fixture
def processes() -> Iterator[list[Started]]:
    """Processes that the test started; killed at its end."""
    started: list[Started] = []
    yield started
    for process in started:
        process.kill()
        process.wait(timeout=30)


@pytest.fixture
async def cluster(tmp_path: Path, processes: list[Started]) -> AsyncIterator[Cluster]:
    """An embedded API server with one virtual kubelet whose node is ready."""
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "tokens.csv").write_text(TOKENS)
    server = ["workers.api_server", "--cluster", "here", "--data-dir", str(tmp_path / "data")]
    files = ["--port-file", str(tmp_path / "port"), "--token-file", str(tmp_path / "tokens.csv")]
    processes.append(start_program(*server, *files))

    async def port() -> str | None:
        return (tmp_path / "port").read_text() if (tmp_path / "port").exists() else None

    url = f"http://127.0.0.1:{await until(port)}"
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": n, "user": {"token": f"{n}-token"}} for n in ("root", "kubelet")],
        "contexts": [{"name": n, "context": {"cluster": "here", "user": n}} for n in ("root", "kubelet")],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    command = ["workers.virtual_kubelet", "--kubeconfig", str(tmp_path / "kubeconfig")]
    command += ["--context", "kubelet", "--fleet", str(tmp_path / "fleet.yaml"), "--cluster", "here"]

    def start_kubelet() -> Started:
        processes.append(start_program(*command))
        return processes[-1]

    async with await KubeClient.from_kubeconfig(str(tmp_path / "kubeconfig"), "root", KubeSettings()) as client:
        found = Cluster(client, start_kubelet, start_kubelet())
        await client.request("POST", "/api/v1/namespaces", body={"metadata": {"name": "tango"}})

        async with asyncio.timeout(30):
            while not await node_is_ready(client):
                await asyncio.sleep(0.05)
        yield found


async def node_is_ready(client: KubeClient) -> bool:
    """The one node is there, Ready, and its taints and lease are as they should be."""
    nodes, _ = await client.list("/api/v1/nodes")
    leases, _ = await client.list("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")
    return bool(nodes and leases) and conditions(nodes[0]).get("Ready", {}).get("status") == "True"


async def ask(pod: Json, *, work_s: float, entry: str = "here", instance: str = "", memory: float = 32) -> tuple[int, float, float]:
    """Send one LC request to a pod's address; give status, start and end of service."""
    headers = {
        "Tango-Request": "1/1/1",
        "Tango-Instance": instance or f"here/{pod['metadata']['name']}",
        "Tango-Cpu-Work-S": str(work_s),
        "Tango-Memory-Mib": str(memory),
        "Tango-Entry-Cluster": entry,
        "Tango-Payload-Kib": "4",
    }
    url = f"http://{pod['status']['podIP']}:{pod['spec']['containers'][0]['ports'][0]['containerPort']}/v1/work"
    async with aiohttp.ClientSession() as session, session.post(url, headers=headers) as answer:
        started, finished = (float(answer.headers.get(name, "nan")) for name in ("Tango-Started-S", "Tango-Finished-S"))
        return answer.status, started, finished


async def test_a_node_registers_with_its_size_labels_lease_and_metrics(cluster: Cluster) -> None:
    """A scheduler sees a ready node of the declared size, without the not-ready taint."""
    node = await cluster.client.request("GET", "/api/v1/nodes/n1")

    async def metrics() -> Json | None:
        try:
            return await cluster.client.request("GET", "/apis/metrics.k8s.io/v1beta1/nodes/n1")
        except NotFound:
            return None

    assert node["status"]["allocatable"] == {"cpu": "4", "memory": "16Gi", "pods": "110", "nvidia.com/gpu": "1"}
    assert node["metadata"]["labels"] | {"tango/cluster": "here", "type": "virtual-kubelet"} == node["metadata"]["labels"]
    assert [t["key"] for t in node["spec"]["taints"]] == ["virtual-kubelet.io/provider"]
    assert (await until(metrics))["usage"] == {"cpu": "0n", "memory": "0Ki"}


async def test_a_be_pod_runs_for_its_work_and_tells_exact_times(cluster: Cluster) -> None:
    """One CPU-second at a limit of one core takes one second, by the times of the termination message."""
    name = await cluster.create(best_effort(1, work_s=1.0))

    running = await cluster.until(name, lambda pod: pod["status"]["phase"] == "Running")
    done = await cluster.until(name, lambda pod: pod["status"]["phase"] == "Succeeded")

    told = json.loads(container(done)["state"]["terminated"]["message"])
    assert "startedAt" in container(running)["state"]["running"]
    assert told["cpu_work_s"] == 1.0
    assert told["finished_s"] - told["started_s"] == pytest.approx(1.0, abs=2e-6)


async def test_a_pod_that_does_not_fit_fails_with_the_kubelets_reason(cluster: Cluster) -> None:
    """Binding checks no fit, so the kubelet fails what the node cannot hold by its requests."""
    await cluster.create(best_effort(1, work_s=60.0, cpu=3000))

    name = await cluster.create(best_effort(2, work_s=1.0, cpu=1500))

    failed = await cluster.until(name, lambda pod: pod["status"]["phase"] == "Failed")
    assert failed["status"]["reason"] == "OutOfcpu"
    assert "requested: 1500, used: 3000, capacity: 4000" in failed["status"]["message"]


async def test_devices_are_given_out_whole_by_the_server_and_the_kubelet(cluster: Cluster) -> None:
    """A node tells what it has; a pod holds what its manifest asks for; a second one is refused, and one that asks for a half is no pod."""
    node = await cluster.client.request("GET", "/api/v1/nodes/n1")
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "1"
    first = await cluster.create(best_effort(1, work_s=60.0, gpus=1))
    await cluster.until(first, lambda pod: pod["status"]["phase"] == "Running")

    second = await cluster.create(best_effort(2, work_s=1.0, gpus=1))

    failed = await cluster.until(second, lambda pod: pod["status"]["phase"] == "Failed")
    assert failed["status"]["reason"] == "OutOfnvidia.com/gpu"
    assert "requested: 1, used: 1, capacity: 1" in failed["status"]["message"]
    half = best_effort(3, work_s=1.0)
    for part in half["spec"]["containers"][0]["resources"].values():
        part["nvidia.com/gpu"] = "500m"
    with pytest.raises(Invalid, match="must be an integer"):
        await cluster.client.request("POST", PODS, body=half)


async def test_a_deleted_be_pod_tells_the_work_that_is_lost_and_goes(cluster: Cluster) -> None:
    """Evictions cost what the pod had done; its last status says how much before it is gone."""
    name = await cluster.create(best_effort(1, work_s=60.0))
    running = await cluster.until(name, lambda pod: pod["status"]["phase"] == "Running")
    events: list[Json] = []

    async def follow() -> None:
        async for event in cluster.client.watch(PODS, resource_version=running["metadata"]["resourceVersion"], query={}):
            if event["type"] != "BOOKMARK":
                events.append(event)
            if event["type"] == "DELETED":
                return

    following = asyncio.create_task(follow())
    await cluster.client.request("DELETE", f"{PODS}/{name}")
    await asyncio.wait_for(following, WITHIN_S)

    last = events[-2]["object"]
    assert last["status"]["phase"] == "Failed"
    assert container(last)["state"]["terminated"]["exitCode"] == 143
    assert 0 < json.loads(container(last)["state"]["terminated"]["message"])["cpu_work_s"] < 10


async def test_an_lc_instance_serves_at_an_address_of_its_own(cluster: Cluster) -> None:
    """Requests take their work at one core; another instance's name is refused; the network stands outside the service."""
    name = await cluster.create(lc_instance(WEB, NodeKey("here", "n1"), 0))
    pod = await cluster.until(name, ready)

    begun_s = time.time()
    status, started_s, finished_s = await ask(pod, work_s=0.2, entry="there")
    answered_s = time.time()

    assert pod["status"]["podIP"].startswith("127.")
    assert status == 200
    assert finished_s - started_s == pytest.approx(0.2, abs=2e-6)
    assert started_s - begun_s >= 0.02 - 1e-3  # half of the round trip of 40 ms lies on each side
    assert answered_s - finished_s >= 0.02 - 1e-3
    assert (await ask(pod, work_s=0.01, instance="here/lc-web-n1-1"))[0] == 421
    assert (await ask(pod, work_s=0.01, memory=1000))[0] == 400


async def test_a_resize_goes_from_allocated_over_in_progress_to_actual(cluster: Cluster) -> None:
    """KEP-1287: the condition stands while the resize is actuated and is removed when the limit is in effect."""
    name = await cluster.create(lc_instance(WEB, NodeKey("here", "n1"), 0))
    await cluster.until(name, ready)

    await cluster.resize(name, {"cpu": "400m"}, {"cpu": "2"})

    under_way = await cluster.until(name, lambda pod: "PodResizeInProgress" in conditions(pod))
    assert container(under_way)["allocatedResources"]["cpu"] == "400m"
    assert container(under_way)["resources"]["limits"]["cpu"] == "1"
    assert conditions(under_way)["PodResizeInProgress"]["observedGeneration"] == under_way["metadata"]["generation"]
    done = await cluster.until(name, lambda pod: container(pod)["resources"]["limits"]["cpu"] == "2")
    assert not {"PodResizeInProgress", "PodResizePending"} & set(conditions(done))
    assert {"PodScheduled", "Ready", "ContainersReady"} <= set(conditions(done))
    assert done["status"]["observedGeneration"] == done["metadata"]["generation"]


async def test_a_resize_without_space_is_deferred_and_done_when_space_appears(cluster: Cluster) -> None:
    """Deferred fits the node but not now; the kubelet tries again by itself."""
    name = await cluster.create(lc_instance(WEB, NodeKey("here", "n1"), 0))
    filler = await cluster.create(best_effort(1, work_s=60.0, cpu=3500))
    await cluster.until(name, ready)
    await cluster.until(filler, lambda pod: pod["status"]["phase"] == "Running")

    await cluster.resize(name, {"cpu": "1"}, {"cpu": "2"})
    waits = await cluster.until(name, lambda pod: "PodResizePending" in conditions(pod))
    await cluster.client.request("DELETE", f"{PODS}/{filler}")
    done = await cluster.until(name, lambda pod: container(pod)["resources"]["limits"]["cpu"] == "2")

    assert conditions(waits)["PodResizePending"]["reason"] == "Deferred"
    assert container(waits)["allocatedResources"]["cpu"] == "200m"
    assert container(done)["allocatedResources"]["cpu"] == "1"


async def test_a_deleted_instance_finishes_what_it_has_and_takes_nothing_new(cluster: Cluster) -> None:
    """Within its grace an instance drains; the pod is gone afterwards."""
    name = await cluster.create(lc_instance(WEB, NodeKey("here", "n1"), 0))
    pod = await cluster.until(name, ready)
    under_way = asyncio.create_task(ask(pod, work_s=3.0))  # far longer than the other one takes to be refused
    await until(lambda: _serving(cluster, pod))

    await cluster.client.request("DELETE", f"{PODS}/{name}")
    await cluster.until(name, lambda pod: not ready(pod))

    assert (await ask(pod, work_s=0.01))[0] == 503
    assert (await under_way)[0] == 200

    async def gone() -> bool | None:
        try:
            await cluster.pod(name)
        except NotFound:
            return True
        return None

    assert await until(gone)


async def _serving(cluster: Cluster, pod: Json) -> bool | None:
    """A moment in which the instance certainly has the request: a second one sent after it has been answered."""
    return True if (await ask(pod, work_s=0.0))[0] == 200 else None


async def test_a_killed_kubelet_comes_back_as_a_rebooted_node(cluster: Cluster) -> None:
    """LC containers restart, BE pods that ran have failed, and what waits for the node is run."""
    instance = await cluster.create(lc_instance(WEB, NodeKey("here", "n1"), 0))
    worker = await cluster.create(best_effort(1, work_s=60.0))
    await cluster.until(instance, ready)
    await cluster.until(worker, lambda pod: pod["status"]["phase"] == "Running")

    cluster.kubelet.kill()
    cluster.kubelet.wait(timeout=30)
    late = await cluster.create(best_effort(2, work_s=0.2))
    cluster.start_kubelet()

    lost = await cluster.until(worker, lambda pod: pod["status"]["phase"] == "Failed")
    restarted = await cluster.until(instance, lambda pod: ready(pod) and container(pod)["restartCount"] == 1)
    assert lost["status"]["reason"] == "NodeLost"
    await cluster.until(late, lambda pod: pod["status"]["phase"] == "Succeeded")
    assert (await ask(restarted, work_s=0.01))[0] == 200


async def test_sigterm_ends_the_kubelet_and_says_that_its_node_is_gone(cluster: Cluster) -> None:
    """The process ends by itself, and the node is not Ready any more."""
    name = await cluster.create(lc_instance(WEB, NodeKey("here", "n1"), 0))
    await cluster.until(name, ready)

    cluster.kubelet.send_signal(signal.SIGTERM)

    assert await asyncio.to_thread(cluster.kubelet.wait, 10) == 0
    node = await cluster.client.request("GET", "/api/v1/nodes/n1")
    assert conditions(node)["Ready"]["status"] == "False"


async def test_many_short_pods_all_end_once(cluster: Cluster) -> None:
    """A burst of short pods, fewer than a node may hold at once, is admitted, run and told completely."""
    names = await asyncio.gather(*(cluster.create(best_effort(k, work_s=0.02, cpu=10)) for k in range(100)))

    async def all_done() -> list[Json] | None:
        pods, _ = await cluster.client.list(PODS)
        return pods if all(p["status"]["phase"] == "Succeeded" for p in pods) else None

    pods = await until(all_done)
    assert {p["metadata"]["name"] for p in pods} == set(names)
    assert all(json.loads(container(p)["state"]["terminated"]["message"])["cpu_work_s"] == 0.02 for p in pods)


async def test_a_node_is_shared_with_pods_of_others_and_heeds_taints_and_pressure(cluster: Cluster) -> None:
    """A pod of another namespace takes room; a NoExecute taint ends pods; declared pressure is a condition, a taint and a refusal."""
    await cluster.client.request("POST", "/api/v1/namespaces", body={"metadata": {"name": "others"}})
    resources = {"requests": {"cpu": "3700m", "memory": "1Gi"}}
    spec = {"nodeName": "n1", "containers": [{"name": "agent", "image": "agent:1", "resources": resources}]}
    await cluster.client.request("POST", "/api/v1/namespaces/others/pods", body={"metadata": {"name": "daemon"}, "spec": spec})

    async def runs() -> bool | None:
        found = await cluster.client.request("GET", "/api/v1/namespaces/others/pods/daemon")
        return found["status"]["phase"] == "Running" or None

    await until(runs)
    refused = await cluster.create(best_effort(1, work_s=60.0, cpu=500))
    assert (await cluster.until(refused, lambda pod: pod["status"]["phase"] == "Failed"))["status"]["reason"] == "OutOfcpu"

    short = await cluster.create(best_effort(2, work_s=60.0, cpu=100))
    await cluster.until(short, lambda pod: pod["status"]["phase"] == "Running")
    taint = {"key": "mine", "effect": "NoExecute"}
    node = await cluster.client.request("GET", "/api/v1/nodes/n1")
    body = {"spec": {"taints": [*node["spec"]["taints"], taint]}}
    await cluster.client.request("PATCH", "/api/v1/nodes/n1", body=body, content_type=MERGE_PATCH)

    async def gone() -> bool | None:
        try:
            await cluster.pod(short)
        except NotFound:
            return True
        return None

    await until(gone)

    body = {"spec": node["spec"], "metadata": {"annotations": {ANNOTATION: json.dumps({"pressure": ["disk"]})}}}
    await cluster.client.request("PATCH", "/api/v1/nodes/n1", body=body, content_type=MERGE_PATCH)

    async def pressed() -> bool | None:
        found = await cluster.client.request("GET", "/api/v1/nodes/n1")
        held = conditions(found)["DiskPressure"]["status"] == "True"
        return (held and any(t["key"] == "node.kubernetes.io/disk-pressure" for t in found["spec"]["taints"])) or None

    await until(pressed)
    last = await cluster.create(best_effort(4, work_s=60.0, cpu=100))
    assert (await cluster.until(last, lambda pod: pod["status"]["phase"] == "Failed"))["status"]["reason"] == "Evicted"
