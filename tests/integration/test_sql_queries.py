"""Queries of people on a real database: they read, whatever they are."""

from __future__ import annotations

import datetime
import io
from typing import Any

import psycopg2
import pytest

from tango.cli.failures import exit_status
from tango.cli.main import cli
from tango.errors import RequestRejected
from tango.store.query import PIECE, reading
from tests.conftest import DatabaseUrls

WRITES = [
    "DELETE FROM run",
    "COMMIT; DROP TABLE run",
    "SELECT 1; SELECT 2",
    "WITH gone AS (DELETE FROM lease RETURNING *) SELECT * FROM gone",
    "SELECT drop_request_partition(1)",
    "SELECT setval('run_run_id_seq', 99)",
    "SET ROLE tango_owner",
    "COPY lease TO PROGRAM 'id'",
    "CREATE TEMP TABLE t AS SELECT 1",
    "EXPLAIN ANALYZE DELETE FROM lease",
    "",
]


@pytest.fixture(params=["reader's role", "one's own server"])
def urls(request: pytest.FixtureRequest, database_urls: DatabaseUrls) -> dict[str, str]:
    """With Tango's reader, and by the application's role where there is none; one lease row is there to be lost."""
    with psycopg2.connect(database_urls.app) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO lease (name, owner, epoch, expires_at) VALUES ('kept', 'me', 1, now())")
    reader_url = database_urls.reader if request.param == "reader's role" else ""
    return {"reader_url": reader_url, "database_url": database_urls.app}


def read(query: str, urls: dict[str, str], *, limit: int | None = None, timeout_s: float = 5.0) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with reading(query, statement_timeout_s=timeout_s, **urls) as found:
        return [row for piece in found.pieces(limit) for row in piece]


@pytest.mark.parametrize(
    ("rows", "limit", "is_cut"),
    [(10, 2, True), (2, 2, False), (0, 2, False), (PIECE, PIECE, False), (PIECE + 1, PIECE, True), (2 * PIECE + 7, None, False)],
)
def test_a_select_gives_all_rows_or_says_that_there_are_more(
    urls: dict[str, str], rows: int, limit: int | None, is_cut: bool
) -> None:
    """Columns keep their order and a closing semicolon is no second statement."""
    with reading(f"SELECT k AS a, k * 2 AS b FROM generate_series(1, {rows}) k;", statement_timeout_s=5.0, **urls) as found:
        read_rows = [row for piece in found.pieces(limit) for row in piece]

    assert found.columns == ["a", "b"]
    assert read_rows == [(k, 2 * k) for k in range(1, min(rows, limit or rows) + 1)]
    assert found.is_cut is is_cut


def test_what_python_has_no_value_for_is_given_as_postgresql_says_it(urls: dict[str, str], database_urls: DatabaseUrls) -> None:
    """Also where the role has another style of intervals."""
    with psycopg2.connect(database_urls.admin) as connection, connection.cursor() as cursor:
        cursor.execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET intervalstyle = sql_standard', current_database()); END $$"
        )
    query = (
        "SELECT 'infinity'::timestamptz, '-infinity'::date, '0044-03-15 BC'::date, '12000-01-01'::timestamp,"
        " interval '-1 day 02:03:04', interval '1 mon', ARRAY['infinity'::date], '\\x00ff'::bytea, NULL::date, '2026-02-28'::date,"
        " '-Infinity'::float8, 'NaN'::float4, 'Infinity'::numeric, ARRAY['NaN'::float8, 1.5], 1.5::float8"
    )

    assert read(query, urls) == [
        (
            "infinity",
            "-infinity",
            "0044-03-15 BC",
            "12000-01-01 00:00:00",
            "-1 days +02:03:04",
            "1 mon",
            ["infinity"],
            "\\x00ff",
            None,
            datetime.date(2026, 2, 28),
            "-Infinity",
            "NaN",
            "Infinity",
            ["NaN", 1.5],
            1.5,
        )
    ]


@pytest.mark.parametrize("query", ["SELECT 1\0", "SELECT '\udcff'"])
def test_what_is_no_text_is_refused(urls: dict[str, str], query: str) -> None:
    """As of a file that is piped in and is no SQL."""
    with pytest.raises(RequestRejected, match="no text in UTF-8"):
        read(query, urls)


@pytest.mark.parametrize(
    ("given", "status", "printed"),
    [
        (b"-- how many\nSELECT count(*) AS runs\nFROM run;\n", 0, "runs\n0\n"),
        ("\ufeffSELECT 'ü' AS a".encode(), 0, "a\nü\n"),
        (b"@failures", 0, ""),
        (b"\xff\xfe\x00", 3, "no text in UTF-8"),
        (b" \n", 2, "standard input has no query"),
    ],
)
def test_a_query_is_read_from_standard_input(
    database_urls: DatabaseUrls,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: bytes,
    status: int,
    printed: str,
) -> None:
    """With comments, as an editor writes it, or a name; whatever the locale's encoding is."""
    monkeypatch.setenv("TANGO_READER_URL", database_urls.reader)
    monkeypatch.setenv("TANGO_DATABASE_URL", database_urls.app)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given), encoding="ascii"))

    ended = exit_status(cli, ["sql", "-", "-o", "csv"])

    out, err = capsys.readouterr()
    assert (ended, printed in (err if status else out)) == (status, True), (out, err)


@pytest.mark.parametrize("query", WRITES)
def test_what_would_change_anything_is_refused_and_changes_nothing(
    urls: dict[str, str], database_urls: DatabaseUrls, query: str
) -> None:
    """Neither the role, nor the read-only transaction, nor the cursor stands alone."""
    with pytest.raises(RequestRejected):
        read(query, urls)

    with psycopg2.connect(database_urls.app) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT name FROM lease")
        assert cursor.fetchall() == [("kept",)]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("DELETE FROM run", "found DELETE, expected one SELECT"),
        ("SELECT 1; SELECT 2", "found several statements, or none, expected one SELECT"),
        ("SELECT * FROM nope", 'relation "nope" does not exist'),
        ("SELECT pg_sleep(9)", "ran longer than 0.2 s; narrow it, or raise --timeout"),
    ],
)
def test_a_refusal_says_what_was_found_and_nothing_of_our_own_workings(urls: dict[str, str], query: str, words: str) -> None:
    """The block that opens the cursor is no business of the user's."""
    with pytest.raises(RequestRejected) as refused:
        read(query, urls, timeout_s=0.2)

    assert words in str(refused.value)
    assert "PL/pgSQL" not in str(refused.value)
