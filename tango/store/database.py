"""One pool of psycopg2 connections per process, and the translation of PostgreSQL's errors into ours.

Statements here are single claimed transitions or reads, so a lost connection may be answered by running the whole
transaction again: `Database.run` takes a function and retries it a few times, with jitter.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from tango.errors import ConfigError, StoreError, StoreUnavailable

T = TypeVar("T")
Cursor: TypeAlias = psycopg2.extensions.cursor

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 60
LOCK_TIMEOUT_S = 10
ATTEMPTS = 4
POOL_KEEPS = 8

_AGAIN = (psycopg2.errors.SerializationFailure, psycopg2.errors.DeadlockDetected, psycopg2.errors.LockNotAvailable)


def libpq_url(url: str) -> str:
    """The URL as libpq takes it: `postgresql://`, `postgres://` and `postgresql+psycopg2://` all mean psycopg2.

    Raises: ConfigError for anything else.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg2") or not rest:
        raise ConfigError(f"the database URL begins with {scheme[:20]!r}, expected postgresql:// or postgres://")
    return f"postgresql://{rest}"


def described(url: str) -> str:
    """The URL without its password, for messages."""
    found = urlsplit(libpq_url(url))
    user, at, place = found.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    query = re.sub(r"(?i)(password=)[^&]*", r"\1***", found.query)
    return found._replace(netloc=f"{name}{colon}{'***' if colon else ''}{at}{place}", query=query).geturl()


class Database:
    """Connections to one PostgreSQL database. Thread-safe; a fork starts with no connections of its parent."""

    def __init__(self, url: str) -> None:
        self._dsn = libpq_url(url)
        self._shown = described(url)
        self._lock = threading.Lock()
        self._idle: list[psycopg2.extensions.connection] = []
        self._pid = os.getpid()

    def run(self, work: Callable[[Cursor], T], *, once: bool = False) -> T:
        """Run `work` in one transaction and give its result; commit, or on an error roll back.

        Deadlocks and lock timeouts are tried again, and so are lost connections, for which `work` must be a claimed transition or a
        read: a commit whose answer is lost may have happened. With `once`, a connection lost at the commit is not tried again.
        Raises: StoreUnavailable when PostgreSQL does not answer; StoreError when it refuses the statement.
        """
        for attempt in range(1, ATTEMPTS + 1):
            committing = False
            try:
                with self._connection() as connection, connection.cursor() as cursor:
                    result = work(cursor)
                    committing = True
                    connection.commit()
                    return result
            except _AGAIN as error:
                if attempt == ATTEMPTS:
                    raise StoreError(f"PostgreSQL gave up after {ATTEMPTS} attempts: {_first_line(error)}") from error
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                if isinstance(error, psycopg2.errors.QueryCanceled):
                    raise StoreError(f"the statement ran longer than {STATEMENT_TIMEOUT_S} s") from error
                if attempt == ATTEMPTS or (once and committing):
                    raise StoreUnavailable(
                        f"PostgreSQL does not answer at {self._shown} ({_first_line(error)}). "
                        "Start the stack with `tango up`, or check TANGO_DATABASE_URL."
                    ) from error
            except psycopg2.Error as error:
                raise StoreError(f"PostgreSQL refused: {_first_line(error)}") from error
            time.sleep(random.uniform(0.05, 0.15) * 2**attempt)
        raise AssertionError("unreachable")

    def rows(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement."""

        def read(cursor: Cursor) -> list[tuple[Any, ...]]:
            cursor.execute(sql, parameters)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found

        return self.run(read)

    def execute(self, sql: str, parameters: Any = ()) -> int:
        """Run one statement; give how many rows it touched."""

        def write(cursor: Cursor) -> int:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)

        return self.run(write)

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[psycopg2.extensions.connection]:
        connection = self._take()
        broken = True
        try:
            yield connection
            broken = False
        except BaseException:
            if not connection.closed:
                with contextlib.suppress(psycopg2.Error):
                    connection.rollback()
                    broken = False
            raise
        finally:
            with self._lock:
                keep = not broken and not connection.closed and len(self._idle) < POOL_KEEPS
                if keep:
                    self._idle.append(connection)
                # One lost connection means a server that went away: those beside it are lost too.
                stale = [] if keep or not broken else self._idle
                if stale:
                    self._idle = []
            for lost in [*stale, *([] if keep else [connection])]:
                lost.close()

    def _take(self) -> psycopg2.extensions.connection:
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._idle = os.getpid(), []  # connections of the parent are the parent's
            if self._idle:
                return self._idle.pop()
        return psycopg2.connect(
            self._dsn,
            connect_timeout=CONNECT_TIMEOUT_S,
            keepalives_idle=10,
            application_name="tango",
            options=f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c lock_timeout={LOCK_TIMEOUT_S}s -c timezone=UTC",
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
