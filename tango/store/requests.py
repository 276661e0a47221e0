"""The states of requests: implements `tango.ports.RequestStore`.

Every method is one claimed `UPDATE … WHERE state IN (…)` per run (so that PostgreSQL touches one partition), arrays in and arrays
out. An epoch is raised when a row is given to a cluster (dispatch or placement); whatever comes back carries that epoch and counts
only while the row is still live under it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import Batch, BePending, LcArrivals, LcWork, Outcome, Reason, RequestState
from tango.domain.runs import DecisionRecord, PendingBatch, Placement
from tango.domain.services import ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.errors import Fenced
from tango.ports import Dispatched, Fence, Released
from tango.settings import LeaseSettings
from tango.store.database import Cursor, Database
from tango.store.events import insert_decision
from tango.store.fleet import service_of

_ACTIVE = "ARRAY(SELECT run_id FROM run WHERE status NOT IN ('completed', 'cancelled'))"

# Ends attempts and writes one `attempt` row each. `v` gives what ended; the row must be live under the same epoch.
_SETTLE = """
WITH v AS (
    SELECT * FROM unnest(%(ids)s::int[], %(epochs)s::int[], %(states)s::text[], %(reasons)s::text[],
                         %(starts)s::float8[], %(ends)s::float8[], %(lost)s::float8[])
        AS v(request_id, epoch, state, reason, started_s, finished_s, work_lost_s)
), ended AS (
    UPDATE request r SET
        state = CASE WHEN v.state IN ('released', 'pending') AND r.attempt >= %(max)s THEN 'failed' ELSE v.state END::request_state,
        reason = CASE WHEN v.state IN ('released', 'pending') AND r.attempt >= %(max)s
                      THEN 'attempts-exhausted: ' || v.reason ELSE v.reason END,
        started_s = CASE WHEN v.state = 'succeeded' THEN coalesce(v.started_s, r.started_s) ELSE r.started_s END,
        finished_s = CASE WHEN v.state = 'succeeded' THEN v.finished_s END,
        released_at = CASE WHEN v.state = 'released' THEN now() ELSE r.released_at END,
        lease_until = NULL
    FROM v
    WHERE r.run_id = %(run)s AND r.request_id = v.request_id AND r.epoch = v.epoch
      AND r.state IN ('dispatched', 'placed', 'running')
    RETURNING r.request_id, r.epoch, r.class, r.service, r.target_cluster, r.node, r.pod,
              coalesce(v.started_s, r.started_s) AS started_s, v.finished_s, r.due_s,
              CASE WHEN v.state IN ('released', 'pending') THEN 'requeued' ELSE v.state END AS outcome, v.reason, v.work_lost_s
)
INSERT INTO attempt (run_id, request_id, epoch, class, service, cluster, node, pod, started_s, finished_s, latency_s, outcome,
                     reason, work_lost_s)
SELECT %(run)s, request_id, epoch, class, service, target_cluster, node, pod, started_s, finished_s,
       CASE WHEN outcome = 'succeeded' THEN finished_s - due_s END, outcome, reason, work_lost_s
