"""Read-only queries for people.

A read-only transaction alone is no protection: the text `COMMIT; DELETE ...` would leave it. So the statement is opened as a cursor, which
accepts exactly one SELECT; and with Tango's reader role, which a user's own server may not have, the server itself refuses every write.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import psycopg2
import psycopg2.errors
from psycopg2.extensions import DATE, DECIMAL, FLOAT, PYDATETIME, PYDATETIMETZ, new_array_type, new_type, register_type

from tango.errors import DependencyError, RequestRejected, StoreUnavailable
from tango.store.addresses import ENCODING, VALUES_AS_THEY_ARE, described, libpq_url, not_reached
from tango.store.database import CONNECT_TIMEOUT_S, LOSS_IS_NOTICED
from tango.store.deadlines import DEADLINES

MARGIN_S = 10.0
"""Seconds beyond the statement timeout after which the connection itself is ended: a server that is there has answered by then."""


PIECE = 5_000
"""Rows that are fetched at a time: some MiB, whatever the whole is."""


class RowsRead:
    """The rows of an open query."""

    def __init__(
        self,
        cursor: Any,
        columns: list[str],
        types: list[int],
        deadline: Callable[[], AbstractContextManager[None]],
        warning: str = "",
    ) -> None:
        self._cursor, self._deadline = cursor, deadline
        self.warning = warning
        """What its role may do that a reader should not, in a sentence; empty: nothing."""
        self.columns = columns
        """Names as PostgreSQL gives them; several may be equal."""
        self.types = types
        """PostgreSQL's numbers of their types (pg_type.dat)."""
        self.is_cut = False
        """Whether there were more rows than the limit; known when all have been taken."""

    def pieces(self, limit: int | None = None) -> Iterator[list[tuple[Any, ...]]]:
        """All rows, or the first `limit`, as they are fetched. Raises: as `reading`."""
        left = math.inf if limit is None else limit
        while True:
            asked = int(min(PIECE, left + 1))  # one more than is wanted, by which it is seen that there are more
            with self._deadline():
                self._cursor.execute(f"FETCH FORWARD {asked} FROM tango_sql")
                rows = self._cursor.fetchall()
            self.is_cut = len(rows) > left
            if rows:
                yield rows[: int(min(len(rows), left))]
            left -= len(rows)
            if left < 0 or len(rows) < asked:
                return


@contextlib.contextmanager
def reading(query: str, *, reader_url: str, database_url: str, statement_timeout_s: float) -> Iterator[RowsRead]:
    """One SELECT, open for as long as the block runs. Its rows are those of one instant, however long they are read.

    Everything that it relies on is said inside of its one transaction, so that a pooler which lends connections by transaction, and drops
    what a session says at its start, changes nothing.

    Raises: RequestRejected for what is no text, and if PostgreSQL refuses the statement (a syntax error, a write) or it runs too long;
    StoreUnavailable if PostgreSQL does not answer; DependencyError if no address is known.
    """
    url = reader_url or database_url
    if not url:
        raise DependencyError(
            "no stack runs and TANGO_DATABASE_URL is not set; start one with `tango up --detach`, or its database alone with "
            "`tango up --detach --only store`"
        )
    statement = query.strip().rstrip(";")
    if "\0" in statement or not _is_text(statement):
        raise RequestRejected("the query has bytes in it that are no text in UTF-8, or the character of number 0, which no SQL has")
    try:
        connection = psycopg2.connect(
            libpq_url(url),
            connect_timeout=CONNECT_TIMEOUT_S,
            **LOSS_IS_NOTICED,
            application_name="tango sql",
            client_encoding=ENCODING,
        )
    except psycopg2.OperationalError as error:
        raise not_reached(url, error) from error

    def deadline() -> AbstractContextManager[None]:
        return DEADLINES.over(connection.fileno(), time.monotonic() + statement_timeout_s + MARGIN_S)

    as_postgresql_says_it(connection)
    try:
        with connection, connection.cursor() as cursor:
            with deadline():
                # The first statement of a transaction: after another one it could not be made read-only, nor, from then on, anything else.
                cursor.execute("SET TRANSACTION READ ONLY")
                cursor.execute("SET LOCAL statement_timeout = %s", (int(statement_timeout_s * 1000),))
                cursor.execute(_RIGHTS)
                warning = _warning(*(cursor.fetchone() or ("", False, False)))
                # The statement is passed as a value and opened as a cursor by the server. That accepts exactly one SELECT, so nothing can
                # follow a `;`, no COMMIT and no SET; and a function that writes fails in the read-only transaction.
                opening = cursor.mogrify(
                    "DECLARE c refcursor := 'tango_sql'; BEGIN OPEN c FOR EXECUTE %s; END", (statement,)
                ).decode()
                block = cursor.mogrify("DO %s", (opening,))
                # After the statement has been quoted, as psycopg2 found the session when it was opened.
                for name, value in VALUES_AS_THEY_ARE.items():
                    cursor.execute(f"SET LOCAL {name} = {value}")
                cursor.execute(block)
                cursor.execute("FETCH FORWARD 0 FROM tango_sql")
                columns = [column.name for column in cursor.description or ()]
                types = [column.type_code for column in cursor.description or ()]
            yield RowsRead(cursor, columns, types, deadline, warning)
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


