from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tango.domain.fleet import Cluster, Fleet, Link, NetworkModel, Node
from tango.errors import ConfigError
from tango.fleets import dump_fleet, parse_fleet

TEXT = """\
apiVersion: tango/v1
kind: Fleet
metadata: {name: ring}
spec:
  network: {base_rtt_ms: 2, local_rtt_ms: 0.5, rtt_ms_per_km: 0.01, bandwidth_mbit_per_s: 1000}
  clusters:
    - {name: a, x_km: 0, nodes: [{name: n1, cpu_millicores: 4000, memory_mib: 8192}]}
    - {name: b, x_km: 100, nodes: []}
    - {name: c, x_km: 300, nodes: []}
  links:
    - {from: a, to: b, rtt_ms: 40, bandwidth_mbit_per_s: 10}
    - {from: c, to: a, rtt_ms: 7.5}
    - {from: b, to: c, bandwidth_mbit_per_s: 50}
  services:
    - {name: batch, class: be, cpu_work_s: 1, memory_mib: 512}
"""


def test_a_link_overrides_round_trip_time_and_bandwidth_in_both_directions() -> None:
    """What a link does not say follows from distance and the network model."""
    fleet = parse_fleet(TEXT, "ring.yaml")

    assert fleet.rtt_ms().tolist() == [[0.5, 40, 7.5], [40, 0.5, 4], [7.5, 4, 0.5]]
    assert fleet.bandwidth_mbit_per_s().tolist() == [[np.inf, 10, 1000], [10, np.inf, 50], [1000, 50, np.inf]]


def test_without_links_the_network_model_gives_every_pair() -> None:
    """Distance gives the round-trip time, one figure the bandwidth; within a cluster there is no limit."""
    plain = dataclasses.replace(parse_fleet(TEXT, "ring.yaml"), links=())

    assert plain.rtt_ms().tolist() == [[0.5, 3, 5], [3, 0.5, 4], [5, 4, 0.5]]
    assert plain.bandwidth_mbit_per_s().tolist() == [[np.inf, 1000, 1000], [1000, np.inf, 1000], [1000, 1000, np.inf]]


def test_links_survive_dump_and_load_and_count_in_the_hash() -> None:
    """Two fleets with other links are not the same fleet."""
    fleet = parse_fleet(TEXT, "ring.yaml")

    assert parse_fleet(dump_fleet(fleet), "dumped.yaml") == fleet
    assert parse_fleet(TEXT.replace("rtt_ms: 40", "rtt_ms: 41"), "ring.yaml").source_hash != fleet.source_hash


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "to: b, rtt",
            "to: d, rtt",
            "ring.yaml:11: spec.links[0].to is 'd', which is no cluster of this fleet, expected one of: a, b, c",
        ),
        ("from: c", "from: C1", "ring.yaml:12: spec.links[1].from is 'C1', expected a name of lower case letters"),
        ("to: a, rtt_ms: 7.5", "to: c, rtt_ms: 7.5", "ring.yaml:12: spec.links[1] goes from c to itself, expected two clusters"),
        (
            "from: c, to: a",
            "from: b, to: a",
            "ring.yaml:12: spec.links[1] is between the clusters that line 11 links, expected one link a pair",
        ),
        (", rtt_ms: 7.5", "", "ring.yaml:12: spec.links[1] from c to a says nothing, expected rtt_ms or bandwidth_mbit_per_s"),
        ("rtt_ms: 7.5", "rtt_ms: -1", "ring.yaml:12: spec.links[1].rtt_ms is -1, expected a number from 0 to 100000"),
        (
            "rtt_ms: 7.5",
            "rtt: 7.5",
            "ring.yaml:12: spec.links[1].rtt is an unknown key, expected one of: bandwidth_mbit_per_s, from",
        ),
        ("bandwidth_mbit_per_s: 50", "bandwidth_mbit_per_s: 0", "ring.yaml:13: spec.links[2].bandwidth_mbit_per_s is 0, expected"),
    ],
)
def test_a_wrong_link_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    """A link joins two declared clusters, says something, and each pair has one."""
    assert old in TEXT

    with pytest.raises(ConfigError) as caught:
        parse_fleet(TEXT.replace(old, new, 1), "ring.yaml")

    assert message in str(caught.value)


def test_a_link_to_nowhere_in_a_large_fleet_names_only_the_first_clusters() -> None:
    """A list of a hundred names would hide the message."""
    clusters = [f"    - {{name: x{k}, nodes: []}}\n" for k in range(30)]
    text = TEXT.replace("  links:\n", "".join(clusters) + "  links:\n").replace("to: b, rtt", "to: d, rtt")

    with pytest.raises(ConfigError, match=r"expected one of: a, b, c, x0, x1, x2, x3, x4, x5, x6 and 23 more"):
        parse_fleet(text, "ring.yaml")


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ((Link(from_cluster="a", to_cluster="z", rtt_ms=1.0),), "link to a cluster that is not declared: z"),
        (
            (Link(from_cluster="a", to_cluster="b", rtt_ms=1.0), Link(from_cluster="b", to_cluster="a", rtt_ms=2.0)),
            "two links join the same clusters",
        ),
    ],
)
def test_a_fleet_built_in_code_holds_its_links_to_the_same_rules(links: tuple[Link, ...], message: str) -> None:
    """The value refuses what the file would."""
    node = Node(name="n", cpu_millicores=1000, memory_mib=1024)
    clusters = (Cluster(name="a", nodes=(node,)), Cluster(name="b", nodes=()))

    with pytest.raises(ConfigError, match=message):
        Fleet(name="f", clusters=clusters, services=(), network=NetworkModel(), links=links)
