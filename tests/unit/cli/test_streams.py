"""What commands print where: results on standard output, everything else on standard error."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tango.cli.failures import exit_status
from tango.cli.main import cli

LOGS = """
import structlog
from tango.bootstrap.stores import stores
stores()
log = structlog.get_logger("tango.control.jobs")
log.info("job_cancelled")
log.warning("job_not_announced")
print("result")
"""


def test_what_use_cases_log_does_not_stand_among_the_results_of_a_command() -> None:
    """Nor is a command's user told what a server's log would have."""
    environment = {"TANGO_DATABASE_URL": "postgresql://nobody@/none", "TANGO_BROKER_URL": "redis://127.0.0.1:1/0"}

    done = subprocess.run([sys.executable, "-c", LOGS], env=environment, capture_output=True, text=True, check=True, cwd=Path.cwd())

    assert done.stdout == "result\n"
    assert "job_not_announced" in done.stderr
    assert "job_cancelled" not in done.stderr


def test_a_letter_that_a_terminal_has_no_room_for_is_printed_as_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under LC_ALL=C or PYTHONIOENCODING=ascii; the command goes on."""
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))

    assert exit_status(click.Command("x", callback=lambda: print("a – b")), []) == 0
    assert printed.getvalue() == b"a \\u2013 b\n"


@pytest.mark.parametrize(("closed", "words"), [("<&-", "an empty file"), (">&-", "an empty file"), ("<&- >&- 2>&-", "")])
def test_a_stream_that_is_closed_is_an_empty_one(tmp_path: Path, closed: str, words: str) -> None:
    """As jobs of cron and supervisors have them: a command does what it was told, and no file is taken for the stream."""
    command = f"{sys.executable} -c 'from tango.cli.main import run; run()' trace info - {closed}"

    done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (3, True, False), done.stderr


def test_an_argument_that_is_no_text_is_a_matter_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Python keeps its bytes, since paths may have them; a database would take none of them."""
    command = click.Command("x", params=[click.Argument(["name"])], callback=lambda name: name.encode())

    assert exit_status(command, ["a\udcff"]) == 2
    assert "'a\\udcff' is no text in UTF-8" in capsys.readouterr().err


def test_a_gateway_for_a_cluster_without_a_journal_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would make one that no agent reads, and turn every caller away."""
    (tmp_path / "edge-1.db").touch()
    monkeypatch.setenv("TANGO_JOURNAL_DIR", str(tmp_path))

    status = exit_status(cli, ["gateway", "--cluster", "edge-2", "--port", "0"])

    told = capsys.readouterr().err
    assert status == 2
    assert "there is no journal of cluster 'edge-2'" in told
    assert "'edge-1'" in told
    assert [path.name for path in tmp_path.iterdir()] == ["edge-1.db"]
