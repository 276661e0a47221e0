"""Plans: what a decision returns. What cannot be done is part of the plan, with a reason, not an exception."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tango.domain.identity import PodKey
from tango.domain.requests import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class LcPlan:
    """Where each LC arrival goes; arrays follow the arrivals, shape (n,)."""

    node: NDArray[np.int32]
    """Row of the snapshot's nodes, or -1: no instance can take it now."""
    late: NDArray[np.bool_]
    """Kept although it is expected to miss its target."""
    shed: NDArray[np.bool_]
    """Given up on purpose (only where the setting says so)."""
    expected_s: NDArray[np.float64]
    """Expected completion after the decision: RTT + queue + service time."""
    policy: str = ""
    """The policy that really decided, so that a fallback shows."""
    fallback_reason: str = ""
    """Why it was another one than the run's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BePlan:
    """Where each pending BE request goes; arrays follow the requests, shape (n,)."""

    node: NDArray[np.int32]
    """Row of the snapshot's nodes, or -1: it stays pending."""
    policy: str
    """The policy that really decided, so that a fallback shows."""
    checkpoint: str = ""
    fallback_reason: str = ""
    decide_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """One instance's new CPU limit (and request), to be applied in place through `pods/resize`."""

    cluster: str
    node: str
    pod: str
    service: str
    cpu_limit_before_millicores: int
    cpu_limit_after_millicores: int
    cpu_request_after_millicores: int
    slack: float
    reason: str

    @property
    def pod_key(self) -> PodKey:
        """Which pod of the fleet it is for."""
        return PodKey(self.cluster, self.pod)


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """One BE pod that gives way, least work lost first."""

    cluster: str
    node: str
    pod: str
    run_id: int
    request_id: int
    epoch: int
    work_lost_s: float
    reason: Reason = Reason.EVICTED

    @property
    def pod_key(self) -> PodKey:
        """Which pod of the fleet goes."""
        return PodKey(self.cluster, self.pod)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingPlan:
    """What one round of re-assurance does to one fleet."""

    resizes: tuple[Resize, ...] = field(default=())
    evictions: tuple[Eviction, ...] = field(default=())
