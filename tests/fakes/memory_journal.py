"""A journal in memory: implements `tango.ports.journal.Journal`, each request changed by the table of `tango.domain.lifecycle`."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tango.domain.identity import NodeKey
from tango.domain.lifecycle import IN_FLIGHT, LIVE, TERMINAL, Event, Outcome, Transition, states_before, transition
from tango.domain.observations import InstanceState, NodeState
from tango.domain.own_cluster import OwnView, as_observed
from tango.domain.patience import call_within_s
from tango.domain.plans import LcPlan
from tango.domain.requests import Batch, LcArrivals, LcWork, Reason, RequestState, batches_of
from tango.domain.runs import ENDED, OPEN, DecisionRecord, RunInfo, RunStatus
from tango.domain.services import Service, ServiceClass
from tango.domain.shares import AttemptCopy, DecisionCopy, LcInFlight, LcWait, PublishedFleet, RequestCopy, ShareRows, Shipment
from tango.domain.snapshot import FleetSnapshot
from tango.domain.tokens import KnownToken
from tango.domain.tracing import Track
from tango.errors import StoreUnavailable, UsageError
from tango.ports.requests import Dispatched, Released, StartHere
from tango.settings import JournalSettings, LcSettings


@dataclass(slots=True)
class LcRow:
    """One request of the journal."""

    run_id: int
    request_id: int
    service: str
    due_s: float
    target_s: float
    cpu_work_s: float
    memory_mib: float
    epoch: int
    attempt: int
    state: RequestState = RequestState.ACCEPTED
    target_cluster: str | None = None
    node: str | None = None
    owner: str | None = None
    late: bool = False
    started_s: float | None = None
    finished_s: float | None = None
    reason: str = ""
    released_at_s: float = 0.0
    lease_until_s: float = 0.0
    waits_from_s: float = 0.0
    dispatched_at_s: float | None = None
    decided: int | None = None

    def copy(self) -> RequestCopy:
        """As it is shipped."""
        where = (self.target_cluster, self.node, self.owner, self.late)
        times = (self.started_s, self.finished_s, self.reason)
        return RequestCopy(self.run_id, self.request_id, str(self.state), self.epoch, self.attempt, *where, *times)


Happened = tuple[RequestCopy | None, AttemptCopy | None, DecisionCopy | None]


class MemoryJournal:
    """The journal of one cluster. Its clock is later at every look."""

    def __init__(
        self, cluster: str = "c1", *, max_attempts: int, lc: LcSettings, wall_s: Callable[[], float], identity: int = 1
    ) -> None:
        self._cluster, self._max_attempts, self._lc, self._wall_s = cluster, max_attempts, lc, wall_s
        self._lock = threading.RLock()
        self.followed: dict[int, RunInfo] = {}
        self.rows: dict[tuple[int, int], LcRow] = {}
        self.events: list[Happened] = []
        """All that ever happened; the number of an event is one more than its place."""
        self.position, self._identity, self._centre = 0, identity, ""
        self.kept_events = JournalSettings().kept_events
        self._taken: dict[int, int] = {}
        self._dropped: set[int] = set()
        self._processes: dict[str, float] = {}
        self._leases: dict[str, tuple[str, float]] = {}
        self._published: PublishedFleet | None = None
        self._access: tuple[str, str] | None = None
        self._admitted: tuple[KnownToken, ...] = ()
        self._own: tuple[tuple[NodeState, ...], tuple[InstanceState, ...]] | None = None

    def admit(self, tokens: Sequence[KnownToken]) -> None:
        """All of them."""
        self._admitted = tuple(tokens)

    def admitted(self) -> tuple[KnownToken, ...]:
        """As last told."""
        return self._admitted

    # ---- requests

    def release_due(self, run_id: int, *, until_s: float, limit: int) -> Released:
        """accepted → released, earliest first."""
        with self._lock:
            waiting = [row for row in self._open(run_id) if row.state in states_before(Event.RELEASE)]
            due = [row for row in waiting[:limit] if row.due_s <= until_s]
            now_s = self._wall_s()
            for row in due:
                self._happens(row, Event.RELEASE)
                row.released_at_s = row.waits_from_s = now_s
            left = waiting[len(due) :]
            return Released(batches=self._batches(due), next_due_s=left[0].due_s if left else None)

    def shed_overdue(self, run_id: int, *, until_s: float, after_targets: Mapping[str, float], limit: int) -> int:
        """accepted → released → shed."""
        with self._lock:
            due = [row for row in self._open(run_id) if row.state in states_before(Event.RELEASE) and row.due_s <= until_s]
            shed = [r for r in due[:limit] if until_s - r.due_s > after_targets.get(r.service, np.inf) * r.target_s]
            for row in shed:
                self._happens(row, Event.RELEASE)
                self._happens(row, Event.SHED)
                self._tell(row)
            return len(shed)

    def unclaimed(self, *, older_than_s: float, limit: int) -> list[Batch]:
        """Released for too long, and not given again before that time has passed once more."""
        with self._lock:
            now_s = self._wall_s()
            found = [row for row in self._open() if row.state in states_before(Event.ANNOUNCE)]
            rows = sorted((r for r in found if r.released_at_s < now_s - older_than_s), key=lambda r: r.released_at_s)[:limit]
            for row in rows:
                row.released_at_s = now_s
            return list(self._batches(rows))

    def waiting(self) -> int:
        """Released."""
        with self._lock:
            return sum(row.state in states_before(Event.ANNOUNCE) for row in self._open())

    def waiting_lc(self, run_id: int, request_ids: Sequence[int], snapshot: FleetSnapshot) -> LcArrivals:
        """Those still released, by due time."""
        services = [s.name for s in snapshot.services]
        with self._lock:
            rows = [replace(row) for row in self._open(run_id, request_ids) if row.state in states_before(Event.DISPATCH)]
        rows = [row for row in rows if row.service in services and self._cluster in snapshot.clusters]
        rows.sort(key=lambda row: row.due_s)
        return LcArrivals(
            request_id=np.array([r.request_id for r in rows], np.int64),
            service=np.array([services.index(r.service) for r in rows], np.int32),
            entry_cluster=np.array([snapshot.clusters.index(self._cluster) for _ in rows], np.int32),
            due_s=np.array([r.due_s for r in rows], np.float64),
            target_s=np.array([r.target_s for r in rows], np.float64),
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
        sent: list[tuple[int, int]] = []
        started: list[LcWork] = []
        given_out: list[LcRow] = []
        with self._lock:
            now_s = self._wall_s()
            for k, request_id in enumerate(arrivals.request_id.tolist()):
                for row in self._open(run_id, [request_id]):
                    starts, node = here is not None and bool(here.rows[k]), int(plan.node[k])
                    event = Event.SHED if plan.shed[k] else Event.START if starts else Event.DISPATCH
                    planned = bool(plan.shed[k]) or node >= 0
                    if not planned or row.epoch != arrivals.epoch[k] or not self._happens(row, event):
                        continue
                    if event is not Event.SHED:
                        row.target_cluster, row.node = snapshot.node_key(node)
                        row.late, row.lease_until_s = bool(plan.late[k]), now_s + lease_s
                        row.dispatched_at_s = now_s
                        given_out.append(row)
                    if event is Event.START and here is not None:
                        self._runs(row, here.owner, here.lease_s)
                        started.append(
                            replace(_work(self._cluster, row), answer_expected_s=here.planned_s + float(plan.expected_s[k]))
                        )
                    elif event is Event.DISPATCH:
                        sent.append((row.request_id, row.epoch))
                    self._tell(row)
            made = replace(decision, placed=len(sent) + len(started))
            self.events.append((None, None, DecisionCopy(run_id, self._wall_s(), made, 0.1, len(self.events) + 1)))
            for row in given_out:
                row.decided = len(self.events)
        return Dispatched(request_ids=tuple(k for k, _ in sent), epochs=tuple(e for _, e in sent), started=tuple(started))

    def claim_execution(
        self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int], *, owner: str, lease_s: float
    ) -> list[LcWork]:
        """dispatched → running for one worker."""
        told, claimed = set(zip(request_ids, epochs, strict=True)), []
        with self._lock:
            for row in self._open(run_id, request_ids):
                if (row.request_id, row.epoch) in told and self._happens(row, Event.CLAIM):
                    self._runs(row, owner, lease_s)
                    self._tell(row)
                    claimed.append(_work(self._cluster, row))
        return claimed

    def tracks(self, run_id: int, request_ids: Sequence[int]) -> dict[int, Track]:
        """Without calls."""
        with self._lock:
            return {
                row.request_id: Track(
                    epoch=row.epoch,
                    attempt=row.attempt,
                    due_s=row.due_s,
                    service=row.service,
                    waits_from_s=row.waits_from_s or None,
                    dispatched_at_s=row.dispatched_at_s,
                    node=None if row.node is None else NodeKey(row.target_cluster or "", row.node),
                )
                for request_id in request_ids
                if (row := self.rows.get((run_id, request_id))) is not None
            }

    def heartbeat(self, owner: str, *, lease_s: float) -> None:
        """From now on."""
        with self._lock:
            self._processes[owner] = self._wall_s() + lease_s

    def settle(self, outcomes: Sequence[Outcome]) -> int:
        """Each epoch ends once."""
        with self._lock:
            return sum(self._end(outcome) for outcome in sorted(outcomes, key=lambda o: (o.run_id, o.request_id)))

    def requeue_expired(self, *, limit: int) -> list[Batch]:
        """Back to the queue, where its own limit or its process's lease is over."""
        with self._lock:
            now_s = self._wall_s()
            over = [row for row in self._open() if row.state in IN_FLIGHT and not self._stands(row, now_s)]
            rows = sorted(over, key=lambda r: (r.run_id, r.request_id))[:limit]
            for row in rows:
                of_row = {"run_id": row.run_id, "request_id": row.request_id, "epoch": row.epoch}
                self._end(Outcome(**of_row, event=Event.REQUEUE, reason=Reason.LEASE_EXPIRED))
            return list(self._batches(row for row in rows if row.state is RequestState.RELEASED))

    # ---- requests of callers: only the journal itself has them

    def drop_old(self, *, limit: int) -> int:
        """There are no answers."""
        return 0

    def live_is_wanted(self) -> bool:
        """Nobody calls."""
        return False

    # ---- intake

    def belong_to(self, centre: str) -> bool:
        """Another one: begin anew."""
        with self._lock:
            before, self._centre = self._centre, centre
            if before in ("", centre):
                return False
            for kept in (self.followed, self.rows, self.events, self._taken, self._dropped, self._processes, self._leases):
                kept.clear()
            self.position, self._identity = 0, self._identity + 1
            return True

    def note_access(self, kubeconfig: str, context: str) -> None:
        """Keep it."""
        self._access = kubeconfig, context

    def access(self) -> tuple[str, str] | None:
        """As noted."""
        return self._access

    def follow(self, runs: Sequence[RunInfo]) -> None:
        """As they are now."""
        with self._lock:
            self.followed |= {run.run_id: run for run in runs}
            self._dropped = set(self.followed) - {run.run_id for run in runs}
            self._forget()

    def runs(self) -> list[RunInfo]:
        """By id."""
        return [self.followed[run_id] for run_id in sorted(self.followed)]

    def run(self, run_id: int) -> RunInfo:
        """One of them."""
        if run_id not in self.followed:
            raise UsageError(f"no run {run_id}")
        return self.followed[run_id]

    def taken_to(self, run_id: int) -> int:
        """-1: none."""
        return self._taken.get(run_id, -1)

    def take(self, run_id: int, rows: ShareRows, *, up_to: int = -1) -> int:
        """Those beyond the last."""
        with self._lock:
            if run_id not in self.followed or self.followed[run_id].status in ENDED:
                return 0
            new = [k for k, request_id in enumerate(rows.request_id.tolist()) if request_id > self.taken_to(run_id)]
            for k in new:
                self._accept(run_id, rows, k)
                self._taken[run_id] = int(rows.request_id[k])
            self._taken[run_id] = max(self.taken_to(run_id), up_to)
            return len(new)

    def _accept(self, run_id: int, rows: ShareRows, k: int) -> None:
        request_id = int(rows.request_id[k])
        self.rows[run_id, request_id] = LcRow(
            run_id=run_id,
            request_id=request_id,
            service=rows.service[k],
            due_s=float(rows.due_s[k]),
            target_s=float(rows.target_s[k]),
            cpu_work_s=float(rows.cpu_work_s[k]),
            memory_mib=float(rows.memory_mib[k]),
            epoch=int(rows.epoch[k]),
            attempt=int(rows.attempt[k]),
        )

    def take_again(self, run_id: int, rows: ShareRows) -> int:
        """Those that are gone."""
        with self._lock:
            new = [k for k, request_id in enumerate(rows.request_id.tolist()) if request_id <= self.taken_to(run_id)]
            kept = self.events[self.first_kept() - 1 :]
            told = {(copy.run_id, copy.request_id) for copy, _, _ in kept if copy is not None}
            new = [k for k in new if (run_id, int(rows.request_id[k])) not in self.rows.keys() | told]
            for k in new:
                self._accept(run_id, rows, k)
            return len(new)

    def cancel_stopped(self, *, limit: int) -> int:
        """Live requests of runs that are being cancelled."""
        with self._lock:
            live = [r for r in self.rows.values() if self.followed[r.run_id].status is RunStatus.CANCELLING and r.state in LIVE]
            stopped = sorted(live, key=lambda r: (r.run_id, r.state is RequestState.ACCEPTED, r.request_id))
            for row in stopped[:limit]:
                happened = self._happens(row, Event.CANCEL)
                assert happened is not None
                self._tell(row, self._attempt(row, happened.outcome, str(Reason.CANCELLED)) if happened.outcome else None)
            return len(stopped[:limit])

    # ---- shipping

    def first_kept(self) -> int:
        """By the number that is kept."""
        return max(1, self.position + 1 - self.kept_events)

    def unshipped(self, *, limit: int, beyond: int | None = None) -> Shipment | None:
        """Collapsed."""
        with self._lock:
            after = self.position if beyond is None else beyond
            assert after >= self.first_kept() - 1
            events = self.events[after : after + limit]
            if not events:
                return None
            copies = {(copy.run_id, copy.request_id): copy for copy, _, _ in events if copy is not None}
            return Shipment(
                cluster=self._cluster,
                journal=f"memory {self._identity}",
                first=after + 1,
                last=after + len(events),
                requests=tuple(copies[key] for key in sorted(copies)),
                attempts=tuple(attempt for _, attempt, _ in events if attempt is not None),
                decisions=tuple(decision for _, _, decision in events if decision is not None),
            )

    def copy_back(self) -> None:
        """There is no file."""

    def shipped(self, last: int) -> None:
        """What has ended goes with its last event."""
        with self._lock:
            if last > len(self.events):
                raise StoreUnavailable(f"the centre has {last} events, the journal has made {len(self.events)}")
            self.position = max(self.position, last)
            left = {(copy.run_id, copy.request_id) for copy, _, _ in self.events[self.position :] if copy is not None}
            self.rows = {key: row for key, row in self.rows.items() if row.state not in TERMINAL or key in left}
            self._forget()

    def in_flight(self) -> list[LcInFlight]:
        """Counted one by one."""
        with self._lock:
            held = [row for row in self.rows.values() if row.state in IN_FLIGHT]
            found: dict[tuple[str, str, str], tuple[int, float]] = {}
            for row in held:
                where = (row.service, row.target_cluster or "", row.node or "")
                number, scale = found.get(where, (0, 0.0))
                found[where] = number + 1, scale + 1 / self.followed[row.run_id].speed
            return [LcInFlight(*where, *found[where]) for where in sorted(found)]

    def lc_wait(self) -> LcWait:
        """Looked at one by one."""
        with self._lock:
            now_s, under_way, late = self._wall_s(), 0, 0
            for row in self.rows.values():
                if row.state not in (*IN_FLIGHT, *states_before(Event.DISPATCH)):
                    continue
                under_way += 1
                zero_s = self.followed[row.run_id].started_at_s
                waits = row.state in states_before(Event.DISPATCH) and zero_s is not None
                late += bool(row.late or (waits and now_s - zero_s - row.due_s > row.target_s / 2))
            return LcWait(under_way, late)

    # ---- fleet

    def observe(self, nodes: Sequence[NodeState], instances: Sequence[InstanceState]) -> None:
        """The own cluster."""
        self._own = tuple(nodes), tuple(instances)

    def publish(self, fleet: PublishedFleet) -> None:
        """The others."""
        self._published = fleet

    def snapshot(self, *, at_s: float) -> FleetSnapshot:
        """Both."""
        if self._published is None:
            raise StoreUnavailable("no fleet has been published")
        seen = self._published.snapshot
        view = OwnView.of(seen if self._own is None else as_observed(seen, self._cluster, *self._own))
        return view.with_in_flight(self.in_flight(), at_s=at_s)

    def instances(self) -> list[tuple[str, InstanceState]]:
        """By cluster and pod."""
        found = list(self._published.instances) if self._published else []
        if self._own is not None:
            found = [at for at in found if at[0] != self._cluster] + [(self._cluster, i) for i in self._own[1]]
        return sorted(found, key=lambda at: (at[0], at[1].pod))

    def services(self) -> tuple[Service, ...]:
        """By name."""
        return tuple(sorted(self._published.snapshot.services, key=lambda s: s.name)) if self._published else ()

    # ---- all of it

    def hold(self, name: str, *, owner: str, ttl_s: float) -> bool:
        """One owner at a time."""
        with self._lock:
            now_s = self._wall_s()
            held_by, until_s = self._leases.get(name, (owner, 0.0))
            if held_by != owner and until_s >= now_s:
                return False
            self._leases[name] = owner, now_s + ttl_s
            return True

    def close(self) -> None:
        """Nothing is open."""

    def _open(self, run_id: int | None = None, request_ids: Sequence[int] | None = None) -> list[LcRow]:
        """Rows, by id, of one run or of all, whose requests move on."""
        wanted = None if request_ids is None else {int(k) for k in request_ids}
        return [
            self.rows[key]
            for key in sorted(self.rows)
            if run_id in (None, key[0]) and (wanted is None or key[1] in wanted) and self.followed[key[0]].status in OPEN
        ]

    def _happens(self, row: LcRow, event: Event) -> Transition | None:
        found = transition(event, row.state, ServiceClass.LC)
        if found is not None:
            row.state = found.after or row.state
            row.epoch, row.attempt = row.epoch + found.gives_out, row.attempt + found.attempts_added
            row.reason = str(found.reason or row.reason)
        return found

    def _runs(self, row: LcRow, owner: str, lease_s: float) -> None:
        now_s = self._wall_s()
        row.owner = owner
        within_s = call_within_s(
            target_s=row.target_s, patience_s=math.inf, targets=self._lc.timeout_targets, least_s=self._lc.timeout_min_s
        )
        row.lease_until_s = now_s + lease_s + within_s
        self._processes[owner] = max(self._processes.get(owner, now_s + lease_s), now_s + lease_s)

    def _stands(self, row: LcRow, now_s: float) -> bool:
        lives = row.state is not RequestState.RUNNING or self._processes.get(row.owner or "", 0.0) >= now_s
        return lives and row.lease_until_s >= now_s

    def _end(self, ended: Outcome) -> int:
        row = self.rows.get((ended.run_id, ended.request_id))
        if row is None or row.epoch != ended.epoch:
            return 0
        exhausted = ended.event is Event.REQUEUE and row.attempt >= self._max_attempts
        event = Event.EXHAUST if exhausted else ended.event
        happened = self._happens(row, event)
        if happened is None:
            return 0
        row.reason = f"{Reason.ATTEMPTS_EXHAUSTED}: {ended.reason}" if exhausted else str(ended.reason)
        attempt = self._attempt(row, happened.outcome, str(ended.reason), ended)
        if event is Event.SUCCEED:
            row.started_s, row.finished_s = attempt.started_s, ended.finished_s
        row.released_at_s = row.waits_from_s = self._wall_s()
        self._tell(row, attempt)
        return 1

    def _attempt(self, row: LcRow, outcome: str, reason: str, ended: Outcome | None = None) -> AttemptCopy:
        finished_s = ended.finished_s if ended else None
        won = ended is not None and ended.event is Event.SUCCEED and finished_s is not None
        return AttemptCopy(
            run_id=row.run_id,
            request_id=row.request_id,
            epoch=row.epoch,
            service=row.service,
            cluster=row.target_cluster,
            node=row.node,
            started_s=ended.started_s if ended and ended.started_s is not None else row.started_s,
            finished_s=finished_s,
            latency_s=(finished_s or 0.0) - row.due_s if won else None,
            outcome=outcome,
            reason=reason,
            work_lost_s=ended.work_lost_s if ended else 0.0,
            ended_at_s=self._wall_s(),
            released_at_s=row.waits_from_s,
            dispatched_at_s=row.dispatched_at_s,
            sent_s=ended.sent_s if ended else None,
            decided=row.decided,
        )

    def _tell(self, row: LcRow, attempt: AttemptCopy | None = None) -> None:
        self.events.append((row.copy(), attempt, None))

    def _forget(self) -> None:
        left = {run_id for run_id, _ in self.rows}
        for copy, _, decision in self.events[self.position :]:
            left.add(copy.run_id if copy is not None else decision.run_id if decision is not None else -1)
        for run_id in self._dropped - left:
            self.followed.pop(run_id, None)
            self._taken.pop(run_id, None)

    def _batches(self, rows: Iterable[LcRow]) -> tuple[Batch, ...]:
        return batches_of((row.run_id, row.request_id, int(ServiceClass.LC), row.service, self._cluster) for row in rows)


def _work(cluster: str, row: LcRow) -> LcWork:
    return LcWork(
        run_id=row.run_id,
        request_id=row.request_id,
        epoch=row.epoch,
        service=row.service,
        entry_cluster=cluster,
        node=NodeKey(row.target_cluster or "", row.node or ""),
        due_s=row.due_s,
        target_s=row.target_s,
        cpu_work_s=row.cpu_work_s,
        memory_mib=row.memory_mib,
        attempt=row.attempt,
    )
