from __future__ import annotations

from itertools import islice

import pytest

from tango.domain.identity import NodeKey
from tango.emulation.virtual_kubelet.pod_addresses import TRIES, candidates

NODE = NodeKey("c1", "n1")


@pytest.mark.parametrize("node", [NodeKey("c1", "n1"), NodeKey("c1", "n2"), NodeKey("c2", "n1"), NodeKey("edge-07", "")])
def test_candidates_stay_out_of_the_addresses_that_systems_use(node: NodeKey) -> None:
    """127.0.0.0/16 has localhost and resolvers, Debian's host name lives at 127.0.1.1; hosts 0 and 255 are left out."""
    parts = [tuple(int(p) for p in address.split(".")) for address in candidates(node)]

    assert len(set(parts)) == TRIES
    assert all(a == 127 and 2 <= b <= 254 and 1 <= d <= 254 for a, b, _, d in parts)


def test_a_node_keeps_its_block_and_nodes_differ() -> None:
    """The block follows from cluster and name, so that a restarted kubelet tries the same addresses and nobody else's."""
    first = list(islice(candidates(NODE), 254))

    assert first == list(islice(candidates(NODE), 254))
    assert not set(first) & set(islice(candidates(NodeKey("c1", "n2")), 254))
    assert not set(first) & set(islice(candidates(NodeKey("c2", "n1")), 254))


def test_the_address_of_an_earlier_life_comes_first_unless_it_is_not_ours() -> None:
    """A pod keeps its address over a reboot where it can."""
    assert next(candidates(NODE, "127.9.8.7")) == "127.9.8.7"
    assert next(candidates(NODE, "10.0.0.1")) == next(candidates(NODE))
