"""The Kubernetes clusters: the scheduler's calls to all of them, and an agent's watch of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from tango.domain.identity import NodeKey, PodKey
from tango.domain.jobs import ContainerLog
from tango.domain.node_reports import NodeAgentReport
from tango.domain.plans import Eviction, Resize
from tango.domain.runs import Placement, ScalingRecord
from tango.domain.services import Adoption, Service
from tango.errors import ClusterError


class ClusterCalls(Protocol):
    """The scheduler's calls to Kubernetes clusters. The calls of one batch run concurrently, and one that fails does not fail others."""

    def run_be_pods(self, placements: Sequence[Placement]) -> dict[Placement, Exception | None]:
        """Create and bind one pod per placement; gives the error of each, or None. A pod that exists from an earlier call is a success."""
        ...

    def resize(self, resizes: Sequence[Resize]) -> list[ScalingRecord]:
        """Resize instances in place and give the outcome of each; one that is `infeasible` is not worth trying again unchanged."""
        ...

    def evict(self, evictions: Sequence[Eviction]) -> list[ScalingRecord]:
        """Evict BE pods through the eviction subresource; a refusal by a PodDisruptionBudget is an outcome, not an error."""
        ...

    def delete_pods(self, pods: Sequence[PodKey]) -> None:
        """Delete pods without a grace period; those already gone count as deleted."""
        ...


class ClusterWatch(Protocol):
    """One cluster for its agent: a cache of nodes and Tango's pods that watches keep current, and the agent's few writes.

    Objects are Kubernetes' own JSON, which `tango.control.observe_cluster` reads. Raises: ClusterUnavailable for an API server that
    cannot be reached, ClusterError for a call that is refused.
    """

    async def follow(self, on_pod: Callable[[str, Mapping[str, Any]], None]) -> None:
        """Watch until cancelled; relists when a watch cannot continue, and keeps trying while the cluster cannot be reached.

        `on_pod` is called for every change of one of Tango's pods with (`ADDED` | `MODIFIED` | `DELETED`, pod), also for pods found by
        the first list and for pods that vanished between two watches. The same change may be reported twice.
        """
        ...

    async def synced(self) -> None:
        """Wait until nodes and pods have been listed once. Without a deadline: the agent can do nothing before."""
        ...

    def name_of(self, pod: Mapping[str, Any]) -> str:
        """The name in the fleet of a pod of this cluster (`PodKey`)."""
        ...

    def watch_namespaces(self, namespaces: Collection[str]) -> None:
        """Watch the pods that Tango has made in these namespaces too, from now on until the end: `pods` has them, `on_pod` is told of them.

        Called while `follow` runs. Where the cluster does not let Tango watch one, the others go on.
        """
        ...

    def unseen(self) -> Mapping[str, ClusterError | None]:
        """Of these namespaces and those of adopted pods, the ones whose pods are not seen now.

        With what the server says where it refuses that; None where it has not answered yet.
        """
        ...

    def age_s(self, namespace: str = "") -> float:
        """Seconds since nodes and pods were last known to be as `nodes` and `pods` have them; about 0 while the watches stand.

        With one of `watch_namespaces`: of the pods there alone, which count for nothing in the age of the cluster.
        """
        ...

    def changes(self) -> int:
        """Changes of nodes and pods, adopted ones too, seen so far: while it stays, `nodes` and `pods` give the same."""
        ...

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        """All nodes as last seen."""
        ...

    def pods(self) -> Sequence[Mapping[str, Any]]:
        """Tango's pods as last seen, in all namespaces that are watched."""
        ...

    async def pod_usage(self) -> Mapping[tuple[str, str], Mapping[str, Any]]:
        """PodMetrics of metrics.k8s.io by (namespace, name), of Tango's pods and of adopted ones; those without a measurement left out."""
        ...

    def others(self) -> Sequence[Mapping[str, Any]]:
        """Pods of all namespaces that are bound, have not ended and are not Tango's, adopted ones among them, as last seen: of each its
        metadata, node, and what its containers request. None where the cluster does not let Tango read them.
        """
        ...

    def adopt(self, adoptions: Mapping[str, Adoption]) -> None:
        """Watch the pods that these services (by name) have adopted, from now on these alone. Called while `follow` runs."""
        ...

    def adopted(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """By service: the pods that it has adopted, as last seen, none of them Tango's own; none where its namespace may not be read."""
        ...

    async def node_usage(self) -> Mapping[str, Mapping[str, Any]]:
        """`usage` of metrics.k8s.io (quantities of CPU and memory) by node name; nodes without a measurement are left out."""
        ...

    async def node_agent_reports(self) -> Sequence[NodeAgentReport]:
        """The last report of each node's agent, however old; none where none runs, or where they may not be read."""
        ...

    async def log_tail(
        self, pod: str, container: str, *, lines: int, most_bytes: int, follow: bool, within_s: float
    ) -> ContainerLog:
        """The end of a container's log: of its last `lines` lines the last `most_bytes` bytes, whatever it has written in all.

        `pod` is its name in the fleet.

        With `follow` it waits for the container to end. After `within_s` seconds, or when the stream breaks, it is what has come by then.
        Raises: ClusterError where the server refuses it, as for a container that has not begun.
        """
        ...

    async def create_instance(self, service: Service, node: NodeKey, number: int) -> None:
        """Create an LC service's instance of this number, from 0, and bind it to its node. An instance that exists is left as it is."""
        ...

    async def set_cpu_limit(self, pod: str, container: str, millicores: int) -> None:
        """Resize a container's CPU limit in place; its request stays. The kubelet carries it out later. One that is gone is left alone.

        `pod` is its name in the fleet.
        """
        ...

    async def bind(self, pod: Mapping[str, Any], node: str) -> None:
        """Bind the pod of this uid to a node. A pod that is bound or gone is left alone."""
        ...

    async def delete_pod(self, name: str, *, uid: str | None = None, at_once: bool = False) -> None:
        """Delete a pod, with its grace period unless `at_once`; one that is gone, or is not of this uid, counts as deleted.

        `name` is its name in the fleet.
        """
        ...
