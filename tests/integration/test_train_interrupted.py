"""A training that is interrupted or killed leaves whole files, and goes on to what it would have given.

A training to interrupt has no end of its own, so that it is always under way when the signal comes, however fast the machine and slow
the test. Where it stopped says how long the training is with which it is compared.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tango.learning.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]
Start = Callable[..., subprocess.Popen[str]]
COMMAND = (sys.executable, "-c", "from tango.cli.main import run; run()", "train", "--hidden", "4", "--seed", "3")
VALIDATE_EVERY = 2
SMALL = (
    "episodes=4",
    "episode_s=5",
    "imitation=3",
    "imitation_updates=3",
    "validation_episodes=2",
    f"validate_every={VALIDATE_EVERY}",
)
ENDLESS = ("--iterations", "1000000", "-j", "2")
BY_THE_CLOCK = {"wall_s", "cpu_s", "env_steps_per_s_per_core", "budget_used"}
"""Figures of the curve that differ between equal trainings; the last because the limits differ."""

# Whoever comes first compiles the engine.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the command, writing to a file, in a process group of its own; ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(out: Path, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, "--out", str(out), *arguments, *(word for change in SMALL for word in ("--set", change)), "-o", "json"],
            cwd=ROOT,
            env=os.environ | {"TANGO_HOME": str(tmp_path / "home")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell's background jobs, such as a test run may be, hand on that interrupts are ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def rows(out: Path) -> list[dict[str, object]]:
    """The curve; every line of it has to be whole."""
    curve = out.with_name(out.name + ".curve.jsonl")
    return [json.loads(line) for line in curve.read_text().splitlines()] if curve.exists() else []


def await_rows(process: subprocess.Popen[str], out: Path, count: int) -> None:
    """Until so many are there."""
    until_s = time.monotonic() + 300
    while len(rows(out)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until_s
        time.sleep(0.05)


def finished(process: subprocess.Popen[str]) -> dict[str, object]:
    """What the command says in the end; it must succeed."""
    said, told = process.communicate()
    assert process.returncode == 0, told
    found: dict[str, object] = json.loads(said)
    return found


def assert_goes_on_to_what_one_training_gives(start: Start, out: Path) -> None:
    """Resumed for one validation more, it gives the checkpoint, bit for bit, and the curve of a training that nobody ended."""
    whole = out.with_name("whole.ckpt")
    reached = max(int(str(row["iteration"])) for row in rows(out))
    iterations = (reached // VALIDATE_EVERY + 2) * VALIDATE_EVERY

    alone = ("--iterations", str(iterations), "-j", "1")
    resumed = finished(start(out, "--resume", *alone))
    finished(start(whole, *alone))

    assert resumed["iterations"] == iterations
    assert out.read_bytes() == whole.read_bytes()
    assert untimed(out) == untimed(whole)


def untimed(out: Path) -> list[dict[str, object]]:
    """The curve without what the clock and the limits say."""
    return [{name: value for name, value in row.items() if name not in BY_THE_CLOCK} for row in rows(out)]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_how_to_go_on_and_does(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    """It ends after the iteration under way, with the signal's status, no process left; resumed it gives the same files.

    Both signals end in one path, so that one of them is followed by the two trainings that show what a resumption gives.
    """
    out = tmp_path / "x.ckpt"
    process = start(out, *ENDLESS)
    await_rows(process, out, 4)
    children = psutil.Process(process.pid).children(recursive=True)

    os.killpg(process.pid, number) if number is signal.SIGINT else process.send_signal(number)  # a terminal tells the whole group
    said, told = process.communicate(timeout=120)

    assert process.returncode == 128 + number
    assert "Stopping after this iteration" in told
    assert "go on: tango" in told
    assert "Traceback" not in told
    assert json.loads(said)["interrupted"] is True
    assert psutil.wait_procs(children, timeout=30)[1] == []
    if number is signal.SIGTERM:
        assert_goes_on_to_what_one_training_gives(start, out)


@pytest.mark.long
def test_a_killed_training_goes_on_from_its_last_state(start: Start, tmp_path: Path) -> None:
    """Whatever was under way: the files are whole, its processes are gone, and the resumed training gives the same files."""
    out = tmp_path / "x.ckpt"
    process = start(out, *ENDLESS)
    await_rows(process, out, 4)
    children = psutil.Process(process.pid).children(recursive=True)

    process.kill()
    process.wait(timeout=30)

    load_checkpoint(out)
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert_goes_on_to_what_one_training_gives(start, out)
