from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tango.bench.trace_reading import measure
from tango.errors import RequestRejected
from tango.fleets import load_fleet
from tango.traces import info_of, read_trace
from tango.traces.mapping import map_trace, speed_warning
from tango.traces.rate_curve import RateCurve
from tango.traces.transforms import cut, rescale_work, select
from tango.traces.workloads import Workload, draw_requests, offered_load

GOOGLE_2011 = "google2011_task_events_t0-3600s.csv.gz"
WORLD_CUP = "worldcup98_requests_per_minute_to_jun20.csv.gz"
AZURE = "azure_llm2023_conv.csv.gz"


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


@pytest.mark.parametrize(
    ("file", "format", "requests", "lc"),
    [
        ("alibaba2017_batch_task_t0-30000s.csv.gz", "alibaba2017", 30_766, 0),
        ("alibaba_genai2026_requests_to_nov30.csv.gz", "alibaba-genai2026", 14_279, 14_279),
        ("alibaba_gpu2023_pods_0000-4999.csv.gz", "alibaba-gpu2023", 5_000, 2_606),
        ("azure_functions2019_invocations_500fn_a.csv.gz", "azure-functions2019", 4_265_886, 4_265_886),
        ("azure_functions2021_invocations_first998.csv.gz", "azure-functions2021", 998, 592),
        ("google2011_job_events_parts000-017.csv.gz", "google2011-jobs", 20_592, 5_072),
    ],
)
def test_every_file_with_arrivals_is_read(traces_dir: Path, file: str, format: str, requests: int, lc: int) -> None:
    """Told by its content, without a bad row, with as many requests as its description counts."""
    reading = read_trace(_real(traces_dir, file))
    info = info_of(reading)

    assert (reading.format, info.requests, info.lc, info.bad_rows) == (format, requests, lc, 0)


def test_the_works_of_real_traces_are_those_that_are_described(traces_dir: Path) -> None:
    """Medians: 23 s of execution, 0.25 s of invocations; batch tasks of 2017 need less than a core-hour in nine of ten cases."""
    genai = read_trace(_real(traces_dir, "alibaba_genai2026_requests_to_nov30.csv.gz")).trace
    functions = read_trace(_real(traces_dir, "azure_functions2021_invocations_first998.csv.gz")).trace
    batch = read_trace(_real(traces_dir, "alibaba2017_batch_task_t0-30000s.csv.gz")).trace

    assert np.nanmedian(genai.cpu_work_s) == pytest.approx(23, abs=2)
    assert np.median(np.nan_to_num(functions.cpu_work_s)) == pytest.approx(0.25, abs=0.01)
    assert np.nanquantile(batch.cpu_work_s, 0.9) < 3600.0


@pytest.mark.parametrize("table", ["durations", "memory"])
def test_a_table_of_figures_says_what_service_it_describes(traces_dir: Path, table: str) -> None:
    """It has no arrivals, which is said, with the figures that a service of it has."""
    with pytest.raises(RequestRejected, match=r"no arrivals: 500 .* a service of them has (cpu_work_s: 19|memory_mib: 1873)"):
        read_trace(_real(traces_dir, f"azure_functions2019_{table}_500fn_a.csv.gz"))


def test_a_map_reads_what_the_reader_of_the_format_reads(traces_dir: Path) -> None:
    """The same requests, in seconds from the first: `docs/traces.md` has the expression."""
    file = _real(traces_dir, "azure_functions2021_invocations_first998.csv.gz")
    map = "arrival_s=end_timestamp - duration,class='lc' if duration < 1 else 'be',cpu_work_s=duration,cluster='~' + app"

    mapped, read = read_trace(file, map=map).trace, read_trace(file).trace

    np.testing.assert_allclose(mapped.arrival_s, read.arrival_s - read.arrival_s[0], atol=1e-9)
    np.testing.assert_array_equal(mapped.service_class, read.service_class)
    np.testing.assert_array_equal(mapped.cpu_work_s, read.cpu_work_s)
    assert [mapped.clusters[c] for c in mapped.cluster] == [read.clusters[c] for c in read.cluster]


