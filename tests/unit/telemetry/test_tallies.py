"""Counting in files that outlive their processes: nothing is lost, and there are no more files than processes at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tango.exporter.processes import counted
from tango.telemetry import catalogue as of
from tango.telemetry import tallies
from tango.telemetry.catalogue import OTHER
from tango.telemetry.slots import FILE_BYTES, MOST_PROCESSES, read_slots, take

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where this process counts for the time of a test."""
    tallies.end()
    assert tallies.begin(str(tmp_path)) is not None
    yield tmp_path
    tallies.end()


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run this in a process of its own that counts in the folder."""
    told = {**os.environ, tallies.METRICS_DIR: str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, timeout=100, check=False)


def test_counts_gauges_and_histograms_are_read_by_others(folder: Path) -> None:
    """At once, without anything being written by a call: the memory is the file."""
    tallies.count(of.SERVICE_REQUESTS, "web", "late")
    tallies.count(of.SERVICE_REQUESTS, "web", "late", by=2.0)
    tallies.put(of.GATEWAY_INSIDE, value=7.0)
    tallies.observe(of.RESIZE, values=[0.05, 0.06, 99.0])

    found = counted(folder)
    assert found.value(of.SERVICE_REQUESTS, "web", "late") == 3.0
    assert found.value(of.GATEWAY_INSIDE) == 7.0
    # A value on a bound is within it; beyond the last one there is the infinite bucket, and then the sum.
    assert found.series(of.RESIZE)[()] == [1.0, 1.0, *[0.0] * 8, 1.0, pytest.approx(99.11)]


def test_a_thousand_restarts_leave_one_file_and_lose_no_count(tmp_path: Path) -> None:
    """Each successor goes on where the one before stopped."""
    for _ in range(1000):
        tallies.end()
        assert tallies.begin(str(tmp_path)) is not None
        tallies.count(of.EVICTIONS, "evicted")
    tallies.end()

    assert [path.name for path in tmp_path.iterdir()] == ["0.tally"]
    assert counted(tmp_path).value(of.EVICTIONS, "evicted") == 1000.0
    assert (tmp_path / "0.tally").stat().st_blocks * 512 < 64 << 10


def test_a_killed_process_leaves_its_file_and_its_counts_to_the_next(tmp_path: Path) -> None:
    """However they end, here every other one by a SIGKILL: the kernel gives the file back."""
    code = """
import os, signal
from tango.telemetry import catalogue, tallies
for k in range(30):
    if (pid := os.fork()) == 0:
        tallies.count(catalogue.EVICTIONS, "evicted")
        os.kill(os.getpid(), signal.SIGKILL) if k % 2 else os._exit(0)
    os.waitpid(pid, 0)
"""
    done = python(code, tmp_path)

    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["0.tally"]
    assert counted(tmp_path).value(of.EVICTIONS, "evicted") == 30.0


def test_forks_of_one_process_count_beside_each_other(tmp_path: Path) -> None:
    """As the children of a prefork pool: each in a file of its own, their parent too, and all in one sum."""
    code = """
import os
from tango.telemetry import catalogue, tallies
tallies.count(catalogue.EVICTIONS, "evicted")
read, write = os.pipe()
children = []
for _ in range(4):
    if (pid := os.fork()) == 0:
        for _ in range(500):
            tallies.count(catalogue.EVICTIONS, "evicted")
        os.close(write)
        os.read(read, 1)  # none ends before all have counted
        os._exit(0)
    children.append(pid)
for _ in range(500):
    tallies.count(catalogue.EVICTIONS, "evicted")
os.close(write)
for pid in children:
    os.waitpid(pid, 0)
"""
    done = python(code, tmp_path)

    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) == 5
    assert counted(tmp_path).value(of.EVICTIONS, "evicted") == 2501.0


def test_threads_lose_no_count(folder: Path) -> None:
    """An addition reads and writes; a lock is around both."""
    threads = [threading.Thread(target=lambda: [tallies.count(of.EVICTIONS, "evicted") for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counted(folder).value(of.EVICTIONS, "evicted") == 20_000.0


def test_the_gauges_of_a_process_that_has_ended_are_0_and_its_counters_stay(tmp_path: Path) -> None:
    """A worker that was killed is up no more, though its file says so; what it counted happened."""
    code = """
from tango.telemetry import catalogue, tallies
tallies.put(catalogue.WORKER_UP, "worker-1", value=1.0)
tallies.count(catalogue.EVICTIONS, "evicted")
"""
    assert python(code, tmp_path).returncode == 0

    found = counted(tmp_path)
    assert found.value(of.WORKER_UP, "worker-1") == 0.0
    assert found.value(of.EVICTIONS, "evicted") == 1.0


def test_names_from_outside_cannot_let_a_scrape_grow(folder: Path) -> None:
    """What comes beyond the most series of a metric is counted under `other`, and that it is."""
    for k in range(2 * tallies.MOST_SERIES):
        tallies.count(of.SERVICE_REQUESTS, f"service-{k}", "late")

    found = counted(folder)
    assert len(found.series(of.SERVICE_REQUESTS)) == tallies.MOST_SERIES
    assert found.value(of.SERVICE_REQUESTS, OTHER, OTHER) == tallies.MOST_SERIES + 1.0
    assert found.value(of.SERIES_FOLDED) == tallies.MOST_SERIES + 1.0


def test_a_file_of_another_version_is_begun_anew(tmp_path: Path) -> None:
    """Its metrics may mean something else; so is one that is no such file at all."""
    for content in (b"", b"something else", b"TANGOTL1" + b"\xff" * 5000, os.urandom(FILE_BYTES + 5)):
        (tmp_path / "0.tally").write_bytes(content)
        assert list(read_slots(tmp_path)) == []

        slot = take(tmp_path)
        assert slot is not None
        assert slot.places == {}
        assert slot.add(("tango_evictions_total", "evicted"), 1) is not None
        slot.close()
        assert [(m.name, labels, values) for m, labels, values, _ in read_slots(tmp_path)] == [
            ("tango_evictions_total", ("evicted",), (0.0,))
        ]


def test_a_full_file_takes_no_more_and_breaks_nothing(tmp_path: Path) -> None:
    """A series that finds no place is not counted, nor told wrongly."""
    slot = take(tmp_path)
    assert slot is not None
    names = iter(range(10**6))
    while slot.add(("tango_evictions_total", "x" * 5000 + str(next(names))), 1) is not None:
        pass

    assert slot.add(("tango_evictions_total", "x" * 5000), 1) is None
    assert len(list(read_slots(tmp_path))) == len(slot.places)
    slot.close()


def test_more_processes_than_files_count_for_nobody(tmp_path: Path) -> None:
    """Rather than in one file together."""
    held = [take(tmp_path) for _ in range(MOST_PROCESSES)]

    assert take(tmp_path) is None
    for slot in held:
        assert slot is not None
        slot.close()


def test_nothing_is_counted_where_no_folder_is_named_or_it_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and tests are no processes of a stack; one whose folder cannot be written to goes on without."""
    (tmp_path / "file").write_text("")
    for named in ("", str(tmp_path / "file" / "metrics")):
        monkeypatch.setenv(tallies.METRICS_DIR, named)
        tallies.end()
        tallies.count(of.EVICTIONS, "evicted")
        assert tallies.begin() is None
    tallies.end()
