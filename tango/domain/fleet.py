"""Fleets as declared: clusters, their nodes, the links between them and the services they run.

A `Fleet` comes from a YAML file, or from what was observed of joined clusters. The nodes' current state is a `FleetSnapshot`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tango.domain.identity import NodeKey
from tango.domain.interference import ServiceInterference
from tango.domain.kubelet_ways import USUAL, KubeletWays
from tango.domain.quantities import Amounts
from tango.domain.services import Service, ServiceClass
from tango.errors import ConfigError

MOST_PODS = 110
"""Pods that a kubelet admits to a node unless it is told otherwise (its flag `--max-pods`); LC instances count among them."""


class RunPods(StrEnum):
    """What a virtual kubelet does with pods of services with a template; those of the synthetic workload are always modelled."""

    MODEL = "model"
    """By the node model: they take no CPU of this machine."""
    PROCESSES = "processes"
    """As local processes, not isolated from anything of the user who runs the stack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One Kubernetes machine as declared."""

    name: str
    """Unique within its cluster; other clusters may have a node of the same name."""
    cpu_millicores: int
    """Allocatable CPU, that is what pods may have."""
    memory_mib: int
    """Allocatable memory, likewise."""
    pods: int = MOST_PODS
    """Pods that the node admits."""
    extended: Amounts = ()
    """Allocatable extended resources, such as (("nvidia.com/gpu", 4000),) for four GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One Kubernetes cluster at one site; `x_km`, `y_km` place it on a plane, from which its round-trip times follow."""

    name: str
    nodes: tuple[Node, ...]
    x_km: float = 0.0
    y_km: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkModel:
    """The network between sites: round-trip time is a base plus a part by distance; payloads take time on a shared link."""

    base_rtt_ms: float = 2.0
    """Round-trip time between two clusters at the same place."""
    local_rtt_ms: float = 0.2
    """Round-trip time within one cluster."""
    rtt_ms_per_km: float = 0.01
    """Light in fibre, there and back: 2 / (200 km per ms)."""
    bandwidth_mbit_per_s: float = 1000.0
    """Bandwidth of the link that joins one cluster to all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Known values for a pair of clusters, in both directions; a value of None follows from the network model.

    Raises: ConfigError for a link from a cluster to itself, or one without any value.
    """

    from_cluster: str
    to_cluster: str
    rtt_ms: float | None = None
    bandwidth_mbit_per_s: float | None = None

    def __post_init__(self) -> None:
        if self.from_cluster == self.to_cluster:
            raise ConfigError(f"link goes from {self.from_cluster} to itself, expected two clusters; local_rtt_ms is within one")
        if self.rtt_ms is None and self.bandwidth_mbit_per_s is None:
            raise ConfigError(
                f"link from {self.from_cluster} to {self.to_cluster} says nothing, expected rtt_ms or bandwidth_mbit_per_s"
            )

    @property
    def pair(self) -> frozenset[str]:
        """The names of its two clusters, without an order."""
        return frozenset((self.from_cluster, self.to_cluster))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The clusters, nodes, links and services of a run.

    Raises: ConfigError for an empty fleet, names used twice, a link to a cluster that is not declared or a pair linked twice.
    """

    name: str
    clusters: tuple[Cluster, ...]
    services: tuple[Service, ...]
    network: NetworkModel = NetworkModel()
    links: tuple[Link, ...] = ()
    """Pairs of clusters with values of their own."""
    beta: float = 0.3
    """Interference: LC work is inflated by the factor 1 + beta x BE utilisation of its node, but for services whose sensitivity is
    declared."""
    interference: tuple[ServiceInterference, ...] = ()
    """What services do to their neighbours by kinds of pressure; of the world alone, nobody who schedules sees it."""
    actuation_delay_s: float = 0.1
    """Seconds from a resize in a pod's spec to the resize in effect."""
    staleness_s: float = 1.0
    """Seconds between two publications of a cluster's state, so the greatest age at which policies see other clusters."""
    run: RunPods = RunPods.MODEL
    """How the pods of embedded clusters run."""
    process_folder: str = ""
    """Where local processes start: the folder of the fleet's file, unless it names another."""
    kubelets: KubeletWays = USUAL
    """How the kubelets of embedded clusters behave; the simulator does not know of it."""
    source_hash: str = ""
    """SHA-256 of the declaration, printed with every result."""

    def __post_init__(self) -> None:
        if not self.clusters or not any(cluster.nodes for cluster in self.clusters):
            raise ConfigError(f"fleet {self.name!r} has no node; declare at least one cluster with one node")
        for kind, names in (
            ("cluster", [c.name for c in self.clusters]),
            ("service", [s.name for s in self.services]),
            # Clusters that were made alike have nodes of the same names; within one a name stands for one machine.
            *((f"cluster {c.name!r}: node", [n.name for n in c.nodes]) for c in self.clusters),
        ):
            twice = sorted(name for name, count in Counter(names).items() if count > 1)
            if twice:
                raise ConfigError(f"fleet {self.name!r}: {kind} name used twice: {', '.join(twice)}")
        self._check_interference()
        nowhere = sorted(frozenset().union(*(link.pair for link in self.links)) - {c.name for c in self.clusters})
        if nowhere:
            raise ConfigError(f"fleet {self.name!r}: link to a cluster that is not declared: {', '.join(nowhere)}")
        if len({link.pair for link in self.links}) < len(self.links):
            raise ConfigError(f"fleet {self.name!r}: two links join the same clusters; declare one, it holds in both directions")

    def _check_interference(self) -> None:
        names = [one.service for one in self.interference]
        if twice := sorted(name for name, count in Counter(names).items() if count > 1):
            raise ConfigError(f"fleet {self.name!r}: interference of a service declared twice: {', '.join(twice)}")
        if unknown := sorted(set(names) - {s.name for s in self.services}):
            raise ConfigError(f"fleet {self.name!r}: interference of a service that is not declared: {', '.join(unknown)}")

    def services_of(self, service_class: ServiceClass) -> tuple[Service, ...]:
        """The services of one class, in declared order."""
        return tuple(s for s in self.services if s.service_class is service_class)

    @property
    def nodes(self) -> Iterator[Node]:
        """All nodes, cluster by cluster."""
        return (node for cluster in self.clusters for node in cluster.nodes)

    @property
    def node_keys(self) -> Iterator[NodeKey]:
        """The nodes with their clusters, in the order of `nodes`."""
        return (NodeKey(cluster.name, node.name) for cluster in self.clusters for node in cluster.nodes)

    def rtt_ms(self) -> NDArray[np.float64]:
        """Round-trip times between clusters, shape (clusters, clusters), the local one on the diagonal."""
        xy = np.array([(c.x_km, c.y_km) for c in self.clusters])
        distance_km = np.hypot(*(xy[:, None, :] - xy[None, :, :]).transpose(2, 0, 1))
        rtt: NDArray[np.float64] = self.network.base_rtt_ms + distance_km * self.network.rtt_ms_per_km
        np.fill_diagonal(rtt, self.network.local_rtt_ms)
        for a, b, link in self._linked():
            if link.rtt_ms is not None:
                rtt[a, b] = rtt[b, a] = link.rtt_ms
        return rtt

    def bandwidth_mbit_per_s(self) -> NDArray[np.float64]:
        """Bandwidth between clusters, shape (clusters, clusters), without limit on the diagonal."""
        bandwidth = np.full((len(self.clusters),) * 2, self.network.bandwidth_mbit_per_s)
        np.fill_diagonal(bandwidth, np.inf)
        for a, b, link in self._linked():
            if link.bandwidth_mbit_per_s is not None:
                bandwidth[a, b] = bandwidth[b, a] = link.bandwidth_mbit_per_s
        return bandwidth

    def _linked(self) -> Iterator[tuple[int, int, Link]]:
        """(row, row, link) for each link, with the rows of its clusters."""
        at = {cluster.name: k for k, cluster in enumerate(self.clusters)}
        return ((at[link.from_cluster], at[link.to_cluster], link) for link in self.links)
