"""The figures of a run on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from tango.analysis.metrics import run_metrics
from tango.report.tables import milliseconds, number, percent, print_run, together
from tests.fakes.run_records import NO_DECISIONS, NO_LOSSES, NO_SAMPLES, NO_SCALING, outcomes_of, seeded_run


def test_run_is_shown_whole_in_eighty_columns(capsys: pytest.CaptureFixture[str]):
    """What the demo promises to show fits, with nothing cut off."""
    print_run(run_metrics(*seeded_run()))

    out = capsys.readouterr().out
    assert max(cell_len(line) for line in out.splitlines()) <= 80
    assert "…" not in out
    for words in ("QoS rate", "LC latency", "BE completed", "BE throughput", "utilisation", "evictions", "resizes", "decisions"):
        assert words in out


def test_wide_adds_what_eighty_columns_have_no_space_for(capsys: pytest.CaptureFixture[str]):
    """p50, p99.9 and the states of each service."""
    print_run(run_metrics(*seeded_run()), wide=True)

    out = capsys.readouterr().out
    assert "p99.9" in out
    assert "unfinished" in out
    assert "…" not in out


def test_long_service_names_are_cut_and_not_the_figures(capsys: pytest.CaptureFixture[str]):
    """A name of 60 letters costs no figure."""
    rows = [{"due": 50.0, "start": 50.1, "end": 50.2}]
    outcomes = outcomes_of(rows, services=("s" * 60, "batch"))

    print_run(run_metrics(outcomes, NO_LOSSES, NO_SAMPLES, NO_DECISIONS, NO_SCALING))

    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("sss"))
    assert "100.0 %" in line
    assert cell_len(line) <= 80


def test_figures_that_are_missing_are_dashes():
    """A run that has only begun shows dashes and no error."""
    console = Console(record=True, width=80, file=io.StringIO())
    metrics = run_metrics(outcomes_of([], span_s=0.0, wall_s=0.0), NO_LOSSES, NO_SAMPLES, NO_DECISIONS, NO_SCALING)

    print_run(metrics, console=console)

    text = console.export_text()
    assert "None" not in text
    assert "QoS rate" in text


def test_figures_are_written_with_their_units():
    """Three significant digits or so, the unit once where all share it."""
    assert [milliseconds(v) for v in (0.418, 12.34, 250.4, 1380.0, None)] == ["0.42 ms", "12.3 ms", "250 ms", "1.38 s", "–"]
    assert [percent(v) for v in (0.9871, None)] == ["98.7 %", "–"]
    assert [number(v) for v in (1234, 0.12345, 4321.9, None)] == ["1,234", "0.123", "4,322", "–"]
    assert together(milliseconds, 85.0, 320.0) == "85.0 / 320 ms"
    assert together(milliseconds, 85.0, 1320.0) == "85.0 ms / 1.32 s"
    assert together(percent, None, 0.5) == "– / 50.0 %"
