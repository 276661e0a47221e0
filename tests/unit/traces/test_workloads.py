from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.domain.fleet import Cluster, Node
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
from tango.errors import RequestRejected, UsageError
from tango.fleets import load_fleet
from tango.traces import read_trace, write_trace
from tango.traces.generators import PATTERNS
from tango.traces.hotspots import Hotspots, hot_clusters
from tango.traces.mapping import map_trace
from tango.traces.workloads import Workload, draw_requests, offered_load, trace_of
from tests.long import example_count

DEMO = load_fleet("demo")
COLUMNS = ("due_s", "service_class", "service", "cluster", "cpu_work_s", "memory_mib")


def _generated(pattern: str = "p3", **options) -> Workload:
    return Workload(**{"lc": (pattern,), "be": (pattern,), "duration_s": 60.0, "load": 0.8, **options})


def _equal(one: NewRequests, other: NewRequests) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


def _class_work(requests: NewRequests) -> np.ndarray:
    return np.bincount(requests.service_class, requests.cpu_work_s, minlength=2)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_equal_seeds_give_equal_requests_and_others_give_others(pattern: str) -> None:
    """A seed redraws arrivals, entries, services and works, and nothing else does."""
    first, again, other = (draw_requests(_generated(pattern), DEMO, seed) for seed in (1, 1, 2))

    assert _equal(first, again)
    for name in ("due_s", "service", "cluster", "cpu_work_s"):
        assert not np.array_equal(getattr(first, name), getattr(other, name))


@given(
    pattern=st.sampled_from(PATTERNS),
    load=st.floats(0.05, 2.0),
    share=st.floats(0.0, 1.0),
    duration_s=st.floats(5.0, 120.0),
    seed=st.integers(0, 2**63),
)
@settings(deadline=None, max_examples=example_count(60))
def test_the_offered_load_and_its_split_are_what_was_asked(
    pattern: str, load: float, share: float, duration_s: float, seed: int
) -> None:
    """Over the whole duration and for both classes; arrivals are in order and inside the duration, in whole microseconds."""
    workload = _generated(pattern, load=load, lc_load_share=share, duration_s=duration_s)
    requests = draw_requests(workload, DEMO, seed)

    assert offered_load(requests, DEMO, duration_s) == pytest.approx(load, rel=0.01)
    np.testing.assert_allclose(_class_work(requests), load * 72 * duration_s * np.array([share, 1 - share]), rtol=1e-9, atol=1e-9)
    assert np.all(np.diff(requests.due_s) >= 0)
    assert requests.due_s[0] >= 0
    assert requests.due_s[-1] <= duration_s + 0.5e-6


def test_counts_follow_from_the_fleet_s_mean_works() -> None:
    """0.8 x 72 cores x 60 s = 3,456 CPU-seconds: 40 % in LC requests of 41.25 ms, 60 % in BE requests of 3 s."""
    requests = draw_requests(_generated(), DEMO, 3)

    assert np.bincount(requests.service_class).tolist() == [round(0.4 * 3456 / 0.04125), round(0.6 * 3456 / 3)]


def test_works_depend_on_seed_and_index_alone() -> None:
    """Before the factor to the load, request i of one service has one work, whatever the pattern of its arrivals."""
    fleet = dataclasses.replace(DEMO, services=(*DEMO.services_of(ServiceClass.LC)[:1], *DEMO.services_of(ServiceClass.BE)[:1]))
    p1, p3 = (draw_requests(_generated(p, be=(), lc=(p,)), fleet, 5).cpu_work_s for p in ("p1", "p3"))

    np.testing.assert_allclose(p1 / p1[0], p3 / p3[0])


def test_a_class_alone_offers_the_whole_load() -> None:
    """Without a BE source the load share has no meaning and LC offers all."""
    requests = draw_requests(_generated(be=()), DEMO, 1)

    assert not requests.service_class.any()
    assert offered_load(requests, DEMO, 60.0) == pytest.approx(0.8)


def test_a_workload_survives_json() -> None:
    """The value in a sweep's cell gives the workload back."""
    workload = _generated("p1", load=0.95, lc_load_share=0.25, phase_spread=1.0, hotspots=Hotspots(clusters=2, factor=3.0))

    assert Workload.from_dict(json.loads(json.dumps(workload.as_dict()))) == workload


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({}, "p1@0.8"),
        ({"be": ("borg",), "lc_load_share": 0.25}, "p1+borg@0.8 lc=0.25"),
        ({"lc": ("a/x.csv.gz", "a/y.csv.gz"), "be": (), "load": None, "from_s": 5.0, "resample": False}, "x… from=5 as-recorded"),
        ({"hotspots": Hotspots(clusters=2), "phase_spread": 1.0}, "p1@0.8 hot=2x5/6 phases=1"),
    ],
)
def test_a_label_tells_what_is_not_as_by_default(options: dict, label: str) -> None:
    """Two scenarios of a sweep have two names."""
    assert _generated("p1", **options).label == label


