"""LC requests from accepted to running: the release, what waits, the dispatch, and the claim by an executor."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import orjson

from tango.domain.identity import NodeKey
from tango.domain.lifecycle import Event, states_before
from tango.domain.patience import is_hopeless
from tango.domain.plans import LcPlan
from tango.domain.requests import Batch, CalledArrivals, LcArrivals, LcWork, batches_of
from tango.domain.runs import DecisionRecord
from tango.domain.services import ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.domain.state_lists import OPEN_STATES, listed
from tango.domain.tracing import TRACEPARENT, Track
from tango.journal.attempts import lives_on, note_ended
from tango.journal.counted import Ended, count_ended
from tango.journal.database import Connection
from tango.journal.events import CHANGED, COPY, DECIDED, append, append_all
from tango.journal.part import JournalPart, Row, chunks, follows, rows_by_id
from tango.journal.schema import IS_UNDER_WAY
from tango.ports.requests import Dispatched, Released, StartHere
from tango.telemetry.cycles import count_cycle

_NEXT = f"""
SELECT request_id, service, due_s, state FROM request
WHERE run_id = ? AND request_id >= ? AND state IN {listed(states_before(Event.RELEASE))} ORDER BY request_id LIMIT ?
"""
_OVERDUE = f"""
SELECT request_id, service, due_s, target_s, state, epoch, attempt FROM request
WHERE run_id = ? AND request_id >= ? AND due_s <= ? AND state IN {listed(states_before(Event.RELEASE))} ORDER BY request_id LIMIT ?
"""
_SHED = "UPDATE request SET state = ?, reason = ?, released_at_s = NULL WHERE run_id = ? AND request_id = ?"
_RELEASE = "UPDATE request SET state = ?, released_at_s = ?, waits_from_s = ? WHERE run_id = ? AND request_id = ?"
_NEXT_IS = "UPDATE run SET next_request = ? WHERE run_id = ?"
_UNCLAIMED = f"""
SELECT run_id, request_id, service FROM request
WHERE {IS_UNDER_WAY} AND state IN {listed(states_before(Event.ANNOUNCE))} AND released_at_s < ?
  AND run_id IN (SELECT run_id FROM run WHERE status IN {OPEN_STATES})
ORDER BY released_at_s LIMIT ?
"""
_COUNT_WAITING = f"""
SELECT count(*) FROM request
WHERE {IS_UNDER_WAY} AND state IN {listed(states_before(Event.ANNOUNCE))}
  AND run_id IN (SELECT run_id FROM run WHERE status IN {OPEN_STATES})
"""
_ANNOUNCE = "UPDATE request SET released_at_s = ? WHERE run_id = ? AND request_id = ?"
_WAITING = "request_id, service, due_s, target_s, cpu_work_s, memory_mib, epoch, state, patience_s, tenant, target_cluster, node"
_PLANNED = f"request_id, {COPY}, lease_until_s, released_at_s"
_GIVE_OUT = """
UPDATE request SET state = ?, epoch = ?, attempt = ?, target_cluster = ?, node = ?, owner = ?, late = ?, reason = ?, lease_until_s = ?,
    released_at_s = ?, dispatched_at_s = ?, decided = ?
WHERE run_id = ? AND request_id = ?
"""
_CLAIMED = f"request_id, {COPY}, service, due_s, target_s, cpu_work_s, memory_mib, patience_s, tenant"
_TRACK = """
SELECT r.request_id, r.epoch, r.attempt, r.due_s, r.service, r.waits_from_s, r.dispatched_at_s, r.target_cluster, r.node,
       c.method, c.headers
