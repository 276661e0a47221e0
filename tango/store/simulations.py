"""Simulated runs from their order to their result: implements `tango.ports.simulations.SimulationStore`.

As with requests, each change is one claimed statement or transaction: a claim raises the epoch and holds a lease by the database's
clock, and what does not end under it can be claimed again. A result counts as long as the run has none, under whatever epoch it was
computed: equal cells have equal results. Whoever changes both locks the row of `run` first and that of `simulation` second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg2.extras import Json

from tango.domain.runs import OPEN, RunKind, RunStatus
from tango.domain.simulations import (
    ClaimedSimulation,
    NewSimulation,
    OpenedSimulation,
    SimulatedRows,
    SimulationProgress,
)
from tango.domain.state_lists import listed
from tango.store.database import Cursor, Database
from tango.store.rows import insert, metric_rows
from tango.store.simulated_rows import write_rows

OPEN_LOCK = 0x7369_6D75
"""Key of the advisory lock ("simu" in ASCII) under which one command at a time looks for cells and adds those that are missing."""

_KNOWN = f"""
SELECT DISTINCT ON (s.key) s.key, r.run_id, r.status FROM simulation s JOIN run r USING (run_id)
WHERE s.key = ANY (%(keys)s) AND (s.record OR NOT %(record)s)
  AND (r.status IN {listed(OPEN)} OR (r.status = '{RunStatus.COMPLETED}' AND NOT %(forget)s))
ORDER BY s.key, r.status = '{RunStatus.COMPLETED}' DESC, r.run_id DESC
"""
_CLAIM = f"""
UPDATE simulation s SET epoch = s.epoch + 1, owner = %(owner)s, lease_until = now() + %(lease)s * interval '1 s'
FROM run r
WHERE s.run_id = %(run)s AND r.run_id = s.run_id AND r.status IN {listed(OPEN)}
  AND (s.lease_until IS NULL OR s.lease_until < now())
RETURNING s.epoch, s.key, s.cell::text, s.record
"""
# A run whose worker is gone is asked for as soon as its lease is over; one that nobody has taken, at growing distances while others
# are worked on, since it may only be waiting for its turn, and at even ones while nobody works.
_UNCLAIMED = f"""
UPDATE simulation s SET published = s.published + 1, published_at = now()
FROM (SELECT s.run_id FROM simulation s JOIN run r USING (run_id)
      WHERE s.run_id = ANY (%(runs)s) AND r.status IN {listed(OPEN)} AND (s.lease_until IS NULL OR s.lease_until < now())
        AND (s.lease_until > s.published_at
             OR s.published_at < now() - %(after)s * interval '1 s' * CASE WHEN %(busy)s THEN 2 ^ least(s.published - 1, 12) ELSE 1 END)
      ORDER BY s.run_id LIMIT %(limit)s FOR UPDATE OF s SKIP LOCKED) lost
