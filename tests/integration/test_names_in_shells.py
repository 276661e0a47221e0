"""Completion in the shells themselves, of names that are in a store, and dry runs that change nothing there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from click.testing import CliRunner

from tango.bootstrap.stores import stores
from tango.cli.main import cli
from tango.errors import TangoError
from tango.store.migrate import head
from tests.conftest import DatabaseUrls
from tests.fakes.store_world import WEB, StoreWorld, copy_of, postgres_world

REPOSITORY = Path(__file__).parents[2]
PROGRAM = f"""#!/bin/sh
exec {sys.executable} -c 'from tango.cli.main import run; run()' "$@"
"""
# Each calls the function that the script defines as its shell would, and prints what it puts forward, one a line.
SHELLS = {
    "bash": """
        eval "$(tango completion bash)"
        COMP_WORDS=({words}); COMP_CWORD=$(({count} - 1)); _tango_completion tango
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "zsh": """
        compdef() {{ :; }}
        _describe() {{ print -rl -- "${{(@P)3}}" }}
        compadd() {{ print -rl -- "${{(@P)argv[-1]}}" }}
        eval "$(tango completion zsh)"
        words=({words}); CURRENT={count}; _tango_completion
    """,
    "fish": """
        tango completion fish | source
        complete -C "{line}"
    """,
}


@pytest.fixture
def world(database_urls: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreWorld]:
    """A store with two runs, one of which has ended, services and clusters; commands find it."""
    world = postgres_world(database_urls.app)
    ended, _going = world.create(WEB, name="morning"), world.create(WEB, name="noon")
    world.ship(copy_of(ended, 0))
    world.cancel(ended)
    monkeypatch.setenv("TANGO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TANGO_DATABASE_URL", database_urls.app)
    monkeypatch.setenv("TANGO_BROKER_URL", "redis://127.0.0.1:1/0")
    stores.cache_clear()
    yield world
    stores().database.close()
    stores.cache_clear()


def put_forward(shell: str, line: str, folder: Path) -> list[str]:
    """What a shell puts forward for the last word of a line, without the words beside it."""
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / "tango"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    words = line.split(" ")
    script = SHELLS[shell].format(line=line, words=" ".join(word or "''" for word in words), count=len(words))
    done = subprocess.run(
        [shell, *(["--norc"] if shell == "bash" else ["-f"] if shell == "zsh" else ["--no-config"]), "-c", script],
        env={**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY), "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [found.split("\t")[0].split(":")[0] for found in done.stdout.splitlines() if found]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_names_of_the_store(shell: str, world: StoreWorld, tmp_path: Path) -> None:
    """The newest run first, as the function of `tango completion SHELL` gets them."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    ended, going = sorted(run.run_id for run in world.runs.runs())

    runs = put_forward(shell, "tango run show ", tmp_path)
    services = put_forward(shell, "tango service show b", tmp_path)

    # fish sorts what it is given.
    assert (runs if shell != "fish" else sorted(runs, reverse=True)) == [str(going), str(ended)]
    assert services == ["batch"]


DRY = (
    "run cancel {going} --dry-run",
    "run delete {ended} --dry-run",
    "run prune --keep 0 --dry-run",
    "run prune --older-than 1d --keep-bytes 1 --dry-run",
    "service apply -f {file} --dry-run",
    "live use load-greedy --dry-run",
    "database upgrade --url {owner} --dry-run",
    "database downgrade 0032 --url {owner} --dry-run",
)


def everything(urls: DatabaseUrls) -> list[tuple[str, object]]:
    """All rows of all tables."""
    with psycopg2.connect(urls.admin) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1"
        )
        found = []
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT array_agg(t::text ORDER BY t::text) FROM {table} t")
            found.append((table, cursor.fetchone()))
    connection.close()
    return found


def test_a_dry_run_says_what_it_would_do_and_does_nothing(world: StoreWorld, database_urls: DatabaseUrls, tmp_path: Path) -> None:
    """Each of these commands changes something without `--dry-run`."""
    ended, going = sorted(run.run_id for run in world.runs.runs())
    file = tmp_path / "service.yaml"
    file.write_text(
        "apiVersion: tango/v1\nkind: Service\nmetadata: {name: web}\n"
        "spec: {class: lc, target_ms: 250, cpu_work_s: 0.02, memory_mib: 32, instance_memory_mib: 128}\n"
    )
    before, told = everything(database_urls), []

    for line in DRY:
        words = line.format(ended=ended, going=going, file=file, owner=database_urls.owner).split(" ")
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, (line, done.output, done.exception)
        assert "nothing was changed" in done.stderr, line
        told.append(done.stderr)

    assert everything(database_urls) == before
    assert "cancel run" in told[0]
    assert "with its 1 requests" in told[1]
    assert "delete 1 runs" in told[2]
    assert "target_ms 100.0 -> 250.0" in told[4]
    assert f"undoes {head()}" in told[-1]


def test_a_dry_run_refuses_what_would_be_refused(world: StoreWorld) -> None:
    """So that a script can ask first."""
    _, going = sorted(run.run_id for run in world.runs.runs())

    for line, words in (
        (f"run delete {going} --dry-run", "cancel it first"),
        ("run delete 4711 --dry-run", "no run 4711"),
        ("service delete batc --dry-run", "did you mean 'batch'"),
        ("service delete web --dry-run", "runs still need web"),
        ("cluster remove c9 --dry-run", "c9"),
    ):
        done = CliRunner().invoke(cli, line.split(" "))
        assert isinstance(done.exception, TangoError), (line, done.output)
        assert words in str(done.exception)


def test_old_runs_are_deleted_and_it_is_told(world: StoreWorld, database_urls: DatabaseUrls) -> None:
    """By age, with what is deleted in a table; a run that goes on stays."""
    ended, going = sorted(run.run_id for run in world.runs.runs())

    kept = CliRunner().invoke(cli, ["run", "prune", "--older-than", "1h", "--yes"])
    gone = CliRunner().invoke(cli, ["run", "prune", "--older-than", "0s", "--yes", "-o", "json"])

    assert "No run goes" in kept.stderr
    assert f'"run": {ended}' in gone.stdout
    assert "1 runs deleted, 1 left" in gone.stderr
    assert [run.run_id for run in world.runs.runs()] == [going]
    with psycopg2.connect(database_urls.app) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE deleted_run SET why = 'ended more than 30 d ago, by retention'")
    connection.close()
    assert "1 older runs were deleted by retention" in CliRunner().invoke(cli, ["run", "list"]).stderr
