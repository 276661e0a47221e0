"""Connections to a journal's file for each process, its transactions, and the translation of SQLite's errors into ours.

Several processes, with several threads each, have the file open. Whoever writes waits here for the one write lock, in steps far
shorter than those of SQLite's own waiting, which sleeps up to 100 ms at a time.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tango.errors import ConfigError, StoreError, StoreUnavailable
from tango.journal.schema import APPLICATION_ID, FORMAT, SCHEMA, UPGRADES

T = TypeVar("T")


class Connection(sqlite3.Connection):
    """A connection, with what is to be called when its transaction is committed."""

    then: list[Callable[[], None]]


WAIT_S = 5.0
"""Seconds that a transaction waits for others. Chosen: a transaction takes milliseconds, so that this means a process that hangs."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2e-4, 2e-3
"""Seconds between two looks for the write lock, which is held for a fraction of a millisecond to a few of them."""
IDLE_KEPT = 8
"""Idle connections that are kept, one for each thread of a cluster worker."""
CHECKPOINT_PAGES = 16_000
"""Pages in the write-ahead log after which a commit copies them back by itself, 64 MiB. The agent does it far earlier (`checkpoint`);
this is for the time in which it is not there."""
LOG_KEEPS_BYTES = 64 << 20
"""Size to which the write-ahead log is cut when it is begun anew."""

_REMEDIES = {
    sqlite3.SQLITE_FULL: "free some space on its disk",
    sqlite3.SQLITE_IOERR: "look at its disk and at the system's log",
    sqlite3.SQLITE_CANTOPEN: "look at the owner and permissions of the file and its folder",
    sqlite3.SQLITE_READONLY: "look at the owner and permissions of the file and its folder, and at whether its file system is read-only",
    sqlite3.SQLITE_PERM: "look at the owner and permissions of the file and its folder",
    sqlite3.SQLITE_BUSY: f"another process has held its lock for {WAIT_S:g} s; look for one that hangs",
    sqlite3.SQLITE_LOCKED: f"another process has held its lock for {WAIT_S:g} s; look for one that hangs",
    sqlite3.SQLITE_NOMEM: "free some memory",
    sqlite3.SQLITE_CORRUPT: "it is damaged: stop the cluster's processes and move it away; the centre then hands its requests over anew",
    sqlite3.SQLITE_NOTADB: "it is damaged: stop the cluster's processes and move it away; the centre then hands its requests over anew",
}
"""What to do, by SQLite's primary result code. Any other code is a fault of ours."""

_open_files: weakref.WeakSet[JournalDatabase] = weakref.WeakSet()


class JournalDatabase:
    """One journal's file, made where it is missing. Thread-safe; idle connections are closed before a fork, as SQLite demands, so that
    a child opens its own. No other thread may be inside a transaction at a fork: SQLite's own locks would stay held in the child.

    Raises: ConfigError for a file that is no journal of this cluster, or of another version; StoreUnavailable.
    """

    def __init__(self, path: Path, *, cluster: str) -> None:
        self.path = path
        self.was_closed = not os.path.exists(f"{path}-wal")
        """Whether nobody had the file open, and so all that had been committed was on the disk: whoever closes it last sees to that."""
        self._cluster = cluster
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._idle: list[Connection] = []
        self._file: tuple[int, int] | None = None
        _open_files.add(self)
        self._keep(self._take())
        if self.was_closed:
            self._sync_folder()

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the file as it is at one instant. Raises: StoreUnavailable, StoreError."""
        return self._run(work, "BEGIN")

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, the only one that writes meanwhile; commit, or change nothing where it raises.

        A killed process loses nothing of what is committed. A loss of power may take what was committed last, up to the
        last `sync`. Raises: StoreUnavailable, StoreError.
        """
        if not self._writing.acquire(timeout=WAIT_S):
            raise StoreUnavailable(f"{self.path} cannot be used: another thread has written to it for {WAIT_S:g} s; {_SEE_THREADS}")
        try:
            return self._run(work, "BEGIN IMMEDIATE")
        finally:
            self._writing.release()

    def sync(self) -> None:
        """Wait until everything that is committed is on the disk. Raises: StoreUnavailable.

        Not by a commit that waits (`synchronous=FULL`): it would hold the write lock meanwhile, and a disk takes 3 to 60 ms for it here,
        four times a second. What is committed is in the write-ahead log, or was copied from there by a checkpoint, which syncs the log
        first and the file after. SQLite keeps no lock on the log itself, so that closing it here drops none.
        """
        try:
            descriptor = os.open(f"{self.path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # the last connection was closed, and with it all was checkpointed
            return
        except OSError as error:
            raise StoreUnavailable(
                f"the journal {self.path} cannot be used: {error.strerror or error}; look at its disk"
            ) from error
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            raise StoreUnavailable(f"the journal {self.path} cannot be written to its disk: {error.strerror or error}") from error
        finally:
            os.close(descriptor)

    def _sync_folder(self) -> None:
        """Wait until the write-ahead log's name is on the disk: without it the file would seem to have been closed."""
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreUnavailable(
                f"the folder of the journal {self.path} cannot be written to its disk: {error.strerror or error}"
            ) from error

    def checkpoint(self) -> None:
        """Copy the write-ahead log back into the file as far as no reader needs it, so that the log is begun anew."""

        def copy(connection: Connection) -> None:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

        self._run(copy, "")

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _run(self, work: Callable[[Connection], T], begin: str) -> T:
        deadline_s, pause_s = time.monotonic() + WAIT_S, FIRST_PAUSE_S
        while True:
            connection, keep = self._take(), True
            try:
                return _transaction(connection, work, begin)
            except sqlite3.Error as error:
                busy = _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                keep = busy  # after any other error a new connection looks at the file with fresh eyes
                if not busy or time.monotonic() > deadline_s:
                    raise _translated(error, self.path) from error
            finally:
                if keep and not connection.in_transaction:
                    self._keep(connection)
                else:
                    with contextlib.suppress(sqlite3.Error):
                        connection.close()
            time.sleep(random.uniform(0.5, 1.0) * pause_s)
            pause_s = min(1.5 * pause_s, LONGEST_PAUSE_S)

    def _take(self) -> Connection:
        """An idle connection, or a new one; of the file that has this path now."""
        found = _identity(self.path)
        with self._lock:
            stale = []
            if found != self._file:
                stale, self._idle = self._idle, []
            connection = self._idle.pop() if self._idle else None
        for old in stale:
            old.close()
        if connection is None:
            connection = self._connected()
            with self._lock:
                self._file = _identity(self.path)
        return connection

    def _keep(self, connection: Connection) -> None:
        with self._lock:
            if len(self._idle) < IDLE_KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def _connected(self) -> Connection:
        """A new connection. What else has it open may be making it just now, so this too is tried again for a while."""
        deadline_s = time.monotonic() + WAIT_S
        while True:
            connection = None
            try:
                _make_file(self.path)
                connection = sqlite3.connect(
                    self.path,
                    timeout=0,
                    isolation_level=None,
                    check_same_thread=False,
                    cached_statements=200,
                    factory=Connection,
                )
                connection.then = []
                _prepare(connection, self.path, self._cluster)
                return connection
            except BaseException as error:
                if connection is not None:
                    connection.close()
                if not isinstance(error, sqlite3.Error):
                    raise
                if _code(error) == sqlite3.SQLITE_NOTADB:
                    raise ConfigError(f"{self.path} is not a journal: {error}; move it away or name another place") from error
                if _code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > deadline_s:
                    raise _translated(error, self.path) from error
            time.sleep(random.uniform(0.5, 1.0) * LONGEST_PAUSE_S)

    def _after_fork(self) -> None:
        """Make new locks after a fork: the old ones may be held by threads that the child does not have."""
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._idle = []


_SEE_THREADS = "look at what the process does"


def _transaction(connection: Connection, work: Callable[[Connection], T], begin: str) -> T:
    connection.then.clear()
    try:
        if begin:
            connection.execute(begin)
        result = work(connection)
        if begin:
            connection.execute("COMMIT")
        for call in connection.then:
            call()
        return result
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _make_file(path: Path) -> None:
    """An empty file that nobody else can read. A file that exists is not opened here: closing it would drop SQLite's locks on it."""
    if path.exists():
        return
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):  # another process was first
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnavailable(
            f"{path} cannot be made: {error.strerror or error}; look at the owner, permissions and space of its folder, "
            "or name another place"
        ) from error


