"""The fleet at one instant, read in one transaction: what every policy sees."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import Fleet
from tango.domain.identity import NodeKey
from tango.domain.lifecycle import Event
from tango.domain.own_cluster import OwnView
from tango.domain.services import Service
from tango.domain.shares import LcInFlight
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import (
    BeColumns,
    FleetRows,
    InFlightColumns,
    LcColumns,
    NodeColumns,
    Tails,
    assemble,
    awaited_requests,
    barred,
)
from tango.domain.state_lists import IN_FLIGHT_STATES
from tango.settings import LeaseSettings, SharingSettings
from tango.store.clusters import IS_SILENT, Clusters
from tango.store.database import Cursor, Database
from tango.store.lifecycle_sql import HOLDING_RUNS, OPEN_RUNS, before
from tango.store.rows import columns_of

STATIC_MAX_AGE_S = 1.0
"""Clusters, links and services change by hand; a snapshot may see them this late."""

_NODE_COLUMNS = {
    "cluster": "n.cluster",
    "node": "n.name",
    "ready": f"n.ready AND ({IS_SILENT}) IS NOT TRUE",
    "told_ready": "n.ready",
    "schedulable": "n.schedulable",
    "cpu": "n.cpu_allocatable_millicores",
    "memory": "n.memory_allocatable_mib",
    "pods": "n.pods_allocatable",
    "extended": "n.extended",
    "cpu_used": "n.cpu_used_millicores",
    "memory_used": "n.memory_used_mib",
    "lc_cpu": "n.lc_cpu_request_millicores",
    "lc_cpu_limit": "n.lc_cpu_limit_millicores",
    "lc_memory": "n.lc_memory_held_mib",
    "lc_pods": "n.lc_pods",
    "lc_awaited": "n.lc_awaited",
    "other_cpu": "n.other_cpu_request_millicores",
    "other_memory": "n.other_memory_held_mib",
    "other_pods": "n.other_pods",
    "lc_cpu_pressure": "n.lc_cpu_pressure",
    "lc_throttled": "n.lc_throttled",
    "memory_pressure": "n.memory_pressure",
}
"""What a snapshot takes of the rows of nodes, by name. A node of a cluster that is away is not ready, whatever it last was; what BE holds
there is counted from the requests' own rows."""

_NODES = f"""
SELECT {", ".join(_NODE_COLUMNS.values())} FROM node n LEFT JOIN cluster c ON c.name = n.cluster ORDER BY n.cluster, n.name
"""
_BE_REQUESTS = f"""
SELECT q.state IN {IN_FLIGHT_STATES}, q.service,
       CASE WHEN q.state IN {before(Event.PLACE)} THEN q.cluster ELSE q.target_cluster END,
       CASE WHEN q.state IN {IN_FLIGHT_STATES} THEN q.node END, count(*), sum(q.memory_mib)
FROM request q
WHERE q.run_id = ANY ({HOLDING_RUNS}) AND q.class = 'be'
  AND (q.state IN {IN_FLIGHT_STATES} OR q.state IN {before(Event.PLACE)} AND q.run_id = ANY ({OPEN_RUNS}))
GROUP BY 1, 2, 3, 4
"""
"""What nodes hold by the requests' own rows (how many, their memory), and what waits for the centre by entry cluster. A run that is being
cancelled waits for nothing any more, but what it has in flight still holds its resources. One statement, so that a request that is
placed meanwhile counts in one place and not in two or none."""

_BE_IN_FLIGHT = f"""
SELECT true, q.service, q.target_cluster, q.node, count(*), sum(q.memory_mib) FROM request q
WHERE q.run_id = ANY ({HOLDING_RUNS}) AND q.class = 'be' AND q.state IN {IN_FLIGHT_STATES} GROUP BY 2, 3, 4
"""
"""The first of both alone: no more than the fleet holds, however long the queue."""

_LC_IN_FLIGHT = f"""
SELECT f.cluster, f.service, f.target_cluster, f.node, f.count, f.scale
FROM lc_in_flight f LEFT JOIN cluster c ON c.name = f.cluster WHERE ({IS_SILENT}) IS NOT TRUE
"""
"""As the agents last told: how many, and what their runs multiply works by. The rows of LC requests are copies, which follow later. What
an agent that is away told last says nothing any more."""

_TAILS = """
SELECT a.service, a.cluster, a.node, percentile_cont(%(quantile)s) WITHIN GROUP (ORDER BY a.latency_s * r.speed * 1000), count(*)
FROM attempt a JOIN run r USING (run_id)
WHERE a.ended_at > now() - %(window_s)s * interval '1 s' AND a.class = 'lc' AND a.outcome = 'succeeded' AND a.node IS NOT NULL
  AND a.cluster IS NOT NULL AND a.latency_s IS NOT NULL AND r.kind <> 'simulated'
GROUP BY 1, 2, 3
"""
"""Tails of LC in trace milliseconds, as targets are declared. An index on `ended_at` keeps it to what ended in the window. An attempt whose
end was not told has no latency: it counts neither as a sample nor as a tail."""


