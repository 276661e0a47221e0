"""The fleet store in memory, over the same `MemoryState` as the stores of `tests.fakes.stores`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tango.domain.fleet import Fleet
from tango.domain.identity import NodeKey
from tango.domain.lifecycle import IN_FLIGHT
from tango.domain.observations import InstanceState, NodeState
from tango.domain.plans import Eviction
from tango.domain.requests import RequestState
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tests.fakes.stores import MemoryState


class MemoryFleetStore:
    """Implements `tango.ports.FleetStore`."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self._clusters: tuple[str, ...] = ()
        self._rtt_ms = np.zeros((0, 0))
        self._bandwidth = np.zeros((0, 0))
        self._nodes: dict[str, list[NodeState]] = {}
        self._instances: dict[str, list[InstanceState]] = {}
        self.samples: list[tuple[str, NodeState]] = []
        """What `node_sample` would hold."""

    def declare(self, fleet: Fleet, *, kubeconfig: str, contexts: Mapping[str, str]) -> None:
        """Clusters, links and services of the fleet."""
        self._clusters = tuple(cluster.name for cluster in fleet.clusters)
        self._rtt_ms = fleet.rtt_ms()
        self._bandwidth = fleet.bandwidth_mbit_per_s()
        self._state.services = {service.name: service for service in fleet.services}
        self._nodes = {name: nodes for name, nodes in self._nodes.items() if name in self._clusters}
        self._instances = {name: found for name, found in self._instances.items() if name in self._clusters}

    def services(self) -> tuple[Service, ...]:
        """By name."""
        return tuple(self._state.services[name] for name in sorted(self._state.services))

    def observe(self, cluster: str, nodes: Sequence[NodeState], instances: Sequence[InstanceState], *, sample: bool) -> None:
        """Replace what is known of the cluster."""
        with self._state.lock:
            self._nodes[cluster] = sorted(nodes, key=lambda n: n.name)
            self._instances[cluster] = sorted(instances, key=lambda i: i.pod)
            if sample:
                self.samples.extend((cluster, node) for node in nodes)

    def instances(self) -> list[tuple[str, InstanceState]]:
        """With their clusters."""
        return [(cluster, instance) for cluster in sorted(self._instances) for instance in self._instances[cluster]]

    def tail_latency_ms(self, *, window_s: float, quantile: float) -> dict[tuple[str, NodeKey], tuple[float, int]]:
        """Of the LC attempts that succeeded in the window."""
        since_s = self._state.now_s() - window_s
        found: dict[tuple[str, NodeKey], list[float]] = defaultdict(list)
        for a in self._state.attempts:
            if a.service_class is ServiceClass.LC and a.latency_s is not None and a.node and a.ended_at_s > since_s:
                found[a.service, NodeKey(a.cluster, a.node)].append(a.latency_s * self._state.runs[a.run_id].info.speed * 1000)
        return {where: (float(np.quantile(tail, quantile)), len(tail)) for where, tail in found.items()}

    def evictable_be(self, nodes: Collection[NodeKey]) -> dict[NodeKey, list[Eviction]]:
        """Placed ones, which have done nothing, before running ones, the latest started first."""
        rows = [
            row
            for row in self._state.open()
            if row.service_class is ServiceClass.BE and row.state in IN_FLIGHT and (row.target_cluster, row.node) in nodes
        ]
        rows.sort(key=lambda r: (r.started_s is not None, -(r.started_s or 0.0)))
        found: dict[NodeKey, list[Eviction]] = defaultdict(list)
        for row in rows:
            found[NodeKey(row.target_cluster, row.node)].append(
                Eviction(
                    cluster=row.target_cluster,
                    node=row.node,
                    pod=row.pod,
                    run_id=row.run_id,
                    request_id=row.request_id,
                    epoch=row.epoch,
                    work_lost_s=0.0 if row.started_s is None else row.cpu_work_s,
                )
            )
        return dict(found)

    def snapshot(self, *, at_s: float) -> FleetSnapshot:
        """As columns, what is in flight and pending included."""
        services = self.services()
        pairs = [(cluster, node) for cluster in sorted(self._clusters) for node in self._nodes.get(cluster, [])]
        row_of = {(cluster, node.name): k for k, (cluster, node) in enumerate(pairs)}
        service_row = {service.name: k for k, service in enumerate(services)}
        limit, count, in_flight, work = (np.zeros((len(services), len(pairs))) for _ in range(4))
        for cluster, instance in self.instances():
            if instance.ready and (cluster, instance.node) in row_of and instance.service in service_row:
                where = service_row[instance.service], row_of[cluster, instance.node]
                limit[where] += instance.cpu_limit_millicores
                count[where] += 1
        be = np.zeros((4, len(pairs)))
        pending = np.zeros(len(self._clusters))
        with self._state.lock:
            for row in self._state.open():
                if row.state is RequestState.PENDING and row.cluster in self._clusters:
                    pending[self._clusters.index(row.cluster)] += 1
            for row in self._state.holding():
                if row.state not in IN_FLIGHT or (row.target_cluster, row.node) not in row_of or row.service not in service_row:
                    continue
                k, service = row_of[row.target_cluster, row.node], services[service_row[row.service]]
                if row.service_class is ServiceClass.LC:
                    in_flight[service_row[row.service], k] += 1
                    work[service_row[row.service], k] += row.cpu_work_s
                else:
                    be[:, k] += (service.cpu_request_millicores, service.cpu_limit_millicores, row.memory_mib, 1)

        def column(name: str) -> np.ndarray:
            return np.array([float(getattr(node, name) or 0.0) for _, node in pairs])

        return FleetSnapshot(
            at_s=at_s,
            clusters=self._clusters,
            nodes=tuple(node.name for _, node in pairs),
            services=services,
            node_cluster=np.array([self._clusters.index(cluster) for cluster, _ in pairs], np.int32),
            node_ready=np.array([node.ready for _, node in pairs], bool),
            cpu_allocatable=column("cpu_allocatable_millicores"),
            memory_allocatable=column("memory_allocatable_mib"),
            cpu_used=column("cpu_used_millicores"),
            memory_used=column("memory_used_mib"),
            lc_cpu_request=column("lc_cpu_request_millicores"),
            lc_cpu_limit=column("lc_cpu_limit_millicores"),
            lc_memory_held=column("lc_memory_held_mib"),
            be_cpu_request=be[0],
            be_cpu_limit=be[1],
            be_memory_held=be[2],
            be_pods=be[3],
            slack=np.ones(len(pairs)),
            rtt_ms=self._rtt_ms,
            bandwidth_mbit_per_s=self._bandwidth,
            instance_limit=limit,
            instance_count=count,
            in_flight=in_flight,
            in_flight_work_s=work,
            pending_be=pending,
        )
