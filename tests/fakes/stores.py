"""The stores in memory: the same contracts as `tango.store`, held to them by the suites in `tests/contract/`.

One `MemoryState` stands for the database, one lock for its transactions. Its clock moves by a hair at every call, so that a lease
of no length has run out by the next one.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tango.domain.identity import NodeKey
from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import TERMINAL_STATES, Batch, BePending, LcArrivals, LcWork, Outcome, Reason, RequestState
from tango.domain.runs import (
    ENDED,
    DecisionRecord,
    NewRequests,
    NewRun,
    PendingBatch,
    Placement,
    RunInfo,
    RunKind,
    RunStatus,
    ScalingRecord,
    StateCounts,
)
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.errors import Fenced, StoreError, UsageError
from tango.ports import Dispatched, Fence, Released, StartHere

HELD = (RequestState.DISPATCHED, RequestState.PLACED, RequestState.RUNNING)
"""States in which a cluster has the request, under an epoch and a lease."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One epoch that is over."""

    run_id: int
    request_id: int
    epoch: int
    service: str
    cluster: str
    node: str
    service_class: ServiceClass
    latency_s: float | None
    outcome: str
    reason: str
    work_lost_s: float
    ended_at_s: float


@dataclass(slots=True)
class Run:
    """A run with its requests by id."""

    info: RunInfo
    rows: list[Row]
    metrics: dict[str, float | int | str | None] = field(default_factory=dict)


@dataclass(slots=True)
class MemoryState:
    """What all in-memory stores of one test share."""

    services: dict[str, Service] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    decisions: list[tuple[DecisionRecord, tuple[int, ...]]] = field(default_factory=list)
    scalings: list[ScalingRecord] = field(default_factory=list)
    leases: dict[str, tuple[Fence, float]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    time_s: float = 0.0

    def now_s(self) -> float:
        """Later at every call."""
        self.time_s += 1e-6
        return self.time_s

    def requests(self, run_id: int, request_ids: Iterable[int]) -> Iterator[Row]:
        """Rows by id; unknown ones are left out."""
        rows = self.runs[run_id].rows if run_id in self.runs else []
        return (rows[k] for k in sorted({int(k) for k in request_ids}) if 0 <= k < len(rows))

    def active(self) -> Iterator[Row]:
        """Rows of runs that are not over."""
        return (row for run in self.runs.values() if run.info.status not in ENDED for row in run.rows)

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
                service_class=row.service_class,
                latency_s=latency_s,
                outcome=outcome,
                reason=reason,
                work_lost_s=work_lost_s,
                ended_at_s=self.now_s(),
            )
        )


