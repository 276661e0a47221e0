"""Latency-critical (LC) requests from released to running: what waits, the dispatch, and the claim by an executor."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from tango.domain.identity import NodeKey
from tango.domain.lifecycle import Event
from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals, LcWork, Reason
from tango.domain.runs import DecisionRecord
from tango.domain.snapshot import FleetSnapshot
from tango.ports.requests import Dispatched, StartHere
from tango.settings import StoreSettings
from tango.store.database import Cursor, Database
from tango.store.events import insert_decision
from tango.store.lifecycle_sql import RUN_IS_OPEN, after, can, chunks, state_after

_PLANNED = (Event.DISPATCH, Event.START, Event.SHED)


_WAITING = f"""
SELECT request_id, service, cluster, due_s, coalesce(target_s, 1e9), cpu_work_s, memory_mib, epoch FROM request
WHERE run_id = %(run)s AND request_id = ANY (%(ids)s) AND {can("request", *_PLANNED)} AND {RUN_IS_OPEN}
ORDER BY due_s
"""
# One statement for all that a plan can say of a row, so that the rows of a message are locked once and in order.
_DISPATCH = f"""
WITH locked AS (
    SELECT r.request_id, v.k, v.event, v.node, v.cluster, v.late
    FROM request r
    JOIN unnest(%(rows)s::int[], %(ids)s::int[], %(epochs)s::int[], %(events)s::text[], %(nodes)s::text[], %(clusters)s::text[],
                %(late)s::bool[]) AS v(k, request_id, epoch, event, node, cluster, late) USING (request_id)
    WHERE r.run_id = %(run)s AND r.epoch = v.epoch AND {can("r", *_PLANNED)} AND {RUN_IS_OPEN}
    ORDER BY r.request_id FOR NO KEY UPDATE OF r
)
UPDATE request r SET
    state = {state_after("v.event", "r.class", *_PLANNED)},
    epoch = r.epoch + (v.event <> '{Event.SHED}')::int,
    attempt = r.attempt + (v.event <> '{Event.SHED}')::int,
    node = coalesce(v.node, r.node),
    target_cluster = coalesce(v.cluster, r.target_cluster),
    late = CASE WHEN v.event = '{Event.SHED}' THEN r.late ELSE v.late END,
    owner = CASE WHEN v.event = '{Event.START}' THEN %(owner)s ELSE r.owner END,
    reason = CASE WHEN v.event = '{Event.SHED}' THEN '{Reason.TARGET_UNREACHABLE}' ELSE r.reason END,
    lease_until = now() + CASE v.event WHEN '{Event.START}' THEN %(here_s)s WHEN '{Event.DISPATCH}' THEN %(lease)s END * interval '1 s'
