"""Requests: what users send, their states, and the columns in which they travel. How they change is in `tango.domain.lifecycle`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tango.domain.identity import NodeKey
from tango.domain.resource_axis import CPU, MEMORY, row

NO_TARGET_S = 1e9
"""The target, in seconds, of a request that has none."""


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
    # New ones go to the end: the engine writes a reason by its place here, and so do the digests of runs.
    OUT_OF_PODS = "out-of-pods"
    OUT_OF_EXTENDED = "out-of-extended-resource"
    CALLER_GONE = "caller-gone"
    SERVICE_ERROR = "service-error"
    ANSWER_CUT = "answer-cut"
    EXIT_CODE = "exit-code"
    OOM_KILLED = "oom-killed"
    DEADLINE_EXCEEDED = "deadline-exceeded"
    IMAGE_NOT_PULLED = "image-not-pulled"
    NEVER_STARTED = "never-started"
    JOURNAL_LOST = "journal-lost"
    CLUSTER_REFUSED = "cluster-refused"
    NODE_REFUSED = "node-refused"
    PREEMPTED = "preempted"
    NODE_TAINTED = "node-tainted"
    INSTANCE_GONE = "instance-gone"
    CALLER_TIMED_OUT = "caller-timed-out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests of one service that reached one cluster in one release window; one Celery message carries one batch."""

    run_id: int
    cluster: str
    service: str
    service_class: int
    request_ids: tuple[int, ...]


def batches_of(rows: Iterable[tuple[int, int, int, str, str]]) -> tuple[Batch, ...]:
    """Group (run, request, class, service, cluster) rows into batches."""
    groups: dict[tuple[int, str, int, str], list[int]] = defaultdict(list)
    for run_id, request_id, service_class, service, cluster in rows:
        groups[run_id, cluster, int(service_class), service].append(request_id)
    return tuple(
        Batch(run_id=run_id, cluster=cluster, service=service, service_class=of_class, request_ids=tuple(sorted(ids)))
        for (run_id, cluster, of_class, service), ids in groups.items()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LcArrivals:
    """Released latency-critical requests, one array element each, shape (n,). Times are wall seconds since the run began."""

    request_id: NDArray[np.int64]
    service: NDArray[np.int32]
    """Row of the snapshot's services."""
    entry_cluster: NDArray[np.int32]
    """Row of the snapshot's clusters."""
    due_s: NDArray[np.float64]
    target_s: NDArray[np.float64]
    """Time that each has from its due time to its answer."""
    cpu_work_s: NDArray[np.float64]
    memory_mib: NDArray[np.float64]
    epoch: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.request_id)

    @property
    def deadline_s(self) -> NDArray[np.float64]:
        """(n,) when each has to be answered. The target is kept and this derived: the difference of both times is not the target
        again but rounded, and a cost that just meets it would be late."""
        return self.due_s + self.target_s


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledArrivals(LcArrivals):
    """Those that callers sent, who may have chosen their targets: these then tell nothing of the work."""

    patience_s: NDArray[np.float64]
    """Time after the due time after which the caller of each waits no more; infinite: never."""
    last_node: NDArray[np.int32]
    """Row of the node of the last attempt of each; -1: none, or it is not there any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BePending:
    """Best-effort requests that wait for a node, one array element each, shape (k,), oldest due time first."""

    run_id: NDArray[np.int64]
    request_id: NDArray[np.int64]
    service: NDArray[np.int32]
    entry_cluster: NDArray[np.int32]
    waited_s: NDArray[np.float64]
    cpu_work_s: NDArray[np.float64]
    requests: NDArray[np.float64]
    """(r, k) what each one's pod asks for; rows as those of `FleetSnapshot.allocatable`."""
    cpu_limit_millicores: NDArray[np.float64]
    epoch: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.request_id)

    @property
    def cpu_request_millicores(self) -> NDArray[np.float64]:
        """(k,) the CPU row of `requests`."""
        return row(self.requests, CPU)

    @property
    def memory_mib(self) -> NDArray[np.float64]:
        """(k,) the memory row of `requests`."""
        return row(self.requests, MEMORY)

    def rows(self, index: NDArray[np.intp]) -> BePending:
        """Only these requests, in this order."""
        # `take` keeps rows contiguous, as compiled policies expect them; an index in brackets would not.
        return BePending(**{f.name: getattr(self, f.name).take(index, axis=-1) for f in fields(self)})


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
    target_s: float
    """Time from the due time to the answer."""
    cpu_work_s: float
    memory_mib: float
    patience_s: float = math.inf
    """Time from the due time after which nobody waits for the answer."""
    is_called: bool = False
    """Whether a caller sent it, so that it has a call."""
    answer_expected_s: float = math.nan
    """When its plan expected the answer, in wall seconds since the run began; NaN where the worker that runs it did not plan it."""
    attempt: int = 1
    """Which of its attempts this is: epochs that a disruption ended do not count."""
