"""CPU of nodes that best-effort pods gave back for an LC instance which has not taken it yet.

An eviction frees a CPU request, and the instance's resize takes it a moment later, when the kubelet has carried it out. In between the
centre's books show it as free, and the next placement, five times a second, would give it to the very request that was evicted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tango.domain.identity import NodeKey
from tango.domain.resource_axis import CPU
from tango.domain.snapshot import FleetSnapshot


class ReservedCpu:
    """Reservations of one scheduler process; its methods may be called from any thread. A process that takes over begins without any: they
    are for seconds."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._held: dict[NodeKey, tuple[float, float]] = {}
        """By node: millicores, and until when."""

    def reserve(self, node: NodeKey, millicores: float, *, for_s: float) -> None:
        """Keep this much of a node, in place of what was kept there before; 0 gives it back."""
        with self._lock:
            if millicores > 0:
                self._held[node] = millicores, self._now_s() + for_s
            else:
                self._held.pop(node, None)

    def taken_off(self, snapshot: FleetSnapshot) -> FleetSnapshot:
        """The snapshot with less CPU on nodes of which some is kept."""
        with self._lock:
            now_s = self._now_s()
            self._held = {node: kept for node, kept in self._held.items() if kept[1] > now_s}
            held = dict(self._held)
        if not held:
            return snapshot
        allocatable = snapshot.allocatable.copy()
        allocatable[CPU] -= np.array([held.get(node, (0.0, 0.0))[0] for node in snapshot.node_keys])
        return replace(snapshot, allocatable=allocatable)
