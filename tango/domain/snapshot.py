"""The fleet at one instant, as columns: what every policy sees, live and simulated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tango.domain.identity import NodeKey
from tango.domain.requests import BePending
from tango.domain.resource_axis import CPU, MEMORY, PODS, ResourceAxis, row
from tango.domain.services import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSnapshot:
    """State of c clusters, n nodes and s services over r resources. CPU in millicores, memory in MiB; rows follow the name tuples.

    `*_requests` is what pods hold by their requests (for memory request and limit are equal); `*_used` is what was measured. `in_flight`
    counts what has been dispatched and is not settled, the plans of this tick included, so that no policy gives the same headroom twice.
    """

    at_s: float
    clusters: tuple[str, ...]
    nodes: tuple[str, ...]
    """Names within their clusters: two rows may have one name. `node_key` tells them apart."""
    services: tuple[Service, ...]
    node_cluster: NDArray[np.int32]
    """(n,) row of the node's cluster."""
    node_ready: NDArray[np.bool_]
    """(n,) the node is Ready."""
    resources: ResourceAxis
    """Names of the r rows of `allocatable`, `lc_requests` and `be_requests`."""
    allocatable: NDArray[np.float64]
    """(r, n) what pods may have."""
    lc_requests: NDArray[np.float64]
    """(r, n) requests of the LC instances, those included that an agent is about to make."""
    be_requests: NDArray[np.float64]
    """(r, n) requests of the BE pods."""
    lc_cpu_limit: NDArray[np.float64]
    """(n,) sum of the LC instances' limits."""
    be_cpu_limit: NDArray[np.float64]
    """(n,) sum of the BE pods' limits."""
    cpu_used: NDArray[np.float64]
    """(n,) measured."""
    memory_used: NDArray[np.float64]
    """(n,) measured."""
    slack: NDArray[np.float64]
    """(n,) least slack of the node's LC services: 1 - tail latency / target; 1 where nothing was measured."""
    rtt_ms: NDArray[np.float64]
    """(c, c) round-trip time, the local one on the diagonal."""
    bandwidth_mbit_per_s: NDArray[np.float64]
    """(c, c) link bandwidth; infinity on the diagonal."""
    instance_limit: NDArray[np.float64]
    """(s, n) CPU limit of the ready LC instances of a service on a node; 0 where none is ready."""
    instance_count: NDArray[np.float64]
    """(s, n) ready LC instances."""
    in_flight: NDArray[np.float64]
    """(s, n) LC requests dispatched to the node and not settled."""
    in_flight_work_s: NDArray[np.float64]
    """(s, n) their CPU work, in CPU-seconds."""
    pending_be: NDArray[np.float64]
    """(c,) BE requests that wait for a node, by entry cluster."""
    lc_cpu_recent: NDArray[np.float64] | None = None
    """(n,) millicores that LC has used of late (`tango.learning.recent`); None where nobody has kept that."""
    others: NDArray[np.float64] | None = None
    """(r, n) what pods of others hold, which `allocatable` does not have any more; None: nothing anywhere."""
    barred: NDArray[np.bool_] | None = None
    """(s, n) where no new pod of a service may be put, whatever its headroom: cordoned, under pressure, tainted; None: nowhere."""
    lc_cpu_pressure: NDArray[np.float64] | None = None
    """(n,) as in `NodeState`, as the next two; 0 where no node agent tells, None: nothing of it anywhere. In the simulated world LC never
    waits for a CPU that others have, since the node model gives BE what LC leaves, so it has none."""
    lc_throttled: NDArray[np.float64] | None = None
    """(n,)"""
    memory_pressure: NDArray[np.float64] | None = None
    """(n,)"""
    answers: NDArray[np.void] | None = None
    """(s, n) of `seen_answers.SEEN`: how the requests of the cluster that dispatches were answered; None where the policy that decides does
    not go by it."""

    def node_key(self, node: int) -> NodeKey:
        """The node of a row."""
        return NodeKey(self.clusters[self.node_cluster[node]], self.nodes[node])

    @property
    def node_keys(self) -> tuple[NodeKey, ...]:
        """All nodes, in order of their rows."""
        return tuple(map(NodeKey, (self.clusters[k] for k in self.node_cluster.tolist()), self.nodes))

    def has_nodes_of(self, other: FleetSnapshot) -> bool:
        """Whether the rows of both mean the same clusters and nodes."""
        same_names = self.nodes == other.nodes and self.clusters == other.clusters
        return same_names and bool(np.array_equal(self.node_cluster, other.node_cluster))

    def has_rows_of(self, other: FleetSnapshot) -> bool:
        """Whether the rows of both mean the same clusters, nodes and services, so that a plan on one holds on the other."""
        return self.has_nodes_of(other) and self.services == other.services

    @property
    def cpu_allocatable(self) -> NDArray[np.float64]:
        """(n,) the CPU row of `allocatable`."""
        return row(self.allocatable, CPU)

    @property
    def memory_allocatable(self) -> NDArray[np.float64]:
        """(n,) the memory row of `allocatable`."""
        return row(self.allocatable, MEMORY)

    @property
    def lc_cpu_request(self) -> NDArray[np.float64]:
        """(n,) the CPU row of `lc_requests`."""
        return row(self.lc_requests, CPU)

    @property
    def lc_memory_held(self) -> NDArray[np.float64]:
        """(n,) the memory row of `lc_requests`."""
        return row(self.lc_requests, MEMORY)

    @property
    def be_cpu_request(self) -> NDArray[np.float64]:
        """(n,) the CPU row of `be_requests`."""
        return row(self.be_requests, CPU)

    @property
    def be_memory_held(self) -> NDArray[np.float64]:
        """(n,) the memory row of `be_requests`."""
        return row(self.be_requests, MEMORY)

    @property
    def be_pods(self) -> NDArray[np.float64]:
        """(n,) the row of pods of `be_requests`."""
        return row(self.be_requests, PODS)

    @property
    def free(self) -> NDArray[np.float64]:
        """(r, n) what no pod holds, of which the kubelet admits: allocatable less all requests. A new array; may be negative for an instant
        after a node shrank."""
        return self.allocatable - self.lc_requests - self.be_requests

    @property
    def cpu_requested(self) -> NDArray[np.float64]:
        """(n,) CPU requests of all pods."""
        return self.lc_cpu_request + self.be_cpu_request

    @property
    def lc_cpu_in_use(self) -> NDArray[np.float64]:
        """(n,) millicores LC is using: one core each of what is in flight, at most the instances' limits."""
        used: NDArray[np.float64] = np.minimum(self.instance_limit, self.in_flight * 1e3).sum(axis=0)
        return used

    def with_placed(self, pending: BePending, node: NDArray[np.int32]) -> FleetSnapshot:
        """The same instant with these BE requests counted in on these nodes; -1 counts nowhere."""
        placed = node >= 0
        rows = node[placed]

        def added(held: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
            return held + np.bincount(rows, weights=size[placed], minlength=len(held))

        return replace(
            self,
            be_requests=np.stack([added(held, size) for held, size in zip(self.be_requests, pending.requests, strict=True)]),
            be_cpu_limit=added(self.be_cpu_limit, pending.cpu_limit_millicores),
        )

    @property
    def memory_free(self) -> NDArray[np.float64]:
        """(n,) memory no pod holds; may be negative for an instant after a node shrank."""
        return self.memory_allocatable - self.lc_memory_held - self.be_memory_held
