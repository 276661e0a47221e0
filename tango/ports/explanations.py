"""What an explanation is gathered from: few reads, each by an index or of a small table, so that asking costs no more with a long queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tango.domain.candidates import Weighed
from tango.domain.explanation import RequestStanding
from tango.domain.identity import NodeKey, RequestKey
from tango.domain.observations import InstanceState
from tango.domain.request_history import EndedAttempt
from tango.domain.shares import LcWait
from tango.domain.snapshot import FleetSnapshot

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """A request with what is recorded beside it."""

    standing: RequestStanding
    attempts: tuple[EndedAttempt, ...]
    is_declared: bool
    """Whether its service is declared."""
    weighed: tuple[Weighed, ...] = ()
    """Candidates of its attempts, as far as its decisions have kept them, by epoch."""
    decided_by: tuple[str, ...] = ()
    """Policies of the decisions that are known of it."""
    pod_waits: str = ""
    """Why the pod of its present attempt has not started, in Kubernetes' words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFleet:
    """The fleet as the next decision would see it, but for what was measured of latencies and what waits."""

    snapshot: FleetSnapshot
    told_ready: NDArray[np.bool_]
    """(n,) whether each node was ready when it was last told of."""
    away_s: Mapping[str, float]
    """By cluster that is away, for how many seconds it has not been heard of."""
    waits: Mapping[str, LcWait]
    """By cluster, how much LC waits there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedResize:
    """The last resize of an instance of a service on a node, where it was not carried out."""

    pod: str
    wanted_request_millicores: float
    actual_request_millicores: float
    actual_limit_millicores: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningThere:
    """A BE request that is in flight on a node."""

    key: RequestKey
    service: str
    state: str
    pod: str
    memory_mib: float


class ExplanationStore(Protocol):
    """Reads for explanations; nothing is written. Raises: StoreUnavailable, StoreError."""

    def together(self, read: Callable[[], T]) -> T:
        """Call `read`, whose reads of this store and of those beside it cost less together than one by one. It may be called again."""
        ...

    def request(self, key: RequestKey) -> RecordedRequest:
        """Raises: UsageError if there is no such request."""
        ...

    def fleet(self) -> RecordedFleet:
        """As of now, by the database's clock."""
        ...

    def waiting_before(self, standing: RequestStanding, *, most: int) -> int:
        """How many pending BE requests come before this one, counted up to `most` of each run."""
        ...

    def instances(self, service: str = "", *, node: NodeKey | None = None) -> Sequence[tuple[str, InstanceState]]:
        """(cluster, instance) of a service, or on a node."""
        ...

    def resize(self, node: NodeKey, service: str) -> RecordedResize | None:
        """The last one there within a minute, if it was deferred and is not in effect yet."""
        ...

    def running_on(self, node: NodeKey, *, limit: int) -> Sequence[RunningThere]:
        """BE in flight on a node, by request."""
        ...

    def decision(self, decision_id: int | None) -> Mapping[str, Any]:
        """A decision by its number, or the latest placement of BE, with what it `weighed` (`tango.domain.candidates.Weighed`).

        Raises: UsageError if there is none.
        """
        ...
