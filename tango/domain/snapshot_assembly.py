"""The one way from what a world knows to what a policy sees.

    names, links, services ───────┐
    what nodes say of themselves ─┤
    LC instances, in flight ──────┼─► assemble ─► FleetSnapshot ──► parts_of, the same parts again
    BE pods, BE that waits ───────┤
    tail latencies ───────────────┘

PostgreSQL's store, the simulator's views, the journals of clusters (`own_cluster`), the benchmarks and the fakes of the tests all bring
plain columns here. What is *derived* is derived in this module alone, so that no column can mean one thing in one world and another thing
in the other: slack from tails, LC work in flight from counts, what BE pods hold from how many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tango.domain.observations import NODE_PRESSURES, NodeState
from tango.domain.requests import BePending
from tango.domain.resource_axis import CPU, MAY_RUN, MEMORY, ResourceAxis
from tango.domain.runs import PendingRequests
from tango.domain.services import Service, ServiceClass
from tango.domain.shares import LcInFlight
from tango.domain.slack import slack_of
from tango.domain.snapshot import FleetSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRows:
    """What the rows of a snapshot stand for: c clusters, n nodes, s services with the resources that they ask for, and the links, all of
    which change by hand alone."""

    clusters: tuple[str, ...]
    nodes: tuple[str, ...]
    services: tuple[Service, ...]
    node_cluster: NDArray[np.int32]
    """(n,) row of the node's cluster."""
    rtt_ms: NDArray[np.float64]
    """(c, c)"""
    bandwidth_mbit_per_s: NDArray[np.float64]
    """(c, c)"""
    resources: ResourceAxis = field(init=False)
    cluster_row: dict[str, int] = field(init=False)
    service_row: dict[str, int] = field(init=False)
    node_row: dict[tuple[str, str], int] = field(init=False)
    """By (cluster, node): two clusters may each have a node of one name."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "resources", ResourceAxis.of(self.services))
        put(self, "cluster_row", {name: k for k, name in enumerate(self.clusters)})
        put(self, "service_row", {service.name: k for k, service in enumerate(self.services)})
        where = zip(self.node_cluster.tolist(), self.nodes, strict=True)
        put(self, "node_row", {(self.clusters[c], name): k for k, (c, name) in enumerate(where)})

    @classmethod
    def of(cls, snapshot: FleetSnapshot) -> FleetRows:
        """The rows of a snapshot."""
        return cls(
            clusters=snapshot.clusters,
            nodes=snapshot.nodes,
            services=snapshot.services,
            node_cluster=snapshot.node_cluster,
            rtt_ms=snapshot.rtt_ms,
            bandwidth_mbit_per_s=snapshot.bandwidth_mbit_per_s,
        )

    def by_service_and_node(self, found: Iterable[tuple[str, str, str, float]]) -> NDArray[np.float64]:
        """(s, n) sums of (service, cluster, node, value); what names a service or node without a row counts nowhere."""
        total = np.zeros((len(self.services), len(self.nodes)))
        for service, cluster, node, value in found:
            s, n = self.service_row.get(service), self.node_row.get((cluster, node))
            if s is not None and n is not None:
                total[s, n] += value
        return total

    def by_cluster(self, found: Iterable[tuple[str, float]]) -> NDArray[np.float64]:
        """(c,) sums of (cluster, value)."""
        total = np.zeros(len(self.clusters))
        for cluster, value in found:
            if cluster in self.cluster_row:
                total[self.cluster_row[cluster]] += value
        return total


def barred(services: Sequence[Service], schedulable: Sequence[bool], extended: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """(s, n) where no new pod of a service may be put: on nodes that are not schedulable, and that have none of `MAY_RUN` for it.

    `extended`: of each node the names of what it was told to have, as `NodeState.extended`.
    """
    nodes = list(zip(schedulable, extended, strict=True))
    return np.array([[not open or MAY_RUN + s.name in told for open, told in nodes] for s in services], np.bool_).reshape(
        len(services), len(nodes)
    )


def awaited_requests(rows: FleetRows, awaited: Sequence[Mapping[str, int]]) -> NDArray[np.float64]:
    """(r, n) what the LC instances ask for that each node is to get, by `NodeState.lc_awaited`; services without a row ask for nothing."""
    if not any(awaited):
        return np.zeros((len(rows.resources), len(awaited)))
    counts = np.array([[float(told.get(service.name, 0)) for told in awaited] for service in rows.services])
    found: NDArray[np.float64] = rows.resources.pod_requests(rows.services) @ counts
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeColumns:
    """What nodes say of themselves, (n,) each where no other shape is given; r resources as in `FleetRows.resources`."""

    ready: NDArray[np.bool_]
    allocatable: NDArray[np.float64]
    """(r, n) what pods may have."""
    lc_requests: NDArray[np.float64]
    """(r, n) what the LC instances there request."""
    lc_cpu_limit: NDArray[np.float64]
    """CPU limits of the LC instances there, millicores."""
    cpu_used: NDArray[np.float64]
    """Millicores, measured; NaN, where nothing was, counts as all that is requested: what is not known is not idle."""
    memory_used: NDArray[np.float64]
    """MiB, likewise."""
    others: NDArray[np.float64] | None = None
    """(r, n) what pods of others hold of it; None: nothing anywhere."""
    barred: NDArray[np.bool_] | None = None
    """As in `FleetSnapshot`."""
    awaited: NDArray[np.float64] | None = None
    """(r, n) what LC instances will ask for that are to be made there: theirs already, though nothing of it is in use."""
    lc_cpu_pressure: NDArray[np.float64] | None = None
    """(n,) NaN where nothing is told, as the next two; None: nowhere."""
    lc_throttled: NDArray[np.float64] | None = None
    memory_pressure: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for name in NODE_PRESSURES:
            column = getattr(self, name)
            if column is not None:
                told = np.nan_to_num(column)
                object.__setattr__(self, name, told if told.any() else None)
        if self.others is not None and not self.others.any():
            object.__setattr__(self, "others", None)
        if self.barred is not None and not self.barred.any():
            object.__setattr__(self, "barred", None)
        if self.awaited is not None and not self.awaited.any():
            object.__setattr__(self, "awaited", None)

    @property
    def left(self) -> NDArray[np.float64]:
        """(r, n) what pods of others leave to Tango's."""
        return self.allocatable if self.others is None else self.allocatable - self.others

    @property
    def lc_claims(self) -> NDArray[np.float64]:
        """(r, n) what LC instances request, those that are to be made included."""
        return self.lc_requests if self.awaited is None else self.lc_requests + self.awaited

    @classmethod
    def of_states(cls, rows: FleetRows, nodes: Sequence[NodeState]) -> NodeColumns:
        """From what an agent observed, in this order, whether these nodes have rows or not."""
        resources = rows.resources
        allocatable, lc_requests, others = [], [], []
        for n in nodes:
            beside = {name: of.allocatable for name, of in n.extended.items()}
            of_others = {name: of.other_held for name, of in n.extended.items()}
            others.append(
                resources.amounts(
                    cpu=n.other_cpu_request_millicores, memory=n.other_memory_held_mib, pods=n.other_pods, extended=of_others
                )
            )
            lc_beside = {name: of.lc_held for name, of in n.extended.items()}
            allocatable.append(
                resources.allocatable(
                    cpu=n.cpu_allocatable_millicores, memory=n.memory_allocatable_mib, pods=n.pods_allocatable, extended=beside
                )
            )
            lc_requests.append(
                resources.amounts(cpu=n.lc_cpu_request_millicores, memory=n.lc_memory_held_mib, pods=n.lc_pods, extended=lc_beside)
            )
        return cls(
            ready=np.array([n.ready for n in nodes], np.bool_),
            allocatable=resources.columns(allocatable),
            lc_requests=resources.columns(lc_requests),
            lc_cpu_limit=np.array([n.lc_cpu_limit_millicores for n in nodes], np.float64),
            cpu_used=np.array([n.cpu_used_millicores for n in nodes], np.float64),  # None is NaN, here and below
            memory_used=np.array([n.memory_used_mib for n in nodes], np.float64),
            others=resources.columns(others),
            barred=barred(rows.services, [n.schedulable for n in nodes], [n.extended for n in nodes]),
            awaited=awaited_requests(rows, [n.lc_awaited for n in nodes]),
            lc_cpu_pressure=np.array([n.lc_cpu_pressure for n in nodes], np.float64),
            lc_throttled=np.array([n.lc_throttled for n in nodes], np.float64),
            memory_pressure=np.array([n.memory_pressure for n in nodes], np.float64),
        )

    def used(self, be_requests: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n,) CPU and memory in use; where nothing was measured, what LC and BE request there."""
        return tuple(  # type: ignore[return-value]
            np.where(np.isnan(measured), self.lc_requests[k] + be_requests[k], measured)
            for k, measured in ((CPU, self.cpu_used), (MEMORY, self.memory_used))
        )


Seconds = TypeVar("Seconds", float, NDArray[np.float64])


def expected_work_s(mean_work_s: Seconds, scale: Seconds) -> Seconds:
    """CPU-seconds that requests of a service count for while they are in flight: its mean, at the scale of their run, or at the sum of
    their scales. No dispatcher knows what one request will take. Plain arithmetic: compiled steps inline it.
    """
    return scale * mean_work_s


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlightColumns:
    """LC requests that are dispatched to a node and not settled, by service and node, (s, n) each; nothing in rows of BE."""

    requests: NDArray[np.float64]
    work_s: NDArray[np.float64]
    """The CPU work that is expected of them, in CPU-seconds."""

    @classmethod
    def of(cls, services: Sequence[Service], requests: NDArray[np.float64], scale: NDArray[np.float64]) -> Self:
        """From (s, n) numbers of requests, and the sums of what their runs multiply works by: 1 each in trace time, 1 / speed each in a run
        that is sped up."""
        is_lc = _are_lc(services)[:, None]
        mean_work_s = np.array([s.cpu_work_s for s in services])[:, None]
        return cls(requests=np.where(is_lc, requests, 0.0), work_s=np.where(is_lc, expected_work_s(mean_work_s, scale), 0.0))

    @classmethod
    def told(cls, rows: FleetRows, found: Iterable[LcInFlight]) -> Self:
        """From what journals count; what names a service or node without a row counts nowhere."""
        kept = list(found)
        requests = rows.by_service_and_node((of.service, of.cluster, of.node, of.requests) for of in kept)
        scale = rows.by_service_and_node((of.service, of.cluster, of.node, of.scale) for of in kept)
        return cls.of(rows.services, requests, scale)

    @classmethod
    def nothing(cls, rows: FleetRows) -> Self:
        """Before any request has been dispatched."""
        return cls.told(rows, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class LcColumns:
    """LC by service and node, (s, n) each."""

    instance_limit: NDArray[np.float64]
    """Millicores of the ready instances."""
    instance_count: NDArray[np.float64]
    in_flight: InFlightColumns

    @classmethod
    def of_instances(cls, rows: FleetRows, ready: Iterable[tuple[str, str, str, float, float]], in_flight: InFlightColumns) -> Self:
        """From (service, cluster, node, millicores, how many) of ready instances; what has no row counts nowhere."""
        kept = list(ready)
        return cls(
            instance_limit=rows.by_service_and_node((s, c, node, millicores) for s, c, node, millicores, _ in kept),
            instance_count=rows.by_service_and_node((s, c, node, count) for s, c, node, _, count in kept),
            in_flight=in_flight,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BeColumns:
    """What BE pods hold on each node by the centre's books."""

    requests: NDArray[np.float64]
    """(r, n)"""
    cpu_limit: NDArray[np.float64]
    """(n,) millicores."""

    @classmethod
    def of_pods(cls, rows: FleetRows, pods: NDArray[np.float64], memory: NDArray[np.float64]) -> BeColumns:
        """From (s, n) numbers of pods, each of its service's declared size, and (n,) their memory, which is each request's own."""
        requests = rows.resources.pod_requests(rows.services) @ pods
        requests[MEMORY] = memory
        return cls(requests=requests, cpu_limit=np.array([float(s.cpu_limit_millicores) for s in rows.services]) @ pods)

    @classmethod
    def of_states(cls, resources: ResourceAxis, nodes: Sequence[NodeState]) -> BeColumns:
        """From what an agent observed, in this order."""
        held = [
            resources.amounts(
                cpu=n.be_cpu_request_millicores,
                memory=n.be_memory_held_mib,
                pods=n.be_pods,
                extended={name: of.be_held for name, of in n.extended.items()},
            )
            for n in nodes
        ]
        limit = np.array([n.be_cpu_limit_millicores for n in nodes], np.float64)
        return cls(requests=resources.columns(held), cpu_limit=limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tails:
    """Tail latencies of LC by service and node, over the window and at the quantile that re-assurance uses; (s, n) each."""

    latency_ms: NDArray[np.float64]
    """In trace time, as targets are declared; not read where too little was measured."""
    samples: NDArray[np.int64] | NDArray[np.float64]
    min_samples: int
    """A tail over fewer answers says nothing."""

    @classmethod
    def unmeasured(cls, rows: FleetRows) -> Tails:
        """Tails before any request has been answered."""
        shape = len(rows.services), len(rows.nodes)
        return cls(latency_ms=np.zeros(shape), samples=np.zeros(shape, np.int64), min_samples=1)

    def least_slack(self, services: Sequence[Service]) -> NDArray[np.float64]:
        """(n,) the least 1 - tail latency / target of a node's LC services; 1 where nothing was measured."""
        target_ms = np.array([s.target_ms or np.inf for s in services])[:, None]
        measured = self.samples >= self.min_samples
        slack = slack_of(np.where(measured, self.latency_ms, 0.0), target_ms)
        least: NDArray[np.float64] = np.where(measured, slack, 1.0).min(axis=0, initial=1.0)
        return least


@dataclass(frozen=True, slots=True)
class PublishedSlack:
    """Slack of nodes as the centre derived it from their tails, which it alone has: what a cluster knows in place of `Tails`."""

    of_nodes: NDArray[np.float64]
    """(n,)"""

    def least_slack(self, services: Sequence[Service]) -> NDArray[np.float64]:
        """(n,) as published, of the services of that time."""
        return self.of_nodes


def assemble(
    rows: FleetRows,
    *,
    at_s: float,
    nodes: NodeColumns,
    lc: LcColumns,
    be: BeColumns,
    tails: Tails | PublishedSlack,
    pending_be: NDArray[np.float64],
) -> FleetSnapshot:
    """The fleet at one instant. Columns are taken as they are, not copied; `pending_be` is (c,) by entry cluster."""
    cpu_used, memory_used = nodes.used(be.requests)
    return FleetSnapshot(
        at_s=at_s,
        clusters=rows.clusters,
        nodes=rows.nodes,
        services=rows.services,
        node_cluster=rows.node_cluster,
        node_ready=nodes.ready,
        resources=rows.resources,
        allocatable=nodes.left,
        lc_requests=nodes.lc_claims,
        be_requests=be.requests,
        lc_cpu_limit=nodes.lc_cpu_limit,
        be_cpu_limit=be.cpu_limit,
        cpu_used=cpu_used,
        memory_used=memory_used,
        slack=tails.least_slack(rows.services),
        rtt_ms=rows.rtt_ms,
        bandwidth_mbit_per_s=rows.bandwidth_mbit_per_s,
        instance_limit=lc.instance_limit,
        instance_count=lc.instance_count,
        in_flight=lc.in_flight.requests,
        in_flight_work_s=lc.in_flight.work_s,
        pending_be=pending_be,
        others=nodes.others,
        barred=nodes.barred,
        lc_cpu_pressure=nodes.lc_cpu_pressure,
        lc_throttled=nodes.lc_throttled,
        memory_pressure=nodes.memory_pressure,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotParts:
    """What `assemble` is given, as a snapshot still has it."""

    nodes: NodeColumns
    """What instances to be made ask for is counted among `lc_requests`; use that was not measured is what is requested."""
    lc: LcColumns
    be: BeColumns
    tails: PublishedSlack


def parts_of(snapshot: FleetSnapshot) -> SnapshotParts:
    """The parts from which `assemble` makes this snapshot again, figure by figure, on the snapshot's own rows."""
    others = snapshot.others
    return SnapshotParts(
        nodes=NodeColumns(
            ready=snapshot.node_ready,
            allocatable=snapshot.allocatable if others is None else snapshot.allocatable + others,
            lc_requests=snapshot.lc_requests,
            lc_cpu_limit=snapshot.lc_cpu_limit,
            cpu_used=snapshot.cpu_used,
            memory_used=snapshot.memory_used,
            others=others,
            barred=snapshot.barred,
            **{name: getattr(snapshot, name) for name in NODE_PRESSURES},
        ),
        lc=LcColumns(
            instance_limit=snapshot.instance_limit,
            instance_count=snapshot.instance_count,
            in_flight=InFlightColumns(requests=snapshot.in_flight, work_s=snapshot.in_flight_work_s),
        ),
        be=BeColumns(requests=snapshot.be_requests, cpu_limit=snapshot.be_cpu_limit),
        tails=PublishedSlack(snapshot.slack),
    )


def with_in_flight(snapshot: FleetSnapshot, further: InFlightColumns, *, at_s: float) -> FleetSnapshot:
    """The snapshot, at `at_s`, with further LC requests in flight beside those it has, in new arrays: dispatchers count into them."""
    return replace(
        snapshot,
        at_s=at_s,
        in_flight=snapshot.in_flight + further.requests,
        in_flight_work_s=snapshot.in_flight_work_s + further.work_s,
    )


def restored(columns: Mapping[str, Any]) -> FleetSnapshot:
    """A snapshot from all its own columns and names, as it was assembled before it was stored: nothing is derived."""
    return FleetSnapshot(**columns)


def pending_columns(
    services: Sequence[Service],
    *,
    run_id: NDArray[np.int64],
    request_id: NDArray[np.int64],
    service: NDArray[np.int32],
    entry_cluster: NDArray[np.int32],
    waited_s: NDArray[np.float64],
    cpu_work_s: NDArray[np.float64],
    memory_mib: NDArray[np.float64],
    epoch: NDArray[np.int32],
) -> BePending:
    """BE requests that wait, with what their pods will ask for.

    `service` is a row of `services`, whose declared size is the pod's but for the memory, which is the request's own; resources have the
    rows of `ResourceAxis.of(services)`.
    """
    requests = ResourceAxis.of(services).pod_requests(services).take(service, axis=1)
    requests[MEMORY] = memory_mib
    return BePending(
        run_id=run_id,
        request_id=request_id,
        service=service,
        entry_cluster=entry_cluster,
        waited_s=waited_s,
        cpu_work_s=cpu_work_s,
        requests=requests,
        cpu_limit_millicores=np.array([float(s.cpu_limit_millicores) for s in services])[service],
        epoch=epoch,
    )


def as_seen(batch: PendingRequests, snapshot: FleetSnapshot) -> PendingRequests:
    """The batch with services and clusters as rows of the snapshot, as every policy reads them.

    A request of a service or cluster that the snapshot does not have is left out, and waits for one that does.
    """
    services = {s.name: k for k, s in enumerate(snapshot.services)}
    clusters = {name: k for k, name in enumerate(snapshot.clusters)}
    service_row = np.array([services.get(name, -1) for name in batch.services], np.int32)
    cluster_row = np.array([clusters.get(name, -1) for name in batch.clusters], np.int32)
    p = batch.pending
    service, entry = service_row[p.service], cluster_row[p.entry_cluster]
    kept = np.flatnonzero((service >= 0) & (entry >= 0))
    pending = pending_columns(
        snapshot.services,
        run_id=p.run_id[kept],
        request_id=p.request_id[kept],
        service=service[kept],
        entry_cluster=entry[kept],
        waited_s=p.waited_s[kept],
        cpu_work_s=p.cpu_work_s[kept],
        memory_mib=p.memory_mib[kept],
        epoch=p.epoch[kept],
    )
    return replace(
        batch,
        pending=pending,
        services=tuple(services),
        clusters=snapshot.clusters,
        tenant=batch.tenant[kept] if batch.tenants else batch.tenant,
        due_s=batch.due_s[kept] if batch.tenants else batch.due_s,
    )


def _are_lc(services: Sequence[Service]) -> NDArray[np.bool_]:
    return np.array([s.service_class is ServiceClass.LC for s in services], np.bool_)
