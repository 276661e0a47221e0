"""`tango plan` from the command line to its table, its sentences and its exit status, on fleets whose answer is known."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tango.cli.failures import exit_status
from tango.cli.main import cli

pytestmark = pytest.mark.timeout(600)
"""The first simulation of a fresh checkout compiles the engine."""

FLEET = """apiVersion: tango/v1
kind: Fleet
metadata: {name: line}
spec:
  beta: 0
  clusters:
    - name: c1
      nodes: [{name: n1, cpu_millicores: 1000, memory_mib: 2048}]
  services:
    - {name: web, class: lc, cpu_work_s: 0.4, cpu_work_cv: 0, target_ms: 2000, memory_mib: 32, instance_memory_mib: 256,
       cpu_request_millicores: 500, cpu_limit_millicores: 1000}
"""


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A request of 0.4 CPU-seconds every tenth of a second, in a table of milliseconds, so four cores' work, on nodes of one core."""
    monkeypatch.setenv("TANGO_HOME", str(tmp_path / "home"))
    fleet, table = tmp_path / "line.yaml", tmp_path / "calls.csv"
    fleet.write_text(FLEET)
    table.write_text("at_ms,name\n" + "".join(f"{k * 100},web\n" for k in range(600)))
    map = "arrival_s=at_ms / 1000,class='lc',service=name,cpu_work_s=0.4"
    return [
        *("plan", str(table), "--map", map, "--fleet", str(fleet), "--target-qos", "0.99"),
        *("--system", "load-greedy", "--seeds", "2", "--as-recorded"),
    ]


def test_the_answer_is_marked_and_said(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Four cores' work needs four nodes of one core, or one more; the same command again simulates nothing, and CSV has the same rows."""
    statuses = [exit_status(cli, line)]
    table = capsys.readouterr().out
    statuses.append(exit_status(cli, [*line, "-o", "csv"]))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    (answer,) = [row for row in rows if row["answer"] in ("True", "true")]
    assert statuses == [0, 0]
    assert answer["nodes"] in ("4", "5")
    assert f"1/2Gi: {answer['nodes']} nodes ({answer['nodes']} cores, " in table
    assert "meet a QoS rate of 0.99: " in table
    assert {row["verdict"] for row in rows if int(row["nodes"]) < 4} <= {"missed"}


def test_a_target_that_no_number_meets_exits_with_one(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """And says how near the most that was asked for came."""
    status = exit_status(cli, [*line, "--most", "2", "-o", "json"])

    found = json.loads(capsys.readouterr().out)
    assert status == 1
    assert (found["answers"][0]["found"], found["answers"][0]["candidate"]["nodes"]) == ("none", 2)
    assert found["answers"][0]["candidate"]["qos_rate"] < 0.6


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--highest-load", "--kind", "declared"], "--kind has no meaning with --highest-load"),
        (["--highest-load", "--load", "0.5"], "--load has no meaning with --highest-load"),
        (["--kind", "4"], "'4' is no kind of node"),
        (["--load", "0.5", "--load", "0.6"], "a plan is for one load and one world"),
        (["--beta", "0", "--beta", "1"], "a plan is for one load and one world"),
        (["--system", "tango,load-greedy"], "a plan is for one system"),
        (["--target-qos", "0"], "0<x<=1"),
    ],
)
def test_options_that_contradict_the_question_are_refused(
    line: list[str], more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is simulated."""
    assert exit_status(cli, [*line, *more]) == 2
    assert said in capsys.readouterr().err
