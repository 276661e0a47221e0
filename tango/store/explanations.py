"""Reads for explanations: implements `tango.ports.explanations.ExplanationStore`.

Every statement finds its rows by an index, or reads tables of the size of the fleet. What waits is counted up to a bound.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tango.domain.candidates import Weighed, read_back
from tango.domain.explanation import RequestStanding
from tango.domain.identity import NodeKey, RequestKey
from tango.domain.lifecycle import Event
from tango.domain.observations import InstanceState
from tango.domain.plans import Spared
from tango.domain.request_history import EndedAttempt
from tango.domain.requests import Reason, RequestState
from tango.domain.runs import RunStatus
from tango.domain.services import ServiceClass
from tango.domain.shares import LcWait
from tango.domain.state_lists import IN_FLIGHT_STATES
from tango.errors import UsageError
from tango.ports.explanations import RecordedFleet, RecordedRequest, RecordedResize, RunningThere
from tango.settings import LeaseSettings
from tango.store.clusters import IS_SILENT
from tango.store.database import Database
from tango.store.lifecycle_sql import HOLDING_RUNS, OPEN_RUNS, can
from tango.store.snapshots import Snapshots

T = TypeVar("T")
_REQUEST = """
SELECT r.class::text, r.service, r.state::text, r.cluster, r.due_s, r.target_s, r.cpu_work_s, r.memory_mib, coalesce(r.target_cluster, ''),
       coalesce(r.node, ''), coalesce(r.pod, ''), r.epoch, r.attempt, r.late, extract(epoch FROM r.released_at - u.started_at)::float8,
       r.started_s, r.finished_s, r.reason, coalesce(r.tenant, u.tenant), u.status::text, u.system,
       extract(epoch FROM now() - u.started_at)::float8, EXISTS (SELECT FROM service s WHERE s.name = r.service),
       r.dispatched_s, r.decision_id, d.policy, d.weighed,
       coalesce((SELECT j.waiting FROM job j WHERE j.run_id = r.run_id AND j.request_id = r.request_id AND j.waiting_epoch = r.epoch), '')
FROM run u JOIN request r ON r.run_id = u.run_id LEFT JOIN decision d ON d.decision_id = r.decision_id
WHERE u.run_id = %(run)s AND r.run_id = %(run)s AND r.request_id = %(id)s
"""
# An eviction and the end of its attempt are recorded within a moment of each other, or of the pod's grace.
_ATTEMPTS = f"""
SELECT a.epoch, coalesce(a.cluster, ''), coalesce(a.node, ''), coalesce(a.pod, ''), a.dispatched_s, a.decision_id, a.started_s,
       a.finished_s,
       extract(epoch FROM a.ended_at - u.started_at)::float8, a.outcome, a.reason, a.work_lost_s, coalesce(e.reason, ''),
       coalesce(e.spared, '[]'), d.policy, d.weighed
FROM attempt a JOIN run u ON u.run_id = a.run_id LEFT JOIN decision d ON d.decision_id = a.decision_id LEFT JOIN LATERAL (
    SELECT s.reason, s.spared FROM scaling_event s
    WHERE a.reason = '{Reason.EVICTED}' AND s.at BETWEEN a.ended_at - interval '120 s' AND a.ended_at + interval '10 s'
      AND s.kind = 'evict' AND s.cluster = a.cluster AND s.pod = a.pod ORDER BY s.at DESC LIMIT 1
) e ON true
WHERE a.run_id = %(run)s AND a.request_id = %(id)s ORDER BY a.epoch
"""
_CLUSTERS = f"""
SELECT c.name, ({IS_SILENT}) IS TRUE, coalesce(extract(epoch FROM now() - c.seen_at), 0)::float8, c.lc_under_way, c.lc_late FROM cluster c
"""
# Of its own run those before it, of the first that wait; of each other run as many: runs take turns. In order, though only counted: the
# index is then read as far as the bound, and not all that waits.
_AHEAD = f"""
WITH own AS MATERIALIZED (
    SELECT count(*) FILTER (WHERE (first.due_s, first.request_id) < (%(due)s, %(id)s)) AS count FROM (
        SELECT q.due_s, q.request_id FROM request q WHERE q.run_id = %(run)s AND {can("q", Event.PLACE)}
        ORDER BY q.due_s, q.request_id LIMIT %(most)s
    ) first
)
SELECT own.count + coalesce((
    SELECT sum(n.count) FROM run r CROSS JOIN LATERAL (
        SELECT count(*) FROM (
            SELECT FROM request q WHERE q.run_id = r.run_id AND {can("q", Event.PLACE)} ORDER BY q.due_s
            LIMIT own.count + 1
        ) waiting
    ) n
    WHERE r.run_id = ANY ({OPEN_RUNS}) AND r.run_id <> %(run)s
), 0)::int
FROM own
"""
_INSTANCE = tuple(f.name for f in dataclasses.fields(InstanceState))
_INSTANCES = f"""
SELECT cluster, {", ".join(_INSTANCE)} FROM instance
WHERE (%(service)s = '' OR service = %(service)s) AND (%(node)s = '' OR cluster = %(cluster)s AND node = %(node)s) ORDER BY cluster, pod
"""
_RESIZE = """
SELECT e.pod, e.after_request_millicores, i.cpu_request_millicores, i.cpu_limit_millicores, e.reason, e.outcome
FROM scaling_event e JOIN instance i ON i.cluster = e.cluster AND i.pod = e.pod
WHERE e.at > now() - interval '60 s' AND e.kind = 'resize' AND e.cluster = %(cluster)s AND e.node = %(node)s AND e.service = %(service)s
ORDER BY e.at DESC LIMIT 1
"""
_RUNNING = f"""
SELECT q.run_id, q.request_id, q.service, q.state::text, coalesce(q.pod, ''), q.memory_mib FROM request q
WHERE q.run_id = ANY ({HOLDING_RUNS}) AND q.class = '{ServiceClass.BE.label}' AND q.state IN {IN_FLIGHT_STATES}
  AND q.target_cluster = %(cluster)s AND q.node = %(node)s
