"""Clusters, nodes, services and instances as last observed: implements `tango.ports.fleet.FleetStore`."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from psycopg2.extras import Json

from tango.domain.identity import NodeKey, PodKey
from tango.domain.observations import InstanceState, NodeState, Picture
from tango.domain.plans import Eviction, RefusedResize
from tango.domain.resource_axis import MAY_RUN
from tango.store.clusters import IS_SILENT
from tango.store.database import NOT_AWAITED, Cursor
from tango.store.lifecycle_sql import IN_FLIGHT_STATES, OPEN_RUNS
from tango.store.node_reports import NodeReports
from tango.store.rows import insert
from tango.store.service_usage import ServiceUsages
from tango.store.snapshots import Snapshots

_NODE = tuple(f.name for f in dataclasses.fields(NodeState))
_INSTANCE = tuple(f.name for f in dataclasses.fields(InstanceState))
# A sample keeps what changes: of a node's name and figures all but whether it is ready and what LC and BE may burst to.
_NOT_SAMPLED = (
    "name",
    "ready",
    "lc_cpu_request_millicores",
    "be_cpu_limit_millicores",
    "lc_pods",
    "pods_allocatable",
    "schedulable",
    "other_cpu_request_millicores",
    "other_memory_held_mib",
    "other_pods",
)
WRITTEN_AGAIN_S = 5.0
"""Seconds after which an observation is written although nothing has changed: others may have written the rows meanwhile."""

_HEARD_OF = f"""
UPDATE cluster c SET seen_at = now(), agent_at = now(), back_at = CASE WHEN {IS_SILENT} THEN now() ELSE back_at END WHERE name = %(cluster)s
"""


_PICTURES = f"""
SELECT c.name, count(n.name), count(*) FILTER (WHERE n.ready AND ({IS_SILENT}) IS NOT TRUE), count(*) FILTER (WHERE NOT n.schedulable),
       extract(epoch FROM now() - c.seen_at)::float8, extract(epoch FROM now() - c.agent_at)::float8, ({IS_SILENT}) IS TRUE
FROM cluster c LEFT JOIN node n ON n.cluster = c.name GROUP BY c.name ORDER BY c.position, c.name
"""


_NOTE_RESIZES = """
INSERT INTO resize_refusal AS r (cluster, pod, larger_limit, uid, limit_millicores, request_millicores, allocatable_millicores)
SELECT i.cluster, i.pod, v.larger_limit, i.uid, min(v.limit_millicores), min(v.request_millicores), min(n.cpu_allocatable_millicores)
FROM unnest(%(clusters)s::text[], %(pods)s::text[], %(larger)s::bool[], %(limits)s::int[], %(requests)s::int[])
    AS v(cluster, pod, larger_limit, limit_millicores, request_millicores)
JOIN instance i ON i.cluster = v.cluster AND i.pod = v.pod JOIN node n ON n.cluster = i.cluster AND n.name = i.node
GROUP BY i.cluster, i.pod, v.larger_limit, i.uid ORDER BY i.cluster, i.pod, v.larger_limit
ON CONFLICT (cluster, pod, larger_limit) DO UPDATE SET uid = excluded.uid, at = now(),
    limit_millicores = CASE WHEN r.uid = excluded.uid AND r.allocatable_millicores >= excluded.allocatable_millicores
        THEN least(r.limit_millicores, excluded.limit_millicores) ELSE excluded.limit_millicores END,
    request_millicores = CASE WHEN r.uid = excluded.uid AND r.allocatable_millicores >= excluded.allocatable_millicores
        THEN least(r.request_millicores, excluded.request_millicores) ELSE excluded.request_millicores END,
    allocatable_millicores = excluded.allocatable_millicores
