"""BE attempts while they last and how they end: leases, results, requeues. One `attempt` row for each epoch that was given out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from tango.domain.lifecycle import ENDS, Event, Outcome
from tango.domain.requests import Reason
from tango.domain.services import ServiceClass
from tango.settings import LeaseSettings, StoreSettings
from tango.store.clusters import IS_SILENT
from tango.store.database import Cursor, Database
from tango.store.lifecycle_sql import OF_CALLERS, OPEN_RUNS, RUN_S, can, chunks, outcome_of, state_after

PHASES = "released_s, dispatched_s, decision_id"
"""Of a BE request: since when it waits for its present attempt, when that was placed, and by which decision; `attempt` rows keep them."""
PHASES_OF_R = ", ".join(f"r.{name}" for name in PHASES.split(", "))
TOLD_WITHIN_S = 1.0
"""Seconds that a container may have run longer than its times say."""
_RENEW = f"""
WITH locked AS (
    SELECT r.request_id FROM request r JOIN unnest(%(ids)s::int[], %(epochs)s::int[]) AS v(request_id, epoch) USING (request_id)
    WHERE r.run_id = %(run)s AND r.epoch = v.epoch AND {can("r", Event.RENEW, is_named=True)}
    ORDER BY r.request_id FOR NO KEY UPDATE OF r
)
UPDATE request r SET lease_until = now() + %(lease)s * interval '1 s' FROM locked
WHERE r.run_id = %(run)s AND r.request_id = locked.request_id
"""
# A job has its retries beside what the system may cost it.
_MOST_ATTEMPTS = """
coalesce((SELECT %(max_of_job)s + j.retries FROM job j WHERE j.run_id = %(run)s AND j.request_id = r.request_id), %(max)s)
""".strip()
# What a job has done at the most: nobody knows it before, and what its service takes on average may be assumed.
_MOST_WORK_S = f"""
(v.finished_s - coalesce(v.started_s, r.started_s) + {TOLD_WITHIN_S})
    * (SELECT (s.spec ->> 'cpu_limit_millicores')::float8 / 1000 FROM service s WHERE s.name = r.service)
""".strip()
# Kubernetes tells when containers began and ended in whole seconds, cut off: nothing begins or ends before it was due.
# Ends attempts and writes one `attempt` row each. `v` gives what ended; the row must be in flight under the same epoch. Whether a
# requeue exhausts the request is decided on the locked row.
_SETTLE = f"""
WITH locked AS (
    SELECT r.request_id, CASE WHEN v.event = '{Event.REQUEUE}' AND r.attempt >= {_MOST_ATTEMPTS} THEN '{Event.EXHAUST}' ELSE v.event END
               AS event, v.reason, v.words, greatest(v.started_s, CASE WHEN v.started_s IS NOT NULL THEN r.due_s END) AS started_s,
           CASE WHEN v.finished_s IS NOT NULL THEN greatest(v.finished_s, v.started_s, r.due_s) END AS finished_s, v.work_lost_s,
           r.released_s AS waited_from_s
    FROM request r
    JOIN unnest(%(ids)s::int[], %(epochs)s::int[], %(events)s::text[], %(reasons)s::text[],
                %(starts)s::float8[], %(ends)s::float8[], %(lost)s::float8[], %(words)s::text[])
        AS v(request_id, epoch, event, reason, started_s, finished_s, work_lost_s, words) USING (request_id)
    WHERE r.run_id = %(run)s AND r.epoch = v.epoch AND {can("r", *ENDS, service_class=ServiceClass.BE, is_named=True)}
    ORDER BY r.request_id FOR NO KEY UPDATE OF r
), ended AS (
    UPDATE request r SET
        state = {state_after("v.event", "r.class", *ENDS, Event.EXHAUST)},
        reason = CASE WHEN v.event = '{Event.EXHAUST}' THEN '{Reason.ATTEMPTS_EXHAUSTED}: ' || v.reason
                 ELSE v.reason || CASE WHEN v.words <> '' THEN ': ' || v.words ELSE '' END END,
        attempt = r.attempt - CASE WHEN v.event = '{Event.RETURN}' THEN 1 ELSE 0 END,
        started_s = CASE WHEN v.event = '{Event.SUCCEED}' THEN coalesce(v.started_s, r.started_s) ELSE r.started_s END,
        finished_s = CASE WHEN v.event = '{Event.SUCCEED}' THEN v.finished_s END,
        cpu_work_s = CASE WHEN v.event = '{Event.SUCCEED}' AND {OF_CALLERS} THEN least(r.cpu_work_s, {_MOST_WORK_S})
                     ELSE r.cpu_work_s END,
        released_s = CASE WHEN v.event IN ('{Event.REQUEUE}', '{Event.RETURN}') THEN {RUN_S} ELSE r.released_s END,
        lease_until = NULL
    FROM locked v
    WHERE r.run_id = %(run)s AND r.request_id = v.request_id
    RETURNING r.request_id, r.epoch, r.class, r.service, r.target_cluster, r.node, r.pod,
              coalesce(v.started_s, r.started_s) AS started_s, v.finished_s, r.due_s, v.event, v.reason, v.work_lost_s,
              v.waited_from_s, r.dispatched_s, r.decision_id
)
INSERT INTO attempt (run_id, request_id, epoch, class, service, cluster, node, pod, started_s, finished_s, latency_s, outcome,
                     reason, work_lost_s, {PHASES})