WHERE s.run_id = lost.run_id RETURNING s.run_id
"""


class PostgresSimulationStore:
    """The simulation store on PostgreSQL: orders, claims and results of simulated runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, cells: Sequence[NewSimulation], *, record: bool, forget: bool) -> list[OpenedSimulation]:
        """In one transaction, find cells that are finished or under way and add a run for each of the rest; one element per cell.

        `record`: only runs that keep their rows count as known. `forget`: finished runs do not. Equal keys share one run.
        """

        def order(cursor: Cursor) -> list[OpenedSimulation]:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (OPEN_LOCK,))
            cursor.execute(_KNOWN, {"keys": [cell.key for cell in cells], "record": record, "forget": forget})
            known = {key: (run_id, status) for key, run_id, status in cursor.fetchall()}
            # Whoever asks waits from now on: messages of an earlier command may be lost.
            under_way = [run_id for run_id, status in known.values() if status != RunStatus.COMPLETED]
            cursor.execute(
                "UPDATE simulation SET published = 1, published_at = now() WHERE run_id = ANY (%s) AND lease_until IS NULL",
                (under_way,),
            )
            missing = {cell.key: cell for cell in cells if cell.key not in known}
            made = dict(zip(missing, _insert(cursor, list(missing.values()), record), strict=True))
            return [
                OpenedSimulation(run_id=made[cell.key] if cell.key in made else known[cell.key][0], is_new=cell.key in made)
                for cell in cells
            ]

        return self._database.run(order, once=True)

    def claim(self, run_id: int, *, owner: str, lease_s: float, most_claims: int) -> ClaimedSimulation | None:
        """accepted, or running without a live lease → running, under a new epoch; None where there is nothing to claim.

        The claim after `most_claims` fails the run instead: its workers have ended each time, and would go on ending.
        """

        def claim(cursor: Cursor) -> ClaimedSimulation | None:
            cursor.execute("SELECT FROM run WHERE run_id = %s FOR NO KEY UPDATE", (run_id,))
            cursor.execute(_CLAIM, {"run": run_id, "owner": owner, "lease": lease_s})
            found = cursor.fetchone()
            if found is None:
                return None
            epoch, key, cell, record = found
            if epoch > most_claims:
                failure = f"given up after {most_claims} attempts: each time its worker ended without a result (out of memory?)"
                _end(cursor, run_id, RunStatus.FAILED, failure)
                return None
            # Milliseconds: rows of the run are given as this plus simulated time, and come back to the microsecond.
            cursor.execute(
                f"UPDATE run SET status = '{RunStatus.RUNNING}', started_at = date_trunc('milliseconds', now()) WHERE run_id = %s",
                (run_id,),
            )
            return ClaimedSimulation(run_id=run_id, epoch=epoch, key=key, cell=json.loads(cell), record=record)

        return self._database.run(claim)

    def renew(self, claim: ClaimedSimulation, *, lease_s: float) -> bool:
        """Extend the lease of a claim; False where the run has ended or a newer claim was made."""
        return bool(
            self._database.execute(
                "UPDATE simulation s SET lease_until = now() + %s * interval '1 s' FROM run r "
                f"WHERE s.run_id = %s AND s.epoch = %s AND r.run_id = s.run_id AND r.status = '{RunStatus.RUNNING}'",
                (lease_s, claim.run_id, claim.epoch),
            )
        )

    def finish(
        self,
        claim: ClaimedSimulation,
        *,
        result: Mapping[str, Any],
        figures: Mapping[str, float | int | str | None],
        rows: SimulatedRows | None,
    ) -> bool:
        """running → completed, with result, figures and rows in one transaction; False where the run has ended already."""

        def finish(cursor: Cursor) -> bool:
            cursor.execute(
                f"SELECT started_at FROM run WHERE run_id = %s AND status = '{RunStatus.RUNNING}' FOR UPDATE", (claim.run_id,)
            )
            found = cursor.fetchone()
            if found is None:
                return False
            if rows is not None:
                write_rows(cursor, claim.run_id, found[0], rows)
            cursor.execute("UPDATE simulation SET result = %s WHERE run_id = %s", (json.dumps(result), claim.run_id))
            insert(cursor, "run_metric", metric_rows(claim.run_id, figures))
            cursor.execute("UPDATE run SET accepted = %s WHERE run_id = %s", (figures["accepted"], claim.run_id))
            _end(cursor, claim.run_id, RunStatus.COMPLETED, "")
            return True

        return self._database.run(finish)

    def fail(self, claim: ClaimedSimulation, message: str) -> bool:
        """running → failed with this message; False where the run has ended or a newer claim was made."""

        def fail(cursor: Cursor) -> bool:
            cursor.execute("SELECT FROM run WHERE run_id = %s FOR NO KEY UPDATE", (claim.run_id,))
            cursor.execute("SELECT FROM simulation WHERE run_id = %s AND epoch = %s FOR UPDATE", (claim.run_id, claim.epoch))
            return cursor.fetchone() is not None and _end(cursor, claim.run_id, RunStatus.FAILED, message)

        return self._database.run(fail)

    def states(self, run_ids: Sequence[int]) -> list[SimulationProgress]:
        """Status and failure of the runs, in order of their ids; runs that do not exist are left out."""
        found = self._database.rows(
            "SELECT s.run_id, r.status, s.failure FROM simulation s JOIN run r USING (run_id) "
            "WHERE s.run_id = ANY (%s) ORDER BY s.run_id",
            (list(run_ids),),
        )
        return [SimulationProgress(run_id=run_id, status=RunStatus(status), failure=failure) for run_id, status, failure in found]

    def result(self, run_id: int) -> dict[str, Any] | None:
        """The result that `finish` stored; None while there is none."""
        found = self._database.rows("SELECT result::text FROM simulation WHERE run_id = %s AND result IS NOT NULL", (run_id,))
        result: dict[str, Any] | None = json.loads(found[0][0]) if found else None
        return result

    def unclaimed(self, run_ids: Sequence[int], *, after_s: float, busy: bool, limit: int) -> list[int]:
        """Ids of open runs without a live lease, whose message may be lost, at most `limit`; marks them as published now."""
        found = self._database.rows(_UNCLAIMED, {"runs": list(run_ids), "after": after_s, "busy": busy, "limit": limit})
        return sorted(row[0] for row in found)

    def anybody_works(self) -> bool:
        """Whether some worker holds a lease on a simulated run."""
        return bool(self._database.rows("SELECT FROM simulation WHERE lease_until > now() LIMIT 1"))


def _insert(cursor: Cursor, cells: Sequence[NewSimulation], record: bool) -> list[int]:
    """Add runs and their orders; gives their ids, in order of the cells."""
    run_ids: list[int] = []
    for cell in cells:
        row = {
            "kind": str(RunKind.SIMULATED),
            "name": cell.name,
            "system": cell.system,
            "fleet": cell.fleet,
            "fleet_hash": cell.fleet_hash,
            "seed": cell.seed,
            "speed": 1.0,
            "reassure": True,
            "trace_source": cell.trace_source,
            "span_s": cell.span_s,
            "accepted": 0,
            "settings": Json(dict(cell.settings)),
        }
        run_ids += [int(found[0]) for found in insert(cursor, "run", [row], then="RETURNING run_id")]
    orders = [
        {"run_id": run_id, "key": cell.key, "cell": json.dumps(cell.cell), "record": record}
        for run_id, cell in zip(run_ids, cells, strict=True)
    ]
    insert(cursor, "simulation", orders)
    return run_ids


def _end(cursor: Cursor, run_id: int, status: RunStatus, failure: str) -> bool:
    """End an open run; gives whether it was open until now."""
    cursor.execute(
        f"UPDATE run SET status = %s, ended_at = now() WHERE run_id = %s AND status IN {listed(OPEN)}",
        (str(status), run_id),
    )
    ended = bool(cursor.rowcount)
    if ended:
        cursor.execute("UPDATE simulation SET failure = %s, lease_until = NULL WHERE run_id = %s", (failure, run_id))
    return ended
