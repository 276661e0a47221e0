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

from tango.domain.identity import NodeKey, PodKey
from tango.domain.lifecycle import IN_FLIGHT, LIVE, TERMINAL, Event, Outcome, Transition, states_before, transition
from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import Batch, LcArrivals, LcWork, Reason, RequestState
from tango.domain.runs import (
    ENDED,
    OPEN,
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
    can_become,
    require_ended,
)
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import pending_columns
from tango.errors import Fenced, StoreError, UsageError
from tango.ports.leases import Fence
from tango.ports.requests import Dispatched, Released, StartHere
from tango.ports.runs import Swept


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

    def open(self) -> Iterator[Row]:
        """Rows of runs whose requests move on."""
        return (row for run in self.runs.values() if run.info.status in OPEN for row in run.rows)

    def holding(self) -> Iterator[Row]:
        """Rows of runs that may have something in flight: those that are being cancelled too."""
        return (row for run in self.runs.values() if run.info.status not in ENDED for row in run.rows)

    def happens(self, row: Row, event: Event) -> Transition | None:
        """Let an event happen to a request: the state, epoch and attempt that follow. None, and nothing happens, where it cannot."""
        found = transition(event, row.state, row.service_class)
        if found is not None:
            row.state = found.after or row.state
            row.epoch, row.attempt = row.epoch + found.gives_out, row.attempt + found.gives_out
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
                service_class=row.service_class,
                latency_s=latency_s,
                outcome=outcome,
                reason=reason,
                work_lost_s=work_lost_s,
                ended_at_s=self.now_s(),
            )
        )


class MemoryRunStore:
    """Implements `tango.ports.runs.RunStore`."""

    def __init__(self, state: MemoryState, *, chunk_rows: int = 1000) -> None:
        self._state = state
        self._chunk_rows = chunk_rows

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
        """Open."""
        return [run.info for _, run in sorted(self._state.runs.items()) if run.info.status in OPEN]

    def cancelling_runs(self) -> list[int]:
        """By id."""
        return [k for k, run in sorted(self._state.runs.items()) if run.info.status is RunStatus.CANCELLING]

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
            if can_become(run.info.status, status):
                run.info = replace(run.info, status=status)

    def cancel(self, run_id: int) -> bool:
        """The run alone."""
        with self._state.lock:
            stops = self.run(run_id).status in OPEN
            if stops:
                self.set_status(run_id, RunStatus.CANCELLING)
            return stops

    def sweep_cancelled(self, run_id: int, *, beyond: int = -1) -> Swept:
        """One chunk."""
        with self._state.lock:
            run = self._state.runs.get(run_id)
            if run is None or run.info.status is not RunStatus.CANCELLING:
                return Swept(cancelled=0, last_request=None, pods=())
            rows = [row for row in run.rows if row.request_id > beyond and row.state in LIVE][: self._chunk_rows]
            pods = tuple(PodKey(row.target_cluster, row.pod) for row in rows if row.state in IN_FLIGHT and row.pod)
            for row in rows:
                found = self._state.happens(row, Event.CANCEL)
                if found and found.outcome:
                    self._state.end(row, found.outcome, str(Reason.CANCELLED))
            return Swept(cancelled=len(rows), last_request=rows[-1].request_id if rows else None, pods=pods)

    def close_cancelled(self, run_id: int) -> bool:
        """Once nothing is live."""
        with self._state.lock:
            closes = self.run(run_id).status is RunStatus.CANCELLING and self.all_terminal(run_id)
            if closes:
                self.set_status(run_id, RunStatus.CANCELLED)
            return closes

    def counts(self, run_id: int) -> StateCounts:
        """Per state."""
        with self._state.lock:
            by_state: dict[str, int] = defaultdict(int)
            for row in self._state.runs[run_id].rows if run_id in self._state.runs else []:
                by_state[str(row.state)] += 1
            return StateCounts(by_state=dict(by_state))

    def all_terminal(self, run_id: int) -> bool:
        """Whether nothing will change any more."""
        return run_id in self._state.runs and all(row.state in TERMINAL for row in self._state.runs[run_id].rows)

    def save_metrics(self, run_id: int, metrics: Mapping[str, float | int | str | None]) -> None:
        """Replace the figures."""
        self._state.runs[run_id].metrics = dict(metrics)

    def delete(self, run_id: int) -> None:
        """Everything of a run that is over."""
        with self._state.lock:
            require_ended(self.run(run_id))
            del self._state.runs[run_id]
            self._state.attempts = [a for a in self._state.attempts if a.run_id != run_id]