ORDER BY q.run_id, q.request_id LIMIT %(limit)s
"""
DECISION_KEYS = (
    "decision",
    "at_s",
    "kind",
    "cluster",
    "runs",
    "policy",
    "checkpoint",
    "considered",
    "placed",
    "unplaced",
    "late",
    "shed",
    "snapshot_ms",
    "decide_ms",
    "apply_ms",
    "note",
    "weighed",
)
"""Keys of `PostgresExplanations.decision`."""
_DECISION = """
SELECT decision_id, extract(epoch FROM at)::float8, kind::text, cluster, run_ids, policy, checkpoint, considered, placed, unplaced, late,
       shed, snapshot_ms, decide_ms, apply_ms, note, weighed
FROM decision WHERE
"""


class PostgresExplanations:
    """Reads on PostgreSQL; its methods may be called from any thread or process."""

    def __init__(self, database: Database, snapshots: Snapshots, lease: LeaseSettings) -> None:
        self._database = database
        self._snapshots = snapshots
        self._lease = lease

    def together(self, read: Callable[[], T]) -> T:
        """One transaction of this thread, for all stores of this database."""
        return self._database.together(read)

    def request(self, key: RequestKey) -> RecordedRequest:
        """By the primary keys of run, request and attempts."""
        asked = {"run": key.run_id, "id": key.request_id}
        found = self._database.rows(_REQUEST, asked)
        if not found:
            raise UsageError(
                f"run {key.run_id} has no request {key.request_id}, or there is no such run; `tango run list` and "
                "`tango run requests RUN` list what there is"
            )
        (
            of_class, service, state, entry, due_s, target_s, cpu_work_s, memory_mib, cluster, node, pod, epoch, attempts, late, released_s,
            started_s, finished_s, reason, tenant, status, system, now_s, declared, dispatched_s, decision_id, policy, weighed,
            pod_waits,
        ) = found[0]  # fmt: skip
        standing = RequestStanding(
            key=key,
            service_class=ServiceClass.LC if of_class == ServiceClass.LC.label else ServiceClass.BE,
            service=service,
            state=RequestState(state),
            entry_cluster=entry,
            due_s=due_s,
            run_status=RunStatus(status),
            system=system,
            now_s=now_s,
            target_s=target_s,
            cpu_work_s=cpu_work_s,
            memory_mib=memory_mib,
            cluster=cluster,
            node=node,
            pod=pod,
            epoch=epoch,
            attempts=attempts,
            late=late,
            released_s=released_s,
            dispatched_s=dispatched_s,
            decision_id=decision_id,
            started_s=started_s,
            finished_s=finished_s,
            reason=reason,
            tenant=tenant,
        )
        attempts_of = self._database.rows(_ATTEMPTS, asked)
        ended = tuple(
            EndedAttempt(
                epoch=of_attempt[0],
                cluster=of_attempt[1],
                node=of_attempt[2],
                pod=of_attempt[3],
                dispatched_s=of_attempt[4],
                decision_id=of_attempt[5],
                started_s=of_attempt[6],
                finished_s=of_attempt[7],
                ended_s=of_attempt[8],
                outcome=of_attempt[9],
                reason=of_attempt[10],
                work_lost_s=of_attempt[11],
                why=of_attempt[12],
                spared=tuple(Spared(**pod) for pod in of_attempt[13]),
            )
            for of_attempt in attempts_of
        )
        decided = [(policy, weighed), *(of_attempt[14:] for of_attempt in attempts_of)]
        return RecordedRequest(
            standing=standing,
            attempts=ended,
            is_declared=declared,
            weighed=_weighed_for(key, [kept for _, kept in decided]),
            decided_by=tuple(dict.fromkeys(name for name, _ in decided if name is not None)),
            pod_waits=pod_waits,
        )

    def fleet(self) -> RecordedFleet:
        """Two reads: the snapshot, and what the agents told last of themselves."""
        snapshot, told_ready = self._snapshots.without_what_waits(at_s=time.time())
        clusters = self._database.rows(_CLUSTERS, {"silent": self._lease.silent_s})
        return RecordedFleet(
            snapshot=snapshot,
            told_ready=np.asarray(told_ready, np.bool_),
            away_s={name: age_s for name, is_away, age_s, *_ in clusters if is_away},
            waits={name: LcWait(under_way=under_way, late=late) for name, is_away, _, under_way, late in clusters if not is_away},
        )

    def waiting_before(self, standing: RequestStanding, *, most: int) -> int:
        """By the index of live requests, of each run no further than `most`."""
        key = standing.key
        asked = {"run": key.run_id, "id": key.request_id, "due": standing.due_s, "most": most}
        ((count,),) = self._database.rows(_AHEAD, asked)
        return int(count)

    def instances(self, service: str = "", *, node: NodeKey | None = None) -> Sequence[tuple[str, InstanceState]]:
        """A table of the fleet's size."""
        at = {"service": service, "cluster": node.cluster if node else "", "node": node.name if node else ""}
        return [
            (cluster, InstanceState(**dict(zip(_INSTANCE, row, strict=True))))
            for cluster, *row in self._database.rows(_INSTANCES, at)
        ]

    def resize(self, node: NodeKey, service: str) -> RecordedResize | None:
        """By the index on the time of events."""
        found = self._database.rows(_RESIZE, {"cluster": node.cluster, "node": node.name, "service": service})
        if not found:
            return None
        pod, wanted, request, limit, words, outcome = found[0]
        if outcome != "deferred" or wanted is None or wanted <= request:
            return None
        return RecordedResize(
            pod=pod,
            wanted_request_millicores=wanted,
            actual_request_millicores=request,
            actual_limit_millicores=limit,
            words=words,
        )

    def running_on(self, node: NodeKey, *, limit: int) -> Sequence[RunningThere]:
        """Of what is in flight anywhere, which is no more than the fleet holds."""
        found = self._database.rows(_RUNNING, {"cluster": node.cluster, "node": node.name, "limit": limit})
        return [
            RunningThere(key=RequestKey(run_id, request_id), service=service, state=state, pod=pod, memory_mib=memory_mib)
            for run_id, request_id, service, state, pod, memory_mib in found
        ]

    def decision(self, decision_id: int | None) -> Mapping[str, Any]:
        """By its primary key, or backwards by the index on the time."""
        if decision_id is None:
            found = self._database.rows(f"{_DECISION} kind = '{ServiceClass.BE.label}' ORDER BY at DESC LIMIT 1")
        else:
            found = self._database.rows(f"{_DECISION} decision_id = %s", (decision_id,))
        if not found:
            which = "no placement of BE was decided yet" if decision_id is None else f"there is no decision {decision_id}"
            raise UsageError(f'{which}; `tango sql "SELECT * FROM decision ORDER BY at DESC LIMIT 20"` lists the latest')
        decided = dict(zip(DECISION_KEYS, found[0], strict=True))
        return decided | {"weighed": read_back(decided["weighed"] or ())}


def _weighed_for(key: RequestKey, kept: Iterable[Sequence[Mapping[str, Any]] | None]) -> tuple[Weighed, ...]:
    """Of what decisions have kept the part of one request, each attempt once."""
    own = {one.epoch: one for of_decision in kept for one in read_back(of_decision or ()) if one.key == key}
    return tuple(own[epoch] for epoch in sorted(own))
