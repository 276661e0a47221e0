"""The file of a journal: made for its owner alone, refused where it is another, whole after a kill, and usable again after a full disk."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tango.domain.identity import RequestKey
from tango.errors import ConfigError, StoreUnavailable
from tango.journal.database import JournalDatabase
from tango.journal.journal import SqliteJournal
from tango.journal.schema import FORMAT
from tango.ports.requests import StartHere
from tango.settings import LcSettings, LeaseSettings, StoreSettings
from tests.fakes.journal_world import open_journal, rows_in, share, sqlite_journal_world
from tests.fakes.own_fleet import published
from tests.fakes.store_world import LIVE_S, WEB, success


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a journal that is not made yet."""
    return tmp_path / "journals" / "c1.db"


def _open(path: Path, cluster: str = "c1") -> SqliteJournal:
    return SqliteJournal(path, cluster=cluster, lease=LeaseSettings(), lc=LcSettings(), store=StoreSettings())


def _in_child(work: Callable[[int], None]) -> tuple[int, int]:
    """(process id, read end of a pipe) of a forked process that does `work` with the write end, and then ends."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read)
            work(write)
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    return pid, read


def _numbers(told: bytes) -> list[int]:
    """The whole lines of what a child told, which a kill may have cut."""
    return [int(line) for line in told[: told.rfind(b"\n") + 1].split()]


def _all_of(read: int) -> bytes:
    with os.fdopen(read, "rb") as pipe:
        return pipe.read()


# ---- which file --------------------------------------------------------------------------------------------------------


def test_a_journal_is_made_for_its_owner_alone(path: Path) -> None:
    """Folder and file, with what SQLite puts beside the file."""
    journal = _open(path)

    modes = {found.name: found.stat().st_mode & 0o777 for found in path.parent.iterdir()}

    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert modes == {"c1.db": 0o600, "c1.db-wal": 0o600, "c1.db-shm": 0o600}
    journal.close()


def test_a_journal_keeps_its_identity_and_a_new_one_has_another(path: Path) -> None:
    """A new file begins again at number 1, so it must not be taken for the old one."""
    identities = []
    for folder in (path.parent / "a", path.parent / "a", path.parent / "b"):
        world = sqlite_journal_world(folder / "c1.db")
        world.start(world.released(WEB) if not world.journal.runs() else 1, [0])
        shipment = world.journal.unshipped(limit=10)
        assert shipment is not None
        identities.append(shipment.journal)
        world.journal.close()

    assert identities[0] == identities[1] != identities[2]


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """Garbage, and SQLite's file of somebody else."""
    garbage, other = tmp_path / "garbage.db", tmp_path / "other.db"
    garbage.write_bytes(b"no database at all, but long enough to look at" * 100)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    before = {path: path.read_bytes() for path in (garbage, other)}

    for path in before:
        with pytest.raises(ConfigError, match=rf"{path.stem}\.db is .*not a journal.*; move it away or name another place"):
            _open(path)

    assert {path: path.read_bytes() for path in before} == before


def test_a_journal_of_another_version_or_cluster_is_refused(path: Path) -> None:
    """The message says what was found and what to do."""
    _open(path).close()

    with pytest.raises(ConfigError, match="journal of cluster 'c1', not of 'c2'"):
        _open(path, "c2")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE name = 'format'")
    connection.close()
    with pytest.raises(ConfigError, match=f"has format 99, this version of Tango reads {FORMAT}"):
        _open(path)


def test_a_journal_of_a_format_before_is_taken_over(path: Path) -> None:
    """Its tables are changed, and what it has stays."""
    _open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        before = dict(connection.execute("SELECT name, value FROM meta"))
        for name in ("insert", "update", "delete"):
            connection.execute(f"DROP TRIGGER answer_{name}")
        connection.execute("DELETE FROM meta WHERE name = 'answer_bytes'")
        for table, names in (
            ("request", ("waits_from_s", "dispatched_at_s", "decided")),
            ("event", ("waits_from_s", "dispatched_at_s", "sent_s", "decided")),
        ):
            for name in names:
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
        connection.execute("UPDATE meta SET value = 4 WHERE name = 'format'")
        connection.commit()

    with contextlib.closing(_open(path)) as journal:
        calls = journal.calls([RequestKey(1, 1)])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        after = dict(connection.execute("SELECT name, value FROM meta"))

    assert (calls, after) == ({}, before)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file stands where the folder should."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreUnavailable, match=r"cannot be made: .*look at the owner, permissions and space of its folder"):
        _open(tmp_path / "file" / "c1.db")


