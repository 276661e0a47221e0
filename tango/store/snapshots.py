"""The fleet at one instant, read in one transaction: what every policy sees."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tango.domain.fleet import Fleet
from tango.domain.lifecycle import Event
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.store.clusters import Clusters
from tango.store.database import Cursor, Database
from tango.store.lifecycle_sql import HOLDING_RUNS, IN_FLIGHT_STATES, OPEN_RUNS, before

STATIC_MAX_AGE_S = 1.0
"""Clusters, links and services change by hand; a snapshot may see them this late."""

NODE_COLUMNS = (
    "cluster, name, ready, cpu_allocatable_millicores, memory_allocatable_mib, cpu_used_millicores, memory_used_mib, "
    "lc_cpu_request_millicores, lc_cpu_limit_millicores, lc_memory_held_mib, be_cpu_request_millicores, be_cpu_limit_millicores, "
    "be_memory_held_mib, be_pods"
)

_REQUESTS = f"""
SELECT state IN {before(Event.PLACE)} AS waits,
       CASE WHEN state IN {before(Event.PLACE)} THEN cluster ELSE target_cluster END,
       CASE WHEN state IN {IN_FLIGHT_STATES} THEN node END, service, count(*), sum(cpu_work_s), sum(memory_mib)
FROM request
WHERE run_id = ANY ({HOLDING_RUNS}) AND (state IN {IN_FLIGHT_STATES} OR state IN {before(Event.PLACE)} AND run_id = ANY ({OPEN_RUNS}))
GROUP BY 1, 2, 3, 4
"""
"""What waits for the centre by entry cluster, and what nodes hold, in one pass over the live rows. A run that is being cancelled waits
for nothing any more, but what it has in flight holds its room."""


@dataclass(frozen=True, slots=True)
class _Static:
    clusters: tuple[str, ...]
    services: tuple[Service, ...]
    rtt_ms: np.ndarray
    bandwidth: np.ndarray
    read_at_s: float


class Snapshots(Clusters):
    """Snapshots, with what changes by hand read at most once a second."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._static: _Static | None = None
        self._lock = threading.Lock()

    def declare(self, fleet: Fleet, *, kubeconfig: str, contexts: Mapping[str, str]) -> None:
        """As `Clusters.declare`; the next snapshot sees it."""
        super().declare(fleet, kubeconfig=kubeconfig, contexts=contexts)
        self._static = None

    def join(self, name: str, *, kubeconfig: str, context: str, rtt_ms: float, bandwidth_mbit_per_s: float) -> None:
        """As `Clusters.join`; the next snapshot sees it."""
        super().join(name, kubeconfig=kubeconfig, context=context, rtt_ms=rtt_ms, bandwidth_mbit_per_s=bandwidth_mbit_per_s)
        self._static = None

    def snapshot(self, *, at_s: float) -> FleetSnapshot:
        """Everything the policies see. What BE requests hold is counted from their rows, which lead the agents' view."""
        static = self._read_static()
        cluster_row = {name: k for k, name in enumerate(static.clusters)}
        service_row = {s.name: k for k, s in enumerate(static.services)}

        def read(cursor: Cursor) -> tuple[list[Any], ...]:
            found = []
            for statement in (
                f"SELECT {NODE_COLUMNS} FROM node ORDER BY cluster, name",
                "SELECT cluster, node, service, sum(cpu_limit_millicores), count(*) FROM instance WHERE ready GROUP BY 1, 2, 3",
                _REQUESTS,
            ):
                cursor.execute(statement)
                found.append(cursor.fetchall())
            return tuple(found)

        node_rows, instance_rows, request_rows = self._database.run(read)
        node_rows = [r for r in node_rows if r[0] in cluster_row]
        node_row = {(r[0], r[1]): k for k, r in enumerate(node_rows)}
        figures = np.array([[np.nan if v is None else v for v in r[3:]] for r in node_rows], np.float64).reshape(len(node_rows), 11)
        n, s = len(node_rows), len(static.services)
        be = np.zeros((4, n))
        limit, count, in_flight, work = (np.zeros((s, n)) for _ in range(4))
        for cluster, node, service, millicores, instances in instance_rows:
            if (cluster, node) in node_row and service in service_row:
                where = service_row[service], node_row[cluster, node]
                limit[where], count[where] = millicores, instances
        pending = np.zeros(len(static.clusters))
        for waits, cluster, node, service, requests, work_s, memory_mib in request_rows:
            if waits and cluster in cluster_row:
                pending[cluster_row[cluster]] += requests
            if waits or (cluster, node) not in node_row or service not in service_row:
                continue
            k, declared = node_row[cluster, node], static.services[service_row[service]]
            if declared.service_class is ServiceClass.LC:
                in_flight[service_row[service], k], work[service_row[service], k] = requests, work_s
            else:
                be[:, k] += (
                    requests * declared.cpu_request_millicores,
                    requests * declared.cpu_limit_millicores,
                    memory_mib,
                    requests,
                )
        return FleetSnapshot(
            at_s=at_s,
            clusters=static.clusters,
            nodes=tuple(r[1] for r in node_rows),
            services=static.services,
            node_cluster=np.array([cluster_row[r[0]] for r in node_rows], np.int32),
            node_ready=np.array([r[2] for r in node_rows], bool),
            cpu_allocatable=figures[:, 0],
            memory_allocatable=figures[:, 1],
            cpu_used=np.nan_to_num(figures[:, 2]),
            memory_used=np.nan_to_num(figures[:, 3]),
            lc_cpu_request=figures[:, 4],
            lc_cpu_limit=figures[:, 5],
            lc_memory_held=figures[:, 6],
            be_cpu_request=be[0],
            be_cpu_limit=be[1],
            be_memory_held=be[2],
            be_pods=be[3],
            slack=np.ones(n),
            rtt_ms=static.rtt_ms,
            bandwidth_mbit_per_s=static.bandwidth,
            instance_limit=limit,
            instance_count=count,
            in_flight=in_flight,
            in_flight_work_s=work,
            pending_be=pending,
        )

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
