"""CPU and memory that BE pods may still get on each node, counted down within a tick, and the filter that every BE policy obeys."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot


class BeHeadroom:
    """What is left on each node, by the kubelet's rule of admission: requests of CPU and memory against allocatable."""

    def __init__(self, snapshot: FleetSnapshot) -> None:
        self.snapshot = snapshot
        self.cpu_millicores = snapshot.cpu_allocatable - snapshot.cpu_requested
        self.memory_mib = snapshot.memory_free.copy()
        self.be_limit = snapshot.be_cpu_limit.copy()
        self.be_pods = snapshot.be_pods.copy()

    def fits(self, pending: BePending, k: int) -> NDArray[np.bool_]:
        """(n,) nodes that can hold request k now."""
        enough: NDArray[np.bool_] = (
            self.snapshot.node_ready
            & (self.cpu_millicores >= pending.cpu_request_millicores[k])
            & (self.memory_mib >= pending.memory_mib[k])
        )
        return enough

    def count_in(self, pending: BePending, k: int, node: int) -> None:
        """Count request k in on the node."""
        self.cpu_millicores[node] -= pending.cpu_request_millicores[k]
        self.memory_mib[node] -= pending.memory_mib[k]
        self.be_limit[node] += pending.cpu_limit_millicores[k]
        self.be_pods[node] += 1
