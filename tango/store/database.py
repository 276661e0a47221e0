"""A pool of psycopg2 connections for each process, and the translation of PostgreSQL's errors into ours.

Transactions are claimed transitions (which change nothing a second time) or reads, so one whose connection was lost can be run again:
`Database.run` takes a function and retries it a few times, with jittered backoff. No wait is without end: connecting, statements and locks
have their timeouts, TCP notices a peer that is gone, and what nobody else ends is ended here (`deadlines`) and, of what it holds there, by
the server.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from tango.errors import ConfigError, StoreBusy, StoreError, StoreUnavailable
from tango.store.addresses import ENCODING, TANGO_S_TABLES, VALUES_AS_THEY_ARE, described, libpq_url, not_reached, own_options
from tango.store.deadlines import DEADLINES

T = TypeVar("T")
Cursor: TypeAlias = psycopg2.extensions.cursor

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 60
"""Seconds after which PostgreSQL cancels a statement. Chosen: beyond the longest one, loading a trace of a million requests."""
LOCK_TIMEOUT_S = 10
"""Seconds that a statement waits for a lock; it is then run again."""
DEADLINE_S = STATEMENT_TIMEOUT_S + 10.0
"""Seconds after which `Database.run` gives up, all its tries together, whatever the other side does: PostgreSQL's own limits come first."""
SILENT_S = 20
"""Seconds without an acknowledgement by the peer's TCP after which a connection is lost."""
LOSS_IS_NOTICED = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": SILENT_S * 1000}
"""Of libpq, for every connection that may be a remote one."""
LOSS_IS_NOTICED_THERE = (
    " ".join(
        f"-c {name}={value}"
        for name, value in (("tcp_keepalives_idle", 10), ("tcp_keepalives_interval", 5), ("tcp_keepalives_count", 2))
    )
    + f" -c tcp_user_timeout={SILENT_S}s"
)
"""The same for the server's end, which would else hold the locks of a client that is gone for hours."""
FOR_SHORT_STATEMENTS = "-c max_parallel_workers_per_gather=0 -c jit=off"
"""What PostgreSQL begins beside a statement that it expects to be long, none of ours is worth. Starting two processes took 33 ms of a read
of 400 rows that it expected to have 80,000: how many requests of a class stand in a state it guesses from both apart. `tango sql` has both
as the server's settings say."""
ATTEMPTS = 4
"""Tries of a transaction, the first included: with backoff about two seconds in all, as long as a restart of PostgreSQL takes."""
POOL_KEEPS = 8
"""Idle connections that are kept, one for each thread of a cluster worker."""

_ASKED_DATE_STYLE, _DATE_STYLE = "ISO,YMD", "ISO, YMD"
"""How sessions show dates: as psycopg2 wants it, and as no server does by default, which tells whether what a session asks for arrives."""
_NO_POOLER = (
    ", as PgBouncer does. Its time-outs for statements, locks and open transactions are among them, without which one connection that goes "
    "silent can hold up all others: name PostgreSQL itself in TANGO_DATABASE_URL. `tango sql` works through a pooler (TANGO_READER_URL)."
)
NOT_AWAITED = "SET LOCAL synchronous_commit = off; "
"""Before the first statement of a transaction whose commit need not wait for the disk: a crash of PostgreSQL's host may then undo what was
committed in the last moments, as if it had not come. For what the next observation or the next heartbeat says again, and nothing else."""

# Errors that say nothing about the statement itself: it may succeed when it is run again.
_AGAIN = (psycopg2.errors.SerializationFailure, psycopg2.errors.DeadlockDetected, psycopg2.errors.LockNotAvailable)


