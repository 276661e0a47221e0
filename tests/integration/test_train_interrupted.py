"""A training that is interrupted or killed leaves whole files, and goes on to what it would have given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tango.learning.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from tango.cli.main import run; run()", "train", "--hidden", "4", "--seed", "3")
SMALL = ("--set", "episodes=4", "--set", "episode_s=5", "--set", "validation_episodes=2", "--set", "validate_every=4", "-o", "json")


def start(out: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in a process group of its own."""
    return subprocess.Popen(
        [*COMMAND, "--out", str(out), *arguments, *SMALL],
        cwd=ROOT,
        env=os.environ | {"TANGO_HOME": str(out.parent / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background jobs, such as a test run may be, hand on that interrupts are ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


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


def finished(out: Path, *arguments: str) -> dict[str, object]:
    """What the command says in the end."""
    process = start(out, *arguments)
    said, told = process.communicate()
    assert process.returncode == 0, told
    found: dict[str, object] = json.loads(said)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole") / "x.ckpt"
    finished(out, "--iterations", "40")
    return out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_how_to_go_on_and_does(whole: Path, tmp_path: Path, number: signal.Signals) -> None:
    """It ends after the iteration under way, with the signal's status, no process left; resumed it gives the same file."""
    out = tmp_path / "x.ckpt"
    process = start(out, "--iterations", "40", "-j", "2")
    await_rows(process, out, 6)
    children = psutil.Process(process.pid).children(recursive=True)

    os.killpg(process.pid, number) if number is signal.SIGINT else process.send_signal(number)  # a terminal tells the whole group
    said, told = process.communicate(timeout=120)

    assert process.returncode == 128 + number
    assert "Stopping after this iteration" in told
    assert "go on: tango" in told
    assert "Traceback" not in told
    assert json.loads(said)["interrupted"] is True
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert finished(out, "--iterations", "40", "--resume")["iterations"] == 40
    assert out.read_bytes() == whole.read_bytes()


def test_a_killed_training_goes_on_from_its_last_state(whole: Path, tmp_path: Path) -> None:
    """Whatever was under way: the files are whole, its processes are gone, and the resumed training gives the same file."""
    out = tmp_path / "x.ckpt"
    process = start(out, "--iterations", "40", "-j", "2")
    await_rows(process, out, 9)
    children = psutil.Process(process.pid).children(recursive=True)

    process.kill()
    process.wait()

    load_checkpoint(out)
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert finished(out, "--iterations", "40", "--resume")["iterations"] == 40
    assert out.read_bytes() == whole.read_bytes()
    shown = [(row["kind"], row["iteration"]) for row in rows(out)]
    assert shown == [(row["kind"], row["iteration"]) for row in rows(whole)]
