"""What commands print and how errors end them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence

import click
import numpy as np
import pytest
import yaml
from rich.cells import cell_len
from rich.console import Console

from tango.analysis.compared_metrics import SHARES
from tango.cli.failures import exit_status
from tango.cli.output import ListColumn, fitting_table, output_option, print_mapping, print_rows
from tango.cli.progress import RunProgress, progress, spinner
from tango.errors import BadRow, BadRows, ConfigError, StoreUnavailable, TangoError, UsageError

COLUMNS = (
    ListColumn("run", justify="right", priority=10),
    ListColumn("name"),
    ListColumn("qos_rate", title="QoS", show=lambda rate: f"{rate:.1%}"),
    ListColumn("hash", wide=True),
)
ROWS = [
    {"run": np.int64(1), "name": "first", "qos_rate": np.float64(0.9871), "hash": "ab" * 16},
    {"run": np.int64(2), "name": "[red]second[/red]", "qos_rate": None, "hash": "cd" * 16},
]


def test_table_goes_to_stdout_with_headings_and_a_dash_for_nothing(capsys: pytest.CaptureFixture[str]):
    """Figures are shown as the column says; a missing value is a dash; markup in a name is text."""
    print_rows(ROWS, COLUMNS, "table")

    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["run", "name", "QoS"]
    assert lines[1].split() == ["1", "first", "98.7%"]
    assert lines[2].split() == ["2", "[red]second[/red]", "–"]
    assert err == ""
    assert "\x1b" not in out


def test_wide_adds_the_columns_marked_wide(capsys: pytest.CaptureFixture[str]):
    """`-o wide` shows what the table leaves out."""
    print_rows(ROWS, COLUMNS, "wide")

    assert "ab" * 16 in capsys.readouterr().out


@pytest.mark.parametrize(("output", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_scripts_get_whole_rows_with_full_precision_and_null(output: str, load, capsys: pytest.CaptureFixture[str]):
    """JSON and YAML hold every key, numbers as numbers, and null for what is missing or not a number."""
    print_rows([*ROWS, {"run": 3, "qos_rate": float("nan")}], COLUMNS, output)

    rows = load(capsys.readouterr().out)
    assert rows[0] == {"run": 1, "name": "first", "qos_rate": 0.9871, "hash": "ab" * 16}
    assert rows[1]["qos_rate"] is None
    assert rows[2]["qos_rate"] is None


def test_csv_quotes_and_leaves_missing_values_empty(capsys: pytest.CaptureFixture[str]):
    """CSV has the keys as its first line."""
    print_rows([{"run": 1, "name": 'a,"b"', "hash": None}], COLUMNS, "csv")

    assert capsys.readouterr().out == 'run,name,qos_rate,hash\n1,"a,""b""",,\n'


def test_empty_listing_is_an_empty_list_for_scripts_and_a_remark_for_people(capsys: pytest.CaptureFixture[str]):
    """`[]` on stdout, or a remark on stderr and nothing on stdout."""
    print_rows([], COLUMNS, "json")
    assert json.loads(capsys.readouterr().out) == []

    print_rows([], COLUMNS, "table", empty="There is no run yet.")
    assert capsys.readouterr() == ("", "There is no run yet.\n")


def test_shares_of_a_record_are_per_cent_for_people_and_fractions_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """As in every table: 99.96 % of the same figure was printed here, 0.9996 there."""
    record = {"run": 12, "lc_qos_rate": 0.9996, "utilization_cpu": None, "decision_ms_p50": 0.25}

    for output in ("table", "json", "csv"):
        print_mapping(record, output, shares=SHARES)

    table, _, machine = capsys.readouterr().out.partition("{")
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["run", "12"],
        ["lc_qos_rate", "100.0", "%"],
        ["utilization_cpu", "–"],
        ["decision_ms_p50", "0.25"],
    ]
    assert machine.count("0.9996") == 2


def test_mapping_is_one_object(capsys: pytest.CaptureFixture[str]):
    """A single result is an object and not a list."""
    print_mapping({"run": 12, "lc_qos_rate": None}, "json")

    assert json.loads(capsys.readouterr().out) == {"run": 12, "lc_qos_rate": None}


def test_control_sequences_in_a_name_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]):
    """A name cannot clear the screen or turn the text around."""
    print_rows([{"run": 1, "name": "a\x1b[2Jb\u202ec"}], COLUMNS, "table")

    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "a�[2Jb�c" in out


