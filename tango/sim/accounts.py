"""What BE pods hold: by the centre's accounts from placement on, by the node's own from the pod's start on. Compiled.

The two differ on purpose. The centre counts a pod from the moment it was placed until it is known to have ended or to be lost; a
node admits by what really runs there. So a pod on its way is counted at the centre only, and a pod lost with its node is no longer
counted on the node while the centre still waits for news.
"""

from __future__ import annotations

from tango.compiled import inlined
from tango.domain.resource_axis import MEMORY
from tango.sim.state import EngineState


@inlined
def asked(state: EngineState, request: int, resource: int) -> float:
    """What the pod of a BE request asks for of one resource: memory is the request's own, all else its service's."""
    if resource == MEMORY:
        return float(state.arrivals.memory_mib[request])
    return float(state.be.requests[resource, state.arrivals.service[request]])


@inlined
def count_in_placed(state: EngineState, request: int, node: int) -> None:
    """The centre has placed a pod on a node."""
    for resource in range(len(state.holdings.placed)):
        state.holdings.placed[resource, node] += asked(state, request, resource)
    state.sites[node].placed_limit += state.be.limit[state.arrivals.service[request]]


@inlined
def count_out_placed(state: EngineState, request: int, node: int) -> None:
    """The centre knows that a pod has ended, or that it is lost."""
    for resource in range(len(state.holdings.placed)):
        state.holdings.placed[resource, node] -= asked(state, request, resource)
    state.sites[node].placed_limit -= state.be.limit[state.arrivals.service[request]]


@inlined
def count_in_running(state: EngineState, request: int, node: int) -> None:
    """A pod has started on a node."""
    for resource in range(len(state.holdings.running)):
        state.holdings.running[resource, node] += asked(state, request, resource)


@inlined
def count_out_running(state: EngineState, request: int, node: int) -> None:
    """A pod is no longer on a node, however it ended."""
    for resource in range(len(state.holdings.running)):
        state.holdings.running[resource, node] -= asked(state, request, resource)
