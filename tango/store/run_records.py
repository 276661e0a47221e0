"""The records of a run as columns, for figures, reports and lists. They are read by COPY into Arrow, which for a million requests is
many times faster than fetching rows.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from tango.domain.identity import NodeKey, PodKey
from tango.domain.lifecycle import Event
from tango.domain.outcomes import (
    PHASES,
    SCALING_KINDS,
    SCALING_OUTCOMES,
    STATE_CODE,
    AttemptLosses,
    Decisions,
    HostSamples,
    NodeSamples,
    RequestPhases,
    RunOutcomes,
    ScalingEvents,
)
from tango.domain.services import ServiceClass
from tango.domain.tenant_shares import RequestTenants
from tango.errors import UsageError
from tango.store.database import Cursor, Database
from tango.store.lifecycle_sql import RUN_IS_OPEN, can
from tango.store.runs import class_counts

_UNCLAIMED = f"""
SELECT q.class::text, CASE WHEN q.class = '{ServiceClass.LC.label}' THEN q.cluster ELSE '' END, count(*)
FROM request q JOIN run r USING (run_id)
WHERE q.run_id = %(run)s AND {can("q", Event.RELEASE)} AND {RUN_IS_OPEN}
  AND q.due_s < extract(epoch FROM now() - r.started_at)::float8 - %(after)s
GROUP BY 1, 2 ORDER BY 1 DESC, 2
"""


@dataclass(frozen=True, slots=True)
class _Names:
    """The tuples of names that the index columns of all tables of one run refer to."""

    zero_s: float
    is_simulated: bool
    clusters: tuple[str, ...]
    nodes: tuple[NodeKey, ...]
    services: tuple[str, ...]

    @property
    def node_cluster(self) -> NDArray[np.int32]:
        """Index of each node's cluster, shape (nodes,)."""
        at = {name: k for k, name in enumerate(self.clusters)}
        return np.array([at[node.cluster] for node in self.nodes], np.int32)

    @property
    def node_names(self) -> tuple[str, ...]:
        """The nodes in the text form of `_node_at`."""
        return tuple(str(node) for node in self.nodes)


def _node_at(cluster: str) -> str:
    """SQL for the node of a row as `str(NodeKey)`, from the name of the cluster's column; NULL where the row has no node."""
    return f"{cluster} || '/' || node AS node"


# Samples and events of the live fleet belong to every live run of their time, those of a simulated run to that run alone.
_OF_RUN = {
    False: "s.run_id IS NULL AND s.at BETWEEN r.started_at AND coalesce(r.ended_at, now())",
    True: "s.run_id = r.run_id",
}
_SINCE_SUBMITTED = "s.at BETWEEN r.submitted_at AND coalesce(r.ended_at, now())"
_SINCE_SIMULATED = "s.at >= r.started_at"


