"""Rows by name: every value is written with its column, and the statement's list of columns is made from that; columns are read alike.

A statement with separate lists of columns and values fails silently when only one of them is changed. The lists are not taken from
`models/` at run time, because SQLAlchemy would cost every process of the stack 20 MiB and a quarter of a second; a test compares the
columns that are written with its tables instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def columns_of(names: Iterable[str], rows: Sequence[Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """What was read, column by column, under the names of the statement's columns in their order; each column has a value for each row.

    A statement whose columns are the values of a dict with these names says in one place what it reads and how that is called.
    """
    keys = tuple(names)
    return dict(zip(keys, zip(*rows, strict=True) if rows else [()] * len(keys), strict=True))


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
