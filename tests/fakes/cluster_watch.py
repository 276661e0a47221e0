"""A cluster in memory, as an agent watches and keeps it."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tango.domain.identity import NodeKey, parts_of_pod, pod_in
from tango.domain.jobs import ContainerLog
from tango.domain.node_reports import NodeAgentReport
from tango.domain.pod_marks import MANAGED_BY
from tango.domain.services import Adoption, Service
from tango.errors import ClusterError
from tango.kube.manifests import lc_instance
from tango.settings import KubeSettings

Json = dict[str, Any]
OWN = KubeSettings().namespace


def _is_of_tango(pod: Json) -> bool:
    return (pod["metadata"].get("labels") or {}).get(MANAGED_BY) == "tango"


class MemoryCluster:
    """Implements `tango.ports.clusters.ClusterWatch`. Tests put nodes and pods, and say who is away by `error`."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        """Raised by every write and by the reading of usage."""
        self.old_s = 0.0
        """How old the picture is."""
        self.usage: dict[str, Json] = {}
        self.agent_reports: list[NodeAgentReport] = []
        self.pods_usage: dict[tuple[str, str], Json] = {}
        self.deleted: list[tuple[str, bool]] = []
        """(pod, at once) of every pod that a call has deleted."""
        self.logs: dict[tuple[str, str], bytes | Exception] = {}
        """By pod and container: its log, or what a call to read it raises."""
        self.read_logs: list[tuple[str, str, bool]] = []
        """(pod, container, whether it was followed) of every log that was read."""
        self._nodes: dict[str, Json] = {}
        self._pods: dict[str, Json] = {}
        self._adoptions: dict[str, Adoption] = {}
        self._beside: set[str] = set()
        self.refused: dict[str, ClusterError] = {}
        """By namespace, what the server says to who watches there: its pods are not seen."""
        self.keeps_sight = False
        """Whether pods of namespaces that are refused are had as they were last seen, as by a watch that was open before."""
        self._changes = 0
        self._uids = itertools.count(1)
        self._on_pod: Callable[[str, Mapping[str, Any]], None] = lambda kind, pod: None

    def put_node(self, node: Json) -> None:
        """A node as it is now."""
        self._changes += 1
        self._nodes[node["metadata"]["name"]] = node

    def put_pod(self, pod: Json) -> Json:
        """A pod as it is now; the watch tells it, where it is one of Tango's or in Tango's own namespace."""
        name = self.name_of(pod)
        kind = "MODIFIED" if name in self._pods else "ADDED"
        uid = pod["metadata"].get("uid") or f"uid-{next(self._uids)}"
        self._pods[name] = found = {**pod, "metadata": {**pod["metadata"], "uid": uid}}
        self._changes += 1
        if self._is_seen(found):
            self._on_pod(kind, found)
        return found

    def remove_pod(self, name: str) -> None:
        """A pod vanishes, by its name in the fleet or in its namespace; the watch tells it."""
        known = name if name in self._pods else next(key for key in self._pods if parts_of_pod(key)[1] == name)
        self._changes += 1
        found = self._pods.pop(known)
        if self._is_seen(found):
            self._on_pod("DELETED", found)

    def _is_seen(self, pod: Json) -> bool:
        namespace = pod["metadata"].get("namespace", OWN)
        return namespace == OWN or (namespace in self._beside and (self.keeps_sight or namespace not in self.refused))

    async def follow(self, on_pod: Callable[[str, Mapping[str, Any]], None]) -> None:
        """Tell what is there, then what comes."""
        self._on_pod = on_pod
        for pod in list(self._pods.values()):
            if self._is_seen(pod):
                on_pod("ADDED", pod)
        await asyncio.Event().wait()

    async def synced(self) -> None:
        """At once."""

    def name_of(self, pod: Mapping[str, Any]) -> str:
        """By its namespace."""
        namespace = pod["metadata"].get("namespace", OWN)
        return pod_in("" if namespace == OWN else namespace, pod["metadata"]["name"])

    def watch_namespaces(self, namespaces: Collection[str]) -> None:
        """These too."""
        new = set(namespaces) - self._beside - {OWN}
        self._beside |= new
        self._changes += bool(new)
        for pod in self.pods() if new else ():
            if pod["metadata"].get("namespace") in new:
                self._on_pod("ADDED", pod)

    def unseen(self) -> Mapping[str, ClusterError | None]:
        """As the test says."""
        return {namespace: error for namespace, error in self.refused.items() if namespace in self._all_beside()}

    def _all_beside(self) -> set[str]:
        return self._beside | {adoption.namespace for adoption in self._adoptions.values()}

    def age_s(self, namespace: str = "") -> float:
        """As the test says; of a namespace that is refused without end."""
        return float("inf") if namespace in self.refused else self.old_s

    def changes(self) -> int:
        """Of nodes and pods."""
        return self._changes

    def nodes(self) -> Sequence[Json]:
        """All."""
        return list(self._nodes.values())

    def pods(self) -> Sequence[Json]:
        """Tango's, where they are seen."""
        return [pod for pod in self._pods.values() if _is_of_tango(pod) and self._is_seen(pod)]

    def others(self) -> Sequence[Json]:
        """Those without Tango's label."""
        return [pod for pod in self._pods.values() if not _is_of_tango(pod) and pod["spec"].get("nodeName")]

    async def pod_usage(self) -> Mapping[tuple[str, str], Json]:
        """As the test says."""
        self._answer()
        return self.pods_usage

    def adopt(self, adoptions: Mapping[str, Adoption]) -> None:
        """From now on these."""
        self._changes += self._adoptions != dict(adoptions)
        self._adoptions = dict(adoptions)

    def adopted(self) -> Mapping[str, Sequence[Json]]:
        """Pods of the namespace with the label, `key=value`."""
        found: dict[str, list[Json]] = {}
        for service, adoption in self._adoptions.items():
            key, _, value = adoption.selector.partition("=")
            found[service] = [
                pod
                for pod in self._pods.values()
                if pod["metadata"].get("namespace") == adoption.namespace
                and (pod["metadata"].get("labels") or {}).get(key) == value
            ]
        return found

    async def node_usage(self) -> Mapping[str, Json]:
        """As the test says."""
        self._answer()
        return self.usage

    async def node_agent_reports(self) -> Sequence[NodeAgentReport]:
        """As the test says."""
        self._answer()
        return self.agent_reports

    async def log_tail(
        self, pod: str, container: str, *, lines: int, most_bytes: int, follow: bool, within_s: float
    ) -> ContainerLog:
        """As the test says; what is followed ends at once."""
        self._answer()
        self.read_logs.append((pod, container, follow))
        found = self.logs.get((pod, container), b"")
        if isinstance(found, Exception):
            raise found
        return ContainerLog(container=container, tail=found[-most_bytes:], is_whole=len(found) <= most_bytes)

    async def create_instance(self, service: Service, node: NodeKey, k: int) -> None:
        """The manifest that a real cluster would get, bound."""
        self._answer()
        if service.namespace in self.refused:
            raise self.refused[service.namespace]
        pod = lc_instance(service, node, k)
        if service.namespace:
            pod["metadata"]["namespace"] = service.namespace
        if self.name_of(pod) not in self._pods:
            await self.bind(self.put_pod(pod), node.name)

    async def set_cpu_limit(self, pod: str, container: str, millicores: int) -> None:
        """At once."""
        self._answer()
        if (found := self._pods.get(pod)) is None:
            return
        changed = copy.deepcopy(found)
        (own,) = [c for c in changed["spec"]["containers"] if c["name"] == container]
        own["resources"]["limits"]["cpu"] = f"{millicores}m"
        self.put_pod(changed)

    async def bind(self, pod: Mapping[str, Any], node: str) -> None:
        """Where it is this pod, and not bound."""
        self._answer()
        found = self._pods.get(self.name_of(pod))
        if found and found["metadata"]["uid"] == pod["metadata"]["uid"] and not found["spec"].get("nodeName"):
            self.put_pod({**found, "spec": {**found["spec"], "nodeName": node}})

    async def delete_pod(self, name: str, *, uid: str | None = None, at_once: bool = False) -> None:
        """It goes at once."""
        self._answer()
        if name in self._pods and uid in (None, self._pods[name]["metadata"]["uid"]):
            self.deleted.append((name, at_once))
            self.remove_pod(name)

    def _answer(self) -> None:
        if self.error is not None:
            raise self.error