def _is_text(statement: str) -> bool:
    """Whether it has no bytes that could not be decoded, which Python keeps in arguments and in what it reads from a terminal."""
    try:
        statement.encode()
    except UnicodeEncodeError:
        return False
    return True


_READ = {
    "DATE": ((1082,), (1182,), DATE),
    "TIMESTAMP": ((1114,), (1115,), PYDATETIME),
    "TIMESTAMPTZ": ((1184,), (1185,), PYDATETIMETZ),
    "FLOAT": ((700, 701), (1021, 1022), FLOAT),
    "DECIMAL": ((1700,), (1231,), DECIMAL),
}
"""By PostgreSQL's name of a type: its numbers, those of its arrays (pg_type.dat), and what psycopg2 reads it by."""
NOT_FINITE = ("infinity", "-infinity", "Infinity", "-Infinity", "NaN")
"""Times and numbers that most formats have no value for, and PostgreSQL writes so."""
_JSON = {"JSON": ((114, 3802), (199, 3807))}
MOST_LEVELS = 100
"""Of JSON that is read; deeper values stay texts, since whoever prints or writes them goes down level by level."""
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|([\[{])|([\]}])')
_TEXTS = {"INTERVAL": ((1186,), (1187,)), "BYTEA": ((17,), (1001,))}


def as_postgresql_says_it(connection: Any) -> None:
    """Let a connection give what Python has no value for as PostgreSQL's own text.

    Of that kind are `infinity` of times and numbers, years before 1 and after 9999, months of intervals, and bytes. psycopg2 would print
    the year 9999 for infinity and 30 days for a month, and refuse other years; JSON has no number that is not finite.
    """
    for name, (of_ones, of_arrays, read) in _READ.items():
        one = new_type(of_ones, name, _or_text(read))
        register_type(one, connection)
        register_type(new_array_type(of_arrays, f"{name}ARRAY", one), connection)
    for name, (of_ones, of_arrays) in _JSON.items():
        one = new_type(of_ones, name, lambda text, _cursor: text if text is None or _is_deep(text) else json.loads(text))
        register_type(one, connection)
        register_type(new_array_type(of_arrays, f"{name}ARRAY", one), connection)
    for name, (of_ones, of_arrays) in _TEXTS.items():
        one = new_type(of_ones, name, lambda text, _cursor: text)
        register_type(one, connection)
        register_type(new_array_type(of_arrays, f"{name}ARRAY", one), connection)


def _or_text(read: Callable[[str | None, Any], Any]) -> Callable[[str | None, Any], Any]:
    def cast(text: str | None, cursor: Any) -> Any:
        if text is None or text in NOT_FINITE:
            return text
        try:
            return read(text, cursor)
        except (ValueError, OverflowError, psycopg2.DataError):
            return text

    return cast


def _is_deep(text: str) -> bool:
    """Whether JSON is nested deeper than `MOST_LEVELS`."""
    if text.count("[") + text.count("{") <= MOST_LEVELS:
        return False
    level = 0
    for found in _BRACKETS.finditer(text):
        level += bool(found[1]) - bool(found[2])
        if level > MOST_LEVELS:
            return True
    return False


_RIGHTS = """
SELECT current_user, rolsuper,
       current_setting('server_version_num')::int < 160000 AND has_function_privilege('pg_catalog.lo_create(oid)', 'EXECUTE')
FROM pg_roles WHERE rolname = current_user
"""


def _warning(role: str, is_superuser: bool, makes_large_objects: bool) -> str:
    """What is not held back by a read-only transaction."""
    if is_superuser:
        may = "is a superuser, who may read files of the server and run programs there"
    elif makes_large_objects:
        may = "may make large objects, which PostgreSQL before 16 does not count as a change"
    else:
        return ""
    return f"the role {role} {may}; set TANGO_READER_URL to one that may only read (`tango database prepare` makes it)"


def _found(kind: str) -> str:
    """PostgreSQL's name for a text that is not one SELECT, in plain words."""
    return "several statements, or none" if kind == "multi-query plan" else kind