@pytest.mark.parametrize("width", [12, 20, 40, 80])
def test_table_fits_the_terminal_and_keeps_the_most_important_column(width: int):
    """Columns of low priority go first; no line is ever wider than the terminal."""
    columns = (
        ListColumn("run", priority=10),
        ListColumn("name", priority=8),
        ListColumn("a", priority=1),
        ListColumn("b", priority=2),
    )
    rows = [{"run": 1234, "name": "n" * 30, "a": "a" * 12, "b": "b" * 12}]
    console = Console(width=width, record=True, force_terminal=True, color_system=None, file=open("/dev/null", "w"))  # noqa: SIM115

    console.print(fitting_table(rows, columns, width=width), no_wrap=True)

    lines = console.export_text().splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert "1234" in lines[1]
    assert ("aaa" in lines[1]) == (width == 80)


def test_columns_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, in their order, with what has them; nothing is said where all fit."""
    columns = (ListColumn("run", priority=10), ListColumn("qos_rate", priority=1), ListColumn("node", priority=2))
    rows = [{"run": 1, "qos_rate": 0.25, "node": "n" * 30}]
    for width, said in ((30, "left out, as they did not fit: qos rate, node"), (80, "")):
        narrow = Console(width=width, force_terminal=True, color_system=None)
        monkeypatch.setattr("tango.cli.output.stdout_console", lambda narrow=narrow: narrow)

        print_rows(rows, columns, "table")

        assert capsys.readouterr().err.startswith(said)
        assert bool(said) == (width == 30)


@click.group()
@click.option("--debug", is_flag=True, envvar="TANGO_DEBUG")
def program(debug: bool) -> None:
    """A command line that fails in every way."""


FAILURES: dict[str, BaseException] = {
    "failed": TangoError("it did not work\nand here is more"),
    "usage": UsageError("there is no run 7; the latest are 5, 6"),
    "config": ConfigError("fleet 'x' has no node"),
    "refused": BadRows([BadRow(file="a.csv", line=3, column="time", found="'x'", expected="a number")]),
    "unreachable": StoreUnavailable("PostgreSQL does not answer at 127.0.0.1:5432; start it with `tango up`"),
    "machine": OSError(errno.ENOSPC, "No space left on device"),
    "file": FileNotFoundError(errno.ENOENT, "No such file or directory", "gone.csv"),
    "defect": ZeroDivisionError("division by zero"),
    "interrupt": KeyboardInterrupt(),
}


@program.command()
@click.argument("how")
def fail(how: str) -> None:
    """Fail so."""
    raise FAILURES[how]


@program.command()
@output_option(formats=("table", "json"))
def listing(output: str) -> None:
    """Print rows without end."""
    print_rows([{"run": n, "name": "x" * 100} for n in range(20_000)], COLUMNS, output)


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("failed", 1),
        ("usage", 2),
        ("config", 2),
        ("refused", 3),
        ("unreachable", 4),
        ("machine", 1),
        ("file", 1),
        ("defect", 1),
        ("interrupt", 130),
    ],
)
def test_every_error_has_its_exit_status_and_no_traceback(how: str, status: int, capsys: pytest.CaptureFixture[str]):
    """0 done, 1 failed, 2 usage, 3 refused input, 4 unreachable, 130 interrupted; words on stderr, nothing on stdout."""
    assert exit_status(program, ["fail", how]) == status

    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert ("defect" in err) == (how == "defect")
    error = FAILURES[how]
    said = [error.strerror, error.filename or ""] if isinstance(error, OSError) else str(error).splitlines()[:1]
    assert all(word in err for word in said)


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """`tango --debug` and TANGO_DEBUG=1 show where an error came from; the status stays."""
    assert exit_status(program, ["--debug", "fail", "unreachable"]) == 4
    assert "Traceback" in capsys.readouterr().err

    monkeypatch.setenv("TANGO_DEBUG", "1")
    assert exit_status(program, ["fail", "defect"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_unknown_command_or_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]):
    """click's own complaints exit with 2."""
    assert exit_status(program, ["nonsense"]) == 2
    assert exit_status(program, ["listing", "-o", "xml"]) == 2
    assert "xml" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["table", "json"])
def test_reader_that_leaves_early_is_no_error(output: str):
    """`tango run list | head -1` ends quietly with the status of SIGPIPE."""
    code = f"from {__name__.rpartition('.')[2]} import program; from tango.cli.failures import run_reporting_failures as r; "
    command = [sys.executable, "-c", code + f"r(program, ['listing', '-o', '{output}'])"]
    folder = __file__.rpartition("/")[0]
    environment = {
        key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"
    }  # unbuffered, a cut write is no error
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment)
    assert child.stdout is not None
    assert child.stderr is not None

    child.stdout.readline()
    child.stdout.close()

    assert child.stderr.read() == ""
    assert child.wait(timeout=60) == 141


