"""The node agent as the process that a DaemonSet runs, at an embedded API server, on a folder that stands for the node's control groups."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tango.cgroups.groups import Group
from tango.cgroups.knobs import Knob
from tango.domain.node_reports import NodeAgentReport
from tango.kube.api_client import KubeClient
from tango.kube.cluster_watch import KubernetesWatch
from tango.settings import KubeSettings
from tests.commands import Started, start_program
from tests.fakes.cgroupfs import FakeHierarchy, FakePod, fake_pod
from tests.integration.kube_cluster import PODS, EmbeddedCluster
from tests.waiting import until

LEASE = "/apis/coordination.k8s.io/v1/namespaces/tango/leases/node-agent-n1"


class Node:
    """A node of an embedded cluster, of which the test is the kubelet."""

    def __init__(self, cluster: EmbeddedCluster, folder: Path) -> None:
        self.cluster = cluster
        self.hierarchy = FakeHierarchy(folder / "cgroup", 2)
        self.state = folder / "run" / "node-agent.json"
        self.log = folder / "log"
        self.process: Started | None = None
        self.hierarchy.make("kubepods.slice")
        for name, text in (("cgroup.controllers", "cpu memory"), ("cgroup.procs", "")):
            (self.hierarchy.root / name).write_text(text)

    def start(self, *more: str) -> Started:
        """An agent, by the least of rights."""
        command = ["workers.node_agent", "--node", "n1", "--cgroup-root", str(self.hierarchy.root)]
        command += ["--state", str(self.state), "--kubeconfig", str(self.cluster.kubeconfig), "--context", "node-agent", *more]
        with self.log.open("ab") as log:
            self.process = start_program(*command, output=log.fileno())
        return self.process

    def end(self, signum: int = signal.SIGTERM) -> int:
        """Exit status of the agent after a signal."""
        assert self.process is not None
        self.process.send_signal(signum)
        return self.process.wait(timeout=60)

    def pod(self, number: int, kind: str) -> FakePod:
        """A pod that runs on the node, at the API server and as groups."""
        pod = fake_pod(self.hierarchy, number, kind)
        body = json.loads(json.dumps(pod.body))
        body["spec"] |= {"nodeName": "n1", "containers": [pod.body["spec"]["containers"][0] | {"image": "busybox"}]}
        made = self.cluster.call("POST", PODS, body)
        # The server gives the UID, so the groups are made anew under it.
        uid = made["metadata"]["uid"]
        folder = f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid.replace('-', '_')}.slice"
        pod.container = self.hierarchy.make(f"{folder}/{pod.container.path.rpartition('/')[2]}")
        pod.pod, pod.body = self.hierarchy.group(folder), made | {"status": pod.body["status"]}
        pod.actuate()
        self.say(pod)
        return pod

    def say(self, pod: FakePod) -> None:
        """The kubelet writes the pod's status."""
        self.cluster.call("PATCH", f"{PODS}/{pod.body['metadata']['name']}/status", {"status": pod.body["status"]})

    def resize(self, pod: FakePod, cpu: str) -> None:
        """As Tango does it."""
        body = {"spec": {"containers": [{"name": "work", "resources": {"limits": {"cpu": cpu}}}]}}
        self.cluster.call("PATCH", f"{PODS}/{pod.body['metadata']['name']}/resize", body)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """An API server without kubelets."""
    one = EmbeddedCluster(tmp_path_factory.mktemp("cluster"))
    try:
        one.start()
        one.new_namespace()
        yield one
    finally:
        one.stop()


@pytest.fixture
def node(cluster: EmbeddedCluster, tmp_path: Path) -> Iterator[Node]:
    """A node without pods."""
    one = Node(cluster, tmp_path)
    try:
        yield one
    finally:
        if one.process is not None:
            one.process.kill()
            one.process.wait(timeout=60)
        cluster.clear()


def value(group: Group, knob: Knob) -> int | None:
    """What is set. A plain file is empty for a moment while it is written, unlike the kernel's."""
    try:
        return group.read(knob)
    except IndexError:
        return None


def quotas(pod: FakePod) -> list[int | None]:
    """Of the pod and its container."""
    return [value(group, Knob.CPU_QUOTA) for group in (pod.pod, pod.container)]


def is_idle(group: Group) -> bool:
    """Whether the group gives way."""
    return value(group, Knob.CPU_IDLE) == 1


def test_a_life_beside_a_kubelet(node: Node) -> None:
    """Resizes reach the kernel, BE gives way, kill -9 loses nothing, a stop puts everything back, and the report is there to read."""
    lc, be = node.pod(1, "lc"), node.pod(2, "be")
    be.pod.write(Knob.CPU_WEIGHT, 39)
    node.start()
    until(lambda: is_idle(be.pod))

    node.resize(lc, "900m")
    until(lambda: quotas(lc) == [90_000, 90_000])
    node.end(signal.SIGKILL)
    node.resize(lc, "700m")
    assert quotas(lc) == [90_000, 90_000]
    node.start()
    until(lambda: quotas(lc) == [70_000, 70_000])

    def report() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(node.cluster.call("GET", LEASE)["metadata"]["annotations"]["tango/node-report"])
        return found

    until(lambda: report()["lc"]["pods"] == 1)
    assert [(one.node, one.report["lc"]["pods"]) for one in read_as_the_clusters_agent(node)] == [("n1", 1)]
    assert (report()["be"]["pods"], report()["be_cpu_share"], report()["differs"]) == (1, 1.0, [])
    assert node.end() == 0
    assert (is_idle(be.pod), be.pod.read(Knob.CPU_WEIGHT), quotas(lc)) == (False, 39, [70_000, 70_000])
    assert "knob='cpu-quota' wanted=90000 effective=90000" in node.log.read_text()


def read_as_the_clusters_agent(node: Node) -> Sequence[NodeAgentReport]:
    """The reports, by the rights of Tango's own role."""

    async def read() -> Sequence[NodeAgentReport]:
        async with await KubeClient.from_kubeconfig(str(node.cluster.kubeconfig), "tango", KubeSettings(), cluster="c1") as client:
            return await KubernetesWatch(client, namespace="tango").node_agent_reports()

    return asyncio.run(read())


def test_it_refuses_to_run_where_it_may_not_write(node: Node, tmp_path: Path) -> None:
    """Without groups, with a file that cannot be kept, and beside another one: exit status 2, and the reason on standard error."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert node.start("--cgroup-root", str(empty)).wait(timeout=60) == 2
    assert node.start("--state", "/proc/node-agent.json").wait(timeout=60) == 2
    first = node.start()
    until(lambda: node.state.exists())

    assert node.start().wait(timeout=60) == 2

    first.terminate()
    assert first.wait(timeout=60) == 0
    said = node.log.read_text()
    assert f"{empty} has no control groups with a CPU controller" in said
    assert "/proc/node-agent.json.lock cannot be written" in said
    assert "another node agent runs" in said