"""
_REFUSED_RESIZES = """
SELECT r.cluster, r.pod, r.limit_millicores, r.request_millicores, r.larger_limit FROM resize_refusal r
JOIN instance i ON i.cluster = r.cluster AND i.pod = r.pod AND i.uid = r.uid
JOIN node n ON n.cluster = i.cluster AND n.name = i.node AND n.cpu_allocatable_millicores <= r.allocatable_millicores
ORDER BY r.cluster, r.pod, r.larger_limit
"""


class PostgresFleetStore(Snapshots, ServiceUsages, NodeReports):
    """The fleet store on PostgreSQL."""

    @functools.cached_property
    def _observed(self) -> dict[str, tuple[Sequence[NodeState], Sequence[InstanceState], float]]:
        """By cluster, the nodes and instances that this process has written last, and when, by the monotonic clock."""
        return {}

    def observe(self, cluster: str, nodes: Sequence[NodeState], instances: Sequence[InstanceState], *, sample: bool) -> None:
        """Replace the nodes and instances of a cluster, in one transaction that does not wait for the disk.

        What this process has just written is not written again, for agents observe four times a second and mostly nothing has changed.
        """
        changed = self._is_news(cluster, nodes, instances)
        if not changed and not sample:
            return
        node_rows = [
            {"cluster": cluster} | {name: getattr(node, name) for name in _NODE} | {"extended": _extended(node)} for node in nodes
        ]
        instance_rows = [{"cluster": cluster} | {name: getattr(i, name) for name in _INSTANCE} for i in instances if changed]
        samples = [
            {"node": row["name"]} | {k: v for k, v in row.items() if k not in _NOT_SAMPLED} | {"extended": _extended_sample(node)}
            for node, row in zip(nodes, node_rows, strict=True)
        ]

        def observe(cursor: Cursor) -> None:
            # The cluster's row first: two agents of one cluster, as after a restart, write it one after the other, and a cluster that
            # leaves takes its row away before its nodes.
            cursor.execute(NOT_AWAITED + _HEARD_OF, {"cluster": cluster, "silent": self._lease.silent_s})
            if changed:
                _replace(cursor, "node", "name", cluster, node_rows)
                _replace(cursor, "instance", "pod", cluster, instance_rows)
            if sample:
                insert(cursor, "node_sample", samples)

        self._database.run(observe)
        if changed:
            self._observed[cluster] = (list(nodes), list(instances), time.monotonic())

    def _is_news(self, cluster: str, nodes: Sequence[NodeState], instances: Sequence[InstanceState]) -> bool:
        before, before_of, at_s = self._observed.get(cluster, ((), (), -float("inf")))
        return time.monotonic() - at_s > WRITTEN_AGAIN_S or before != list(nodes) or before_of != list(instances)

    def note_refused_resizes(self, refused: Sequence[RefusedResize]) -> None:
        """One statement; rows of pods that are gone are dropped with it."""
        columns = {
            "clusters": [r.pod.cluster for r in refused],
            "pods": [r.pod.name for r in refused],
            "larger": [r.larger_limit for r in refused],
            "limits": [r.limit_millicores for r in refused],
            "requests": [r.request_millicores for r in refused],
        }

        def note(cursor: Cursor) -> None:
            cursor.execute(_NOTE_RESIZES, columns)
            cursor.execute(
                "DELETE FROM resize_refusal r WHERE NOT EXISTS "
                "(SELECT FROM instance i WHERE i.cluster = r.cluster AND i.pod = r.pod AND i.uid = r.uid)"
            )

        self._database.run(note)

    def refused_resizes(self) -> list[RefusedResize]:
        """By the pods and nodes as they are now."""
        return [
            RefusedResize(pod=PodKey(cluster, pod), limit_millicores=limit, request_millicores=request, larger_limit=larger)
            for cluster, pod, limit, request, larger in self._database.rows(_REFUSED_RESIZES)
        ]

    def note_agent(self, cluster: str) -> None:
        """One row, without waiting for the disk."""
        self._database.execute(NOT_AWAITED + "UPDATE cluster SET agent_at = now() WHERE name = %s", (cluster,))

    def pictures(self) -> list[Picture]:
        """One statement."""
        rows = self._database.rows(_PICTURES, {"silent": self._lease.silent_s})
        return [
            Picture(cluster=cluster, nodes=nodes, ready=ready, closed=closed, age_s=age_s, agent_age_s=agent_age_s, is_away=is_away)
            for cluster, nodes, ready, closed, age_s, agent_age_s, is_away in rows
        ]

    def away(self) -> dict[str, float]:
        """Clusters whose agent has not been heard of for `LeaseSettings.silent_s`, and when it last was (Unix time)."""
        found = f"SELECT name, extract(epoch FROM seen_at)::float8 FROM cluster c WHERE {IS_SILENT}"
        return dict(self._database.rows(found, {"silent": self._lease.silent_s}))

    def instances(self) -> list[tuple[str, InstanceState]]:
        """Every known LC instance with its cluster."""
        rows = self._database.rows(f"SELECT cluster, {', '.join(_INSTANCE)} FROM instance ORDER BY cluster, pod")
        return [(cluster, InstanceState(**dict(zip(_INSTANCE, values, strict=True)))) for cluster, *values in rows]

    def evictable_be(self, nodes: Collection[NodeKey]) -> dict[NodeKey, list[Eviction]]:
        """Placed and running BE pods, least work done first: what has not started loses nothing."""
        if not nodes:
            return {}
        rows = self._database.rows(
            f"""
            SELECT q.target_cluster, q.node, q.pod, q.run_id, q.request_id, q.epoch,
                   CASE WHEN q.started_s IS NULL THEN 0
                        ELSE least(q.cpu_work_s, greatest(0, extract(epoch FROM now() - r.started_at)::float8 - q.started_s)) END,
                   q.tenant IS NOT NULL OR coalesce(s.spec ->> 'template', '') <> ''
            FROM request q JOIN run r USING (run_id) LEFT JOIN service s ON s.name = q.service
            WHERE q.run_id = ANY ({OPEN_RUNS}) AND q.class = 'be' AND q.state IN {IN_FLIGHT_STATES}
              AND NOT coalesce((s.spec ->> 'never_evict')::bool, false)
              AND (q.target_cluster, q.node) IN (SELECT * FROM unnest(%s::text[], %s::text[])) ORDER BY 7
            """,
            ([node.cluster for node in nodes], [node.name for node in nodes]),
        )
        found: dict[NodeKey, list[Eviction]] = {}
        for cluster, node, pod, run_id, request_id, epoch, lost, has_grace in rows:
            found.setdefault(NodeKey(cluster, node), []).append(
                Eviction(
                    cluster=cluster,
                    node=node,
                    pod=pod,
                    run_id=run_id,
                    request_id=request_id,
                    epoch=epoch,
                    work_lost_s=lost,
                    has_grace=has_grace,
                )
            )
        return found


def _extended(node: NodeState) -> Json:
    return Json({name: dataclasses.asdict(of) for name, of in node.extended.items()})


def _extended_sample(node: NodeState) -> Json | None:
    """As `NodeSamples` has it: what LC and BE hold together. NULL for none, as nearly everywhere."""
    held = {
        name: {"allocatable": of.allocatable, "held": of.lc_held + of.be_held}
        for name, of in node.extended.items()
        if not name.startswith(MAY_RUN)
    }
    return Json(held) if held else None


def _replace(cursor: Cursor, table: str, key: str, cluster: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the cluster's rows of a table by `rows`, which differ in the column `key`."""
    cursor.execute(f"DELETE FROM {table} WHERE cluster = %s AND {key} <> ALL (%s)", (cluster, [row[key] for row in rows]))
    if rows:
        changed = ", ".join(f"{name} = excluded.{name}" for name in rows[0] if name not in ("cluster", key))
        insert(cursor, table, rows, then=f"ON CONFLICT (cluster, {key}) DO UPDATE SET {changed}, observed_at = now()")
