"""A PgBouncer that lends connections by transaction, before a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import psycopg2.extensions
import pytest

from tango.errors import ConfigError, RequestRejected
from tango.store.database import Database
from tango.store.query import reading
from tests.conftest import DatabaseUrls
from tests.waiting import until

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
Pooled = Callable[[str], str]
"""A URL of PostgreSQL's as one of the pooler."""

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")


@pytest.fixture(params=["options are dropped", "options are refused"])
def drops(request: pytest.FixtureRequest) -> bool:
    """What the pooler does with the settings of a session: what `ignore_startup_parameters` says, or its default."""
    return bool(request.param == "options are dropped")


@pytest.fixture
def pooled(database_urls: DatabaseUrls, drops: bool, tmp_path: Path) -> Iterator[Pooled]:
    """The pooler, which knows the test's roles."""
    parts = {url: psycopg2.extensions.parse_dsn(url) for url in (database_urls.app, database_urls.reader, database_urls.admin)}
    place = parts[database_urls.app]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    users, config = tmp_path / "users", tmp_path / "pgbouncer.ini"
    users.write_text("".join(f'"{p["user"]}" "{p["password"]}"\n' for p in parts.values()))
    server = f"host={place['host']} port={place.get('port', '5432')}"
    config.write_text(
        f"[databases]\n* = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {users}\npool_mode = transaction\n"
        f"ignore_startup_parameters = {'options,' if drops else ''}extra_float_digits\n"
    )
    as_nobody: list[str] = []
    if os.geteuid() == 0:  # it does not run as root
        as_nobody = ["-u", "nobody"]
        for path in (tmp_path, *tmp_path.parents):
            if path.stat().st_uid == 0 and path != Path("/tmp") and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o055)
        for path in (users, config):
            path.chmod(0o644)
    assert PGBOUNCER is not None
    process = subprocess.Popen([PGBOUNCER, "-q", *as_nobody, str(config)], stderr=subprocess.PIPE)

    def url(of: str) -> str:
        p = parts[of]
        return f"postgresql://{p['user']}:{p['password']}@127.0.0.1:{port}/{p['dbname']}"

    def answers() -> bool:
        assert process.poll() is None, process.stderr.read() if process.stderr else b""
        try:
            psycopg2.connect(url(database_urls.app), connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    try:
        until(answers)
        yield url
    finally:
        process.kill()
        process.wait(10)


def asked(query: str, url: str, *, timeout_s: float = 20.0) -> list[tuple[object, ...]]:
    """Through the pooler, by a role that nobody has kept from writing."""
    with reading(query, reader_url="", database_url=url, statement_timeout_s=timeout_s) as found:
        return [row for piece in found.pieces() for row in piece]


def test_a_query_reads_and_changes_nothing_through_a_pooler(pooled: Pooled, database_urls: DatabaseUrls) -> None:
    """By a role that may write too: the transaction is read-only by what is said in it, and so is its time-out."""
    url = pooled(database_urls.app)
    with psycopg2.connect(database_urls.admin) as connection, connection.cursor() as cursor:
        cursor.execute("GRANT UPDATE ON SEQUENCE run_run_id_seq TO tango_app")
        cursor.execute("SELECT setval('run_run_id_seq', 41)")

    assert asked("SELECT 1", url) == [(1,)]
    for query in ("SELECT setval('run_run_id_seq', 1)", "SELECT set_config('transaction_read_only', 'off', true)"):
        with pytest.raises(RequestRejected, match=r"read-only|read-write mode"):
            asked(query, url)
    with pytest.raises(RequestRejected, match=r"ran longer than 0.2 s"):
        asked("SELECT pg_sleep(30)", url, timeout_s=0.2)
    assert asked("SELECT last_value FROM run_run_id_seq", url) == [(41,)]


def test_a_reader_is_told_nothing_and_a_superuser_that_he_is_one(pooled: Pooled, database_urls: DatabaseUrls) -> None:
    """A transaction that only reads holds back no superuser."""
    warnings = []
    for url in (database_urls.reader, database_urls.admin):
        with reading("SELECT 1", reader_url=pooled(url), database_url="", statement_timeout_s=5.0) as found:
            warnings.append(found.warning)

    assert warnings[0] == ""
    assert "is a superuser" in warnings[1]
    assert "TANGO_READER_URL" in warnings[1]


def test_tango_itself_refuses_a_pooler_and_says_why(pooled: Pooled, database_urls: DatabaseUrls, drops: bool) -> None:
    """Without its time-outs a connection that goes silent would hold up all others, and nothing would say so."""
    with pytest.raises(ConfigError, match="has dropped the settings" if drops else "refuses the settings") as refused:
        Database(pooled(database_urls.app)).rows("SELECT 1")

    assert "name PostgreSQL itself in TANGO_DATABASE_URL" in str(refused.value)
    assert psycopg2.extensions.parse_dsn(database_urls.app)["password"] not in str(refused.value)
