"""`tango compare --judge` from the command line to its table, its JSON and its page, on simulations that are real and small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tango.cli.main import cli

LINE = (
    "compare p3 --fleet testbed --load 0.6 --load 1.1 --duration 20 --seeds 2 --systems k8s-native,load-greedy --judge load-greedy"
)


def test_a_system_is_judged_in_every_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cells as a table with its summary, as JSON with keys added, and as a section of the page."""
    monkeypatch.setenv("TANGO_HOME", str(tmp_path / "home"))
    page = tmp_path / "page.html"

    table = CliRunner().invoke(cli, [*LINE.split(" "), "--report", str(page)])
    document = json.loads(CliRunner().invoke(cli, [*LINE.split(" "), "-o", "json"]).stdout)

    assert table.exit_code == 0, table.output
    assert "load-greedy against" in table.stdout
    assert "After Holm over 6 tests" in table.stdout
    assert "8 of 8 cells were finished before" not in table.stderr
    assert [(row["scenario"], row["metric"]) for row in document["verdicts"]] == [
        (f"p3@{load}", metric) for load in ("0.6", "1.1") for metric in ("lc_qos_rate", "be_cpu_seconds_per_s", "utilization_cpu")
    ]
    assert {row["baseline"] for row in document["verdicts"]} == {"k8s-native"}
    assert (document["judged"]["pairs"], document["judged"]["tests"]) == (2, 6)
    assert all(0.0 < row["be_share_of_bound"] <= 1.0 for row in document["bound"])
    assert "Verdict on load-greedy" in page.read_text(encoding="utf-8")
