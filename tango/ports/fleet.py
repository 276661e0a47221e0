"""The store of the fleet: what is declared, what agents last observed, and the snapshot that policies see."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from tango.domain.fleet import Fleet
from tango.domain.identity import NodeKey
from tango.domain.node_reports import NodeAgentReport
from tango.domain.observations import (
    AwaitedInstances,
    InstanceState,
    MeasuredService,
    NodeState,
    Observation,
    Picture,
    ServiceUsage,
)
from tango.domain.plans import Eviction, RefusedResize
from tango.domain.services import Service
from tango.domain.snapshot import FleetSnapshot


class FleetStore(Protocol):
    """Clusters, nodes, services and instances as last observed. Raises: StoreUnavailable, StoreError."""

    def declare(self, fleet: Fleet, *, kubeconfig: str, contexts: Mapping[str, str]) -> None:
        """Upsert the fleet's clusters (with the kubeconfig's path and context, never its content), links and services."""
        ...

    def services(self) -> tuple[Service, ...]:
        """All declared services, by name."""
        ...

    def namespaces(self) -> tuple[str, ...]:
        """Namespaces of services, those too that no declaration names any more, for as long as pods may run there; by name."""
        ...

    def snapshot(self, *, at_s: float) -> FleetSnapshot:
        """The fleet as last observed, with counts of requests in flight and pending; `at_s` (Unix time) is its time stamp.

        LC in flight is what the agents last told of their journals.
        """
        ...

    def observe(self, cluster: str, nodes: Sequence[NodeState], instances: Sequence[InstanceState], *, sample: bool) -> None:
        """Replace the nodes and instances of a cluster; with `sample`, also append the nodes to `node_sample`."""
        ...

    def observe_all(self, observations: Sequence[Observation]) -> None:
        """As `observe`, for several clusters in one transaction."""
        ...

    def note_agent(self, cluster: str) -> None:
        """The cluster's agent is there, and has nothing new to tell: its API server is away."""
        ...

    def pictures(self) -> list[Picture]:
        """Every cluster, by position and name, with how old what is known of it is."""
        ...

    def nodes(self) -> list[tuple[str, NodeState]]:
        """(cluster, node) of every node as last observed, in this order; those of clusters that are away are as they last were."""
        ...

    def note_refused_resizes(self, refused: Sequence[RefusedResize]) -> None:
        """Remember them of the pods that are there, with what their nodes have; of one pod the smallest counts."""
        ...

    def refused_resizes(self) -> list[RefusedResize]:
        """Resizes that were refused for good, of pods that are still the same on nodes that have not grown since."""
        ...

    def note_usage(self, cluster: str, usages: Sequence[ServiceUsage]) -> None:
        """Add what the pods of services have used in a cluster; figures that nobody has declared are learned from it.

        Twice the same counts twice. What is told of a service that is not declared is dropped.
        """
        ...

    def note_reports(self, cluster: str, reports: Sequence[NodeAgentReport]) -> None:
        """Keep reports of node agents for a week; the same one twice counts once."""
        ...

    def measured(self, names: Sequence[str]) -> list[MeasuredService]:
        """What has been measured of these services since each was declared; one that never was is left out."""
        ...

    def away(self) -> dict[str, float]:
        """Clusters whose agent has not been heard of for `LeaseSettings.silent_s`, by name: when it last was (Unix time)."""
        ...

    def instances(self) -> list[tuple[str, InstanceState]]:
        """(cluster, instance) of every known LC instance."""
        ...

    def tail_latency_ms(self, *, window_s: float, quantile: float) -> dict[tuple[str, NodeKey], tuple[float, int]]:
        """(service, node) → latency in ms at `quantile` of the LC requests settled in the last `window_s` seconds, and their number."""
        ...

    def awaited(self) -> list[AwaitedInstances]:
        """LC instances that ready nodes are to get and have not, by cluster, node and service; of clusters that are away none."""
        ...

    def evictable_be(self, nodes: Collection[NodeKey]) -> dict[NodeKey, list[Eviction]]:
        """BE pods of these nodes, least work lost first; a node without any is left out."""
        ...

    def never_evicted_be(self, nodes: Collection[NodeKey]) -> dict[NodeKey, list[tuple[str, str]]]:
        """(pod, service) of the BE pods of these nodes whose services are never evicted, by name; a node without any is left out."""
        ...
