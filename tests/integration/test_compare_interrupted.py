"""A comparison in processes that is interrupted, ended or killed leaves nothing behind, and says no more than it has to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from tango.cli.main import run; run()", "compare", "p3", "--fleet", "testbed", "--load", "0.8")

ENDLESS = "2000"
"""Seeds: more than any machine simulates before the signal comes."""


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in a process group of its own."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=os.environ | {"TANGO_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell's background jobs, such as a test run may be, hand on that interrupts are ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All below it, once the two that simulate are there, beside the server that they are forked from and what tracks their semaphores."""
    until_s = time.monotonic() + 300
    while time.monotonic() < until_s:
        children = psutil.Process(process.pid).children(recursive=True)
        if len(children) >= 4 and process.poll() is None:
            return children
        time.sleep(0.05)
    raise AssertionError("no process came up")


def assert_gone(processes: list[psutil.Process]) -> None:
    """None of them runs any more."""
    _, alive = psutil.wait_procs(processes, timeout=20)
    for process in alive:
        process.kill()
    assert not alive


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [(signal.SIGINT, 130, "Interrupted."), pytest.param(signal.SIGTERM, 143, "", marks=pytest.mark.long), (signal.SIGKILL, -9, "")],
)
def test_nothing_is_left_of_a_comparison_that_is_ended(tmp_path: Path, number: int, status: int, told: str) -> None:
    """Interrupted with its group as on a terminal, ended, or killed alone: the processes that simulate end with it."""
    process = start(tmp_path, "--systems", "load-greedy", "--duration", "900", "--seeds", ENDLESS, "-j", "2")
    children = workers_of(process)
    time.sleep(1.0)

    if number == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, number)
    try:
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode == status
    assert told in said
    if number != signal.SIGKILL:
        assert "Traceback" not in said
        assert "leaked" not in said
    assert_gone(children)


def test_a_cell_that_fails_ends_the_comparison_with_its_message(tmp_path: Path) -> None:
    """From another process as from this one: which cell, what is wrong, its exit status; and the pipe closes."""
    process = start(tmp_path, "--systems", "load-greedy,tango", "--duration", "20", "--seeds", "4", "-j", "2", "--tick", "0.25")

    said, _ = process.communicate(timeout=500)

    assert process.returncode == 2
    assert "be_tick_s is 0.25 s, expected a whole number of windows of 0.1 s" in said
    assert "Traceback" not in said
