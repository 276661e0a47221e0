"""The fleet as one cluster sees it: the centre's snapshot, with the cluster's own nodes as its agent saw them and its own LC in flight.

The centre's figures of a cluster are late by a link, and older still while the link is cut. Of itself a cluster knows better.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tango.domain.observations import InstanceState, NodeState
from tango.domain.services import ServiceClass
from tango.domain.shares import LcInFlight
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import BeColumns, FleetRows, NodeColumns


@dataclass(frozen=True, slots=True)
class OwnView:
    """A snapshot with what its rows stand for, to which requests in flight can be added time and again."""

    snapshot: FleetSnapshot
    rows: FleetRows

    @classmethod
    def of(cls, snapshot: FleetSnapshot) -> OwnView:
        """The view of a snapshot in which nothing has been given out yet."""
        rows = FleetRows(
            clusters=snapshot.clusters,
            nodes=snapshot.nodes,
            services=snapshot.services,
            node_cluster=snapshot.node_cluster,
            rtt_ms=snapshot.rtt_ms,
            bandwidth_mbit_per_s=snapshot.bandwidth_mbit_per_s,
        )
        return cls(snapshot, rows)

    def with_in_flight(self, found: Iterable[LcInFlight], *, at_s: float) -> FleetSnapshot:
        """The snapshot, at `at_s`, with these requests counted in beside those it has; what has no row counts nowhere."""
        kept, rows = list(found), self.rows
        is_lc = np.array([s.service_class is ServiceClass.LC for s in rows.services], np.float64)[:, None]
        mean_work_s = np.array([s.cpu_work_s for s in rows.services], np.float64)[:, None]
        count = rows.by_service_and_node((service, of, node, number) for service, of, node, number, _ in kept)
        scale = rows.by_service_and_node((service, of, node, scale) for service, of, node, _, scale in kept)
        return replace(
            self.snapshot,
            at_s=at_s,
            in_flight=self.snapshot.in_flight + is_lc * count,
            in_flight_work_s=self.snapshot.in_flight_work_s + is_lc * scale * mean_work_s,
        )


def as_observed(
    published: FleetSnapshot, cluster: str, nodes: Sequence[NodeState], instances: Sequence[InstanceState]
) -> FleetSnapshot:
    """The snapshot with the cluster's nodes and instances replaced by what was observed.

    A node that was not published gets a row, with slack 1 and nothing in flight; a published one that was not observed is not ready.
    A cluster that the centre does not know has no rows. Rows are in order of (cluster, node) where one was added, else as published.
    """
    if cluster not in published.clusters:
        return published
    known = set(published.node_keys)
    snapshot = _with_rows(published, cluster, [node.name for node in nodes if (cluster, node.name) not in known])
    rows = OwnView.of(snapshot).rows
    at = np.array([rows.node_row[cluster, node.name] for node in nodes], np.intp)
    own = snapshot.node_cluster == rows.cluster_row[cluster]
    seen, be = NodeColumns.of_states(rows.resources, nodes), BeColumns.of_states(rows.resources, nodes)
    ready = [(i.service, cluster, i.node, float(i.cpu_limit_millicores)) for i in instances if i.ready]

    def put(column: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        changed = column.copy()
        changed[..., at] = values
        return changed

    cpu_used, memory_used = seen.used(be.requests)
    return replace(
        snapshot,
        others=None,  # of other clusters' nodes only what is left of them matters here, and nothing is placed from here
        barred=None,
        lc_cpu_pressure=None,
        lc_throttled=None,
        memory_pressure=None,
        node_ready=np.where(own, put(np.zeros(len(own)), seen.ready.astype(np.float64)) > 0, snapshot.node_ready),
        allocatable=put(snapshot.allocatable, seen.left),
        lc_requests=put(snapshot.lc_requests, seen.lc_requests),
        be_requests=put(snapshot.be_requests, be.requests),
        lc_cpu_limit=put(snapshot.lc_cpu_limit, seen.lc_cpu_limit),
        be_cpu_limit=put(snapshot.be_cpu_limit, be.cpu_limit),
        cpu_used=put(snapshot.cpu_used, cpu_used),
        memory_used=put(snapshot.memory_used, memory_used),
        instance_limit=np.where(own, rows.by_service_and_node(ready), snapshot.instance_limit),
        instance_count=np.where(
            own, rows.by_service_and_node((service, of, node, 1.0) for service, of, node, _ in ready), snapshot.instance_count
        ),
    )


def _with_rows(snapshot: FleetSnapshot, cluster: str, names: Sequence[str]) -> FleetSnapshot:
    """The snapshot with empty rows for further nodes of a cluster, and all rows in order of (cluster, node)."""
    if not names:
        return snapshot
    added = len(names)
    nodes = (*snapshot.nodes, *names)
    node_cluster = np.append(snapshot.node_cluster, np.full(added, snapshot.clusters.index(cluster), np.int32)).astype(np.int32)
    order = np.array(sorted(range(len(nodes)), key=lambda k: (snapshot.clusters[node_cluster[k]], nodes[k])), np.intp)

    def grown(column: NDArray[np.float64], fill: float = 0.0) -> NDArray[np.float64]:
        # `take` keeps rows contiguous, as compiled policies expect them.
        return np.concatenate([column, np.full((*column.shape[:-1], added), fill)], axis=-1).take(order, axis=-1)

    return replace(
        snapshot,
        others=None,
        barred=None,
        lc_cpu_pressure=None,
        lc_throttled=None,
        memory_pressure=None,
        nodes=tuple(nodes[k] for k in order),
        node_cluster=node_cluster[order],
        node_ready=grown(snapshot.node_ready.astype(np.float64)) > 0,
        allocatable=grown(snapshot.allocatable),
        lc_requests=grown(snapshot.lc_requests),
        be_requests=grown(snapshot.be_requests),
        lc_cpu_limit=grown(snapshot.lc_cpu_limit),
        be_cpu_limit=grown(snapshot.be_cpu_limit),
        cpu_used=grown(snapshot.cpu_used),
        memory_used=grown(snapshot.memory_used),
        slack=grown(snapshot.slack, 1.0),
        instance_limit=grown(snapshot.instance_limit),
        instance_count=grown(snapshot.instance_count),
        in_flight=grown(snapshot.in_flight),
        in_flight_work_s=grown(snapshot.in_flight_work_s),
        lc_cpu_recent=None if snapshot.lc_cpu_recent is None else grown(snapshot.lc_cpu_recent),
    )
