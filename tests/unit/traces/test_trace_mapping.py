from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.domain.fleet import Fleet
from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.errors import BadRows, RequestRejected, UsageError
from tango.fleets import load_fleet
from tango.traces.draws import lognormal, request_draws
from tango.traces.mapping import MEMORY_SPREAD, by_size, map_trace, shortest_target_s, speed_warning
from tests.fakes.pod_templates import api_service, job_service
from tests.long import example_count

DEMO = load_fleet("demo")


def _trace(
    n: int = 400,
    *,
    services: tuple[str, ...] = ("",),
    clusters: tuple[str, ...] = ("",),
    work: bool = True,
    lc_only: bool = False,
) -> Trace:
    rng = np.random.default_rng(3)
    return Trace(
        arrival_s=5.0 + np.sort(rng.random(n) * 60),
        service_class=np.zeros(n, np.int8) if lc_only else (np.arange(n) % 2).astype(np.int8),
        service=(np.arange(n) % len(services)).astype(np.int32),
        cluster=(np.arange(n) % len(clusters)).astype(np.int32),
        cpu_work_s=rng.lognormal(0, 1, n) if work else np.full(n, np.nan),
        memory_mib=np.full(n, np.nan),
        services=services,
        clusters=clusters,
        source="t.csv",
    )


def test_unnamed_services_are_assigned_by_class_and_size_quantile() -> None:
    """The smallest works of a class go to its smallest service, in groups of equal count."""
    trace = _trace()
    requests = map_trace(trace, DEMO, seed=1)
    classes = np.array([int(s.service_class) for s in DEMO.services])
    mean = np.array([s.cpu_work_s for s in DEMO.services])

    assert np.array_equal(classes[requests.service], trace.service_class)
    assert np.bincount(requests.service).tolist() == [50, 50, 50, 50, 67, 67, 66]
    for service_class in (0, 1):
        rows = trace.service_class == service_class
        order = np.argsort(trace.cpu_work_s[rows])
        assert np.all(np.diff(mean[requests.service[rows]][order]) >= 0)


def test_services_with_pods_of_their_own_are_drawn_only_where_there_are_no_others() -> None:
    """A trace that names no service is for the synthetic workload."""
    alone = dataclasses.replace(DEMO, services=(api_service(), job_service()))
    beside = dataclasses.replace(DEMO, services=(*DEMO.services, *alone.services))

    drawn = map_trace(_trace(), beside, seed=1)

    assert np.array_equal(drawn.service, map_trace(_trace(), DEMO, seed=1).service)
    assert set(map_trace(_trace(), alone, seed=1).service) == {0, 1}


def test_given_works_and_names_are_kept() -> None:
    """What a trace says is what runs."""
    trace = _trace(services=("speech-to-text", "log-compaction"), clusters=("c3", "c1"))
    requests = map_trace(trace, DEMO, seed=1)

    np.testing.assert_array_equal(requests.cpu_work_s, trace.cpu_work_s)
    assert [requests.services[i] for i in requests.service[:2]] == ["speech-to-text", "log-compaction"]
    assert [requests.clusters[i] for i in requests.cluster[:2]] == ["c3", "c1"]


def test_missing_works_follow_the_service_and_depend_on_seed_and_index_alone() -> None:
    """A shorter trace has the same works in its first rows; another seed has others; the mean is the service's."""
    fleet = dataclasses.replace(DEMO, services=DEMO.services_of(ServiceClass.LC)[:1])
    long = map_trace(_trace(20_000, work=False, lc_only=True), fleet, seed=4).cpu_work_s
    short = map_trace(_trace(100, work=False, lc_only=True), fleet, seed=4).cpu_work_s
    other = map_trace(_trace(100, work=False, lc_only=True), fleet, seed=5).cpu_work_s

    np.testing.assert_array_equal(long[:100], short)
    assert not np.array_equal(short, other)
    # Mean 20 ms, cv 0.5: the standard error over 20,000 is 0.35 %; five of them.
    assert long.mean() == pytest.approx(0.020, rel=0.018)
    assert long.std() / long.mean() == pytest.approx(0.5, rel=0.05)


def test_speed_divides_times_works_and_targets() -> None:
    """The offered load stays: everything in seconds is divided, memory and choice are not; the first arrival is due at 0."""
    one, ten = (map_trace(_trace(), DEMO, seed=1, speed=speed) for speed in (1.0, 10.0))

    assert one.due_s[0] == 0.0
    for name in ("due_s", "target_s", "cpu_work_s"):
        np.testing.assert_allclose(getattr(ten, name) * 10, getattr(one, name))
    for name in ("service", "cluster", "memory_mib"):
        np.testing.assert_array_equal(getattr(ten, name), getattr(one, name))
    assert np.all(np.isnan(one.target_s) == (one.service_class == 1))
    with pytest.raises(UsageError, match="the speed is 0"):
        map_trace(_trace(), DEMO, seed=1, speed=0.0)


def test_a_target_below_50_ms_of_wall_time_is_warned_of() -> None:
    """100 ms at speed 2 is 50 ms: no warning; at speed 4 there is one with the figure."""
    two, four = (map_trace(_trace(), DEMO, seed=1, speed=speed) for speed in (2.0, 4.0))

    assert shortest_target_s(two) == pytest.approx(0.05)
    assert speed_warning(two) is None
    assert "25 ms" in (speed_warning(four) or "")


