"""Requests that become due, and those whose message was lost: accepted → released, in batches to publish."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tango.domain.requests import Batch
from tango.domain.services import ServiceClass
from tango.ports import Released
from tango.store.database import Cursor, Database

ACTIVE_RUNS = "ARRAY(SELECT run_id FROM run WHERE kind = 'live' AND status NOT IN ('completed', 'cancelled'))"
"""An array of live runs, evaluated once, so that PostgreSQL leaves out the partitions of all others."""


class Releases:
    """Release by due time."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
                return Released(batches=batches_of([(run_id, *row) for row in rows]), next_due_s=None)
            cursor.execute("SELECT due_s, state FROM request WHERE run_id = %s AND request_id = %s", (run_id, first))
            due_s, state = cursor.fetchone() or (None, None)
            # A cancelled run leaves nothing to release.
            return Released(
                batches=batches_of([(run_id, *row) for row in rows]), next_due_s=None if state == "cancelled" else due_s
            )

        return self._database.run(release)

    def unclaimed(self, *, older_than_s: float, limit: int) -> list[Batch]:
        """Released for too long: publish again, and not before as much time has passed once more."""
        rows = self._database.rows(
            f"""
            UPDATE request r SET released_at = now()
            FROM (SELECT run_id, request_id FROM request
                  WHERE run_id = ANY ({ACTIVE_RUNS}) AND state = 'released' AND released_at < now() - %s * interval '1 s'
                  ORDER BY due_s LIMIT %s FOR UPDATE SKIP LOCKED) w
            WHERE r.run_id = w.run_id AND r.request_id = w.request_id AND r.run_id = ANY ({ACTIVE_RUNS})
            RETURNING r.run_id, r.request_id, r.class::text, r.service, r.cluster
            """,
            (older_than_s, limit),
        )
        return list(batches_of(rows))


def batches_of(rows: Iterable[tuple[Any, ...]]) -> tuple[Batch, ...]:
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
