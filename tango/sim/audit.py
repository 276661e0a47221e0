"""Checks, where `SimSettings.audit` asks for it, that no node ever gives more than it has. Compiled."""

from __future__ import annotations

from tango.compiled import in_place
from tango.domain.resource_axis import CPU
from tango.sim.state import EngineState


@in_place
def audit(state: EngineState) -> None:
    """Keep the most by which a node's cores in use, its requests of any resource, or an instance's memory ever exceeded what there is."""
    clock, holdings = state.clock[0], state.holdings
    for n in range(len(state.sites)):
        node = state.states.nodes[n]
        clock.worst_cpu = max(clock.worst_cpu, node.lc_cores + node.be_cores - node.cpu_cores)
        for resource in range(len(holdings.allocatable)):
            if resource != CPU:  # LC may grow its CPU request over a pod's that is about to be evicted for it
                held = holdings.lc[resource, n] + holdings.running[resource, n]
                clock.worst_held = max(clock.worst_held, held - holdings.allocatable[resource, n])
        for row in range(len(state.places.row_service)):
            instance = state.states.instances[n, row]
            clock.worst_held = max(clock.worst_held, instance.memory_held_mib - instance.memory_mib)
