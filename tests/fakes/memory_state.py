"""What the stores in memory keep: requests, attempts, runs, leases and events.

One `MemoryState` stands for the database, one lock for its transactions. Its clock moves by a hair at every call, so that a lease of no
length has run out by the next one. The stores over it keep the same contracts as `tango.store`, held to them by `tests/contract/`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tango.domain.jobs import ContainerEnd, ContainerLog, NewJob
from tango.domain.lifecycle import Event, Transition, transition
from tango.domain.requests import RequestState
from tango.domain.runs import (
    ENDED,
    OPEN,
    DecisionRecord,
    LiveUse,
    RunInfo,
    RunKind,
    ScalingRecord,
)
from tango.domain.services import Service, ServiceClass
from tango.domain.shares import LcInFlight, LcWait
from tango.domain.tenants import DEFAULT_TENANT, Tenant
from tango.ports.leases import Fence
from tango.settings import LeaseSettings
from tango.store.live_runs import NUMBERS_IN_BLOCK


@dataclass(slots=True)
class StoredJob:
    """What a job has beside its request, as its table has it."""

    asked: NewJob
    submitted_at_s: float
    retries_used: int = 0
    exit_code: int | None = None
    message: str = ""
    containers: tuple[ContainerEnd, ...] = ()
    ended_at_s: float | None = None
    waiting: tuple[int, str] = (0, "")
    """(epoch, why the pod of that attempt waits)."""
    logs: dict[tuple[int, str], tuple[float, ContainerLog]] = field(default_factory=dict)
    """By epoch and container, with when each was kept."""


@dataclass(slots=True)
class Row:
    """One request, as its table has it."""

    run_id: int
    request_id: int
    service_class: ServiceClass
    service: str
    cluster: str
    due_s: float
    target_s: float | None
    cpu_work_s: float
    memory_mib: float
    state: RequestState = RequestState.ACCEPTED
    epoch: int = 0
    attempt: int = 0
    target_cluster: str = ""
    node: str = ""
    pod: str = ""
    owner: str = ""
    late: bool = False
    started_s: float | None = None
    finished_s: float | None = None
    reason: str = ""
    released_at_s: float = 0.0
    lease_until_s: float = 0.0
    job: StoredJob | None = None
    tenant: str = ""
    """Empty: its run's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One epoch that is over."""

    run_id: int
    request_id: int
    epoch: int
    service: str
    cluster: str
    node: str
    pod: str = ""
    service_class: ServiceClass
    latency_s: float | None
    outcome: str
    reason: str
    work_lost_s: float
    ended_at_s: float


@dataclass(slots=True)
class Run:
    """A run with its requests: of a replayed one in order of their ids, which count from 0; of a live one as they came."""

    info: RunInfo
    rows: list[Row]
    places: dict[int, int] = field(default_factory=dict)
    """Of a live run, by id, where in `rows` a request is."""
    next_number: int = 0
    """Of a live run, the first number for requests that nobody has."""
    own_numbers: list[int] = field(default_factory=list)
    """Of a live run, numbers that the centre has taken for what enters there."""
    metrics: dict[str, float | int | str | None] = field(default_factory=dict)
    ended_at_s: float | None = None
    closed_at_s: float | None = None
    """Of a live run, since when it accepts nothing more."""
    tenant: str = DEFAULT_TENANT


@dataclass(slots=True)
class Share:
    """A cluster's share of a run, as its table has it."""

    accepted: int
    opened: bool = False
    handed_to: int = -1
    complete: bool = False
    terminal: int = 0


@dataclass(slots=True)
class Order:
    """The figures of an ended run, as their table has them."""

    epoch: int = 0
    lease_until_s: float = float("-inf")
    kept: dict[str, Any] | None = None
    failure: str = ""


