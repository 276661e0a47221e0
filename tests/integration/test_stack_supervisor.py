"""The supervisor with small real processes: restarts, stops, failures and its own sudden death."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tango.errors import TangoError
from tango.stack.processes import ProcessSpec
from tango.stack.supervisor import Supervisor, read_status
from tango.stack.tether import tethered
from tests.waiting import eventually, until


def _python(name: str, program: str, **more: object) -> ProcessSpec:
    command = (sys.executable, "-I", "-S", "-c", textwrap.dedent(program))
    return ProcessSpec(name=name, role="test", command=lambda: tethered(command), **more)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


SLEEP = "import time; time.sleep(600)"


async def test_a_process_that_dies_is_started_again(tmp_path: Path) -> None:
    """A killed process comes back under another pid, and the restart is counted where `tango status` reads it."""
    supervisor = Supervisor(tmp_path)
    try:
        await supervisor.start([_python("one", SLEEP)])
        first = supervisor.rows()[0]["pid"]
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: supervisor.rows()[0]["restarts"] == 1 and supervisor.rows()[0]["state"] == "running")
        row = read_status(tmp_path)["processes"][0]
        assert row["pid"] not in (None, first)
        assert row == {"name": "one", "role": "test", "pid": row["pid"], "state": "running", "restarts": 1}
    finally:
        await supervisor.stop()
    assert not _alive(row["pid"])


TELLING = """
    import json, os, pathlib, time

    began_s = time.monotonic()
    place = pathlib.Path(os.environ["PLACE"])
    while True:
        told = {"written_s": time.monotonic(), "turned": {"loop": [TURNED, 1.0]}, "begun": {}, "reached": {}}
        aside = place / "aside"
        aside.write_text(json.dumps(told))
        aside.replace(place / "one.json")
        time.sleep(0.05)
"""


def _telling(folder: Path, turned: str) -> ProcessSpec:
    program = TELLING.replace("TURNED", turned)
    return _python("one", program, environment={"PLACE": str(folder / "health")}, health=folder / "health")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks after a fifth of a second, and silence of one second."""
    monkeypatch.setattr("tango.stack.supervisor.LOOK_AT_HEALTH_EVERY_S", 0.2)
    monkeypatch.setattr("tango.progress.SILENT_AFTER_S", 1.0)


@pytest.mark.usefixtures("impatient")
async def test_a_process_that_stands_still_is_ended_and_started_again(tmp_path: Path) -> None:
    """Liveness is progress: SIGSTOP leaves a process that exists, and gets nothing done."""
    supervisor = Supervisor(tmp_path)
    try:
        await supervisor.start([_telling(tmp_path, "time.monotonic()")])
        first = supervisor.rows()[0]["pid"]
        await eventually((tmp_path / "health" / "one.json").exists)
        os.kill(first, signal.SIGSTOP)
        with capture_logs() as logs:
            await eventually(lambda: supervisor.rows()[0]["restarts"] == 1 and supervisor.rows()[0]["state"] == "running")
        assert not _alive(first)
        assert [line["process"] for line in logs if line["event"] == "process_hangs"] == ["one"]
    finally:
        await supervisor.stop()


@pytest.mark.usefixtures("impatient")
async def test_a_process_with_a_loop_that_no_longer_turns_is_ended_although_it_tells(tmp_path: Path) -> None:
    """What it tells is that a loop last turned at its start."""
    supervisor = Supervisor(tmp_path)
    try:
        with capture_logs() as logs:
            await supervisor.start([_telling(tmp_path, "began_s")])
            await eventually(lambda: supervisor.rows()[0]["restarts"] == 1)
        [said] = [line["complaints"] for line in logs if line["event"] == "process_hangs"][:1]
        assert "loop has not turned for" in said[0]
    finally:
        await supervisor.stop()


