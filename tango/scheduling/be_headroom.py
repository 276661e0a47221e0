"""What BE pods may still get on each node, counted down within a tick, and the filter that every BE policy obeys."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.domain.requests import BePending
from tango.domain.resource_axis import CPU, MEMORY, row
from tango.domain.snapshot import FleetSnapshot
from tango.node_model.capacity import count_in, mark_fitting, most_memory


class BeHeadroom:
    """What is left on each node, by the kubelet's rule of admission: requests of every resource against allocatable."""

    def __init__(self, snapshot: FleetSnapshot) -> None:
        self.snapshot = snapshot
        self.free = snapshot.free
        """(r, n) what no pod requests"""
        self.be_limit = snapshot.be_cpu_limit.copy()
        """(n,) CPU limits of the BE pods, millicores"""

    @property
    def cpu_millicores(self) -> NDArray[np.float64]:
        """(n,) the CPU row of `free`."""
        return row(self.free, CPU)

    @property
    def memory_mib(self) -> NDArray[np.float64]:
        """(n,) the memory row of `free`."""
        return row(self.free, MEMORY)

    def fits(self, pending: BePending, request: int) -> NDArray[np.bool_]:
        """(n,) nodes that can hold the request of this row now."""
        found = np.zeros(len(self.snapshot.nodes), np.bool_)
        mark_fitting(self.free, pending.requests, request, found)
        found &= self.snapshot.node_ready
        return found

    def count_in(self, pending: BePending, request: int, node: int) -> None:
        """Count the request of this row in on the node."""
        count_in(self.free, node, pending.requests, request)
        self.be_limit[node] += pending.cpu_limit_millicores[request]


def most_memory_mib(free: NDArray[np.float64], requests: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k,) the most memory that a pod with the other requests of column k of `requests` (r, k) can have on a node with `free` (r, n), MiB.

    A request that asks for more fits nowhere; -1: none fits, whatever its memory. Requests of one service differ in memory alone, so that
    a figure a service is enough to admit by, in SQL too.
    """
    most = np.zeros(requests.shape[1])
    most_memory(free, np.ascontiguousarray(requests), MEMORY, most)
    return most
