"""The states of BE requests in memory, each changed by the table of `tango.domain.lifecycle`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tango.domain.identity import NodeKey, parts_of_pod, pod_in
from tango.domain.jobs import JobPod, NewJob
from tango.domain.lifecycle import IN_FLIGHT, Event, Outcome, states_before
from tango.domain.plans import BePlan
from tango.domain.requests import Batch, Reason, RequestState
from tango.domain.runs import OPEN, DecisionRecord, PendingRequests, Placement
from tango.domain.services import ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import pending_columns
from tango.domain.tracing import TRACEPARENT_VARIABLE, AttemptTrack, BeTrack
from tango.errors import Fenced
from tango.ports.leases import Fence
from tango.ports.requests import Released
from tango.settings import JobSettings
from tango.store.attempts import TOLD_WITHIN_S
from tests.fakes.memory_state import MemoryState, Row

MOST_JOB_ATTEMPTS = 5
"""Of a job, its retries apart; both worlds of the contract suites have this limit."""


class MemoryBeRequests:
    """Implements `tango.ports.requests.BeRequests`."""

    def __init__(self, state: MemoryState, *, max_attempts: int, job: JobSettings | None = None) -> None:
        self._state = state
        self._max_attempts = max_attempts
        self._job = job or JobSettings()

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
            lost = [row for row in self._be(self._state.open()) if row.state in states_before(Event.ANNOUNCE)]
            rows = sorted((r for r in lost if r.released_at_s < now_s - older_than_s), key=lambda r: r.due_s)[:limit]
            for row in rows:
                row.released_at_s = now_s
            return _batches(rows)

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

    def requeue_expired(self, *, limit: int) -> int:
        """Back to the queue, where the lease ran out."""
        with self._state.lock:
            now_s = self._state.now_s()
            over = [r for r in self._be(self._state.open()) if r.state in IN_FLIGHT and r.lease_until_s < now_s]
            rows = [r for r in over if not self._state.excuses(r.target_cluster)][:limit]
            return sum(
                self._end(
                    Outcome(
                        run_id=row.run_id,
                        request_id=row.request_id,
                        epoch=row.epoch,
                        event=Event.REQUEUE,
                        reason=Reason.LEASE_EXPIRED,
                    )
                )
                for row in rows
            )

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

    def pending_be(self, *, limit: int, behind: Mapping[tuple[int, str], tuple[float, int]] | None = None) -> PendingRequests:
        """By age and share."""
        behind = behind or {}
        with self._state.lock:
            found = [
                row
                for row in self._state.open()
                if row.state in states_before(Event.PLACE)
                and (row.due_s, row.request_id) > behind.get((row.run_id, self._state.tenant_of(row)), (-np.inf, -1))
            ]
            turns, ordered = Counter[tuple[int, str]](), []
            by_age = sorted(found, key=lambda r: (r.due_s, r.run_id, r.request_id))
            for place, row in zip(by_age, self._by_priority(by_age), strict=True):
                stream = place.run_id, self._state.tenant_of(place)
                ordered.append((turns[stream], place.due_s, place.run_id, row))
                turns[stream] += 1
            of_tenant, rows = Counter[str](), []
            for *_, row in sorted(ordered, key=lambda at: at[:3]):
                of_tenant[self._state.tenant_of(row)] += 1
                if of_tenant[self._state.tenant_of(row)] <= limit:
                    rows.append(replace(row))
            of = [self._state.tenant_of(row) for row in rows]
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
        reached: dict[tuple[int, str], tuple[float, int]] = {}
        for row, tenant in zip(rows, of, strict=True):
            at = row.due_s, row.request_id
            reached[row.run_id, tenant] = max(reached.get((row.run_id, tenant), at), at)
        tenants = tuple(sorted(set(of)))
        return PendingRequests(
            pending=pending,
            services=tuple(services),
            clusters=tuple(clusters),
            reached=reached,
            tenants=tenants,
            tenant=np.array([tenants.index(name) for name in of], np.int32),
            due_s=np.array([r.due_s for r in rows], np.float64),
        )

    def record_placement(
        self,
        batch: PendingRequests,
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
                    namespace = next(s.namespace for s in snapshot.services if s.name == row.service)
                    row.pod = pod_in(namespace, f"be-r{row.run_id}-{row.request_id}-e{row.epoch}")
                    row.started_s = None
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
                            job=None if row.job is None else _pod_of(row.attempt, row.job.asked),
                            older=self._older(row),
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

    def tracks(self, run_id: int, request_ids: Sequence[int]) -> dict[int, BeTrack]:
        """Without the times, which this world does not keep, but for when each attempt ended."""
        with self._state.lock:
            zero_s = self._state.runs[run_id].info.started_at_s or 0.0
            return {
                row.request_id: BeTrack(
                    state=row.state,
                    service=row.service,
                    entry_cluster=row.cluster,
                    due_s=row.due_s,
                    reason=row.reason,
                    traceparent=dict(row.job.asked.env).get(TRACEPARENT_VARIABLE, "") if row.job else "",
                    attempts=[
                        AttemptTrack(
                            epoch=a.epoch,
                            node=NodeKey(a.cluster, a.node) if a.node else None,
                            pod=a.pod,
                            released_s=None,
                            dispatched_s=None,
                            started_s=None,
                            finished_s=None,
                            ended_s=a.ended_at_s - zero_s,
                            reason="" if a.outcome == RequestState.SUCCEEDED else a.reason or a.outcome,
                        )
                        for a in sorted(self._state.attempts, key=lambda a: a.epoch)
                        if (a.run_id, a.request_id) == (run_id, row.request_id)
                    ],
                )
                for row in self._be(self._state.requests(run_id, request_ids))
            }

    def _older(self, row: Row) -> tuple[tuple[str, str], ...]:
        """Of ended epochs, but for clusters that are taken for lost."""
        oldest_s = self._state.now_s() - self._state.lease.away_s
        ended = {
            (a.cluster, parts_of_pod(a.pod)[0])
            for a in self._state.attempts
            if (a.run_id, a.request_id) == (row.run_id, row.request_id)
        }
        heard_of = {cluster for cluster, (seen_s, _) in self._state.seen.items() if seen_s > oldest_s}
        here = row.target_cluster, parts_of_pod(row.pod)[0]
        return tuple(sorted(at for at in ended if at[0] in heard_of and at != here))

    def _by_priority(self, by_age: Sequence[Row]) -> list[Row]:
        """The rows, those of one run and tenant in places of their own rows: by priority and age."""
        of_tenant: dict[tuple[int, str], list[Row]] = defaultdict(list)
        for row in by_age:
            of_tenant[row.run_id, self._state.tenant_of(row)].append(row)
        for rows in of_tenant.values():
            rows.sort(key=lambda r: r.due_s - (r.job.asked.priority if r.job else 0) * self._job.priority_s)
        return [of_tenant[row.run_id, self._state.tenant_of(row)].pop(0) for row in by_age]

    @staticmethod
    def _be(rows: Iterable[Row]) -> list[Row]:
        return [row for row in rows if row.service_class is ServiceClass.BE]

    def _open(self, run_id: int, request_ids: Sequence[int] | None = None) -> list[Row]:
        """BE rows of a run whose requests move on, all of them or those named; none of another run."""
        run = self._state.runs.get(run_id)
        if run is None or run.info.status not in OPEN:
            return []
        return self._be(run.rows if request_ids is None else self._state.requests(run_id, request_ids))

    def _under_epoch(self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int]) -> Iterator[Row]:
        wanted = set(zip((int(k) for k in request_ids), (int(e) for e in epochs), strict=True))
        return (row for row in self._be(self._state.requests(run_id, request_ids)) if (row.request_id, row.epoch) in wanted)

    def _give_out(self, row: Row, snapshot: FleetSnapshot, node: int, lease_s: float) -> None:
        row.node, row.target_cluster = snapshot.nodes[node], snapshot.clusters[snapshot.node_cluster[node]]
        row.lease_until_s = self._state.now_s() + lease_s

    def _end(self, ended: Outcome) -> int:
        for row in self._under_epoch(ended.run_id, [ended.request_id], [ended.epoch]):
            most = self._max_attempts if row.job is None else MOST_JOB_ATTEMPTS + row.job.asked.retries
            exhausted = ended.event is Event.REQUEUE and row.attempt >= most
            event = Event.EXHAUST if exhausted else ended.event
            happened = self._state.happens(row, event)
            if happened is None:
                return 0
            told = f"{ended.reason}: {ended.words}" if ended.words else str(ended.reason)
            row.reason = f"{Reason.ATTEMPTS_EXHAUSTED}: {ended.reason}" if exhausted else told
            won = event is Event.SUCCEED
            if ended.started_s is not None:
                ended = replace(ended, started_s=max(ended.started_s, row.due_s))
            if ended.finished_s is not None:
                ended = replace(ended, finished_s=max(ended.finished_s, ended.started_s or row.due_s, row.due_s))
            row.finished_s = ended.finished_s if won else None
            row.started_s = (row.started_s if ended.started_s is None else ended.started_s) if won else row.started_s
            if won and row.job is not None and row.finished_s is not None and row.started_s is not None:
                cores = self._state.services[row.service].cpu_limit_millicores / 1e3
                row.cpu_work_s = min(row.cpu_work_s, (row.finished_s - row.started_s + TOLD_WITHIN_S) * cores)
            self._state.end(
                row,
                happened.outcome,
                str(ended.reason),
                latency_s=ended.finished_s - row.due_s if won and ended.finished_s is not None else None,
                work_lost_s=ended.work_lost_s,
            )
            return 1
        return 0


def _pod_of(attempt: int, job: NewJob) -> JobPod:
    return JobPod(
        attempt=attempt, command=job.command, args=job.args, env=job.env, deadline_s=job.deadline_s, by_local_user=job.by_local_user
    )


def _batches(rows: Iterable[Row]) -> list[Batch]:
    groups: dict[tuple[int, str, str, int], list[int]] = defaultdict(list)
    for row in rows:
        groups[row.run_id, row.cluster, row.service, int(row.service_class)].append(row.request_id)
    return [
        Batch(run_id=run_id, cluster=cluster, service=service, service_class=label, request_ids=tuple(sorted(ids)))
        for (run_id, cluster, service, label), ids in groups.items()
    ]
