"""The fork server: its forks are programs like any other, and nothing of them is left without it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from tango.stack.forking import Forked, ForkServer
from tango.stack.processes import FORK_SERVER, ProcessSpec
from tango.stack.supervisor import Supervisor
from tango.stack.tether import tethered
from tests.waiting import eventually

ROOT = Path(__file__).parent.parent.parent
PROGRAM = """
import json, os, sys, time
print(json.dumps({
    "name": __name__, "arguments": sys.argv[1:], "word": os.environ.get("WORD"), "home": os.environ.get("HOME"), "folder": os.getcwd(),
    "title": open("/proc/self/cmdline").read().rstrip("\\0"), "comm": open("/proc/self/comm").read().strip(),
    "told": "PYTHONPATH=" in open("/proc/self/environ").read(),
    "leads": os.getsid(0) == os.getpid(), "threads": len(os.listdir("/proc/self/task")), "loaded": "numba" in sys.modules,
    "files": sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")),
}), flush=True)
if sys.argv[1:] == ["wait"]:
    time.sleep(600)
sys.exit(7)
"""


WITHOUT_LOADING = ("-c", "from workers import fork_server; fork_server.LOADED = (); fork_server.main()")


def fork_server(folder: Path, program: Sequence[str] = WITHOUT_LOADING) -> ForkServer:
    """One whose forks find the module `program` in the folder. What a stack's loads first takes two seconds of CPU."""
    (folder / "program.py").write_text(textwrap.dedent(PROGRAM))
    return ForkServer(
        lambda: tethered((sys.executable, *program)),
        environment={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        work_folder=folder,
        log_path=folder / "fork-server.log",
    )


@pytest.fixture
async def forks(tmp_path: Path) -> AsyncIterator[ForkServer]:
    """One that is ended afterwards."""
    found = fork_server(tmp_path)
    yield found
    await found.close()


@pytest.fixture
async def loading(tmp_path: Path) -> AsyncIterator[ForkServer]:
    """Likewise one as stacks have it."""
    found = fork_server(tmp_path, ("-m", *FORK_SERVER))
    yield found
    await found.close()


async def started(forks: ForkServer, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Forked:
    """A fork that runs the program and prints to `folder/output`."""
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        return await forks.start(
            ("program", *arguments), name="one", environment=environment or {"WORD": "told"}, folder=folder, output=output
        )
    finally:
        os.close(output)


def alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


async def test_a_fork_is_a_program_of_its_own(loading: ForkServer, tmp_path: Path) -> None:
    """It has the arguments, environment, folder and streams that were asked for and nothing of the server's but what is loaded."""
    status = await (await started(loading, tmp_path, "a", "b")).wait()

    told = json.loads((tmp_path / "output").read_text())
    assert status == 7
    assert (told["name"], told["arguments"], told["word"], told["home"]) == ("__main__", ["a", "b"], "told", None)
    assert (told["folder"], told["leads"], told["threads"], told["loaded"]) == (str(tmp_path), True, 1, True)
    assert (told["title"], told["comm"], told["told"]) == ("tango one", "one", True)
    assert told["files"] == ["/dev/null", str(tmp_path / "output"), str(tmp_path / "output")]


async def test_the_end_of_a_fork_is_told_with_its_signal(forks: ForkServer, tmp_path: Path) -> None:
    """As of a process that was executed: the supervisor logs it."""
    fork = await started(forks, tmp_path, "wait")
    await eventually((tmp_path / "output").read_text)

    os.kill(fork.pid, signal.SIGTERM)

    assert await fork.wait() == -signal.SIGTERM


async def test_a_server_that_is_killed_takes_its_forks_with_it_and_the_next_request_starts_another(
    forks: ForkServer, tmp_path: Path
) -> None:
    """No process runs on that nobody watches."""
    fork = await started(forks, tmp_path, "wait")
    await eventually((tmp_path / "output").read_text)
    server = psutil.Process(fork.pid).ppid()

    os.kill(server, signal.SIGKILL)
    status = await fork.wait()
    await eventually(lambda: not alive(fork.pid))
    again = await (await started(forks, tmp_path)).wait()

    assert (status, again) == (-signal.SIGKILL, 7)


async def test_a_server_that_hangs_is_ended_and_the_next_request_starts_another(
    forks: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing could be started again otherwise."""
    fork = await started(forks, tmp_path, "wait")
    monkeypatch.setattr("tango.stack.forking.ANSWERS_WITHIN_S", 0.5)
    os.kill(psutil.Process(fork.pid).ppid(), signal.SIGSTOP)

    with pytest.raises(OSError, match="did not answer"):
        await started(forks, tmp_path)
    monkeypatch.undo()

    assert await fork.wait() == -signal.SIGKILL
    assert await (await started(forks, tmp_path)).wait() == 7


async def test_a_fork_that_nobody_waits_for_any_more_is_killed(loading: ForkServer, tmp_path: Path) -> None:
    """Whoever asked may be cancelled while the server still loads; the next one gets its own process all the same."""
    asked = asyncio.create_task(started(loading, tmp_path, "wait"))
    await asyncio.sleep(0.1)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)

    (tmp_path / "second").mkdir()
    fork = await started(loading, tmp_path / "second", "wait", environment={"WORD": "second"})
    await eventually((tmp_path / "second" / "output").read_text)

    assert json.loads((tmp_path / "second" / "output").read_text())["word"] == "second"
    children = Path(f"/proc/{fork.pid}/stat").read_text().split()[3]
    assert Path(f"/proc/{children}/task/{children}/children").read_text().split() == [str(fork.pid)]


async def test_the_supervisor_keeps_forks_like_other_processes(tmp_path: Path) -> None:
    """One that is killed comes back, and none is left when it stops."""
    supervisor = Supervisor(tmp_path, forks=fork_server(tmp_path))
    spec = ProcessSpec(name="one", role="test", command=lambda: ["/bin/false"], program=("program", "wait"), work_folder=tmp_path)
    try:
        await supervisor.start([spec])
        first = supervisor.rows()[0]["pid"]
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: supervisor.rows()[0]["restarts"] == 1 and supervisor.rows()[0]["state"] == "running")
        second = supervisor.rows()[0]["pid"]
    finally:
        await supervisor.stop()

    assert first != second
    assert not alive(second)