def _prepare(connection: Connection, path: Path, cluster: str) -> None:
    """Settings of a connection; the tables, where the file is empty. Raises: ConfigError."""
    is_empty = connection.execute("PRAGMA page_count").fetchone() == (0,)
    if not is_empty and connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables != (0,):
            raise ConfigError(f"{path} is a SQLite file but not a journal; move it away or name another place")
        is_empty = True  # another process has begun to make it
    connection.execute("PRAGMA journal_mode=WAL")
    for setting in (
        "synchronous=NORMAL",
        f"wal_autocheckpoint={CHECKPOINT_PAGES}",
        f"journal_size_limit={LOG_KEEPS_BYTES}",
        "temp_store=MEMORY",
        "cache_size=-8192",
        "foreign_keys=OFF",
    ):
        connection.execute(f"PRAGMA {setting}").fetchall()
    if is_empty:
        _transaction(connection, lambda c: _make_tables(c, cluster), "BEGIN IMMEDIATE")
    kept = dict(connection.execute("SELECT name, value FROM meta"))
    if kept.get("format") in UPGRADES:
        _transaction(connection, _upgrade, "BEGIN IMMEDIATE")
        kept = dict(connection.execute("SELECT name, value FROM meta"))
    if kept.get("format") != FORMAT:
        raise ConfigError(
            f"{path} has format {kept.get('format')!r}, this version of Tango reads {FORMAT}; run the version that made it until "
            "`tango run list` shows no run under way, then move the file away"
        )
    if kept.get("cluster") != cluster:
        raise ConfigError(f"{path} is the journal of cluster {kept.get('cluster')!r}, not of {cluster!r}; name another place")


def _upgrade(connection: Connection) -> None:
    """Make tables of an older format those of this one; nothing where another process was first."""
    (found,) = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    while found in UPGRADES:
        for statement in UPGRADES[found]:
            connection.execute(statement)
        found += 1
        connection.execute("UPDATE meta SET value = ? WHERE name = 'format'", (found,))


def _make_tables(connection: Connection, cluster: str) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() != (0,):
        return  # another process was first
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)",
        [
            ("format", FORMAT),
            ("identity", os.urandom(16).hex()),
            ("cluster", cluster),
            ("sequence", 0),
            ("position", 0),
        ],
    )


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file has this path now; None: none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where the error is Python's own."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _translated(error: sqlite3.Error, path: Path) -> StoreUnavailable | StoreError:
    remedy = _REMEDIES.get(_code(error))
    if remedy is None:
        return StoreError(f"the journal {path} refused: {error}")
    return StoreUnavailable(f"the journal {path} cannot be used: {error}; {remedy}")


def _close_before_fork() -> None:
    for database in list(_open_files):
        database.close()


def _begin_after_fork() -> None:
    for database in list(_open_files):
        database._after_fork()


os.register_at_fork(before=_close_before_fork, after_in_child=_begin_after_fork)
