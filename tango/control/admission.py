"""Admission of BE arrivals: what fits no node is failed at once with a reason, the rest waits for the centre."""

from __future__ import annotations

from collections.abc import Sequence

from tango.domain.snapshot import FleetSnapshot
from tango.ports import RequestStore


def admit_be(run_id: int, request_ids: Sequence[int], *, requests: RequestStore, snapshot: FleetSnapshot) -> dict[str, int]:
    """released → pending, or failed where no node of the fleet could ever hold the request."""
    if len(snapshot.nodes) == 0:
        # No node is known yet (the agents have just begun): leave the rows released; they are published again.
        return {"considered": len(request_ids), "admitted": 0}
    largest = int(snapshot.cpu_allocatable.max()), int(snapshot.memory_allocatable.max())
    return {"considered": len(request_ids), "admitted": requests.admit_be(run_id, request_ids, largest_node=largest)}
