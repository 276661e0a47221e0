"""Clusters, nodes, services and instances as last seen: implements `tango.ports.FleetStore`."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from psycopg2.extras import Json, execute_values

from tango.domain.fleet import Fleet
from tango.domain.observations import InstanceState, NodeState
from tango.domain.plans import Eviction
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.errors import UsageError
from tango.fleets import dump_fleet, parse_fleet
from tango.store.database import Cursor, Database

STATIC_MAX_AGE_S = 1.0
"""Clusters, links and services change by hand; a snapshot may see them this late."""

_ACTIVE = "ARRAY(SELECT run_id FROM run WHERE status NOT IN ('completed', 'cancelled'))"

_NODE_COLUMNS = (
    "cluster, name, ready, cpu_allocatable_millicores, memory_allocatable_mib, cpu_used_millicores, memory_used_mib, "
    "lc_cpu_request_millicores, lc_cpu_limit_millicores, lc_memory_held_mib, be_cpu_request_millicores, be_cpu_limit_millicores, "
    "be_memory_held_mib, be_pods"
)
_INSTANCE_COLUMNS = (
    "cluster, pod, uid, service, node, pod_ip, port, ready, "
    "cpu_request_millicores, cpu_limit_millicores, memory_limit_mib, restarts"
)
_SAMPLE_COLUMNS = (
    "cluster, node, cpu_allocatable_millicores, memory_allocatable_mib, cpu_used_millicores, memory_used_mib, "
    "lc_cpu_limit_millicores, lc_memory_held_mib, be_cpu_request_millicores, be_memory_held_mib, be_pods"
)


def service_of(spec: Mapping[str, Any]) -> Service:
    """A service from the JSON of its row."""
    return Service(**{**spec, "service_class": ServiceClass(spec["service_class"])})


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """A joined cluster: where its kubeconfig lies and which context is Tango's; never the content."""

    name: str
    kubeconfig: str
    context: str
    embedded: bool


@dataclass(frozen=True, slots=True)
class _Static:
    clusters: tuple[str, ...]
    services: tuple[Service, ...]
    rtt_ms: np.ndarray
    bandwidth: np.ndarray
    read_at_s: float


