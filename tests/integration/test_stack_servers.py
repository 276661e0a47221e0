"""The stack's two servers, as other tests and the supervisor use them: the real ones."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis

from tango.errors import BrokerUnavailable
from tango.stack.broker import Broker, require_broker
from tango.stack.postgres import PostgresServer, end_leftover


def _ask(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url, connect_timeout=5)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def test_the_application_changes_rows_and_owns_nothing(database_urls) -> None:
    """The role `tango_app` reads tables and may not make any."""
    assert _ask(database_urls.app, "SELECT count(*) FROM request") == [(0,)]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        _ask(database_urls.app, "CREATE TABLE extra (x int)")


def test_the_reader_only_reads(database_urls) -> None:
    """The role `tango_reader` may SELECT and not write."""
    assert _ask(database_urls.reader, "SELECT count(*) FROM request") == [(0,)]
    with pytest.raises((psycopg2.errors.ReadOnlySqlTransaction, psycopg2.errors.InsufficientPrivilege)):
        _ask(database_urls.reader, "DELETE FROM request")


def test_a_server_keeps_its_data_and_takes_no_wrong_password(tmp_path: Path) -> None:
    """What was committed is there after a stop and a start; the socket asks for the password."""
    server = PostgresServer(tmp_path, password="right/ one")
    try:
        server.start()
        connection = psycopg2.connect(server.admin_url())
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE kept")
        connection.close()
        server.stop()
        server.start()
        assert _ask(server.admin_url("kept"), "SHOW listen_addresses") == [("",)]
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(PostgresServer.url(server, "postgres", "wrong", "postgres"))
    finally:
        server.stop()
        server.discard()


def test_nobody_else_may_enter_the_servers_folders(tmp_path: Path) -> None:
    """Data and socket folders are 0700, files of settings and passwords 0600, and the password file of initdb is gone."""
    server = PostgresServer(tmp_path / "home", password="secret")
    try:
        server.start()
        places = server._laid_out()
        for folder in (places.data, places.sockets):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not list(places.folder.glob("password*"))
        arguments = Path(f"/proc/{server._process.pid}/cmdline").read_text()
        assert "secret" not in arguments
    finally:
        server.stop()
        server.discard()


def test_a_server_starts_again_after_it_was_killed(tmp_path: Path) -> None:
    """A postmaster that died by SIGKILL leaves a pid file; the next start recovers."""
    server = PostgresServer(tmp_path, password="x")
    try:
        server.start()
        server._process.kill()
        server._process.wait(timeout=30)
        server.start()
        assert _ask(server.admin_url(), "SELECT 1") == [(1,)]
    finally:
        server.stop()
        server.discard()


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended; one that nobody has waited for has."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_no_process_of_a_killed_server_is_left_when_the_next_one_starts(tmp_path: Path) -> None:
    """They are session leaders of their own, which no kill of the server's group reaches: one that stands still notices nothing."""
    server = PostgresServer(tmp_path, password="x")
    try:
        server.start()
        data = server._laid_out().data
        child, *_ = psutil.Process(server._process.pid).children()
        child.suspend()
        bystander = subprocess.Popen(["sleep", "60"], cwd=data)
        try:
            server._process.kill()
            server._process.wait(timeout=30)
            assert (data / "postmaster.pid").exists()
            assert lives(child)

            end_leftover(data, timeout_s=1.0)

            assert not lives(child)
            assert not (data / "postmaster.pid").exists()
            assert bystander.poll() is None
        finally:
            bystander.kill()
            bystander.wait()
        server.start()
        assert _ask(server.admin_url(), "SELECT 1") == [(1,)]
    finally:
        server.stop()
        server.discard()


def test_a_deleted_state_folder_takes_its_data_with_it(tmp_path: Path) -> None:
    """Who deletes the state folder and starts again gets an empty server with the new password, wherever the data lay."""
    home = tmp_path / "home"
    first = PostgresServer(home, password="first")
    first.start()
    first.stop()
    shutil.rmtree(home)
    second = PostgresServer(home, password="second")
    try:
        second.start()
        assert _ask(second.admin_url(), "SELECT 1") == [(1,)]
    finally:
        second.stop()
        second.discard()


def test_a_long_state_folder_path_still_gets_a_socket(tmp_path: Path) -> None:
    """A Unix socket's path has about 100 bytes; a deep state folder must not break the start."""
    server = PostgresServer(tmp_path / ("deep-" * 15) / ("er-" * 15), password="x")
    try:
        server.start()
        assert len(os.fsencode(server._laid_out().sockets)) < 100
    finally:
        server.stop()
        server.discard()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://me@127.0.0.1:1", "unix:///nowhere/valkey.sock"])
def test_somebodys_own_broker_that_does_not_answer_is_told_in_one_line(valkey_url: str, url: str) -> None:
    """Before anything is started: where, what it said and what to do, without the password."""
    with pytest.raises(BrokerUnavailable, match=r"does not answer .*TANGO_BROKER_URL") as refused:
        require_broker(url)

    assert refused.value.exit_status == 4
    require_broker(valkey_url)


def test_the_broker_asks_for_its_password_and_keeps_messages(tmp_path: Path) -> None:
    """Messages outlive a restart, the port stays, and a client without the password is refused."""
    broker = Broker(tmp_path / "a home", password="secret")
    broker.start()
    try:
        redis.Redis.from_url(broker.url).lpush("queue", "message")
        first = broker.url
        broker.stop()
        broker.start()
        assert broker.url == first
        assert redis.Redis.from_url(broker.url).lrange("queue", 0, -1) == [b"message"]
        with pytest.raises(redis.AuthenticationError):
            redis.Redis.from_url(broker.url.replace(":secret@", "")).ping()
        assert stat.S_IMODE((tmp_path / "a home/data/broker/valkey.conf").stat().st_mode) == 0o600
    finally:
        broker.stop()
