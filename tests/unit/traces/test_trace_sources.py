from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.errors import BadRows, RequestRejected
from tango.fleets import load_fleet
from tango.traces import write_trace
from tango.traces.trace_sources import content_of
from tango.traces.workloads import Workload, draw_requests, offered_load
from tests.long import example_count

DEMO = load_fleet("demo")
LC, BE = int(ServiceClass.LC), int(ServiceClass.BE)


def _write(
    path: Path,
    n: int = 600,
    *,
    classes: tuple[int, ...] = (LC, BE, LC),
    span_s: float = 100.0,
    clusters: tuple[str, ...] = ("",),
    work: bool = True,
    begin_s: float = 600.0,
) -> tuple[str, ...]:
    rng = np.random.default_rng(8)
    service_class = np.resize(np.array(classes, np.int8), n)
    trace = Trace(
        arrival_s=np.round(begin_s + np.concatenate(([0.0], np.sort(rng.random(n - 2) * span_s), [span_s])), 6),
        service_class=service_class,
        service=np.zeros(n, np.int32),
        cluster=(np.arange(n) % len(clusters)).astype(np.int32),
        cpu_work_s=np.where(service_class == BE, rng.lognormal(3, 1, n), np.nan) if work else np.full(n, np.nan),
        memory_mib=np.full(n, np.nan),
        services=("",),
        clusters=clusters,
    )
    write_trace(trace, path)
    return (str(path),)


def _of(files: tuple[str, ...], **options) -> Workload:
    return Workload(**{"lc": files, "be": files, "duration_s": 100.0, **options})


def _of_class(requests: NewRequests, service_class: int) -> np.ndarray:
    return requests.due_s[requests.service_class == service_class]


def test_a_trace_as_recorded_is_the_trace(tmp_path: Path) -> None:
    """Without resampling and load the window's arrivals, classes and works are the file's; the window counts from its first
    arrival.
    """
    files = _write(tmp_path / "t.csv")
    trace = content_of(files)
    assert isinstance(trace, Trace)

    requests = draw_requests(_of(files, resample=False, duration_s=40.0, from_s=20.0), DEMO, 1)

    inside = (trace.arrival_s >= 620) & (trace.arrival_s < 660)
    np.testing.assert_allclose(requests.due_s, trace.arrival_s[inside] - 620, atol=1e-6)
    np.testing.assert_array_equal(requests.service_class, trace.service_class[inside])
    be = trace.service_class[inside] == BE
    np.testing.assert_array_equal(requests.cpu_work_s[be], trace.cpu_work_s[inside][be])


def test_a_short_trace_goes_round(tmp_path: Path) -> None:
    """As recorded it comes again after its span and one mean gap, closed to a circle."""
    files = _write(tmp_path / "t.csv", 101, span_s=10.0)
    requests = draw_requests(_of(files, resample=False, duration_s=30.25), DEMO, 1)

    assert len(requests) == 303
    np.testing.assert_allclose(requests.due_s[101:202], requests.due_s[:101] + 10.1, atol=2e-6)


def test_a_seed_redraws_arrivals_entries_and_services(tmp_path: Path) -> None:
    """Equal seeds give equal requests; others have other blocks, clusters and services, and about as many requests."""
    files = _write(tmp_path / "t.csv", work=False)
    first, again, other = (draw_requests(_of(files), DEMO, seed) for seed in (1, 1, 2))

    assert np.array_equal(first.due_s, again.due_s)
    assert np.array_equal(first.cluster, again.cluster)
    assert not np.array_equal(first.due_s[:50], other.due_s[:50])
    for name in ("cluster", "service"):
        assert not np.array_equal(getattr(first, name)[:50], getattr(other, name)[:50])
    # Five blocks of a Poisson count of 120: standard deviation of the sum below 35.
    assert len(first) == pytest.approx(600, abs=120)
    assert first.due_s[0] >= 0
    assert first.due_s[-1] <= 100


