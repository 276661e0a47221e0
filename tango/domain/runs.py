"""Runs: one trace under one system on one fleet, from its submission to its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tango.domain.lifecycle import TERMINAL
from tango.domain.plans import Spared
from tango.domain.quantities import Amounts
from tango.domain.requests import BePending
from tango.domain.tenants import DEFAULT_TENANT
from tango.errors import UsageError

if TYPE_CHECKING:  # a simulation has runs and no jobs
    from tango.domain.jobs import JobPod


class RunKind(StrEnum):
    """Where the requests of a run come from, and where they are served."""

    REPLAYED = "replayed"
    """A trace, served by clusters."""
    LIVE = "live"
    """Callers, served by clusters."""
    SIMULATED = "simulated"
    """A trace or another run, served in the simulator."""


class RunStatus(StrEnum):
    """Where a run stands. `draining`: all released, some still live; `failed`: a simulation that ended in an error.

    `cancelling`: no request of it moves on any more, and those that are live are being cancelled, chunk by chunk.
    """

    ACCEPTED = "accepted"
    RUNNING = "running"
    DRAINING = "draining"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


OPEN = (RunStatus.ACCEPTED, RunStatus.RUNNING, RunStatus.DRAINING)
"""States of a live run in which its requests are released, dispatched and placed."""

ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)
"""Final states of a run."""


def can_become(before: RunStatus, after: RunStatus) -> bool:
    """Whether a run's status may change so: never from a final one, from `cancelling` only to `cancelled`, from `draining` to
    none that is open."""
    if before is RunStatus.CANCELLING:
        return after is RunStatus.CANCELLED
    if before is RunStatus.DRAINING and after in OPEN:
        return False
    return before not in ENDED and before is not after


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run that is not stored yet."""

    name: str
    system: str
    fleet: str
    fleet_hash: str
    seed: int
    speed: float
    """Trace seconds per wall second: times, work and targets were divided by it."""
    reassure: bool
    trace_source: str
    span_s: float
    """Trace seconds from zero to the last arrival."""
    settings: dict[str, object] = field(default_factory=dict)
    tenant: str = ""
    """Whose its requests are; empty: those of the default tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRequests:
    """The requests of a run about to be stored, in order of `due_s`; a request's id is its row, 0 … n-1. Wall seconds."""

    due_s: NDArray[np.float64]
    target_s: NDArray[np.float64]
    """Wall seconds from due time within which an LC request must be answered; NaN for BE."""
    service_class: NDArray[np.int8]
    service: NDArray[np.int32]
    """Index into `services`."""
    cluster: NDArray[np.int32]
    """Index into `clusters`."""
    cpu_work_s: NDArray[np.float64]
    memory_mib: NDArray[np.float64]
    """Whole MiB: rounded up here, and nowhere else, so that both worlds count with what a pod's manifest can say."""
    services: tuple[str, ...]
    clusters: tuple[str, ...]
    tenant: NDArray[np.int32] | None = None
    """(n,) index into `tenants`: whose each request is; None: all are of the first."""
    tenants: tuple[str, ...] = (DEFAULT_TENANT,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory_mib", np.ceil(self.memory_mib))
        if self.tenant is not None and len(self.tenant) != len(self.due_s):
            raise ValueError(f"{len(self.tenant)} requests have a tenant, expected {len(self.due_s)}")

    def __len__(self) -> int:
        return len(self.due_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A stored run, as its row has it."""

    run_id: int
    name: str
    status: RunStatus
    system: str
    fleet: str
    seed: int
    speed: float
    reassure: bool
    started_at_s: float | None
    """Unix time of the run's zero; None until the replayer has begun."""
    accepted: int
    kind: RunKind = RunKind.REPLAYED


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveUse:
    """What decides for the requests that callers send."""

    system: str = "tango"
    run_name: str = ""
    """Name of the run that they go into; empty: one run for each day, by its date."""
    reassure: bool = True


def require_ended(run: RunInfo) -> None:
    """Raises: UsageError, with what to do, for a run that has not ended."""
    if run.status is RunStatus.CANCELLING:
        raise UsageError(
            f"run {run.run_id} is still being cancelled; `tango run show {run.run_id}` tells how many requests are left"
        )
    if run.status not in ENDED:
        raise UsageError(f"run {run.run_id} is {run.status}; cancel it first: tango run cancel {run.run_id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StateCounts:
    """Number of requests of a run in each state, at one instant; `accepted` is their sum at every instant."""

    by_state: dict[str, int]

    @property
    def accepted(self) -> int:
        """Number of all requests of the run."""
        return sum(self.by_state.values())

    @property
    def terminal(self) -> int:
        """Number of requests in a final state."""
        return sum(self.by_state.get(str(state), 0) for state in TERMINAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """One scheduling cycle, as the `decision` table keeps it; what recording it took, the database measures itself."""

    kind: str
    """`lc` or `be`."""
    cluster: str
    """The deciding cluster; empty for the centre."""
    policy: str
    checkpoint: str
    considered: int
    placed: int
    unplaced: int
    late: int
    shed: int
    snapshot_ms: float
    decide_ms: float
    note: str = ""
    weighed: str = ""
    """JSON of the candidates of some of its requests (`tango.domain.candidates.written`); empty: none are kept."""


ScalingOutcome = Literal["done", "deferred", "infeasible", "error", "refused"]
"""What became of a resize or an eviction: carried out; put off by the kubelet or a disruption budget; more than its node can hold;
failed; or not taken by the cluster for a reason of its own. Tables of runs hold an outcome by its place here: new ones go to the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRecord:
    """One resize or eviction, as the `scaling_event` table keeps it."""

    kind: str
    """`resize` or `evict`."""
    cluster: str
    node: str
    service: str
    pod: str
    before_millicores: int | None
    after_millicores: int | None
    slack: float | None
    reason: str
    actuation_ms: float | None
    outcome: ScalingOutcome = "done"
    after_request_millicores: int | None = None
    """Resizes: the CPU request that was asked for, beside the limit."""
    spared: tuple[Spared, ...] = ()
    """Evictions: who was on the node beside it and stayed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One BE request with its node, recorded and about to become a pod."""

    run_id: int
    request_id: int
    epoch: int
    cluster: str
    node: str
    service: str
    pod: str
    cpu_work_s: float
    cpu_request_millicores: int
    cpu_limit_millicores: int
    memory_mib: int
    extended: Amounts = ()
    """What it asks for of extended resources; request and limit are equal."""
    job: JobPod | None = None
    """What its pod has of its own, where it is a job."""
    older: tuple[tuple[str, str], ...] = ()
    """(cluster, namespace) of earlier epochs of the request, but for where this one is, in order: a pod of one may still run there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRequests:
    """What the store hands to BE placement: the rows and the names behind their indices."""

    pending: BePending
    services: tuple[str, ...]
    clusters: tuple[str, ...]
    reached: Mapping[tuple[int, str], tuple[float, int]] = field(default_factory=dict)
    """By run and tenant, due time (wall seconds since it began) and id of the last of its requests here, in order of these."""
    tenants: tuple[str, ...] = ()
    tenant: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    """(k,) index into `tenants`: whose each request is."""
    due_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(k,) wall seconds since the run of each began."""
