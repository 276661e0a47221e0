"""Figures of ended live runs: implements `tango.ports.figures.FiguresStore`.

Whoever changes both locks the row of `run` first and that of `run_figures` second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tango.domain.runs import OPEN, RunStatus
from tango.domain.state_lists import listed
from tango.ports.figures import Figures, FiguresClaim
from tango.store.database import Cursor, Database
from tango.store.rows import insert, metric_rows

_COMPLETE = f"UPDATE run SET status = '{RunStatus.COMPLETED}' WHERE run_id = %s AND status IN {listed(OPEN)}"
_CLAIM = """
UPDATE run_figures f SET epoch = f.epoch + 1, lease_until = now() + %(lease)s * interval '1 s'
FROM (SELECT run_id FROM run_figures
      WHERE figures IS NULL AND failure = '' AND (lease_until IS NULL OR lease_until < now())
      ORDER BY run_id LIMIT 1 FOR UPDATE SKIP LOCKED) next
WHERE f.run_id = next.run_id RETURNING f.run_id, f.epoch
"""


class PostgresFiguresStore:
    """The figures store on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def order(self, run_id: int) -> bool:
        """Add the order, and set the run's end where it has none."""

        def order(cursor: Cursor) -> bool:
            cursor.execute("UPDATE run SET ended_at = coalesce(ended_at, now()) WHERE run_id = %s", (run_id,))
            cursor.execute(
                "INSERT INTO run_figures (run_id) SELECT run_id FROM run WHERE run_id = %s ON CONFLICT DO NOTHING", (run_id,)
            )
            return bool(cursor.rowcount)

        return self._database.run(order)

    def claim(self, *, lease_s: float, most_claims: int) -> FiguresClaim | None:
        """One statement; an order whose claims are used up is ended in a second transaction, and the next is looked for."""
        while found := self._database.run(lambda cursor: _claimed(cursor, lease_s)):
            claim = FiguresClaim(run_id=found[0], epoch=found[1])
            if claim.epoch <= most_claims:
                return claim
            self._give_up(
                claim.run_id, f"given up after {most_claims} attempts: each time what computed them ended without a result"
            )
        return None

    def renew(self, claim: FiguresClaim, *, lease_s: float) -> bool:
        """Renew the lease; False where the claim holds no more: another one was made, or the figures are there."""
        return bool(
            self._database.execute(
                "UPDATE run_figures SET lease_until = now() + %s * interval '1 s' WHERE run_id = %s AND epoch = %s AND figures IS NULL",
                (lease_s, claim.run_id, claim.epoch),
            )
        )

    def save(self, claim: FiguresClaim, kept: Mapping[str, Any], figures: Figures) -> bool:
        """Result, numbers and status in one transaction."""

        def save(cursor: Cursor) -> bool:
            cursor.execute("SELECT FROM run WHERE run_id = %s FOR NO KEY UPDATE", (claim.run_id,))
            cursor.execute(
                "UPDATE run_figures SET figures = %s, lease_until = NULL WHERE run_id = %s AND epoch = %s AND figures IS NULL",
                (json.dumps(kept, allow_nan=False), claim.run_id, claim.epoch),
            )
            if not cursor.rowcount:
                return False
            cursor.execute("DELETE FROM run_metric WHERE run_id = %s", (claim.run_id,))
            insert(cursor, "run_metric", metric_rows(claim.run_id, figures))
            cursor.execute(_COMPLETE, (claim.run_id,))
            return True

        return self._database.run(save)

    def kept(self, run_id: int) -> dict[str, Any] | None:
        """The figures as they were kept, read from JSON; None where there are none."""
        found = self._database.rows("SELECT figures::text FROM run_figures WHERE run_id = %s AND figures IS NOT NULL", (run_id,))
        result: dict[str, Any] | None = json.loads(found[0][0]) if found else None
        return result

    def failure(self, run_id: int) -> str:
        """Why the figures of a run could not be computed; empty: they could."""
        found = self._database.rows("SELECT failure FROM run_figures WHERE run_id = %s", (run_id,))
        return str(found[0][0]) if found else ""

    def _give_up(self, run_id: int, why: str) -> None:
        def give_up(cursor: Cursor) -> None:
            cursor.execute(_COMPLETE, (run_id,))
            cursor.execute("UPDATE run_figures SET failure = %s, lease_until = NULL WHERE run_id = %s", (why, run_id))

        self._database.run(give_up)


def _claimed(cursor: Cursor, lease_s: float) -> tuple[int, int] | None:
    cursor.execute(_CLAIM, {"lease": lease_s})
    found = cursor.fetchone()
    return None if found is None else (int(found[0]), int(found[1]))
