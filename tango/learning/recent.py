"""A running mean of the CPU that LC uses on each node: a snapshot shows one instant, and the LC load of a small node changes in seconds.

An exponentially weighted mean over time: after `RECENT_S` seconds a value counts 1/e. It is made of the snapshots that a policy is
given, so that the live and the simulated scheduler compute it alike.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tango.domain.snapshot import FleetSnapshot

RECENT_S = 20.0
"""Time constant of the mean."""


class RecentLc:
    """The running mean that one policy keeps."""

    def __init__(self) -> None:
        self._seen: FleetSnapshot | None = None
        self._at_s = np.inf
        self._mean = np.zeros(0)

    def added(self, snapshot: FleetSnapshot) -> FleetSnapshot:
        """The snapshot with `lc_cpu_recent`; it begins anew when the nodes change or time goes back. One that has it stays as it is."""
        if snapshot.lc_cpu_recent is not None:
            return snapshot
        now: NDArray[np.float64] = np.minimum(snapshot.lc_cpu_in_use, snapshot.cpu_allocatable)
        if self._seen is None or not snapshot.has_nodes_of(self._seen) or snapshot.at_s < self._at_s:
            self._mean = now
        else:
            known = np.isfinite(now) & np.isfinite(self._mean)  # what is not measured at a tick must not stay for ever
            mean = self._mean + (1.0 - np.exp(-(snapshot.at_s - self._at_s) / RECENT_S)) * (now - self._mean)
            self._mean = np.where(known, mean, np.where(np.isfinite(now), now, self._mean))
        self._seen, self._at_s = snapshot, snapshot.at_s
        return replace(snapshot, lc_cpu_recent=self._mean)
