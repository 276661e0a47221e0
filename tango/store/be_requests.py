"""Best-effort requests from released to running."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from tango.domain.plans import BePlan
from tango.domain.requests import BePending, Reason
from tango.domain.runs import DecisionRecord, PendingBatch, Placement
from tango.domain.snapshot import FleetSnapshot
from tango.errors import Fenced
from tango.ports import Fence
from tango.store.database import Cursor, Database
from tango.store.events import insert_decision
from tango.store.releases import ACTIVE_RUNS
from tango.store.services import service_of


class BeRequests:
    """Admission and placement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def admit_be(self, run_id: int, request_ids: Sequence[int], *, nodes: Sequence[tuple[int, int]]) -> int:
        """released → pending, or failed where CPU request and memory fit none of these nodes together."""
        rows = self._database.rows(
            """
            UPDATE request r SET (state, reason) = (
                SELECT (CASE WHEN bool_or(fits) THEN 'pending' ELSE 'failed' END)::request_state,
                       CASE WHEN bool_or(fits) THEN '' ELSE %(reason)s END
                FROM (SELECT (s.spec->>'cpu_request_millicores')::int <= n.cpu AND r.memory_mib <= n.memory AS fits
                      FROM unnest(%(cpu)s::int[], %(memory)s::int[]) AS n(cpu, memory)) AS judged)
            FROM service s
            WHERE r.run_id = %(run)s AND r.request_id = ANY (%(ids)s) AND r.state = 'released' AND r.class = 'be'
              AND s.name = r.service
            RETURNING r.state = 'pending'
            """,
            {
                "run": run_id,
                "ids": list(request_ids),
                "cpu": [cpu for cpu, _ in nodes],
                "memory": [memory for _, memory in nodes],
                "reason": str(Reason.DOES_NOT_FIT),
            },
        )
        return sum(admitted for (admitted,) in rows)

    def pending_be(self, *, limit: int) -> PendingBatch:
        """The oldest pending requests of active runs, with what their pods will ask for."""
        rows = self._database.rows(
            f"""
            SELECT q.run_id, q.request_id, q.service, q.cluster, q.cpu_work_s, q.memory_mib, q.epoch,
                   extract(epoch FROM now() - r.started_at)::float8 - q.due_s
            FROM request q JOIN run r USING (run_id)
            WHERE q.run_id = ANY ({ACTIVE_RUNS}) AND q.state = 'pending' ORDER BY q.due_s, q.run_id, q.request_id LIMIT %s
            """,
            (limit,),
        )
        declared = {}
        if rows:
            found = self._database.rows("SELECT spec FROM service WHERE name = ANY (%s)", (list({row[2] for row in rows}),))
            declared = {s.name: s for s in (service_of(spec) for (spec,) in found)}
        rows = [row for row in rows if row[2] in declared]
        services, clusters = tuple(sorted(declared)), tuple(sorted({row[3] for row in rows}))
        service_row, cluster_row = {n: k for k, n in enumerate(services)}, {n: k for k, n in enumerate(clusters)}
        pending = BePending(
            run_id=np.array([row[0] for row in rows], np.int64),
            request_id=np.array([row[1] for row in rows], np.int64),
            service=np.array([service_row[row[2]] for row in rows], np.int32),
            entry_cluster=np.array([cluster_row[row[3]] for row in rows], np.int32),
            waited_s=np.array([row[7] or 0.0 for row in rows], np.float64),
            cpu_work_s=np.array([row[4] for row in rows], np.float64),
            cpu_request_millicores=np.array([declared[row[2]].cpu_request_millicores for row in rows], np.float64),
            cpu_limit_millicores=np.array([declared[row[2]].cpu_limit_millicores for row in rows], np.float64),
            memory_mib=np.ceil(np.array([row[5] for row in rows], np.float64)),
            epoch=np.array([row[6] for row in rows], np.int32),
        )
        return PendingBatch(pending=pending, services=services, clusters=clusters)

    def record_placement(
        self,
        batch: PendingBatch,
        plan: BePlan,
        snapshot: FleetSnapshot,
        decision: DecisionRecord,
        *,
        fence: Fence,
        lease_s: float,
    ) -> list[Placement]:
        """pending → placed with epoch + 1, under the scheduler's fence, in the transaction that writes the decision."""
        p = batch.pending
        by_run: dict[int, list[int]] = defaultdict(list)
        for k in np.flatnonzero(plan.node >= 0):
            by_run[int(p.run_id[k])].append(int(k))

        def record(cursor: Cursor) -> list[Placement]:
            cursor.execute(
                "SELECT FROM lease WHERE name = %s AND owner = %s AND epoch = %s AND expires_at > now() FOR SHARE",
                (fence.name, fence.owner, fence.epoch),
            )
            if cursor.rowcount == 0:
                raise Fenced(f"the lease {fence.name} has moved on from {fence.owner}, epoch {fence.epoch}")
            placed: list[Placement] = []
            for run_id, chosen in by_run.items():
                cursor.execute(
                    """
                    UPDATE request r SET state = 'placed', epoch = r.epoch + 1, attempt = r.attempt + 1, node = v.node,
                        target_cluster = v.cluster, lease_until = now() + %(lease)s * interval '1 s',
                        pod = 'be-r' || r.run_id || '-' || r.request_id || '-e' || (r.epoch + 1), started_s = NULL
                    FROM unnest(%(rows)s::int[], %(ids)s::int[], %(epochs)s::int[], %(nodes)s::text[], %(clusters)s::text[])
                        AS v(k, request_id, epoch, node, cluster)
                    WHERE r.run_id = %(run)s AND r.request_id = v.request_id AND r.epoch = v.epoch AND r.state = 'pending'
                    RETURNING v.k, r.epoch, r.pod
                    """,
                    {
                        "run": run_id,
                        "lease": lease_s,
                        "rows": chosen,
                        "ids": p.request_id[chosen].tolist(),
                        "epochs": p.epoch[chosen].tolist(),
                        "nodes": [snapshot.nodes[n] for n in plan.node[chosen]],
                        "clusters": [snapshot.clusters[snapshot.node_cluster[n]] for n in plan.node[chosen]],
                    },
                )
                for k, epoch, pod in cursor.fetchall():
                    placed.append(
                        Placement(
                            run_id=run_id,
                            request_id=int(p.request_id[k]),
                            epoch=epoch,
                            cluster=snapshot.clusters[snapshot.node_cluster[plan.node[k]]],
                            node=snapshot.nodes[plan.node[k]],
                            service=batch.services[p.service[k]],
                            pod=pod,
                            cpu_work_s=float(p.cpu_work_s[k]),
                            cpu_request_millicores=int(p.cpu_request_millicores[k]),
                            cpu_limit_millicores=int(p.cpu_limit_millicores[k]),
                            memory_mib=int(p.memory_mib[k]),
                        )
                    )
            insert_decision(cursor, dataclasses.replace(decision, placed=len(placed)), sorted({int(r) for r in p.run_id}))
            return placed

        return self._database.run(record)

    def mark_running(self, placements: Iterable[tuple[int, int, int, float]], *, lease_s: float) -> int:
        """placed → running as the agent saw it; renews what runs already."""
        by_run: dict[int, list[tuple[int, int, float]]] = defaultdict(list)
        for run_id, request_id, epoch, started_at_s in placements:
            by_run[run_id].append((request_id, epoch, started_at_s))

        def mark(cursor: Cursor) -> int:
            counted = 0
            for run_id in sorted(by_run):
                seen = sorted(by_run[run_id])
                cursor.execute(
                    """
                    UPDATE request q SET state = 'running', lease_until = now() + %s * interval '1 s',
                        started_s = coalesce(q.started_s, v.started_at - extract(epoch FROM r.started_at)::float8)
                    FROM unnest(%s::int[], %s::int[], %s::float8[]) AS v(request_id, epoch, started_at), run r
                    WHERE q.run_id = %s AND r.run_id = q.run_id AND q.request_id = v.request_id AND q.epoch = v.epoch
                      AND q.state IN ('placed', 'running')
                    """,
                    (lease_s, [s[0] for s in seen], [s[1] for s in seen], [s[2] for s in seen], run_id),
                )
                counted += cursor.rowcount
            return counted

        return self._database.run(mark)
