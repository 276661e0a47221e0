"""Admission of BE arrivals: a request that fits no node fails at once with a reason, others wait for the central scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tango.domain.snapshot import FleetSnapshot
from tango.ports.requests import BeRequests
from tango.scheduling.be_headroom import most_memory_mib


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Admission of BE arrivals by one worker process, one call per batch."""

    requests: BeRequests
    fleet: Callable[[], FleetSnapshot]
    """Gives the present snapshot of the fleet."""

    def admit(self, run_id: int, request_ids: Sequence[int]) -> dict[str, int]:
        """released → pending, or failed where no node of the fleet could ever hold the request."""
        snapshot = self.fleet()
        if len(snapshot.nodes) == 0:
            # No node is known yet (the agents have just begun): leave the rows released; they are published again.
            return {"considered": len(request_ids), "admitted": 0}
        requested = snapshot.resources.pod_requests(snapshot.services)
        # LC at its declared size, as when a run begins: what it has grown to now it may give back, and the request waits for that.
        # Likewise what pods of others hold today they may give back.
        whole = snapshot.allocatable if snapshot.others is None else snapshot.allocatable + snapshot.others
        most_mib = most_memory_mib(whole - requested @ snapshot.instance_count, requested)
        most_of = {service.name: most for service, most in zip(snapshot.services, most_mib.tolist(), strict=True)}
        admitted = self.requests.admit_be(run_id, request_ids, most_memory_mib=most_of)
        return {"considered": len(request_ids), "admitted": admitted}