FROM locked v
WHERE r.run_id = %(run)s AND r.request_id = v.request_id
RETURNING v.k, v.event, r.epoch, r.target_cluster, r.node
"""
_CLAIM = f"""
WITH locked AS (
    SELECT r.request_id FROM request r JOIN unnest(%(ids)s::int[], %(epochs)s::int[]) AS v(request_id, epoch) USING (request_id)
    WHERE r.run_id = %(run)s AND r.epoch = v.epoch AND {can("r", Event.CLAIM)} AND r.target_cluster = %(cluster)s
      AND {RUN_IS_OPEN}
    ORDER BY r.request_id FOR NO KEY UPDATE OF r
)
UPDATE request r SET state = {after(Event.CLAIM)}, owner = %(owner)s, lease_until = now() + %(lease)s * interval '1 s'
FROM locked
WHERE r.run_id = %(run)s AND r.request_id = locked.request_id
RETURNING r.request_id, r.epoch, r.service, r.cluster, r.node, r.due_s, coalesce(r.target_s, 1e9), r.cpu_work_s, r.memory_mib
"""


class LcRequests:
    """The part of the request store that LC dispatch and LC execution use."""

    def __init__(self, database: Database, store: StoreSettings) -> None:
        self._database = database
        self._chunk_rows = store.chunk_rows

    def waiting_lc(self, run_id: int, request_ids: Sequence[int], snapshot: FleetSnapshot) -> LcArrivals:
        """The given requests that are still released and of an open run, in order of due time.

        Requests of a service or cluster that the snapshot lacks are left out: they stay released and are published again later.
        """
        rows = self._database.rows(_WAITING, {"run": run_id, "ids": list(request_ids)})
        services = {s.name: k for k, s in enumerate(snapshot.services)}
        clusters = {name: k for k, name in enumerate(snapshot.clusters)}
        rows = [row for row in rows if row[1] in services and row[2] in clusters]
        return LcArrivals(
            request_id=np.array([row[0] for row in rows], np.int64),
            service=np.array([services[row[1]] for row in rows], np.int32),
            entry_cluster=np.array([clusters[row[2]] for row in rows], np.int32),
            due_s=np.array([row[3] for row in rows], np.float64),
            target_s=np.array([row[4] for row in rows], np.float64),
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
        """Apply a plan and record its decision, in one transaction: released → dispatched or running with epoch + 1, or shed.

        Rows with node -1 stay released and are published again later. Rows whose epoch has changed since they were read are skipped,
        so that of two workers with the same message one wins. The transaction is as large as the message, at most one chunk.
        """
        planned = np.flatnonzero((plan.node >= 0) | plan.shed)
        starts = here.rows if here is not None else np.zeros(len(arrivals), bool)
        events = [Event.SHED if plan.shed[k] else Event.START if starts[k] else Event.DISPATCH for k in planned]
        nodes = [None if plan.shed[k] else int(plan.node[k]) for k in planned]

        def record(cursor: Cursor) -> list[tuple[Any, ...]]:
            cursor.execute(
                _DISPATCH,
                {
                    "run": run_id,
                    "lease": lease_s,
                    "owner": here.owner if here else "",
                    "here_s": here.lease_s if here else 0.0,
                    "rows": planned.tolist(),
                    "ids": arrivals.request_id[planned].tolist(),
                    "epochs": arrivals.epoch[planned].tolist(),
                    "events": [str(event) for event in events],
                    "nodes": [None if n is None else snapshot.nodes[n] for n in nodes],
                    "clusters": [None if n is None else snapshot.clusters[snapshot.node_cluster[n]] for n in nodes],
                    "late": plan.late[planned].tolist(),
                },
            )
            won = [row for row in cursor.fetchall() if row[1] != Event.SHED]
            insert_decision(cursor, dataclasses.replace(decision, placed=len(won)), (run_id,))
            return won

        by_cluster: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        started = []
        for k, event, epoch, cluster, node in self._database.run(record):
            if event == Event.START:
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
        """dispatched → running for `owner`, one transaction per chunk; gives only the rows that were still dispatched to `cluster`
        under the given epochs. A second delivery of the same message therefore claims nothing."""
        rows: list[tuple[Any, ...]] = []
        for sent in chunks(sorted(zip(request_ids, epochs, strict=True)), self._chunk_rows):
            claim = {"run": run_id, "cluster": cluster, "owner": owner, "lease": lease_s}
            rows += self._database.rows(_CLAIM, claim | {"ids": [k for k, _ in sent], "epochs": [epoch for _, epoch in sent]})
        return [
            LcWork(
                run_id=run_id,
                request_id=request_id,
                epoch=epoch,
                service=service,
                entry_cluster=entry,
                node=NodeKey(cluster, node),
                due_s=due_s,
                target_s=target_s,
                cpu_work_s=work_s,
                memory_mib=memory_mib,
            )
            for request_id, epoch, service, entry, node, due_s, target_s, work_s, memory_mib in rows
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
        target_s=float(arrivals.target_s[k]),
        cpu_work_s=float(arrivals.cpu_work_s[k]),
        memory_mib=float(arrivals.memory_mib[k]),
    )
