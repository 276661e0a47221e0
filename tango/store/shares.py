"""Shares, copies and positions of journals: implements `tango.ports.shares.ShareStore`.

A shipment is one transaction with a handful of statements, however many rows it has. It locks, in the one order of
`tango.store.lifecycle_sql`, first the position of its journal, then the shares of its runs, then the requests, run by run.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from tango.domain.observations import InstanceState
from tango.domain.own_cluster import OwnView
from tango.domain.requests import NO_TARGET_S, RequestState
from tango.domain.runs import ENDED, OPEN, RunInfo, RunKind
from tango.domain.services import ServiceClass
from tango.domain.shares import (
    AcceptedCopy,
    AttemptCopy,
    Followed,
    JournalGap,
    LcInFlight,
    LcWait,
    PublishedFleet,
    RequestCopy,
    ShareRows,
    ShareState,
    Shipment,
    ShippedTo,
)
from tango.domain.state_lists import LIVE_STATES, TERMINAL_STATES, listed
from tango.settings import LeaseSettings, SharingSettings
from tango.store.clusters import IS_SILENT
from tango.store.database import NOT_AWAITED, Cursor, Database
from tango.store.events import insert_shipped
from tango.store.fleet import PostgresFleetStore
from tango.store.lifecycle_sql import OF_CALLERS
from tango.store.rows import columns_of, insert
from tango.store.runs import RUN_COLUMNS, run_info

_LC = f"'{ServiceClass.LC.label}'"
_SHARE = "s.run_id, s.cluster, s.accepted, s.handed_to, s.complete, s.terminal"
_FOLLOWED = f"""
SELECT {_SHARE}, {RUN_COLUMNS} FROM run r LEFT JOIN lc_share s ON s.run_id = r.run_id AND s.cluster = ANY (%s)
WHERE r.kind <> 'simulated' AND r.status NOT IN {listed(ENDED)} ORDER BY s.run_id
"""
_ROW_COLUMNS = {
    "request_id": "request_id",
    "service": "service",
    "due_s": "due_s",
    "target_s": f"coalesce(target_s, {NO_TARGET_S})",
    "cpu_work_s": "cpu_work_s",
    "memory_mib": "memory_mib",
    "epoch": "epoch",
    "attempt": "attempt",
}
_ROWS = f"""
SELECT {", ".join(_ROW_COLUMNS.values())} FROM request
WHERE run_id = %s AND request_id > %s AND class = {_LC} AND cluster = %s AND state IN {LIVE_STATES}
ORDER BY request_id LIMIT %s
"""
_HOLD_SHARES = "SELECT run_id FROM lc_share WHERE cluster = %s AND run_id = ANY (%s) ORDER BY run_id FOR NO KEY UPDATE"
# What a caller's request takes is not known before, and what its service takes on average may be assumed. It has been served by one core
# at the most, so it was no more than the time that its instance had it.
_MOST_WORK_S = f"""
least({{}}, CASE WHEN v.state = '{RequestState.SUCCEEDED}' AND v.finished_s > v.started_s THEN v.finished_s - v.started_s END)
""".strip()
# The ids stand in the condition too, so that it is by the index that rows are found, whatever the planner expects of the JSON text.
# The newest epoch wins: of two journals that had a request, one after the other, the second took it under the epoch of the first.
_COPY = f"""
WITH locked AS (
    SELECT v.* FROM request r
    JOIN json_to_recordset(%(rows)s) AS v(request_id int, state request_state, epoch int, attempt int, cluster text, node text,
        owner text, late bool, started_s float8, finished_s float8, reason text) USING (request_id)
    WHERE r.run_id = %(run)s AND r.request_id = ANY (%(ids)s) AND r.class = {_LC} AND r.cluster = %(entry)s
      AND r.state IN {LIVE_STATES} AND r.epoch <= v.epoch
    ORDER BY r.request_id FOR NO KEY UPDATE OF r
), copied AS (
    UPDATE request r SET state = v.state, epoch = v.epoch, attempt = v.attempt, target_cluster = v.cluster, node = v.node,
        owner = v.owner, late = v.late, started_s = v.started_s, finished_s = v.finished_s, reason = v.reason, lease_until = NULL,
        cpu_work_s = CASE WHEN {OF_CALLERS} THEN {_MOST_WORK_S.format("r.cpu_work_s")} ELSE r.cpu_work_s END
    FROM locked v WHERE r.run_id = %(run)s AND r.request_id = v.request_id
    RETURNING r.state
)
UPDATE lc_share SET terminal = terminal + (SELECT count(*) FROM copied WHERE state IN {TERMINAL_STATES})
WHERE run_id = %(run)s AND cluster = %(entry)s
"""
# What callers sent has its row here from this statement on, in the state that it had at the end of the shipment.
_ACCEPTED = f"""
WITH added AS (
    INSERT INTO request (run_id, request_id, class, service, cluster, due_s, target_s, cpu_work_s, memory_mib, tenant, state, epoch,
                         attempt, target_cluster, node, owner, late, started_s, finished_s, reason)
    SELECT %(run)s, v.request_id, {_LC}, v.service, %(entry)s, v.due_s, v.target_s, {_MOST_WORK_S.format("v.cpu_work_s")},
           v.memory_mib, v.tenant, v.state,
           v.epoch, v.attempt, v.cluster, v.node, v.owner, v.late, v.started_s, v.finished_s, v.reason
    FROM json_to_recordset(%(rows)s) AS v(request_id int, service text, due_s float8, target_s float8, cpu_work_s float8,
        memory_mib float8, tenant text, state request_state, epoch int, attempt int, cluster text, node text, owner text, late bool,
        started_s float8, finished_s float8, reason text)
    ORDER BY v.request_id
    ON CONFLICT DO NOTHING RETURNING state
)
UPDATE lc_share SET accepted = accepted + (SELECT count(*) FROM added),
    terminal = terminal + (SELECT count(*) FROM added WHERE state IN {TERMINAL_STATES})