def test_the_world_cup_s_counts_are_read_and_not_expanded(traces_dir: Path) -> None:
    """574,934,701 requests in 73,580 minutes, the busiest with 2,565 a second."""
    reading = read_trace(_real(traces_dir, WORLD_CUP))
    curve = reading.content
    assert isinstance(curve, RateCurve)

    assert (reading.format, reading.rows, info_of(reading).requests) == ("worldcup98", 73_580, 574_934_701)
    assert round(curve.count.max() / 60) == 2565
    # 1998-04-30 21:30 to 1998-06-20 24:00: 51 days, 2 h 30 min.
    assert info_of(reading).span_s == 51 * 86400 + 9000


def test_an_hour_of_the_world_cup_has_its_counts(traces_dir: Path) -> None:
    """Cut before it is expanded; each minute has the recorded count."""
    curve = read_trace(_real(traces_dir, WORLD_CUP)).content
    assert isinstance(curve, RateCurve)
    begin_s = 45 * 86400.0

    trace = select(curve, from_s=begin_s, to_s=begin_s + 3600, seed=1)

    recorded = curve.count[(curve.begin_s >= begin_s) & (curve.begin_s < begin_s + 3600)]
    assert np.bincount((trace.arrival_s // 60).astype(int)).tolist() == recorded.tolist()


@pytest.mark.parametrize(
    ("lc", "be"), [(GOOGLE_2011, GOOGLE_2011), (AZURE, GOOGLE_2011), (WORLD_CUP, "alibaba2018_batch_task_kais_task1.csv.gz")]
)
def test_real_traces_are_scaled_to_a_load_and_redrawn(traces_dir: Path, lc: str, be: str) -> None:
    """Of the fleet's CPU in both classes, within 1 %, and another seed draws other arrivals."""
    sources = [(str(_real(traces_dir, name)),) for name in (lc, be)]
    workload = Workload(lc=sources[0], be=sources[1], duration_s=300.0, load=0.9)
    fleet = load_fleet("demo")
    first, second = (draw_requests(workload, fleet, seed) for seed in (1, 2))
    work_s = np.bincount(first.service_class, first.cpu_work_s)

    assert offered_load(first, fleet, 300.0) == pytest.approx(0.9, rel=0.01)
    assert work_s[0] / work_s.sum() == pytest.approx(0.4, rel=0.01)
    assert len(first) == len(second)
    assert not np.array_equal(first.due_s, second.due_s)


def test_google_as_recorded_keeps_its_first_twenty_minutes(traces_dir: Path) -> None:
    """Trace time 600 to 1,800 s has 14,976 requests, 315 of them LC, with the lives that were recorded."""
    source = (str(_real(traces_dir, GOOGLE_2011)),)
    workload = Workload(lc=source, be=source, duration_s=1200.0, resample=False)
    requests = draw_requests(workload, load_fleet("demo"), 1)

    assert np.bincount(requests.service_class).tolist() == [315, 14_661]


def test_a_redrawn_google_trace_is_as_bursty_as_the_recorded_one(traces_dir: Path) -> None:
    """The gaps of BE tasks: coefficients of variation of three seeds around that of the 50 minutes."""
    source = (str(_real(traces_dir, GOOGLE_2011)),)
    trace = read_trace(source).trace
    gaps = np.diff(trace.arrival_s[trace.service_class == 1])
    recorded = gaps.std() / gaps.mean()

    redrawn = []
    for seed in (1, 2, 3):
        requests = draw_requests(Workload(lc=(), be=source, duration_s=3000.0), load_fleet("demo"), seed)
        gaps = np.diff(requests.due_s)
        redrawn.append(gaps.std() / gaps.mean())

    assert np.mean(redrawn) == pytest.approx(recorded, rel=0.25)
