"""The fleet store in memory, over the same `MemoryState` as the other stores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tango.domain.fleet import Fleet
from tango.domain.identity import NodeKey, PodKey
from tango.domain.learned_figures import learned
from tango.domain.lifecycle import IN_FLIGHT
from tango.domain.memory_by_load import MemoryByLoad
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
from tango.domain.requests import RequestState
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import BeColumns, FleetRows, InFlightColumns, LcColumns, NodeColumns, Tails, assemble
from tango.settings import SharingSettings
from tango.store.service_usage import SHIPPED_LATE_S
from tests.fakes.memory_state import MemoryState


class MemoryFleetStore:
    """Implements `tango.ports.fleet.FleetStore`."""

    def __init__(self, state: MemoryState, sharing: SharingSettings | None = None) -> None:
        self._state = state
        self._sharing = sharing or SharingSettings()
        self._clusters: tuple[str, ...] = ()
        self._declared: tuple[str, ...] = ()
        """Services of the fleet in force."""
        self._rtt_ms = np.zeros((0, 0))
        self._bandwidth = np.zeros((0, 0))
        self._nodes: dict[str, list[NodeState]] = {}
        self._refused: dict[tuple[PodKey, bool], tuple[str, int, RefusedResize]] = {}
        """By pod and kind: its uid, its node's CPU, and what was refused."""
        self._namespaces: dict[str, float] = {}
        """By name, when a service was last declared there."""
        self._agents: dict[str, float] = {}
        """When agents were heard of that had nothing to tell."""
        self._instances: dict[str, list[InstanceState]] = {}
        self._used: dict[tuple[str, str], tuple[ServiceUsage, float]] = {}
        """By (cluster, service): the total, and up to when LC requests are counted."""
        self.samples: list[tuple[str, NodeState]] = []
        self.reports: dict[tuple[str, str, str], NodeAgentReport] = {}
        """By cluster, node and time."""
        """What `node_sample` would hold."""

    def declare(self, fleet: Fleet, *, kubeconfig: str, contexts: Mapping[str, str]) -> None:
        """Clusters, links and services of the fleet."""
        self._clusters = tuple(cluster.name for cluster in fleet.clusters)
        self._state.clusters = tuple(sorted(self._clusters))
        self._rtt_ms = fleet.rtt_ms()
        self._bandwidth = fleet.bandwidth_mbit_per_s()
        for name in self._declared:
            self._state.services.pop(name, None)
        self._declared = tuple(service.name for service in fleet.services)
        self._state.services |= {service.name: service for service in fleet.services}
        self._nodes = {name: nodes for name, nodes in self._nodes.items() if name in self._clusters}
        self._instances = {name: found for name, found in self._instances.items() if name in self._clusters}
        self._state.in_flight = {name: found for name, found in self._state.in_flight.items() if name in self._clusters}

    def put_services(self, services: Sequence[Service]) -> None:
        """By themselves."""
        self._note_namespaces()
        self._state.services |= {service.name: service for service in services}

    def namespaces(self) -> tuple[str, ...]:
        """Those declared, and those of before, for as long as pods may run."""
        self._note_namespaces()
        oldest_s = self._state.now_s() - self._state.lease.run_s
        return tuple(sorted(name for name, at_s in self._namespaces.items() if at_s >= oldest_s))

    def _note_namespaces(self) -> None:
        self._namespaces |= {s.namespace: self._state.now_s() for s in self._state.services.values() if s.namespace}

    def services(self) -> tuple[Service, ...]:
        """By name."""
        return tuple(self._state.services[name] for name in sorted(self._state.services))

    def observe(self, cluster: str, nodes: Sequence[NodeState], instances: Sequence[InstanceState], *, sample: bool) -> None:
        """Replace what is known of the cluster."""
        with self._state.lock:
            self._state.heard_of(cluster)
            self._nodes[cluster] = sorted(nodes, key=lambda n: n.name)
            self._instances[cluster] = sorted(instances, key=lambda i: i.pod)
            if sample:
                self.samples.extend((cluster, node) for node in nodes)

    def observe_all(self, observations: Sequence[Observation]) -> None:
        """One after the other."""
        for o in observations:
            self.observe(o.cluster, o.nodes, o.instances, sample=o.sample)

    def note_reports(self, cluster: str, reports: Sequence[NodeAgentReport]) -> None:
        """Once each."""
        with self._state.lock:
            self.reports |= {(cluster, report.node, report.at): report for report in reports}

    def note_usage(self, cluster: str, usages: Sequence[ServiceUsage]) -> None:
        """Add, count the LC attempts since, learn."""
        with self._state.lock:
            for usage in usages:
                if usage.service not in self._state.services:
                    continue
                key = cluster, usage.service
                known = key in self._used
                before, counted_to_s = self._used.get(key, (ServiceUsage(service=usage.service), self._state.now_s()))
                until_s = max(counted_to_s, self._state.now_s() - SHIPPED_LATE_S)
                lc = sum(
                    a.service_class is ServiceClass.LC
                    and a.outcome == "succeeded"
                    and (a.cluster, a.service) == key
                    and counted_to_s < a.ended_at_s <= until_s
                    for a in self._state.attempts
                )
                total = ServiceUsage(
                    service=usage.service,
                    cpu_s=before.cpu_s + usage.cpu_s,
                    memory_mib=max(before.memory_mib, usage.memory_mib),
                    answered=before.answered + usage.answered + (lc if known else 0),
                    by_load=before.by_load + usage.by_load,
                )
                self._used[key] = total, until_s
            for measured in self.measured([u.service for u in usages]):
                self._state.services[measured.service] = learned(self._state.services[measured.service], measured)

    def measured(self, names: Sequence[str]) -> list[MeasuredService]:
        """Over all clusters."""
        found = []
        for name in sorted(set(names)):
            mine = [usage for (_, service), (usage, _) in self._used.items() if service == name]
            if mine:
                found.append(
                    MeasuredService(
                        service=name,
                        cpu_s=sum(u.cpu_s for u in mine),
                        requests=sum(u.answered for u in mine),
                        memory_mib=max(u.memory_mib for u in mine),
                        by_load=sum((u.by_load for u in mine), MemoryByLoad()),
                    )
                )
        return found

    def note_refused_resizes(self, refused: Sequence[RefusedResize]) -> None:
        """With the pod's uid and what its node has."""
        for one in refused:
            found = next((i for c, i in self.instances() if (c, i.pod) == one.pod), None)
            if found is None:
                continue
            has = self._cpu_of(one.pod.cluster, found.node)
            key = one.pod, one.larger_limit
            before = self._refused.get(key)
            if before is not None and before[0] == found.uid and before[1] >= has:
                one = replace(
                    one,
                    limit_millicores=min(one.limit_millicores, before[2].limit_millicores),
                    request_millicores=min(one.request_millicores, before[2].request_millicores),
                )
            self._refused[key] = found.uid, has, one

    def refused_resizes(self) -> list[RefusedResize]:
        """By pods and nodes as they are."""
        uids = {(c, i.pod): (i.uid, i.node) for c, i in self.instances()}
        return [
            one
            for (pod, _), (uid, had, one) in sorted(self._refused.items())
            if pod in uids and uids[pod][0] == uid and self._cpu_of(pod.cluster, uids[pod][1]) <= had
        ]

    def _cpu_of(self, cluster: str, node: str) -> int:
        return next((n.cpu_allocatable_millicores for n in self._nodes.get(cluster, []) if n.name == node), 0)

    def note_agent(self, cluster: str) -> None:
        """Of the agent alone."""
        with self._state.lock:
            self._agents[cluster] = self._state.now_s()

    def pictures(self) -> list[Picture]:
        """By the clock of the state."""
        now_s = self._state.now_s()
        found = []
        for cluster in self._clusters:
            nodes, seen = self._nodes.get(cluster, []), self._state.seen.get(cluster)
            told = [at_s for at_s in (self._agents.get(cluster), None if seen is None else seen[0]) if at_s is not None]
            is_away = self._state.is_silent(cluster)
            found.append(
                Picture(
                    cluster=cluster,
                    nodes=len(nodes),
                    ready=0 if is_away else sum(n.ready for n in nodes),
                    closed=sum(not n.schedulable for n in nodes),
                    age_s=None if seen is None else now_s - seen[0],
                    agent_age_s=now_s - max(told) if told else None,
                    is_away=is_away,
                    zones=tuple(sorted({"/".join(filter(None, (n.region, n.zone))) for n in nodes if n.zone})),
                )
            )
        return found

    def nodes(self) -> list[tuple[str, NodeState]]:
        """As observed."""
        found = [(cluster, node) for cluster, nodes in self._nodes.items() for node in nodes]
        return sorted(found, key=lambda pair: (pair[0], pair[1].name))

    def away(self) -> dict[str, float]:
        """By what was heard."""
        return {cluster: seen_s for cluster, (seen_s, _) in self._state.seen.items() if self._state.is_silent(cluster)}

    def instances(self) -> list[tuple[str, InstanceState]]:
        """With their clusters."""
        return [(cluster, instance) for cluster in sorted(self._instances) for instance in self._instances[cluster]]

    def tail_latency_ms(self, *, window_s: float, quantile: float) -> dict[tuple[str, NodeKey], tuple[float, int]]:
        """Of the LC attempts that succeeded in the window."""
        since_s = self._state.now_s() - window_s
        found: dict[tuple[str, NodeKey], list[float]] = defaultdict(list)
        for a in self._state.attempts:
            if a.ended_at_s > since_s and a.service_class is ServiceClass.LC and a.latency_s is not None and a.node:
                found[a.service, NodeKey(a.cluster, a.node)].append(a.latency_s * self._state.runs[a.run_id].info.speed * 1000)
        return {where: (_quantile(sorted(tail), quantile), len(tail)) for where, tail in found.items()}

    def awaited(self) -> list[AwaitedInstances]:
        """As observed."""
        return [
            AwaitedInstances(cluster=cluster, node=node.name, service=service, count=count)
            for cluster in sorted(self._nodes)
            if not self._state.is_silent(cluster)
            for node in sorted(self._nodes[cluster], key=lambda n: n.name)
            if node.ready and node.schedulable
            for service, count in sorted(node.lc_awaited.items())
        ]

    def evictable_be(self, nodes: Collection[NodeKey]) -> dict[NodeKey, list[Eviction]]:
        """Placed ones, which have done nothing, before running ones, the latest started first."""
        rows = [row for row in self._be_on(nodes) if not self._state.services[row.service].never_evict]
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
                    has_grace=row.job is not None or bool(self._state.services[row.service].template),
                    service=row.service,
                    memory_mib=row.memory_mib,
                    tenant=self._state.tenant_of(row),
                )
            )
        return dict(found)

    def never_evicted_be(self, nodes: Collection[NodeKey]) -> dict[NodeKey, list[tuple[str, str]]]:
        """By the declaration of their service."""
        found: dict[NodeKey, list[tuple[str, str]]] = defaultdict(list)
        for row in self._be_on(nodes):
            if self._state.services[row.service].never_evict:
                found[NodeKey(row.target_cluster, row.node)].append((row.pod, row.service))
        return {node: sorted(pods) for node, pods in found.items()}

    def _be_on(self, nodes: Collection[NodeKey]) -> list[Any]:
        return [
            row
            for row in self._state.open()
            if row.service_class is ServiceClass.BE and row.state in IN_FLIGHT and (row.target_cluster, row.node) in nodes
        ]

    def snapshot(self, *, at_s: float, without_lc_of: str | None = None) -> FleetSnapshot:
        """As columns, what is in flight and pending included."""
        pairs = [(cluster, node) for cluster in sorted(self._clusters) for node in self._nodes.get(cluster, [])]
        rows = FleetRows(
            clusters=self._clusters,
            nodes=tuple(node.name for _, node in pairs),
            services=self.services(),
            node_cluster=np.array([self._clusters.index(cluster) for cluster, _ in pairs], np.int32),
            rtt_ms=self._rtt_ms,
            bandwidth_mbit_per_s=self._bandwidth,
        )
        with self._state.lock:
            be = [
                (row.service, row.target_cluster, row.node, row.memory_mib)
                for row in self._state.holding()
                if row.state in IN_FLIGHT and row.service_class is ServiceClass.BE
            ]
            told = {entry: found for entry, found in self._state.in_flight.items() if not self._state.is_silent(entry)}
            lc = [f for entry, found in told.items() if entry != without_lc_of for f in found]
            pending = [(row.cluster, 1) for row in self._state.open() if row.state is RequestState.PENDING]
        ready = [(i.service, cluster, i.node, i.cpu_limit_millicores, 1) for cluster, i in self.instances() if i.ready]
        tails = self.tail_latency_ms(window_s=self._sharing.window_s, quantile=self._sharing.quantile)

        return assemble(
            rows,
            at_s=at_s,
            nodes=NodeColumns.of_states(
                rows, [replace(node, ready=node.ready and not self._state.is_silent(cluster)) for cluster, node in pairs]
            ),
            lc=LcColumns.of_instances(rows, ready, InFlightColumns.told(rows, lc)),
            be=BeColumns.of_pods(
                rows,
                rows.by_service_and_node((*where, 1) for *where, _ in be),
                rows.by_service_and_node((*where, memory_mib) for *where, memory_mib in be).sum(axis=0),
            ),
            tails=Tails(
                latency_ms=rows.by_service_and_node((service, *node, tail_ms) for (service, node), (tail_ms, _) in tails.items()),
                samples=rows.by_service_and_node((service, *node, count) for (service, node), (_, count) in tails.items()),
                min_samples=self._sharing.min_samples,
            ),
            pending_be=rows.by_cluster(pending),
        )


def _quantile(ascending: Sequence[float], quantile: float) -> float:
    """With linear interpolation, as `percentile_cont` has it; of a dozen values NumPy takes a hundred times as long."""
    place = quantile * (len(ascending) - 1)
    below = min(int(place), len(ascending) - 1)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (place - below) * (ascending[above] - ascending[below])