@dataclass(frozen=True, slots=True)
class _Static:
    clusters: tuple[str, ...]
    services: tuple[Service, ...]
    rtt_ms: np.ndarray
    bandwidth: np.ndarray
    read_at_s: float


@dataclass(frozen=True, slots=True)
class _Measured:
    """Tails by (service, node), as `Snapshots.tail_latency_ms` gives them, and when they were read."""

    tails: dict[tuple[str, NodeKey], tuple[float, int]]
    read_at_s: float


class Snapshots(Clusters):
    """Snapshots; what changes by hand is read at most once a second, tail latencies once a tick of re-assurance."""

    def __init__(self, database: Database, sharing: SharingSettings | None = None, lease: LeaseSettings | None = None) -> None:
        super().__init__(database)
        self._sharing = sharing or SharingSettings()
        self._lease = lease or LeaseSettings()
        self._static: _Static | None = None
        self._measured: _Measured | None = None
        self._lock = threading.Lock()

    def declare(self, fleet: Fleet, *, kubeconfig: str, contexts: Mapping[str, str]) -> None:
        """Declare services (`Clusters.declare`); the next snapshot has them."""
        super().declare(fleet, kubeconfig=kubeconfig, contexts=contexts)
        self._static = None

    def join(self, name: str, *, kubeconfig: str, context: str, rtt_ms: float, bandwidth_mbit_per_s: float) -> None:
        """Add a cluster (`Clusters.join`); the next snapshot has it."""
        super().join(name, kubeconfig=kubeconfig, context=context, rtt_ms=rtt_ms, bandwidth_mbit_per_s=bandwidth_mbit_per_s)
        self._static = None

    def snapshot(self, *, at_s: float) -> FleetSnapshot:
        """Everything the policies see. What BE requests hold is counted from their rows, which lead the agents' view."""
        snapshot, in_flight = self.snapshot_and_lc(at_s=at_s)
        return OwnView.of(snapshot).with_in_flight((found for _, found in in_flight), at_s=at_s)

    def snapshot_and_lc(self, *, at_s: float) -> tuple[FleetSnapshot, list[tuple[str, LcInFlight]]]:
        """The snapshot without any LC in flight, and that with the cluster which it entered."""
        snapshot, in_flight, _ = self._read(at_s, _BE_REQUESTS, self._read_tails())
        return snapshot, in_flight

    def without_what_waits(self, *, at_s: float) -> tuple[FleetSnapshot, list[bool]]:
        """The snapshot without tails and without counts of what waits, which nobody's room depends on, and whether each node was ready when
        it was last told of, also of clusters that are away. It costs what the fleet is large, however much waits."""
        snapshot, in_flight, node_rows = self._read(at_s, _BE_IN_FLIGHT, {})
        of = columns_of(_NODE_COLUMNS, node_rows)
        told = {NodeKey(c, n) for c, n, ready in zip(of["cluster"], of["node"], of["told_ready"], strict=True) if ready}
        seen = OwnView.of(snapshot).with_in_flight((found for _, found in in_flight), at_s=at_s)
        return seen, [key in told for key in seen.node_keys]

    def _read(
        self, at_s: float, of_be: str, tails: Mapping[tuple[str, NodeKey], tuple[float, int]]
    ) -> tuple[FleetSnapshot, list[tuple[str, LcInFlight]], list[Any]]:
        """As `snapshot_and_lc`, and the rows of the nodes."""
        static = self._read_static()

        def read(cursor: Cursor) -> tuple[list[Any], ...]:
            found = []
            for statement in (
                _NODES,
                "SELECT service, cluster, node, sum(cpu_limit_millicores), count(*) FROM instance WHERE ready GROUP BY 1, 2, 3",
                of_be,
                _LC_IN_FLIGHT,
            ):
                cursor.execute(statement, {"silent": self._lease.silent_s})
                found.append(cursor.fetchall())
            return tuple(found)

        node_rows, instance_rows, be_requests, lc_rows = self._database.run(read)
        rows, nodes = _rows_of(static, node_rows)
        held, pending = ([row[1:] for row in be_requests if row[0] is in_flight] for in_flight in (True, False))
        snapshot = assemble(
            rows,
            at_s=at_s,
            nodes=nodes,
            lc=LcColumns.of_instances(rows, instance_rows, InFlightColumns.nothing(rows)),
            be=BeColumns.of_pods(
                rows,
                rows.by_service_and_node((*where, count) for *where, count, _ in held),
                rows.by_service_and_node((*where, memory_mib) for *where, _, memory_mib in held).sum(axis=0),
            ),
            tails=Tails(
                latency_ms=rows.by_service_and_node((service, *node, tail_ms) for (service, node), (tail_ms, _) in tails.items()),
                samples=rows.by_service_and_node((service, *node, count) for (service, node), (_, count) in tails.items()),
                min_samples=self._sharing.min_samples,
            ),
            pending_be=rows.by_cluster((cluster, count) for _, cluster, _, count, _ in pending),
        )
        return snapshot, [(entry, LcInFlight(*found)) for entry, *found in lc_rows], node_rows

    def tail_latency_ms(self, *, window_s: float, quantile: float) -> dict[tuple[str, NodeKey], tuple[float, int]]:
        """From the attempts that ended in the window (an index on `ended_at` keeps it cheap); trace milliseconds.

        Latency is divided by the target's own scale: both are wall time, so a run's speed cancels out in the slack.
        """
        rows = self._database.rows(_TAILS, {"quantile": quantile, "window_s": window_s})
        return {(service, NodeKey(cluster, node)): (float(tail), int(count)) for service, cluster, node, tail, count in rows}

    def _read_tails(self) -> dict[tuple[str, NodeKey], tuple[float, int]]:
        """Read at the rhythm of re-assurance, which acts on the same figures: a snapshot is read ten times as often, and must not look
        through the attempts of seconds each time."""
        with self._lock:
            measured = self._measured
            if measured is not None and time.monotonic() - measured.read_at_s < self._sharing.tick_s:
                return measured.tails
        tails = self.tail_latency_ms(window_s=self._sharing.window_s, quantile=self._sharing.quantile)
        with self._lock:
            self._measured = _Measured(tails, time.monotonic())
        return tails

    def _read_static(self) -> _Static:
        with self._lock:
            static = self._static
            if static is not None and time.monotonic() - static.read_at_s < STATIC_MAX_AGE_S:
                return static
        clusters = tuple(row.name for row in self.clusters())
        at = {name: k for k, name in enumerate(clusters)}
        rtt, bandwidth = np.zeros((len(clusters),) * 2), np.full((len(clusters),) * 2, np.inf)
        for a, b, rtt_ms, mbit in self._database.rows("SELECT from_cluster, to_cluster, rtt_ms, bandwidth_mbit_per_s FROM link"):
            if a in at and b in at:
                rtt[at[a], at[b]] = rtt_ms
                bandwidth[at[a], at[b]] = mbit if a != b else np.inf
        static = _Static(clusters, self.services(), rtt, bandwidth, time.monotonic())
        with self._lock:
            self._static = static
        return static


