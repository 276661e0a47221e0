"""`tango database` on a real server: what an operator types who brings a PostgreSQL of his own."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from click.testing import CliRunner

import migrations
from tango.cli.main import cli
from tango.errors import StoreUnavailable, UsageError
from tango.stack.postgres import PostgresServer
from tests.conftest import DatabaseUrls

REVISIONS = sorted(path.name.partition("_")[0] for path in (Path(migrations.__file__).parent / "versions").glob("[0-9]*_*.py"))
NOWHERE = "postgresql://tango_owner:x@127.0.0.1:1/tango"


def told(*arguments: str, fails: int = 0) -> str:
    """What a command says; it exits as expected."""
    done = CliRunner().invoke(cli, ["database", *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    assert (done.return_value or 0) == fails, done.output
    return done.output


def test_the_schema_goes_back_a_revision_and_forth_again(database_urls: DatabaseUrls) -> None:
    """Both say where they have come to, and any role may ask."""
    before, newest = REVISIONS[-2:]
    url = ("--url", database_urls.owner)

    assert told("revision", "--url", database_urls.app) == f"{newest} of {newest}\n"
    with pytest.raises(UsageError, match=r"back the database up, then say --yes"):
        told("downgrade", before, *url)
    told("downgrade", before, *url, "--yes")
    assert told("revision", "--url", database_urls.app, fails=1) == f"{before} of {newest}\n"
    assert newest in told("upgrade", *url)
    assert told("revision", *url) == f"{newest} of {newest}\n"


def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_was_said() -> None:
    """A database may start at the same time as the job that migrates it."""
    with pytest.raises(StoreUnavailable, match="PostgreSQL does not answer"):
        told("upgrade", "--url", NOWHERE, "--wait-s", "0.1")
    with pytest.raises(StoreUnavailable, match="PostgreSQL does not answer"):
        told("revision", "--url", NOWHERE)


def test_a_password_that_is_not_taken_is_told(database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a server is away or refuses, the message has its own words."""
    for role in ("OWNER", "APP", "READER"):
        monkeypatch.setenv(f"TANGO_{role}_PASSWORD", "x")
    monkeypatch.setenv("TANGO_ADMIN_URL", database_urls.admin.replace("postgres:", "postgres:wrong", 1))

    with pytest.raises(StoreUnavailable, match=r"refuses the login \(password authentication failed"):
        told("prepare")


def test_a_server_of_one_s_own_is_prepared_and_migrated_by_two_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Database, roles and rights; again it changes passwords alone."""
    server = PostgresServer(tmp_path, password="admin")
    try:
        server.start()
        monkeypatch.setenv("TANGO_ADMIN_URL", server.admin_url())
        for word in ("first", "second"):
            for role in ("OWNER", "APP", "READER"):
                monkeypatch.setenv(f"TANGO_{role}_PASSWORD", word)
            told("prepare")
        told("upgrade", "--url", server.url("tango_owner", "second"))

        with closing(psycopg2.connect(server.url("tango_app", "second"))) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM run")
            assert cursor.fetchall() == [(0,)]
    finally:
        server.stop()
        server.discard()