class MemoryRunStore:
    """Implements `tango.ports.RunStore`."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def create_run(self, run: NewRun, requests: NewRequests) -> int:
        """All rows or, where one does not hold what its column takes, none."""
        with self._state.lock:
            run_id = max(self._state.runs, default=0) + 1
            rows = [_row(run_id, k, requests) for k in range(len(requests))]
            names = ("name", "system", "fleet", "seed", "speed", "reassure")
            info = RunInfo(
                run_id=run_id,
                status=RunStatus.ACCEPTED,
                started_at_s=None,
                accepted=len(rows),
                **{name: getattr(run, name) for name in names},
            )
            self._state.runs[run_id] = Run(info, rows)
            return run_id

    def run(self, run_id: int) -> RunInfo:
        """One run."""
        if run_id not in self._state.runs:
            latest = ", ".join(f"{r.run_id} ({r.name})" for r in self.runs(limit=5)) or "none yet"
            raise UsageError(f"there is no run {run_id}; the latest runs: {latest}")
        return self._state.runs[run_id].info

    def runs(self, *, limit: int = 50, kind: RunKind | None = None) -> list[RunInfo]:
        """Newest first."""
        newest = [self._state.runs[k].info for k in sorted(self._state.runs, reverse=True)]
        return [info for info in newest if kind in (None, info.kind)][:limit]

    def active_runs(self) -> list[RunInfo]:
        """Not over."""
        return [run.info for _, run in sorted(self._state.runs.items()) if run.info.status not in ENDED]

    def begin(self, run_id: int, *, at_s: float) -> float:
        """Set the zero once."""
        with self._state.lock:
            info = self.run(run_id)
            if info.started_at_s is None:
                self._state.runs[run_id].info = replace(info, started_at_s=at_s)
            return self._state.runs[run_id].info.started_at_s or at_s

    def set_status(self, run_id: int, status: RunStatus) -> None:
        """Forward only."""
        with self._state.lock:
            run = self._state.runs[run_id]
            back = run.info.status is RunStatus.DRAINING and status in (RunStatus.ACCEPTED, RunStatus.RUNNING)
            if run.info.status not in ENDED and not back:
                run.info = replace(run.info, status=status)

    def cancel(self, run_id: int) -> int:
        """Every request that is not terminal."""
        with self._state.lock:
            self.run(run_id)
            self.set_status(run_id, RunStatus.CANCELLED)
            open_rows = [row for row in self._state.runs[run_id].rows if row.state not in TERMINAL_STATES]
            for row in open_rows:
                if row.state in HELD:
                    self._state.end(row, "cancelled", str(Reason.CANCELLED))
                row.state, row.reason = RequestState.CANCELLED, str(Reason.CANCELLED)
            return len(open_rows)

    def counts(self, run_id: int) -> StateCounts:
        """Per state."""
        with self._state.lock:
            by_state: dict[str, int] = defaultdict(int)
            for row in self._state.runs[run_id].rows if run_id in self._state.runs else []:
                by_state[str(row.state)] += 1
            return StateCounts(by_state=dict(by_state))

    def all_terminal(self, run_id: int) -> bool:
        """Whether nothing will change any more."""
        return run_id in self._state.runs and all(row.state in TERMINAL_STATES for row in self._state.runs[run_id].rows)

    def save_metrics(self, run_id: int, metrics: Mapping[str, float | int | str | None]) -> None:
        """Replace the figures."""
        self._state.runs[run_id].metrics = dict(metrics)

    def delete(self, run_id: int) -> None:
        """Everything of a run that is over."""
        with self._state.lock:
            info = self.run(run_id)
            if info.status not in ENDED:
                raise UsageError(f"run {run_id} is {info.status}; cancel it first: tango run cancel {run_id}")
            del self._state.runs[run_id]
            self._state.attempts = [a for a in self._state.attempts if a.run_id != run_id]


class MemoryRequestStore:
    """Implements `tango.ports.RequestStore`."""

    def __init__(self, state: MemoryState, *, max_attempts: int) -> None:
        self._state = state
        self._max_attempts = max_attempts

    def release_due(self, run_id: int, *, until_s: float, limit: int) -> Released:
        """accepted → released, earliest first."""
        with self._state.lock:
            rows = self._state.runs[run_id].rows if run_id in self._state.runs else []
            waiting = [row for row in rows if row.state is RequestState.ACCEPTED]
            due = [row for row in waiting[:limit] if row.due_s <= until_s]
            for row in due:
                row.state, row.released_at_s = RequestState.RELEASED, self._state.now_s()
            left = waiting[len(due) :]
            return Released(batches=tuple(_batches(due)), next_due_s=left[0].due_s if left else None)

    def unclaimed(self, *, older_than_s: float, limit: int) -> list[Batch]:
        """Released for too long, and not given again before that time has passed once more."""
        with self._state.lock:
            now_s = self._state.now_s()
            rows = [r for r in self._state.active() if r.state is RequestState.RELEASED and r.released_at_s < now_s - older_than_s]
            rows = sorted(rows, key=lambda r: r.due_s)[:limit]
            for row in rows:
                row.released_at_s = now_s
            return _batches(rows)

    def waiting_lc(self, run_id: int, request_ids: Sequence[int], snapshot: FleetSnapshot) -> LcArrivals:
        """Those still released, by due time."""
        with self._state.lock:
            services, clusters = [s.name for s in snapshot.services], list(snapshot.clusters)
            rows = [
                replace(r)
                for r in self._state.requests(run_id, request_ids)
                if r.state is RequestState.RELEASED and r.service_class is ServiceClass.LC
                if r.service in services and r.cluster in clusters
            ]
        rows.sort(key=lambda r: r.due_s)
        return LcArrivals(
            request_id=np.array([r.request_id for r in rows], np.int64),
            service=np.array([services.index(r.service) for r in rows], np.int32),
            entry_cluster=np.array([clusters.index(r.cluster) for r in rows], np.int32),
            due_s=np.array([r.due_s for r in rows], np.float64),
            deadline_s=np.array([_deadline_s(r) for r in rows], np.float64),
            cpu_work_s=np.array([r.cpu_work_s for r in rows], np.float64),
            memory_mib=np.array([r.memory_mib for r in rows], np.float64),
            epoch=np.array([r.epoch for r in rows], np.int32),
        )

    def record_dispatch(
        self,
        run_id: int,
        arrivals: LcArrivals,
        plan: LcPlan,
        snapshot: FleetSnapshot,
        decision: DecisionRecord,
        *,
        lease_s: float,
        here: StartHere | None = None,
    ) -> Dispatched:
        """released → dispatched, running or shed, under the epoch that was read."""
        by_cluster: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        started: list[LcWork] = []
        with self._state.lock:
            for k, request_id in enumerate(arrivals.request_id):
                for row in self._state.requests(run_id, [request_id]):
                    if row.state is not RequestState.RELEASED or row.epoch != arrivals.epoch[k]:
                        continue
                    node = int(plan.node[k])
                    if plan.shed[k]:
                        row.state, row.reason = RequestState.SHED, str(Reason.TARGET_UNREACHABLE)
                    elif node >= 0:
                        starts = here is not None and bool(here.rows[k])
                        state = RequestState.RUNNING if starts else RequestState.DISPATCHED
                        self._give_out(row, state, snapshot, node, here.lease_s if here and starts else lease_s)
                        row.late = bool(plan.late[k])
                        if here and starts:
                            row.owner = here.owner
                            started.append(_work(run_id, row))
                        else:
                            by_cluster[row.target_cluster][0].append(row.request_id)
                            by_cluster[row.target_cluster][1].append(row.epoch)
            placed = len(started) + sum(len(ids) for ids, _ in by_cluster.values())
            self._state.decisions.append((replace(decision, placed=placed), (run_id,)))
        return Dispatched(
            by_cluster={c: (tuple(ids), tuple(epochs)) for c, (ids, epochs) in by_cluster.items()}, started=tuple(started)
        )

    def claim_execution(
        self, run_id: int, cluster: str, request_ids: Sequence[int], epochs: Sequence[int], *, owner: str, lease_s: float
    ) -> list[LcWork]:
        """dispatched → running for one worker."""
        claimed = []
        with self._state.lock:
            for row in self._under_epoch(run_id, request_ids, epochs, (RequestState.DISPATCHED,)):
                if row.target_cluster != cluster:
                    continue
                row.state, row.owner, row.lease_until_s = RequestState.RUNNING, owner, self._state.now_s() + lease_s
                claimed.append(_work(run_id, row))
        return claimed

    def renew(self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int], *, lease_s: float) -> int:
        """Extend what still stands."""
        with self._state.lock:
            rows = list(self._under_epoch(run_id, request_ids, epochs, HELD))
            for row in rows:
                row.lease_until_s = self._state.now_s() + lease_s
            return len(rows)

    def settle(self, outcomes: Sequence[Outcome]) -> int:
        """Each epoch ends once."""
        with self._state.lock:
            return sum(self._end(outcome) for outcome in outcomes)

    def requeue_expired(self, *, limit: int) -> list[Batch]:
        """Back to the queue, where the lease ran out."""
        with self._state.lock:
            now_s = self._state.now_s()
            rows = [row for row in self._state.active() if row.state in HELD and row.lease_until_s < now_s][:limit]
            for row in rows:
                back = RequestState.RELEASED if row.service_class is ServiceClass.LC else RequestState.PENDING
                self._end(
                    Outcome(run_id=row.run_id, request_id=row.request_id, epoch=row.epoch, state=back, reason=Reason.LEASE_EXPIRED)
                )
            return _batches([row for row in rows if row.state is RequestState.RELEASED])

    def admit_be(self, run_id: int, request_ids: Sequence[int], *, nodes: Sequence[tuple[int, int]]) -> int:
        """released → pending or failed."""
        admitted = 0
        with self._state.lock:
            for row in self._state.requests(run_id, request_ids):
                if row.state is not RequestState.RELEASED or row.service_class is not ServiceClass.BE:
                    continue
                asked = self._state.services[row.service].cpu_request_millicores
                if any(asked <= cpu and row.memory_mib <= memory for cpu, memory in nodes):
                    row.state, row.reason, admitted = RequestState.PENDING, "", admitted + 1
                else:
                    row.state, row.reason = RequestState.FAILED, str(Reason.DOES_NOT_FIT)
        return admitted

    def pending_be(self, *, limit: int) -> PendingBatch:
        """The oldest first."""
        with self._state.lock:
            found = [row for row in self._state.active() if row.state is RequestState.PENDING]
            rows = [replace(r) for r in sorted(found, key=lambda r: (r.due_s, r.run_id, r.request_id))[:limit]]
        services, clusters = sorted({r.service for r in rows}), sorted({r.cluster for r in rows})
        declared = [self._state.services[r.service] for r in rows]
        pending = BePending(
            run_id=np.array([r.run_id for r in rows], np.int64),
            request_id=np.array([r.request_id for r in rows], np.int64),
            service=np.array([services.index(r.service) for r in rows], np.int32),
            entry_cluster=np.array([clusters.index(r.cluster) for r in rows], np.int32),
            waited_s=np.zeros(len(rows)),
            cpu_work_s=np.array([r.cpu_work_s for r in rows], np.float64),
            cpu_request_millicores=np.array([s.cpu_request_millicores for s in declared], np.float64),
            cpu_limit_millicores=np.array([s.cpu_limit_millicores for s in declared], np.float64),
            memory_mib=np.ceil(np.array([r.memory_mib for r in rows], np.float64)),
            epoch=np.array([r.epoch for r in rows], np.int32),
        )
        return PendingBatch(pending=pending, services=tuple(services), clusters=tuple(clusters))

    def record_placement(
        self,
        batch: PendingBatch,
        plan: BePlan,
        snapshot: FleetSnapshot,
        decision: DecisionRecord,
        *,
        fence: Fence,
        lease_s: float,
    ) -> list[Placement]:
        """pending → placed, under the scheduler's fence."""
        p = batch.pending
        placed = []
        with self._state.lock:
            held, until_s = self._state.leases.get(fence.name, (None, 0.0))
            if held != fence or until_s <= self._state.now_s():
                raise Fenced(f"the lease {fence.name} has moved on from {fence.owner}, epoch {fence.epoch}")
            for k in np.flatnonzero(plan.node >= 0):
                for row in self._state.requests(int(p.run_id[k]), [int(p.request_id[k])]):
                    if row.state is not RequestState.PENDING or row.epoch != p.epoch[k]:
                        continue
                    self._give_out(row, RequestState.PLACED, snapshot, int(plan.node[k]), lease_s)
                    row.pod, row.started_s = f"be-r{row.run_id}-{row.request_id}-e{row.epoch}", None
                    placed.append(
                        Placement(
                            run_id=row.run_id,
                            request_id=row.request_id,
                            epoch=row.epoch,
                            cluster=row.target_cluster,
                            node=row.node,
                            service=row.service,
                            pod=row.pod,
                            cpu_work_s=row.cpu_work_s,
                            cpu_request_millicores=int(p.cpu_request_millicores[k]),
                            cpu_limit_millicores=int(p.cpu_limit_millicores[k]),
                            memory_mib=int(p.memory_mib[k]),
                        )
                    )
            self._state.decisions.append((decision, tuple(sorted({int(r) for r in p.run_id}))))
        return placed

    def mark_running(self, placements: Iterable[tuple[int, int, int, float]], *, lease_s: float) -> int:
        """placed → running, and renewed where it runs."""
        counted = 0
        with self._state.lock:
            for run_id, request_id, epoch, started_at_s in placements:
                for row in self._under_epoch(run_id, [request_id], [epoch], (RequestState.PLACED, RequestState.RUNNING)):
                    zero_s = self._state.runs[run_id].info.started_at_s or 0.0
                    row.state, row.lease_until_s = RequestState.RUNNING, self._state.now_s() + lease_s
                    row.started_s = started_at_s - zero_s if row.started_s is None else row.started_s
                    counted += 1
        return counted

    def _under_epoch(
        self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int], states: Sequence[RequestState]
    ) -> Iterator[Row]:
        wanted = set(zip((int(k) for k in request_ids), (int(e) for e in epochs), strict=True))
        for row in self._state.requests(run_id, request_ids):
            if row.state in states and (row.request_id, row.epoch) in wanted:
                yield row

    def _give_out(self, row: Row, state: RequestState, snapshot: FleetSnapshot, node: int, lease_s: float) -> None:
        row.state, row.epoch, row.attempt = state, row.epoch + 1, row.attempt + 1
        row.node, row.target_cluster = snapshot.nodes[node], snapshot.clusters[snapshot.node_cluster[node]]
        row.lease_until_s = self._state.now_s() + lease_s

    def _end(self, ended: Outcome) -> int:
        for row in self._under_epoch(ended.run_id, [ended.request_id], [ended.epoch], HELD):
            back = ended.state in (RequestState.RELEASED, RequestState.PENDING)
            exhausted = back and row.attempt >= self._max_attempts
            row.state = RequestState.FAILED if exhausted else ended.state
            row.reason = f"{Reason.ATTEMPTS_EXHAUSTED}: {ended.reason}" if exhausted else str(ended.reason)
            won = row.state is RequestState.SUCCEEDED
            row.finished_s = ended.finished_s if won else None
            row.started_s = (row.started_s if ended.started_s is None else ended.started_s) if won else row.started_s
            row.released_at_s = self._state.now_s() if row.state is RequestState.RELEASED else row.released_at_s
            self._state.end(
                row,
                "requeued" if back and not exhausted else str(row.state),
                str(ended.reason),
                latency_s=ended.finished_s - row.due_s if won and ended.finished_s is not None else None,
                work_lost_s=ended.work_lost_s,
            )
            return 1
        return 0


