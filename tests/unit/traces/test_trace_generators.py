from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.errors import UsageError
from tango.fleets import load_fleet
from tango.traces import borg_shape, read_trace, write_trace
from tango.traces.generators import PATTERNS, Recipe, generate
from tango.traces.hotspots import Hotspots
from tango.traces.own_format import encoded


def _make(pattern: str = "p3", **options) -> Trace:
    return generate(Recipe(**{"pattern": pattern, "rate_per_s": 50, "duration_s": 60, "seed": 9, **options}))


def _gap_cv(trace: Trace) -> float:
    gaps = np.diff(trace.arrival_s)
    return float(gaps.std() / gaps.mean())


def _roughness(trace: Trace, service_class: ServiceClass) -> float:
    """Variance over mean of counts per 0.1 s without their smooth trend: near 0 without chance, about 1 or more with it."""
    times = trace.arrival_s[trace.service_class == int(service_class)]
    counts = np.histogram(times, np.arange(0, 60.05, 0.1))[0]
    trend = np.convolve(np.pad(counts, 5, mode="edge"), np.full(11, 1 / 11), mode="valid")
    return float(np.var(counts - trend) / counts.mean())


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("ending", ["t.csv", "t.csv.gz", "t.parquet"])
def test_same_seed_same_bytes(pattern: str, ending: str) -> None:
    """Equal recipes give equal files; another seed gives another."""
    assert encoded(_make(pattern), ending) == encoded(_make(pattern), ending)
    assert encoded(_make(pattern), ending) != encoded(_make(pattern, seed=10), ending)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_counts_shares_and_mean_works_are_exact(pattern: str, tmp_path: Path) -> None:
    """3,000 requests, 2,100 of them LC, mean BE work 3 s, three clusters, all within the minute; the file reads back as such."""
    path = tmp_path / "t.csv"
    write_trace(_make(pattern, clusters=3, lc_share=0.7, be_work_s=3.0, lc_work_s=0.03), path)
    trace = read_trace(path).trace

    assert len(trace) == 3000
    assert np.bincount(trace.service_class).tolist() == [2100, 900]
    assert trace.cpu_work_s[trace.service_class == 1].mean() == pytest.approx(3.0, rel=1e-9)
    assert trace.cpu_work_s[trace.service_class == 0].mean() == pytest.approx(0.03, rel=1e-9)
    assert sorted(trace.clusters) == ["1", "2", "3"]
    assert np.bincount(trace.cluster).min() > 600
    assert trace.arrival_s[0] >= 0
    assert trace.arrival_s[-1] <= 60


@pytest.mark.parametrize(
    ("pattern", "lc_periodic", "be_periodic"), [("p1", True, False), ("p2", False, True), ("p3", False, False)]
)
def test_periodic_classes_have_no_chance_and_random_ones_have(pattern: str, lc_periodic: bool, be_periodic: bool) -> None:
    """Counts of a periodic class follow its wave; those of a random one scatter at least as Poisson counts do."""
    trace = _make(pattern, rate_per_s=200, lc_share=0.5)

    for service_class, periodic in ((ServiceClass.LC, lc_periodic), (ServiceClass.BE, be_periodic)):
        # A Poisson count has ratio 1, less the eleventh that the trend takes; rounding three even streams stays below 0.3.
        assert (_roughness(trace, service_class) < 0.5) == periodic


def test_periodic_rates_swing_as_stated() -> None:
    """The busiest tenth of a period has far more requests than the quietest: (1 + 0.8) / (1 - 0.8) at one cluster."""
    trace = _make("p1", lc_share=1.0, clusters=1, rate_per_s=500)
    counts = np.histogram(trace.arrival_s, np.arange(0, 60.5, 1.0))[0]

    assert counts.max() / 500 == pytest.approx(1.8, abs=0.08)
    assert counts.min() / 500 == pytest.approx(0.2, abs=0.08)
    assert np.array_equal(np.argsort(counts[:10]), np.argsort(counts[10:20])) or np.allclose(counts[:50], counts[10:60], atol=2)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_borg_has_the_burstiness_of_google_2011(seed: int) -> None:
    """CV of gaps 4.9, busiest second 3,154 of 41,460, many empty seconds, at the recorded rate and mix."""
    trace = _make("borg", rate_per_s=13.82, duration_s=3000, lc_share=0.0943, seed=seed)
    per_second = np.bincount(trace.arrival_s.astype(int), minlength=3000)

    assert len(trace) == 41460
    # Over 3,300 batches the CV of exponential gaps has a standard error near 2.5 %; four of them.
    assert _gap_cv(trace) == pytest.approx(borg_shape.GAP_CV, rel=0.10)
    # One draw of the largest of 3,300 lognormal batches: within a factor of three, and capped near the recorded share.
    assert 3154 / 3 < per_second.max() < 3154 * 1.3
    # Of 3,000 seconds exp(-1.1) = 33 % have no batch; standard error below 1 %.
    assert (per_second == 0).mean() == pytest.approx(math.exp(-41460 * borg_shape.BATCHES_PER_REQUEST / 3000), abs=0.04)