FROM ended
"""


class PostgresRequestStore:
    """Claims and settles requests in bulk."""

    def __init__(self, database: Database, lease: LeaseSettings) -> None:
        self._database = database
        self._lease = lease

    # ---- release -------------------------------------------------------------------------------------------------------

    def release_due(self, run_id: int, *, until_s: float, limit: int) -> Released:
        """accepted → released. Ids are in order of due time, so the run's `next_request` marks how far the release has come."""

        def release(cursor: Cursor) -> Released:
            cursor.execute("SELECT next_request, accepted FROM run WHERE run_id = %s FOR UPDATE", (run_id,))
            first, accepted = cursor.fetchone() or (0, 0)
            cursor.execute(
                """
                UPDATE request SET state = 'released', released_at = now()
                WHERE run_id = %s AND request_id >= %s AND request_id < %s AND due_s <= %s AND state = 'accepted'
                RETURNING request_id, class::text, service, cluster
                """,
                (run_id, first, first + limit, until_s),
            )
            rows = cursor.fetchall()
            if rows:
                first = max(row[0] for row in rows) + 1
                cursor.execute("UPDATE run SET next_request = %s WHERE run_id = %s", (first, run_id))
            if first >= accepted:
                return Released(batches=_batches([(run_id, *row) for row in rows]), next_due_s=None)
            cursor.execute("SELECT due_s, state FROM request WHERE run_id = %s AND request_id = %s", (run_id, first))
            due_s, state = cursor.fetchone() or (None, None)
            # A cancelled run leaves nothing to release.
            return Released(batches=_batches([(run_id, *row) for row in rows]), next_due_s=None if state == "cancelled" else due_s)

        return self._database.run(release)

    # ---- latency-critical ----------------------------------------------------------------------------------------------

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
        self, run_id: int, arrivals: LcArrivals, plan: LcPlan, snapshot: FleetSnapshot, *, lease_s: float
    ) -> Dispatched:
        """released → dispatched with epoch + 1, or shed; rows with node -1 stay released and are published again later."""
        sent, shed = np.flatnonzero(plan.node >= 0), np.flatnonzero(plan.shed)
        by_cluster: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))

        def record(cursor: Cursor) -> list[tuple[Any, ...]]:
            if len(shed):
                cursor.execute(
                    """
                    UPDATE request SET state = 'shed', reason = %s
                    WHERE run_id = %s AND request_id = ANY (%s) AND state = 'released'
                    """,
                    (str(Reason.TARGET_UNREACHABLE), run_id, arrivals.request_id[shed].tolist()),
                )
            nodes = plan.node[sent]
            cursor.execute(
                """
                UPDATE request r SET state = 'dispatched', epoch = r.epoch + 1, attempt = r.attempt + 1, node = v.node,
                    target_cluster = v.cluster, late = v.late, lease_until = now() + %(lease)s * interval '1 s'
                FROM unnest(%(ids)s::int[], %(epochs)s::int[], %(nodes)s::text[], %(clusters)s::text[], %(late)s::bool[])
                    AS v(request_id, epoch, node, cluster, late)
                WHERE r.run_id = %(run)s AND r.request_id = v.request_id AND r.epoch = v.epoch AND r.state = 'released'
                RETURNING r.target_cluster, r.request_id, r.epoch
                """,
                {
                    "run": run_id,
                    "lease": lease_s,
                    "ids": arrivals.request_id[sent].tolist(),
                    "epochs": arrivals.epoch[sent].tolist(),
                    "nodes": [snapshot.nodes[n] for n in nodes],
                    "clusters": [snapshot.clusters[snapshot.node_cluster[n]] for n in nodes],
                    "late": plan.late[sent].tolist(),
                },
            )
            won: list[tuple[Any, ...]] = cursor.fetchall()
            return won

        for cluster, request_id, epoch in self._database.run(record):
            by_cluster[cluster][0].append(request_id)
            by_cluster[cluster][1].append(epoch)
        return Dispatched(by_cluster={c: (tuple(ids), tuple(epochs)) for c, (ids, epochs) in by_cluster.items()})

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
                node=node,
                due_s=due_s,
                deadline_s=deadline_s,
                cpu_work_s=work_s,
                memory_mib=memory_mib,
            )
            for request_id, epoch, service, entry, node, due_s, deadline_s, work_s, memory_mib in rows
        ]

    # ---- ends and leases -----------------------------------------------------------------------------------------------

    def renew(self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int], *, lease_s: float) -> int:
        """Extend live leases."""
        return self._database.execute(
            """
            UPDATE request r SET lease_until = now() + %s * interval '1 s'
            FROM unnest(%s::int[], %s::int[]) AS v(request_id, epoch)
            WHERE r.run_id = %s AND r.request_id = v.request_id AND r.epoch = v.epoch
              AND r.state IN ('dispatched', 'placed', 'running')
            """,
            (lease_s, list(request_ids), list(epochs), run_id),
        )

    def settle(self, outcomes: Sequence[Outcome]) -> int:
        """Ends of attempts, all runs in one transaction; each counts once."""
        by_run: dict[int, list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            by_run[outcome.run_id].append(outcome)

        def settle(cursor: Cursor) -> int:
            counted = 0
            for run_id in sorted(by_run):
                # One lock order for every settler of a run: two of them never wait for each other in a circle.
                ended = sorted(by_run[run_id], key=lambda o: o.request_id)
                cursor.execute(
                    _SETTLE,
                    {
                        "run": run_id,
                        "max": self._lease.max_attempts,
                        "ids": [o.request_id for o in ended],
                        "epochs": [o.epoch for o in ended],
                        "states": [str(o.state) for o in ended],
                        "reasons": [str(o.reason) for o in ended],
                        "starts": [o.started_s for o in ended],
                        "ends": [o.finished_s for o in ended],
                        "lost": [o.work_lost_s for o in ended],
                    },
                )
                counted += cursor.rowcount
            return counted

        return self._database.run(settle)

    def requeue_expired(self, *, limit: int) -> list[Batch]:
        """LC → released, BE → pending, where the lease ran out; skips rows that somebody is settling right now."""

        def requeue(cursor: Cursor) -> list[tuple[Any, ...]]:
            cursor.execute(
                f"""
                SELECT run_id, request_id, epoch, class::text, service, cluster FROM request
                WHERE run_id = ANY ({_ACTIVE}) AND state IN ('dispatched', 'placed', 'running') AND lease_until < now()
                ORDER BY run_id, request_id LIMIT %s FOR UPDATE SKIP LOCKED
                """,
                (limit,),
            )
            rows = cursor.fetchall()
            by_run: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
            for row in rows:
                by_run[row[0]].append(row)
            for run_id, expired in by_run.items():
                back = [str(RequestState.RELEASED if row[3] == "lc" else RequestState.PENDING) for row in expired]
                none = [None] * len(expired)
                parameters = {"run": run_id, "max": self._lease.max_attempts, "ids": [row[1] for row in expired]}
                parameters |= {"epochs": [row[2] for row in expired], "states": back, "starts": none, "ends": none}
                parameters |= {"reasons": [str(Reason.LEASE_EXPIRED)] * len(expired), "lost": [0.0] * len(expired)}
                cursor.execute(_SETTLE, parameters)
            return [(row[0], row[1], row[3], row[4], row[5]) for row in rows if row[3] == "lc"]

        return list(_batches(self._database.run(requeue)))

    def unclaimed(self, *, older_than_s: float, limit: int) -> list[Batch]:
        """Released for too long: publish again, and not before as much time has passed once more."""
        rows = self._database.rows(
            f"""
            UPDATE request r SET released_at = now()
            FROM (SELECT run_id, request_id FROM request
                  WHERE run_id = ANY ({_ACTIVE}) AND state = 'released' AND released_at < now() - %s * interval '1 s'
                  ORDER BY due_s LIMIT %s FOR UPDATE SKIP LOCKED) w
            WHERE r.run_id = w.run_id AND r.request_id = w.request_id AND r.run_id = ANY ({_ACTIVE})
            RETURNING r.run_id, r.request_id, r.class::text, r.service, r.cluster
            """,
            (older_than_s, limit),
        )
        return list(_batches(rows))

    # ---- best-effort ---------------------------------------------------------------------------------------------------

    def admit_be(self, run_id: int, request_ids: Sequence[int], *, largest_node: tuple[int, int]) -> int:
        """released → pending, or failed where neither CPU request nor memory fits the largest node."""
        rows = self._database.rows(
            """
            UPDATE request r SET
                state = (CASE WHEN (s.spec->>'cpu_request_millicores')::int <= %(cpu)s AND r.memory_mib <= %(memory)s
                              THEN 'pending' ELSE 'failed' END)::request_state,
                reason = CASE WHEN (s.spec->>'cpu_request_millicores')::int <= %(cpu)s AND r.memory_mib <= %(memory)s
                              THEN '' ELSE %(reason)s END
            FROM service s
            WHERE r.run_id = %(run)s AND r.request_id = ANY (%(ids)s) AND r.state = 'released' AND r.class = 'be'
              AND s.name = r.service
            RETURNING r.state = 'pending'
            """,
            {
                "run": run_id,
                "ids": list(request_ids),
                "cpu": largest_node[0],
                "memory": largest_node[1],
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
            WHERE q.run_id = ANY ({_ACTIVE}) AND q.state = 'pending' ORDER BY q.due_s, q.run_id, q.request_id LIMIT %s
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
            insert_decision(cursor, decision, sorted({int(r) for r in p.run_id}))
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


def _batches(rows: Iterable[tuple[Any, ...]]) -> tuple[Batch, ...]:
    """Group (run, request, class, service, cluster) rows into batches."""
    groups: dict[tuple[int, str, str, str], list[int]] = defaultdict(list)
    for run_id, request_id, label, service, cluster in rows:
        groups[run_id, cluster, label, service].append(request_id)
    return tuple(
        Batch(
            run_id=run_id,
            cluster=cluster,
            service=service,
            service_class=int(ServiceClass[label.upper()]),
            request_ids=tuple(sorted(ids)),
        )
        for (run_id, cluster, label, service), ids in groups.items()
    )
