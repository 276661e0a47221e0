"""What the large built-in fleets were sized for."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from tango.domain.fleet import Fleet
from tango.domain.services import ServiceClass
from tango.fleets import dump_fleet, fleet_names, load_fleet, parse_fleet

ROOT = Path(__file__).parents[3]
HASHES = {
    "bench": "7d4c3a431c36deaeba08fc9100ed846a2135bcbaba480714d9176800b92cae34",
    "continent": "11b75feb9d75fc40009707b9250c17f26c678a9891fe6a007c9bc0c369b2537b",
    "demo": "d172b12994ead3a113038194d93e94500cf9aa76851eabd822db7ab8f057fd54",
    "paper": "f8ccd9ae1e37149ea1eab916583b5f716f488e51e0b99cf9864182f387296035",
    "paper-interference": "452e35068a0c2f4061d71d043bb183298fa09a7aeb95191fca4a25777671e09a",
    "single": "ff6d2762f8ee4f2aacde630ee18dd69c565623aecb9f2e5531803761f0f0e246",
    "testbed": "05a4575be41ee91ff16b3cc1123cd3d35d52c625f4dba2aa26369e72b6a332cb",
    "testbed-interference": "344a832edc4b8096a100063c5580325648a948fb105fdf0919794e7ccc42a5a1",
}


@pytest.mark.parametrize("name", HASHES)
def test_a_built_in_fleet_keeps_the_hash_that_results_print(name: str) -> None:
    """Fleets are fixed before the first comparison; one that changes needs a decision record with figures before and after."""
    assert load_fleet(name).source_hash == HASHES[name]


def test_the_page_on_fleets_lists_each_built_in_fleet_with_its_hash() -> None:
    """The table has a row for every fleet, with the first twelve digits."""
    page = (ROOT / "docs" / "fleets.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]

    assert set(HASHES) == set(fleet_names())
    for name, sha256 in HASHES.items():
        assert [row for row in rows if row.startswith(f"| `{name}` ") and f"`{sha256[:12]}`" in row]


@pytest.mark.parametrize(
    ("name", "clusters", "nodes", "cores", "smallest", "largest"),
    [("testbed", 4, 16, 88, 4, 4), ("paper", 104, 1100, 4620, 3, 20), ("continent", 1000, 10_000, 42_000, 3, 17)],
)
def test_fleets_have_the_size_they_are_known_for(
    name: str, clusters: int, nodes: int, cores: int, smallest: int, largest: int
) -> None:
    """Clusters, nodes, cores and the range of cluster sizes, as the comments in the files say."""
    fleet = load_fleet(name)
    sizes = [len(cluster.nodes) for cluster in fleet.clusters]

    assert (len(sizes), sum(sizes)) == (clusters, nodes)
    assert (min(sizes), max(sizes)) == (smallest, largest)
    assert sum(node.cpu_millicores for node in fleet.nodes) == cores * 1000


def test_600_s_at_load_08_on_paper_are_one_to_two_million_requests() -> None:
    """With LC offering 40 % of the load, which is 80 % of the cores, and services evenly mixed."""
    fleet = load_fleet("paper")
    offered = 0.8 * sum(node.cpu_millicores for node in fleet.nodes) / 1000
    mean_s = {c: np.mean([s.cpu_work_s for s in fleet.services_of(c)]) for c in ServiceClass}

    requests = 600 * offered * (0.4 / mean_s[ServiceClass.LC] + 0.6 / mean_s[ServiceClass.BE])

    assert 1e6 <= requests <= 2e6
    assert requests == pytest.approx(1_774_080 + 110_880)


@pytest.mark.parametrize("name", ["testbed", "paper", "continent"])
def test_targets_hold_four_to_five_times_the_work_with_the_longest_round_trip(name: str) -> None:
    """An LC target is no guess: four times the work plus the farthest cluster fit in, and it stays at most five times the work."""
    fleet = load_fleet(name)

    for service in fleet.services_of(ServiceClass.LC):
        work_ms = 1000 * service.cpu_work_s
        assert 4 * work_ms + fleet.rtt_ms().max() <= service.target_ms <= 5 * work_ms


@pytest.mark.parametrize("name", ["testbed", "paper", "continent"])
def test_every_node_holds_all_lc_services_and_several_be_pods(name: str) -> None:
    """Beside one instance of each LC service the smallest node has space for each BE service, and for four of the smallest."""
    fleet = load_fleet(name)
    lc, be = fleet.services_of(ServiceClass.LC), fleet.services_of(ServiceClass.BE)

    cpu = min(n.cpu_millicores for n in fleet.nodes) - sum(s.cpu_request_millicores for s in lc)
    memory = min(n.memory_mib for n in fleet.nodes) - sum(s.instance_memory_mib for s in lc)

    assert all(s.cpu_request_millicores <= cpu and s.memory_mib <= memory for s in be)
    assert 4 * be[0].cpu_request_millicores <= cpu
    assert 4 * be[0].memory_mib <= memory


def test_be_pods_are_bound_by_memory_on_some_nodes_and_by_cpu_on_others() -> None:
    """An even mix of BE pods beside LC fills the memory of the 2-core nodes of `paper` first, and the CPU of the others."""
    fleet = load_fleet("paper")
    lc, be = fleet.services_of(ServiceClass.LC), fleet.services_of(ServiceClass.BE)
    pod_cpu, pod_memory = np.mean([s.cpu_request_millicores for s in be]), np.mean([s.memory_mib for s in be])

    binding = {}
    for node in fleet.nodes:
        by_cpu = (node.cpu_millicores - sum(s.cpu_request_millicores for s in lc)) / pod_cpu
        by_memory = (node.memory_mib - sum(s.instance_memory_mib for s in lc)) / pod_memory
        binding[node.cpu_millicores] = "memory" if by_memory < by_cpu else "cpu"

    assert binding == {2000: "memory", 4000: "cpu", 8000: "cpu"}


def test_the_large_fleets_have_the_services_of_paper() -> None:
    """What is measured on one of the three can be set beside the others."""
    assert load_fleet("testbed").services == load_fleet("paper").services == load_fleet("continent").services


@pytest.mark.parametrize("name", ["paper", "testbed"])
def test_a_fleet_with_interference_is_its_namesake_but_for_that(name: str) -> None:
    """What is simulated on both differs by what neighbours do to each other alone."""
    plain, measured = load_fleet(name), load_fleet(f"{name}-interference")

    assert replace(measured, name=name, interference=(), source_hash=plain.source_hash) == plain
    assert {one.service for one in measured.interference} == {s.name for s in plain.services}
    assert all(one.sensitivity is not None for one in measured.interference)


def test_interference_is_the_same_in_both_worlds_that_have_it_and_fits_what_was_measured() -> None:
    """The mean slow-down of LC by a node full of BE, before any resource is taken whole, is that of Anolis OS within 2 %."""
    fleet = load_fleet("paper-interference")
    by_name = {one.service: one for one in fleet.interference}
    lc, be = fleet.services_of(ServiceClass.LC), fleet.services_of(ServiceClass.BE)

    slower = np.array([[np.dot(by_name[a.name].sensitivity or (), by_name[b.name].pressure) for b in be] for a in lc])
    measured = (0.88 / 0.706 - 1) / (0.49 - 0.25)

    assert fleet.interference == load_fleet("testbed-interference").interference
    assert np.average(slower.mean(axis=0), weights=[b.cpu_work_s for b in be]) == pytest.approx(measured, rel=0.02)


def test_the_work_of_loading_a_fleet_grows_with_its_nodes_and_not_with_their_square() -> None:
    """Counted in lines of Python that run, loops included: from a thousand nodes to ten thousand one costs no more than up to there."""
    fleets = [_lines_run(lambda name=name: load_fleet(name)) for name in ("testbed", "paper", "continent")]
    each = [(lines - before) / (nodes - fewer) for (before, fewer), (lines, nodes) in itertools.pairwise(fleets)]

    assert 0 < each[1] < 2 * each[0]


def _lines_run(load: Callable[[], Fleet]) -> tuple[int, int]:
    """(lines of Python that ran, nodes)."""
    lines = 0

    def count(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        fleet = load()
    finally:
        sys.settrace(before)
    return lines, sum(1 for _ in fleet.nodes)


def test_a_generated_fleet_dumps_node_by_node_and_reads_back_equal() -> None:
    """The dump is the effective declaration: no recipe, the same clusters and the same hash."""
    fleet = load_fleet("paper")

    text = dump_fleet(fleet)

    assert "generate" not in text
    assert parse_fleet(text, "dumped.yaml") == fleet