SELECT %(run)s, request_id, epoch, class, service, target_cluster, node, pod, started_s, finished_s,
       CASE WHEN event = '{Event.SUCCEED}' THEN finished_s - due_s END,
       {outcome_of("event", *ENDS, Event.EXHAUST)}, reason, work_lost_s,
       waited_from_s, dispatched_s, decision_id
FROM ended
"""
# Skips what somebody is settling right now; what is skipped is looked at again by the next sweep. While a cluster is away nobody can renew
# what runs there; when it is back, its agent has as long to do so as a lease lasts.
_EXPIRED = f"""
SELECT run_id, request_id, epoch FROM request
WHERE run_id = ANY ({OPEN_RUNS}) AND {can("request", Event.REQUEUE, service_class=ServiceClass.BE)} AND lease_until < now()
  AND NOT EXISTS (
      SELECT FROM cluster c WHERE c.name = request.target_cluster
      AND ({IS_SILENT} AND c.seen_at > now() - %(away)s * interval '1 s' OR c.back_at > now() - %(lease)s * interval '1 s')
  )
ORDER BY run_id, request_id LIMIT %(limit)s FOR NO KEY UPDATE OF request SKIP LOCKED
"""


class StoreAttempts:
    """The part of the request store that renews leases, settles attempts and requeues those whose lease ran out."""

    def __init__(self, database: Database, lease: LeaseSettings, store: StoreSettings) -> None:
        self._database = database
        self._lease = lease
        self._chunk_rows = store.chunk_rows

    def renew(self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int], *, lease_s: float) -> int:
        """Extend the leases of requests in flight under the given epochs; gives how many. One transaction per chunk."""
        return sum(
            self._database.execute(
                _RENEW, {"run": run_id, "lease": lease_s, "ids": [k for k, _ in held], "epochs": [epoch for _, epoch in held]}
            )
            for held in chunks(sorted(zip(request_ids, epochs, strict=True)), self._chunk_rows)
        )

    def settle(self, outcomes: Sequence[Outcome]) -> int:
        """End attempts and write one `attempt` row each; gives how many ended now. One transaction per chunk.

        An outcome under an old epoch, or of a request that has ended, is ignored: settling twice counts once.
        """
        in_order = sorted(outcomes, key=lambda o: (o.run_id, o.request_id))
        return sum(
            self._database.run(partial(end_attempts, outcomes=chunk, lease=self._lease))
            for chunk in chunks(in_order, self._chunk_rows)
        )

    def requeue_expired(self, *, limit: int) -> int:
        """Requeue requests whose lease ran out (→ pending), or fail them when their attempts are used up; gives how many there were.

        Looks at `limit` at most, one transaction per chunk.
        """
        requeued = 0
        while limit > 0:
            chunk = min(limit, self._chunk_rows)
            found, ended = self._database.run(partial(self._requeue_chunk, limit=chunk))
            requeued += ended
            limit = limit - found if found == chunk else 0
        return requeued

    def _requeue_chunk(self, cursor: Cursor, limit: int) -> tuple[int, int]:
        """How many had expired, and how many of their attempts ended here."""
        lease = self._lease
        of = {"limit": limit, "silent": lease.silent_s, "away": lease.away_s, "lease": lease.placement_s}
        cursor.execute(_EXPIRED, of)
        expired = [
            Outcome(run_id=run_id, request_id=request_id, epoch=epoch, event=Event.REQUEUE, reason=Reason.LEASE_EXPIRED)
            for run_id, request_id, epoch in cursor.fetchall()
        ]
        return len(expired), end_attempts(cursor, expired, lease)


def end_attempts(cursor: Cursor, outcomes: Sequence[Outcome], lease: LeaseSettings) -> int:
    """How many attempts really ended now; run after run, as rows are locked everywhere."""
    by_run: dict[int, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_run[outcome.run_id].append(outcome)
    ended = 0
    for run_id in sorted(by_run):
        of_run = by_run[run_id]
        cursor.execute(
            _SETTLE,
            {
                "run": run_id,
                "max": lease.max_attempts,
                "max_of_job": lease.max_job_attempts,
                "ids": [o.request_id for o in of_run],
                "epochs": [o.epoch for o in of_run],
                "events": [str(o.event) for o in of_run],
                "reasons": [str(o.reason) for o in of_run],
                "starts": [o.started_s for o in of_run],
                "ends": [o.finished_s for o in of_run],
                "lost": [o.work_lost_s for o in of_run],
                "words": [o.words for o in of_run],
            },
        )
        ended += cursor.rowcount
    return ended
