"""Latency-critical requests from released to running."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from tango.domain.identity import NodeKey
from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals, LcWork, Reason
from tango.domain.runs import DecisionRecord
from tango.domain.snapshot import FleetSnapshot
from tango.ports import Dispatched, StartHere
from tango.store.database import Cursor, Database
from tango.store.events import insert_decision


class LcRequests:
    """Dispatch and claim."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def waiting_lc(self, run_id: int, request_ids: Sequence[int], snapshot: FleetSnapshot) -> LcArrivals:
        """Those still released, in order of due time; requests of a service or cluster the snapshot lacks are left out."""
        rows = self._database.rows(
            """
            SELECT request_id, service, cluster, due_s, coalesce(target_s, 1e9), cpu_work_s, memory_mib, epoch FROM request
            WHERE run_id = %s AND request_id = ANY (%s) AND state = 'released' AND class = 'lc' ORDER BY due_s
            """,
            (run_id, list(request_ids)),
        )
        services = {s.name: k for k, s in enumerate(snapshot.services)}
        clusters = {name: k for k, name in enumerate(snapshot.clusters)}
        rows = [row for row in rows if row[1] in services and row[2] in clusters]
        due_s = np.array([row[3] for row in rows], np.float64)
        return LcArrivals(
            request_id=np.array([row[0] for row in rows], np.int64),
            service=np.array([services[row[1]] for row in rows], np.int32),
            entry_cluster=np.array([clusters[row[2]] for row in rows], np.int32),
            due_s=due_s,
            deadline_s=due_s + np.array([row[4] for row in rows], np.float64),
            cpu_work_s=np.array([row[5] for row in rows], np.float64),
            memory_mib=np.array([row[6] for row in rows], np.float64),
            epoch=np.array([row[7] for row in rows], np.int32),
        )

    def record_dispatch(
        self,
        run_id: int,
        arrivals: LcArrivals,
        plan: LcPlan,
        snapshot: FleetSnapshot,
        decision: DecisionRecord,
        *,
        lease_s: float,
        here: StartHere | None = None,
    ) -> Dispatched:
        """released → dispatched or running with epoch + 1, or shed; rows with node -1 stay released and are published again later."""
        sent, shed = np.flatnonzero((plan.node >= 0) & ~plan.shed), np.flatnonzero(plan.shed)
        nodes = plan.node[sent]

        def record(cursor: Cursor) -> list[tuple[Any, ...]]:
            if len(shed):
                cursor.execute(
                    """
                    UPDATE request r SET state = 'shed', reason = %s FROM unnest(%s::int[], %s::int[]) AS v(request_id, epoch)
                    WHERE r.run_id = %s AND r.request_id = v.request_id AND r.epoch = v.epoch AND r.state = 'released'
                    """,
                    (
                        str(Reason.TARGET_UNREACHABLE),
                        arrivals.request_id[shed].tolist(),
                        arrivals.epoch[shed].tolist(),
                        run_id,
                    ),
                )
            cursor.execute(
                """
                UPDATE request r SET state = CASE WHEN v.here THEN 'running' ELSE 'dispatched' END::request_state,
                    epoch = r.epoch + 1, attempt = r.attempt + 1, node = v.node, target_cluster = v.cluster, late = v.late,
                    owner = CASE WHEN v.here THEN %(owner)s ELSE r.owner END,
                    lease_until = now() + CASE WHEN v.here THEN %(here_s)s ELSE %(lease)s END * interval '1 s'
                FROM unnest(%(rows)s::int[], %(ids)s::int[], %(epochs)s::int[], %(nodes)s::text[], %(clusters)s::text[],
                            %(late)s::bool[], %(here)s::bool[]) AS v(k, request_id, epoch, node, cluster, late, here)
                WHERE r.run_id = %(run)s AND r.request_id = v.request_id AND r.epoch = v.epoch AND r.state = 'released'
                RETURNING v.k, r.epoch, r.target_cluster, r.node, v.here
                """,
                {
                    "run": run_id,
                    "lease": lease_s,
                    "owner": here.owner if here else "",
                    "here_s": here.lease_s if here else 0.0,
                    "rows": sent.tolist(),
                    "ids": arrivals.request_id[sent].tolist(),
                    "epochs": arrivals.epoch[sent].tolist(),
                    "nodes": [snapshot.nodes[n] for n in nodes],
                    "clusters": [snapshot.clusters[snapshot.node_cluster[n]] for n in nodes],
                    "late": plan.late[sent].tolist(),
                    "here": here.rows[sent].tolist() if here else [False] * len(sent),
                },
            )
            won: list[tuple[Any, ...]] = cursor.fetchall()
            insert_decision(cursor, dataclasses.replace(decision, placed=len(won)), (run_id,))
            return won

        by_cluster: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        started = []
        for k, epoch, cluster, node, starts in self._database.run(record):
            if starts:
                started.append(_work(run_id, arrivals, k, epoch, NodeKey(cluster, node), snapshot))
            else:
                by_cluster[cluster][0].append(int(arrivals.request_id[k]))
                by_cluster[cluster][1].append(epoch)
        return Dispatched(
            by_cluster={c: (tuple(ids), tuple(epochs)) for c, (ids, epochs) in by_cluster.items()}, started=tuple(started)
        )

    def claim_execution(
        self, run_id: int, cluster: str, request_ids: Sequence[int], epochs: Sequence[int], *, owner: str, lease_s: float
    ) -> list[LcWork]:
        """dispatched → running for one worker."""
        rows = self._database.rows(
            """
            UPDATE request r SET state = 'running', owner = %(owner)s, lease_until = now() + %(lease)s * interval '1 s'
            FROM unnest(%(ids)s::int[], %(epochs)s::int[]) AS v(request_id, epoch)
            WHERE r.run_id = %(run)s AND r.request_id = v.request_id AND r.epoch = v.epoch AND r.state = 'dispatched'
              AND r.target_cluster = %(cluster)s
            RETURNING r.request_id, r.epoch, r.service, r.cluster, r.node, r.due_s, r.due_s + coalesce(r.target_s, 1e9),
                      r.cpu_work_s, r.memory_mib
            """,
            {
                "run": run_id,
                "cluster": cluster,
                "ids": list(request_ids),
                "epochs": list(epochs),
                "owner": owner,
                "lease": lease_s,
            },
        )
        return [
            LcWork(
                run_id=run_id,
                request_id=request_id,
                epoch=epoch,
                service=service,
                entry_cluster=entry,
                node=NodeKey(cluster, node),
                due_s=due_s,
                deadline_s=deadline_s,
                cpu_work_s=work_s,
                memory_mib=memory_mib,
            )
            for request_id, epoch, service, entry, node, due_s, deadline_s, work_s, memory_mib in rows
        ]


def _work(run_id: int, arrivals: LcArrivals, k: int, epoch: int, node: NodeKey, snapshot: FleetSnapshot) -> LcWork:
    return LcWork(
        run_id=run_id,
        request_id=int(arrivals.request_id[k]),
        epoch=epoch,
        service=snapshot.services[arrivals.service[k]].name,
        entry_cluster=snapshot.clusters[arrivals.entry_cluster[k]],
        node=node,
        due_s=float(arrivals.due_s[k]),
        deadline_s=float(arrivals.deadline_s[k]),
        cpu_work_s=float(arrivals.cpu_work_s[k]),
        memory_mib=float(arrivals.memory_mib[k]),
    )
