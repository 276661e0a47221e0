from __future__ import annotations

import pytest

from tango.domain.fleet import Cluster, Fleet, NetworkModel, Node
from tango.emulation.virtual_kubelet.network import ClusterNetwork

# 8192 bits a KiB over 8.192 Mbit/s: one millisecond a KiB.
FLEET = Fleet(
    name="f",
    clusters=(
        Cluster(name="here", nodes=(Node(name="n1", cpu_millicores=1000, memory_mib=1024),)),
        Cluster(name="there", nodes=(Node(name="n2", cpu_millicores=1000, memory_mib=1024),), x_km=1000.0),
    ),
    services=(),
    network=NetworkModel(base_rtt_ms=10.0, local_rtt_ms=2.0, rtt_ms_per_km=0.01, bandwidth_mbit_per_s=8.192),
)


def test_half_of_round_trip_and_payload_lies_on_each_side() -> None:
    """10 ms base and 10 ms for 1,000 km give 10 ms each way; 4 KiB give 2 ms each way."""
    network = ClusterNetwork(FLEET, "here")

    assert network.arrival_s("there", 4.0, 1.0) == pytest.approx(1.012)
    assert network.answer_s("there", 4.0, 2.0) == pytest.approx(2.012)


def test_within_a_cluster_there_is_no_link_to_cross() -> None:
    """Only the local round trip counts; a cluster nobody knows counts as local."""
    network = ClusterNetwork(FLEET, "here")

    assert network.arrival_s("here", 400.0, 1.0) == pytest.approx(1.001)
    assert network.answer_s("nowhere", 400.0, 1.0) == pytest.approx(1.001)


def test_transfers_share_the_link_and_never_exceed_it() -> None:
    """Three payloads sent together follow one another; the other direction is free meanwhile."""
    network = ClusterNetwork(FLEET, "here")

    arrivals = [network.arrival_s("there", 4.0, 1.0) for _ in range(3)]

    assert arrivals == pytest.approx([1.012, 1.014, 1.016])
    assert network.answer_s("there", 4.0, 1.0) == pytest.approx(1.012)
