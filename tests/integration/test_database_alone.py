"""`tango up --only store`: history without the nineteen processes of a stack."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import run_tango

Tango = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def tango(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tango]:
    """Commands on a fresh state folder, whose database alone runs."""
    home = tmp_path_factory.mktemp("alone") / "home"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")} | {"TANGO_HOME": str(home)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_tango(arguments, environment=environment)

    before = run("run", "list")
    assert (before.returncode, "tango up --detach --only store" in before.stderr) == (4, True), before.stderr
    started = run("up", "--detach", "--only", "store")
    assert started.returncode == 0, started.stderr
    assert "is up, and nothing else" in started.stderr
    yield run
    assert run("down").returncode == 0


def test_history_is_read_with_one_process(tango: Tango) -> None:
    """The database, with the schema of this version; nothing else is started."""
    processes = json.loads(tango("status", "-o", "json").stdout)

    assert [(row["name"], row["state"]) for row in processes] == [("postgres", "running")]
    assert json.loads(tango("run", "list", "-o", "json").stdout) == []
    assert json.loads(tango("job", "list", "-o", "json").stdout) == []
    assert json.loads(tango("sql", "SELECT count(*) AS runs FROM run_summary", "-o", "json").stdout) == [{"runs": 0}]
    assert tango("checkpoint", "list").returncode == 0


@pytest.mark.parametrize("command", ["submit", "job"])
def test_what_needs_the_broker_says_what_to_start(tango: Tango, tmp_path: Path, command: str) -> None:
    """Nothing is stored that nobody would run."""
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,class\n0.1,lc\n")
    line = ("run", "submit", str(trace), "--fleet", "demo") if command == "submit" else ("job", "submit", "--service", "x")

    refused = tango(*line)

    assert refused.returncode == 4, refused.stderr
    assert "start the whole stack with `tango up --detach`" in refused.stderr


def test_the_database_is_backed_up_and_restored_without_a_url(tango: Tango, tmp_path: Path) -> None:
    """Of the state folder: while its database alone runs, or, started for the time, while nothing does."""
    file = tmp_path / "tango.dump"
    made = tango("db", "backup", str(file))
    restored = [tango("db", "restore", str(file), "--yes")]
    assert tango("down").returncode == 0
    restored.append(tango("db", "restore", str(file)))
    again = tango("up", "--detach", "--only", "store")

    assert made.returncode == 0, made.stderr
    assert [(one.returncode, one.stdout) for one in restored] == [(0, made.stdout)] * 2, restored
    assert again.returncode == 0, again.stderr
    assert json.loads(tango("run", "list", "-o", "json").stdout) == []


def test_a_second_stack_in_the_folder_and_other_options_are_refused(tango: Tango) -> None:
    """As of a whole stack."""
    assert "already running" in tango("up", "--detach").stderr
    both = tango("up", "--only", "store", "--fleet", "demo")
    assert (both.returncode, "--only store starts no clusters" in both.stderr) == (2, True)
