"""Database roles of least privilege: one owns the schema, one changes rows, one only reads.

What the reader must not do is no default of its sessions, which it could set otherwise, but a right that it has not: no table, sequence,
large object, temporary table or advisory lock, and where the server is Tango's own no other database. What PostgreSQL has no right for,
how long it reads, `PostgresReaders` sees to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg2
from psycopg2 import sql

from tango.store.addresses import libpq_url

DATABASE = "tango"
OWNER, APP, READER = "tango_owner", "tango_app", "tango_reader"
READER_TIMEOUT_S = 30
"""Seconds of a statement of the reader's, unless its session says otherwise."""
READER_CONNECTIONS = 20
"""Sessions that the reader may have at once, of the hundred that a server has by default."""
READER_TEMPORARY = "1GB"
"""What its sorts and joins may write beside the tables; only a superuser may change this setting, so that the disk stays for the rows."""

_FOR_WRITERS = r"^(lo_|lowrite|loread|pg_(try_)?advisory)"
"""Functions that everybody may call unless that is revoked, and that change or hold something: large objects, and advisory locks, by which
Tango's own transactions wait for each other."""


def prepare_database(
    admin_url: str, *, owner_password: str, app_password: str, reader_password: str, is_own_server: bool = False
) -> None:
    """Create the roles and the database, or update their passwords and grants; `admin_url` is that of the server's superuser.

    `is_own_server`: nobody else uses the server, so that the roles are kept out of its other databases.
    """
    with _connect(admin_url) as connection, connection.cursor() as cursor:
        for role, password in ((OWNER, owner_password), (APP, app_password), (READER, reader_password)):
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
            verb = "ALTER" if cursor.fetchone() else "CREATE"
            statement = f"{verb} ROLE {{}} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {{}}"
            cursor.execute(sql.SQL(statement).format(sql.Identifier(role), sql.Literal(password)))
        cursor.execute(f"ALTER ROLE {READER} CONNECTION LIMIT {READER_CONNECTIONS}")
        cursor.execute(f"ALTER ROLE {READER} SET temp_file_limit = '{READER_TEMPORARY}'")
        # Not what keeps it from writing, but what tells whoever tries why.
        cursor.execute(f"ALTER ROLE {READER} SET default_transaction_read_only = on")
        cursor.execute(f"ALTER ROLE {READER} SET statement_timeout = '{READER_TIMEOUT_S}s'")
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
        if not cursor.fetchone():
            cursor.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
        cursor.execute(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
        cursor.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO {APP}, {READER}")
        cursor.execute(f"GRANT pg_read_all_stats TO {APP}")
        # So that it may end the reader's sessions; what the reader may read it reads anyway.
        cursor.execute(f"GRANT {READER} TO {APP}")
        if is_own_server:
            cursor.execute("SELECT datname FROM pg_database WHERE datname <> %s", (DATABASE,))
            for (other,) in cursor.fetchall():
                cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(other)))


def grant_defaults(admin_url_of_database: str) -> None:
    """Set default privileges: the application may change, and the reader may read, every table that the owner creates from now on; and
    take from everybody what only they are to do."""
    with _connect(admin_url_of_database) as connection, connection.cursor() as cursor:
        cursor.execute(f"ALTER SCHEMA public OWNER TO {OWNER}")
        own_defaults(cursor)
        cursor.execute(f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
        cursor.execute(
            "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ %s",
            (_FOR_WRITERS,),
        )
        for (function,) in cursor.fetchall():
            cursor.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
            cursor.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {OWNER}, {APP}")


def own_defaults(cursor: psycopg2.extensions.cursor) -> None:
    """The same for the schema `public` that its owner has made anew, as a restore does; the owner himself may."""
    cursor.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    cursor.execute(f"GRANT USAGE ON SCHEMA public TO {APP}, {READER}")
    for owned in ("TABLES", "SEQUENCES"):
        app_rights = "SELECT, INSERT, UPDATE, DELETE" if owned == "TABLES" else "USAGE, SELECT"
        cursor.execute(f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public GRANT {app_rights} ON {owned} TO {APP}")
    cursor.execute(f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public GRANT SELECT ON TABLES TO {READER}")


@contextlib.contextmanager
def _connect(url: str) -> Iterator[psycopg2.extensions.connection]:
    """A connection in autocommit mode. psycopg2's own `with` would open a transaction, in which CREATE DATABASE is refused."""
    with contextlib.closing(psycopg2.connect(libpq_url(url), connect_timeout=5)) as connection:
        connection.autocommit = True
        yield connection
