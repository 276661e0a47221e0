"""Admission of BE arrivals: a request that fits no node fails at once with a reason, others wait for the central scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tango.domain.capacity import largest
from tango.domain.snapshot import FleetSnapshot
from tango.ports import RequestStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Admission of BE arrivals by one worker process, one call per batch."""

    requests: RequestStore
    fleet: Callable[[], FleetSnapshot]
    """Gives the present snapshot of the fleet."""

    def admit(self, run_id: int, request_ids: Sequence[int]) -> dict[str, int]:
        """released → pending, or failed where no node of the fleet could ever hold the request."""
        snapshot = self.fleet()
        if len(snapshot.nodes) == 0:
            # No node is known yet (the agents have just begun): leave the rows released; they are published again.
            return {"considered": len(request_ids), "admitted": 0}
        sizes = largest(np.stack((snapshot.cpu_allocatable, snapshot.memory_allocatable), axis=1))
        nodes = [(int(cpu), int(memory)) for cpu, memory in sizes]
        admitted = self.requests.admit_be(run_id, request_ids, nodes=nodes)
        return {"considered": len(request_ids), "admitted": admitted}
