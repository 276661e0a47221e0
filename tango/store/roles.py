"""Database roles of least privilege: one owns the schema, one changes rows, one only reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg2
from psycopg2 import sql

from tango.store.database import libpq_url

DATABASE = "tango"
OWNER, APP, READER = "tango_owner", "tango_app", "tango_reader"
READER_TIMEOUT_S = 30


def prepare_database(admin_url: str, *, owner_password: str, app_password: str, reader_password: str) -> None:
    """Create the roles and the database, or update their passwords and grants; `admin_url` is that of the server's superuser."""
    with _connect(admin_url) as connection, connection.cursor() as cursor:
        for role, password in ((OWNER, owner_password), (APP, app_password), (READER, reader_password)):
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
            verb = "ALTER" if cursor.fetchone() else "CREATE"
            statement = f"{verb} ROLE {{}} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {{}}"
            cursor.execute(sql.SQL(statement).format(sql.Identifier(role), sql.Literal(password)))
        cursor.execute(f"ALTER ROLE {READER} SET default_transaction_read_only = on")
        cursor.execute(f"ALTER ROLE {READER} SET statement_timeout = '{READER_TIMEOUT_S}s'")
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
        if not cursor.fetchone():
            cursor.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
        cursor.execute(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
        cursor.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO {APP}, {READER}")
        cursor.execute(f"GRANT pg_read_all_stats TO {APP}")


def grant_defaults(admin_url_of_database: str) -> None:
    """Set default privileges: the application may change, and the reader may read, every table that the owner creates from now on."""
    with _connect(admin_url_of_database) as connection, connection.cursor() as cursor:
        cursor.execute(f"ALTER SCHEMA public OWNER TO {OWNER}")
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
