"""Runs from submit to their figures: implements `tango.ports.RunStore`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from psycopg2.extras import Json

from tango.domain.requests import Reason
from tango.domain.runs import ENDED, NewRequests, NewRun, RunInfo, RunKind, RunStatus, StateCounts
from tango.domain.services import ServiceClass
from tango.errors import UsageError
from tango.store.columns import copy_columns, known, words
from tango.store.database import Cursor, Database
from tango.store.rows import insert, metric_rows

_RUN = """
SELECT run_id, name, status, system, fleet, seed, speed, reassure, extract(epoch FROM started_at)::float8, accepted, kind
FROM run
"""
# Whatever was given out under an epoch gets its `attempt` row here too: one an epoch, however it ends.
_CANCEL = """
WITH open AS (
    SELECT request_id, state FROM request
    WHERE run_id = %(run)s AND state NOT IN ('succeeded', 'failed', 'shed', 'cancelled') FOR UPDATE
), ended AS (
    UPDATE request r SET state = 'cancelled', reason = %(reason)s, lease_until = NULL FROM open
    WHERE r.run_id = %(run)s AND r.request_id = open.request_id
    RETURNING r.request_id, r.epoch, r.class, r.service, r.target_cluster, r.node, r.pod, r.started_s, open.state AS was
), noted AS (
    INSERT INTO attempt (run_id, request_id, epoch, class, service, cluster, node, pod, started_s, outcome, reason, work_lost_s)
    SELECT %(run)s, request_id, epoch, class, service, target_cluster, node, pod, started_s, 'cancelled', %(reason)s, 0
    FROM ended WHERE was IN ('dispatched', 'placed', 'running')
)
SELECT count(*) FROM ended
"""


def _info(row: tuple[Any, ...]) -> RunInfo:
    run_id, name, status, system, fleet, seed, speed, reassure, started_at_s, accepted, kind = row
    return RunInfo(
        run_id=run_id,
        name=name,
        status=RunStatus(status),
        system=system,
        fleet=fleet,
        seed=seed,
        speed=speed,
        reassure=reassure,
        started_at_s=started_at_s,
        accepted=accepted,
        kind=RunKind(kind),
    )


class PostgresRunStore:
    """Keeps runs; a run's requests live in a partition of their own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create_run(self, run: NewRun, requests: NewRequests) -> int:
        """One transaction: the run's row, a partition made aside and filled by COPY, then attached."""
        columns = _request_columns(requests)

        def create(cursor: Cursor) -> int:
            row = {
                "name": run.name,
                "system": run.system,
                "fleet": run.fleet,
                "fleet_hash": run.fleet_hash,
                "seed": run.seed,
                "speed": run.speed,
                "reassure": run.reassure,
                "trace_source": run.trace_source,
                "span_s": run.span_s,
                "accepted": len(requests),
                "settings": Json(run.settings),
            }
            run_id = int(insert(cursor, "run", [row], then="RETURNING run_id")[0][0])
            cursor.execute("SELECT make_request_partition(%s)", (run_id,))
            copy_columns(cursor, f"request_{run_id}", columns, run_id=run_id)
            cursor.execute("SELECT attach_request_partition(%s)", (run_id,))
            return run_id

        return self._database.run(create, once=True)

    def run(self, run_id: int) -> RunInfo:
        """Raises: UsageError with the latest runs when there is none of this id."""
        found = self._database.rows(f"{_RUN} WHERE run_id = %s", (run_id,))
        if found:
            return _info(found[0])
        latest = ", ".join(f"{r.run_id} ({r.name})" for r in self.runs(limit=5)) or "none yet"
        raise UsageError(f"there is no run {run_id}; the latest runs: {latest}")

    def runs(self, *, limit: int = 50, kind: RunKind | None = None) -> list[RunInfo]:
        """Newest first."""
        found = self._database.rows(
            f"{_RUN} WHERE %(kind)s IS NULL OR kind = %(kind)s ORDER BY run_id DESC LIMIT %(limit)s",
            {"kind": kind and str(kind), "limit": limit},
        )
        return [_info(row) for row in found]

    def active_runs(self) -> list[RunInfo]:
        """Live ones, not completed, not cancelled."""
        found = self._database.rows(f"{_RUN} WHERE kind = 'live' AND status NOT IN ('completed', 'cancelled') ORDER BY run_id")
        return [_info(row) for row in found]

    def begin(self, run_id: int, *, at_s: float) -> float:
        """Set the zero once; give the one that holds."""
        found = self._database.rows(
            "UPDATE run SET started_at = coalesce(started_at, to_timestamp(%s)) WHERE run_id = %s "
            "RETURNING extract(epoch FROM started_at)::float8",
            (at_s, run_id),
        )
        if not found:
            raise UsageError(f"there is no run {run_id}")
        return float(found[0][0])

    def set_status(self, run_id: int, status: RunStatus) -> None:
        """Move on; what is completed or cancelled stays, and a draining run does not run again."""
        self._database.execute(
            """
            UPDATE run SET status = %(status)s,
                ended_at = CASE WHEN %(status)s IN ('completed', 'cancelled') THEN now() ELSE ended_at END
            WHERE run_id = %(run)s AND status NOT IN ('completed', 'failed', 'cancelled', %(status)s)
              AND NOT (status = 'draining' AND %(status)s IN ('accepted', 'running'))
            """,
            {"run": run_id, "status": str(status)},
        )

    def cancel(self, run_id: int) -> int:
        """Everything that is not terminal, with the run, in one transaction."""

        def cancel(cursor: Cursor) -> int:
            cursor.execute(
                "UPDATE run SET status = 'cancelled', ended_at = now() "
                "WHERE run_id = %s AND status NOT IN ('completed', 'failed', 'cancelled')",
                (run_id,),
            )
            cursor.execute(_CANCEL, {"run": run_id, "reason": str(Reason.CANCELLED)})
            return int(cursor.fetchall()[0][0])

        self.run(run_id)
        return self._database.run(cancel)

    def counts(self, run_id: int) -> StateCounts:
        """Requests per state, in one statement and so at one instant."""
        found = self._database.rows("SELECT state::text, count(*) FROM request WHERE run_id = %s GROUP BY 1", (run_id,))
        return StateCounts(by_state=dict(found))

    def all_terminal(self, run_id: int) -> bool:
        """Whether no request of the run will change any more: none is left to release, and the index of live rows is empty."""
        found = self._database.rows(
            """
            SELECT r.status = 'cancelled' OR (r.next_request >= r.accepted AND NOT EXISTS (
                SELECT FROM request q WHERE q.run_id = %(run)s AND q.state IN ('released', 'pending', 'dispatched', 'placed', 'running')))
            FROM run r WHERE r.run_id = %(run)s
            """,
            {"run": run_id},
        )
        return bool(found and found[0][0])

    def save_metrics(self, run_id: int, metrics: Mapping[str, float | int | str | None]) -> None:
        """Numbers in `value`, words in `text`."""

        def save(cursor: Cursor) -> None:
            cursor.execute("DELETE FROM run_metric WHERE run_id = %s", (run_id,))
            insert(cursor, "run_metric", metric_rows(run_id, metrics))

        self._database.run(save)

    def delete(self, run_id: int) -> None:
        """The partition is dropped whole; decisions that other runs share stay. Raises: UsageError for a run that is not done."""
        info = self.run(run_id)
        if info.status not in ENDED:
            raise UsageError(f"run {run_id} is {info.status}; cancel it first: tango run cancel {run_id}")

        def delete(cursor: Cursor) -> None:
            cursor.execute("SELECT drop_request_partition(%s)", (run_id,))
            for table in ("attempt", "run_metric", "node_sample", "scaling_event", "simulation", "run"):
                cursor.execute(f"DELETE FROM {table} WHERE run_id = %s", (run_id,))
            for table in ("decision", "shadow_decision"):
                cursor.execute(f"DELETE FROM {table} WHERE run_ids = ARRAY[%s]", (run_id,))

        self._database.run(delete)


def _request_columns(requests: NewRequests) -> dict[str, Any]:
    return {
        "request_id": np.arange(len(requests), dtype=np.int32),
        "class": words(requests.service_class, tuple(c.label for c in ServiceClass)),
        "service": words(requests.service, requests.services),
        "cluster": words(requests.cluster, requests.clusters),
        "due_s": requests.due_s,
        "target_s": known(requests.target_s),
        "cpu_work_s": requests.cpu_work_s,
        "memory_mib": requests.memory_mib,
    }
