"""Read-only queries for people.

A read-only transaction alone is no protection: the text `COMMIT; DELETE ...` would leave it. With Tango's reader role the server itself
refuses every write. On a user's own server without that role there is a second barrier: the statement is opened as a cursor, which accepts
exactly one SELECT.
"""

from __future__ import annotations

import re
import time
from typing import Any

import psycopg2
import psycopg2.errors

from tango.errors import DependencyError, RequestRejected, StoreUnavailable
from tango.store.database import CONNECT_TIMEOUT_S, LOSS_IS_NOTICED, described, libpq_url
from tango.store.deadlines import DEADLINES

MARGIN_S = 10.0
"""Seconds beyond the statement timeout after which the connection itself is ended: a server that is there has answered by then."""


def read_only_query(
    query: str, *, reader_url: str, database_url: str, statement_timeout_s: float, row_limit: int
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """(column names, at most `row_limit` rows) of one SELECT.

    Raises: RequestRejected if PostgreSQL refuses the statement (a syntax error, a write) or it runs too long; StoreUnavailable if
    PostgreSQL does not answer; DependencyError if no address is known.
    """
    url = reader_url or database_url
    if not url:
        raise DependencyError("no stack runs and TANGO_DATABASE_URL is not set; start one with `tango up --detach`")
    statement = query.strip().rstrip(";")
    try:
        connection = psycopg2.connect(
            libpq_url(url),
            connect_timeout=CONNECT_TIMEOUT_S,
            **LOSS_IS_NOTICED,
            application_name="tango sql",
            options=f"-c default_transaction_read_only=on -c statement_timeout={int(statement_timeout_s * 1000)}",
        )
    except psycopg2.OperationalError as error:
        raise StoreUnavailable(f"PostgreSQL does not answer at {described(url)}; start the stack with `tango up`") from error
    until_s = time.monotonic() + statement_timeout_s + MARGIN_S
    try:
        with DEADLINES.over(connection.fileno(), until_s), connection, connection.cursor() as cursor:
            # The statement is passed as a value and opened as a cursor by the server. That accepts exactly one SELECT, so nothing can
            # follow a `;`, no COMMIT and no SET; and a function that writes fails in the read-only transaction.
            opening = cursor.mogrify("DECLARE c refcursor := 'tango_sql'; BEGIN OPEN c FOR EXECUTE %s; END", (statement,)).decode()
            cursor.execute("DO %s", (opening,))
            cursor.execute(f"FETCH FORWARD {int(row_limit)} FROM tango_sql")
            columns = [column.name for column in cursor.description or ()]
            return columns, cursor.fetchall()
    except psycopg2.errors.QueryCanceled as error:
        raise RequestRejected(f"the query ran longer than {statement_timeout_s:g} s; narrow it, or raise --timeout") from error
    except psycopg2.errors.InvalidCursorDefinition as error:
        found = re.sub(r"^cannot open (.*?)(?: query)? as cursor$", r"\1", error.diag.message_primary or "")
        raise RequestRejected(
            f"found {_found(found)}, expected one SELECT: `tango sql` only reads, one statement at a time"
        ) from error
    except psycopg2.Error as error:
        if connection.closed:
            raise StoreUnavailable(f"PostgreSQL went away at {described(url)}; start the stack with `tango up`") from error
        # PostgreSQL's message without its lines about the block that opened the cursor.
        lines = str(error).strip().splitlines()
        own = [line for line in lines if not line.startswith(("CONTEXT:", "PL/pgSQL", "SQL statement", "QUERY:"))]
        raise RequestRejected("PostgreSQL refused the query: " + "\n".join(own)) from error
    finally:
        connection.close()


def _found(kind: str) -> str:
    """PostgreSQL's name for a text that is not one SELECT, in plain words."""
    return "several statements, or none" if kind == "multi-query plan" else kind
