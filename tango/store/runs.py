"""Runs from their submission to their figures: implements `tango.ports.runs.RunStore`."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from psycopg2.extras import Json

from tango.domain.identity import PodKey
from tango.domain.lifecycle import UNDER_WAY, Event
from tango.domain.requests import Reason, RequestState
from tango.domain.retention import StoredRun
from tango.domain.runs import ENDED, OPEN, NewRequests, NewRun, RunInfo, RunKind, RunStatus, StateCounts, can_become, require_ended
from tango.domain.services import ServiceClass
from tango.domain.state_lists import IN_FLIGHT_STATES, LIVE_STATES, TERMINAL_STATES, listed
from tango.domain.tenants import DEFAULT_TENANT
from tango.errors import StoreBusy, UsageError
from tango.ports.runs import Swept
from tango.settings import StoreSettings
from tango.store.attempts import PHASES, PHASES_OF_R
from tango.store.columns import copy_columns, known, words
from tango.store.database import Cursor, Database
from tango.store.lifecycle_sql import after, can
from tango.store.rows import insert

RUN_COLUMNS = (
    "r.run_id, r.name, r.status, r.system, r.fleet, r.seed, r.speed, r.reassure, extract(epoch FROM r.started_at)::float8, r.accepted, "
    "r.kind"
)
"""Of the table `run` as `r`; `run_info` reads them."""
_RUN = f"SELECT {RUN_COLUMNS} FROM run r"
# One row, and so the same time for any run. It waits for a chunk of the release at the most, which holds this row.
_CANCEL = f"""
UPDATE run SET ended_at = now(),
    status = CASE WHEN kind = '{RunKind.SIMULATED}' THEN '{RunStatus.CANCELLED}' ELSE '{RunStatus.CANCELLING}' END
WHERE run_id = %s AND status IN {listed(OPEN)}
"""
# What no journal has taken of a share, nor will: all of one that was not opened, and what lies beyond `handed_to` of one that is complete.
# The rows are held until the sweep has counted there what it cancels.
_LEFT_OF_SHARES = """
SELECT cluster, CASE WHEN opened THEN handed_to ELSE -1 END FROM lc_share
WHERE run_id = %s AND (NOT opened OR complete) AND terminal < accepted ORDER BY cluster FOR NO KEY UPDATE
"""
# Cancels one chunk, in order of ids. What was in flight gets its `attempt` row here too: one row per epoch, however the epoch ends.
_SWEEP = f"""
WITH locked AS (
    SELECT r.request_id, r.state AS was FROM request r
    LEFT JOIN unnest(%(clusters)s::text[], %(handed)s::int[]) AS s(cluster, handed_to) ON s.cluster = r.cluster
    WHERE r.run_id = %(run)s AND r.request_id > %(beyond)s AND {can("r", Event.CANCEL)}
      AND (r.class = 'be' OR r.request_id > s.handed_to)
      AND EXISTS (SELECT FROM run WHERE run_id = %(run)s AND status = '{RunStatus.CANCELLING}')
    ORDER BY r.request_id LIMIT %(limit)s FOR NO KEY UPDATE OF r
), ended AS (
    UPDATE request r SET state = {after(Event.CANCEL)}, reason = '{Reason.CANCELLED}', lease_until = NULL FROM locked v
    WHERE r.run_id = %(run)s AND r.request_id = v.request_id
    RETURNING r.request_id, r.epoch, r.class, r.service, r.cluster, r.target_cluster, r.node, r.pod, r.started_s, {PHASES_OF_R}, v.was
), noted AS (
    INSERT INTO attempt (run_id, request_id, epoch, class, service, cluster, node, pod, started_s, outcome, reason, work_lost_s, {PHASES})
    SELECT %(run)s, request_id, epoch, class, service, target_cluster, node, pod, started_s, '{RequestState.CANCELLED}',
           '{Reason.CANCELLED}', 0, {PHASES}
    FROM ended WHERE was IN {IN_FLIGHT_STATES}
)
SELECT request_id,
       CASE WHEN class = 'be' AND was IN {IN_FLIGHT_STATES}
             AND NOT EXISTS (SELECT FROM job j WHERE j.run_id = %(run)s AND j.request_id = ended.request_id) THEN target_cluster END,
       pod, CASE WHEN class = 'lc' THEN cluster END