class Database:
    """Connections to one PostgreSQL database. Thread-safe; a forked process opens connections of its own."""

    def __init__(self, url: str, *, deadline_s: float = DEADLINE_S) -> None:
        self._url, self._dsn = url, libpq_url(url)
        self._deadline_s = deadline_s
        self._shown = described(url)
        self._lock = threading.Lock()
        self._idle: list[psycopg2.extensions.connection] = []
        self._pid = os.getpid()
        self._shared = threading.local()
        """`cursor`: of the transaction that this thread's reads share (`together`)."""

    def run(self, work: Callable[[Cursor], T], *, once: bool = False, reads_only: bool = False) -> T:
        """Run `work` in one transaction and return its result; commit, or roll back on an error. With `reads_only` it refuses writes.

        The transaction is run again after a deadlock, a lock timeout or a lost connection. A commit whose answer was lost may have
        happened, so `work` must be a claimed transition or a read; with `once` it is not run again after a connection lost at the commit.
        All of it takes at most the deadline of this object, and the time to connect once.
        Raises: StoreUnavailable if PostgreSQL does not answer or refuses the login; StoreBusy if others hold its locks each time;
        StoreError if it refuses the statement; ConfigError for a pooler between, or a URL that libpq cannot use.
        """
        if (shared := getattr(self._shared, "cursor", None)) is not None:
            return work(shared)  # whoever shares it translates errors, and begins anew
        until_s = time.monotonic() + self._deadline_s
        for attempt in range(1, ATTEMPTS + 1):
            committing = False
            try:
                with self._connection(until_s) as connection, connection.cursor() as cursor:
                    connection.readonly = True if reads_only else None  # a word of its BEGIN, no statement of its own
                    result = work(cursor)
                    committing = True
                    connection.commit()
                    return result
            except _AGAIN as error:
                if attempt == ATTEMPTS or time.monotonic() >= until_s:
                    raise StoreBusy(f"PostgreSQL gave up after {attempt} attempts: {_first_line(error)}") from error
            except StoreUnavailable as error:
                if error.is_refused or attempt == ATTEMPTS or time.monotonic() >= until_s:
                    raise
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                if isinstance(error, psycopg2.errors.QueryCanceled):
                    raise StoreError(f"the statement ran longer than {STATEMENT_TIMEOUT_S} s") from error
                if time.monotonic() >= until_s:
                    raise StoreUnavailable(
                        f"PostgreSQL was not done after {self._deadline_s:g} s at {self._shown}. Where it does not answer at all, look at "
                        "what lies between: a proxy or a tunnel whose other end is gone, a server that is stopped."
                    ) from error
                if attempt == ATTEMPTS or (once and committing):
                    raise StoreUnavailable(
                        f"PostgreSQL does not answer at {self._shown} ({_first_line(error)}). "
                        "Start the stack with `tango up`, or check TANGO_DATABASE_URL."
                    ) from error
            except psycopg2.Error as error:
                raise StoreError(f"PostgreSQL refused: {_first_line(error)}") from error
            time.sleep(random.uniform(0.05, 0.15) * 2**attempt)
        raise AssertionError("unreachable")

    def together(self, read: Callable[[], T]) -> T:
        """Call `read`, all of whose reads by this object and thread are one transaction; give its result.

        Of many small reads each costs three ways to the server and back by itself (begin, statement, commit), and one here. `read` may be
        called again, as `work` of `run`, and must not write: PostgreSQL refuses that. Raises: as `run`, and what `read` raises.
        """

        if getattr(self._shared, "cursor", None) is not None:
            return read()

        def work(cursor: Cursor) -> T:
            self._shared.cursor = cursor
            try:
                return read()
            finally:
                self._shared.cursor = None

        return self.run(work, reads_only=True)

    def rows(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement."""

        def read(cursor: Cursor) -> list[tuple[Any, ...]]:
            cursor.execute(sql, parameters)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found

        return self.run(read)

    def execute(self, sql: str, parameters: Any = ()) -> int:
        """Run one statement and return the number of rows that it changed."""

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
    def _connection(self, until_s: float) -> Iterator[psycopg2.extensions.connection]:
        connection = self._take()
        broken = True
        try:
            with DEADLINES.over(connection.fileno(), until_s):
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
                # A lost connection usually means that the server has gone, and the idle connections with it.
                stale = [] if keep or not broken else self._idle
                if stale:
                    self._idle = []
            for lost in [*stale, *([] if keep else [connection])]:
                lost.close()

    def _take(self) -> psycopg2.extensions.connection:
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._idle = os.getpid(), []  # after a fork: sharing a socket with the parent would mix up both
            if self._idle:
                return self._idle.pop()
        # With the style of dates that psycopg2 wants it asks for nothing itself once it is connected, where no timeout would hold.
        # A transaction that has come to its deadline is given up here; where the server does not hear of that, it must not keep the
        # rows that it has locked.
        options = (
            f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c lock_timeout={LOCK_TIMEOUT_S}s -c timezone=UTC "
            f"-c datestyle={_ASKED_DATE_STYLE} -c idle_in_transaction_session_timeout={round(self._deadline_s * 1000)}ms "
            f"{LOSS_IS_NOTICED_THERE} {FOR_SHORT_STATEMENTS} "
            f"{TANGO_S_TABLES} {' '.join(f'-c {name}={value}' for name, value in VALUES_AS_THEY_ARE.items())}"
        )
        try:
            connection = psycopg2.connect(
                self._dsn,
                connect_timeout=CONNECT_TIMEOUT_S,
                **LOSS_IS_NOTICED,
                application_name="tango",
                client_encoding=ENCODING,
                options=own_options(self._url, options),
            )
        except psycopg2.OperationalError as error:
            if "unsupported startup parameter" in str(error):
                raise ConfigError(f"what answers at {self._shown} refuses the settings of Tango's sessions{_NO_POOLER}") from error
            raise not_reached(self._url, error) from error
        says = {name: connection.get_parameter_status(name) for name in ("DateStyle", "TimeZone")}
        if says != {"DateStyle": _DATE_STYLE, "TimeZone": "UTC"}:
            connection.close()
            if set_here := [name for name in ("PGDATESTYLE", "PGTZ") if name in os.environ]:
                raise ConfigError(
                    f"{' and '.join(set_here)} in the environment overrides the settings of Tango's sessions; unset it"
                )
            raise ConfigError(f"what answers at {self._shown} has dropped the settings of Tango's sessions{_NO_POOLER}")
        return connection


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
