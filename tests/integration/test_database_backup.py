"""`tango db backup` and `tango db restore` on a real server: what comes back, what is refused, and that a failure changes nothing."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import psycopg2
import pytest
from click.testing import CliRunner

from tango.cli.main import cli
from tango.errors import DependencyError, FileRefused, StoreError, UsageError
from tango.store.backup import manifest_path, read_manifest
from tango.store.migrate import migrate_back
from tango.store.shares import SKIPPED_RUNS
from tests.conftest import DatabaseUrls
from tests.fakes.store_world import BATCH, WEB, postgres_world
from tests.integration.test_database_command import REVISIONS


def told(*arguments: str) -> str:
    """What a command says on both streams."""
    done = CliRunner().invoke(cli, ["db", *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def rows(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """On a connection of its own, which is closed before a restore."""
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def urls(database_urls: DatabaseUrls) -> DatabaseUrls:
    """A centre with two clusters and a run of three requests, to which nobody is connected."""
    world = postgres_world(database_urls.app)
    world.create(WEB, BATCH, WEB)
    end_sessions(database_urls)
    return database_urls


def end_sessions(urls: DatabaseUrls) -> None:
    """Of all others, as when everything of Tango is stopped."""
    ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    rows(urls.admin, ended)


def test_what_was_backed_up_comes_back_and_nothing_else(urls: DatabaseUrls, tmp_path: Path) -> None:
    """Rows, rights and defaults; what came later is gone; runs get numbers far from those that were given out meanwhile."""
    file = tmp_path / "kept" / "tango.dump"
    requests = "SELECT request_id, class::text, state::text, service FROM request ORDER BY 1"
    before = rows(urls.app, requests)
    said = told("backup", str(file), "--url", urls.owner)
    rows(urls.owner, "UPDATE request SET state = 'cancelled'; CREATE TABLE later (n int)")
    postgres_world(urls.app).create(WEB)
    end_sessions(urls)

    with pytest.raises(
        UsageError, match=r"replace 2 runs, the last of .* and 2 clusters in .*\*\*\*.* by what was there at .*: say --yes"
    ):
        told("restore", str(file), "--url", urls.owner)
    done = told("restore", str(file), "--url", urls.owner, "--yes")

    manifest = read_manifest(file)
    assert f"recovery point {manifest.taken_at}" in said
    assert f"recovery point {manifest.taken_at}" in done
    assert rows(urls.app, requests) == before
    assert rows(urls.owner, "SELECT to_regclass('later')") == [(None,)]
    assert postgres_world(urls.app).create(WEB) > SKIPPED_RUNS
    rows(urls.owner, "CREATE TABLE made_later (n int)")
    assert rows(urls.reader, "SELECT count(*) FROM made_later") == [(0,)]
    assert rows(urls.owner, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tango%%'") == []
    assert (file.stat().st_mode & 0o777, manifest_path(file).stat().st_mode & 0o777) == (0o600, 0o600)


def test_an_older_backup_is_brought_to_this_version(urls: DatabaseUrls, tmp_path: Path) -> None:
    """It is restored as it was, then migrated; one of a newer Tango is refused before anything is touched."""
    migrate_back(urls.owner, REVISIONS[-2])
    file = tmp_path / "old.dump"
    told("backup", str(file), "--url", urls.owner)

    told("restore", str(file), "--url", urls.owner, "--yes")

    assert read_manifest(file).revision == REVISIONS[-2]
    assert rows(urls.app, "SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]
    change(file, revision="9999")
    with pytest.raises(FileRefused, match="restore it with that version"):
        told("restore", str(file), "--url", urls.owner, "--yes")


def test_a_restore_that_does_not_come_out_right_changes_nothing(urls: DatabaseUrls, tmp_path: Path) -> None:
    """Counts that do not agree, as of an archive that lost rows: what was there is there again."""
    file = tmp_path / "tango.dump"
    told("backup", str(file), "--url", urls.owner)
    change(file, tables=dict(read_manifest(file).tables) | {"run": 2})
    rows(urls.owner, "UPDATE run SET name = 'after the backup'")

    with pytest.raises(StoreError, match="is not what was backed up: run: 1 rows of 2"):
        told("restore", str(file), "--url", urls.owner, "--yes")

    assert rows(urls.app, "SELECT name FROM run") == [("after the backup",)]


def test_a_restore_that_was_killed_is_taken_back_by_the_next_one(urls: DatabaseUrls, tmp_path: Path) -> None:
    """What was there lies aside; the next restore puts it back before it asks what would be overwritten."""
    file = tmp_path / "tango.dump"
    told("backup", str(file), "--url", urls.owner)
    rows(urls.owner, "ALTER SCHEMA public RENAME TO tango_before_restore; CREATE SCHEMA public; CREATE TABLE public.half (n int)")

    with pytest.raises(UsageError, match="replace 1 runs"):
        told("restore", str(file), "--url", urls.owner)

    assert len(rows(urls.app, "SELECT request_id FROM request")) == 3


def test_a_database_in_use_and_a_damaged_file_are_refused(urls: DatabaseUrls, tmp_path: Path) -> None:
    """Nothing is restored under the feet of those who are connected; a file of which a byte is other is none."""
    file = tmp_path / "tango.dump"
    told("backup", str(file), "--url", urls.owner)
    with closing(psycopg2.connect(urls.app)), pytest.raises(StoreError, match=r"1 others are connected .* as tango_app: stop"):
        told("restore", str(file), "--url", urls.owner, "--yes")
    with pytest.raises(UsageError, match="is there already"):
        told("backup", str(file), "--url", urls.owner)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)

    with pytest.raises(FileRefused, match="is damaged"):
        told("restore", str(file), "--url", urls.owner, "--yes")
    with pytest.raises(UsageError, match=r"there is no .*other\.dump\.json"):
        told("restore", str(tmp_path / "other.dump"), "--url", urls.owner, "--yes")


def test_a_folder_keeps_the_newest_backups_and_nothing_else_is_removed(urls: DatabaseUrls, tmp_path: Path) -> None:
    """They are named for the time; what is not whole, and what others have put there, stays."""
    for name in ("tango-20250101T000000Z.dump", "tango-20250102T000000Z.dump", "tango-20250103T000000Z.dump.part", "notes"):
        (tmp_path / name).touch()
    manifest_path(tmp_path / "tango-20250101T000000Z.dump").touch()

    told("backup", str(tmp_path), "--url", urls.owner, "--keep", "1")

    left = sorted(file.name for file in tmp_path.iterdir())
    assert left[0] == "notes"
    assert left[1:3] == ["tango-20250102T000000Z.dump", "tango-20250103T000000Z.dump.part"]
    assert [name.partition("Z")[2] for name in left[3:]] == [".dump", ".dump.json"]
    with pytest.raises(click.UsageError, match="--keep is for a folder"):
        told("backup", str(tmp_path / "one.dump"), "--url", urls.owner, "--keep", "1")


def test_programs_that_are_older_than_the_server_are_refused(
    urls: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pg_dump says so itself, but only after it has connected, and without a remedy."""
    old = tmp_path / "bin" / "pg_dump"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.1'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", "/bin-that-is-not-there")

    with pytest.raises(DependencyError, match=r"no pg_dump of version \d+ or newer .*pg_dump 9\); install"):
        told("backup", str(tmp_path / "tango.dump"), "--url", urls.owner, "--pg-bin", str(old.parent))

    assert list(tmp_path.glob("tango.dump*")) == []


def change(file: Path, **values: Any) -> None:
    """Write other values into the manifest of a backup."""
    path = manifest_path(file)
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
