"""Every statement of the stores is one that the database understands: its tables, columns and types are those of the schema.

The statements are read from the source, constants and literals alike, put together as the module does it, and explained with no value for
any parameter; none is carried out. A column that is renamed or misspelt is found here, also where no test calls the method.
"""

from __future__ import annotations

import ast
import importlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import psycopg2.errors
import pytest

import tango
from tango.journal.schema import SCHEMA
from tango.sources import parsed

ROOT = Path(tango.__file__).parent
VERB = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|WITH)\s[^%]*\b(?:FROM|INTO|SET|SELECT)\b", re.S)


def statements(room: str) -> Iterator[tuple[str, str]]:
    """(place, text) of what reads as a whole statement in the modules of a room; what is made of a method's own values is left out."""
    for path in sorted((ROOT / room).glob("*.py")):
        module = importlib.import_module(f"tango.{room}.{path.stem}" if path.stem != "__init__" else f"tango.{room}")
        tree = parsed(path.read_text(encoding="utf-8"))
        parts = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
        for node in ast.walk(tree):
            if id(node) in parts or not isinstance(node, ast.JoinedStr | ast.Constant):
                continue
            try:
                text = eval(compile(ast.Expression(node), str(path), "eval"), vars(module))
            except NameError:
                continue
            if isinstance(text, str) and VERB.match(text) and "{" not in text:  # a template is put together by its method
                yield f"{path.name}:{node.lineno}", text


UNTYPED = {"42804", "42725", "42883"}
"""Of a few statements PostgreSQL asks the type of a parameter, which has none here: every name in them was found by then or is not reached.
They are called by tests of the stores."""


def test_every_statement_of_the_store_is_of_the_schema(database_url: str) -> None:
    """Explained by a migrated database; parameters are NULL."""
    wrong, count = [], 0
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        for place, text in statements("store"):
            count += 1
            cursor.execute("SAVEPOINT before")
            try:
                cursor.execute("EXPLAIN " + with_nulls(text))
            except psycopg2.Error as error:
                is_beginning = "at end of input" in str(error)  # its method puts the rest to it
                if error.pgcode not in UNTYPED and not is_beginning:
                    wrong.append(f"{place}: {str(error).splitlines()[0]}")
            cursor.execute("ROLLBACK TO before")

    assert wrong == []
    assert count > 200


def with_nulls(statement: str) -> str:
    """As psycopg2 would send it with NULL for everything; queries for people name their parameters by a colon."""
    return re.sub(r"%\(\w+\)s|%s|(?<![:\w]):[a-z]\w*", "NULL", statement).replace("%%", "%")


def test_every_statement_of_the_journal_is_of_its_schema() -> None:
    """As above, by SQLite."""
    connection, wrong, count = sqlite3.connect(":memory:"), [], 0
    for statement in SCHEMA:
        connection.execute(statement)
    for place, text in statements("journal"):
        count += 1
        numbered = [int(number) for number in re.findall(r"\?(\d+)", text)]
        try:
            connection.execute("EXPLAIN " + text, [None] * (max(numbered) if numbered else text.count("?")))
        except sqlite3.Error as error:
            wrong.append(f"{place}: {error}")

    assert wrong == []
    assert count > 80


def test_a_column_that_is_not_there_is_found(database_url: str) -> None:
    """Also in the part of a statement that comes last."""
    with (
        psycopg2.connect(database_url) as connection,
        connection.cursor() as cursor,
        pytest.raises(psycopg2.errors.UndefinedColumn),
    ):
        cursor.execute("EXPLAIN " + with_nulls("SELECT run_id FROM request WHERE run_id = %(run)s ORDER BY due"))
