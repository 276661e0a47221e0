"""The forward pass of the placement network alone, which benchmarks compare a whole decision with."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tango.domain.snapshot import FleetSnapshot
from tango.learning.features import fleet_graph
from tango.learning.network import PlacementNetwork, batch_graphs


def forward_pass(snapshot: FleetSnapshot) -> Callable[[], object]:
    """A call that encodes a fleet with a network of the default width, on one thread, features already computed."""
    torch.set_num_threads(1)
    network = PlacementNetwork()
    network.eval()
    batch = batch_graphs([fleet_graph(snapshot)])

    def run() -> object:
        with torch.inference_mode():
            node, _ = network.encode(batch)
            return network.actor_node(node)

    return run
