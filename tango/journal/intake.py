"""What the agent brings into the journal: the runs, their requests long before they are due, and the end of runs that were stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from tango.domain.lifecycle import Event, state_after
from tango.domain.runs import ENDED, RunInfo, RunKind, RunStatus
from tango.domain.services import ServiceClass
from tango.domain.shares import ShareRows
from tango.domain.state_lists import LIVE_STATES, listed
from tango.errors import UsageError
from tango.journal.attempts import JournalAttempts
from tango.journal.database import Connection
from tango.journal.schema import IS_UNDER_WAY, NOT_SHIPPED, RUN_FIELDS

_ACCEPTED = str(state_after([Event.SUBMIT], ServiceClass.LC))

_FOLLOW = (
    f"INSERT INTO run ({', '.join(RUN_FIELDS)}, followed) VALUES ({', '.join('?' * len(RUN_FIELDS))}, 1) ON CONFLICT (run_id) "
    f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in RUN_FIELDS[1:])}, followed = 1"
)
_ENDED_LIVE = f"UPDATE run SET status = '{RunStatus.COMPLETED}' WHERE NOT followed AND kind = '{RunKind.LIVE}'"
_FORGET = f"""
DELETE FROM run WHERE NOT followed AND NOT EXISTS (SELECT 1 FROM request q WHERE q.run_id = run.run_id)
  AND run_id NOT IN (SELECT run_id FROM event WHERE {NOT_SHIPPED})
"""
_TAKE = """
INSERT INTO request (run_id, request_id, service, due_s, target_s, cpu_work_s, memory_mib, epoch, attempt, state)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# First what is under way, by its index; then, in order, what was never released.
_LIVE_UNDER_WAY = f"SELECT request_id, epoch FROM request WHERE {IS_UNDER_WAY} AND run_id = ? ORDER BY request_id LIMIT ?"
_LIVE_ACCEPTED = f"""
SELECT request_id, epoch FROM request
WHERE run_id = ?1 AND request_id >= (SELECT next_request FROM run WHERE run_id = ?1) AND state IN {LIVE_STATES}
ORDER BY request_id LIMIT ?2
"""


class Intake(JournalAttempts):
    """The part of the journal that the cluster's agent fills."""

    def belong_to(self, centre: str) -> bool:
        """Note the centre; of another one than before, forget everything but the fleet, and draw a new identity."""

        def belong(connection: Connection) -> bool:
            known = connection.execute("SELECT value FROM meta WHERE name = 'centre'").fetchone()
            if known == (centre,):
                return False
            connection.execute(
                "INSERT INTO meta VALUES ('centre', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (centre,)
            )
            if known is None:
                return False
            for table in ("event", "request", "run", "process", "lease", "number_block", "call", "answer", "call_key"):
                connection.execute(f"DELETE FROM {table}")
            fresh = [(os.urandom(16).hex(), "identity"), (0, "sequence"), (0, "position")]
            connection.executemany("UPDATE meta SET value = ? WHERE name = ?", fresh)
            return True

        return self._database.write(belong)

    def note_access(self, kubeconfig: str, context: str) -> None:
        """The path of the file and the name of the context, never the content."""
        sql = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        self._database.write(lambda connection: connection.executemany(sql, [("kubeconfig", kubeconfig), ("context", context)]))

    def access(self) -> tuple[str, str] | None:
        """The kubeconfig and context that `note_access` has kept; None before that."""
        sql = "SELECT name, value FROM meta WHERE name IN ('kubeconfig', 'context')"
        found = dict(self._database.read(lambda connection: connection.execute(sql).fetchall()))
        return (found["kubeconfig"], found["context"]) if found else None

    def follow(self, runs: Sequence[RunInfo]) -> None:
        """Keep these runs as they are now; forget others once nothing of them is left here."""

        def follow(connection: Connection) -> None:
            connection.execute("UPDATE run SET followed = 0")
            connection.executemany(_FOLLOW, [tuple(_plain(getattr(run, name)) for name in RUN_FIELDS) for run in runs])
            # It stands here as long as its answers do.
            connection.execute(_ENDED_LIVE)
            forget_runs(connection)

        self._database.write(follow)

    def runs(self) -> list[RunInfo]:
        """The runs that are kept, by id."""
        sql = f"SELECT {', '.join(RUN_FIELDS)} FROM run ORDER BY run_id"
        return [_run_of(row) for row in self._database.read(lambda connection: connection.execute(sql).fetchall())]

    def run(self, run_id: int) -> RunInfo:
        """One of them. Raises: UsageError for one that is not kept."""
        sql = f"SELECT {', '.join(RUN_FIELDS)} FROM run WHERE run_id = ?"
        row = self._database.read(lambda connection: connection.execute(sql, (run_id,)).fetchone())
        if row is None:
            known = ", ".join(str(run.run_id) for run in self.runs()) or "none"
            raise UsageError(f"the journal of cluster {self._cluster} has no run {run_id}; it has: {known}")
        return _run_of(row)

    def taken_to(self, run_id: int) -> int:
        """Id of the last request of the run that is here or was; -1: none, or no such run."""
        sql = "SELECT taken_to FROM run WHERE run_id = ?"
        found = self._database.read(lambda connection: connection.execute(sql, (run_id,)).fetchone())
        return -1 if found is None else int(found[0])

    def take(self, run_id: int, rows: ShareRows, *, up_to: int = -1) -> int:
        """Accept requests, with how far that has come, one transaction per chunk; gives how many were accepted."""
        new = _columns(rows)
        accepted = sum(
            self._database.write(partial(_take, run_id=run_id, rows=new[k : k + self._chunk_rows]))
            for k in range(0, len(new), self._chunk_rows)
        )
        if up_to > (new[-1][0] if new else -1):
            sql = "UPDATE run SET taken_to = max(taken_to, ?) WHERE run_id = ?"
            self._database.write(lambda connection: connection.execute(sql, (up_to, run_id)))
        return accepted

    def take_again(self, run_id: int, rows: ShareRows) -> int:
        """Those that are not here, one transaction per chunk; the release begins again at the first of them."""
        new = _columns(rows)
        return sum(
            self._database.write(partial(_take_again, run_id=run_id, rows=new[k : k + self._chunk_rows]))
            for k in range(0, len(new), self._chunk_rows)
        )

    def cancel_stopped(self, *, limit: int) -> int:
        """Cancel live requests of runs that are being cancelled, with an attempt for each that is in flight; one transaction per chunk."""
        cancelled = 0
        while cancelled < limit:
            chunk = min(limit - cancelled, self._chunk_rows)
            found = self._database.write(partial(self._cancel_chunk, limit=chunk))
            cancelled += found
            if found < chunk:
                break
        return cancelled

    def _cancel_chunk(self, connection: Connection, limit: int) -> int:
        cancelled = 0
        stopped = connection.execute(
            "SELECT run_id FROM run WHERE status = ? ORDER BY run_id", (RunStatus.CANCELLING.value,)
        ).fetchall()
        for (run_id,) in stopped:
            for sql in (_LIVE_UNDER_WAY, _LIVE_ACCEPTED):
                rows = connection.execute(sql, (run_id, limit - cancelled)).fetchall() if cancelled < limit else []
                ends = self._end(connection, run_id, [(k, epoch, Event.CANCEL, "", None, None, 0.0, None) for k, epoch in rows])
                cancelled += len(ends)
                if sql is _LIVE_ACCEPTED and rows:
                    connection.execute("UPDATE run SET next_request = ? WHERE run_id = ?", (rows[-1][0] + 1, run_id))
        return cancelled


