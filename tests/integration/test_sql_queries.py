"""Queries of people on a real database: they read, whatever they are."""

from __future__ import annotations

import psycopg2
import pytest

from tango.errors import RequestRejected
from tango.store.query import read_only_query
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


def test_a_select_gives_names_and_rows_up_to_the_limit(urls: dict[str, str]) -> None:
    """Columns keep their order and a closing semicolon is no second statement."""
    found = read_only_query(
        "SELECT k AS a, k * 2 AS b FROM generate_series(1, 10) k;", statement_timeout_s=5.0, row_limit=2, **urls
    )

    assert found == (["a", "b"], [(1, 2), (2, 4)])


@pytest.mark.parametrize("query", WRITES)
def test_what_would_change_anything_is_refused_and_changes_nothing(
    urls: dict[str, str], database_urls: DatabaseUrls, query: str
) -> None:
    """Neither the role, nor the read-only transaction, nor the cursor stands alone."""
    with pytest.raises(RequestRejected):
        read_only_query(query, statement_timeout_s=5.0, row_limit=10, **urls)

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
        read_only_query(query, statement_timeout_s=0.2, row_limit=10, **urls)

    assert words in str(refused.value)
    assert "PL/pgSQL" not in str(refused.value)
