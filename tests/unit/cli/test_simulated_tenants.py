"""`tango simulate --tenants`: what each tenant of a trace gets, printed beside its fair share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tango.cli.failures import exit_status
from tango.cli.main import cli

TENANTS = "apiVersion: tango/v1\nkind: Tenant\nmetadata: {name: blue}\nspec: {weight: 3}\n"
ROWS = "".join(f"{k * 0.01:g},be,batch,8,{name}\n" for k in range(150) for name in ("blue", "red"))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Three hundred requests of two tenants, that come at once."""
    path = tmp_path / "teams.csv"
    path.write_text("arrival_s,class,service,cpu_work_s,tenant\n" + ROWS)
    return path


def simulated(*line: str) -> int:
    """Exit status of `tango simulate` on the smallest fleet."""
    return exit_status(cli, ["simulate", *line, "--fleet", "single", "--system", "load-greedy", "--no-bound"])


def test_the_figures_have_a_row_for_each_tenant(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its weight blue has three quarters of what both want, as computed; who is declared and has no request is named."""
    declared = tmp_path / "tenants.yaml"
    declared.write_text(TENANTS + "---\n" + TENANTS.replace("blue", "grey"))

    status = simulated(str(trace), "--tenants", str(declared), "-o", "json")

    said = capsys.readouterr()
    blue, red = json.loads(said.out)["tenants"]
    assert status == 0
    assert "note: no BE request is of grey" in said.err
    assert (blue["tenant"], blue["weight"], blue["requests"], blue["succeeded"]) == ("blue", 3.0, 150, 150)
    assert blue["fair_share"] == pytest.approx(0.75, abs=0.02)
    assert blue["share"] == pytest.approx(blue["fair_share"], abs=0.1)  # ten of fourteen pods
    assert red["wait_mean_s"] > blue["wait_mean_s"]


def test_a_table_of_tenants_follows_that_of_services(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Undeclared ones share alike. Where no tenant is named there is no such table."""
    without = trace.with_name("without.csv")
    without.write_text("arrival_s,class,service,cpu_work_s\n" + "".join(f"{k},be,batch,2\n" for k in range(5)))

    statuses = [simulated(str(trace))]
    named = capsys.readouterr().out
    statuses.append(simulated(str(without)))

    assert statuses == [0, 0]
    assert "fair" in named
    assert "fair" not in capsys.readouterr().out.replace("fairness", "")


def test_a_file_of_tenants_that_is_none_is_refused_before_anything_is_simulated(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `tango tenant apply` refuses it, for a trace and for a recorded run."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(TENANTS.replace("weight: 3", "weight: -3"))

    statuses = [
        simulated(str(trace), "--tenants", str(wrong)),
        exit_status(cli, ["simulate", "--run", "1", "--tenants", str(wrong)]),
    ]

    assert statuses == [3, 3]
    assert "weight" in capsys.readouterr().err