FROM ended
"""
_COUNT_CANCELLED = "UPDATE lc_share SET terminal = terminal + %s WHERE run_id = %s AND cluster = %s"
_CLOSE = f"""
UPDATE run SET status = '{RunStatus.CANCELLED}'
WHERE run_id = %(run)s AND status = '{RunStatus.CANCELLING}'
  AND NOT EXISTS (SELECT FROM request WHERE run_id = %(run)s AND state IN {LIVE_STATES})
"""
# The indexes of BE that is to come and of what is under way, and the counts of the shares answer for a run that is open, whatever its size.
# Asked for in order, since PostgreSQL reads the table itself where any row will do.
_ALL_TERMINAL = f"""
SELECT CASE r.status WHEN '{RunStatus.CANCELLED}' THEN true
    WHEN '{RunStatus.CANCELLING}' THEN NOT EXISTS (SELECT FROM request q WHERE q.run_id = %(run)s AND q.state IN {LIVE_STATES})
    ELSE (SELECT q.request_id FROM request q
          WHERE q.run_id = %(run)s AND {can("q", Event.RELEASE, service_class=ServiceClass.BE)}
            AND (q.due_s, q.request_id) >= (n.due_s, n.request_id)
          ORDER BY q.due_s, q.request_id LIMIT 1) IS NULL
        AND NOT EXISTS (SELECT FROM request q WHERE q.run_id = %(run)s AND q.class = 'be' AND q.state IN {listed(UNDER_WAY)})
        AND NOT EXISTS (SELECT FROM lc_share s WHERE s.run_id = %(run)s AND s.terminal < s.accepted)
        AND (r.kind <> '{RunKind.LIVE}' OR r.closed_at IS NOT NULL
             AND NOT EXISTS (SELECT FROM lc_share s WHERE s.run_id = %(run)s AND NOT s.complete)) END
FROM run r LEFT JOIN request n ON n.run_id = %(run)s AND n.request_id = r.next_request WHERE r.run_id = %(run)s
"""
_COUNTS = """
SELECT run_id, class::text AS class, state::text AS state, requests, in_time FROM run_count WHERE run_id = ANY (%(runs)s)
UNION ALL
SELECT run_id, class::text, state::text, requests, in_time FROM run_count_change WHERE run_id = ANY (%(runs)s)
"""
_BY_CLASS = f"""
SELECT class, state, sum(requests)::int, sum(in_time)::int FROM ({_COUNTS}) c GROUP BY 1, 2 HAVING sum(requests) <> 0 ORDER BY 1, 2
"""
_TERMINAL = f"SELECT run_id, sum(requests)::int FROM ({_COUNTS}) c WHERE state IN {TERMINAL_STATES} GROUP BY 1"
_FOLD = f"""
WITH gone AS (DELETE FROM run_count_change RETURNING run_id, class, state, cluster, requests, in_time),
ended AS (
    INSERT INTO request_total AS t (class, state, cluster, requests, in_time)
    SELECT class, state, cluster, sum(requests), sum(in_time) FROM gone WHERE state IN {TERMINAL_STATES}
    GROUP BY 1, 2, 3 HAVING sum(requests) > 0 ORDER BY 1, 2, 3
    ON CONFLICT (class, state, cluster) DO UPDATE SET requests = t.requests + excluded.requests, in_time = t.in_time + excluded.in_time
)
INSERT INTO run_count AS c (run_id, class, state, requests, in_time)
SELECT run_id, class, state, sum(requests), sum(in_time) FROM gone GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (run_id, class, state) DO UPDATE SET requests = c.requests + excluded.requests, in_time = c.in_time + excluded.in_time
RETURNING c.run_id
"""
# How many requests a live run has accepted is not known before it ends.
_GROWN = f"""
UPDATE run r SET accepted = c.requests
FROM (SELECT run_id, sum(requests)::int AS requests FROM run_count WHERE run_id = ANY (%s) GROUP BY 1) c
WHERE r.run_id = c.run_id AND r.kind = '{RunKind.LIVE}' AND r.accepted <> c.requests
"""
_UNDER_WAY = f"""
SELECT DISTINCT run_id FROM run_count
WHERE run_id = ANY (ARRAY(SELECT run_id FROM run WHERE kind <> 'simulated' AND status NOT IN {listed(ENDED)}))
  AND state IN {LIVE_STATES} AND requests > 0
