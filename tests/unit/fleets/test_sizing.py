"""Fleets of other sizes: nodes of a kind divided over the clusters of a declared fleet, of which all else stays."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.domain.fleet import Fleet
from tango.errors import FileRefused, UsageError
from tango.fleets import load_fleet
from tango.fleets.sizing import DECLARED, divided, kind_named, kinds_of, least_nodes, mean_cores, resized, usual_kinds, why_unfit

TESTBED = load_fleet("testbed")
"""Four clusters, each with nodes of 4, 4, 6 and 8 cores."""


def shapes(fleet: Fleet) -> list[list[tuple[int, int]]]:
    """Millicores and MiB of the nodes, by cluster."""
    return [[(node.cpu_millicores, node.memory_mib) for node in cluster.nodes] for cluster in fleet.clusters]


@given(weights=st.lists(st.integers(1, 1000), min_size=1, max_size=8), least=st.integers(0, 3), more=st.integers(0, 60))
def test_one_more_node_is_one_more_in_one_cluster(weights: list[int], least: int, more: int) -> None:
    """And none less in any other; sums are exact, and each has its least."""
    numbers = [least * len(weights) + k for k in range(more + 2)]
    found = [divided(number, weights, least=least) for number in numbers]

    assert [sum(counts) for counts in found] == numbers
    assert min(map(min, found)) >= least
    for few, many in pairwise(found):
        assert sorted(b - a for a, b in zip(few, many, strict=True)) == [0] * (len(weights) - 1) + [1]


def test_numbers_follow_the_weights() -> None:
    """By hand: 10 by 6 to 3 to 1."""
    assert divided(10, [6, 3, 1], least=0) == [6, 3, 1]
    assert divided(7, [1, 1, 5], least=1) == [1, 1, 5]


def test_all_but_the_nodes_stays() -> None:
    """Clusters, sites, network and services; the hash is that of what the fleet now declares."""
    found = resized(TESTBED, kind_named("4/16Gi", TESTBED), 9)

    assert [len(nodes) for nodes in shapes(found)] == [3, 2, 2, 2]
    assert {shape for nodes in shapes(found) for shape in nodes} == {(4000, 16384)}
    assert [(c.name, c.x_km, c.y_km) for c in found.clusters] == [(c.name, c.x_km, c.y_km) for c in TESTBED.clusters]
    assert (found.services, found.network, found.name) == (TESTBED.services, TESTBED.network, TESTBED.name)
    assert found.source_hash not in ("", TESTBED.source_hash)


def test_the_declared_ones_repeat_the_nodes_of_each_cluster() -> None:
    """As many as are declared are the declared fleet."""
    declared = kind_named(DECLARED, TESTBED)

    assert resized(TESTBED, declared, 16).source_hash == TESTBED.source_hash
    assert shapes(resized(TESTBED, declared, 20)) == [[*nodes, nodes[0]] for nodes in shapes(TESTBED)]
    assert mean_cores(TESTBED, declared) == 5.5


def test_nodes_are_added_beside_the_declared_ones() -> None:
    """None is the fleet itself; names are new in their cluster."""
    kind = kind_named("8/15Gi", TESTBED)

    found = resized(TESTBED, kind, 5, beside=True)

    assert resized(TESTBED, kind, 0, beside=True).source_hash == TESTBED.source_hash
    assert shapes(found) == [[*nodes, *[(8000, 15360)] * n] for nodes, n in zip(shapes(TESTBED), (2, 1, 1, 1), strict=True)]
    assert all(len({node.name for node in cluster.nodes}) == len(cluster.nodes) for cluster in found.clusters)


def test_kinds_are_those_of_the_fleet_or_any_other() -> None:
    """Named as Kubernetes writes quantities; one of the fleet's by other units is the fleet's."""
    assert [kind.name for kind in kinds_of(TESTBED)] == ["4/7Gi", "6/7Gi", "8/15Gi"]
    assert [kind.name for kind in usual_kinds(TESTBED)] == ["4/7Gi", "6/7Gi", "8/15Gi", DECLARED]
    assert [kind.name for kind in usual_kinds(load_fleet("single"))] == ["4/15Gi"]
    assert kind_named("4000m/7168Mi", TESTBED) == kinds_of(TESTBED)[0]
    assert (kind_named("1500m/2Gi", TESTBED).cpu_millicores, kind_named("0.5/1Gi", TESTBED).name) == (1500, "500m/1Gi")


@pytest.mark.parametrize("text", ["4", "4/", "x/1Gi", "4/7Gii", "0/1Gi", "4/0", "-1/1Gi", "9999999/1Gi", ""])
def test_what_is_no_kind_is_refused(text: str) -> None:
    """With the fleet's own."""
    with pytest.raises(
        UsageError, match="expected declared, CPU/MEMORY such as 4/16Gi, or one of the fleet's: 4/7Gi, 6/7Gi, 8/15Gi"
    ):
        kind_named(text, TESTBED)


def test_a_kind_on_which_a_service_does_not_fit_says_why() -> None:
    """Beside the declared nodes it may stand, since those hold it."""
    small = kind_named("4/256Mi", TESTBED)

    assert "memory_mib" in why_unfit(TESTBED, small, beside=False)
    assert why_unfit(TESTBED, small, beside=True) == ""
    assert why_unfit(TESTBED, kind_named("4/7Gi", TESTBED), beside=False) == ""
    with pytest.raises(FileRefused):
        resized(TESTBED, small, 4)


def test_each_cluster_has_a_node() -> None:
    """Fewer nodes than clusters are refused."""
    assert (least_nodes(TESTBED, beside=False), least_nodes(TESTBED, beside=True)) == (4, 0)
    with pytest.raises(UsageError, match="3 nodes of kind 4/7Gi, expected 4 to"):
        resized(TESTBED, kind_named("4/7Gi", TESTBED), 3)