def test_gaps_within_a_block_are_recorded_gaps(tmp_path: Path) -> None:
    """Of all gaps only those where two blocks meet are new."""
    files = _write(tmp_path / "t.csv")
    trace = content_of(files)
    assert isinstance(trace, Trace)
    recorded = np.round(np.diff(trace.arrival_s), 6)
    recorded = np.append(recorded, np.round(100.0 / 599, 6))  # closes the circle

    gaps = np.round(np.diff(draw_requests(_of(files), DEMO, 3).due_s), 6)

    known = np.abs(gaps[:, None] - recorded[None, :]).min(axis=1) < 2.5e-6
    assert np.count_nonzero(~known) <= 5


def test_classes_of_one_file_share_their_blocks(tmp_path: Path) -> None:
    """Where each BE request came with an LC request 1 ms later, so it does in every redrawing."""
    path = tmp_path / "pairs.csv"
    at = 5 * np.arange(100) + np.random.default_rng(1).random(100)
    rows = "".join(f"{t:.6f},be\n{t + 0.001:.6f},lc\n" for t in at)
    path.write_text("arrival_s,class\n" + rows)

    requests = draw_requests(_of((str(path),), duration_s=400.0), DEMO, 5)

    lc, be = _of_class(requests, LC), _of_class(requests, BE)
    apart = np.abs(lc[:, None] - be[None, :] - 0.001).min(axis=1)
    assert len(lc) > 60
    # A block's edge can part a pair.
    assert np.count_nonzero(apart > 1e-5) <= 7


