"""Files that are there: nothing of the user's is written over without being asked for, and no folder is made by the way."""

from __future__ import annotations

import io
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tango.cli.confirm import PAGE_MARK, require_free, require_free_page, require_yes
from tango.cli.main import cli
from tango.errors import UsageError


@pytest.mark.parametrize(
    "line",
    [
        "trace generate p3 --duration 5 --out {0}/there.csv",
        "trace convert {0}/trace.csv {0}/there.csv",
        "trace compose --lc p3 --be p3 --fleet demo --duration 5 --out {0}/there.csv",
        "fleet generate --clusters 2 --out {0}/there.yaml",
        "policy new mine --to {0}/there.py",
        "tune --systems tango --out {0}/there.yaml",
        "compare p3 --report {0}/there.html",
        "report 1 -o {0}/there.html",
    ],
)
def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path, line: str) -> None:
    """Told before anything is read or computed; a policy, which is written by hand, is never written over."""
    (tmp_path / "trace.csv").write_text("arrival_s,class\n0.1,lc\n")
    for ending in ("csv", "yaml", "py", "html"):
        (tmp_path / f"there.{ending}").write_text("mine")

    done = CliRunner().invoke(cli, line.format(tmp_path).split(" "))

    assert "is there already" in str(done.exception)
    assert all((tmp_path / f"there.{ending}").read_text() == "mine" for ending in ("csv", "yaml", "py", "html"))


def test_force_writes_over_it(tmp_path: Path) -> None:
    """As the message says."""
    path = tmp_path / "there.csv"
    path.write_text("mine")

    done = CliRunner().invoke(cli, ["trace", "generate", "p3", "--duration", "5", "--out", str(path), "--force"])

    assert done.exit_code == 0, done.output
    assert path.read_text() != "mine"


def test_an_older_page_of_ours_is_replaced_and_a_device_is_no_file(tmp_path: Path) -> None:
    """A page can be made again; /dev/stdout holds nothing."""
    page = tmp_path / "run.html"
    page.write_bytes(b"<!doctype html>\n" + PAGE_MARK + b'1.0">')

    require_free_page(page, force=False)
    require_free(Path("/dev/null"), force=False)
    require_free(None, force=False)
    page.write_text("<html>somebody's</html>")
    with pytest.raises(UsageError, match="say --force"):
        require_free_page(page, force=False)


def test_a_report_makes_no_folder(tmp_path: Path) -> None:
    """A slip in a path is told as such."""
    done = CliRunner().invoke(cli, ["report", "1", "-o", str(tmp_path / "no" / "run.html")])

    assert "there is no folder" in str(done.exception)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(("answer", "goes_on"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_on_a_terminal_there_is_a_question(monkeypatch: pytest.MonkeyPatch, answer: str, goes_on: bool) -> None:
    """Its answer is no unless it is yes."""

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return answer

    @click.command()
    def destroy() -> None:
        monkeypatch.setattr("sys.stdin", Terminal())
        monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: answer.rstrip("\n"))
        require_yes(False, "delete run 3")
        click.echo("done")

    done = CliRunner().invoke(destroy)

    assert ("done" in done.output) is goes_on
    assert (done.exit_code == 0) is goes_on


def test_from_a_script_yes_has_to_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is there to be asked."""
    monkeypatch.setattr("sys.stdin", io.StringIO())

    with pytest.raises(UsageError, match="delete run 3: say --yes to do it"):
        require_yes(False, "delete run 3")
    require_yes(True, "delete run 3")
