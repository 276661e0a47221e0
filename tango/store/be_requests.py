"""Best-effort (BE) requests from released to running: admission, what is pending, placement and the start of pods."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tango.domain.identity import parts_of_pod
from tango.domain.jobs import JobPod
from tango.domain.lifecycle import Event
from tango.domain.plans import BePlan
from tango.domain.requests import Reason
from tango.domain.runs import DecisionRecord, PendingRequests, Placement, RunKind
from tango.domain.services import service_of
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import pending_columns
from tango.errors import Fenced
from tango.ports.leases import Fence
from tango.settings import JobSettings, LeaseSettings, StoreSettings
from tango.store.database import Cursor, Database
from tango.store.events import NEXT_DECISION, insert_decision
from tango.store.lifecycle_sql import OPEN_RUNS, RUN_IS_OPEN, RUN_S, after, can, chunks, state_after
from tango.store.rows import columns_of
from tango.telemetry.cycles import count_cycle

MOST_LOOKED_AT = 8
"""Times the limit of a placement that are read for it in all where there are many tenants; each has its part of that. The first requests of
each are read, since only shares tell how many of whose come first. As many as priority of one tenant's jobs looks at."""

_ADMIT = f"""
WITH locked AS (
    SELECT r.request_id, CASE WHEN r.memory_mib <= s.most_mib THEN '{Event.ADMIT}' ELSE '{Event.REFUSE}' END AS event
    FROM request r JOIN unnest(%(services)s::text[], %(most_mib)s::float8[]) AS s(name, most_mib) ON s.name = r.service
    WHERE r.run_id = %(run)s AND r.request_id = ANY (%(ids)s) AND {can("r", Event.ADMIT, Event.REFUSE, is_named=True)}
      AND {RUN_IS_OPEN}
    ORDER BY r.request_id FOR NO KEY UPDATE OF r
)
UPDATE request r SET
    state = {state_after("v.event", "r.class", Event.ADMIT, Event.REFUSE)},
    reason = CASE WHEN v.event = '{Event.REFUSE}' THEN '{Reason.DOES_NOT_FIT}' ELSE r.reason END
FROM locked v
WHERE r.run_id = %(run)s AND r.request_id = v.request_id
RETURNING v.event
"""
_PENDING_COLUMNS = {
    "run_id": "q.run_id",
    "request_id": "q.request_id",
    "service": "q.service",
    "cluster": "q.cluster",
    "cpu_work_s": "q.cpu_work_s",
    "memory_mib": "q.memory_mib",
    "epoch": "q.epoch",
    "waited_s": "coalesce(extract(epoch FROM now() - q.started_at)::float8 - q.due_s, 0)",
    "due_s": "q.due_s",
    "tenant": "q.tenant",
}
# Of each run its oldest, by the index of its partition; then the first of every run, the second of every run, and so on. Jobs of one tenant
# change places among themselves, by priority and age: each tenant keeps the places that its jobs have by their age.
_PENDING = f"""
WITH seen AS (
    SELECT q.*, r.started_at, row_number() OVER (PARTITION BY q.run_id, q.tenant ORDER BY q.turn) AS place,
           row_number() OVER (PARTITION BY q.run_id, q.tenant ORDER BY q.due_s - q.ahead_s, q.turn) AS wanted_place
    FROM run r LEFT JOIN unnest(%(runs)s::int[], %(due)s::float8[], %(ids)s::int[]) AS b(run_id, due_s, request_id)
        ON b.run_id = r.run_id
    CROSS JOIN LATERAL (
        SELECT q.run_id, q.request_id, q.service, q.cluster, q.cpu_work_s, q.memory_mib, q.epoch, q.due_s,
               coalesce(q.tenant, r.tenant) AS tenant, row_number() OVER (ORDER BY q.due_s, q.request_id) AS turn,
               -- Row by row, by the primary key: a join would read all jobs that there ever were.
               CASE WHEN r.kind <> '{RunKind.LIVE}' THEN 0 ELSE coalesce(%(priority_s)s * (
                   SELECT j.priority FROM job j WHERE j.run_id = q.run_id AND j.request_id = q.request_id), 0) END AS ahead_s
        FROM request q WHERE q.run_id = r.run_id AND {can("q", Event.PLACE)}
          AND (q.due_s, q.request_id) > (coalesce(b.due_s, '-infinity'), coalesce(b.request_id, -1)) ORDER BY q.due_s, q.request_id
        LIMIT CASE WHEN r.kind = '{RunKind.LIVE}' THEN %(ahead)s ELSE %(limit)s END
    ) q
    WHERE r.run_id = ANY ({OPEN_RUNS})
)
SELECT {", ".join(_PENDING_COLUMNS.values())}
FROM seen q JOIN seen p ON p.run_id = q.run_id AND p.tenant = q.tenant AND p.place = q.wanted_place
ORDER BY p.turn, q.started_at + p.due_s * interval '1 s', q.run_id LIMIT %(limit)s
"""
_WAITING_NAMED = f"{can('q', Event.PLACE)} AND q.tenant IS NOT NULL"
"""As the index `request_tenant` has it."""
_NEXT_TENANT = f"""
SELECT q.tenant FROM request q WHERE q.run_id = {{of}}.run_id AND {_WAITING_NAMED} {{after}} ORDER BY q.tenant LIMIT 1
"""
# Streams: the requests of one tenant in one run. A run whose requests name no tenants is one, waiting or not. Where they do, in a live run
# and in one of a trace of several tenants, whose requests all name theirs, the tenants of which something waits are found one after the
# other by the index, past any number of requests.
_STREAMS = f"""
WITH RECURSIVE open AS MATERIALIZED (
    SELECT r.run_id, r.tenant, r.kind = '{RunKind.LIVE}' OR EXISTS (
        SELECT FROM request q WHERE q.run_id = r.run_id AND q.request_id = 0 AND q.tenant IS NOT NULL) AS is_named
    FROM run r WHERE r.run_id = ANY ({OPEN_RUNS})
), of_named AS (
    SELECT o.run_id, ({_NEXT_TENANT.format(of="o", after="")}) AS tenant FROM open o WHERE o.is_named
    UNION ALL
    SELECT l.run_id, ({_NEXT_TENANT.format(of="l", after="AND q.tenant > l.tenant")}) FROM of_named l WHERE l.tenant IS NOT NULL
)
SELECT run_id, false, tenant FROM open WHERE NOT is_named
UNION ALL SELECT run_id, true, tenant FROM of_named WHERE tenant IS NOT NULL
"""
_OF_STREAM = """
SELECT q.run_id, q.request_id, q.service, q.cluster, q.cpu_work_s, q.memory_mib, q.epoch, q.due_s,
       row_number() OVER (ORDER BY q.due_s, q.request_id) AS turn, {ahead_s} AS ahead_s
FROM request q WHERE q.run_id = s.run_id AND {of_stream} AND {pending}
  AND (q.due_s, q.request_id) > (coalesce(b.due_s, '-infinity'), coalesce(b.request_id, -1)) ORDER BY q.due_s, q.request_id
LIMIT {most}
"""
# The same as `_PENDING` by streams in place of runs, and so many of each tenant.
_PENDING_OF_TENANTS = f"""
WITH seen AS (
    SELECT q.*, s.tenant, r.started_at, row_number() OVER (PARTITION BY s.run_id, s.tenant ORDER BY q.turn) AS place,
           row_number() OVER (PARTITION BY s.run_id, s.tenant ORDER BY q.due_s - q.ahead_s, q.turn) AS wanted_place
    FROM unnest(%(stream_runs)s::int[], %(stream_named)s::bool[], %(stream_tenants)s::text[]) AS s(run_id, is_named, tenant)
    JOIN run r USING (run_id)
    LEFT JOIN unnest(%(runs)s::int[], %(tenants)s::text[], %(due)s::float8[], %(ids)s::int[]) AS b(run_id, tenant, due_s, request_id)
        ON b.run_id = s.run_id AND b.tenant = s.tenant
    CROSS JOIN LATERAL (
        ({_OF_STREAM.format(ahead_s="0::float8", of_stream="NOT s.is_named", pending=can("q", Event.PLACE), most="%(of_each)s")})
        UNION ALL
        ({
    _OF_STREAM.format(
        ahead_s="coalesce(%(priority_s)s * (SELECT j.priority FROM job j WHERE j.run_id = q.run_id AND j.request_id = q.request_id), 0)",
        of_stream="s.is_named AND q.tenant = s.tenant",
        pending=_WAITING_NAMED,
        most="%(ahead)s",
    )
})
    ) q
    WHERE r.run_id = ANY ({OPEN_RUNS})
), ordered AS (
    SELECT q.*, p.turn AS of_turn, q.started_at + p.due_s * interval '1 s' AS due_at,
           row_number() OVER (PARTITION BY q.tenant ORDER BY p.turn, q.started_at + p.due_s * interval '1 s', q.run_id) AS of_tenant
    FROM seen q JOIN seen p ON p.run_id = q.run_id AND p.tenant = q.tenant AND p.place = q.wanted_place
)
SELECT {", ".join(_PENDING_COLUMNS.values())}
FROM ordered q WHERE q.of_tenant <= %(of_each)s ORDER BY q.of_turn, q.due_at, q.run_id
"""
_PLACE = f"""
WITH elsewhere AS MATERIALIZED (
    SELECT name, spec ->> 'namespace' || '/' AS at FROM service WHERE spec ->> 'namespace' <> ''
),
locked AS (
    SELECT r.request_id, v.k, v.node, v.cluster
    FROM request r
    JOIN unnest(%(rows)s::int[], %(ids)s::int[], %(epochs)s::int[], %(nodes)s::text[], %(clusters)s::text[])
        AS v(k, request_id, epoch, node, cluster) USING (request_id)
    WHERE r.run_id = %(run)s AND r.epoch = v.epoch AND {can("r", Event.PLACE, is_named=True)} AND {RUN_IS_OPEN}
    ORDER BY r.request_id FOR NO KEY UPDATE OF r
)
UPDATE request r SET state = {after(Event.PLACE)}, epoch = r.epoch + 1, attempt = r.attempt + 1, node = v.node,
    target_cluster = v.cluster, lease_until = now() + %(lease)s * interval '1 s',
    dispatched_s = {RUN_S}, decision_id = %(decision)s,
    pod = coalesce((SELECT e.at FROM elsewhere e WHERE e.name = r.service), '') ||
        'be-r' || r.run_id || '-' || r.request_id || '-e' || (r.epoch + 1), started_s = NULL
FROM locked v LEFT JOIN job j ON j.run_id = %(run)s AND j.request_id = v.request_id
WHERE r.run_id = %(run)s AND r.request_id = v.request_id
RETURNING v.k, r.epoch, r.pod, r.attempt, j.run_id IS NOT NULL, j.command, j.args, j.env, j.deadline_s, j.by_local_user
"""
# A cluster that is taken for lost is left out: nobody can reach it, and its requests go on without it.
_OLDER = """
SELECT DISTINCT a.request_id, a.cluster, CASE WHEN a.pod LIKE '%%/%%' THEN split_part(a.pod, '/', 1) ELSE '' END
FROM attempt a JOIN cluster c ON c.name = a.cluster
WHERE a.run_id = %(run)s AND a.request_id = ANY (%(ids)s) AND c.seen_at > now() - %(away)s * interval '1 s'
ORDER BY 1, 2, 3
"""
_RUN = f"""
WITH locked AS (
    SELECT q.request_id, v.started_at
    FROM request q JOIN unnest(%(ids)s::int[], %(epochs)s::int[], %(starts)s::float8[]) AS v(request_id, epoch, started_at)
        USING (request_id)
    WHERE q.run_id = %(run)s AND q.epoch = v.epoch AND {can("q", Event.RUN, is_named=True)}
    ORDER BY q.request_id FOR NO KEY UPDATE OF q
)
UPDATE request q SET state = {after(Event.RUN)}, lease_until = now() + %(lease)s * interval '1 s',
    started_s = coalesce(q.started_s, v.started_at - extract(epoch FROM r.started_at)::float8)
FROM locked v, run r
WHERE q.run_id = %(run)s AND r.run_id = q.run_id AND q.request_id = v.request_id
"""


