"""The workload program's settings and its batch mode, in this process."""

from __future__ import annotations

import ast
import asyncio
import json
import math
import re
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

import tango.emulation.workload as package
from tango.emulation.workload.__main__ import batch_options, main, service_options
from tango.emulation.workload.batch import BatchOptions, cores_of_limit, run
from tango.emulation.workload.burning import burn, burn_on
from tango.emulation.workload.http1 import Work
from tango.emulation.workload.memory import held
from tango.emulation.workload.service import WorkloadService
from tango.sources import parsed
from tests.waiting import WITHIN_S

PAGE_KIB = 4


def resident_mib() -> float:
    """Memory of this process that is really there."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB / 1024


def test_burning_uses_the_cpu_time_asked_for() -> None:
    """By the thread's own CPU clock, to within a block."""
    begun_s = time.thread_time()

    used_s = burn(0.05, threading.Event())

    assert used_s >= 0.05
    assert time.thread_time() - begun_s >= used_s


def test_several_threads_share_the_work() -> None:
    """Their CPU times add up to what was asked for."""
    assert burn_on(2, 0.04, threading.Event()) >= 0.04


def test_held_memory_is_resident_and_given_back() -> None:
    """Touched pages count; an untouched mapping would not."""
    before = resident_mib()

    with held(64):
        during = resident_mib()

    assert during - before > 60
    assert resident_mib() - before < 10


def test_memory_beyond_all_there_is_is_refused_with_its_amount() -> None:
    """Whether the system says no, or no address is that large."""
    for memory_mib in (2.0**40, 2.0**44):
        with pytest.raises(OSError, match=re.escape(f"{memory_mib:g} MiB")), held(memory_mib):
            pytest.fail("held")


async def test_a_request_whose_memory_is_refused_is_answered_and_the_next_one_served(capsys: pytest.CaptureFixture[str]) -> None:
    """Its client would otherwise wait for its whole timeout; an instance without a limit of its own meets the system's."""
    service = WorkloadService("pod", concurrency=1)
    told: asyncio.Queue[str] = asyncio.Queue()

    for memory_mib in (2.0**40, 1.0):
        service.begin(
            Work(0.0, memory_mib, "", 0.0),
            lambda started_s, finished_s: told.put_nowait("served"),
            lambda: told.put_nowait("refused"),
        )

    assert [await asyncio.wait_for(told.get(), WITHIN_S) for _ in range(2)] == ["refused", "served"]
    assert service.under_way == 0
    assert "cannot be held" in capsys.readouterr().err
    service.cut()


def test_a_batch_run_that_gets_no_memory_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1 and a message; no work was done."""
    log = tmp_path / "log"

    exit_status = run(BatchOptions(cpu_work_s=0.02, memory_mib=2.0**40, termination_log=log), threading.Event())

    assert exit_status == 1
    assert json.loads(log.read_text())["cpu_work_s"] == 0.0
    assert "cannot be held" in capsys.readouterr().out


def test_a_batch_run_leaves_its_message(tmp_path: Path) -> None:
    """The same keys as a virtual kubelet writes."""
    log = tmp_path / "log"

    exit_status = run(BatchOptions(cpu_work_s=0.02, memory_mib=1, termination_log=log), threading.Event())

    told = json.loads(log.read_text())
    assert exit_status == 0
    assert told["cpu_work_s"] == 0.02
    assert told["finished_s"] >= told["started_s"]


def test_a_batch_run_that_is_stopped_tells_what_it_had_done(tmp_path: Path) -> None:
    """Exit status 143, as a process that SIGTERM ends."""
    stop = threading.Event()
    stop.set()

    exit_status = run(BatchOptions(cpu_work_s=100.0, termination_log=tmp_path / "log"), stop)

    assert exit_status == 143
    assert json.loads((tmp_path / "log").read_text())["cpu_work_s"] < 1


def test_a_termination_log_that_cannot_be_written_does_not_fail_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The work is done; the line on stdout says what is missing."""
    missing = tmp_path / "missing" / "log"

    assert run(BatchOptions(cpu_work_s=0.0, termination_log=missing), threading.Event()) == 0
    assert str(missing) in capsys.readouterr().out


@pytest.mark.parametrize(("text", "cores"), [("150000 100000", 2), ("50000 100000", 1), ("nonsense", 1)])
def test_threads_follow_the_cpu_limit(tmp_path: Path, text: str, cores: int) -> None:
    """A limit of one and a half cores needs two threads to be used up."""
    (tmp_path / "cpu.max").write_text(text)

    assert cores_of_limit(tmp_path / "cpu.max") <= cores
    assert cores_of_limit(tmp_path / "missing") == 1


def test_settings_come_from_the_environment() -> None:
    """An instance holds as much memory as its concurrent requests; it answers to its cluster and pod, or, if it knows only one, to all."""
    pod = {"TANGO_CLUSTER": "c1", "TANGO_INSTANCE": "p"}
    options = service_options({**pod, "TANGO_PORT": "9000", "TANGO_CONCURRENCY": "8", "TANGO_MEMORY_MIB": "32"})

    assert (options.port, options.instance, options.concurrency, options.memory_mib) == (9000, "c1/p", 8, 256.0)
    assert [service_options({name: value}).instance for name, value in pod.items()] == ["", ""]
    assert service_options({}).memory_mib == math.inf
    assert batch_options({"TANGO_CPU_WORK_S": "1.5"}).cpu_work_s == 1.5


@pytest.mark.parametrize(
    ("arguments", "environment", "word"),
    [
        ([], {}, "usage"),
        (["run"], {}, "TANGO_CPU_WORK_S"),
        (["run"], {"TANGO_CPU_WORK_S": "-1"}, "'-1'"),
        (["serve"], {"TANGO_PORT": "x"}, "TANGO_PORT"),
        (["serve"], {"TANGO_PORT": "70000"}, "'70000'"),
    ],
)
def test_a_wrong_setting_ends_with_status_2_and_names_it(
    capsys: pytest.CaptureFixture[str], arguments: list[str], environment: dict[str, str], word: str
) -> None:
    """Nothing is started with it."""
    assert main(arguments, environment) == 2
    assert word in capsys.readouterr().err


def test_an_address_that_cannot_be_listened_on_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1 and one line, which names the address; no traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        assert main(["serve"], {"TANGO_HOST": "127.0.0.1", "TANGO_PORT": port}) == 1

    assert f"127.0.0.1:{port} cannot be listened on" in capsys.readouterr().err


def test_the_program_needs_nothing_but_the_parser() -> None:
    """So that its image holds Python, httptools and this folder, nothing else."""
    folder = Path(package.__file__).parent
    imported = {
        name
        for file in folder.glob("*.py")
        for node in ast.walk(parsed(file.read_text()))
        for name in (
            [node.module]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        if name
    }

    foreign = {
        n for n in imported if n.split(".")[0] not in sys.stdlib_module_names and not n.startswith("tango.emulation.workload")
    }
    assert foreign == {"httptools", "tango.client.signatures"}
