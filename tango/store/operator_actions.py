"""What people changed in the console, and who it was: appended, and never changed."""

from __future__ import annotations

from typing import Any

from tango.store.database import Cursor, Database
from tango.store.rows import insert

ACTION_KEYS = ("at_s", "actor", "action", "subject", "outcome")
MOST_WORDS_KEPT = 1000
"""Characters of an outcome that are kept."""


class PostgresOperatorActions:
    """Raises: StoreUnavailable, StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, actor: str, action: str, subject: str, outcome: str) -> None:
        """Keep an action, also one that was refused."""
        row = {"actor": actor, "action": action, "subject": subject, "outcome": outcome[:MOST_WORDS_KEPT]}

        def keep(cursor: Cursor) -> None:
            insert(cursor, "operator_action", [row])

        self._database.run(keep, once=True)

    def latest(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """At most `limit` actions of operators, the newest first."""
        rows = self._database.rows(
            "SELECT extract(epoch FROM at)::float8, actor, action, subject, outcome FROM operator_action ORDER BY action_id DESC LIMIT %s",
            (limit,),
        )
        return [dict(zip(ACTION_KEYS, row, strict=True)) for row in rows]