def test_many_who_open_a_new_file_at_once_make_one_journal(path: Path) -> None:
    """Processes of a cluster start together."""
    children = [_in_child(lambda write: os.write(write, _identity(_open(path)).encode())) for _ in range(6)]

    told = [_all_of(read) for _, read in children]

    assert [os.waitpid(pid, 0)[1] for pid, _ in children] == [0] * 6
    assert set(told) == {_identity(_open(path)).encode()}


def test_a_file_that_was_replaced_is_opened_anew(path: Path) -> None:
    """A process that goes on with a file that nobody else sees would lose what it writes."""
    first, beside = _open(path), _open(path)
    before = _identity(first)
    for name in ("c1.db", "c1.db-wal", "c1.db-shm"):
        (path.parent / name).unlink()

    identities = {_identity(first), _identity(beside)}

    assert len(identities) == 1
    assert identities != {before}


def test_a_fleet_that_has_not_changed_is_not_written_again(path: Path) -> None:
    """The centre publishes it every other second, and each process reads it anew when it was written; another file has to be given it."""
    journal, beside = _open(path), _open(path)
    fleet, later = published(), replace(published(), snapshot=replace(published().snapshot, at_s=7.0))
    journal.publish(fleet)
    changes = [_fleet_changes(journal)]

    journal.publish(later)
    changes.append(_fleet_changes(journal))
    beside.publish(replace(fleet, instances=()))
    journal.publish(fleet)
    changes.append(_fleet_changes(journal))
    for name in ("c1.db", "c1.db-wal", "c1.db-shm"):
        (path.parent / name).unlink()
    journal.publish(fleet)

    assert changes == [1, 1, 3]
    assert len(journal.instances()) == len(fleet.instances)


def _fleet_changes(journal: SqliteJournal) -> int:
    sql = "SELECT version FROM fleet WHERE part = 'fleet'"
    return int(journal._database.read(lambda connection: connection.execute(sql).fetchone())[0])


def _identity(journal: SqliteJournal) -> str:
    sql = "SELECT value FROM meta WHERE name = 'identity'"
    return str(journal._database.read(lambda connection: connection.execute(sql).fetchone())[0])


# ---- transactions ------------------------------------------------------------------------------------------------------


def test_what_raises_changes_nothing_and_gives_no_number(path: Path) -> None:
    """Numbers of events are given in the transaction of the change, so that one that fails leaves no gap."""
    world = sqlite_journal_world(path)
    run_id = world.released(WEB, WEB)
    database: JournalDatabase = world.journal._database  # type: ignore[attr-defined]
    read = world.arrivals(run_id, [0, 1])
    database.write(lambda c: c.execute("CREATE TRIGGER refuse BEFORE INSERT ON event WHEN NEW.decision IS NOT NULL BEGIN "
                                       "SELECT RAISE(ABORT, 'no'); END"))  # fmt: skip
    with pytest.raises(Exception, match="no"):
        world.dispatch_read(run_id, read)
    assert world.states(run_id) == ["released", "released"]
    assert world.journal.unshipped(limit=10) is None
    database.write(lambda c: c.execute("DROP TRIGGER refuse"))

    world.dispatch_read(run_id, read)

    shipment = world.journal.unshipped(limit=10)
    assert shipment is not None
    assert (shipment.first, shipment.last) == (1, 3)
    assert database.read(lambda c: c.execute("SELECT seq FROM event ORDER BY seq").fetchall()) == [(1,), (2,), (3,)]


