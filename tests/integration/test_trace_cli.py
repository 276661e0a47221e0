from __future__ import annotations

import csv
import json
import os
import subprocess
from pathlib import Path

import pytest

from tango.bench.trace_reading import measure, write_like_google
from tango.fleets import load_fleet
from tango.traces import info_of, read_trace
from tango.traces.workloads import fleet_cores
from tests.commands import run_tango


def _tango(*args: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_tango([*map(str, args)], environment=os.environ, folder=cwd)


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


def test_generate_reaches_a_load_of_a_fleet(tmp_path: Path) -> None:
    """Requests, works and their split follow from the load; the figures name it."""
    command = "trace generate p3 --fleet testbed --load 0.9 --duration 100 --seed 7 --out p3.csv.gz -o json"
    done = _tango(*command.split(), cwd=tmp_path)
    fleet = load_fleet("testbed")
    trace = read_trace(tmp_path / "p3.csv.gz", fleet=fleet).trace

    figures = json.loads(done.stdout)
    assert figures["offered_load"] == pytest.approx(0.9, abs=1e-6)
    assert (figures["lc_load"], figures["be_load"]) == (pytest.approx(0.36, abs=1e-6), pytest.approx(0.54, abs=1e-6))
    assert figures["requests"] == len(trace)
    assert trace.cpu_work_s.sum() == pytest.approx(0.9 * fleet_cores(fleet) * 100)


def test_compose_joins_two_sources(tmp_path: Path) -> None:
    """LC of a file in two parts, BE of a pattern; equal commands give equal bytes and another seed others."""
    (tmp_path / "a.csv").write_text("arrival_s,class\n" + "".join(f"{t},lc\n" for t in range(50)))
    (tmp_path / "b.csv").write_text("arrival_s,class\n" + "".join(f"{t + 0.25},lc\n" for t in range(50, 90)))
    command = "trace compose --lc a.csv --lc b.csv --be borg --fleet demo --load 0.5 --lc-load-share 0.3 --duration 60 -o json"
    bytes_of = []
    for name, seed in (("x.csv", 1), ("y.csv", 1), ("z.csv", 2)):
        done = _tango(*command.split(), "--seed", str(seed), "--hotspots", "1", "--out", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        bytes_of.append((tmp_path / name).read_bytes())
    figures = json.loads(done.stdout)

    assert bytes_of[0] == bytes_of[1] != bytes_of[2]
    assert (figures["lc"], figures["be"]) == (round(0.15 * 4320 / 0.04125), round(0.35 * 4320 / 3))
    assert (figures["lc_load"], figures["be_load"]) == (pytest.approx(0.15, abs=1e-6), pytest.approx(0.35, abs=1e-6))


def test_compose_as_recorded_is_the_file(tmp_path: Path) -> None:
    """Without a load and without redrawing the window of the file comes out, counted from its begin."""
    (tmp_path / "t.csv").write_text("arrival_s,class\n" + "".join(f"{100 + t},{'lc' if t % 3 else 'be'}\n" for t in range(60)))
    command = "trace compose --lc t.csv --be t.csv --fleet demo --duration 20 --from 30 --as-recorded --out out.csv"
    done = _tango(*command.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trace = read_trace(tmp_path / "out.csv").trace

    assert trace.arrival_s.tolist() == list(range(20))
    assert trace.service_class.tolist() == [0 if t % 3 else 1 for t in range(30, 50)]


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("generate p3 --load 0.5 --out x.csv", 2, "expected also --fleet NAME"),
        ("generate p3 --load 0.5 --fleet demo --rate 5 --out x.csv", 2, "--rate has no meaning with --load"),
        ("generate p3 --lc-load-share 0.5 --out x.csv", 2, "--lc-load-share has no meaning without --load"),
        ("generate p3 --hotspot-factor 2 --out x.csv", 2, "--hotspot-factor has no meaning without --hotspots"),
        ("generate p3 --hotspots 3 --out x.csv", 2, "expected fewer than the 3 entry clusters"),
        ("compose --lc p3 --fleet demo --out x.csv", 2, "has no rate of its own, expected a load"),
        ("compose --lc p5 --fleet demo --load 1 --out x.csv", 2, "'p5' is no pattern; known patterns: p1, p2, p3, borg"),
        ("compose --lc be.csv --fleet demo --out x.csv", 3, "be.csv has no lc request"),
        ("compose --be be.csv --from 900 --fleet demo --out x.csv", 3, "no be request arrives from 900 to 1200 s"),
    ],
)
def test_what_cannot_be_composed_is_refused(tmp_path: Path, command: str, status: int, message: str) -> None:
    """With the exit status of a usage error or of refused input, and nothing is written."""
    (tmp_path / "be.csv").write_text("arrival_s,class\n0,be\n1,be\n")
    done = _tango("trace", *command.split(), cwd=tmp_path)

    assert done.returncode == status
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "x.csv").exists()


def test_counts_per_minute_are_cut_before_they_are_expanded(tmp_path: Path) -> None:
    """A file of a billion requests gives one of its quiet minutes; the whole of it is refused with what can be done."""
    rows = ["1998-06-01 12:00:00,1000000000", "1998-06-01 12:01:00,40", "1998-06-01 12:02:00,50"]
    (tmp_path / "wc.csv").write_text("period,count\n" + "\n".join(rows) + "\n")
    info = _tango("trace", "info", "wc.csv", "-o", "json", cwd=tmp_path)
    whole = _tango("trace", "convert", "wc.csv", "out.csv", cwd=tmp_path)
    part = _tango("trace", "convert", "wc.csv", "out.csv", "--from", "60", "--to", "180", "-o", "json", cwd=tmp_path)

    assert json.loads(info.stdout)["requests"] == 1_000_000_090
    assert whole.returncode == 3
    assert "--from and --to" in whole.stderr
    assert json.loads(part.stdout)["requests"] == 90


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
