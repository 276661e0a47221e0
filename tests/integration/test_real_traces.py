from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tango.bench.trace_reading import measure
from tango.fleets import load_fleet
from tango.traces import info_of, read_trace
from tango.traces.mapping import map_trace, speed_warning
from tango.traces.transforms import cut, rescale_work

GOOGLE_2011 = "google2011_task_events_t0-3600s.csv.gz"


def _real(traces_dir: Path, name: str) -> Path:
    path = traces_dir / name
    if not path.exists():
        pytest.skip(f"{name} is not in TANGO_TRACES_DIR")
    return path


def test_google_2011_counts_tasks_once(traces_dir: Path) -> None:
    """41,460 SUBMIT rows after time 0, of which 3,697 are resubmissions: 37,763 requests."""
    reading = read_trace(_real(traces_dir, GOOGLE_2011))
    info = info_of(reading)

    assert (reading.format, reading.rows) == ("google2011", 399_998)
    assert (info.requests, info.lc, info.be, info.bad_rows) == (41_460 - 3_697, 1_042, 36_721, 0)
    assert 600.0 <= reading.trace.arrival_s[0] < 601.0
    assert reading.trace.arrival_s[-1] < 3600.0


def test_the_first_twenty_minutes_fit_the_demo_fleet(traces_dir: Path) -> None:
    """Trace time 600 to 1,800 s at BE work 3 s offers the demo fleet between a third and three quarters of its cores."""
    trace = rescale_work(cut(read_trace(_real(traces_dir, GOOGLE_2011)).trace, 600, 1800), be_work_s=3.0)
    fleet = load_fleet("demo")
    requests = map_trace(trace, fleet, seed=1, speed=2.0)
    cores = sum(node.cpu_millicores for cluster in fleet.clusters for node in cluster.nodes) / 1000

    assert len(requests) == 14_976
    assert 0.33 < requests.cpu_work_s.sum() / requests.due_s[-1] / cores < 0.75
    assert np.bincount(requests.service_class).tolist() == [315, 14_661]
    assert set(requests.cluster.tolist()) == {0, 1, 2}
    assert speed_warning(requests) is None
    assert requests.memory_mib.max() <= max(node.memory_mib for cluster in fleet.clusters for node in cluster.nodes)


def test_google_2011_takes_less_than_500_mb(traces_dir: Path) -> None:
    """Peak memory of 400,000 rows in a process of their own, libraries included; `tango bench traces` tells the seconds."""
    _, _, peak = measure(_real(traces_dir, GOOGLE_2011), repeats=1)

    assert peak.value * 1.048576 < 500


def test_google_2019_sample_gives_classes_and_no_lives(traces_dir: Path) -> None:
    """A sample of rows: 5,997 SUBMIT rows of jobs, no work, and the reading says so."""
    reading = read_trace(_real(traces_dir, "google2019_instance_sample_cells1-2.csv.gz"))

    assert (reading.format, reading.rows) == ("google2019", 87_126)
    assert 0 < len(reading.trace) <= 5_997
    assert np.isnan(reading.trace.cpu_work_s).all()
    assert "random sample" in reading.notes[0]


def test_azure_llm_2023_is_latency_critical_at_its_recorded_rate(traces_dir: Path) -> None:
    """19,366 requests in 3,502 s, CV of gaps 1.09."""
    trace = read_trace(_real(traces_dir, "azure_llm2023_conv.csv.gz")).trace
    gaps = np.diff(trace.arrival_s)

    assert len(trace) == 19_366
    assert trace.span_s == pytest.approx(3502, abs=1)
    assert gaps.std() / gaps.mean() == pytest.approx(1.09, abs=0.01)
    assert not trace.service_class.any()


def test_alibaba_2018_is_best_effort(traces_dir: Path) -> None:
    """20,000 tasks from 86,207 s to 389,738 s; 47 without an end and 50 without a plan have no work."""
    trace = read_trace(_real(traces_dir, "alibaba2018_batch_task_kais_task1.csv.gz")).trace

    assert len(trace) == 20_000
    assert (trace.arrival_s[0], trace.arrival_s[-1]) == (86_207.0, 389_738.0)
    assert trace.service_class.all()
    assert np.isnan(trace.cpu_work_s).sum() >= 50