WHERE run_id = %(run)s AND cluster = %(entry)s
"""
_SHARES_OF_LIVE = f"""
INSERT INTO lc_share (run_id, cluster, accepted, opened)
SELECT run_id, %s, 0, true FROM run WHERE run_id = ANY (%s) AND kind = '{RunKind.LIVE}' ORDER BY run_id
ON CONFLICT DO NOTHING
"""
_ATTEMPTS = f"""
INSERT INTO attempt (run_id, request_id, epoch, class, service, cluster, node, started_s, finished_s, latency_s, outcome, reason,
                     work_lost_s, ended_at, released_s, dispatched_s, sent_s, decision_id)
SELECT r.run_id, r.request_id, v.epoch, r.class, v.service, v.cluster, v.node, v.started_s, v.finished_s, v.latency_s, v.outcome,
       v.reason, v.work_lost_s, to_timestamp(v.ended_at_s), v.released_at_s - u.zero_s, v.dispatched_at_s - u.zero_s, v.sent_s,
       d.decision_id
FROM json_to_recordset(%(rows)s) AS v(request_id int, epoch int, service text, cluster text, node text, started_s float8,
    finished_s float8, latency_s float8, outcome text, reason text, work_lost_s float8, ended_at_s float8, released_at_s float8,
    dispatched_at_s float8, sent_s float8, decided bigint)
