"""A peer that takes every byte and answers nothing: every call ends by its deadline, and the next one works when the peer does again."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tango.errors import StoreUnavailable
from tango.store.database import Cursor, Database

DEADLINE_S = 1.0
MARGIN_S = 4.0
"""For a machine that others use too; without a deadline the calls here would never return."""


class Relay:
    """Passes bytes between clients and PostgreSQL's socket; while it is `silent`, it takes them and passes none."""

    def __init__(self, listening: socket.socket, server: str) -> None:
        self.silent = threading.Event()
        self.connections = 0
        self._listening, self._server = listening, server
        self._open: list[socket.socket] = [listening]
        listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
            self._open += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not self.silent.is_set():
                    sink.sendall(data)
            if not self.silent.is_set():  # nor is an end passed on
                sink.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        """End everything."""
        for one in self._open:
            one.close()


@pytest.fixture(params=["tcp", "unix"])
def relayed(request: pytest.FixtureRequest, database_url: str) -> Iterator[tuple[Relay, Database]]:
    """A database behind a relay, reached by TCP or by a Unix socket."""
    url = urlsplit(database_url)
    server = f"{parse_qs(url.query)['host'][0]}/.s.PGSQL.5432"
    folder = Path(tempfile.mkdtemp())
    if request.param == "tcp":
        listening = socket.create_server(("127.0.0.1", 0))
        place, query = f"127.0.0.1:{listening.getsockname()[1]}", ""
    else:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(folder / ".s.PGSQL.5432"))
        place, query = "", f"host={quote(str(folder), safe='/')}"
    relay = Relay(listening, server)
    login = url.netloc.rpartition("@")[0]
    database = Database(url._replace(netloc=f"{login}@{place}", query=query).geturl(), deadline_s=DEADLINE_S)
    yield relay, database
    relay.close()
    database.close()
    shutil.rmtree(folder)


def _silent_call_s(database: Database, sql: str = "SELECT 1") -> float:
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailable, match="was not done after 1 s"):
        database.rows(sql)
    return time.monotonic() - began_s


def test_a_call_into_silence_ends_and_the_next_one_works(relayed: tuple[Relay, Database]) -> None:
    """After the handshake the relay swallows everything: the call ends at its deadline, and one that follows uses a new connection."""
    relay, database = relayed
    assert database.rows("SELECT 1") == [(1,)]
    relay.silent.set()

    lasted_s = _silent_call_s(database)
    relay.silent.clear()

    assert DEADLINE_S <= lasted_s < DEADLINE_S + MARGIN_S
    assert database.rows("SELECT 2") == [(2,)]
    assert relay.connections == 2


def test_a_transaction_that_is_given_up_in_silence_holds_no_lock_for_long(
    relayed: tuple[Relay, Database], database_url: str
) -> None:
    """The server is not told that its client is gone: it ends what has been idle for as long as the client would wait."""
    relay, database = relayed
    row = "INSERT INTO lease (name, owner, epoch, expires_at) VALUES ('a', 'b', 1, now())"

    def go_silent(cursor: Cursor) -> None:
        cursor.execute(row)
        relay.silent.set()
        cursor.execute("SELECT 1")

    began_s = time.monotonic()
    with pytest.raises(StoreUnavailable):
        database.run(go_silent)
    other = Database(database_url)
    other.execute(row)  # waits for the other's, which is rolled back
    lasted_s = time.monotonic() - began_s
    other.close()

    assert lasted_s < 2 * DEADLINE_S + MARGIN_S


def test_callers_at_once_each_have_their_deadline(relayed: tuple[Relay, Database]) -> None:
    """And those that answer in time are left alone: a watch that is over cuts nothing."""
    relay, database = relayed
    for _ in range(3):
        database.rows("SELECT pg_sleep(0.4)")  # together beyond the deadline, on one connection
    threads = [threading.Thread(target=database.rows, args=("SELECT pg_sleep(0.2)",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    relay.silent.set()
    lasted: list[float] = []
    threads = [threading.Thread(target=lambda: lasted.append(_silent_call_s(database))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(lasted) == 4
    assert max(lasted) < DEADLINE_S + MARGIN_S


def test_a_transaction_that_goes_on_behind_an_error_ends_too(relayed: tuple[Relay, Database]) -> None:
    """The rollback after an error of our own waits for an answer like any statement."""
    relay, database = relayed

    def fail(cursor: object) -> None:
        cursor.execute("SELECT 1")  # type: ignore[attr-defined]
        relay.silent.set()
        raise KeyError("ours")

    began_s = time.monotonic()
    with pytest.raises(KeyError):
        database.run(fail)

    assert time.monotonic() - began_s < DEADLINE_S + MARGIN_S
    relay.silent.clear()
    assert database.rows("SELECT 3") == [(3,)]


def test_a_forked_process_has_deadlines_of_its_own(relayed: tuple[Relay, Database]) -> None:
    """The thread that watches does not survive a fork; a child that waits for too long starts another."""
    _, database = relayed
    database.rows("SELECT 1")

    child = os.fork()
    if child == 0:
        code = 1
        try:
            if database.rows("SELECT 1") == [(1,)]:
                database.rows("SELECT pg_sleep(30)")
        except StoreUnavailable:
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert database.rows("SELECT 1") == [(1,)]
