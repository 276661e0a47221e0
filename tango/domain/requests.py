"""Requests: what users send, their states, and the columns in which they travel. How they change is in `tango.domain.lifecycle`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tango.domain.identity import NodeKey


class RequestState(StrEnum):
    """Where a request stands."""

    ACCEPTED = "accepted"
    RELEASED = "released"
    PENDING = "pending"
    DISPATCHED = "dispatched"
    PLACED = "placed"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SHED = "shed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Why an attempt or a request ended other than well, or was moved."""

    NONE = ""
    LEASE_EXPIRED = "lease-expired"
    EVICTED = "evicted"
    NODE_LOST = "node-lost"
    POD_FAILED = "pod-failed"
    POD_LOST = "pod-lost"
    OUT_OF_CPU = "out-of-cpu"
    OUT_OF_MEMORY = "out-of-memory"
    INSTANCE_UNREACHABLE = "instance-unreachable"
    INSTANCE_REFUSED = "instance-refused"
    TIMED_OUT = "timed-out"
    NO_INSTANCE = "no-instance"
    DOES_NOT_FIT = "does-not-fit"
    TARGET_UNREACHABLE = "target-unreachable"
    ATTEMPTS_EXHAUSTED = "attempts-exhausted"
    CANCELLED = "cancelled-by-user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests of one service that reached one cluster in one release window; one Celery message carries one batch."""

    run_id: int
    cluster: str
    service: str
    service_class: int
    request_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LcArrivals:
    """Released latency-critical requests, one array element each, shape (n,). Times are wall seconds since the run began."""

    request_id: NDArray[np.int64]
    service: NDArray[np.int32]
    """Row of the snapshot's services."""
    entry_cluster: NDArray[np.int32]
    """Row of the snapshot's clusters."""
    due_s: NDArray[np.float64]
    deadline_s: NDArray[np.float64]
    cpu_work_s: NDArray[np.float64]
    memory_mib: NDArray[np.float64]
    epoch: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.request_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class BePending:
    """Best-effort requests that wait for a node, one array element each, shape (n,), oldest due time first."""

    run_id: NDArray[np.int64]
    request_id: NDArray[np.int64]
    service: NDArray[np.int32]
    entry_cluster: NDArray[np.int32]
    waited_s: NDArray[np.float64]
    cpu_work_s: NDArray[np.float64]
    cpu_request_millicores: NDArray[np.float64]
    cpu_limit_millicores: NDArray[np.float64]
    memory_mib: NDArray[np.float64]
    epoch: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.request_id)

    def rows(self, index: NDArray[np.intp]) -> BePending:
        """Only these rows, in this order."""
        return BePending(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class LcWork:
    """One dispatched LC request, claimed by the worker that runs it."""

    run_id: int
    request_id: int
    epoch: int
    service: str
    entry_cluster: str
    node: NodeKey
    """Where the plan sent it."""
    due_s: float
    deadline_s: float
    cpu_work_s: float
    memory_mib: float