"""
COUNTS_LOCK = 0x636F_756E
"""Key of the advisory lock ("coun" in ASCII) of whoever adds up the changes of counts."""
DELETED_AT_ONCE = 20_000
"""Rows, or requests whose attempts, one transaction deletes: about half a second. Nobody else touches those of an ended run, so this only
keeps each statement far from the statement timeout."""
DROP_LOCK_MS = 200
"""Milliseconds that dropping a partition waits for the table `request` before it gives way and tries again. Whoever wants the table after
it waits behind it, so this is what a deletion costs others at the most: as long as a chunk of results holds its rows (`StoreSettings`)."""
DROP_PAUSE_S = 0.5
"""Seconds between two tries, give or take half of it, in which others have the table for themselves."""
ATTEMPT_BYTES = 200
"""Bytes of an attempt with its part of the indexes, measured: a request has about one. The table is shared by all runs, so that nothing
tells what one of them takes."""
_STORED = f"""
SELECT run_id, kind, name, status, accepted, extract(epoch FROM ended_at)::float8,
       coalesce(pg_total_relation_size(to_regclass('public.request_' || run_id)), 0) + accepted * {ATTEMPT_BYTES}::bigint
FROM run ORDER BY run_id
"""
_DELETE_ATTEMPTS = """
WITH chunk AS (
    SELECT max(request_id) AS last FROM (
        SELECT request_id FROM attempt WHERE run_id = %(run)s AND request_id > %(beyond)s ORDER BY request_id LIMIT %(limit)s
    ) c
), gone AS (
    DELETE FROM attempt a USING chunk WHERE a.run_id = %(run)s AND a.request_id > %(beyond)s AND a.request_id <= chunk.last
)
SELECT last FROM chunk
"""
_CHUNK_OF = "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE {which} LIMIT %(limit)s))"
# By their index over time: nothing of a run is older than the run, but what was simulated has the instants of the simulated world.
_OF_RUN = {
    "node_sample": "run_id = %(run)s",
    "scaling_event": "run_id = %(run)s",
    **dict.fromkeys(
        ("decision", "shadow_decision"),
        "run_ids = ARRAY[%(run)s] AND at >= (SELECT least(submitted_at, started_at) FROM run WHERE run_id = %(run)s)",
    ),
}
_IS_OLD = (
    "at < least(to_timestamp(%(before)s), (SELECT min(least(started_at, submitted_at)) FROM run WHERE kind <> 'simulated')) AND "
)
_OBSERVED = {
    **dict.fromkeys(("node_sample", "scaling_event"), f"{_IS_OLD} run_id IS NULL"),
    **dict.fromkeys(("decision", "shadow_decision"), f"{_IS_OLD} NOT EXISTS (SELECT FROM run r WHERE r.run_id = ANY (run_ids))"),
}
_REMEMBER = """
INSERT INTO deleted_run (run_id, kind, name, system, accepted, ended_at, why)
SELECT run_id, kind, name, system, accepted, ended_at, %s FROM run WHERE run_id = %s ON CONFLICT DO NOTHING
"""
_HOLDERS = """
SELECT DISTINCT coalesce(a.usename, 'somebody') || ' (process ' || l.pid || ')'
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.relation = 'request'::regclass AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.granted AND l.pid <> pg_backend_pid() LIMIT 5
"""


def run_info(row: tuple[Any, ...]) -> RunInfo:
    """A row of `RUN_COLUMNS` as the run that it is."""
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


class ClassCount(NamedTuple):
    """Requests of a run of one class in one state."""

    service_class: str
    state: str
    requests: int
    in_time: int
    """LC requests of them that were answered within their target."""


def class_counts(database: Database, run_id: int) -> list[ClassCount]:
    """Those that are not 0, as kept: what was counted and what has changed since, at one instant."""
    return [ClassCount(*row) for row in database.rows(_BY_CLASS, {"runs": [run_id]})]


class PostgresRunStore:
    """The run store on PostgreSQL. The requests of each run live in a partition of their own."""

    def __init__(self, database: Database, store: StoreSettings | None = None) -> None:
        self._database = database
        self._chunk_rows = (store or StoreSettings()).chunk_rows

    def create_run(self, run: NewRun, requests: NewRequests) -> int:
        """Store a run with all its requests and the clusters' shares of them in one transaction; gives its id.

        The partition is made detached, filled by COPY and attached last, so that the lock on the table `request` is held briefly.
        Not repeated after a connection lost at the commit, which may have succeeded: the run would exist twice.
        """
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
                "tenant": run.tenant or DEFAULT_TENANT,
            }
            run_id = int(insert(cursor, "run", [row], then="RETURNING run_id")[0][0])
            cursor.execute("SELECT make_request_partition(%s)", (run_id,))
            copy_columns(cursor, f"request_{run_id}", columns, run_id=run_id)
            insert(cursor, "lc_share", [{"run_id": run_id, **share} for share in _shares(requests)])
            cursor.execute("SELECT attach_request_partition(%s)", (run_id,))
            return run_id

        return self._database.run(create, once=True)

    def run(self, run_id: int) -> RunInfo:
        """The run of this id. Raises: UsageError, which names the latest runs, when there is none."""
        found = self._database.rows(f"{_RUN} WHERE r.run_id = %s", (run_id,))
        if found:
            return run_info(found[0])
        gone = self._database.rows("SELECT to_char(deleted_at, 'YYYY-MM-DD'), why FROM deleted_run WHERE run_id = %s", (run_id,))
        was = "".join(f" any more: it was deleted on {day} ({why})" for day, why in gone)
        latest = ", ".join(f"{r.run_id} ({r.name})" for r in self.runs(limit=5)) or "none yet"
        raise UsageError(f"there is no run {run_id}{was}; the latest runs: {latest}")

    def runs(self, *, limit: int = 50, kind: RunKind | None = None) -> list[RunInfo]:
        """The latest runs, newest first; `kind` None: of both kinds."""
        found = self._database.rows(
            f"{_RUN} WHERE %(kind)s IS NULL OR r.kind = %(kind)s ORDER BY r.run_id DESC LIMIT %(limit)s",
            {"kind": kind and str(kind), "limit": limit},
        )
        return [run_info(row) for row in found]

    def active_runs(self) -> list[RunInfo]:
        """Replayed and live runs that are open (neither ended nor being cancelled), in order of their ids."""
        found = self._database.rows(f"{_RUN} WHERE r.kind <> 'simulated' AND r.status IN {listed(OPEN)} ORDER BY r.run_id")
        return [run_info(row) for row in found]

    def cancelling_runs(self) -> list[int]:
        """Ids of the runs that are being cancelled, in order."""
        return [
            run_id
            for (run_id,) in self._database.rows(f"SELECT run_id FROM run WHERE status = '{RunStatus.CANCELLING}' ORDER BY 1")
        ]

    def begin(self, run_id: int, *, at_s: float) -> float:
        """Set the run's time zero to `at_s` (Unix time) unless it is set; gives the one in force. Raises: UsageError for no such run.

        Two replayers of one run therefore agree on its zero.
        """
        found = self._database.rows(
            "UPDATE run SET started_at = coalesce(started_at, to_timestamp(%s)) WHERE run_id = %s "
            "RETURNING extract(epoch FROM started_at)::float8",
            (at_s, run_id),
        )
        if not found:
            raise UsageError(f"there is no run {run_id}")
        return float(found[0][0])

    def set_status(self, run_id: int, status: RunStatus) -> None:
        """Set the status where `can_become` allows the change; otherwise, or for no such run, do nothing."""
        self._database.execute(
            "UPDATE run SET status = %(status)s, ended_at = CASE WHEN %(ends)s THEN now() ELSE ended_at END "
            "WHERE run_id = %(run)s AND status = ANY (%(from)s)",
            {
                "run": run_id,
                "status": str(status),
                "ends": status in ENDED,
                "from": [str(before) for before in RunStatus if can_become(before, status)],
            },
        )

    def cancel(self, run_id: int) -> bool:
        """Stop an open run by changing its row alone; gives whether it was open. Raises: UsageError for no such run."""
        self.run(run_id)
        return bool(self._database.execute(_CANCEL, (run_id,)))

    def sweep_cancelled(self, run_id: int, *, beyond: int = -1) -> Swept:
        """Cancel one chunk of live requests with ids greater than `beyond`, of a run that is being cancelled: BE, and LC that no journal
        has taken, nor will."""

        def sweep(cursor: Cursor) -> list[tuple[Any, ...]]:
            cursor.execute(_LEFT_OF_SHARES, (run_id,))
            left = dict(cursor.fetchall())
            clusters, handed = list(left), list(left.values())
            of = {"run": run_id, "beyond": beyond, "limit": self._chunk_rows, "clusters": clusters, "handed": handed}
            cursor.execute(_SWEEP, of)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            lc = Counter(entry for *_, entry in rows if entry is not None)
            for entry in sorted(lc):
                cursor.execute(_COUNT_CANCELLED, (lc[entry], run_id, entry))
            return rows

        rows = self._database.run(sweep)
        return Swept(
            cancelled=len(rows),
            last_request=max((row[0] for row in rows), default=None),
            pods=tuple(PodKey(cluster, pod) for _, cluster, pod, _ in rows if cluster is not None and pod is not None),
        )

    def close_cancelled(self, run_id: int) -> bool:
        """cancelling → cancelled once no request is live; gives whether it changed now. Reads every row of the run once."""
        return bool(self._database.execute(_CLOSE, {"run": run_id}))

    def counts(self, run_id: int) -> StateCounts:
        """Requests per state, in one statement and so at one instant."""
        by_state: Counter[str] = Counter()
        for count in class_counts(self._database, run_id):
            by_state[count.state] += count.requests
        return StateCounts(by_state=dict(by_state))

    def terminal(self, run_ids: Sequence[int]) -> dict[int, int]:
        """How many requests of each of these runs are terminal."""
        return dict(self._database.rows(_TERMINAL, {"runs": list(run_ids)}))

    def fold_counts(self) -> set[int]:
        """Add what has changed to what was counted; one process at a time, and the others do nothing and know of nothing busy."""

        def fold(cursor: Cursor) -> set[int]:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (COUNTS_LOCK,))
            if cursor.fetchone() != (True,):
                return set()
            cursor.execute(_FOLD)
            changed = {run_id for (run_id,) in cursor.fetchall()}
            cursor.execute(_GROWN, (sorted(changed),))
            cursor.execute(_UNDER_WAY)
            return changed | {run_id for (run_id,) in cursor.fetchall()}

        return self._database.run(fold)

    def all_terminal(self, run_id: int) -> bool:
        """Whether no request of the run will change any more: of BE none is left to release or under way, of LC every copy is terminal."""
        found = self._database.rows(_ALL_TERMINAL, {"run": run_id})
        return bool(found and found[0][0])

    def stored(self) -> list[StoredRun]:
        """Sizes are those of the partitions on disk, and `ATTEMPT_BYTES` for each request."""
        return [
            StoredRun(
                run_id=run_id,
                kind=RunKind(kind),
                name=name,
                status=RunStatus(status),
                accepted=accepted,
                ended_at_s=ended_at_s,
                size_bytes=int(size_bytes),
            )
            for run_id, kind, name, status, accepted, ended_at_s, size_bytes in self._database.rows(_STORED)
        ]

    def delete_attempts(self, run_id: int, *, beyond: int = -1) -> int | None:
        """Of `DELETED_AT_ONCE` requests, in a transaction of its own."""
        require_ended(self.run(run_id))
        of = {"run": run_id, "beyond": beyond, "limit": DELETED_AT_ONCE}
        ((last,),) = self._database.rows(_DELETE_ATTEMPTS, of)
        return last if last is None else int(last)

    def delete(self, run_id: int, *, why: str = "", within_s: float = 60.0) -> None:
        """Delete an ended run and everything recorded under it; decisions that other runs share stay.

        What is large goes in chunks first; interrupted there, it leaves a run without attempts, which can be deleted again. Dropping the
        partition locks the whole table `request` for a moment, and waits for that no longer than `DROP_LOCK_MS` at a time.
        Raises: UsageError for a run that does not exist or has not ended; StoreBusy.
        """
        last = self.delete_attempts(run_id)
        while last is not None:
            last = self.delete_attempts(run_id, beyond=last)
        for table, which in _OF_RUN.items():
            while self._delete_chunk(table, which, {"run": run_id}):
                pass
        until_s = time.monotonic() + within_s
        while not self._drop(run_id, why):
            if time.monotonic() > until_s:
                holders = ", ".join(words for (words,) in self._database.rows(_HOLDERS)) or "somebody"
                raise StoreBusy(
                    f"run {run_id} is not deleted: for {within_s:g} s others had the requests of all runs open: {holders}. End what they "
                    "do, or delete the run again later"
                )
            time.sleep(random.uniform(0.5, 1.5) * DROP_PAUSE_S)

    def delete_observations(self, *, before_s: float) -> int:
        """From the start of the oldest run on that is no simulation all of it stays."""
        return sum(self._delete_chunk(table, which, {"before": before_s}) for table, which in _OBSERVED.items())

    def _delete_chunk(self, table: str, which: str, of: dict[str, Any]) -> int:
        return self._database.execute(_CHUNK_OF.format(table=table, which=which), {**of, "limit": DELETED_AT_ONCE})

    def _drop(self, run_id: int, why: str) -> bool:
        """The rest of a run in one transaction; False where others had what it needs, and nothing was done."""

        def drop(cursor: Cursor) -> bool:
            cursor.execute(f"SET LOCAL lock_timeout = {DROP_LOCK_MS}")
            # Nobody changes its requests any more; without the lock what is being folded just now would be written after this.
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (COUNTS_LOCK,))
            # The run's row and its shares before the table `request`, which dropping a partition locks whole: others take them in this
            # order. The table last: from then on everybody waits for the end of this transaction.
            cursor.execute("SELECT FROM run WHERE run_id = %s FOR UPDATE", (run_id,))
            cursor.execute("SELECT FROM lc_share WHERE run_id = %s ORDER BY cluster FOR UPDATE", (run_id,))
            # Why pods wait is noted, and old logs are dropped, by whoever knows nothing of this.
            cursor.execute("SELECT FROM job WHERE run_id = %s ORDER BY request_id FOR UPDATE", (run_id,))
            cursor.execute("SELECT FROM job_log WHERE run_id = %s ORDER BY request_id, epoch, container FOR UPDATE", (run_id,))
            if why:
                cursor.execute(_REMEMBER, (why, run_id))
            for table in (
                "lc_share",
                "simulation",
                "job_log",
                "job",
                "attempt",
                "run_metric",
                "run_figures",
                "node_sample",
                "scaling_event",
                "run_count",
                "run_count_change",
                "run",
            ):
                cursor.execute(f"DELETE FROM {table} WHERE run_id = %s", (run_id,))
            cursor.execute("SELECT drop_request_partition(%s)", (run_id,))
            return True

        try:
            return self._database.run(drop)
        except StoreBusy:
            return False


def _shares(requests: NewRequests) -> list[dict[str, Any]]:
    """What each cluster has of LC, as columns of `lc_share`."""
    entries, counts = np.unique(requests.cluster[requests.service_class == ServiceClass.LC], return_counts=True)
    return [{"cluster": requests.clusters[k], "accepted": int(n)} for k, n in zip(entries, counts, strict=True)]


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
        # Of all requests or of none (`tango.store.be_requests._STREAMS`).
        **({} if requests.tenant is None else {"tenant": words(requests.tenant, requests.tenants)}),
    }