@pytest.mark.usefixtures("impatient")
async def test_nobody_is_ended_for_silence_while_nothing_can_be_written(tmp_path: Path) -> None:
    """A full disk silences all processes, and starting them anew would make it worse."""
    supervisor = Supervisor(tmp_path)
    looks = 0

    def cannot(path: Path, text: str) -> None:
        nonlocal looks
        looks += path.name == "writable"
        raise TangoError("the disk is full")

    try:
        await supervisor.start([_telling(tmp_path, "time.monotonic()")])
        first = supervisor.rows()[0]["pid"]
        await eventually((tmp_path / "health" / "one.json").exists)
        with pytest.MonkeyPatch.context() as full:
            full.setattr("tango.stack.supervisor.write_private", cannot)
            os.kill(first, signal.SIGSTOP)
            await eventually(lambda: looks >= 10)
            os.kill(first, signal.SIGCONT)
        assert (supervisor.rows()[0]["pid"], supervisor.rows()[0]["restarts"]) == (first, 0)
    finally:
        await supervisor.stop()


async def test_a_defect_in_a_probe_or_in_what_is_told_leaves_no_process_without_its_keeper(tmp_path: Path) -> None:
    """A process whose probe raises is started again, and one that dies while the status cannot be written comes back too."""
    probed = 0

    def probe() -> bool:
        nonlocal probed
        probed += 1
        if probed == 1:
            raise ZeroDivisionError("a defect")
        return True

    def told(ready: int, expected: int) -> None:
        raise KeyError("a bar that is gone")

    supervisor = Supervisor(tmp_path, progressed=told)
    try:
        with capture_logs() as logs:
            await supervisor.start([_python("one", SLEEP, probe=probe)])
            (tmp_path / "run" / "status.json").unlink()
            (tmp_path / "run" / "status.json").mkdir()  # as good as a full disk
            os.kill(supervisor.rows()[0]["pid"], signal.SIGKILL)
            await eventually(lambda: supervisor.rows()[0]["restarts"] == 2 and supervisor.rows()[0]["state"] == "running")
        (tmp_path / "run" / "status.json").rmdir()
    finally:
        await supervisor.stop()

    assert {entry["event"] for entry in logs} == {"process_not_watched", "status_not_written"}


async def test_a_process_starts_when_those_before_it_are_ready(tmp_path: Path) -> None:
    """`after` means ready, not merely started."""
    ready = tmp_path / "ready"
    slow = f"import pathlib, time; time.sleep(0.7); pathlib.Path({str(ready)!r}).touch(); time.sleep(600)"
    check = f"import os, sys, time; sys.exit(9) if not os.path.exists({str(ready)!r}) else time.sleep(600)"
    supervisor = Supervisor(tmp_path)
    try:
        await supervisor.start([_python("second", check, after=("first",)), _python("first", slow, ready_file=ready)])
        assert [row["restarts"] for row in supervisor.rows()] == [0, 0]
    finally:
        await supervisor.stop()