def _rows_of(static: _Static, node_rows: list[Any]) -> tuple[FleetRows, NodeColumns]:
    """What the snapshot's rows stand for, and what the nodes were last seen to be; nodes of clusters that are gone are left out."""
    cluster_row = {name: k for k, name in enumerate(static.clusters)}
    of = columns_of(_NODE_COLUMNS, node_rows)
    of = columns_of(_NODE_COLUMNS, [row for row, name in zip(node_rows, of["cluster"], strict=True) if name in cluster_row])
    rows = FleetRows(
        clusters=static.clusters,
        nodes=tuple(of["node"]),
        services=static.services,
        node_cluster=np.array([cluster_row[name] for name in of["cluster"]], np.int32),
        rtt_ms=static.rtt_ms,
        bandwidth_mbit_per_s=static.bandwidth,
    )

    def beside(figure: str) -> list[dict[str, int]]:
        """Of each node, a figure of its extended resources by their names."""
        return [{name: figures.get(figure, 0) for name, figures in extended.items()} for extended in of["extended"]]

    def measured(name: str) -> NDArray[np.float64]:
        return np.array(of[name], np.float64)  # NULL is NaN

    axis = rows.resources
    allocatable = zip(of["cpu"], of["memory"], of["pods"], beside("allocatable"), strict=True)
    lc = zip(of["lc_cpu"], of["lc_memory"], of["lc_pods"], beside("lc_held"), strict=True)
    others = zip(of["other_cpu"], of["other_memory"], of["other_pods"], beside("other_held"), strict=True)
    return rows, NodeColumns(
        ready=np.array(of["ready"], np.bool_),
        allocatable=axis.columns([axis.allocatable(cpu=c, memory=m, pods=p, extended=e) for c, m, p, e in allocatable]),
        lc_requests=axis.columns([axis.amounts(cpu=c, memory=m, pods=p, extended=e) for c, m, p, e in lc]),
        lc_cpu_limit=measured("lc_cpu_limit"),
        cpu_used=measured("cpu_used"),
        memory_used=measured("memory_used"),
        others=axis.columns([axis.amounts(cpu=c, memory=m, pods=p, extended=e) for c, m, p, e in others]),
        barred=barred(static.services, [bool(of_node) for of_node in of["schedulable"]], list(of["extended"])),
        awaited=awaited_requests(rows, list(of["lc_awaited"])),
        lc_cpu_pressure=measured("lc_cpu_pressure"),
        lc_throttled=measured("lc_throttled"),
        memory_pressure=measured("memory_pressure"),
    )
