"""Backups of the centre's database: one file of PostgreSQL's own format, and beside it what it must have when it is restored.

    backup   one snapshot ─► rows of each table, counted ─► FILE.json
                        └──► pg_dump --snapshot ─────────► FILE (read by any pg_restore)
    restore  FILE is whole? nobody connected? ─► schema `public` put aside ─► pg_restore ─► counts agree? ─► the old one dropped

What was there stays until the restored tables have been counted, and comes back if anything fails. `pg_dump` and not COPY of our own:
operators know it, other tools read it, it has types, triggers, partitions and rights (docs/decisions/0027-backups.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection, make_dsn, parse_dsn

from tango import __version__
from tango.errors import DependencyError, FileRefused, StoreError, StoreUnavailable, UsageError
from tango.files import read_bounded, usable, write_whole
from tango.store.addresses import ENCODING, described, libpq_url, not_reached, own_options
from tango.store.roles import own_defaults
from tango.store.schema import bring_up_to_date, newest_revision
from tango.store.shares import SKIPPED_RUNS

Told = Callable[[str], None]
"""Receives messages about the progress."""

FORMAT = "tango-backup/1"
PREFIX, SUFFIX = "tango-", ".dump"
ASIDE = "tango_before_restore"
"""Schema that holds what was there while a restore is under way."""
NOTICED = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "6",
    "tcp_user_timeout": "60000",
}
"""Of all connections here. A table of a hundred million rows takes what it takes, so nothing has a limit in all; but a server that has gone
silent is noticed within a minute."""
MOST_MANIFEST_BYTES = 4 << 20
"""Size of the longest manifest that is read: a line for each table and partition."""
OPTIONS = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c lock_timeout=60s"
SESSIONS_END_WITHIN_S = 2.0
"""Seconds for which sessions may still be there whose clients have gone: a backend ends a moment after its connection."""
TELL_EVERY_S = 1.0
"""Seconds between two lines of progress at least."""
LINES_KEPT = 20
"""Last lines of a tool that failed, for the message."""
BLOCK_BYTES = 1 << 20
"""What is hashed at a time: a dump may be larger than memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup is of, and what a restore of it must have. Kept as JSON beside the file."""

    format: str
    tango: str
    """Version of Tango that made it."""
    revision: str
    """Of the schema."""
    server: str
    """Version of PostgreSQL."""
    taken_at: str
    """The recovery point, by the server's clock, ISO 8601 in UTC: all that was committed before is in it, and nothing after."""
    bytes: int
    sha256: str
    tables: Mapping[str, int]
    """Rows of each table."""

    @property
    def rows(self) -> int:
        """How many rows all tables have together."""
        return sum(self.tables.values())

    @property
    def age_s(self) -> float:
        """Seconds since the recovery point, by this host's clock."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.taken_at)).total_seconds()


def manifest_path(file: Path) -> Path:
    """Beside the file of the dump."""
    return file.with_name(f"{file.name}.json")


def back_up(url: str, file: Path, *, folders: Sequence[Path], told: Told) -> Manifest:
    """Write a backup of the database at `url`, which must be its owner's, to `file`; nobody has to stop for it.

    `folders`: where `pg_dump` is looked for first, before `PATH`. Raises: UsageError if there is such a file; StoreUnavailable; StoreError;
    DependencyError without a `pg_dump` that is as new as the server; FileUnusable.
    """
    if file.exists() or manifest_path(file).exists():
        raise UsageError(f"{file} is there already; name another file, or remove it with {manifest_path(file).name}")
    begun = file.with_name(f"{file.name}.part")
    with usable(begun):
        begun.parent.mkdir(parents=True, exist_ok=True)
        begun.touch(mode=0o600)
    try:
        with _session(url) as session, session.cursor() as cursor:
            tool = _tool("pg_dump", folders, session.server_version)
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute("SELECT pg_export_snapshot(), now() AT TIME ZONE 'UTC', current_setting('server_version')")
            snapshot, taken_at, server = cursor.fetchone()
            revision = _revision(cursor, url)
            tables = _counted(cursor)
            told(f"{len(tables)} tables with {sum(tables.values()):,} rows as of {taken_at:%Y-%m-%d %H:%M:%S} UTC")
            arguments = ["--format=custom", "--no-owner", f"--snapshot={snapshot}", f"--file={begun}", f"--exclude-schema={ASIDE}"]
            _run(tool, arguments, url, told, r'dumping contents of table "public\.(\S+)"', tables)
        manifest = Manifest(
            format=FORMAT,
            tango=__version__,
            revision=revision,
            server=server,
            taken_at=taken_at.replace(tzinfo=UTC).isoformat(),
            bytes=begun.stat().st_size,
            sha256=_digest(begun),
            tables=tables,
        )
        with usable(file):
            descriptor = os.open(begun, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
            write_whole(manifest_path(file), json.dumps(asdict(manifest), indent=1), mode=0o600)
            begun.rename(file)
        return manifest
    finally:
        begun.unlink(missing_ok=True)


def named_for_now(folder: Path) -> Path:
    """A file in a folder of backups."""
    return folder / f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%SZ}{SUFFIX}"


def drop_older(folder: Path, *, keep: int) -> list[Path]:
    """Remove all but the newest backups that `named_for_now` has named; give those that went. What is not whole counts for none."""
    whole = sorted(file for file in folder.glob(f"{PREFIX}*{SUFFIX}") if manifest_path(file).exists())
    for file in whole[:-keep]:
        with usable(file, "removed"):
            file.unlink()
            manifest_path(file).unlink()
    return whole[:-keep]


def read_manifest(file: Path) -> Manifest:
    """That of a backup, whose file is as it was written. Raises: UsageError where it is not there, FileRefused for one that is
    damaged, or is none."""
    path = manifest_path(file)
    try:
        document: dict[str, Any] = json.loads(read_bounded(path, MOST_MANIFEST_BYTES))
        manifest = Manifest(**document)
        size = file.stat().st_size
    except FileNotFoundError as error:
        raise UsageError(f"there is no {error.filename}; a backup is a file and, beside it, {path.name}") from error
    except (ValueError, TypeError, RecursionError, OSError) as error:
        raise FileRefused(f"{path} is not what `tango database backup` writes: {error}") from error
    if manifest.format != FORMAT:
        raise FileRefused(
            f"{path} has the format {manifest.format!r}, expected {FORMAT!r}: it was made by another version of Tango"
        )
    if size != manifest.bytes or _digest(file) != manifest.sha256:
        raise FileRefused(f"{file} is damaged: it has {size:,} bytes of {manifest.bytes:,}, or others; use another backup")
    return manifest


def restore(url: str, file: Path, *, allowed: Callable[[str], None], folders: Sequence[Path], told: Told) -> Manifest:
    """Make the database at `url`, which must be its owner's, what it was when `file` was written; then bring its schema to this version.

    `allowed` is asked, in words, where that would overwrite something, and raises where it may not be. Raises: UsageError where there is
    no backup; FileRefused for one that is damaged, or of a newer Tango; StoreError while somebody is connected, or if what was restored is
    not what was backed up: then all is as it was before; else as `back_up`.
    """
    told("checking the file")
    manifest = read_manifest(file)
    if manifest.revision > newest_revision():
        raise FileRefused(
            f"{file} has schema revision {manifest.revision}, of Tango {manifest.tango}; this version knows {newest_revision()}: "
            "restore it with that version"
        )
    with _session(url) as session, session.cursor() as cursor:
        tool = _tool("pg_restore", folders, session.server_version)
        _refuse_sessions(cursor, url)
        _bring_back(cursor, told)
        there = _what_is_there(cursor)
        if there:
            allowed(f"replace {there} in {described(url)} by what was there at {manifest.taken_at}")
        cursor.execute(sql.SQL("ALTER SCHEMA public RENAME TO {}").format(sql.Identifier(ASIDE)))
        cursor.execute("CREATE SCHEMA public")
        try:
            begun_s = time.monotonic()
            arguments = ["--no-owner", "--exit-on-error", "--single-transaction", str(file)]
            _run(tool, arguments, url, told, r'processing data for table "public\.(\S+)"', manifest.tables)
            own_defaults(cursor)
            _verify(cursor, url, manifest)
            # Journals may still know runs that were submitted after the backup: their numbers are not given out again.
            cursor.execute(
                "SELECT setval(s, nextval(s) + %s) FROM pg_get_serial_sequence('public.run', 'run_id') s", (SKIPPED_RUNS,)
            )
            told(f"{manifest.rows:,} rows restored and counted in {time.monotonic() - begun_s:,.1f} s")
        except BaseException:
            _bring_back(cursor, told)
            raise
        cursor.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(ASIDE)))
    bring_up_to_date(url)
    return manifest


def _bring_back(cursor: Any, told: Told) -> None:
    """Put what was there before a restore that did not come to its end back in its place; nothing where none was begun."""
    cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (ASIDE,))
    if cursor.fetchone():
        cursor.execute("DROP SCHEMA IF EXISTS public CASCADE")
        cursor.execute(sql.SQL("ALTER SCHEMA {} RENAME TO public").format(sql.Identifier(ASIDE)))
        told("a restore did not come to its end; what was there before is back")


def _refuse_sessions(cursor: Any, url: str) -> None:
    deadline_s = time.monotonic() + SESSIONS_END_WITHIN_S
    while True:
        # Of sessions of other roles an owner sees no more than who they are; processes of the server itself, such as vacuum, are nobody.
        cursor.execute(
            "SELECT count(*), string_agg(DISTINCT usename, ', ') FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND usename IS NOT NULL"
        )
        count, who = cursor.fetchone()
        if not count:
            return
        if time.monotonic() < deadline_s:
            time.sleep(0.1)
            continue
        raise StoreError(
            f"{count} others are connected to {described(url)}, as {who}: stop everything of Tango's first (`tango down`, the units, or "
            "scale its deployments to 0), and end what else is connected"
        )


def _what_is_there(cursor: Any) -> str:
    """What a restore would overwrite, in words; empty where the database holds nothing that anybody has made."""
    cursor.execute("SELECT to_regclass('public.run') IS NOT NULL AND to_regclass('public.cluster') IS NOT NULL")
    if not cursor.fetchone()[0]:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'")
        (tables,) = cursor.fetchone()
        return f"{tables} tables that are not Tango's" if tables else ""
    cursor.execute("SELECT (SELECT count(*) FROM run), (SELECT max(submitted_at) FROM run), (SELECT count(*) FROM cluster)")
    runs, last, clusters = cursor.fetchone()
    if runs:
        return f"{runs:,} runs, the last of {last:%Y-%m-%d %H:%M}, and {clusters} clusters"
    return f"{clusters} clusters" if clusters else ""


def _verify(cursor: Any, url: str, manifest: Manifest) -> None:
    found = _counted(cursor)
    if found != dict(manifest.tables):
        names = sorted({*found, *manifest.tables})
        differ = [f"{n}: {found.get(n)} rows of {manifest.tables.get(n)}" for n in names if found.get(n) != manifest.tables.get(n)]
        raise StoreError(f"what was restored at {described(url)} is not what was backed up: {'; '.join(differ[:5])}")
    if (revision := _revision(cursor, url)) != manifest.revision:
        raise StoreError(f"the restored schema at {described(url)} has revision {revision}, expected {manifest.revision}")


def _counted(cursor: Any) -> dict[str, int]:
    """Rows of each table, of partitions by themselves."""
    cursor.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname")
    found = {}
    for (name,) in cursor.fetchall():
        cursor.execute(sql.SQL("SELECT count(*) FROM public.{}").format(sql.Identifier(name)))
        found[name] = int(cursor.fetchone()[0])
    return found


def _revision(cursor: Any, url: str) -> str:
    cursor.execute("SELECT to_regclass('public.alembic_version') IS NOT NULL")
    if not cursor.fetchone()[0]:
        raise UsageError(f"{described(url)} has no schema of Tango; see `tango database upgrade`")
    cursor.execute("SELECT version_num FROM public.alembic_version")
    return ", ".join(revision for (revision,) in cursor.fetchall())


@contextlib.contextmanager
def _session(url: str) -> Iterator[connection]:
    """A connection in autocommit mode. Raises: StoreUnavailable; StoreError for what the server refuses."""
    try:
        connected = psycopg2.connect(_dsn(url), client_encoding=ENCODING, options=own_options(url, OPTIONS))
    except psycopg2.OperationalError as error:
        raise not_reached(url, error) from error
    try:
        with contextlib.closing(connected) as opened:
            opened.autocommit = True
            yield opened
    except psycopg2.OperationalError as error:
        raise StoreUnavailable(f"PostgreSQL went away at {described(url)}: {str(error).strip()}") from error
    except psycopg2.Error as error:
        raise StoreError(f"PostgreSQL at {described(url)} refuses: {str(error).strip().splitlines()[0]}") from error


def _dsn(url: str, *, password: bool = True) -> str:
    of = {**NOTICED, **parse_dsn(libpq_url(url))}
    return str(make_dsn(**{name: value for name, value in of.items() if password or name != "password"}))


def _tool(name: str, folders: Sequence[Path], server_version: int) -> Path:
    """A program of PostgreSQL that is as new as the server, which is what it demands. Raises: DependencyError."""
    seen = []
    for folder in [*folders, *map(Path, os.environ.get("PATH", "").split(os.pathsep))]:
        path = folder / name
        if not os.access(path, os.X_OK):
            continue
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=30)
        found = re.search(r"\) (\d+)", done.stdout)
        if found and int(found[1]) >= server_version // 10000:
            return path
        seen.append(f"{path} {found[1] if found else 'of no known version'}")
    raise DependencyError(
        f"no {name} of version {server_version // 10000} or newer is here, as this server needs (found: {', '.join(seen) or 'none'}); "
        "install PostgreSQL's client programs, and give their folder with --pg-bin"
    )


def _run(tool: Path, arguments: Sequence[str], url: str, told: Told, pattern: str, tables: Mapping[str, int]) -> None:
    """Run a tool to its end and tell which table it is at. The password is in its environment, which others of the host cannot read.

    Raises: StoreError with its last words.
    """
    environment = {
        **os.environ,
        "PGOPTIONS": own_options(url, OPTIONS),
        "PGPASSWORD": parse_dsn(libpq_url(url)).get("password", ""),
    }
    command = [str(tool), "--verbose", f"--dbname={_dsn(url, password=False)}", *arguments]
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE, env=environment, text=True)
    assert process.stderr is not None
    last: list[str] = []
    told_s, done = 0.0, 0
    try:
        for line in process.stderr:
            last = [*last[-LINES_KEPT:], line.strip()]
            if (found := re.search(pattern, line)) is None:
                continue
            done += 1
            name = found[1].strip('"')
            if time.monotonic() - told_s >= TELL_EVERY_S:
                told_s = time.monotonic()
                told(f"table {done} of {len(tables)}: {name}, {tables.get(name, 0):,} rows")
        status = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if status:
        errors = [line for line in last if "error" in line.lower()] or last
        raise StoreError(f"{tool.name} ended with status {status}: {' '.join(errors[-3:])}")


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with usable(file, "read"), file.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