def test_a_shipment_waits_for_the_disk_and_nobody_waits_for_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is given, the write-ahead log is on the disk, with no lock held: others commit while the disk takes its time."""
    world = sqlite_journal_world(path)
    other = open_journal(path, wall_s=world.clock)
    synced: list[str] = []

    def slow(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        assert other.hold("meanwhile", owner="another", ttl_s=60.0)
        fdatasync(descriptor)

    fdatasync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", slow)

    assert world.journal.unshipped(limit=10) is None
    before = list(synced)
    world.start(world.released(WEB), [0])
    assert world.journal.unshipped(limit=10) is not None

    assert before == []
    assert synced == [f"{path}-wal"]


def test_a_disk_that_cannot_be_waited_for_gives_no_shipment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the centre knows the journal must have."""
    world = sqlite_journal_world(path)
    world.start(world.released(WEB), [0])

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)

    with pytest.raises(StoreUnavailable, match="cannot be written to its disk"):
        world.journal.unshipped(limit=10)


def test_two_processes_share_out_what_both_were_told(path: Path) -> None:
    """Of two that dispatch the same requests at once, each request is won by one."""
    world = sqlite_journal_world(path)
    run_id = world.released(*[WEB] * 400)
    world.journal.close()

    def dispatch(write: int) -> None:
        mine = sqlite_journal_world(path)
        won = [mine.start(run_id, range(k, k + 10), owner=str(os.getpid())).started for k in range(0, 400, 10)]
        os.write(write, b"".join(b"%d\n" % work.request_id for works in won for work in works))

    children = [_in_child(dispatch) for _ in range(2)]
    won = [_numbers(_all_of(read)) for _, read in children]

    assert [os.waitpid(pid, 0)[1] for pid, _ in children] == [0, 0]
    assert sorted(won[0] + won[1]) == list(range(400))


