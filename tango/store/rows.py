"""Writing rows by name: every value stands beside its column, and the list of columns is made from them.

A statement with a list of columns here and a list of values there goes wrong in silence when one of them changes. `models/` is not
asked at run time: it would cost every process of the stack 20 MiB and a quarter of a second for SQLAlchemy. A test holds the columns
that are written to its tables instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg2.extras import execute_values

from tango.store.database import Cursor


def insert(cursor: Cursor, table: str, rows: Sequence[Mapping[str, Any]], *, then: str = "") -> list[tuple[Any, ...]]:
    """Insert rows, all with the same columns; `then` follows the values (`ON CONFLICT ...`, `RETURNING ...`). Gives what is returned.

    Raises: ValueError when a row has other columns than the first.
    """
    if not rows:
        return []
    columns = tuple(rows[0])
    other = next((row for row in rows if tuple(row) != columns), None)
    if other is not None:
        raise ValueError(f"rows of {table} have columns {columns} and {tuple(other)}")
    returned: list[tuple[Any, ...]] | None = execute_values(
        cursor,
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES %s {then}",
        [tuple(row.values()) for row in rows],
        fetch="RETURNING" in then,
    )
    return returned or []


def metric_rows(run_id: int, metrics: Mapping[str, float | int | str | None]) -> list[dict[str, Any]]:
    """Rows of `run_metric`: numbers in `value`, words in `text`."""
    return [
        {
            "run_id": run_id,
            "name": name,
            "value": None if isinstance(value, str) else value,
            "text": value if isinstance(value, str) else None,
        }
        for name, value in metrics.items()
    ]