def test_an_origin_enters_at_one_cluster_chosen_by_the_seed() -> None:
    """All requests of a job enter at one cluster; jobs spread; a seed redraws."""
    origins = tuple(f"~{job}" for job in range(300))
    trace = _trace(600, clusters=origins)
    first, again, other = (map_trace(trace, DEMO, seed=s).cluster for s in (1, 1, 2))

    assert np.array_equal(first[:300], first[300:])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    # 300 jobs over 3 clusters: mean 100, standard deviation 8.2.
    assert np.all(np.abs(np.bincount(first[:300], minlength=3) - 100) < 41)


def test_a_number_means_the_cluster_in_that_place() -> None:
    """`1` is the first cluster of any fleet."""
    requests = map_trace(_trace(clusters=("1", "2", "3")), DEMO, seed=1)

    assert requests.cluster[:3].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "column", "found", "expected"),
    [
        ({"services": ("sensor-query", "nosuch")}, "service", "'nosuch' (200 requests", "log-compaction"),
        ({"clusters": ("c1", "c9")}, "cluster", "'c9' (200 requests", "c1 or c2 or c3, or a number from 1 to 3"),
        ({"clusters": ("4",)}, "cluster", "'4' (400 requests", "a number from 1 to 3"),
        ({"services": ("sensor-query",)}, "class", "'be' (200 requests", "lc, the class of 'sensor-query'"),
    ],
)
def test_unknown_names_are_refused_when_mapping(change: dict, column: str, found: str, expected: str) -> None:
    """The message names the trace, the name, how many requests have it, and what is known."""
    with pytest.raises(BadRows) as caught:
        map_trace(_trace(**change), DEMO, seed=1)

    row = caught.value.rows[0]
    assert (row.file, row.column) == ("t.csv", column)
    assert row.found.startswith(found)
    assert expected in row.expected


def test_a_fleet_without_a_needed_class_is_refused() -> None:
    """BE requests on a fleet of LC services cannot run."""
    fleet = dataclasses.replace(DEMO, services=DEMO.services_of(ServiceClass.LC))

    with pytest.raises(RequestRejected, match="200 be requests, fleet 'demo' has no service of that class"):
        map_trace(_trace(), fleet, seed=1)


def test_memory_is_the_service_s_for_lc_and_bounded_for_assigned_be() -> None:
    """LC memory is counted in the concurrency of instances; a BE service that was assigned keeps its scale."""
    trace = dataclasses.replace(_trace(), memory_mib=np.tile([1.0, 1.5, 1.0, 1e6], 100))
    requests = map_trace(trace, DEMO, seed=1)
    own = np.array([s.memory_mib for s in DEMO.services])[requests.service]
    be = requests.service_class == 1

    assert np.array_equal(requests.memory_mib[~be], own[~be])
    assert set((requests.memory_mib / own)[be]) == {1 / MEMORY_SPREAD, MEMORY_SPREAD}
    named = dataclasses.replace(trace, service=(np.arange(400) % 2).astype(np.int32), services=("sensor-query", "log-compaction"))
    assert map_trace(named, DEMO, seed=1).memory_mib[1] == 2.0


@given(
    n=st.integers(1, 60),
    seed=st.integers(0, 2**63),
    speed=st.floats(0.01, 1000),
    known=st.floats(0, 1),
    fleet=st.sampled_from([load_fleet(name) for name in ("demo", "single", "bench")]),
)
@settings(deadline=None, max_examples=example_count(80))
def test_every_mapping_is_complete(n: int, seed: int, speed: float, known: float, fleet: Fleet) -> None:
    """Each request has a service of its class, a cluster of the fleet, positive work and memory, and times in order."""
    rng = np.random.default_rng(seed % 1000)
    trace = dataclasses.replace(_trace(n), cpu_work_s=np.where(rng.random(n) < known, rng.lognormal(0, 2, n), np.nan))
    requests = map_trace(trace, fleet, seed=seed, speed=speed)
    classes = np.array([int(s.service_class) for s in fleet.services])

    assert np.array_equal(classes[requests.service], requests.service_class)
    assert np.all((requests.cluster >= 0) & (requests.cluster < len(fleet.clusters)))
    assert np.all(requests.cpu_work_s > 0)
    assert np.all(requests.memory_mib >= 1)
    assert np.all(np.diff(requests.due_s) >= 0)
    assert len(requests) == n


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80), st.integers(1, 9))
def test_groups_by_size_are_even_and_ordered(values: list[float], groups: int) -> None:
    """Counts differ by at most one and no value of a lower group is above one of a higher group."""
    size = np.array(values)
    group = by_size(size, groups)
    counts = np.bincount(group, minlength=groups)

    assert counts.max() - counts.min() <= 1
    assert np.all(np.diff(group[np.argsort(size, kind="stable")]) >= 0)


def test_draws_of_a_request_do_not_depend_on_how_many_there_are() -> None:
    """Row i is a function of seed and i; normals are standard."""
    few, many = request_draws(7, 10), request_draws(7, 100_000)

    np.testing.assert_array_equal(few.normal, many.normal[:10])
    # Standard errors over 100,000 are 0.003 and 0.002.
    assert abs(many.normal.mean()) < 0.016
    assert abs(many.normal.std() - 1) < 0.012
    np.testing.assert_array_equal(lognormal(few.normal, np.full(10, 3.0), np.zeros(10)), np.full(10, 3.0))