ONE_TENANT_S = 1.0
"""Seconds: five placements."""


class BeRequests:
    """The part of the request store that BE admission and placement use."""

    _lease: LeaseSettings
    _one_tenant_until_s = -math.inf
    """Until when it need not be asked whether there is more than one tenant, on the monotonic clock."""

    def __init__(self, database: Database, store: StoreSettings, job: JobSettings) -> None:
        self._database = database
        self._chunk_rows = store.chunk_rows
        self._job = job

    def admit_be(self, run_id: int, request_ids: Sequence[int], *, most_memory_mib: Mapping[str, float]) -> int:
        """released → pending, or failed for more memory than its service's pods can have anywhere; a transaction a chunk."""
        sizes = {"services": list(most_memory_mib), "most_mib": list(most_memory_mib.values())}
        return sum(
            event == Event.ADMIT
            for chunk in chunks(sorted(request_ids), self._chunk_rows)
            for (event,) in self._database.rows(_ADMIT, {"run": run_id, "ids": chunk, **sizes})
        )

    def pending_be(self, *, limit: int, behind: Mapping[tuple[int, str], tuple[float, int]] | None = None) -> PendingRequests:
        """The oldest pending requests of each run and tenant in turn, with what their pods will ask for."""
        behind = behind or {}
        streams = self._streams()
        count = len({tenant for _, _, tenant in streams})
        of_each = max(1, min(limit, MOST_LOOKED_AT * limit // max(1, count)))
        ahead = max(of_each, self._job.look_ahead // max(1, count))
        values: dict[str, Any] = {
            "limit": limit,
            "of_each": of_each,
            "ahead": ahead,
            "priority_s": self._job.priority_s,
            "runs": [run_id for run_id, _ in behind],
            "tenants": [tenant for _, tenant in behind],
            "due": [due for due, _ in behind.values()],
            "ids": [k for _, k in behind.values()],
            "stream_runs": [run_id for run_id, _, _ in streams],
            "stream_named": [is_named for _, is_named, _ in streams],
            "stream_tenants": [tenant for _, _, tenant in streams],
        }
        rows = self._database.rows(_PENDING if count < 2 else _PENDING_OF_TENANTS, values)
        read = columns_of(_PENDING_COLUMNS, rows)
        reached: dict[tuple[int, str], tuple[float, int]] = {}
        for run_id, tenant, due_s, request_id in zip(
            read["run_id"], read["tenant"], read["due_s"], read["request_id"], strict=True
        ):
            reached[run_id, tenant] = max(reached.get((run_id, tenant), (-math.inf, -1)), (due_s, request_id))
        declared = {}
        if rows:
            found = self._database.rows("SELECT spec FROM service WHERE name = ANY (%s)", (list(set(read["service"])),))
            declared = {s.name: s for s in (service_of(spec) for (spec,) in found)}
        of = columns_of(_PENDING_COLUMNS, [row for row, name in zip(rows, read["service"], strict=True) if name in declared])
        services, clusters = tuple(sorted(declared)), tuple(sorted(set(of["cluster"])))
        service_row, cluster_row = {n: k for k, n in enumerate(services)}, {n: k for k, n in enumerate(clusters)}
        pending = pending_columns(
            [declared[name] for name in services],
            run_id=np.array(of["run_id"], np.int64),
            request_id=np.array(of["request_id"], np.int64),
            service=np.array([service_row[name] for name in of["service"]], np.int32),
            entry_cluster=np.array([cluster_row[name] for name in of["cluster"]], np.int32),
            waited_s=np.array(of["waited_s"], np.float64),
            cpu_work_s=np.array(of["cpu_work_s"], np.float64),
            memory_mib=np.array(of["memory_mib"], np.float64),
            epoch=np.array(of["epoch"], np.int32),
        )
        tenants = tuple(sorted(set(of["tenant"])))
        tenant_row = {name: k for k, name in enumerate(tenants)}
        return PendingRequests(
            pending=pending,
            services=services,
            clusters=clusters,
            reached=reached,
            tenants=tenants,
            tenant=np.array([tenant_row[name] for name in of["tenant"]], np.int32),
            due_s=np.array(of["due_s"], np.float64),
        )

    def _streams(self) -> list[tuple[int, bool, str]]:
        """(run, whether its requests name their tenants, tenant) of what may wait. That there is one tenant is asked once
        in `ONE_TENANT_S`: asking is not to be seen beside a placement, and a second tenant is seen that much later."""
        if time.monotonic() < self._one_tenant_until_s:
            return []
        streams: list[tuple[int, bool, str]] = self._database.rows(_STREAMS)
        if len({tenant for _, _, tenant in streams}) < 2:
            self._one_tenant_until_s = time.monotonic() + ONE_TENANT_S
        return streams

    def record_placement(
        self,
        batch: PendingRequests,
        plan: BePlan,
        snapshot: FleetSnapshot,
        decision: DecisionRecord,
        *,
        fence: Fence,
        lease_s: float,
    ) -> list[Placement]:
        """pending → placed with epoch + 1, under the scheduler's fence, in the transaction that writes the decision.

        As large as the batch that was read (`BeSettings.batch_limit`).
        """
        p = batch.pending
        by_run: dict[int, list[int]] = defaultdict(list)
        for k in np.flatnonzero(plan.node >= 0):
            by_run[int(p.run_id[k])].append(int(k))

        def record(cursor: Cursor) -> list[Placement]:
            cursor.execute(
                f"SELECT {NEXT_DECISION} FROM lease WHERE name = %s AND owner = %s AND epoch = %s AND expires_at > now() FOR SHARE",
                (fence.name, fence.owner, fence.epoch),
            )
            held = cursor.fetchone()
            if held is None:
                raise Fenced(f"the lease {fence.name} has moved on from {fence.owner}, epoch {fence.epoch}")
            (decision_id,) = held
            placed: list[Placement] = []
            for run_id in sorted(by_run):
                chosen = by_run[run_id]
                cursor.execute(
                    _PLACE,
                    {
                        "run": run_id,
                        "lease": lease_s,
                        "decision": decision_id,
                        "rows": chosen,
                        "ids": p.request_id[chosen].tolist(),
                        "epochs": p.epoch[chosen].tolist(),
                        "nodes": [snapshot.nodes[n] for n in plan.node[chosen]],
                        "clusters": [snapshot.clusters[snapshot.node_cluster[n]] for n in plan.node[chosen]],
                    },
                )
                found = cursor.fetchall()
                older: dict[int, list[tuple[str, str]]] = defaultdict(list)
                if again := [int(p.request_id[k]) for k, epoch, *_ in found if epoch > 1]:
                    cursor.execute(_OLDER, {"run": run_id, "ids": again, "away": self._lease.away_s})
                    for request_id, *where in cursor.fetchall():
                        older[request_id].append((where[0], where[1]))
                for k, epoch, pod, attempt, is_job, *own in found:
                    cluster, namespace = snapshot.clusters[snapshot.node_cluster[plan.node[k]]], parts_of_pod(pod)[0]
                    placed.append(
                        Placement(
                            run_id=run_id,
                            request_id=int(p.request_id[k]),
                            epoch=epoch,
                            cluster=cluster,
                            node=snapshot.nodes[plan.node[k]],
                            service=batch.services[p.service[k]],
                            pod=pod,
                            cpu_work_s=float(p.cpu_work_s[k]),
                            cpu_request_millicores=int(p.cpu_request_millicores[k]),
                            cpu_limit_millicores=int(p.cpu_limit_millicores[k]),
                            memory_mib=int(p.memory_mib[k]),
                            extended=snapshot.resources.extended_of(p.requests[:, k]),
                            job=_job_pod(attempt, *own) if is_job else None,
                            older=tuple(at for at in older.get(int(p.request_id[k]), ()) if at != (cluster, namespace)),
                        )
                    )
            insert_decision(
                cursor, decision_id, dataclasses.replace(decision, placed=len(placed)), sorted({int(r) for r in p.run_id})
            )
            return placed

        begun_s = time.perf_counter()
        placed = self._database.run(record)
        count_cycle(
            decision.kind,
            snapshot_ms=decision.snapshot_ms,
            decide_ms=decision.decide_ms,
            apply_s=time.perf_counter() - begun_s,
            considered=decision.considered,
            placed=len(placed),
            shed=decision.shed,
        )
        return placed

    def mark_running(self, placements: Iterable[tuple[int, int, int, float]], *, lease_s: float) -> int:
        """placed → running as the agent saw it; renews what runs already. A transaction a chunk."""

        def mark(cursor: Cursor, chunk: Sequence[tuple[int, int, int, float]]) -> int:
            by_run: dict[int, list[tuple[int, int, float]]] = defaultdict(list)
            for run_id, request_id, epoch, started_at_s in chunk:
                by_run[run_id].append((request_id, epoch, started_at_s))
            counted = 0
            for run_id, seen in by_run.items():  # in order of runs, as the chunk is
                ids, epochs, starts = (list(column) for column in zip(*seen, strict=True))
                cursor.execute(_RUN, {"run": run_id, "lease": lease_s, "ids": ids, "epochs": epochs, "starts": starts})
                counted += cursor.rowcount
            return counted

        return sum(self._database.run(partial(mark, chunk=chunk)) for chunk in chunks(sorted(placements), self._chunk_rows))


def _job_pod(
    attempt: int,
    command: list[str] | None,
    args: list[str] | None,
    env: list[tuple[str, str]],
    deadline_s: float | None,
    by_local_user: bool,
) -> JobPod:
    return JobPod(
        attempt=attempt,
        command=None if command is None else tuple(command),
        args=None if args is None else tuple(args),
        env=tuple((name, value) for name, value in env),
        deadline_s=deadline_s,
        by_local_user=by_local_user,
    )