JOIN request r USING (request_id)
CROSS JOIN (SELECT extract(epoch FROM started_at)::float8 AS zero_s FROM run WHERE run_id = %(run)s) u
LEFT JOIN json_to_recordset(%(decisions)s) AS d(sequence bigint, decision_id bigint) ON d.sequence = v.decided
WHERE r.run_id = %(run)s AND r.request_id = ANY (%(ids)s) AND r.class = {_LC} AND r.cluster = %(entry)s
ORDER BY r.request_id, v.epoch
ON CONFLICT DO NOTHING
"""
# The newest: a journal that was lost had numbers of its own.
_DECISIONS = """
SELECT coalesce(json_agg(json_build_object('sequence', sequence, 'decision_id', decision_id)), '[]')::text FROM (
    SELECT sequence, max(decision_id) AS decision_id FROM decision WHERE cluster = %s AND sequence = ANY (%s) GROUP BY sequence
) d
"""

SKIPPED_RUNS = 1000
"""Numbers of runs that are left out after a restore: more than are submitted between two backups."""
_GO_ON = """
INSERT INTO journal_position AS p (cluster, journal, sequence) VALUES (%(cluster)s, %(journal)s, %(last)s)
ON CONFLICT (cluster, journal) DO UPDATE SET sequence = greatest(p.sequence, excluded.sequence)
"""
_LOST = """
INSERT INTO journal_gap AS g (cluster, missing) SELECT name, %(missing)s FROM cluster WHERE name = %(cluster)s
ON CONFLICT (cluster) DO UPDATE SET missing = g.missing + excluded.missing, noted_at = now()
"""
_SKIP_RUNS = f"SELECT count(nextval(pg_get_serial_sequence('run', 'run_id'))) FROM generate_series(1, {SKIPPED_RUNS})"


PUBLISHED_MAX_AGE_S = 0.25
"""Seconds; half of `JournalSettings.publish_every_s`, as often as agents write what they have seen."""


@dataclass(frozen=True, slots=True)
class _Base:
    """The fleet without any LC in flight, and that by the cluster which it entered."""

    view: OwnView
    in_flight: list[tuple[str, LcInFlight]]
    instances: tuple[tuple[str, InstanceState], ...]
    read_at_s: float
    """On the monotonic clock."""


class PostgresShareStore:
    """The share store on PostgreSQL."""

    def __init__(self, database: Database, sharing: SharingSettings | None = None, lease: LeaseSettings | None = None) -> None:
        self._database = database
        self._lease = lease or LeaseSettings()
        self._fleet = PostgresFleetStore(database, sharing, lease)
        self._read = threading.Lock()
        self._base: _Base | None = None

    def centre(self) -> str:
        """Drawn by the migration that made the table."""
        [(identity,)] = self._database.rows("SELECT identity FROM centre")
        return str(identity)

    def followed(self, clusters: Sequence[str]) -> Followed:
        """In one statement for all of them. A run without a share of any has a row too, with nothing for the share."""
        shares: dict[str, list[tuple[RunInfo, ShareState]]] = {cluster: [] for cluster in clusters}
        is_open = False
        for row in self._database.rows(_FOLLOWED, (list(clusters),)):
            run = run_info(row[6:])
            is_open |= run.kind is not RunKind.LIVE
            if row[0] is not None:
                shares[row[1]].append((run, _share(row[:6])))
        return Followed(shares=shares, is_open=is_open)

    def open_share(self, run_id: int, cluster: str) -> bool:
        """Give the share to the cluster's journal; False where the run is not open, or has no such share.

        The run's row is held meanwhile, so that a cancellation comes before, and is seen, or after, and leaves the share to the journal.
        """

        def open_share(cursor: Cursor) -> bool:
            cursor.execute(f"SELECT FROM run WHERE run_id = %s AND status IN {listed(OPEN)} FOR SHARE", (run_id,))
            if cursor.rowcount == 0:
                return False
            cursor.execute("UPDATE lc_share SET opened = true WHERE run_id = %s AND cluster = %s", (run_id, cluster))
            return bool(cursor.rowcount)

        return self._database.run(open_share)

    def share_rows(self, run_id: int, cluster: str, *, beyond: int, limit: int) -> ShareRows:
        """The first live requests of the share with ids above `beyond`, in order of id; a request without target has 1e9 s."""
        of = columns_of(_ROW_COLUMNS, self._database.rows(_ROWS, (run_id, beyond, cluster, limit)))
        return ShareRows(
            request_id=np.array(of["request_id"], np.int64),
            service=tuple(of["service"]),
            due_s=np.array(of["due_s"], np.float64),
            target_s=np.array(of["target_s"], np.float64),
            cpu_work_s=np.array(of["cpu_work_s"], np.float64),
            memory_mib=np.array(of["memory_mib"], np.float64),
            epoch=np.array(of["epoch"], np.int32),
            attempt=np.array(of["attempt"], np.int32),
        )

    def handed(self, run_id: int, cluster: str, *, up_to: int, complete: bool) -> None:
        """Note how far the journal has the share; a smaller id than is noted changes nothing, and what is complete stays so."""
        self._database.execute(
            "UPDATE lc_share SET handed_to = %(to)s, complete = complete OR %(complete)s "
            "WHERE run_id = %(run)s AND cluster = %(cluster)s AND handed_to <= %(to)s",
            {"to": up_to, "complete": complete, "run": run_id, "cluster": cluster},
        )

    def shares(self, run_id: int) -> list[ShareState]:
        """All shares of a run, by cluster; none of a run without LC requests, or of one that was simulated."""
        return [
            _share(row)
            for row in self._database.rows(f"SELECT {_SHARE} FROM lc_share s WHERE s.run_id = %s ORDER BY s.cluster", (run_id,))
        ]

    def apply(self, shipment: Shipment) -> int:
        """Write a shipment if it begins right after the position of its journal; gives the position from then on."""
        return self._database.run(lambda cursor: _apply(cursor, shipment))

    def go_on(self, cluster: str, journal: str, *, first: int) -> int:
        """Go on with a new position, and tell what was lost in the same transaction."""

        def go_on(cursor: Cursor) -> int:
            of = {"cluster": cluster, "journal": journal, "last": first - 1}
            cursor.execute(
                "SELECT sequence FROM journal_position WHERE cluster = %(cluster)s AND journal = %(journal)s FOR UPDATE", of
            )
            (position,) = cursor.fetchone() or (0,)
            missing = max(0, first - 1 - int(position))
            cursor.execute(_GO_ON, of)
            if missing:
                cursor.execute(_LOST, of | {"missing": missing})
            cursor.execute(_SKIP_RUNS)
            return missing

        return self._database.run(go_on)

    def gaps(self) -> list[JournalGap]:
        """Of each cluster whose journal went on without events that the centre had lost, how many these were."""
        rows = self._database.rows(
            "SELECT cluster, missing, extract(epoch FROM noted_at)::float8 FROM journal_gap ORDER BY cluster"
        )
        return [JournalGap(cluster=cluster, missing=missing, at_s=at_s) for cluster, missing, at_s in rows]

    def position(self, cluster: str, journal: str) -> int:
        """Sequence number up to which the journal has been shipped; 0: nothing of it."""
        found = self._database.rows("SELECT sequence FROM journal_position WHERE cluster = %s AND journal = %s", (cluster, journal))
        return int(found[0][0]) if found else 0

    def positions(self) -> list[ShippedTo]:
        """By cluster, the position of the journal that was shipped last."""
        rows = self._database.rows(
            "SELECT DISTINCT ON (cluster) cluster, journal, sequence, extract(epoch FROM shipped_at)::float8 FROM journal_position "
            "ORDER BY cluster, shipped_at DESC"
        )
        return [
            ShippedTo(cluster=cluster, journal=journal, sequence=sequence, at_s=at_s) for cluster, journal, sequence, at_s in rows
        ]

    def note_in_flight(self, cluster: str, found: Sequence[LcInFlight], wait: LcWait) -> None:
        """Replace what the cluster's journal has in flight, and how much waits; nothing for a cluster that has left."""
        rows = [
            {
                "cluster": cluster,
                "service": f.service,
                "target_cluster": f.cluster,
                "node": f.node,
                "count": f.requests,
                "scale": f.scale,
            }
            for f in found
        ]

        def note(cursor: Cursor) -> None:
            # The cluster's row first: two agents of one cluster write one after the other, and a cluster that leaves takes its row away
            # before what it had in flight.
            told = "UPDATE cluster SET lc_under_way = %s, lc_late = %s WHERE name = %s"
            cursor.execute(NOT_AWAITED + told, (*wait, cluster))
            if cursor.rowcount:
                cursor.execute("DELETE FROM lc_in_flight WHERE cluster = %s", (cluster,))
                insert(cursor, "lc_in_flight", rows)

        self._database.run(note)

    def lc_waits(self) -> dict[str, LcWait]:
        """How LC waits in each cluster, read from the clusters' rows."""
        rows = self._database.rows(
            f"SELECT name, lc_under_way, lc_late FROM cluster c WHERE lc_late > 0 AND ({IS_SILENT}) IS NOT TRUE",
            {"silent": self._lease.silent_s},
        )
        return {name: LcWait(under_way, late) for name, under_way, late in rows}

    def published_fleet(self, cluster: str, *, at_s: float) -> PublishedFleet:
        """The snapshot without the cluster's own LC in flight, and the instances of all clusters.

        An agent process asks for each of its clusters: all that ask within `PUBLISHED_MAX_AGE_S` have one reading.
        """
        with self._read:
            base = self._base
            if base is None or time.monotonic() - base.read_at_s > PUBLISHED_MAX_AGE_S:
                read_at_s = time.monotonic()
                snapshot, in_flight = self._fleet.snapshot_and_lc(at_s=at_s)
                base = self._base = _Base(OwnView.of(snapshot), in_flight, tuple(self._fleet.instances()), read_at_s)
        others = [found for entry, found in base.in_flight if entry != cluster]
        return PublishedFleet(snapshot=base.view.with_in_flight(others, at_s=at_s), instances=base.instances)


