"""Clusters, nodes, services and instances as last observed: implements `tango.ports.fleet.FleetStore`."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from psycopg2.extras import Json

from tango.domain.identity import NodeKey, PodKey
from tango.domain.observations import AwaitedInstances, ExtendedState, InstanceState, NodeState, Observation, Picture
from tango.domain.plans import Eviction, RefusedResize
from tango.domain.resource_axis import MAY_RUN
from tango.domain.runs import RunKind
from tango.domain.state_lists import IN_FLIGHT_STATES
from tango.store.clusters import IS_SILENT
from tango.store.database import NOT_AWAITED, Cursor
from tango.store.lifecycle_sql import OPEN_RUNS
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
    "lc_awaited",
    "zone",
    "region",
)
WRITTEN_AGAIN_S = 5.0
"""Seconds after which an observation is written although nothing has changed: others may have written the rows meanwhile."""

_HEARD_OF = f"""
WITH told AS (SELECT name FROM cluster WHERE name = ANY (%(clusters)s) ORDER BY name FOR NO KEY UPDATE)
UPDATE cluster c SET seen_at = now(), agent_at = now(), back_at = CASE WHEN {IS_SILENT} THEN now() ELSE back_at END
FROM told WHERE c.name = told.name
"""


_PICTURES = f"""
SELECT c.name, count(n.name), count(*) FILTER (WHERE n.ready AND ({IS_SILENT}) IS NOT TRUE), count(*) FILTER (WHERE NOT n.schedulable),
       extract(epoch FROM now() - c.seen_at)::float8, extract(epoch FROM now() - c.agent_at)::float8, ({IS_SILENT}) IS TRUE,
       coalesce(array_agg(DISTINCT concat_ws('/', nullif(n.region, ''), n.zone)) FILTER (WHERE n.zone <> ''), '{{}}')
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

