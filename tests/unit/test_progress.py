"""What a process tells of itself, and what a probe makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tango import progress
from tango.control.repeating import RepeatedStep

ROOT = Path(progress.__file__).parent.parent


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account of nothing, in place of that of the process that runs the tests."""
    for name in ("_turned", "_begun", "_reached"):
        monkeypatch.setattr(progress, name, {})
    monkeypatch.setattr(progress, "_telling", [])


def told(folder: Path, role: str = "worker-1", *, at_s: float = 1000.0, **accounts: dict[str, tuple[float, float]]) -> None:
    """Write an account as a process writes it."""
    written = {"written_s": at_s, "turned": {}, "begun": {}, "reached": {"ready": (at_s, float("inf"))}, **accounts}
    (folder / f"{role}.json").write_text(json.dumps(written))


def test_a_process_that_gets_on_has_no_complaints(tmp_path: Path) -> None:
    """What a process writes of itself is what a probe reads."""
    progress.turned("keeper-c1")
    progress.begun("tango.dispatch_lc 1")
    progress.reached("ready", within_s=float("inf"))
    progress.tell("worker-1", str(tmp_path))

    assert progress.complaints(tmp_path) == []
    assert progress.complaints(tmp_path, "worker", ready=True) == []
    assert list(json.loads((tmp_path / "worker-1.json").read_text())["turned"]) == ["keeper-c1"]


def test_a_loop_that_hangs_is_named_with_its_seconds(tmp_path: Path) -> None:
    """The process still writes, since another thread does, and the probe fails all the same."""
    told(tmp_path, turned={"keeper-c1": (850.0, 120.0), "ship-c1": (999.0, 120.0)})

    assert progress.complaints(tmp_path, now_s=1000.0) == [
        "worker-1: keeper-c1 has not turned for 150 s, expected 120 s at the most"
    ]


def test_a_task_that_does_not_end_is_named(tmp_path: Path) -> None:
    """A thread of the pool that hangs takes no other task."""
    told(tmp_path, "scheduler", begun={"tango.place_be 7": (600.0, 300.0)})

    assert progress.complaints(tmp_path, now_s=1000.0) == [
        "scheduler: tango.place_be 7 is under way for 400 s, expected 300 s at the most"
    ]


def test_a_process_that_writes_no_more_is_named(tmp_path: Path) -> None:
    """It is stopped, or its interpreter hangs; what it wrote before counts no more."""
    told(tmp_path, at_s=970.0)

    assert progress.complaints(tmp_path, now_s=1000.0) == ["worker-1: has written nothing for 30 s"]


def test_a_broker_that_is_away_is_no_reason_for_a_new_process(tmp_path: Path) -> None:
    """Liveness does not ask for it, readiness does."""
    told(tmp_path, reached={"broker": (900.0, 60.0), "ready": (0.0, float("inf"))})

    assert progress.complaints(tmp_path, now_s=1000.0) == []
    assert progress.complaints(tmp_path, ready=True, now_s=1000.0) == [
        "worker-1: broker was last reached before 100 s, expected 60 s at the most"
    ]


def test_a_process_that_has_not_begun_is_not_ready(tmp_path: Path) -> None:
    """An agent writes from its start on, and is ready when it has seen its cluster."""
    told(tmp_path, "agent", reached={})

    assert progress.complaints(tmp_path, "agent", now_s=1000.0) == []
    assert progress.complaints(tmp_path, "agent", ready=True, now_s=1000.0) == ["agent: is not ready yet"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"written_s": "x"}'])
def test_an_account_that_cannot_be_read_is_a_complaint(tmp_path: Path, content: str) -> None:
    """Never a probe that passes by mistake."""
    (tmp_path / "beat.json").write_text(content)

    (complaint,) = progress.complaints(tmp_path)
    assert complaint.startswith(f"beat: its file {tmp_path / 'beat.json'} cannot be read")


def test_a_role_that_tells_nothing_is_a_complaint(tmp_path: Path) -> None:
    """The probe of a container whose process has not started."""
    told(tmp_path, "gateway")

    assert progress.complaints(tmp_path, "worker") == [
        f"no process of role worker tells how it is in {tmp_path}; see TANGO_HEALTH_DIR"
    ]


def test_a_step_that_fails_has_turned_and_one_that_ended_is_forgotten() -> None:
    """A store that is away must not look like a loop that hangs."""

    def fail() -> float:
        raise ValueError

    step = RepeatedStep("follow-c1", fail)
    step.call()
    turned = dict(progress._turned)
    step.end()

    assert list(turned) == ["follow-c1"]
    assert progress._turned == {}


def test_the_probe_is_a_command_that_says_what_hangs(tmp_path: Path) -> None:
    """As Kubernetes calls it: exit status 0, 1 or 2, and words for whoever looks at the event."""

    def probe(*arguments: str, **environment: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "workers.health", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}
        )
        return done.returncode, done.stdout + done.stderr

    here = {progress.HEALTH_DIR: str(tmp_path)}
    progress.tell("agent", str(tmp_path))

    assert probe("agent", **here) == (0, "")
    assert probe("agent", "--ready", **here) == (1, "agent: is not ready yet\n")
    assert probe("agent", "worker", **here)[0] == 2