def test_borg_sizes_follow_the_lognormal_fits() -> None:
    """Median and 99 % of requests, 90 % of lives and the spread of works are those of the figures."""
    rng = np.random.default_rng(5)
    lc = borg_shape.works(ServiceClass.LC, 200_000, rng)
    be = borg_shape.works(ServiceClass.BE, 200_000, rng)
    memory = borg_shape.memories_mib(ServiceClass.BE, 200_000, rng) / borg_shape.MACHINE_MIB

    # A 99 % quantile of 200,000 lognormal values is known to about 1.5 %.
    assert np.quantile(lc, 0.99) / np.median(lc) == pytest.approx(0.25 / 0.025, rel=0.06)
    assert np.median(memory) == pytest.approx(0.0255, rel=0.02)
    assert np.quantile(memory, 0.99) == pytest.approx(0.175, rel=0.06)
    assert np.log(be).std() == pytest.approx(math.hypot(math.log(10) / 2.3263, math.log(1570 / 369) / 1.2816), rel=0.02)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_fleet_names_clusters_and_services(pattern: str) -> None:
    """Names are the fleet's, classes agree, and without stated works the means are the services'."""
    fleet = load_fleet("demo")
    trace = _make(pattern, fleet=fleet, rate_per_s=500)
    class_of = np.array([int(s.service_class) for s in fleet.services])
    be = trace.service_class == 1

    assert trace.clusters == ("c1", "c2", "c3")
    assert trace.services == tuple(s.name for s in fleet.services)
    assert np.array_equal(class_of[trace.service], trace.service_class)
    assert trace.cpu_work_s[be].mean() == pytest.approx(3.0, rel=0.1)
    assert set(trace.service.tolist()) == set(range(7))


def test_the_bench_mix_is_exact() -> None:
    """The bench fleet has no spread, so every LC request is 2 ms and every BE request 50 ms."""
    trace = _make("p3", fleet=load_fleet("bench"), lc_share=0.9)

    assert set(trace.cpu_work_s[trace.service_class == 0]) == {0.002}
    assert set(trace.cpu_work_s[trace.service_class == 1]) == {0.05}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "p4"}, "known patterns: p1, p2, p3, borg"),
        ({"rate_per_s": -1}, "rate_per_s is -1, expected a number above 0"),
        ({"duration_s": float("nan")}, "duration_s is nan"),
        ({"lc_share": 1.5}, "lc_share is 1.5, expected 0 to 1"),
        ({"rate_per_s": 1e9}, "expected 1 to 50000000 requests"),
        ({"fleet": load_fleet("demo"), "clusters": 4}, "clusters is 4, expected 1 to 3"),
        ({"be_work_s": 0.0}, "be_work_s is 0"),
    ],
)
def test_a_recipe_out_of_bounds_is_refused(options: dict, message: str) -> None:
    """What was found and what was expected."""
    with pytest.raises(UsageError, match=message):
        _make(**options)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_class_alone_and_a_single_request_work(pattern: str, share: float) -> None:
    """Edges of mix and size."""
    assert len(_make(pattern, lc_share=share)) == 3000
    assert len(_make(pattern, lc_share=share, rate_per_s=1, duration_s=1)) == 1


def test_hotspots_move_entries_and_nothing_else() -> None:
    """A generated trace with a flash crowd has the arrivals and works of the one without, in its own words in `source`."""
    plain, hot = _make(clusters=10), _make(clusters=10, hotspots=Hotspots(clusters=1, factor=10.0))
    sixth = hot.cluster[hot.arrival_s < 10]

    np.testing.assert_array_equal(plain.arrival_s, hot.arrival_s)
    np.testing.assert_array_equal(plain.cpu_work_s, hot.cpu_work_s)
    # Ten to nine: of some 500 requests in the first sixth 263 enter at one cluster, and 26 would else.
    assert np.bincount(sixth).max() > 0.4 * len(sixth)
    assert np.bincount(plain.cluster[plain.arrival_s < 10]).max() < 0.25 * len(sixth)
    assert "hotspots=1 factor=10" in hot.source
