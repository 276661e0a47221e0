"""Writing rows by name: every value is given with its column, and the statement's list of columns is made from that.

A statement with separate lists of columns and values fails silently when only one of them is changed. The lists are not taken from
`models/` at run time, because SQLAlchemy would cost every process of the stack 20 MiB and a quarter of a second; a test compares the
columns that are written with its tables instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg2.extras import execute_values

from tango.store.database import Cursor


def insert(cursor: Cursor, table: str, rows: Sequence[Mapping[str, Any]], *, then: str = "") -> list[tuple[Any, ...]]:
    """Insert rows with equal columns; `then` is SQL after the values, such as `ON CONFLICT ...` or `RETURNING ...`.

    Returns the rows of a RETURNING clause. Raises: ValueError if a row has other columns than the first.
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
    """The rows of `run_metric` for a run's figures: numbers go to `value`, texts to `text`."""
    return [
        {
            "run_id": run_id,
            "name": name,
            "value": None if isinstance(value, str) else value,
            "text": value if isinstance(value, str) else None,
        }
        for name, value in metrics.items()
    ]