class MemoryRequestStore:
    """Implements `tango.ports.requests.RequestStore`."""

    def __init__(self, state: MemoryState, *, max_attempts: int) -> None:
        self._state = state
        self._max_attempts = max_attempts

    def release_due(self, run_id: int, *, until_s: float, limit: int) -> Released:
        """accepted → released, earliest first."""
        with self._state.lock:
            waiting = [row for row in self._open(run_id) if row.state in states_before(Event.RELEASE)]
            due = [row for row in waiting[:limit] if row.due_s <= until_s]
            for row in due:
                self._state.happens(row, Event.RELEASE)
                row.released_at_s = self._state.now_s()
            left = waiting[len(due) :]
            return Released(batches=tuple(_batches(due)), next_due_s=left[0].due_s if left else None)

    def unclaimed(self, *, older_than_s: float, limit: int) -> list[Batch]:
        """Released for too long, and not given again before that time has passed once more."""
        with self._state.lock:
            now_s = self._state.now_s()
            rows = [
                r for r in self._state.open() if r.state in states_before(Event.ANNOUNCE) and r.released_at_s < now_s - older_than_s
            ]
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
                for r in self._open(run_id, request_ids)
                if r.state in states_before(Event.DISPATCH) and r.service_class is ServiceClass.LC
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
                for row in self._open(run_id, [request_id]):
                    if row.epoch != arrivals.epoch[k]:
                        continue
                    node = int(plan.node[k])
                    starts = here is not None and bool(here.rows[k])
                    if plan.shed[k]:
                        self._state.happens(row, Event.SHED)
                    elif node >= 0 and self._state.happens(row, Event.START if starts else Event.DISPATCH):
                        self._give_out(row, snapshot, node, here.lease_s if here and starts else lease_s)
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
            rows = self._under_epoch(run_id, request_ids, epochs) if self._open(run_id) else ()
            for row in rows:
                if row.target_cluster == cluster and self._state.happens(row, Event.CLAIM):
                    row.owner, row.lease_until_s = owner, self._state.now_s() + lease_s
                    claimed.append(_work(run_id, row))
        return claimed

    def renew(self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int], *, lease_s: float) -> int:
        """Extend what still stands."""
        with self._state.lock:
            rows = [row for row in self._under_epoch(run_id, request_ids, epochs) if self._state.happens(row, Event.RENEW)]
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
            rows = [row for row in self._state.open() if row.state in IN_FLIGHT and row.lease_until_s < now_s][:limit]
            for row in rows:
                of_row = {"run_id": row.run_id, "request_id": row.request_id, "epoch": row.epoch}
                self._end(Outcome(**of_row, event=Event.REQUEUE, reason=Reason.LEASE_EXPIRED))
            return _batches([row for row in rows if row.state is RequestState.RELEASED])

    def admit_be(self, run_id: int, request_ids: Sequence[int], *, most_memory_mib: Mapping[str, float]) -> int:
        """released → pending or failed."""
        admitted = 0
        with self._state.lock:
            for row in self._open(run_id, request_ids):
                if row.service not in most_memory_mib:
                    continue
                fits = row.memory_mib <= most_memory_mib[row.service]
                happened = self._state.happens(row, Event.ADMIT if fits else Event.REFUSE)
                admitted += fits and happened is not None
        return admitted

    def pending_be(self, *, limit: int) -> PendingBatch:
        """The oldest first."""
        with self._state.lock:
            found = [row for row in self._state.open() if row.state in states_before(Event.PLACE)]
            rows = [replace(r) for r in sorted(found, key=lambda r: (r.due_s, r.run_id, r.request_id))[:limit]]
        services, clusters = sorted({r.service for r in rows}), sorted({r.cluster for r in rows})
        pending = pending_columns(
            [self._state.services[name] for name in services],
            run_id=np.array([r.run_id for r in rows], np.int64),
            request_id=np.array([r.request_id for r in rows], np.int64),
            service=np.array([services.index(r.service) for r in rows], np.int32),
            entry_cluster=np.array([clusters.index(r.cluster) for r in rows], np.int32),
            waited_s=np.zeros(len(rows)),
            cpu_work_s=np.array([r.cpu_work_s for r in rows], np.float64),
            memory_mib=np.array([r.memory_mib for r in rows], np.float64),
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
                for row in self._open(int(p.run_id[k]), [int(p.request_id[k])]):
                    if row.epoch != p.epoch[k] or not self._state.happens(row, Event.PLACE):
                        continue
                    self._give_out(row, snapshot, int(plan.node[k]), lease_s)
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
                            extended=snapshot.resources.extended_of(p.requests[:, k]),
                        )
                    )
            self._state.decisions.append((decision, tuple(sorted({int(r) for r in p.run_id}))))
        return placed

    def mark_running(self, placements: Iterable[tuple[int, int, int, float]], *, lease_s: float) -> int:
        """placed → running, and renewed where it runs."""
        counted = 0
        with self._state.lock:
            for run_id, request_id, epoch, started_at_s in placements:
                for row in self._under_epoch(run_id, [request_id], [epoch]):
                    if not self._state.happens(row, Event.RUN):
                        continue
                    zero_s = self._state.runs[run_id].info.started_at_s or 0.0
                    row.lease_until_s = self._state.now_s() + lease_s
                    row.started_s = started_at_s - zero_s if row.started_s is None else row.started_s
                    counted += 1
        return counted

    def _open(self, run_id: int, request_ids: Sequence[int] | None = None) -> list[Row]:
        """Rows of a run whose requests move on, all of them or those named; none of another run."""
        run = self._state.runs.get(run_id)
        if run is None or run.info.status not in OPEN:
            return []
        return run.rows if request_ids is None else list(self._state.requests(run_id, request_ids))

    def _under_epoch(self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int]) -> Iterator[Row]:
        wanted = set(zip((int(k) for k in request_ids), (int(e) for e in epochs), strict=True))
        return (row for row in self._state.requests(run_id, request_ids) if (row.request_id, row.epoch) in wanted)

    def _give_out(self, row: Row, snapshot: FleetSnapshot, node: int, lease_s: float) -> None:
        row.node, row.target_cluster = snapshot.nodes[node], snapshot.clusters[snapshot.node_cluster[node]]
        row.lease_until_s = self._state.now_s() + lease_s

    def _end(self, ended: Outcome) -> int:
        for row in self._under_epoch(ended.run_id, [ended.request_id], [ended.epoch]):
            exhausted = ended.event is Event.REQUEUE and row.attempt >= self._max_attempts
            event = Event.EXHAUST if exhausted else ended.event
            reason = f"{Reason.ATTEMPTS_EXHAUSTED}: {ended.reason}" if exhausted else str(ended.reason)
            happened = self._state.happens(row, event)
            if happened is None:
                return 0
            row.reason = reason
            won = event is Event.SUCCEED
            row.finished_s = ended.finished_s if won else None
            row.started_s = (row.started_s if ended.started_s is None else ended.started_s) if won else row.started_s
            row.released_at_s = self._state.now_s() if row.state is RequestState.RELEASED else row.released_at_s
            self._state.end(
                row,
                happened.outcome,
                str(ended.reason),
                latency_s=ended.finished_s - row.due_s if won and ended.finished_s is not None else None,
                work_lost_s=ended.work_lost_s,
            )
            return 1
        return 0


class MemoryLeaseStore:
    """Implements `tango.ports.leases.LeaseStore`."""

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
    """Implements `tango.ports.events.EventLog`."""

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
