"""Plans: the results of decisions. What a policy cannot place is part of its plan, not an exception."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.domain.identity import PodKey
from tango.domain.requests import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class LcPlan:
    """The node of each LC arrival; arrays are in the order of the arrivals, shape (n,)."""

    node: NDArray[np.int32]
    """Row of the snapshot's nodes, or -1: no instance can take the request now."""
    late: NDArray[np.bool_]
    """Whether the request is dispatched although it is expected to miss its target."""
    shed: NDArray[np.bool_]
    """Whether the request is given up (only where `LcSettings.keep_late` is False)."""
    expected_s: NDArray[np.float64]
    """Expected seconds from the decision to the completion: round trip, queue and service."""
    policy: str = ""
    """The policy that really decided, so that a fallback shows."""
    fallback_reason: str = ""
    """Why a policy other than the run's own decided; empty if it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BePlan:
    """The node of each pending BE request; arrays are in the order of the requests, shape (n,)."""

    node: NDArray[np.int32]
    """Row of the snapshot's nodes, or -1: the request stays pending."""
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
        """The pod to resize."""
        return PodKey(self.cluster, self.pod)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedResize:
    """A resize that a node, or the API server for it, refused for good: neither it nor a larger one is asked for again."""

    pod: PodKey
    limit_millicores: int
    request_millicores: int
    larger_limit: bool
    """Whether it asked for a larger limit; if not, what was refused is the CPU request."""

    @classmethod
    def of(cls, resize: Resize) -> RefusedResize:
        """What a resize asked for."""
        return cls(
            pod=resize.pod_key,
            limit_millicores=resize.cpu_limit_after_millicores,
            request_millicores=resize.cpu_request_after_millicores,
            larger_limit=resize.cpu_limit_after_millicores > resize.cpu_limit_before_millicores,
        )


class Spared(NamedTuple):
    """A BE pod that stayed on a node where another one was evicted."""

    pod: str
    service: str
    work_lost_s: float
    """What its eviction would have thrown away, CPU-seconds."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """One BE pod to evict. Plans list them in order of the work lost, the least first."""

    cluster: str
    node: str
    pod: str
    run_id: int
    request_id: int
    epoch: int
    work_lost_s: float
    has_grace: bool = False
    """Whether its process may want its grace to save what it has done, as a pod of the user's own may: its request goes back when the pod
    has ended, and not before."""
    reason: Reason = Reason.EVICTED
    service: str = ""
    """Whose pod it is."""
    memory_mib: float = 0.0
    """What the pod requests; its CPU is its service's."""
    tenant: str = ""
    """Whose request it is."""
    why: str = ""
    """For whom it makes room, in words."""
    spared: tuple[Spared, ...] = ()
    """Who was there beside it and stayed."""

    @property
    def pod_key(self) -> PodKey:
        """The pod to evict."""
        return PodKey(self.cluster, self.pod)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingPlan:
    """The resizes and evictions of one round of re-assurance."""

    resizes: tuple[Resize, ...] = field(default=())
    evictions: tuple[Eviction, ...] = field(default=())
