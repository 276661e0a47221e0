"""The role that may only read: what it must not do is a right that it has not, whatever its sessions set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import pytest

from tango.store.addresses import with_database
from tango.store.database import Database
from tango.store.readers import PostgresReaders
from tango.store.roles import APP, DATABASE, READER, READER_CONNECTIONS
from tests.conftest import DatabaseUrls
from tests.waiting import until


@contextlib.contextmanager
def session(url: str) -> Iterator[psycopg2.extensions.connection]:
    """One that has switched off every default of its role."""
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute("SET statement_timeout = 0")
        yield connection


def rows(url: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Of one statement."""
    with session(url) as connection, connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT setval('run_run_id_seq', 1)",
        "SELECT nextval('run_run_id_seq')",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT drop_request_partition(1)",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tango_app'",
        "COPY lease TO PROGRAM 'id'",
        "COPY lease TO '/tmp/x'",
        "CREATE TEMP TABLE t AS SELECT 1",
        "CREATE TABLE t (a int)",
        "CREATE SCHEMA s",
        "CREATE ROLE somebody",
        "SET ROLE tango_owner",
        "SET ROLE tango_app",
        "SET temp_file_limit = -1",
        "DO $$ BEGIN LOCK TABLE lease IN EXCLUSIVE MODE; END $$",
        "INSERT INTO lease (name, owner, epoch, expires_at) VALUES ('a', 'b', 1, now())",
        "DELETE FROM run",
        "TRUNCATE lease",
    ],
)
def test_what_changes_or_holds_anything_is_refused_by_the_server(database_urls: DatabaseUrls, statement: str) -> None:
    """Not by a read-only transaction: this session is none. A backend of the application's is there to be ended."""
    with (
        session(database_urls.app),
        session(database_urls.reader) as connection,
        connection.cursor() as cursor,
        pytest.raises(psycopg2.errors.InsufficientPrivilege),
    ):
        cursor.execute(statement)


def test_it_has_no_right_but_to_read(database_urls: DatabaseUrls) -> None:
    """On any table, sequence or function of Tango's, nor on the database; nor on large objects and locks, by all their functions."""
    kinds = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
    of_tables = " OR ".join(f"has_table_privilege('{READER}', c.oid, '{kind}')" for kind in kinds)
    of_sequences = " OR ".join(f"has_sequence_privilege('{READER}', c.oid, '{kind}')" for kind in ("USAGE", "UPDATE"))
    may = f"has_function_privilege('{READER}', p.oid, 'EXECUTE')"
    relations = "FROM pg_class c WHERE relnamespace = 'public'::regnamespace"
    functions = "FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"

    assert rows(database_urls.admin, f"SELECT relname {relations} AND relkind IN ('r', 'p', 'v', 'm') AND ({of_tables})") == []
    assert rows(database_urls.admin, f"SELECT relname {relations} AND relkind = 'S' AND ({of_sequences})") == []
    assert rows(database_urls.admin, f"SELECT proname {functions} WHERE nspname = 'public' AND {may}") == []
    held = rows(
        database_urls.admin, f"SELECT proname {functions} WHERE proname ~ '^(lo_|lowrite|pg_advisory|pg_try_adv)' AND {may}"
    )
    assert held == []
    assert rows(database_urls.admin, f"SELECT has_schema_privilege('{READER}', 'public', 'CREATE')") == [(False,)]
    for kind in ("TEMPORARY", "CREATE"):
        assert rows(database_urls.admin, f"SELECT has_database_privilege('{READER}', '{DATABASE}', '{kind}')") == [(False,)]


def test_the_application_keeps_what_its_transactions_wait_by(database_urls: DatabaseUrls) -> None:
    """Advisory locks; and it may read what it always could."""
    assert rows(database_urls.app, "SELECT pg_try_advisory_xact_lock(1), (SELECT count(*) FROM run)") == [(True, 0)]


@pytest.mark.parametrize("role", [READER, APP])
@pytest.mark.parametrize("other", ["postgres", "template1"])
def test_other_databases_of_its_own_server_are_closed(database_urls: DatabaseUrls, other: str, role: str) -> None:
    """To the application too: a database that nobody uses is one in which nobody looks."""
    url = database_urls.reader if role == READER else database_urls.app

    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        psycopg2.connect(with_database(url, other))


def test_its_sessions_are_few_and_end(database_urls: DatabaseUrls) -> None:
    """Whatever time-out they give themselves: those whose transaction lasts are ended, those that wait for nothing are not."""
    ((limit,),) = rows(database_urls.admin, f"SELECT rolconnlimit FROM pg_roles WHERE rolname = '{READER}'")
    readers = PostgresReaders(Database(database_urls.app))
    with session(database_urls.reader) as idle, session(database_urls.reader) as long, session(database_urls.app) as other:
        for connection in (long, other):
            connection.autocommit = False
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        none = readers.end_overlong()
        until(lambda: readers.end_overlong(longest_s=0.05) == 1)

        with pytest.raises(psycopg2.OperationalError), long.cursor() as cursor:
            cursor.execute("SELECT 1")
        for connection in (idle, other):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")

    assert (limit, none) == (READER_CONNECTIONS, 0)