class PostgresRunRecords:
    """Columnar reads of one run. Every method raises UsageError for a run that does not exist."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def outcomes(self, run_id: int) -> RunOutcomes:
        """The run and its requests, in order of due time."""
        names = self._names(run_id)
        (run,) = self._database.rows(
            """
            SELECT name, status, system, fleet, fleet_hash, seed, speed, reassure, trace_source,
                   CASE WHEN kind = 'live' AND closed_at IS NULL THEN extract(epoch FROM now() - started_at)::float8 ELSE span_s END,
                   settings,
                   extract(epoch FROM started_at)::float8,
                   CASE WHEN kind = 'simulated'
                   THEN coalesce((SELECT value FROM run_metric m WHERE m.run_id = run.run_id AND m.name = 'simulated_s'), 0)
                   ELSE coalesce(extract(epoch FROM coalesce(ended_at, now()) - started_at)::float8, 0) END,
                   (SELECT coalesce(max(checkpoint), '') FROM decision
                    WHERE kind = 'be' AND run_ids @> ARRAY[%(run)s] AND checkpoint <> '' AND at >= run.submitted_at),
                   kind = 'live'
            FROM run WHERE run_id = %(run)s
            """,
            {"run": run_id},
        )
        t = self._table(
            f'SELECT "class"::text AS class, service, cluster, target_cluster, {_node_at("target_cluster")}, '
            "due_s, target_s, started_s, finished_s, state::text AS state, reason, attempt, epoch, cpu_work_s, memory_mib "
            "FROM request WHERE run_id = %s ORDER BY request_id",
            (run_id,),
        )
        reasons = ("", *sorted({r for r in t["reason"].unique().to_pylist() if r}))
        return RunOutcomes(
            run_id=run_id,
            name=run[0],
            status=run[1],
            system=run[2],
            fleet=run[3],
            fleet_hash=run[4],
            seed=run[5],
            speed=run[6],
            reassure=run[7],
            trace_source=run[8],
            span_s=run[9],
            settings=run[10],
            started_at_s=run[11],
            wall_s=run[12],
            checkpoint=run[13],
            is_live=run[14],
            clusters=names.clusters,
            nodes=tuple(node.name for node in names.nodes),
            node_cluster=names.node_cluster,
            services=names.services,
            service_class=_codes(t["class"], ("lc", "be")).astype(np.int8),
            service=_codes(t["service"], names.services),
            entry_cluster=_codes(t["cluster"], names.clusters),
            target_cluster=_codes(t["target_cluster"], names.clusters),
            node=_codes(t["node"], names.node_names),
            due_s=_floats(t["due_s"]),
            target_s=_floats(t["target_s"]),
            started_s=_floats(t["started_s"]),
            finished_s=_floats(t["finished_s"]),
            state=_codes(t["state"], tuple(STATE_CODE)).astype(np.int8),
            reason=_codes(t["reason"], reasons).clip(0).astype(np.int16),
            reasons=reasons,
            attempts=_floats(t["attempt"]).astype(np.int32),
            epoch=_floats(t["epoch"]).astype(np.int32),
            cpu_work_s=_floats(t["cpu_work_s"]),
            memory_mib=_floats(t["memory_mib"]),
        )

    def tenants(self, run_id: int) -> RequestTenants:
        """Whose each request is, in the order of `outcomes`: its own, or the run's."""
        self._names(run_id)
        t = self._table(
            "SELECT coalesce(q.tenant, r.tenant) AS tenant FROM request q JOIN run r USING (run_id) WHERE q.run_id = %s "
            "ORDER BY q.request_id",
            (run_id,),
        )
        names = tuple(sorted(t["tenant"].unique().to_pylist()))
        return RequestTenants(tenant=_codes(t["tenant"], names), tenants=names)

    def phases(self, run_id: int) -> RequestPhases | None:
        """Where the time of the run's requests went; None for a simulated run, of which nobody waits for messages and processes."""
        if self._names(run_id).is_simulated:
            return None
        t = self._table(f"SELECT {', '.join(PHASES)} FROM request_phases WHERE run_id = %s ORDER BY request_id", (run_id,))
        return RequestPhases(**{name: _floats(t[name]) for name in PHASES})

    def hosts(self, run_id: int) -> HostSamples | None:
        """How far hosts were used meanwhile; None for a simulated run."""
        names = self._names(run_id)
        if names.is_simulated:
            return None
        t = self._table(
            "SELECT extract(epoch FROM s.at)::float8 - %s AS at_s, s.host, s.used, s.stolen FROM host_sample s, run r "
            "WHERE r.run_id = %s AND s.at BETWEEN r.started_at AND coalesce(r.ended_at, now()) ORDER BY s.at",
            (names.zero_s, run_id),
        )
        hosts = tuple(sorted(set(t["host"].to_pylist())))
        host = _codes(t["host"], hosts)
        return HostSamples(at_s=_floats(t["at_s"]), host=host, hosts=hosts, used=_floats(t["used"]), stolen=_floats(t["stolen"]))

    def losses(self, run_id: int) -> AttemptLosses:
        """Attempts that ended without a counted result."""
        names = self._names(run_id)
        t = self._table(
            f"SELECT extract(epoch FROM ended_at)::float8 - %s AS at_s, service, {_node_at('cluster')}, reason, work_lost_s FROM attempt "
            "WHERE run_id = %s AND outcome <> 'succeeded' ORDER BY ended_at",
            (names.zero_s, run_id),
        )
        reasons = ("", *sorted({r for r in t["reason"].unique().to_pylist() if r}))
        return AttemptLosses(
            at_s=_floats(t["at_s"]),
            service=_codes(t["service"], names.services),
            node=_codes(t["node"], names.node_names),
            reason=_codes(t["reason"], reasons).clip(0).astype(np.int16),
            reasons=reasons,
            work_lost_s=_floats(t["work_lost_s"]),
        )

    def node_samples(self, run_id: int) -> NodeSamples:
        """Samples of the nodes during the run."""
        names = self._names(run_id)
        columns = [f.name for f in fields(NodeSamples) if f.name not in ("at_s", "node") and not f.name.startswith("extended")]
        t = self._table(
            f"SELECT extract(epoch FROM at)::float8 - %s AS at_s, {_node_at('cluster')}, {', '.join(columns)}, s.extended "
            "FROM node_sample s, run r "
            f"WHERE r.run_id = %s AND {_OF_RUN[names.is_simulated]} ORDER BY at",
            (names.zero_s, run_id),
        )
        node = _codes(t["node"], names.node_names)
        known = node >= 0
        figures: dict[str, Any] = {name: _floats(t[name])[known] for name in columns}
        figures |= _extended(t["extended"].to_pylist(), known)
        return NodeSamples(at_s=_floats(t["at_s"])[known], node=node[known], **figures)

    def decisions(self, run_id: int) -> Decisions:
        """The scheduling cycles that considered requests of the run."""
        names = self._names(run_id)
        t = self._table(
            "SELECT extract(epoch FROM at)::float8 - %s AS at_s, s.kind::text AS kind, cluster, policy, considered, placed, "
            "unplaced, late, shed, snapshot_ms, decide_ms, apply_ms "
            "FROM decision s, run r WHERE r.run_id = %s "
            f"AND {_SINCE_SIMULATED if names.is_simulated else _SINCE_SUBMITTED} AND s.run_ids @> ARRAY[r.run_id] ORDER BY at",
            (names.zero_s, run_id),
        )
        policies = tuple(sorted(set(t["policy"].to_pylist()))) or ("",)
        return Decisions(
            at_s=_floats(t["at_s"]),
            kind=_codes(t["kind"], ("lc", "be")).astype(np.int8),
            cluster=_codes(t["cluster"], names.clusters),
            policy=_codes(t["policy"], policies).astype(np.int16),
            policies=policies,
            considered=_floats(t["considered"]).astype(np.int64),
            placed=_floats(t["placed"]).astype(np.int64),
            unplaced=_floats(t["unplaced"]).astype(np.int64),
            late=_floats(t["late"]).astype(np.int64),
            shed=_floats(t["shed"]).astype(np.int64),
            snapshot_ms=_floats(t["snapshot_ms"]),
            decide_ms=_floats(t["decide_ms"]),
            apply_ms=_floats(t["apply_ms"]),
        )

    def scaling_events(self, run_id: int) -> ScalingEvents:
        """Resizes and evictions during the run."""
        names = self._names(run_id)
        t = self._table(
            f"SELECT extract(epoch FROM at)::float8 - %s AS at_s, s.kind, {_node_at('cluster')}, service, before_millicores, "
            "after_millicores, slack, reason, actuation_ms, outcome FROM scaling_event s, run r WHERE r.run_id = %s "
            f"AND {_OF_RUN[names.is_simulated]} ORDER BY at",
            (names.zero_s, run_id),
        )
        reasons = ("", *sorted({r for r in t["reason"].unique().to_pylist() if r}))
        return ScalingEvents(
            at_s=_floats(t["at_s"]),
            kind=_codes(t["kind"], SCALING_KINDS).astype(np.int8),
            node=_codes(t["node"], names.node_names),
            service=_codes(t["service"], names.services),
            before_millicores=_floats(t["before_millicores"]),
            after_millicores=_floats(t["after_millicores"]),
            slack=_floats(t["slack"]),
            reason=_codes(t["reason"], reasons).clip(0).astype(np.int16),
            reasons=reasons,
            actuation_ms=_floats(t["actuation_ms"]),
            outcome=_codes(t["outcome"], SCALING_OUTCOMES).astype(np.int8),
        )

    def cancelled_pods(self, run_id: int) -> list[PodKey]:
        """Pods of the BE attempts that the run's cancellation ended and that are no jobs; they may still run."""
        return [
            PodKey(cluster, pod)
            for cluster, pod in self._database.rows(
                "SELECT cluster, pod FROM attempt a WHERE run_id = %s AND class = 'be' AND outcome = 'cancelled' AND pod IS NOT NULL "
                "AND NOT EXISTS (SELECT FROM job j WHERE j.run_id = a.run_id AND j.request_id = a.request_id)",
                (run_id,),
            )
        ]

    def unclaimed(self, run_id: int, *, after_s: float) -> list[tuple[ServiceClass, str, int]]:
        """Requests that were due more than `after_s` ago and that nobody has released: class, entry cluster of LC (of BE nothing), count.

        By the index of requests over class, state and due time; none of a run that has ended or has not begun.
        """
        rows = self._database.rows(_UNCLAIMED, {"run": run_id, "after": after_s})
        return [(ServiceClass[label.upper()], cluster, count) for label, cluster, count in rows]

    def progress(self, run_id: int) -> dict[str, Any]:
        """Counts of requests by class and state, and the run's progress, for `tango run follow`; keys as in `cli.progress`."""
        counts = class_counts(self._database, run_id)
        (run,) = self._database.rows(
            "SELECT accepted, span_s / speed, extract(epoch FROM now() - started_at)::float8, status FROM run WHERE run_id = %s",
            (run_id,),
        )
        (used,) = self._database.rows(
            "SELECT sum(cpu_used_millicores) / nullif(sum(cpu_allocatable_millicores), 0) FROM node WHERE ready"
        )
        return {
            "accepted": run[0],
            "span_wall_s": run[1],
            "elapsed_s": run[2],
            "status": run[3],
            "cpu_utilization": used[0],
            "counts": {(count.service_class, count.state): count.requests for count in counts},
            "lc_met": sum(count.in_time for count in counts),
        }

    def _names(self, run_id: int) -> _Names:
        found = self._database.rows(
            "SELECT coalesce(extract(epoch FROM started_at)::float8, 0), kind = 'simulated' FROM run WHERE run_id = %s", (run_id,)
        )
        if not found:
            raise UsageError(f"there is no run {run_id}; see `tango run list`")
        (zero_s, is_simulated), of = found[0], {"run": run_id}
        # The nodes of a simulated run are those in its samples; those of a live run are the ones that exist now.
        there = "SELECT node, cluster FROM node_sample WHERE run_id = %(run)s" if is_simulated else "SELECT name, cluster FROM node"
        nodes = self._database.rows(
            f"""
            SELECT DISTINCT node, cluster FROM (
                SELECT node, target_cluster AS cluster FROM request WHERE run_id = %(run)s AND node IS NOT NULL
                UNION {there}) n ORDER BY cluster, node
            """,
            of,
        )
        there = "SELECT cluster FROM node_sample WHERE run_id = %(run)s" if is_simulated else "SELECT name FROM cluster"
        clusters = self._database.rows(f"SELECT DISTINCT cluster FROM request WHERE run_id = %(run)s UNION {there} ORDER BY 1", of)
        services = self._database.rows("SELECT DISTINCT service FROM request WHERE run_id = %(run)s ORDER BY 1", of)
        cluster_names = tuple(row[0] for row in clusters) + tuple(
            sorted({cluster for _, cluster in nodes} - {row[0] for row in clusters})
        )
        return _Names(
            zero_s=zero_s,
            is_simulated=is_simulated,
            clusters=cluster_names,
            nodes=tuple(NodeKey(cluster, node) for node, cluster in nodes),
            services=tuple(row[0] for row in services),
        )

    def _table(self, query: str, parameters: tuple[Any, ...]) -> pa.Table:
        def copy(cursor: Cursor) -> bytes:
            buffer = io.BytesIO()
            statement = cursor.mogrify(query, parameters).decode()
            cursor.copy_expert(f"COPY ({statement}) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)", buffer)
            return buffer.getvalue()

        data = self._database.run(copy)
        # With FORCE_QUOTE an empty text is quoted and NULL is not, which is how Arrow can tell them apart.
        convert = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""])
        return pyarrow.csv.read_csv(io.BytesIO(data), convert_options=convert)


def _extended(texts: list[str | None], known: NDArray[np.bool_]) -> dict[str, Any]:
    """The extended resources of `NodeSamples` from the JSON of its rows."""
    found = [json.loads(text) if text else {} for text, kept in zip(texts, known.tolist(), strict=True) if kept]
    names = tuple(sorted({name for of_node in found for name in of_node}))

    def figures(part: str) -> NDArray[np.float64]:
        return np.array([[of_node.get(name, {}).get(part, 0) for of_node in found] for name in names], np.float64)

    shape = len(names), len(found)
    return {
        "extended": names,
        "extended_allocatable": figures("allocatable").reshape(shape),
        "extended_held": figures("held").reshape(shape),
    }


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy(), np.float64).copy()


def _codes(column: pa.ChunkedArray, names: tuple[str, ...]) -> NDArray[np.int32]:
    """Index of each value in `names`, shape (n,); -1 for NULL and unknown values."""
    if pa.types.is_null(column.type) or not len(column):
        return np.full(len(column), -1, np.int32)
    found = pc.index_in(column.cast(pa.string()), value_set=pa.array(names, pa.string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(), np.int32).copy()
