"""BE requests that become due, and those whose message was lost: accepted → released, in batches to publish."""

from __future__ import annotations

import math

from tango.domain.lifecycle import Event
from tango.domain.requests import Batch, batches_of
from tango.domain.runs import OPEN
from tango.domain.services import ServiceClass
from tango.domain.state_lists import listed
from tango.ports.requests import Released
from tango.settings import StoreSettings
from tango.store.database import Cursor, Database
from tango.store.lifecycle_sql import OPEN_RUNS, RUN_S, after, can

# Nobody but the release and the sweep of a cancelled run touches accepted rows, and both are single by the run's own row: the release
# holds it locked, the sweep begins after the run's status has changed. So these rows need no lock of their own before the update.
_ACCEPTED = f"""
SELECT request_id, due_s FROM request
WHERE run_id = %(run)s AND {can("request", Event.RELEASE, service_class=ServiceClass.BE)} AND due_s <= %(until)s
  AND (due_s, request_id) >= ((SELECT due_s FROM request WHERE run_id = %(run)s AND request_id = %(first)s), %(first)s)
ORDER BY due_s, request_id LIMIT %(limit)s
"""
"""From the request `first` on, by an index of BE alone that leads past any number of LC requests. Due times stand first there and bound
what is read: behind what was released before, whose entries stay until they are vacuumed, and before what is not due."""
# By an array of ids and not by a join, for which PostgreSQL would read the whole run where it expects as many as the limit allows.
_RELEASE = f"""
UPDATE request r SET state = {after(Event.RELEASE)}, released_at = now(), released_s = {RUN_S} WHERE r.run_id = %(run)s
    AND r.request_id = ANY (%(ids)s)
RETURNING r.request_id, {int(ServiceClass.BE)}, r.service, r.cluster
"""
# The oldest are chosen first and locked second, in the one order; what somebody else has in hand just now is no lost message.
_ANNOUNCE = f"""
WITH oldest AS (
    SELECT run_id, request_id FROM request
    WHERE run_id = ANY ({OPEN_RUNS}) AND {can("request", Event.ANNOUNCE, service_class=ServiceClass.BE)}
      AND released_at < now() - %(age)s * interval '1 s'
    ORDER BY due_s LIMIT %(limit)s
), locked AS (
    SELECT r.run_id, r.request_id FROM request r JOIN oldest USING (run_id, request_id)
    WHERE r.run_id = ANY ({OPEN_RUNS}) AND {can("r", Event.ANNOUNCE, service_class=ServiceClass.BE, is_named=True)}
      AND r.released_at < now() - %(age)s * interval '1 s'
    ORDER BY r.run_id, r.request_id FOR NO KEY UPDATE OF r SKIP LOCKED
)
UPDATE request r SET released_at = now() FROM locked
WHERE r.run_id = locked.run_id AND r.request_id = locked.request_id AND r.run_id = ANY ({OPEN_RUNS})
RETURNING r.run_id, r.request_id, {int(ServiceClass.BE)}, r.service, r.cluster
"""


class Releases:
    """The part of the request store that releases BE requests by due time and finds those whose message was lost."""

    def __init__(self, database: Database, store: StoreSettings) -> None:
        self._database = database
        self._chunk_rows = store.chunk_rows

    def release_due(self, run_id: int, *, until_s: float, limit: int) -> Released:
        """accepted → released for BE requests due by `until_s` (wall seconds since the run began), one transaction per chunk.

        Releases at most `limit` requests. Gives the batches to publish and the due time of the next BE request still accepted.
        """
        batches: list[Batch] = []
        while True:
            chunk = min(limit, self._chunk_rows)
            step = self._release_chunk(run_id, until_s, chunk)
            batches += step.batches
            released = sum(len(batch.request_ids) for batch in step.batches)
            limit -= released
            if released < chunk or limit <= 0:
                return Released(batches=tuple(batches), next_due_s=step.next_due_s)

    def _release_chunk(self, run_id: int, until_s: float, limit: int) -> Released:
        """Release one chunk. Ids are in order of due time, so the run's `next_request` marks how far the release has come: up to the
        next BE request, or to the end where there is none."""

        def release(cursor: Cursor) -> Released:
            cursor.execute(
                f"SELECT next_request, accepted, status IN {listed(OPEN)} FROM run WHERE run_id = %s FOR NO KEY UPDATE", (run_id,)
            )
            first, accepted, is_open = cursor.fetchone() or (0, 0, False)
            if not is_open:
                return Released(batches=(), next_due_s=None)
            of = {"run": run_id, "first": first, "until": until_s, "limit": limit}
            cursor.execute(_ACCEPTED, of)
            due = [request_id for request_id, _ in cursor.fetchall()]
            rows = []
            if due:
                cursor.execute(_RELEASE, {"run": run_id, "ids": due})
                rows = cursor.fetchall()
            cursor.execute(_ACCEPTED, of | {"first": max(due, default=first), "until": math.inf, "limit": 1})
            following, next_due_s = cursor.fetchone() or (accepted, None)
            if following != first:
                cursor.execute("UPDATE run SET next_request = %s WHERE run_id = %s", (following, run_id))
            return Released(batches=batches_of([(run_id, *row) for row in rows]), next_due_s=next_due_s)

        return self._database.run(release)

    def unclaimed(self, *, older_than_s: float, limit: int) -> list[Batch]:
        """Released longer than `older_than_s` ago and still waiting: batches to publish again, one transaction per chunk.

        Their `released_at` is set to now, so that they are not published again before as much time has passed once more.
        """
        batches: list[Batch] = []
        while limit > 0:
            chunk = min(limit, self._chunk_rows)
            rows = self._database.rows(_ANNOUNCE, {"age": older_than_s, "limit": chunk})
            batches += batches_of(rows)
            limit = limit - len(rows) if len(rows) == chunk else 0
        return batches
