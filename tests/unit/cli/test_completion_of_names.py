"""Completion: what names a thing is completed; without a store there are no names and not a word; nothing is imported that is not used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from tango.cli import names
from tango.cli.main import COMMANDS, cli
from tango.domain.systems import SYSTEMS
from tango.fleets import fleet_names
from tango.scheduling.sharing_step import RULES
from tango.store.named_queries import QUERIES
from tango.systems import be_names, lc_names
from tests.unit.cli.test_help import COMMANDS as ALL


def completed(line: str) -> list[str]:
    """What a shell would put forward for the last word of a line."""
    *words, incomplete = line.split(" ")
    return [item.value for item in ShellComplete(cli, {}, "tango", "_TANGO_COMPLETE").get_completions(words, incomplete)]


@pytest.fixture(autouse=True)
def no_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a stack nor an address."""
    monkeypatch.setenv("TANGO_HOME", str(tmp_path))
    monkeypatch.delenv("TANGO_DATABASE_URL", raising=False)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("run submit t.csv --system k8", ["k8s-native"]),
        ("compare p1 --systems tango,ce", ["tango,ceres"]),
        ("simulate p1 --sharing b", ["burst"]),
        ("sql @slow", ["@slowest"]),
        ("export 1 --table shadow_s", ["shadow_summary"]),
        ("help exi", ["exit-codes"]),
        ("ru", ["run"]),
        ("run pr", ["prune"]),
        ("run prune --older", ["--older-than"]),
    ],
)
def test_names_that_need_no_store_are_completed(line: str, found: list[str]) -> None:
    """Commands, options, systems, parts of systems, queries, tables, topics."""
    assert completed(line) == found


def test_what_is_put_forward_is_all_that_there_is() -> None:
    """The lists of completion come from names alone, and are those of the code behind them."""
    assert set(completed("up --fleet ")) - {""} == set(fleet_names())
    assert set(completed("simulate --system ")) == set(SYSTEMS)
    assert set(completed("simulate --sharing ")) == set(RULES)
    assert set(completed("simulate --lc ")) - {""} == set(lc_names())
    assert set(completed("simulate --be ")) - {""} == set(be_names())
    assert {f"@{name}" for name in QUERIES} <= set(completed("sql "))
    assert completed("") == list(COMMANDS)


def test_what_names_a_thing_is_completed_everywhere() -> None:
    """By the name of the parameter: a new command that takes a run takes its completion too."""
    kinds = {
        **dict.fromkeys(("run_id", "run_ids"), names.RUNS),
        **dict.fromkeys(("key", "keys"), names.JOBS),
        **dict.fromkeys(("fleet", "fleet_name"), names.FLEETS),
        "system_name": names.SYSTEMS,
    }
    own = {("job submit", "key"), ("request", "key"), ("explain request", "key"), ("explain node", "key")}
    seen = set()

    for path, command in ALL.items():
        for param in command.params:
            kind = kinds.get(param.name or "")
            if kind is not None and (path, param.name) not in own and not (isinstance(param, click.Option) and param.is_flag):
                seen.add(param.name)
                # A parameter gives what it was given only by completing.
                assert param._custom_shell_complete is kind, f"tango {path}: {param.name} is not completed"

    assert seen == set(kinds)


@pytest.mark.parametrize("url", ["", "postgresql://nobody@127.0.0.1:1/none", "no url at all"])
@pytest.mark.parametrize(
    "line", ["run show ", "job show ", "service show ", "checkpoint promote ", "cluster remove ", "token revoke "]
)
def test_without_a_store_there_are_no_names_and_not_a_word(
    line: str, url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A message would stand in the line that somebody types."""
    monkeypatch.setenv("TANGO_DATABASE_URL", url)

    assert completed(line) == []
    assert capfd.readouterr() == ("", "")


def test_a_completion_imports_what_it_uses() -> None:
    """A shell waits for it: neither NumPy for a list of systems, nor any command for the names of commands."""
    code = (
        "import sys\n"
        "from click.shell_completion import ShellComplete\n"
        "from tango.cli.main import cli\n"
        "complete = ShellComplete(cli, {}, 'tango', '_TANGO_COMPLETE').get_completions\n"
        "print([item.value for item in complete([], 'ru')], 'tango.cli.run' in sys.modules)\n"
        "from tango.cli import names\n"
        "print(len(names.SYSTEMS(None, None, '')), len(names.FLEETS(None, None, '')) > 5, len(names.RUNS(None, None, '')))\n"
        "print(sorted({'numpy', 'numba', 'torch', 'kubernetes', 'celery', 'sqlalchemy', 'yaml', 'pyarrow'} & set(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)

    assert done.stdout.splitlines() == ["['run'] False", f"{len(SYSTEMS)} True 0", "[]"]
