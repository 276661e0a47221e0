"""What BE pods hold: by the centre's accounts from placement on, by the node's own from the pod's start on. Compiled.

The two differ on purpose. The centre counts a pod from the moment it was placed until it is known to have ended or to be lost; a
node admits by what really runs there. So a pod on its way is counted at the centre only, and a pod lost with its node is no longer
counted on the node while the centre still waits for news.
"""

from __future__ import annotations

from tango.compiled import inlined
from tango.sim.state import EngineState


@inlined
def count_in_placed(state: EngineState, request: int, node: int) -> None:
    """The centre has placed a pod on a node."""
    site, service = state.sites[node], state.arrivals.service[request]
    site.placed_request += state.be.request[service]
    site.placed_limit += state.be.limit[service]
    site.placed_memory += state.arrivals.memory_mib[request]
    site.placed_pods += 1.0


@inlined
def count_out_placed(state: EngineState, request: int, node: int) -> None:
    """The centre knows that a pod has ended, or that it is lost."""
    site, service = state.sites[node], state.arrivals.service[request]
    site.placed_request -= state.be.request[service]
    site.placed_limit -= state.be.limit[service]
    site.placed_memory -= state.arrivals.memory_mib[request]
    site.placed_pods -= 1.0


@inlined
def count_in_running(state: EngineState, request: int, node: int) -> None:
    """A pod has started on a node."""
    site = state.sites[node]
    site.run_request += state.be.request[state.arrivals.service[request]]
    site.run_memory += state.arrivals.memory_mib[request]


@inlined
def count_out_running(state: EngineState, request: int, node: int) -> None:
    """A pod is no longer on a node, however it ended."""
    site = state.sites[node]
    site.run_request -= state.be.request[state.arrivals.service[request]]
    site.run_memory -= state.arrivals.memory_mib[request]