def test_threads_and_a_fork_share_a_journal(path: Path) -> None:
    """Threads take connections of their own, and so does a child, which has none of its parent's."""
    world = sqlite_journal_world(path)
    journal = world.journal

    def beat(owner: str) -> None:
        for _ in range(50):
            journal.heartbeat(owner, lease_s=LIVE_S)
            journal.snapshot(at_s=0.0)

    for _ in range(3):
        pid, read = _in_child(lambda _: beat("child"))
        threads = [threading.Thread(target=beat, args=(f"parent {k}",)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert os.waitpid(pid, 0)[1] == 0
        os.close(read)

    assert _check(path) == "ok"


def test_a_process_that_keeps_the_lock_is_told_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever; the journal works again once the lock is free."""
    journal = _open(path)
    monkeypatch.setattr("tango.journal.database.WAIT_S", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match=r"c1\.db cannot be used: database is locked; another process has held its lock"):
        journal.heartbeat("a", lease_s=1.0)
    holder.execute("ROLLBACK")
    holder.close()

    journal.heartbeat("a", lease_s=1.0)


# ---- kills -------------------------------------------------------------------------------------------------------------


def test_a_killed_process_loses_nothing_that_it_had_committed(path: Path) -> None:
    """Killed at any moment, again and again: every result that a writer has told of is shipped once, and no number is given twice."""
    world = sqlite_journal_world(path)
    run_id, taken, position = world.create(WEB), 1, 0
    told: set[int] = set()
    shipped: list[int] = []

    def write(pipe: int) -> None:
        mine = sqlite_journal_world(path)
        while True:
            released = mine.journal.release_due(run_id, until_s=1e9, limit=3)
            for batch in [*released.batches, *mine.journal.unclaimed(older_than_s=-1.0, limit=3)]:
                read = mine.arrivals(run_id, batch.request_ids)
                here = StartHere(rows=np.ones(len(read), np.bool_), owner="w", lease_s=LIVE_S, planned_s=0.0)
                started = mine.dispatch_read(run_id, read, here=here).started
                mine.journal.settle([success(run_id, work.request_id, work.epoch) for work in started])
                os.write(pipe, b"".join(b"%d\n" % work.request_id for work in started))

    for round_ in range(8):
        world.journal.take(run_id, share([WEB] * 2000, first=taken))
        taken += 2000
        pid, pipe = _in_child(write)
        time.sleep(0.15 + 0.02 * round_)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        told |= set(_numbers(_all_of(pipe)))
        journal = open_journal(path, wall_s=world.clock)
        while (shipment := journal.unshipped(limit=50)) is not None:
            assert shipment.first == position + 1
            position = shipment.last
            shipped += [attempt.request_id for attempt in shipment.attempts]
            journal.shipped(position)
        left = rows_in(journal, run_id)
        journal.close()

        assert len(shipped) == len(set(shipped))
        assert told <= set(shipped)
        assert len(left) + len(shipped) == taken
        assert {row.state for row in left} <= {"accepted", "released", "running"}
    assert _check(path) == "ok"
    assert len(told) > 100


def _check(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


# ---- full disks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB; where this user may mount none, the test is skipped."""
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode
    ):
        pytest.skip("may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _fill(journal: SqliteJournal, run_id: int) -> int:
    """Take requests until the journal refuses; gives how many were taken."""
    with pytest.raises(StoreUnavailable, match=r"c1\.db cannot be used: .*; (free some space|look at its disk)"):
        _take_for_ever(journal, run_id)
    return journal.taken_to(run_id) + 1


def _take_for_ever(journal: SqliteJournal, run_id: int) -> None:
    for taken in range(journal.taken_to(run_id) + 1, 10**6, 500):
        journal.take(run_id, share([WEB] * 500, first=taken))


def test_a_full_disk_is_told_of_and_nothing_is_half_written(small_disk: Path) -> None:
    """The journal refuses what does not fit, still knows what it had, and goes on once there is room."""
    world = sqlite_journal_world(small_disk / "c1.db")
    journal = world.journal
    assert isinstance(journal, SqliteJournal)
    run_id = world.released(WEB, WEB)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))

    taken = _fill(journal, run_id)
    rows = len(rows_in(journal, run_id))
    ballast.unlink()

    assert rows == taken
    assert journal.take(run_id, share([WEB] * 10, first=taken)) == 10
    assert len(world.start(run_id, [0, 1]).started) == 2
    assert journal.unshipped(limit=10) is not None
    assert _check(small_disk / "c1.db") == "ok"


def test_a_file_that_may_not_grow_is_told_of_and_usable_again(path: Path) -> None:
    """As with a quota: whatever the reason, the message names the file and what to look at."""
    world = sqlite_journal_world(path)
    journal = world.journal
    assert isinstance(journal, SqliteJournal)
    run_id = world.released(WEB, WEB)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
    try:
        taken = _fill(journal, run_id)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert len(rows_in(journal, run_id)) == taken
    assert journal.take(run_id, share([WEB] * 10, first=taken)) == 10
    assert len(world.start(run_id, [0, 1]).started) == 2
    assert _check(path) == "ok"


@pytest.mark.parametrize("cut", [False, True])
def test_the_write_ahead_log_does_not_grow_without_bound(path: Path, monkeypatch: pytest.MonkeyPatch, cut: bool) -> None:
    """It is copied back into the file, so that it begins anew, also while the line is cut and nothing is shipped."""
    monkeypatch.setattr("tango.journal.shipping.CHECKPOINT_EVERY_S", 0.0)
    world = sqlite_journal_world(path)
    run_id = world.create(WEB)
    taken, sizes = 1, []
    for _ in range(30):
        world.journal.take(run_id, share([WEB] * 300, first=taken))
        taken += 300
        world.release(run_id)
        started = world.start(run_id, range(taken)).started
        world.journal.settle([success(run_id, work.request_id, work.epoch) for work in started])
        world.journal.copy_back()
        while not cut and (shipment := world.journal.unshipped(limit=1000)) is not None:
            world.journal.shipped(shipment.last)
        sizes.append(path.with_name("c1.db-wal").stat().st_size)

    assert max(sizes) <= 2 * max(sizes[:5])
    assert cut or path.stat().st_size < 2_000_000
