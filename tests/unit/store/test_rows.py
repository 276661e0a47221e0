"""Rows written by name: the columns come from the values, and they are columns of `models/`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.tables import metadata
from tango.store.rows import insert, metric_rows

STORE = Path(__file__).parent.parent.parent.parent / "tango" / "store"


class Cursor:
    """Keeps what it is asked to execute, as psycopg2's would send it."""

    def __init__(self) -> None:
        self.sent = ""

    def execute(self, statement: bytes, _: object = None) -> None:
        """Keep it."""
        self.sent += statement.decode()


def written() -> Iterator[tuple[str, list[str]]]:
    """(table, columns) of every INSERT that is written out in the text of `tango/store/`."""
    for path in sorted(STORE.glob("*.py")):
        for table, columns in re.findall(r"INSERT INTO (\w+)(?: AS \w+)? \(([a-z_,\s\"]+)\)", path.read_text(encoding="utf-8")):
            yield table, [column.strip().strip('"') for column in columns.split(",")]


def test_rows_of_different_columns_are_refused() -> None:
    """A value that is missing from one row would move all behind it under the wrong names."""
    with pytest.raises(ValueError, match="columns"):
        insert(Cursor(), "run", [{"name": "a", "seed": 1}, {"seed": 1, "name": "a"}])  # type: ignore[arg-type]


def test_no_rows_are_no_statement() -> None:
    """An empty INSERT is a syntax error."""
    cursor = Cursor()

    assert insert(cursor, "run", []) == []  # type: ignore[arg-type]
    assert cursor.sent == ""


def test_a_figure_is_a_number_or_a_word() -> None:
    """Words stand in `text`, numbers and unknown ones in `value`."""
    assert metric_rows(3, {"system": "tango", "accepted": 7, "bound": None}) == [
        {"run_id": 3, "name": "system", "value": None, "text": "tango"},
        {"run_id": 3, "name": "accepted", "value": 7, "text": None},
        {"run_id": 3, "name": "bound", "value": None, "text": None},
    ]


@pytest.mark.parametrize(("table", "columns"), list(written()), ids=[table for table, _ in written()])
def test_written_columns_are_those_of_the_tables(table: str, columns: list[str]) -> None:
    """An INSERT names columns of `models/`, each once, and all that have neither a default nor NULL."""
    of = metadata.tables[table].columns
    needed = {c.name for c in of if not c.nullable and c.server_default is None and c.identity is None}

    assert len(set(columns)) == len(columns)
    assert needed <= set(columns) <= set(of.keys())
