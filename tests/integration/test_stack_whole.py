"""The whole stack by its commands, in a state folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg2
import pytest
import torch

from tango.learning.checkpoint import save_checkpoint
from tango.learning.network import PlacementNetwork

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]
ROOT = Path(__file__).parent.parent.parent


def _tango(home: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")} | dict(variables or {})
    return subprocess.run(
        [sys.executable, "-c", "from tango.cli.main import run; run()", *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        env={**environment, "TANGO_HOME": str(home), "PYTHONPATH": str(ROOT)},
    )


def _processes_of(home: Path) -> list[str]:
    """Live processes that were told this state folder, or that name it."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(home) in told:
            found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A stack that is up, with every process running."""
    home = tmp_path_factory.mktemp("stack") / "home"
    done = _tango(home, "up", "--detach")
    try:
        assert done.returncode == 0, done.stderr
        yield home
    finally:
        _tango(home, "down")
        if (home / "data" / "postgres").is_symlink():
            shutil.rmtree((home / "data" / "postgres").resolve())


def test_every_process_runs_after_up(home: Path) -> None:
    """`status` lists the processes of the documentation, each running under a pid of its own."""
    rows = json.loads(_tango(home, "status", "-o", "json").stdout)
    assert {row["name"] for row in rows} >= {"postgres", "broker", "apiserver-c1", "kubelet-c1", "agent-c1", "worker-c1"}
    assert {row["name"] for row in rows} >= {"scheduler", "replayer", "simulator", "beat", "flower"}
    assert {row["state"] for row in rows} == {"running"}
    assert len({row["pid"] for row in rows}) == len(rows)
    assert all(set(row) == {"name", "role", "pid", "state", "restarts"} for row in rows)


def test_the_settings_printed_reach_the_database(home: Path) -> None:
    """`env` prints addresses that work as they stand, in which all nodes are Ready."""
    settings = json.loads(_tango(home, "env", "-o", "json").stdout)
    with psycopg2.connect(settings["TANGO_READER_URL"], connect_timeout=5) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*), count(*) FILTER (WHERE ready) FROM node")
        total, ready = cursor.fetchone()
    assert total == ready > 0


def test_nobody_else_may_read_what_the_stack_writes(home: Path) -> None:
    """The state folder is 0700 and the files with passwords and tokens are 0600."""
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("stack.json", "credentials.json", "kubeconfig", "run/tokens-c1.csv"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600


def test_a_second_up_in_the_same_folder_is_refused(home: Path) -> None:
    """It says that a stack runs and exits with 2; the first one goes on."""
    done = _tango(home, "up")
    assert done.returncode == 2
    assert "already running" in done.stderr


def test_a_promoted_checkpoint_decides_without_a_restart(home: Path, tmp_path: Path) -> None:
    """The running scheduler takes it from the store at its next tick, the file being gone, and gives it back as soon."""
    torch.manual_seed(1)
    digest = save_checkpoint(PlacementNetwork(8), tmp_path / "mine.pt", name="mine", trained={})
    before = {row["name"]: row["pid"] for row in json.loads(_tango(home, "status", "-o", "json").stdout)}

    def decides() -> str:
        rows = json.loads(_tango(home, "checkpoint", "list", "-o", "json").stdout)
        return next((row["digest"] for row in rows if row["deciding"]), "")

    def waits_for(wanted: Callable[[str], bool]) -> None:
        deadline_s = time.monotonic() + 30
        while not wanted(decides()):
            assert time.monotonic() < deadline_s
            time.sleep(0.2)

    waits_for(bool)
    shipped = decides()
    assert _tango(home, "checkpoint", "add", str(tmp_path / "mine.pt")).returncode == 0
    (tmp_path / "mine.pt").unlink()
    assert _tango(home, "checkpoint", "promote", "mine").returncode == 0
    waits_for(lambda found: found == digest)
    assert _tango(home, "checkpoint", "demote").returncode == 0
    waits_for(lambda found: found == shipped)

    assert {row["name"]: row["pid"] for row in json.loads(_tango(home, "status", "-o", "json").stdout)} == before


def test_a_killed_supervisor_takes_all_with_it_and_up_recovers(home: Path) -> None:
    """After SIGKILL nothing is left, `status` says so, and the next `up` and `down` work, in a shell that took over `env` too."""
    taken_over = json.loads(_tango(home, "env", "-o", "json").stdout)
    os.kill(int((home / "run" / "lock").read_text()), signal.SIGKILL)
    deadline_s = time.monotonic() + 15.0
    while _processes_of(home) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert _processes_of(home) == []
    assert _tango(home, "status").returncode == 1
    again = _tango(home, "up", "--detach", variables=taken_over)
    assert again.returncode == 0, again.stderr
    assert _tango(home, "down").returncode == 0
    assert _processes_of(home) == []
    assert not (home / "stack.json").exists()