def forget_runs(connection: Connection) -> None:
    """Forget the runs that are not followed and of which nothing is left, in requests or in events."""
    if connection.execute("SELECT 1 FROM run WHERE NOT followed").fetchone() is not None:
        connection.execute(_FORGET)
        connection.execute("DELETE FROM number_block WHERE run_id NOT IN (SELECT run_id FROM run)")


def _take(connection: Connection, run_id: int, rows: list[tuple[Any, ...]]) -> int:
    # Also of a run that is being cancelled: what a lost journal had of it is to be cancelled by this one.
    sql = f"SELECT taken_to FROM run WHERE run_id = ? AND status NOT IN {listed(ENDED)}"
    (taken_to,) = connection.execute(sql, (run_id,)).fetchone() or (None,)
    if taken_to is None:
        return 0
    new = [(run_id, *row, _ACCEPTED) for row in rows if row[0] > taken_to]
    if new:
        connection.executemany(_TAKE, new)
        connection.execute("UPDATE run SET taken_to = ? WHERE run_id = ?", (new[-1][1], run_id))
    return len(new)


def _take_again(connection: Connection, run_id: int, rows: list[tuple[Any, ...]]) -> int:
    sql = f"SELECT taken_to FROM run WHERE run_id = ? AND status NOT IN {listed(ENDED)}"
    (taken_to,) = connection.execute(sql, (run_id,)).fetchone() or (-1,)
    here = "SELECT 1 FROM request WHERE run_id = ? AND request_id = ?"
    # What has ended and been shipped is told once more by the events that are kept of it.
    told = {k for (k,) in connection.execute("SELECT DISTINCT request_id FROM event WHERE run_id = ?", (run_id,))}
    new = [
        (run_id, *row, _ACCEPTED)
        for row in rows
        if row[0] <= taken_to and row[0] not in told and connection.execute(here, (run_id, row[0])).fetchone() is None
    ]
    if new:
        connection.executemany(_TAKE, new)
        connection.execute("UPDATE run SET next_request = min(next_request, ?) WHERE run_id = ?", (new[0][1], run_id))
    return len(new)


def _columns(rows: ShareRows) -> list[tuple[Any, ...]]:
    """The columns of `_TAKE` that stand between the run and the state, in its order."""
    figures = (rows.due_s, rows.target_s, rows.cpu_work_s, rows.memory_mib, rows.epoch, rows.attempt)
    return list(zip(rows.request_id.tolist(), rows.service, *(column.tolist() for column in figures), strict=True))


def _run_of(row: tuple[Any, ...]) -> RunInfo:
    found = dict(zip(RUN_FIELDS, row, strict=True))
    words = {"status": RunStatus(found["status"]), "kind": RunKind(found["kind"]), "reassure": bool(found["reassure"])}
    return RunInfo(**(found | words))


def _plain(value: object) -> object:
    return str(value) if isinstance(value, RunStatus | RunKind) else value