class PostgresFleetStore:
    """Current state of the fleet."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._static: _Static | None = None
        self._lock = threading.Lock()

    # ---- declarations --------------------------------------------------------------------------------------------------

    def declare(self, fleet: Fleet, *, kubeconfig: str, contexts: Mapping[str, str]) -> None:
        """Upsert clusters, links and services of the fleet; embedded clusters of an earlier fleet go, joined ones stay."""
        rtt = fleet.rtt_ms()
        names = [c.name for c in fleet.clusters]
        bandwidth = fleet.network.bandwidth_mbit_per_s
        links = [(a, b, float(rtt[i, j]), bandwidth) for i, a in enumerate(names) for j, b in enumerate(names)]

        def declare(cursor: Cursor) -> None:
            cursor.execute("DELETE FROM fleet")
            cursor.execute(
                "INSERT INTO fleet (name, hash, declaration) VALUES (%s, %s, %s)",
                (fleet.name, fleet.source_hash, dump_fleet(fleet)),
            )
            cursor.execute("DELETE FROM cluster WHERE embedded AND name <> ALL (%s) RETURNING name", (names,))
            gone = [row[0] for row in cursor.fetchall()]
            for table in ("node", "instance"):
                cursor.execute(f"DELETE FROM {table} WHERE cluster = ANY (%s)", (gone,))
            execute_values(
                cursor,
                "INSERT INTO cluster (name, position, kubeconfig, context, embedded) VALUES %s ON CONFLICT (name) DO UPDATE SET "
                "position = excluded.position, kubeconfig = excluded.kubeconfig, context = excluded.context, "
                "embedded = excluded.embedded",
                [(name, k, kubeconfig, contexts[name], True) for k, name in enumerate(names)],
            )
            execute_values(
                cursor,
                "INSERT INTO link (from_cluster, to_cluster, rtt_ms, bandwidth_mbit_per_s) VALUES %s ON CONFLICT (from_cluster, "
                "to_cluster) DO UPDATE SET rtt_ms = excluded.rtt_ms, bandwidth_mbit_per_s = excluded.bandwidth_mbit_per_s",
                links,
            )
            cursor.execute("DELETE FROM service WHERE name <> ALL (%s)", ([s.name for s in fleet.services],))
            _put_services(cursor, fleet.services)

        self._database.run(declare)
        self._static = None

    def declared(self) -> Fleet:
        """The fleet in force, with the services as declared now. Raises: UsageError before the first declaration."""
        found = self._database.rows("SELECT declaration FROM fleet")
        if not found:
            raise UsageError("no fleet is declared yet; start one with `tango up --fleet NAME`")
        fleet = parse_fleet(found[0][0], "the fleet in force")
        return dataclasses.replace(fleet, services=self.services())

    def services(self) -> tuple[Service, ...]:
        """By name."""
        return tuple(service_of(spec) for (spec,) in self._database.rows("SELECT spec FROM service ORDER BY name"))

    def put_services(self, services: Sequence[Service]) -> None:
        """Declare or change services."""
        self._database.run(lambda cursor: _put_services(cursor, services))

    def delete_services(self, names: Sequence[str]) -> None:
        """Withdraw services. Raises: UsageError for one that is not declared, or that live requests still need."""
        known = {s.name for s in self.services()}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UsageError(f"no service {', '.join(unknown)}; declared: {', '.join(sorted(known)) or 'none'}")
        live = self._database.rows(
            f"SELECT DISTINCT service FROM request WHERE run_id = ANY ({_ACTIVE}) AND service = ANY (%s)", (list(names),)
        )
        if live:
            raise UsageError(f"runs still need {', '.join(row[0] for row in live)}; wait for them or cancel them")
        self._database.execute("DELETE FROM service WHERE name = ANY (%s)", (list(names),))

    # ---- clusters ------------------------------------------------------------------------------------------------------

    def clusters(self) -> list[ClusterRow]:
        """Joined clusters, in order."""
        rows = self._database.rows("SELECT name, kubeconfig, context, embedded FROM cluster ORDER BY position, name")
        return [ClusterRow(*row) for row in rows]

    def credentials(self, cluster: str) -> tuple[str, str]:
        """(kubeconfig path, context) of a cluster. Raises: UsageError for an unknown one."""
        for row in self.clusters():
            if row.name == cluster:
                return row.kubeconfig, row.context
        raise UsageError(f"no cluster {cluster!r}; joined: {', '.join(c.name for c in self.clusters()) or 'none'}")

    def join(self, name: str, *, kubeconfig: str, context: str, rtt_ms: float, bandwidth_mbit_per_s: float) -> None:
        """Add a real cluster with one round-trip time to all others."""

        def join(cursor: Cursor) -> None:
            cursor.execute(
                "INSERT INTO cluster (name, position, kubeconfig, context) VALUES (%s, (SELECT count(*) FROM cluster), %s, %s) "
                "ON CONFLICT (name) DO UPDATE SET kubeconfig = excluded.kubeconfig, context = excluded.context",
                (name, kubeconfig, context),
            )
            cursor.execute(
                """
                INSERT INTO link (from_cluster, to_cluster, rtt_ms, bandwidth_mbit_per_s)
                SELECT a, b, CASE WHEN a = b THEN 0.2 ELSE %(rtt)s END, %(bandwidth)s
                FROM (SELECT %(name)s AS a, name AS b FROM cluster UNION SELECT name, %(name)s FROM cluster) pairs
                ON CONFLICT (from_cluster, to_cluster) DO UPDATE SET rtt_ms = excluded.rtt_ms
                """,
                {"name": name, "rtt": rtt_ms, "bandwidth": bandwidth_mbit_per_s},
            )

        self._database.run(join)
        self._static = None

    def leave(self, name: str) -> None:
        """Forget a cluster. Raises: UsageError for an unknown one, or while live requests entered or run there."""
        self.credentials(name)
        live = self._database.rows(
            f"SELECT count(*) FROM request WHERE run_id = ANY ({_ACTIVE}) AND (cluster = %s OR target_cluster = %s) "
            "AND state NOT IN ('succeeded', 'failed', 'shed', 'cancelled')",
            (name, name),
        )[0][0]
        if live:
            raise UsageError(f"{live} live requests entered or run at {name}; wait for their runs or cancel them")

        def leave(cursor: Cursor) -> None:
            for table, column in (("cluster", "name"), ("node", "cluster"), ("instance", "cluster")):
                cursor.execute(f"DELETE FROM {table} WHERE {column} = %s", (name,))
            cursor.execute("DELETE FROM link WHERE from_cluster = %s OR to_cluster = %s", (name, name))

        self._database.run(leave)

    # ---- observation ---------------------------------------------------------------------------------------------------

    def observe(self, cluster: str, nodes: Sequence[NodeState], instances: Sequence[InstanceState], *, sample: bool) -> None:
        """Replace what is known of the cluster, in one transaction."""
        node_rows = [
            (
                cluster,
                n.name,
                n.ready,
                n.cpu_allocatable_millicores,
                n.memory_allocatable_mib,
                n.cpu_used_millicores,
                n.memory_used_mib,
                n.lc_cpu_request_millicores,
                n.lc_cpu_limit_millicores,
                n.lc_memory_held_mib,
                n.be_cpu_request_millicores,
                n.be_cpu_limit_millicores,
                n.be_memory_held_mib,
                n.be_pods,
            )
            for n in nodes
        ]
        instance_rows = [
            (
                cluster,
                i.pod,
                i.uid,
                i.service,
                i.node,
                i.pod_ip,
                i.port,
                i.ready,
                i.cpu_request_millicores,
                i.cpu_limit_millicores,
                i.memory_limit_mib,
                i.restarts,
            )
            for i in instances
        ]
        sample_rows = [(cluster, n[1], *n[3:7], n[8], n[9], n[10], n[12], n[13]) for n in node_rows]

        def observe(cursor: Cursor) -> None:
            _replace(cursor, "node", _NODE_COLUMNS, ("cluster", "name"), cluster, node_rows)
            _replace(cursor, "instance", _INSTANCE_COLUMNS, ("cluster", "pod"), cluster, instance_rows)
            cursor.execute("UPDATE cluster SET seen_at = now() WHERE name = %s", (cluster,))
            if sample and sample_rows:
                execute_values(cursor, f"INSERT INTO node_sample ({_SAMPLE_COLUMNS}) VALUES %s", sample_rows)

        self._database.run(observe)

    def instances(self) -> list[tuple[str, InstanceState]]:
        """Every known LC instance with its cluster."""
        rows = self._database.rows(f"SELECT {_INSTANCE_COLUMNS} FROM instance ORDER BY cluster, pod")
        return [
            (
                r[0],
                InstanceState(
                    pod=r[1],
                    uid=r[2],
                    service=r[3],
                    node=r[4],
                    pod_ip=r[5],
                    port=r[6],
                    ready=r[7],
                    cpu_request_millicores=r[8],
                    cpu_limit_millicores=r[9],
                    memory_limit_mib=r[10],
                    restarts=r[11],
                ),
            )
            for r in rows
        ]

    def tail_latency_ms(self, *, window_s: float, quantile: float) -> dict[tuple[str, str], tuple[float, int]]:
        """From the attempts that ended in the window (an index on `ended_at` keeps it cheap); trace milliseconds.

        Latency is divided by the target's own scale: both are wall time, so a run's speed cancels out in the slack.
        """
        rows = self._database.rows(
            """
            SELECT service, node, percentile_cont(%s) WITHIN GROUP (ORDER BY a.latency_s * r.speed * 1000), count(*)
            FROM attempt a JOIN run r USING (run_id)
            WHERE a.ended_at > now() - %s * interval '1 s' AND a.class = 'lc' AND a.outcome = 'succeeded' AND a.node IS NOT NULL
            GROUP BY service, node
            """,
            (quantile, window_s),
        )
        return {(service, node): (float(tail), int(count)) for service, node, tail, count in rows}

    def evictable_be(self, cluster: str, node: str) -> list[Eviction]:
        """Running BE pods, least work done first: what ran shortest loses least."""
        rows = self._database.rows(
            f"""
            SELECT q.pod, q.run_id, q.request_id, q.epoch,
                   least(q.cpu_work_s, greatest(0, extract(epoch FROM now() - r.started_at)::float8 - coalesce(q.started_s, 0)))
            FROM request q JOIN run r USING (run_id)
            WHERE q.run_id = ANY ({_ACTIVE}) AND q.class = 'be' AND q.state IN ('placed', 'running')
              AND q.target_cluster = %s AND q.node = %s ORDER BY 5
            """,
            (cluster, node),
        )
        return [
            Eviction(cluster=cluster, node=node, pod=pod, run_id=run_id, request_id=request_id, epoch=epoch, work_lost_s=lost)
            for pod, run_id, request_id, epoch, lost in rows
        ]

    # ---- snapshot ------------------------------------------------------------------------------------------------------

    def snapshot(self, *, at_s: float) -> FleetSnapshot:
        """Everything the policies see. What BE requests hold is counted from their rows, which lead the agents' view."""
        static = self._read_static()
        cluster_row = {name: k for k, name in enumerate(static.clusters)}
        service_row = {s.name: k for k, s in enumerate(static.services)}

        def read(cursor: Cursor) -> tuple[list[Any], ...]:
            found = []
            for statement in (
                f"SELECT {_NODE_COLUMNS} FROM node ORDER BY cluster, name",
                "SELECT cluster, node, service, sum(cpu_limit_millicores), count(*) FROM instance WHERE ready GROUP BY 1, 2, 3",
                "SELECT target_cluster, node, service, count(*), sum(cpu_work_s), sum(memory_mib) FROM request "
                f"WHERE run_id = ANY ({_ACTIVE}) AND state IN ('dispatched', 'placed', 'running') GROUP BY 1, 2, 3",
                f"SELECT cluster, count(*) FROM request WHERE run_id = ANY ({_ACTIVE}) AND state = 'pending' GROUP BY 1",
            ):
                cursor.execute(statement)
                found.append(cursor.fetchall())
            return tuple(found)

        node_rows, instance_rows, held_rows, pending_rows = self._database.run(read)
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
        for cluster, node, service, requests, work_s, memory_mib in held_rows:
            if (cluster, node) not in node_row or service not in service_row:
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
        pending = np.zeros(len(static.clusters))
        for cluster, requests in pending_rows:
            if cluster in cluster_row:
                pending[cluster_row[cluster]] = requests
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


def _put_services(cursor: Cursor, services: Sequence[Service]) -> None:
    execute_values(
        cursor,
        'INSERT INTO service (name, "class", target_ms, spec) VALUES %s ON CONFLICT (name) DO UPDATE SET '
        '"class" = excluded."class", target_ms = excluded.target_ms, spec = excluded.spec, declared_at = now()',
        [
            (s.name, s.service_class.label, s.target_ms, Json({**dataclasses.asdict(s), "service_class": int(s.service_class)}))
            for s in services
        ],
    )


def _replace(cursor: Cursor, table: str, columns: str, key: tuple[str, str], cluster: str, rows: Sequence[tuple[Any, ...]]) -> None:
    cursor.execute(f"DELETE FROM {table} WHERE cluster = %s AND {key[1]} <> ALL (%s)", (cluster, [row[1] for row in rows]))
    if rows:
        changed = ", ".join(f"{c} = excluded.{c}" for c in columns.split(", ") if c not in key)
        execute_values(
            cursor,
            f"INSERT INTO {table} ({columns}) VALUES %s "
            f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}, observed_at = now()",
            rows,
        )