@given(
    load=st.floats(0.02, 3.0),
    share=st.floats(0.05, 0.95),
    duration_s=st.floats(20.0, 400.0),
    resample=st.booleans(),
    work=st.booleans(),
    seed=st.integers(0, 2**63),
)
@settings(deadline=None, max_examples=example_count(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_load_is_reached_by_number_and_work(
    tmp_path: Path, load: float, share: float, duration_s: float, resample: bool, work: bool, seed: int
) -> None:
    """More requests than the trace has are copies, fewer are thinned; both classes offer their part of the load."""
    files = _write(tmp_path / f"{work}.csv", work=work)
    workload = _of(files, load=load, lc_load_share=share, duration_s=duration_s, resample=resample)
    requests = draw_requests(workload, DEMO, seed)
    wanted_s = load * 72 * duration_s * np.array([share, 1 - share])

    assert offered_load(requests, DEMO, duration_s) == pytest.approx(load, rel=0.01)
    np.testing.assert_allclose(np.bincount(requests.service_class, requests.cpu_work_s, minlength=2), wanted_s, rtol=0.01)
    assert np.bincount(requests.service_class).tolist() == [max(1, round(wanted_s[0] / 0.04125)), max(1, round(wanted_s[1] / 3.0))]
    assert np.all((requests.due_s >= 0) & (requests.due_s <= duration_s + 1e-6))


def test_superposed_copies_keep_the_shape_of_the_rate(tmp_path: Path) -> None:
    """As recorded, a trace with all arrivals in its first half keeps them mostly there when thinned."""
    path = tmp_path / "half.csv"
    times = np.sort(np.random.default_rng(2).random(4000)) * 50
    path.write_text("arrival_s,class\n0,lc\n" + "".join(f"{t:.6f},lc\n" for t in times) + "100,lc\n")
    workload = Workload(lc=(str(path),), be=(), duration_s=100.0, load=0.01, resample=False)

    requests = draw_requests(workload, DEMO, 1)

    assert len(requests) == round(0.01 * 7200 / 0.04125)
    assert np.count_nonzero(requests.due_s > 50.001) <= 1


def test_redrawing_a_bursty_trace_keeps_its_bursts(tmp_path: Path) -> None:
    """Coefficient of variation of the gaps: about that of the trace, far from 1 of chance, also when thinned to a half."""
    rng = np.random.default_rng(6)
    times = np.sort((rng.random(120)[:, None] * 2000 + rng.exponential(0.01, (120, 50)).cumsum(axis=1)).ravel())
    path = tmp_path / "bursts.csv"
    path.write_text("arrival_s,class\n" + "".join(f"{t:.6f},be\n" for t in times))

    def cv(values: np.ndarray) -> float:
        gaps = np.diff(values)
        return float(gaps.std() / gaps.mean())

    whole = draw_requests(Workload(lc=(), be=(str(path),), duration_s=2000.0), DEMO, 1)
    half = draw_requests(Workload(lc=(), be=(str(path),), duration_s=2000.0, load=3000 * 3 / 72 / 2000), DEMO, 1)

    assert len(half) == 3000
    assert cv(whole.due_s) == pytest.approx(cv(times), rel=0.25)
    assert cv(half.due_s) > 4


def test_jobs_enter_at_one_cluster_and_their_copies_elsewhere(tmp_path: Path) -> None:
    """An origin's requests of one copy stay together; a seed or another copy takes them to another cluster."""
    files = _write(tmp_path / "jobs.csv", clusters=tuple(f"~{job}" for job in range(40)), classes=(BE,))
    one, other = (draw_requests(Workload(lc=(), be=files, duration_s=100.5, resample=False), DEMO, seed).cluster for seed in (1, 2))

    assert len(one) >= 600
    for job in range(40):
        assert len(set(one[job:600:40].tolist())) == 1
    assert not np.array_equal(one[:40], other[:40])
    assert set(one.tolist()) == {0, 1, 2}
    lone = _write(tmp_path / "job.csv", clusters=("~job",), classes=(BE,))
    single, many = (draw_requests(Workload(lc=(), be=lone, duration_s=100.0, load=load), DEMO, 1) for load in (0.2, 8.0))
    assert len(set(single.cluster.tolist())) == 1
    assert set(many.cluster.tolist()) == {0, 1, 2}


def test_named_entries_stay(tmp_path: Path) -> None:
    """A trace that names the fleet's clusters says where its requests enter."""
    files = _write(tmp_path / "named.csv", clusters=("c2",))

    assert set(draw_requests(_of(files, load=0.5), DEMO, 1).cluster.tolist()) == {1}


def test_two_files_have_excerpts_of_their_own(tmp_path: Path) -> None:
    """Each class comes from its file, from its own offset."""
    lc = _write(tmp_path / "lc.csv", classes=(LC,))
    be = _write(tmp_path / "be.csv", 60, classes=(BE,), begin_s=0.0, span_s=500.0)
    workload = Workload(lc=lc, be=be, duration_s=50.0, resample=False, from_s=10.0, be_from_s=300.0)
    requests = draw_requests(workload, DEMO, 1)
    trace = content_of(be)
    assert isinstance(trace, Trace)

    inside = (trace.arrival_s >= 300) & (trace.arrival_s < 350)
    np.testing.assert_allclose(_of_class(requests, BE), trace.arrival_s[inside] - 300, atol=1e-6)
    assert len(_of_class(requests, LC)) == pytest.approx(300, abs=80)


def test_a_file_without_the_class_is_refused(tmp_path: Path) -> None:
    """A BE trace cannot be a source of LC requests, and the message says which file it is."""
    be = _write(tmp_path / "be.csv", classes=(BE,))
    curve = tmp_path / "curve.csv"
    curve.write_text("period,count\n1998-04-30 21:30:00,2\n")

    with pytest.raises(RequestRejected, match=r"be\.csv has no lc request"):
        draw_requests(_of(be), DEMO, 1)
    with pytest.raises(RequestRejected, match=r"curve\.csv has no be request"):
        draw_requests(Workload(lc=(), be=(str(curve),), duration_s=60.0), DEMO, 1)


def test_an_empty_excerpt_is_refused(tmp_path: Path) -> None:
    """With what was asked for and how long the trace is."""
    files = _write(tmp_path / "t.csv")

    with pytest.raises(
        RequestRejected, match=r"no lc request arrives from 200 to 300 s after the first arrival; the trace spans 100 s"
    ):
        draw_requests(_of(files, from_s=200.0), DEMO, 1)


def test_a_missing_file_and_a_foreign_cluster_are_refused(tmp_path: Path) -> None:
    """As when a trace is read or submitted."""
    with pytest.raises(BadRows, match=r"none\.csv: found no such file"):
        draw_requests(_of(("none.csv",)), DEMO, 1)
    files = _write(tmp_path / "t.csv", clusters=("elsewhere",))
    with pytest.raises(BadRows, match="expected c1 or c2 or c3, or a number from 1 to 3"):
        draw_requests(_of(files), DEMO, 1)


def test_a_handful_of_requests_is_not_blown_up_to_millions(tmp_path: Path) -> None:
    """Two LC requests are no process that a load of a million could be drawn from."""
    path = tmp_path / "two.csv"
    path.write_text("arrival_s,class\n0,lc\n1000,lc\n")

    with pytest.raises(RequestRejected, match="the excerpt has 2 lc requests, too few to draw"):
        draw_requests(Workload(lc=(str(path),), be=(), duration_s=20_000.0, load=0.9), DEMO, 1)


def test_counts_are_scaled_before_they_are_expanded(tmp_path: Path) -> None:
    """A curve of billions gives the requests of the load, more of them in its busy minute; without a load it gives its counts."""
    path = tmp_path / "curve.csv"
    minutes = [1_000_000_000, 3_000_000_000 // 3, 30, 10]
    path.write_text("period,count\n" + "".join(f"1998-04-30 21:3{k}:00,{c}\n" for k, c in enumerate(minutes)))
    few = Workload(lc=(str(path),), be=(), duration_s=120.0, from_s=120.0, resample=False)
    many = Workload(lc=(str(path),), be=(), duration_s=240.0, load=0.5, resample=False)

    counted, scaled = (draw_requests(w, DEMO, 1) for w in (few, many))

    assert len(counted) == 40
    # Binomial(40, 3/4): standard deviation 2.7.
    assert np.count_nonzero(counted.due_s < 60) == pytest.approx(30, abs=10)
    assert offered_load(scaled, DEMO, 240.0) == pytest.approx(0.5)
    assert np.count_nonzero(scaled.due_s > 120.1) == 0
    assert set(draw_requests(many, DEMO, 2).cluster.tolist()) == {0, 1, 2}


def test_a_resampled_curve_is_another_curve_of_the_same_mean(tmp_path: Path) -> None:
    """Ten blocks of a ten-minute curve: each seed another order, the mean over seeds that of the curve."""
    path = tmp_path / "curve.csv"
    path.write_text("period,count\n" + "".join(f"1998-04-30 21:3{k}:00,{100 * (k + 1)}\n" for k in range(10)))
    workload = Workload(lc=(str(path),), be=(), duration_s=600.0)
    drawn = [draw_requests(workload, DEMO, seed) for seed in range(200)]

    # Blocks have a standard deviation near 235; ten of them 740; the mean over 200 seeds 53.
    assert np.mean([len(requests) for requests in drawn]) == pytest.approx(5500, abs=265)
    first, second = (np.histogram(requests.due_s, 10, (0, 600))[0] for requests in drawn[:2])
    assert np.abs(first - second).max() > 150


def test_a_file_is_read_once_as_long_as_it_stays_the_same(tmp_path: Path) -> None:
    """Many seeds share one reading; a file that was written again is read again."""
    files = _write(tmp_path / "t.csv")
    first = content_of(files)

    assert content_of(files) is first
    _write(tmp_path / "t.csv", 300)
    os.utime(tmp_path / "t.csv", ns=(1, 1))
    assert len(content_of(files)) == 300