@dataclass(slots=True)
class MemoryState:
    """What all in-memory stores of one test share."""

    services: dict[str, Service] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    decisions: list[tuple[DecisionRecord, tuple[int, ...]]] = field(default_factory=list)
    scalings: list[ScalingRecord] = field(default_factory=list)
    leases: dict[str, tuple[Fence, float]] = field(default_factory=dict)
    shares: dict[tuple[int, str], Share] = field(default_factory=dict)
    """By run and cluster."""
    positions: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    """By cluster and journal: the sequence number and when it was shipped."""
    orders: dict[int, Order] = field(default_factory=dict)
    """Figures of ended runs, by run."""
    deleted: dict[int, str] = field(default_factory=dict)
    """Why runs were deleted, by run."""
    gaps: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By cluster: how many events of its journals were lost, and when that was told last."""
    in_flight: dict[str, list[LcInFlight]] = field(default_factory=dict)
    lc_waits: dict[str, LcWait] = field(default_factory=dict)
    """Of LC, by entry cluster, as the agents last told."""
    seen: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By cluster: when its agent last wrote, and since when it does so again after it was away."""
    clusters: tuple[str, ...] = ()
    """Of the fleet in force, in order of their names."""
    live_use: LiveUse = field(default_factory=LiveUse)
    live_is_wanted: bool = False
    number_block: int = NUMBERS_IN_BLOCK
    """Numbers of live runs that are given out together."""
    live_day: str = "2001-01-01"
    """The day that live runs without a name are of; it changes when a test says so."""
    tenants: dict[str, Tenant] = field(default_factory=dict)
    """Those that are declared, by name."""
    lease: LeaseSettings = field(default_factory=LeaseSettings)
    lock: threading.RLock = field(default_factory=threading.RLock)
    time_s: float = 0.0

    def now_s(self) -> float:
        """Later at every call."""
        self.time_s += 1e-6
        return self.time_s

    def is_silent(self, cluster: str) -> bool:
        """Whether its agent was heard of, but not lately."""
        return cluster in self.seen and self.seen[cluster][0] < self.now_s() - self.lease.silent_s

    def heard_of(self, cluster: str) -> None:
        """Its agent writes."""
        _, back_s = self.seen.get(cluster, (0.0, float("-inf")))
        self.seen[cluster] = self.now_s(), self.now_s() if self.is_silent(cluster) else back_s

    def due_and_work(self, run_id: int, request_id: int) -> tuple[float, float]:
        """Of one request."""
        (row,) = self.requests(run_id, [request_id])
        return row.due_s, row.cpu_work_s

    def pass_over(self, cluster: str, by_s: float) -> None:
        """Let what was heard of it lie so many seconds further back."""
        seen_s, back_s = self.seen[cluster]
        self.seen[cluster] = seen_s - by_s, back_s - by_s

    def excuses(self, cluster: str) -> bool:
        """Whether leases of what runs there stand although they are over."""
        seen_s, back_s = self.seen.get(cluster, (float("-inf"), float("-inf")))
        is_away = self.is_silent(cluster) and seen_s > self.now_s() - self.lease.away_s
        return is_away or back_s > self.now_s() - self.lease.placement_s

    def requests(self, run_id: int, request_ids: Iterable[int]) -> Iterator[Row]:
        """Rows by id; unknown ones are left out."""
        run = self.runs.get(run_id)
        if run is None:
            return iter(())
        ids = sorted({int(k) for k in request_ids})
        places = [run.places.get(k, -1) for k in ids] if run.info.kind is RunKind.LIVE else ids
        return (run.rows[k] for k in places if 0 <= k < len(run.rows))

    def add(self, row: Row) -> Row:
        """Give a request of a live run its place; gives what is kept of it."""
        run = self.runs[row.run_id]
        assert row.request_id not in run.places, f"request {row.run_id}/{row.request_id} comes twice"
        run.places[row.request_id] = len(run.rows)
        run.rows.append(row)
        return row

    def open(self) -> Iterator[Row]:
        """Rows of runs whose requests move on."""
        return (row for run in self.runs.values() if run.info.status in OPEN for row in run.rows)

    def holding(self) -> Iterator[Row]:
        """Rows of runs that may have something in flight: those that are being cancelled too."""
        return (row for run in self.runs.values() if run.info.status not in ENDED for row in run.rows)

    def tenant_of(self, row: Row) -> str:
        """Whose a request is: its job's, its own, or its run's."""
        return row.job.asked.tenant if row.job is not None else row.tenant or self.runs[row.run_id].tenant

    def happens(self, row: Row, event: Event) -> Transition | None:
        """Let an event happen to a request: the state, epoch and attempt that follow. None, and nothing happens, where it cannot."""
        found = transition(event, row.state, row.service_class)
        if found is not None:
            row.state = found.after or row.state
            row.epoch, row.attempt = row.epoch + found.gives_out, row.attempt + found.attempts_added
            row.reason = str(found.reason or row.reason)
        return found

    def end(self, row: Row, outcome: str, reason: str, *, latency_s: float | None = None, work_lost_s: float = 0.0) -> None:
        """Append the attempt of the row's epoch."""
        self.attempts.append(
            Attempt(
                run_id=row.run_id,
                request_id=row.request_id,
                epoch=row.epoch,
                service=row.service,
                cluster=row.target_cluster,
                node=row.node,
                pod=row.pod,
                service_class=row.service_class,
                latency_s=latency_s,
                outcome=outcome,
                reason=reason,
                work_lost_s=work_lost_s,
                ended_at_s=self.now_s(),
            )
        )