FROM json_each(?1) v CROSS JOIN request r ON r.run_id = ?2 AND r.request_id = v.value
LEFT JOIN call c ON c.run_id = r.run_id AND c.request_id = r.request_id
"""
_CLAIM = "UPDATE request SET state = ?, owner = ?, lease_until_s = ? WHERE run_id = ? AND request_id = ?"


class LcRequests(JournalPart):
    """The part of the journal that releases, dispatches and claims requests."""

    def release_due(self, run_id: int, *, until_s: float, limit: int) -> Released:
        """accepted → released for requests due by `until_s` (wall seconds since the run began), one transaction per chunk.

        Ids are in order of due time, so the run's `next_request` marks how far the release has come.
        """
        rows: list[Row] = []
        while True:
            chunk = min(limit, self._chunk_rows)
            released, next_due_s = self._database.write(partial(self._release_chunk, run_id=run_id, until_s=until_s, limit=chunk))
            rows += released
            limit -= len(released)
            if len(released) < chunk or limit <= 0:
                return Released(batches=batches_of(rows), next_due_s=next_due_s)

    def _release_chunk(self, connection: Connection, run_id: int, until_s: float, limit: int) -> tuple[list[Row], float | None]:
        sql = f"SELECT next_request FROM run WHERE run_id = ? AND status IN {OPEN_STATES}"
        found = connection.execute(sql, (run_id,)).fetchone()
        if found is None:
            return [], None
        # Row by row, no further than the first that is not due: it tells when the next is, and all behind it would be read for nothing.
        due: list[Row] = []
        next_due_s = None
        for row in connection.execute(_NEXT, (run_id, found[0], max(0, limit) + 1)):
            if len(due) == limit or row[2] > until_s:
                next_due_s = row[2]
                break
            due.append(row)
        now_s, updates, released = self._wall_s(), [], []
        for request_id, service, _, state in due:
            step = follows(Event.RELEASE, state)
            if step is not None:
                updates.append((step[0], now_s, now_s, run_id, request_id))
                released.append((run_id, request_id, ServiceClass.LC, service, self._cluster))
        connection.executemany(_RELEASE, updates)
        if due:
            connection.execute(_NEXT_IS, (due[-1][0] + 1, run_id))
        return released, next_due_s

    def shed_overdue(self, run_id: int, *, until_s: float, after_targets: Mapping[str, float], limit: int) -> int:
        """accepted → released → shed in one step for those of the first `limit` due requests that have waited too long by then."""
        return self._database.write(
            partial(self._shed_overdue, run_id=run_id, until_s=until_s, after_targets=after_targets, limit=limit)
        )

    def _shed_overdue(
        self, connection: Connection, run_id: int, until_s: float, after_targets: Mapping[str, float], limit: int
    ) -> int:
        sql = f"SELECT next_request FROM run WHERE run_id = ? AND status IN {OPEN_STATES}"
        found = connection.execute(sql, (run_id,)).fetchone()
        if found is None:
            return 0
        now_s, updates, events, ended = self._wall_s(), [], [], list[Ended]()
        first_left, is_first = found[0], True
        for row in connection.execute(_OVERDUE, (run_id, first_left, until_s, limit)).fetchall():
            request_id, service, due_s, target_s, state, epoch, attempt = row
            shed_after_targets = after_targets.get(service, 0.0)
            hopeless = is_hopeless(waited_s=until_s - due_s, target_s=target_s, shed_after_targets=shed_after_targets)
            released = follows(Event.RELEASE, state) if hopeless else None
            shed = follows(Event.SHED, released[0]) if released is not None else None
            if shed is not None:
                after, _, _, reason = shed
                updates.append((after, reason, run_id, request_id))
                copy = (after, epoch, attempt, None, None, None, False, None, None, reason)
                events.append((now_s, run_id, request_id, *copy))
                ended.append((service, after, None, target_s))
            is_first = is_first and shed is not None
            if is_first:
                first_left = request_id + 1
        connection.executemany(_SHED, updates)
        append(connection, CHANGED, events)
        connection.execute(_NEXT_IS, (first_left, run_id))
        connection.then.append(partial(count_ended, ended))
        return len(updates)

    def unclaimed(self, *, older_than_s: float, limit: int) -> list[Batch]:
        """Released longer than `older_than_s` ago and still waiting, the longest first; one transaction per chunk.

        Their time of release is set to now, so that they are not published again before as much time has passed once more.
        """
        rows: list[Row] = []

        now_s = self._wall_s()
        before_s = min(now_s - older_than_s, now_s)  # what one chunk has announced, the next must not find again

        def announce(connection: Connection, chunk: int) -> list[Row]:
            found = connection.execute(_UNCLAIMED, (before_s, chunk)).fetchall()
            connection.executemany(_ANNOUNCE, [(now_s, run_id, request_id) for run_id, request_id, _ in found])
            return [(run_id, request_id, ServiceClass.LC, service, self._cluster) for run_id, request_id, service in found]

        while limit > 0:
            chunk = min(limit, self._chunk_rows)
            found = self._database.write(partial(announce, chunk=chunk))
            rows += found
            limit = limit - len(found) if len(found) == chunk else 0
        return list(batches_of(rows))

    def waiting(self) -> int:
        """How many requests of open runs wait for their dispatch."""
        return int(self._database.read(lambda connection: connection.execute(_COUNT_WAITING).fetchone()[0]))

    def waiting_lc(self, run_id: int, request_ids: Sequence[int], snapshot: FleetSnapshot) -> LcArrivals:
        """The given requests that are still released and of an open run, in order of due time.

        Requests of a service that the snapshot lacks, and all if it lacks the cluster, are left out: they are published again later.
        """

        def read(connection: Connection) -> list[Row]:
            return rows_by_id(connection, _WAITING, run_id, [int(k) for k in request_ids], of_open_run=True)

        services = {s.name: k for k, s in enumerate(snapshot.services)}
        rows = self._database.read(read) if self._cluster in snapshot.clusters else []
        rows = [row for row in rows if row[1] in services and follows(Event.DISPATCH, row[7]) is not None]
        rows.sort(key=lambda row: row[2])
        columns = zip(*rows, strict=True) if rows else [()] * 12
        request_id, service, due_s, target_s, cpu_work_s, memory_mib, epoch, _, patience_s, tenant, last_cluster, last_node = (
            columns
        )
        # A run is of a trace or of callers, and so all of a batch is.
        of_callers = bool(tenant) and tenant[0] is not None
        entry = snapshot.clusters.index(self._cluster) if rows else 0
        arrivals = LcArrivals(
            request_id=np.array(request_id, np.int64),
            service=np.array([services[name] for name in service], np.int32),
            entry_cluster=np.full(len(rows), entry, np.int32),
            due_s=np.array(due_s, np.float64),
            target_s=np.array(target_s, np.float64),
            cpu_work_s=np.array(cpu_work_s, np.float64),
            memory_mib=np.array(memory_mib, np.float64),
            epoch=np.array(epoch, np.int32),
        )
        if not of_callers:
            return arrivals
        found = {f.name: getattr(arrivals, f.name) for f in dataclasses.fields(LcArrivals)}
        row_of = {key: k for k, key in enumerate(snapshot.node_keys)}
        last = [row_of.get(NodeKey(*of), -1) for of in zip(last_cluster, last_node, strict=True)]
        return CalledArrivals(
            **found,
            patience_s=np.array([math.inf if s is None else s for s in patience_s]),
            last_node=np.array(last, np.int32),
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
        """Apply a plan and record its decision, in one transaction as large as the message.

        Rows with node -1 stay released and are published again later. Rows whose epoch has changed since they were read are skipped,
        so that of two workers with the same message one wins.
        """
        planned = np.flatnonzero((plan.node >= 0) | plan.shed)
        starts = here.rows if here is not None else np.zeros(len(arrivals), np.bool_)
        nodes = [(snapshot.clusters[c], name) for c, name in zip(snapshot.node_cluster.tolist(), snapshot.nodes, strict=True)]
        patience_s = arrivals.patience_s if isinstance(arrivals, CalledArrivals) else np.full(len(arrivals), np.inf)
        columns = (arrivals.request_id, arrivals.epoch, arrivals.target_s, patience_s, plan.node, plan.shed, plan.late, starts)
        wanted = list(zip(planned.tolist(), *(column[planned].tolist() for column in columns), strict=True))

        def record(connection: Connection) -> list[tuple[int, int, bool, int]]:
            began_s, now_s = time.perf_counter(), self._wall_s()
            ids = [row[1] for row in wanted]
            before = {row[0]: row for row in rows_by_id(connection, _PLANNED, run_id, ids, of_open_run=True)} if ids else {}
            updates, events, won, ended, told = [], [], [], [], list[Ended]()
            for k, request_id, read_epoch, target_s, patience_s, node_row, shed, late, start in wanted:
                row = before.pop(request_id, None)
                if row is None or row[2] != read_epoch:
                    continue
                _, state, epoch, attempt, cluster, node, owner, was_late, started_s, finished_s, reason, until_s, since_s = row
                step = follows(Event.SHED if shed else Event.START if start else Event.DISPATCH, state)
                if step is None:
                    continue
                after, _, gives_out, always = step
                if gives_out:
                    epoch, attempt, (cluster, node), was_late = epoch + 1, attempt + 1, nodes[node_row], late
                    until_s = now_s + lease_s
                    won.append((k, epoch, start, attempt))
                    if start and here is not None:
                        owner, until_s = here.owner, now_s + self._limit_s(target_s, patience_s, here.lease_s)
                else:
                    since_s = None  # what has ended is not under way any more (`schema.IS_UNDER_WAY`)
                    ended.append(request_id)
                    told.append((snapshot.services[arrivals.service[k]].name, after, None, target_s))
                reason = always or reason
                updates.append((after, epoch, attempt, cluster, node, owner, was_late, reason, until_s, since_s, request_id))
                copy = (after, epoch, attempt, cluster, node, owner, was_late, started_s, finished_s, reason)
                events.append((now_s, run_id, request_id, *copy))
            if isinstance(arrivals, CalledArrivals):
                note_ended(connection, run_id, ended, now_s)
            if here is not None and any(start for _, _, start, _ in won):
                lives_on(connection, here.owner, now_s, here.lease_s)
            made = orjson.dumps(dataclasses.replace(decision, placed=len(won))).decode()
            decided = [(now_s, run_id, made, (time.perf_counter() - began_s) * 1e3)]
            number = append_all(connection, [(CHANGED, events), (DECIDED, decided)])
            connection.executemany(_GIVE_OUT, [(*row[:-1], now_s, number, run_id, row[-1]) for row in updates])
            connection.then.append(partial(count_ended, told))
            return won

        begun_s = time.perf_counter()
        won = self._database.write(record)
        count_cycle(
            decision.kind,
            snapshot_ms=decision.snapshot_ms,
            decide_ms=decision.decide_ms,
            apply_s=time.perf_counter() - begun_s,
            considered=decision.considered,
            placed=len(won),
            shed=decision.shed,
        )
        sent = [(k, epoch) for k, epoch, start, _ in won if not start]
        started = [(k, epoch, attempt) for k, epoch, start, attempt in won if start]
        planned_s = here.planned_s if here is not None else 0.0
        return Dispatched(
            request_ids=tuple(arrivals.request_id[[k for k, _ in sent]].tolist()),
            epochs=tuple(epoch for _, epoch in sent),
            started=tuple(
                dataclasses.replace(self._work(run_id, arrivals, plan, snapshot, k, epoch, planned_s=planned_s), attempt=attempt)
                for k, epoch, attempt in started
            ),
        )

    def claim_execution(
        self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int], *, owner: str, lease_s: float
    ) -> list[LcWork]:
        """dispatched → running for `owner`, one transaction per chunk; gives only rows that were still dispatched under these epochs.

        A second delivery of the same message therefore claims nothing.
        """
        wanted = sorted({(int(k), int(epoch)) for k, epoch in zip(request_ids, epochs, strict=True)})

        def claim(connection: Connection, told: Sequence[tuple[int, int]]) -> list[LcWork]:
            now_s, named, updates, events, works = self._wall_s(), set(told), [], [], []
            for row in rows_by_id(connection, _CLAIMED, run_id, [k for k, _ in told], of_open_run=True):
                request_id, state, epoch, attempt, cluster, node, _, late, started_s, finished_s, reason, *request = row
                step = follows(Event.CLAIM, state)
                if step is None or (request_id, epoch) not in named:
                    continue
                service, due_s, target_s, cpu_work_s, memory_mib, patience_s, tenant = request
                patience_s = math.inf if patience_s is None else patience_s
                updates.append((step[0], owner, now_s + self._limit_s(target_s, patience_s, lease_s), run_id, request_id))
                copy = (step[0], epoch, attempt, cluster, node, owner, late, started_s, finished_s, reason)
                events.append((now_s, run_id, request_id, *copy))
                works.append(
                    LcWork(
                        run_id=run_id,
                        request_id=request_id,
                        epoch=epoch,
                        service=service,
                        entry_cluster=self._cluster,
                        node=NodeKey(cluster, node),
                        due_s=due_s,
                        target_s=target_s,
                        cpu_work_s=cpu_work_s,
                        memory_mib=memory_mib,
                        patience_s=patience_s,
                        is_called=tenant is not None,
                        attempt=attempt,
                    )
                )
            connection.executemany(_CLAIM, updates)
            append(connection, CHANGED, events)
            if works:
                lives_on(connection, owner, now_s, lease_s)
            return works

        return [work for told in chunks(wanted, self._chunk_rows) for work in self._database.write(partial(claim, told=told))]

    def tracks(self, run_id: int, request_ids: Sequence[int]) -> dict[int, Track]:
        """From the rows, and the headers of their calls."""
        wanted = orjson.dumps(sorted({int(k) for k in request_ids})).decode()

        def read(connection: Connection) -> list[Row]:
            return connection.execute(_TRACK, (wanted, run_id)).fetchall()

        return {
            request_id: Track(
                epoch=epoch,
                attempt=attempt,
                due_s=due_s,
                service=service,
                waits_from_s=waits_from_s,
                dispatched_at_s=dispatched_at_s,
                node=None if node is None else NodeKey(cluster, node),
                method=method or "",
                traceparent=next((v for name, v in orjson.loads(headers or "[]") if name.lower() == TRACEPARENT), ""),
            )
            for (
                request_id,
                epoch,
                attempt,
                due_s,
                service,
                waits_from_s,
                dispatched_at_s,
                cluster,
                node,
                method,
                headers,
            ) in self._database.read(read)
        }

    def _work(
        self, run_id: int, arrivals: LcArrivals, plan: LcPlan, snapshot: FleetSnapshot, k: int, epoch: int, *, planned_s: float
    ) -> LcWork:
        return LcWork(
            run_id=run_id,
            request_id=int(arrivals.request_id[k]),
            epoch=epoch,
            service=snapshot.services[arrivals.service[k]].name,
            entry_cluster=self._cluster,
            node=snapshot.node_key(int(plan.node[k])),
            due_s=float(arrivals.due_s[k]),
            target_s=float(arrivals.target_s[k]),
            cpu_work_s=float(arrivals.cpu_work_s[k]),
            memory_mib=float(arrivals.memory_mib[k]),
            patience_s=float(arrivals.patience_s[k]) if isinstance(arrivals, CalledArrivals) else math.inf,
            is_called=isinstance(arrivals, CalledArrivals),
            answer_expected_s=planned_s + float(plan.expected_s[k]),
        )
