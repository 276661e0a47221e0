"""Attempts while they last and how they end: leases, results, requeues. One `attempt` row for each epoch that was given out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tango.domain.requests import Batch, Outcome, Reason, RequestState
from tango.settings import LeaseSettings
from tango.store.database import Cursor, Database
from tango.store.releases import ACTIVE_RUNS, batches_of

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
              CASE WHEN r.state IN ('released', 'pending') THEN 'requeued' ELSE r.state::text END AS outcome,
              v.reason, v.work_lost_s
)
INSERT INTO attempt (run_id, request_id, epoch, class, service, cluster, node, pod, started_s, finished_s, latency_s, outcome,
                     reason, work_lost_s)
SELECT %(run)s, request_id, epoch, class, service, target_cluster, node, pod, started_s, finished_s,
       CASE WHEN outcome = 'succeeded' THEN finished_s - due_s END, outcome, reason, work_lost_s
FROM ended RETURNING request_id, outcome
"""


class Attempts:
    """Renew, settle and requeue."""

    def __init__(self, database: Database, lease: LeaseSettings) -> None:
        self._database = database
        self._lease = lease

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
            return sum(len(self._end(cursor, run_id, by_run[run_id])) for run_id in sorted(by_run))

        return self._database.run(settle)

    def requeue_expired(self, *, limit: int) -> list[Batch]:
        """LC → released, BE → pending, where the lease ran out; skips rows that somebody is settling right now."""

        def requeue(cursor: Cursor) -> list[tuple[Any, ...]]:
            cursor.execute(
                f"""
                SELECT run_id, request_id, epoch, class::text, service, cluster FROM request
                WHERE run_id = ANY ({ACTIVE_RUNS}) AND state IN ('dispatched', 'placed', 'running') AND lease_until < now()
                ORDER BY run_id, request_id LIMIT %s FOR UPDATE SKIP LOCKED
                """,
                (limit,),
            )
            rows = cursor.fetchall()
            by_run: dict[int, list[Outcome]] = defaultdict(list)
            for run_id, request_id, epoch, label, _, _ in rows:
                back = RequestState.RELEASED if label == "lc" else RequestState.PENDING
                ended = Outcome(run_id=run_id, request_id=request_id, epoch=epoch, state=back, reason=Reason.LEASE_EXPIRED)
                by_run[run_id].append(ended)
            requeued = {
                (run_id, request_id)
                for run_id, ended in by_run.items()
                for request_id, outcome in self._end(cursor, run_id, ended)
                if outcome == "requeued"
            }
            return [(row[0], row[1], *row[3:]) for row in rows if row[3] == "lc" and row[:2] in requeued]

        return list(batches_of(self._database.run(requeue)))

    def _end(self, cursor: Cursor, run_id: int, outcomes: Sequence[Outcome]) -> list[tuple[int, str]]:
        """(request id, outcome) of the attempts of one run that really ended now."""
        # One lock order for every settler of a run: two of them never wait for each other in a circle.
        ended = sorted(outcomes, key=lambda o: o.request_id)
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
        found: list[tuple[int, str]] = cursor.fetchall()
        return found
