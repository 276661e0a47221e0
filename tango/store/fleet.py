"""Clusters, nodes, services and instances as last seen: implements `tango.ports.FleetStore`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from psycopg2.extras import execute_values

from tango.domain.observations import InstanceState, NodeState
from tango.domain.plans import Eviction
from tango.store.database import Cursor
from tango.store.releases import ACTIVE_RUNS
from tango.store.snapshots import NODE_COLUMNS, Snapshots

_INSTANCE_COLUMNS = (
    "cluster, pod, uid, service, node, pod_ip, port, ready, "
    "cpu_request_millicores, cpu_limit_millicores, memory_limit_mib, restarts"
)
_SAMPLE_COLUMNS = (
    "cluster, node, cpu_allocatable_millicores, memory_allocatable_mib, cpu_used_millicores, memory_used_mib, "
    "lc_cpu_limit_millicores, lc_memory_held_mib, be_cpu_request_millicores, be_memory_held_mib, be_pods"
)


class PostgresFleetStore(Snapshots):
    """Current state of the fleet."""

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
            _replace(cursor, "node", NODE_COLUMNS, ("cluster", "name"), cluster, node_rows)
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
              AND r.kind = 'live'
            GROUP BY service, node
            """,
            (quantile, window_s),
        )
        return {(service, node): (float(tail), int(count)) for service, node, tail, count in rows}

    def evictable_be(self, nodes: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[Eviction]]:
        """Placed and running BE pods, least work done first: what has not started loses nothing."""
        if not nodes:
            return {}
        rows = self._database.rows(
            f"""
            SELECT q.target_cluster, q.node, q.pod, q.run_id, q.request_id, q.epoch,
                   CASE WHEN q.started_s IS NULL THEN 0
                        ELSE least(q.cpu_work_s, greatest(0, extract(epoch FROM now() - r.started_at)::float8 - q.started_s)) END
            FROM request q JOIN run r USING (run_id)
            WHERE q.run_id = ANY ({ACTIVE_RUNS}) AND q.class = 'be' AND q.state IN ('placed', 'running')
              AND q.target_cluster = ANY (%s) AND q.node = ANY (%s) ORDER BY 7
            """,
            ([cluster for cluster, _ in nodes], [node for _, node in nodes]),
        )
        found: dict[tuple[str, str], list[Eviction]] = {}
        for cluster, node, pod, run_id, request_id, epoch, lost in rows:
            if (cluster, node) in nodes:
                found.setdefault((cluster, node), []).append(
                    Eviction(
                        cluster=cluster, node=node, pod=pod, run_id=run_id, request_id=request_id, epoch=epoch, work_lost_s=lost
                    )
                )
        return found


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
