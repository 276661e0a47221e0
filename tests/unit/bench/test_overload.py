"""The fleets of `tango bench overload`: one whose CPU is the bound, one that is not."""

from __future__ import annotations

import pytest

from tango.bench.overload import CAPACITY_PER_S, LARGE, SMALL
from tango.fleets.catalog import parse_fleet


def served_per_s(declaration: str) -> float:
    """Requests a second that the instances of its one service take, by their CPU."""
    fleet = parse_fleet(declaration, "a test")
    [service] = fleet.services
    nodes = [node for cluster in fleet.clusters for node in cluster.nodes]
    cores = sum(min(node.cpu_millicores, service.cpu_limit_millicores) for node in nodes) / 1000
    return cores / service.cpu_work_s


def test_the_small_fleet_serves_what_the_benchmark_says() -> None:
    """Loads are told in units of it."""
    assert served_per_s(SMALL) == pytest.approx(CAPACITY_PER_S)


def test_the_large_fleet_is_no_bound() -> None:
    """Three times what a host of some cores serves, a few thousand requests a second, is far below."""
    assert served_per_s(LARGE) >= 30_000