class SteppedClock:
    """Gives the next of some instants each time it is read, then the last one for ever."""

    def __init__(self, instants_s: Sequence[float]) -> None:
        self.instants_s = list(instants_s)

    def __call__(self) -> float:
        """The next instant."""
        return self.instants_s.pop(0) if len(self.instants_s) > 1 else self.instants_s[0]


def plain_console() -> Console:
    """A console that is no terminal and keeps what is printed."""
    return Console(record=True, force_terminal=False, width=200, file=open("/dev/null", "w"))


def test_progress_without_a_terminal_is_an_occasional_line():
    """Quick work says nothing; long work a line every five seconds and one at its end."""
    quick, slow = plain_console(), plain_console()

    with progress("Reading", total=10, console=quick, clock_s=SteppedClock([0.0, 0.1])) as advance:
        advance(10)
    with progress("Reading", total=10, unit="rows", console=slow, clock_s=SteppedClock([0.0, 1.0, 6.0, 6.0, 6.0, 7.0])) as advance:
        advance(2)
        advance(3)
        advance(5)

    assert quick.export_text() == ""
    assert slow.export_text().splitlines() == ["Reading: 5 of 10 (50%) rows, 6 s", "Reading: 10 of 10 (100%) rows, 7 s, done"]


def test_progress_of_a_share_says_it_once_and_what_is_being_done():
    """A note stays until the next one; an empty one takes it away."""
    shown = plain_console()

    clock = SteppedClock([0.0, 6.0, 6.0, 6.0, 12.0, 12.0, 12.0, 13.0])
    with progress("Training", total=100.0, unit="% of the budget", console=shown, clock_s=clock) as advance:
        advance(41.2, note="validating, 3 episodes")
        advance(0.0, note="")

    assert shown.export_text().splitlines()[:2] == [
        "Training: 41 % of the budget, 6 s, validating, 3 episodes",
        "Training: 41 % of the budget, 12 s",
    ]


STATE = {
    "status": "running",
    "accepted": 3000,
    "counts": {
        ("lc", "accepted"): 1187,
        ("lc", "released"): 3,
        ("lc", "running"): 9,
        ("lc", "succeeded"): 900,
        ("lc", "shed"): 1,
        ("be", "placed"): 500,
        ("be", "running"): 100,
        ("be", "succeeded"): 300,
    },
    "elapsed_s": 31.4,
    "span_wall_s": 60.0,
    "lc_met": 893,
    "cpu_utilization": None,
}


def test_run_progress_without_a_terminal_is_a_line_now_and_then():
    """The newest line says what is done by class, the QoS rate so far and what is left."""
    console = plain_console()

    with RunProgress(12, console=console, clock_s=SteppedClock([0.0, 1.0, 6.0])) as display:
        display.update({**STATE, "elapsed_s": 1.0})
        display.update({**STATE, "elapsed_s": 2.0})
        display.update(STATE)

    lines = console.export_text().splitlines()
    assert [line[:20] for line in lines] == ["run 12: running 0:01", "run 12: running 0:31", "run 12: running 0:31"]
    assert "LC 900/2,100 done, 1 failed | BE 300/900 done | QoS 99.1 %, CPU – | arrivals for 0:29 more" in lines[-1]


def test_run_progress_on_a_terminal_fits_in_eighty_columns():
    """The live display is a bar and the counts of each class."""
    console = Console(record=True, force_terminal=True, color_system=None, width=80, file=open("/dev/null", "w"))  # noqa: SIM115

    console.print(RunProgress("demo", console=console).panel(STATE))

    text = console.export_text()
    assert all(cell_len(line) <= 80 for line in text.splitlines())
    assert "900" in text
    assert "QoS 99.1 %" in text


def test_run_progress_knows_a_run_that_has_not_begun_and_one_that_drains():
    """Without a zero there is no time to show; after the last arrival only the rest is waited for."""
    display = RunProgress(3, console=plain_console())

    assert display.line({"status": "accepted", "counts": {("lc", "accepted"): 5}, "elapsed_s": None}).endswith("have not begun")
    assert display.line({**STATE, "elapsed_s": 61.0}).endswith("arrivals are over")


def test_spinner_passes_errors_on():
    """What fails under a spinner fails."""
    with pytest.raises(UsageError, match="no such"), spinner("waiting", console=plain_console()):
        raise UsageError("no such thing")