def test_phases_can_be_spread_over_the_clusters_or_be_one() -> None:
    """With one phase all clusters peak together and the fleet's rate swings; spread over a period their waves cancel out."""
    together, apart = (
        draw_requests(_generated("p1", be=(), phase_spread=spread, duration_s=600.0), DEMO, 1).due_s for spread in (0.0, 1.0)
    )
    swing = [np.ptp(np.histogram(times, 60)[0]) / (len(times) / 60) for times in (together, apart)]

    assert swing[0] > 1.5
    assert swing[1] < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"load": 0.0}, "load is 0, expected a number above 0"),
        ({"load": float("nan")}, "load is nan"),
        ({"load": -1.0}, "load is -1"),
        ({"load": None}, "pattern p3 has no rate of its own, expected a load"),
        ({"lc": (), "be": ()}, "the workload has no source"),
        ({"duration_s": 0.0}, "duration_s is 0, expected seconds above 0"),
        ({"lc_load_share": 1.5}, "lc_load_share is 1.5, expected 0 to 1"),
        ({"from_s": -1.0}, "from_s is -1, expected 0 or more"),
        ({"be_from_s": 5.0}, "both classes of one source share their window"),
        ({"lc": ("p9",)}, r"'p9' is no pattern; known patterns: p1, p2, p3, borg"),
        ({"lc": ("p3", "x.csv")}, "the source p3, x.csv mixes patterns and files"),
    ],
)
def test_a_workload_out_of_bounds_is_refused(options: dict, message: str) -> None:
    """What was found and what was expected."""
    with pytest.raises(UsageError, match=message):
        _generated(**options)


def test_hotspots_are_seen_in_the_counts_of_entries() -> None:
    """The hot cluster of a sixth gets four times a cool one's requests; load, times and works stay as they were."""
    plain, hot = (draw_requests(_generated(hotspots=h), DEMO, 7) for h in (None, Hotspots(clusters=1, factor=4.0)))
    choices = hot_clusters(Hotspots(clusters=1), 3, 7)[:, 0]
    ratios = []
    for k, chosen in enumerate(choices):
        counts = np.bincount(hot.cluster[(hot.due_s >= 10 * k) & (hot.due_s < 10 * (k + 1))], minlength=3)
        ratios.append(2 * counts[chosen] / (counts.sum() - counts[chosen]))

    # Entries of p3 scatter with their rates; the mean over six choices is near.
    assert np.mean(ratios) == pytest.approx(4.0, rel=0.1)
    for name in ("due_s", "service", "cpu_work_s"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(hot, name))


def test_drawn_requests_survive_a_file(tmp_path: Path) -> None:
    """Written as a trace and mapped again they are the same requests, whatever the seed."""
    requests = draw_requests(_generated("borg"), DEMO, 4)
    write_trace(trace_of(requests, "drawn"), tmp_path / "drawn.csv.gz")

    again = map_trace(read_trace(tmp_path / "drawn.csv.gz").trace, DEMO, seed=99, begin_s=0.0)

    assert _equal(requests, again)


def test_a_thousand_clusters_take_no_more_memory_than_their_requests() -> None:
    """Peak memory of drawing a large workload: 150 bytes a request, of which the result is 41."""
    nodes = [Node(name=f"n{k}", cpu_millicores=32_000, memory_mib=65_536) for k in range(1000)]
    fleet = dataclasses.replace(DEMO, clusters=tuple(Cluster(name=f"k{k}", nodes=(node,)) for k, node in enumerate(nodes)))
    workload = _generated("p3", duration_s=2.0, load=0.9)
    draw_requests(workload, fleet, 1)

    tracemalloc.start()
    requests = draw_requests(workload, fleet, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(requests) > 500_000
    assert peak / len(requests) < 150
    assert len(set(requests.cluster.tolist())) == 1000


def test_too_many_requests_and_missing_classes_are_refused() -> None:
    """A load that would take a billion requests, and a fleet that cannot serve a class."""
    with pytest.raises(UsageError, match="take a shorter duration"):
        draw_requests(_generated(duration_s=1e6), DEMO, 1)
    only_lc = dataclasses.replace(DEMO, services=DEMO.services_of(ServiceClass.LC))
    with pytest.raises(RequestRejected, match="fleet 'demo' has no be service"):
        draw_requests(_generated(), only_lc, 1)


def test_unknown_and_missing_keys_are_refused() -> None:
    """A cell of another version names what is not understood."""
    with pytest.raises(UsageError, match="a workload has no colour"):
        Workload.from_dict({"lc": ["p3"], "be": [], "duration_s": 60.0, "load": 0.5, "colour": 1})
    with pytest.raises(UsageError, match="the workload lacks be, duration_s"):
        Workload.from_dict({"lc": ["p3"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lc": "p3"}, "lc of a workload is 'p3', expected a list"),
        ({"load": "high"}, "another type than expected"),
        ({"hotspots": {"cluster": 1}}, "another type than expected"),
    ],
)
def test_values_of_another_type_are_refused(change: dict, message: str) -> None:
    """A cell written by hand is told what is wrong with it."""
    with pytest.raises(UsageError, match=message):
        Workload.from_dict({"lc": ["p3"], "be": [], "duration_s": 60.0, "load": 0.5, **change})
