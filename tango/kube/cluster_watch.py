"""One cluster as its agent watches and keeps it: implements `tango.ports.clusters.ClusterWatch` on the Kubernetes API."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import structlog

from tango.domain.backoff import Backoff
from tango.domain.identity import NodeKey, parts_of_pod, pod_in
from tango.domain.jobs import ContainerLog
from tango.domain.node_reports import NodeAgentReport
from tango.domain.pod_marks import MANAGED_BY
from tango.domain.quantities import format_millicores
from tango.domain.resized_pods import as_counted
from tango.domain.services import Adoption, Service
from tango.errors import ClusterError, ClusterUnavailable, Conflict, NotFound
from tango.kube.api_client import JSON, METRICS_API, KubeClient
from tango.kube.informer import Informer
from tango.kube.manifests import WAYS, ClusterWays, binding, lc_instance, owned_by_node
from tango.node_agent.lease import COMPONENT_LABEL, leases_path, parsed_report

log = structlog.get_logger(__name__)

NAMESPACE_AGAIN_S = 0.5
OF_TANGO = f"{MANAGED_BY}=tango"
"""Selector of the pods that Tango has made."""
REFUSED_AGAIN_S = 30.0
"""Seconds at the most between two tries to watch a namespace of a service whose owner does not allow it: what is allowed is noticed this
soon. Chosen, not measured."""
METRICS_AGAIN_S, LONGEST_METRICS_PAUSE_S = 2.0, 120.0
"""Seconds until a metrics server that does not answer is asked again, at first and at the most: many clusters have none. Chosen."""
ALIVE_EVERY_S, ALIVE_AGAIN_S = 5.0, 1.0
"""Seconds without an answer of the API server after which it is asked whether it is there, and between two such questions: so much later
the loss of a line that swallows everything is noticed. Longer than between two questions for metrics (`KubeSettings.sample_idle_s`)."""


def held_facts(pod: JSON) -> JSON:
    """Of a pod of others what says how much it holds of its node, resizes in place included. A cluster has thousands of them, of some
    kilobytes each."""

    def asked(containers: list[JSON] | None) -> list[JSON]:
        kept = ("name", "resources", "restartPolicy")
        return [{key: container[key] for key in kept if key in container} for container in containers or []]

    metadata, spec = pod["metadata"], as_counted(pod)["spec"]
    facts: JSON = {"nodeName": spec.get("nodeName", ""), "containers": asked(spec.get("containers"))}
    if spec.get("initContainers"):
        facts["initContainers"] = asked(spec["initContainers"])
    facts |= {key: spec[key] for key in ("overhead", "resources") if spec.get(key)}
    named = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in metadata}
    return {"metadata": named, "spec": facts}


class KubernetesWatch:
    """Watches of the nodes and of Tango's pods of one cluster, and the writes of its agent. Make it on the loop that uses it."""

    def __init__(self, client: KubeClient, *, namespace: str, ways: ClusterWays = WAYS) -> None:
        self._client = client
        self._ways = ways
        self._namespace = namespace
        self._adoptions: dict[str, tuple[Adoption, Informer, asyncio.Task[None]]] = {}
        self._adoption_changes = 0
        """Changes of adoptions that are over, and of which there are."""
        self._beside: dict[str, Informer] = {}
        """By namespace beside Tango's own: the pods that Tango has made there."""
        self._watches: asyncio.TaskGroup | None = None
        self._on_pod: Callable[[str, JSON], None] = lambda kind, pod: None
        self._answered_at_s = -float("inf")
        self._unmeasured = Backoff(first_s=METRICS_AGAIN_S, longest_s=LONGEST_METRICS_PAUSE_S)
        """By path, what no metrics server has answered."""
        self._nodes = Informer(client, "/api/v1/nodes")
        self._other_changes = 0
        self._other_facts: dict[str, JSON] = {}
        """By uid: what is looked at of pods of others; most of their changes are none of it."""
        # Read-only, and without what has ended. A cluster may not let Tango read other namespaces: then nothing is known of them.
        self._others = Informer(
            client,
            "/api/v1/pods",
            on_event=self._on_other,
            keep=held_facts,
            is_optional=True,
            labelSelector=f"{MANAGED_BY}!=tango",
            fieldSelector="spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed",
        )
        self._pods = Informer(
            client,
            self._pods_in(""),
            on_event=lambda kind, pod: self._on_pod(kind, pod),
            labelSelector=OF_TANGO,
        )

    async def follow(self, on_pod: Callable[[str, JSON], None]) -> None:
        """Make the namespace, then keep both watches until cancelled."""
        self._on_pod = on_pod
        await self._ensure_namespace()
        async with asyncio.TaskGroup() as watches:
            self._watches = watches
            watches.create_task(self._nodes.run())
            watches.create_task(self._pods.run())
            watches.create_task(self._others.run())
            watches.create_task(self._ask_whether_alive())

    async def synced(self) -> None:
        """Wait for the first list of nodes and of pods, those of others too where they may be read."""
        await self._nodes.synced()
        await self._pods.synced()
        await self._others.synced()
        for informer in (*self._beside.values(), *(informer for _, informer, _ in self._adoptions.values())):
            await informer.synced()

    def name_of(self, pod: Mapping[str, Any]) -> str:
        """The name by which a pod is known here: with its namespace where that is not the usual one."""
        namespace = pod["metadata"].get("namespace", self._namespace)
        return pod_in("" if namespace == self._namespace else namespace, pod["metadata"]["name"])

    def watch_namespaces(self, namespaces: Collection[str]) -> None:
        """Watch pods in these namespaces too, each by an informer of its own; what was watched before stays."""
        for namespace in sorted(set(namespaces) - self._beside.keys() - {self._namespace}):
            if self._watches is not None:
                self._beside[namespace] = informer = Informer(
                    self._client,
                    f"/api/v1/namespaces/{namespace}/pods",
                    on_event=lambda kind, pod: self._on_pod(kind, pod),
                    is_optional=True,
                    refused_cap_s=REFUSED_AGAIN_S,
                    labelSelector=OF_TANGO,
                )
                self._watches.create_task(informer.run())

    def unseen(self) -> Mapping[str, ClusterError | None]:
        """Namespaces that were never listed, or were refused at the last try."""
        informers = [
            *self._beside.items(),
            *((adoption.namespace, informer) for adoption, informer, _ in self._adoptions.values()),
        ]
        return {at: informer.refused for at, informer in informers if informer.refused is not None or not informer.relists}

    def age_s(self, namespace: str = "") -> float:
        """A watch that is open says what happens, as long as the server answers: a line that swallows everything leaves it open."""
        if namespace:
            informer = self._beside.get(namespace)
            return math.inf if informer is None else max(0.0, time.monotonic() - informer.current_at_s())
        seen = [self._nodes.current_at_s(), self._pods.current_at_s(), self._answered_at_s + ALIVE_EVERY_S]
        return max(0.0, time.monotonic() - min(seen))

    async def _ask_whether_alive(self) -> None:
        """Ask the server for its readiness, unless something else was answered meanwhile."""
        while True:
            if time.monotonic() - self._answered_at_s >= ALIVE_EVERY_S:
                with contextlib.suppress(ClusterUnavailable):
                    with contextlib.suppress(ClusterError):  # an answer, whatever it says
                        await self._client.request("GET", "/version")
                    self._answered_at_s = time.monotonic()
            await asyncio.sleep(max(ALIVE_AGAIN_S, self._answered_at_s + ALIVE_EVERY_S - time.monotonic()))

    def changes(self) -> int:
        """How many changes all watches have told."""
        adopted = sum(informer.changes for _, informer, _ in self._adoptions.values())
        beside = sum(informer.changes for informer in self._beside.values())
        return self._nodes.changes + self._pods.changes + self._other_changes + beside + adopted + self._adoption_changes

    def nodes(self) -> Sequence[JSON]:
        """As the watch last had them."""
        return list(self._nodes.objects.values())

    def pods(self) -> Sequence[JSON]:
        """Tango's, as the watches last had them."""
        found = list(self._pods.objects.values())
        for informer in self._beside.values():
            found += informer.objects.values()
        return found

    def others(self) -> Sequence[JSON]:
        """As the watch last had them."""
        return list(self._others.objects.values())

    def _on_other(self, kind: str, pod: JSON) -> None:
        uid, facts = pod["metadata"]["uid"], pod["spec"]
        known = self._other_facts.pop(uid, None)
        if kind != "DELETED":
            self._other_facts[uid] = facts
        if kind == "DELETED" or known != facts:
            self._other_changes += 1

    async def pod_usage(self) -> Mapping[tuple[str, str], JSON]:
        """From metrics.k8s.io, a list for each namespace."""
        namespaces = {self._namespace, *self._beside, *(adoption.namespace for adoption, _, _ in self._adoptions.values())}
        found: dict[tuple[str, str], JSON] = {}
        for namespace in sorted(namespaces):
            listed = await self._metrics(f"{METRICS_API}/namespaces/{namespace}/pods")
            found |= {(namespace, item["metadata"]["name"]): item for item in listed}
        return found

    def adopt(self, adoptions: Mapping[str, Adoption]) -> None:
        """Watch the pods that these services adopt, by a watch for each service, and end the watches of others."""
        for service, (adoption, informer, task) in list(self._adoptions.items()):
            if adoptions.get(service) != adoption:
                task.cancel()
                self._adoption_changes += informer.changes + 1
                del self._adoptions[service]
        for service, adoption in adoptions.items():
            if service not in self._adoptions and self._watches is not None:
                path = f"/api/v1/namespaces/{adoption.namespace}/pods"
                informer = Informer(
                    self._client, path, is_optional=True, refused_cap_s=REFUSED_AGAIN_S, labelSelector=adoption.selector
                )
                self._adoptions[service] = (adoption, informer, self._watches.create_task(informer.run()))

    def adopted(self) -> Mapping[str, Sequence[JSON]]:
        """As the watches last had them."""
        return {
            service: [pod for pod in informer.objects.values() if (pod["metadata"].get("labels") or {}).get(MANAGED_BY) != "tango"]
            for service, (_, informer, _) in self._adoptions.items()
        }

    async def node_usage(self) -> Mapping[str, JSON]:
        """Usage of each node by its name, as metrics.k8s.io has it; empty where no metrics server answers."""
        return {item["metadata"]["name"]: item["usage"] for item in await self._metrics(f"{METRICS_API}/nodes")}

    async def _metrics(self, path: str) -> list[JSON]:
        """None where no metrics server answers, or not for this: it is asked less and less often then, and not every second for ever."""
        now_s = time.monotonic()
        if not self._unmeasured.is_open(path, now_s):
            return []
        try:
            found = await self._client.request("GET", path)
        except (ClusterError, ClusterUnavailable) as error:
            if not self._unmeasured.has_failed(path):
                log.warning("no_metrics", cluster=self._client.cluster, path=path, error=str(error))
            self._unmeasured.failed(path, now_s)
            return []
        self._answered_at_s = now_s
        self._unmeasured.went_well(path)
        return found.get("items") or []

    async def node_agent_reports(self) -> Sequence[NodeAgentReport]:
        """From the annotations of their leases; one that is no JSON is left out, since whoever may write a lease may write anything."""
        selector = ",".join(f"{key}={value}" for key, value in COMPONENT_LABEL.items())
        found: list[NodeAgentReport] = []
        with contextlib.suppress(ClusterError):  # a role of before there were node agents
            leases, _ = await self._client.list(leases_path(self._namespace), labelSelector=selector)
            for lease in leases:
                report = parsed_report(lease)
                if report is not None:
                    found.append(report)
        return found

    async def log_tail(
        self, pod: str, container: str, *, lines: int, most_bytes: int, follow: bool, within_s: float
    ) -> ContainerLog:
        """Streamed, so that it costs `most_bytes` of memory; Kubernetes can count lines from the end, and no bytes."""
        tail, seen, breaks = bytearray(), 0, 0
        query = {"container": container, "tailLines": str(lines), **({"follow": "true"} if follow else {})}
        with contextlib.suppress(TimeoutError, ClusterUnavailable):
            async with asyncio.timeout(within_s):
                async for block in self._client.stream(f"{self._path(pod)}/log", query=query, idle_s=within_s):
                    seen, breaks = seen + len(block), breaks + block.count(b"\n")
                    tail += block
                    del tail[:-most_bytes]
        return ContainerLog(container=container, tail=bytes(tail), is_whole=seen <= most_bytes and breaks < lines)

    async def create_instance(self, service: Service, node: NodeKey, number: int) -> None:
        """Create, then bind; one that is there already is about to come over the watch."""
        known = self._nodes.objects.get(node.name)
        uid = "" if known is None else str(known["metadata"].get("uid") or "")
        body = owned_by_node(lc_instance(service, node, number, ways=self._ways), node.name, uid)
        try:
            pod = await self._client.request("POST", self._pods_in(service.namespace), body=body)
        except Conflict:
            return
        await self.bind(pod, node.name)

    async def set_cpu_limit(self, pod: str, container: str, millicores: int) -> None:
        """Change the limit through the subresource `resize`, as a strategic merge: what is not named stays."""
        limits = {"limits": {"cpu": format_millicores(millicores)}}
        body = {"spec": {"containers": [{"name": container, "resources": limits}]}}
        with contextlib.suppress(NotFound):
            await self._client.request("PATCH", f"{self._path(pod)}/resize", body=body)

    async def bind(self, pod: Mapping[str, Any], node: str) -> None:
        """One that is bound, or gone, is left alone."""
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        with contextlib.suppress(Conflict, NotFound):
            await self._client.request("POST", f"{self._path(self.name_of(pod))}/binding", body=binding(name, uid, node))

    async def delete_pod(self, name: str, *, uid: str | None = None, at_once: bool = False) -> None:
        """With a precondition on the uid, where one is given, so that a later pod of the same name stays."""
        body: JSON = {"gracePeriodSeconds": 0} if at_once else {}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        with contextlib.suppress(NotFound, Conflict):
            await self._client.request("DELETE", self._path(name), body=body or None)

    def _pods_in(self, namespace: str) -> str:
        """The path of the pods of a namespace; empty: Tango's own."""
        return f"/api/v1/namespaces/{namespace or self._namespace}/pods"

    def _path(self, pod: str) -> str:
        namespace, name = parts_of_pod(pod)
        return f"{self._pods_in(namespace)}/{name}"

    async def _ensure_namespace(self) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}}
        while True:
            try:
                with contextlib.suppress(Conflict):
                    await self._client.request("POST", "/api/v1/namespaces", body=body)
                return
            except ClusterUnavailable as error:
                log.warning("cluster_away", cluster=self._client.cluster, error=str(error))
                await asyncio.sleep(NAMESPACE_AGAIN_S)
