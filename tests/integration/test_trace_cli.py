from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tango.bench.trace_reading import measure, write_like_google
from tango.traces import info_of, read_trace

RUN = "from tango.cli.main import run; run()"


def _tango(*args: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, *map(str, args)], capture_output=True, text=True, cwd=cwd, timeout=60, check=False
    )


def _generate(tmp_path: Path, name: str = "p3.csv") -> Path:
    done = _tango(
        "trace",
        "generate",
        "p3",
        "--rate",
        "50",
        "--duration",
        "60",
        "--clusters",
        "3",
        "--lc-share",
        "0.7",
        "--seed",
        "9",
        "--out",
        name,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / name


def test_generate_writes_a_trace_that_info_counts(tmp_path: Path) -> None:
    """The keys of the machine-readable form, as numbers; talk goes to stderr."""
    _generate(tmp_path)
    done = _tango("trace", "info", "p3.csv", "-o", "json", cwd=tmp_path)

    figures = json.loads(done.stdout)
    assert set(figures) >= {"requests", "lc", "be", "span_s", "bad_rows", "services", "clusters"}
    assert (figures["requests"], figures["lc"], figures["be"], figures["clusters"]) == (3000, 2100, 900, 3)
    assert figures["bad_rows"] == 0
    assert 59 < figures["span_s"] <= 60


def test_same_command_same_bytes_in_every_ending(tmp_path: Path) -> None:
    """Two runs of one command give one file."""
    for ending in ("csv", "csv.gz", "parquet"):
        first = _generate(tmp_path, f"a.{ending}").read_bytes()
        assert _generate(tmp_path, f"b.{ending}").read_bytes() == first


def test_convert_cuts_thins_and_rescales(tmp_path: Path) -> None:
    """Rules in their order; the result is a Tango file."""
    _generate(tmp_path)
    done = _tango(
        "trace",
        "convert",
        "p3.csv",
        "out.parquet",
        "--from",
        "10",
        "--to",
        "30",
        "--thin",
        "0.5",
        "--be-work-s",
        "2",
        "--seed",
        "4",
        "--forget",
        "cluster",
        "-o",
        "json",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    trace = read_trace(tmp_path / "out.parquet").trace

    assert json.loads(done.stdout)["requests"] == len(trace)
    assert 350 < len(trace) < 650
    assert trace.arrival_s[-1] < 20
    assert trace.cpu_work_s[trace.service_class == 1].mean() == pytest.approx(2.0)
    assert trace.clusters == ("",)


def test_bad_rows_exit_3_with_their_place(tmp_path: Path) -> None:
    """File, line, column, found and expected on stderr, nothing on stdout, no traceback."""
    path = _generate(tmp_path)
    lines = path.read_text().split("\n")
    lines[4] = lines[4].replace(",lc,", ",llc,").replace(",be,", ",bee,")
    path.write_text("\n".join(lines))

    done = _tango("trace", "info", "p3.csv", cwd=tmp_path)

    assert done.returncode == 3
    assert "p3.csv:5: column class found" in done.stderr
    assert "expected lc or be" in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_skip_bad_takes_the_rest_and_says_how_many(tmp_path: Path) -> None:
    """2,999 good rows and one bad one with its reason and text."""
    path = _generate(tmp_path)
    lines = path.read_text().split("\n")
    lines[4] = "one,two"
    path.write_text("\n".join(lines))

    done = _tango("trace", "info", "p3.csv", "--skip-bad", "bad.csv", "-o", "json", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["requests"] == 2999
    assert json.loads(done.stdout)["bad_rows"] == 1
    assert "1 bad rows skipped, written to bad.csv; 2999 good rows taken" in done.stderr
    assert list(csv.DictReader((tmp_path / "bad.csv").open())) == [
        {"file": "p3.csv", "line": "5", "column": "", "found": "2 columns", "expected": "6 columns", "row": "one,two"}
    ]


def test_unknown_names_exit_2_and_missing_files_3(tmp_path: Path) -> None:
    """Usage errors list what is known; a missing file is refused input."""
    fleet = _tango("trace", "generate", "p3", "--fleet", "dmeo", "--out", "x.csv", cwd=tmp_path)
    ending = _tango("trace", "generate", "p3", "--out", "x.txt", cwd=tmp_path)
    missing = _tango("trace", "info", "none.csv", cwd=tmp_path)

    assert (fleet.returncode, ending.returncode, missing.returncode) == (2, 2, 3)
    assert "known fleets: bench, " in fleet.stderr
    assert ".csv, .csv.gz, .parquet" in ending.stderr
    assert "no such file" in missing.stderr


def test_the_bench_measures_a_generated_file_beside_arrow(tmp_path: Path) -> None:
    """Rows carry value, unit and yardstick of the same run; the generated file has the shape of Google's."""
    path = tmp_path / "task_events.csv.gz"
    write_like_google(path, 6000)
    rows = [figure.as_row() for figure in measure(path, repeats=1)]

    assert [row["unit"] for row in rows] == ["s", "1/s", "MiB"]
    assert all(row["value"] > 0 and row["ratio"] > 0 for row in rows)
    reading = read_trace(path)
    assert (reading.format, reading.rows) == ("google2011", 6000)
    assert 0 < info_of(reading).lc < info_of(reading).be
