"""Learned networks that have decided here: what was loaded, from where, and how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2.extras import Json

from tango.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheckpoint:
    """A registered network; `decision.checkpoint` and `run show` name it by the first letters of its digest."""

    checkpoint_id: int
    name: str
    digest: str
    """SHA-256 of the file, in hexadecimal."""
    format_version: int
    feature_schema: str
    """SHA-256 of the list of features it was trained on."""
    path: str
    """Where it was last loaded from."""
    trained: dict[str, Any]
    """Training configuration and scores, as the training run wrote them."""
    note: str
    registered_at: datetime


class PostgresCheckpointStore:
    """Keeps one row a network, known by its digest."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(
        self,
        name: str,
        *,
        digest: str,
        format_version: int,
        feature_schema: str,
        path: str,
        trained: Mapping[str, object],
        note: str = "",
    ) -> int:
        """Note a network and give its id. A digest that is known keeps its id and its first note; its path follows the file."""
        found = self._database.rows(
            """
            INSERT INTO checkpoint (name, digest, format_version, feature_schema, path, trained, note)
            VALUES (%s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (digest) DO UPDATE SET path = excluded.path
            RETURNING checkpoint_id
            """,
            (name, digest, format_version, feature_schema, path, Json(dict(trained)), note),
        )
        return int(found[0][0])

    def list(self) -> list[StoredCheckpoint]:
        """All of them, newest first."""
        rows = self._database.rows(
            "SELECT checkpoint_id, name, digest, format_version, feature_schema, path, trained, note, registered_at "
            "FROM checkpoint ORDER BY checkpoint_id DESC"
        )
        columns = StoredCheckpoint.__slots__
        return [StoredCheckpoint(**dict(zip(columns, row, strict=True))) for row in rows]