async def test_a_process_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    """The start fails and shows what the process said last; the others are stopped by `stop`."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        bind = f"import socket; s = socket.socket(); s.bind(('127.0.0.1', {port})); s.listen(); s.accept()"
        supervisor = Supervisor(tmp_path)
        # With a file that never comes: one without any is taken to be ready a moment after it began.
        broken = _python("broken", bind, ready_file=tmp_path / "never")
        try:
            with pytest.raises(TangoError, match=r"(?s)broken did not start: exited with 1.*Address already in use"):
                await supervisor.start([_python("good", SLEEP), broken], attempts=2)
            pids = [row["pid"] for row in supervisor.rows() if row["pid"]]
        finally:
            await supervisor.stop()
    assert pids
    assert not any(map(_alive, pids))


async def test_a_slow_start_is_waited_for_while_it_computes(tmp_path: Path) -> None:
    """As a worker that compiles on a busy machine: beyond the time in which it has to get on, but it does get on."""
    made = tmp_path / "made"
    program = f"""
        import pathlib, time
        until = time.monotonic() + 4
        while time.monotonic() < until:
            sum(range(10_000))
        pathlib.Path({str(made)!r}).touch()
        time.sleep(600)
    """
    supervisor = Supervisor(tmp_path)
    try:
        await supervisor.start([_python("slow", program, ready_file=made)], within_s=1.5)
        assert [row["state"] for row in supervisor.rows()] == ["running"]
    finally:
        await supervisor.stop()


async def test_a_start_that_does_nothing_is_given_up(tmp_path: Path) -> None:
    """It is told that it did nothing, which is another fault than being slow."""
    supervisor = Supervisor(tmp_path)
    try:
        with pytest.raises(TangoError, match=r"stuck did not start: not ready after \d+ s, and did nothing in the last \d+"):
            await supervisor.start([_python("stuck", SLEEP, ready_file=tmp_path / "never")], within_s=1.5)
    finally:
        await supervisor.stop()


async def test_stop_also_ends_what_does_not_listen_and_its_children(tmp_path: Path) -> None:
    """A process that ignores SIGTERM is killed with its whole group."""
    pid_file = tmp_path / "grandchild"
    program = f"""
        import os, pathlib, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pid = os.fork()
        if pid:
            written = pathlib.Path({str(pid_file)!r} + '.new')  # an empty file would tell of a start too
            written.write_text(str(pid))
            written.rename({str(pid_file)!r})
        time.sleep(600)
    """
    supervisor = Supervisor(tmp_path)
    await supervisor.start([_python("stubborn", program, ready_file=pid_file, stop_within_s=0.3)])
    pids = [supervisor.rows()[0]["pid"], int(pid_file.read_text())]
    await supervisor.stop()
    await eventually(lambda: not any(map(_alive, pids)))
    assert not (tmp_path / "run" / "status.json").exists()


async def test_stop_during_a_start_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while processes are coming up ends those that are up and starts no other."""
    supervisor = Supervisor(tmp_path)
    specs = [_python("never", SLEEP, ready_file=tmp_path / "no"), _python("later", SLEEP, after=("never",))]
    starting = asyncio.create_task(supervisor.start(specs))
    await eventually(lambda: supervisor.rows()[0]["pid"] is not None if supervisor.rows() else False)
    pid = supervisor.rows()[0]["pid"]
    starting.cancel()
    await supervisor.stop()
    assert not _alive(pid)
    assert all(row["pid"] is None for row in supervisor.rows() if row["name"] == "later")


async def test_a_log_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that has grown is moved aside once, and the process writes on into the emptied file."""
    monkeypatch.setattr("tango.stack.children.LOG_LIMIT_BYTES", 1000)
    monkeypatch.setattr("tango.stack.supervisor.LOOK_AT_LOGS_EVERY_S", 0.05)
    program = "import time\nwhile True: print('x' * 99, flush=True); time.sleep(0.01)"
    supervisor = Supervisor(tmp_path)
    try:
        await supervisor.start([_python("chatty", program)])
        log, aside = tmp_path / "logs" / "chatty.log", tmp_path / "logs" / "chatty.log.1"
        await eventually(aside.exists)
        await eventually(lambda: 0 < log.stat().st_size < 3000)
        kept = aside.read_text()
    finally:
        await supervisor.stop()
    assert len(kept) >= 1000
    assert set(kept) == {"x", "\n"}
    assert log.read_text().startswith("x" * 99)


def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    """SIGKILL leaves a supervisor no time to stop its children: the kernel does it."""
    program = f"""
        import asyncio, sys
        from pathlib import Path
        from tango.stack.processes import ProcessSpec
        from tango.stack.supervisor import Supervisor
        from tango.stack.tether import tethered
        sleep = ("/bin/sleep", "600")
        async def main():
            supervisor = Supervisor(Path({str(tmp_path)!r}))
            await supervisor.start([ProcessSpec(name=n, role="test", command=lambda: tethered(sleep)) for n in ("a", "b")])
            print("up", flush=True)
            await asyncio.sleep(600)
        asyncio.run(main())
    """
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as supervisor:
        assert supervisor.stdout.readline() == "up\n"
        pids = [row["pid"] for row in read_status(tmp_path)["processes"]]
        assert all(map(_alive, pids))
        supervisor.kill()
        until(lambda: not any(map(_alive, pids)))