def _apply(cursor: Cursor, shipment: Shipment) -> int:
    of = shipment.cluster, shipment.journal
    if shipment.first == 1:  # of a journal that begins elsewhere nothing is known, and nothing is written
        cursor.execute("INSERT INTO journal_position (cluster, journal, sequence) VALUES (%s, %s, 0) ON CONFLICT DO NOTHING", of)
    cursor.execute("SELECT sequence FROM journal_position WHERE cluster = %s AND journal = %s FOR UPDATE", of)
    (position,) = cursor.fetchone() or (0,)
    if shipment.first != position + 1:
        return int(position)
    requests, attempts = _by_run(shipment.requests), _by_run(shipment.attempts)
    # Runs whose share is gone were deleted: nothing of them is written. The others cannot be deleted until this has been committed.
    accepted: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for copy, *never_changing in shipment.accepted:
        names = AcceptedCopy._fields[1:]
        accepted[copy.run_id].append(copy._asdict() | dict(zip(names, never_changing, strict=True)))
    runs = sorted({*accepted, *requests, *attempts, *(d.run_id for d in shipment.decisions)})
    if accepted:
        cursor.execute(_SHARES_OF_LIVE, (shipment.cluster, sorted(accepted)))
    cursor.execute(_HOLD_SHARES, (shipment.cluster, runs))
    there = [run_id for (run_id,) in cursor.fetchall()]
    insert_shipped(cursor, [d for d in shipment.decisions if d.run_id in there])
    decisions = "[]"
    if decided := sorted({a.decided for a in shipment.attempts if a.decided is not None}):
        cursor.execute(_DECISIONS, (shipment.cluster, decided))
        ((decisions,),) = cursor.fetchall()
    for run_id in there:
        known = {"run": run_id, "entry": shipment.cluster}
        if run_id in accepted:
            cursor.execute(_ACCEPTED, {"rows": orjson.dumps(accepted[run_id]).decode()} | known)
        if run_id in requests:
            cursor.execute(_COPY, _rows(requests[run_id]) | known)
        if run_id in attempts:
            cursor.execute(_ATTEMPTS, _rows(attempts[run_id]) | known | {"decisions": decisions})
    cursor.execute(
        "UPDATE journal_position SET sequence = %s, shipped_at = now() WHERE cluster = %s AND journal = %s", (shipment.last, *of)
    )
    return shipment.last


def _by_run(copies: Sequence[Any]) -> Mapping[int, list[Any]]:
    by_run: dict[int, list[Any]] = defaultdict(list)
    for copy in copies:
        by_run[copy.run_id].append(copy)
    return by_run


def _rows(copies: Sequence[RequestCopy] | Sequence[AttemptCopy]) -> dict[str, Any]:
    """As one JSON text: written and read several times as fast as an array for each column. The ids once more, for the index."""
    names = copies[0]._fields
    rows = orjson.dumps([dict(zip(names, copy, strict=True)) for copy in copies]).decode()
    return {"rows": rows, "ids": [copy.request_id for copy in copies]}


def _share(row: tuple[Any, ...]) -> ShareState:
    run_id, cluster, accepted, handed_to, complete, terminal = row
    return ShareState(run_id=run_id, cluster=cluster, accepted=accepted, handed_to=handed_to, complete=complete, terminal=terminal)