class MemoryLeaseStore:
    """Implements `tango.ports.LeaseStore`."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def acquire(self, name: str, *, owner: str, ttl_s: float) -> Fence | None:
        """Take or renew."""
        with self._state.lock:
            now_s = self._state.now_s()
            held, until_s = self._state.leases.get(name, (None, 0.0))
            if held and held.owner != owner and until_s >= now_s:
                return None
            epoch = held.epoch + (held.owner != owner) if held else 1
            fence = Fence(name=name, owner=owner, epoch=epoch)
            self._state.leases[name] = (fence, now_s + ttl_s)
            return fence

    def release(self, fence: Fence) -> None:
        """Give up, where it is still ours."""
        with self._state.lock:
            if self._state.leases.get(fence.name, (None, 0.0))[0] == fence:
                self._state.leases[fence.name] = (fence, self._state.now_s() - 1.0)


class MemoryEventLog:
    """Implements `tango.ports.EventLog`."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def scaling(self, records: Sequence[ScalingRecord]) -> None:
        """Append."""
        with self._state.lock:
            self._state.scalings.extend(records)


def _row(run_id: int, k: int, requests: NewRequests) -> Row:
    for name in ("due_s", "cpu_work_s", "memory_mib"):
        if np.isnan(getattr(requests, name)[k]):
            raise StoreError(f"request {k} has no {name}")
    if not 0 <= requests.service[k] < len(requests.services) or not 0 <= requests.cluster[k] < len(requests.clusters):
        raise StoreError(f"request {k} has no service or cluster")
    target_s = float(requests.target_s[k])
    return Row(
        run_id=run_id,
        request_id=k,
        service_class=ServiceClass(int(requests.service_class[k])),
        service=requests.services[requests.service[k]],
        cluster=requests.clusters[requests.cluster[k]],
        due_s=float(requests.due_s[k]),
        target_s=None if np.isnan(target_s) else target_s,
        cpu_work_s=float(requests.cpu_work_s[k]),
        memory_mib=float(requests.memory_mib[k]),
    )


def _work(run_id: int, row: Row) -> LcWork:
    return LcWork(
        run_id=run_id,
        request_id=row.request_id,
        epoch=row.epoch,
        service=row.service,
        entry_cluster=row.cluster,
        node=NodeKey(row.target_cluster, row.node),
        due_s=row.due_s,
        deadline_s=_deadline_s(row),
        cpu_work_s=row.cpu_work_s,
        memory_mib=row.memory_mib,
    )


def _deadline_s(row: Row) -> float:
    return row.due_s + (1e9 if row.target_s is None else row.target_s)


def _batches(rows: Iterable[Row]) -> list[Batch]:
    groups: dict[tuple[int, str, str, int], list[int]] = defaultdict(list)
    for row in rows:
        groups[row.run_id, row.cluster, row.service, int(row.service_class)].append(row.request_id)
    return [
        Batch(run_id=run_id, cluster=cluster, service=service, service_class=label, request_ids=tuple(sorted(ids)))
        for (run_id, cluster, service, label), ids in groups.items()
    ]