# Takes clusters and nodes, side by side.
_BE_ON_NODES = f"""
FROM request q JOIN run r USING (run_id) LEFT JOIN service s ON s.name = q.service
WHERE q.run_id = ANY ({OPEN_RUNS}) AND q.class = 'be' AND q.state IN {IN_FLIGHT_STATES}
  AND (q.target_cluster, q.node) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""
_NEVER_EVICTED = "coalesce((s.spec ->> 'never_evict')::bool, false)"
_AWAITED = f"""
SELECT n.cluster, n.name, a.key, a.value::int FROM node n JOIN cluster c ON c.name = n.cluster, jsonb_each_text(n.lc_awaited) a
WHERE n.lc_awaited <> '{{}}' AND n.ready AND n.schedulable AND ({IS_SILENT}) IS NOT TRUE ORDER BY 1, 2, 3
"""


@dataclasses.dataclass(frozen=True, slots=True)
class _Written:
    """Nodes by name and instances by pod as they were written last; when all of them were, on the monotonic clock."""

    nodes: Mapping[str, NodeState]
    instances: Mapping[str, InstanceState]
    whole_at_s: float


_NOTHING = _Written({}, {}, -float("inf"))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """What has to be written of an observation: these nodes and instances, and whether some that were written are there no more."""

    seen: Observation
    is_whole: bool
    """All of it, and whatever else stands there goes: others may have written it meanwhile."""
    nodes: Sequence[NodeState]
    instances: Sequence[InstanceState]
    lacks_nodes: bool
    lacks_instances: bool


class PostgresFleetStore(Snapshots, ServiceUsages, NodeReports):
    """The fleet store on PostgreSQL."""

    @functools.cached_property
    def _observed(self) -> dict[str, _Written]:
        """What this process has written last of each cluster."""
        return {}

    def observe(self, cluster: str, nodes: Sequence[NodeState], instances: Sequence[InstanceState], *, sample: bool) -> None:
        """Write what was observed of one cluster; see `observe_all`."""
        self.observe_all([Observation(cluster=cluster, nodes=nodes, instances=instances, sample=sample)])

    def observe_all(self, observations: Sequence[Observation]) -> None:
        """Replace the nodes and instances of these clusters, in one transaction that does not wait for the disk.

        Of what this process has just written only what has changed is written again: agents observe four times a second.
        """
        changed = [change for o in observations if (change := self._change(o)) is not None]
        sampled = [o for o in observations if o.sample]
        told = sorted({o.cluster for o in (*(change.seen for change in changed), *sampled)})
        if not told:
            return
        samples = [row for o in sampled for row in _sample_rows(o)]

        def observe(cursor: Cursor) -> None:
            # The clusters' rows first, in order: two agents of one cluster, as after a restart, write it one after the other, and a
            # cluster that leaves takes its row away before its nodes.
            cursor.execute(NOT_AWAITED + _HEARD_OF, {"clusters": told, "silent": self._lease.silent_s})
            for change in changed:
                cluster, seen = change.seen.cluster, change.seen
                if change.is_whole or change.lacks_nodes:
                    _keep_only(cursor, "node", "name", cluster, [node.name for node in seen.nodes])
                if change.is_whole or change.lacks_instances:
                    _keep_only(cursor, "instance", "pod", cluster, [instance.pod for instance in seen.instances])
                _put(cursor, "node", "name", _node_rows(cluster, change.nodes))
                _put(cursor, "instance", "pod", _instance_rows(cluster, change.instances))
            insert(cursor, "node_sample", samples)

        self._database.run(observe)
        for change in changed:
            seen = change.seen
            at_s = time.monotonic() if change.is_whole else self._observed[seen.cluster].whole_at_s
            self._observed[seen.cluster] = _Written({n.name: n for n in seen.nodes}, {i.pod: i for i in seen.instances}, at_s)

    def _change(self, seen: Observation) -> _Change | None:
        """What has to be written of an observation; None: nothing."""
        before = self._observed.get(seen.cluster, _NOTHING)
        is_whole = time.monotonic() - before.whole_at_s > WRITTEN_AGAIN_S
        found = _Change(
            seen=seen,
            is_whole=is_whole,
            nodes=[node for node in seen.nodes if is_whole or before.nodes.get(node.name) != node],
            instances=[i for i in seen.instances if is_whole or before.instances.get(i.pod) != i],
            lacks_nodes=not before.nodes.keys() <= {node.name for node in seen.nodes},
            lacks_instances=not before.instances.keys() <= {i.pod for i in seen.instances},
        )
        is_any = is_whole or found.nodes or found.instances or found.lacks_nodes or found.lacks_instances
        return found if is_any else None

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
        """Resizes that were refused for good, less those of pods and nodes that have changed since."""
        return [
            RefusedResize(pod=PodKey(cluster, pod), limit_millicores=limit, request_millicores=request, larger_limit=larger)
            for cluster, pod, limit, request, larger in self._database.rows(_REFUSED_RESIZES)
        ]

    def note_agent(self, cluster: str) -> None:
        """One row, without waiting for the disk."""
        self._database.execute(NOT_AWAITED + "UPDATE cluster SET agent_at = now() WHERE name = %s", (cluster,))

    def pictures(self) -> list[Picture]:
        """What is known of each cluster, all read in one statement so that counts belong together."""
        rows = self._database.rows(_PICTURES, {"silent": self._lease.silent_s})
        return [
            Picture(
                cluster=cluster,
                nodes=nodes,
                ready=ready,
                closed=closed,
                age_s=age_s,
                agent_age_s=agent_age_s,
                is_away=is_away,
                zones=tuple(zones),
            )
            for cluster, nodes, ready, closed, age_s, agent_age_s, is_away, zones in rows
        ]

    def nodes(self) -> list[tuple[str, NodeState]]:
        """Every known node with its cluster."""
        rows = self._database.rows(f"SELECT cluster, {', '.join(_NODE)} FROM node ORDER BY cluster, name")
        found = [(cluster, NodeState(**dict(zip(_NODE, values, strict=True)))) for cluster, *values in rows]
        return [(cluster, dataclasses.replace(node, extended=_read_extended(node.extended))) for cluster, node in found]

    def away(self) -> dict[str, float]:
        """Clusters whose agent has not been heard of for `LeaseSettings.silent_s`, and when it last was (Unix time)."""
        found = f"SELECT name, extract(epoch FROM seen_at)::float8 FROM cluster c WHERE {IS_SILENT}"
        return dict(self._database.rows(found, {"silent": self._lease.silent_s}))

    def instances(self) -> list[tuple[str, InstanceState]]:
        """Every known LC instance with its cluster."""
        rows = self._database.rows(f"SELECT cluster, {', '.join(_INSTANCE)} FROM instance ORDER BY cluster, pod")
        return [(cluster, InstanceState(**dict(zip(_INSTANCE, values, strict=True)))) for cluster, *values in rows]

    def awaited(self) -> list[AwaitedInstances]:
        """Mostly none: one look at a table of a row a node."""
        rows = self._database.rows(_AWAITED, {"silent": self._lease.silent_s})
        return [
            AwaitedInstances(cluster=cluster, node=node, service=service, count=count) for cluster, node, service, count in rows
        ]

    def evictable_be(self, nodes: Collection[NodeKey]) -> dict[NodeKey, list[Eviction]]:
        """Placed and running BE pods, least work done first: what has not started loses nothing."""
        if not nodes:
            return {}
        rows = self._database.rows(
            f"""
            SELECT q.target_cluster, q.node, q.pod, q.run_id, q.request_id, q.epoch,
                   CASE WHEN q.started_s IS NULL THEN 0
                        ELSE least(q.cpu_work_s, greatest(0, extract(epoch FROM now() - r.started_at)::float8 - q.started_s)) END,
                   r.kind = '{RunKind.LIVE}' OR coalesce(s.spec ->> 'template', '') <> '', q.service, q.memory_mib,
                   coalesce(q.tenant, r.tenant)
            {_BE_ON_NODES} AND NOT {_NEVER_EVICTED} ORDER BY 7
            """,
            _at(nodes),
        )
        found: dict[NodeKey, list[Eviction]] = {}
        for cluster, node, pod, run_id, request_id, epoch, lost, has_grace, service, memory, tenant in rows:
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
                    service=service,
                    memory_mib=memory,
                    tenant=tenant,
                )
            )
        return found

    def never_evicted_be(self, nodes: Collection[NodeKey]) -> dict[NodeKey, list[tuple[str, str]]]:
        """By the declaration of their service."""
        asked = f"SELECT q.target_cluster, q.node, q.pod, q.service {_BE_ON_NODES} AND {_NEVER_EVICTED} ORDER BY 1, 2, 3"
        found: dict[NodeKey, list[tuple[str, str]]] = {}
        for cluster, node, pod, service in self._database.rows(asked, _at(nodes)) if nodes else ():
            found.setdefault(NodeKey(cluster, node), []).append((pod, service))
        return found


def _at(nodes: Collection[NodeKey]) -> tuple[list[str], list[str]]:
    return [node.cluster for node in nodes], [node.name for node in nodes]


def _node_rows(cluster: str, nodes: Sequence[NodeState]) -> list[dict[str, Any]]:
    return [
        {"cluster": cluster}
        | {name: getattr(node, name) for name in _NODE}
        | {"extended": _extended(node), "lc_awaited": Json(dict(node.lc_awaited))}
        for node in nodes
    ]


def _instance_rows(cluster: str, instances: Sequence[InstanceState]) -> list[dict[str, Any]]:
    return [{"cluster": cluster} | {name: getattr(instance, name) for name in _INSTANCE} for instance in instances]


def _sample_rows(o: Observation) -> list[dict[str, Any]]:
    sampled = [name for name in _NODE if name not in _NOT_SAMPLED]
    return [
        {"node": node.name, "cluster": o.cluster}
        | {name: getattr(node, name) for name in sampled}
        | {"extended": _extended_sample(node)}
        for node in o.nodes
    ]


def _read_extended(stored: Mapping[str, Any]) -> dict[str, ExtendedState]:
    return {name: ExtendedState(**amounts) for name, amounts in stored.items()}


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


def _keep_only(cursor: Cursor, table: str, key: str, cluster: str, names: Sequence[str]) -> None:
    """Delete the cluster's rows of a table that are none of those named."""
    cursor.execute(f"DELETE FROM {table} WHERE cluster = %s AND {key} <> ALL (%s)", (cluster, list(names)))


def _put(cursor: Cursor, table: str, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows of a table that differ in the column `key` within their cluster, or put them in the place of those that are there."""
    if rows:
        changed = ", ".join(f"{name} = excluded.{name}" for name in rows[0] if name not in ("cluster", key))
        insert(cursor, table, rows, then=f"ON CONFLICT (cluster, {key}) DO UPDATE SET {changed}, observed_at = now()")
