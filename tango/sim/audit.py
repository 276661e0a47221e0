"""Checks, where `SimSettings.audit` asks for it, that no node ever gives more than it has. Compiled."""

from __future__ import annotations

from tango.compiled import in_place
from tango.sim.state import EngineState


@in_place
def audit(state: EngineState) -> None:
    """Keep the most by which any node's CPU or memory, or any instance's memory, was ever exceeded."""
    clock = state.clock[0]
    for n in range(len(state.sites)):
        node, site = state.states.nodes[n], state.sites[n]
        clock.worst_cpu = max(clock.worst_cpu, node.lc_cores + node.be_cores - node.cpu_cores)
        clock.worst_memory = max(clock.worst_memory, site.lc_memory + site.run_memory - site.memory)
        for row in range(len(state.places.row_service)):
            instance = state.states.instances[n, row]
            clock.worst_memory = max(clock.worst_memory, instance.memory_held_mib - instance.memory_mib)
