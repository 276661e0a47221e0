"""Jobs of callers: implements `tango.ports.jobs.JobStore`. A job is a BE request of a live run with a row of its own beside it.

The rows of jobs are written by whoever holds the row of the request, which comes first; why a pod waits is noted without it. So whoever
writes several rows of jobs or their logs takes them in order of (run, request), as requests are (`tango.store.lifecycle_sql`).
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import psycopg2
from psycopg2.extras import Json

from tango.domain.identity import RequestKey
from tango.domain.jobs import (
    ContainerEnd,
    ContainerLog,
    Job,
    JobEnd,
    NewJob,
    SubmittedJob,
    most_jobs_refused,
    refuse_other_content,
)
from tango.domain.lifecycle import Event
from tango.domain.near_names import near_name
from tango.domain.refusals import MOST_WORDS
from tango.domain.requests import Reason, RequestState
from tango.domain.services import Service, ServiceClass, not_admitted, service_of
from tango.domain.state_lists import IN_FLIGHT_STATES, TERMINAL_STATES
from tango.errors import NotAdmitted, RequestRejected, TooManyJobs, UsageError
from tango.settings import LeaseSettings
from tango.store.attempts import PHASES, PHASES_OF_R, end_attempts
from tango.store.database import Cursor, Database
from tango.store.lifecycle_sql import after, can
from tango.store.live_runs import open_run, take_numbers
from tango.store.rows import insert

# Due is the moment of acceptance, by the clock that the run's zero is of. It is submitted and released in one.
_ACCEPT = f"""
INSERT INTO request (run_id, request_id, class, service, cluster, due_s, cpu_work_s, memory_mib, state, released_at, released_s,
                     tenant)
SELECT run_id, %(id)s, '{ServiceClass.BE.label}', %(service)s, %(cluster)s, extract(epoch FROM clock_timestamp() - started_at)::float8,
       %(work)s, %(memory)s, {after(Event.RELEASE)}, now(), extract(epoch FROM clock_timestamp() - started_at)::float8, %(tenant)s
FROM run WHERE run_id = %(run)s
"""
_JOBS = f"""
SELECT j.run_id, j.request_id, r.service, j.tenant, j.idempotency_key, r.state::text, r.reason, r.cluster, r.target_cluster, r.node, r.pod,
       r.attempt, j.command, j.args, j.env, j.deadline_s, j.retries, j.retries_used, j.retry_on, j.priority, j.exit_code, j.message,
       j.containers,
       (SELECT coalesce(sum(a.work_lost_s), 0) FROM attempt a WHERE a.run_id = j.run_id AND a.request_id = j.request_id),
       extract(epoch FROM j.submitted_at)::float8, extract(epoch FROM u.started_at)::float8 + r.started_s,
       extract(epoch FROM coalesce(j.ended_at, CASE WHEN r.state IN {TERMINAL_STATES} THEN
           (SELECT max(a.ended_at) FROM attempt a WHERE a.run_id = j.run_id AND a.request_id = j.request_id) END))::float8,
       CASE WHEN r.state = '{RequestState.PLACED}' AND j.waiting_epoch = r.epoch THEN j.waiting END
FROM job j JOIN request r USING (run_id, request_id) JOIN run u ON u.run_id = j.run_id
"""
_WITHDRAW = f"""
WITH locked AS (
    SELECT r.request_id, r.state AS was FROM request r
    WHERE r.run_id = %(run)s AND r.request_id = %(id)s AND {can("r", Event.WITHDRAW, service_class=ServiceClass.BE, is_named=True)}
    FOR NO KEY UPDATE OF r
), ended AS (
    UPDATE request r SET state = {after(Event.WITHDRAW)}, reason = '{Reason.CANCELLED}', lease_until = NULL FROM locked v
    WHERE r.run_id = %(run)s AND r.request_id = v.request_id
    RETURNING r.request_id, r.epoch, r.class, r.service, r.target_cluster, r.node, r.pod, r.started_s, {PHASES_OF_R}, v.was
), noted AS (
    INSERT INTO attempt (run_id, request_id, epoch, class, service, cluster, node, pod, started_s, outcome, reason, work_lost_s, {PHASES})
    SELECT %(run)s, request_id, epoch, class, service, target_cluster, node, pod, started_s, '{RequestState.CANCELLED}',
           '{Reason.CANCELLED}', 0, {PHASES}
    FROM ended WHERE was IN {IN_FLIGHT_STATES}
)
UPDATE job SET ended_at = now() FROM ended WHERE job.run_id = %(run)s AND job.request_id = ended.request_id
"""
_NOTE_WAITING = """
WITH locked AS (
    SELECT j.run_id, j.request_id, v.epoch, v.words FROM job j
    JOIN unnest(%(runs)s::int[], %(ids)s::int[], %(epochs)s::int[], %(words)s::text[]) AS v(run_id, request_id, epoch, words)
        USING (run_id, request_id)
    WHERE j.waiting_epoch <= v.epoch
    ORDER BY j.run_id, j.request_id FOR NO KEY UPDATE OF j
)
UPDATE job j SET waiting = v.words, waiting_epoch = v.epoch FROM locked v
WHERE j.run_id = v.run_id AND j.request_id = v.request_id
"""
_IN_FLIGHT = f"""
SELECT r.run_id, r.request_id, r.epoch FROM request r
JOIN unnest(%(runs)s::int[], %(ids)s::int[], %(epochs)s::int[]) AS v(run_id, request_id, epoch) USING (run_id, request_id, epoch)
WHERE r.state::text IN {IN_FLIGHT_STATES}
"""
_ENDING = f"""
SELECT r.request_id, r.epoch, r.state::text IN {IN_FLIGHT_STATES}, j.retries - j.retries_used, j.retry_on
FROM request r JOIN job j USING (run_id, request_id)
WHERE r.run_id = %(run)s AND r.request_id = ANY (%(ids)s) ORDER BY r.request_id FOR NO KEY UPDATE OF r
"""
# What is told of the last attempt. What comes late, as after the job was withdrawn, is told where nothing is known yet.
_TELL = f"""
UPDATE job j SET exit_code = %(exit_code)s, message = %(message)s, containers = %(containers)s,
    retries_used = j.retries_used + %(retried)s,
    ended_at = CASE WHEN r.state IN {TERMINAL_STATES} THEN coalesce(j.ended_at, now()) END
FROM request r
WHERE j.run_id = %(run)s AND j.request_id = %(id)s AND r.run_id = j.run_id AND r.request_id = j.request_id AND r.epoch = %(epoch)s
  AND (NOT %(late)s OR j.exit_code IS NULL AND j.message = '')
"""
# Jobs whose end has not been noted, which those of runs that were cancelled never have; counted no further than needed.
_LIVE_JOBS = f"""
SELECT count(*) FROM (
    SELECT FROM job j JOIN request r USING (run_id, request_id)
    WHERE j.tenant = %(tenant)s AND j.ended_at IS NULL AND r.state NOT IN {TERMINAL_STATES} LIMIT %(most)s
) live
"""
_DROP = """
WITH old AS (
    SELECT run_id, request_id, epoch, container,
           kept_at < now() - %(age)s * interval '1 s' OR sum(octet_length(tail)) OVER (ORDER BY kept_at DESC, run_id, request_id, epoch,
               container) > %(most)s AS goes
    FROM job_log
), locked AS (
    SELECT run_id, request_id, epoch, container FROM job_log l JOIN old USING (run_id, request_id, epoch, container)
    WHERE old.goes ORDER BY run_id, request_id, epoch, container FOR UPDATE OF l
)
DELETE FROM job_log l USING locked v
WHERE l.run_id = v.run_id AND l.request_id = v.request_id AND l.epoch = v.epoch AND l.container = v.container
"""


class PostgresJobStore:
    """The store of jobs on PostgreSQL; its methods may be called from any thread or process."""

    def __init__(self, database: Database, lease: LeaseSettings) -> None:
        self._database = database
        self._lease = lease

    def submit(self, job: NewJob) -> SubmittedJob:
        """One transaction; whoever submits under the same key meanwhile waits for it."""

        def submit(cursor: Cursor) -> SubmittedJob:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"job {job.tenant} {job.key}",))
            if (known := _of_key(cursor, job)) is not None:
                return known
            service, clusters = _declared(cursor, job)
            _require_place(cursor, job.tenant)
            run_id, request_id = _numbered(cursor)
            cluster = job.cluster or clusters[request_id % len(clusters)]
            row: dict[str, Any] = {"run_id": run_id, "request_id": request_id}
            row |= {"tenant": job.tenant, "idempotency_key": job.key, "priority": job.priority}
            row |= {"command": _listed(job.command), "args": _listed(job.args), "env": Json([list(of) for of in job.env])}
            row |= {"deadline_s": job.deadline_s, "retries": job.retries, "retry_on": list(job.retry_on)}
            row |= {"by_local_user": job.by_local_user}
            cursor.execute(
                _ACCEPT,
                {
                    "run": run_id,
                    "id": request_id,
                    "service": service.name,
                    "cluster": cluster,
                    "work": service.cpu_work_s,
                    "memory": service.memory_mib,
                    "tenant": job.tenant,
                },
            )
            insert(cursor, "job", [row])
            return SubmittedJob(key=RequestKey(run_id, request_id), service=service.name, cluster=cluster)

        return self._database.run(submit)

    def check(self, job: NewJob) -> SubmittedJob | None:
        """Refuse what `submit` would refuse by the declarations, and give the job that its key names already; nothing is stored."""

        def check(cursor: Cursor) -> SubmittedJob | None:
            known = _of_key(cursor, job)
            if known is None:
                _declared(cursor, job)
                _require_place(cursor, job.tenant)
            return known

        return self._database.run(check)

    def job(self, key: RequestKey) -> Job:
        """One job, found by its primary key."""
        found = self._database.rows(f"{_JOBS} WHERE j.run_id = %s AND j.request_id = %s", key)
        if not found:
            latest = ", ".join(str(job.key) for job in self.jobs(limit=5)) or "none yet"
            raise UsageError(f"there is no job {key}; the latest: {latest}")
        return _job(found[0])

    def jobs(
        self, *, tenant: str | None = None, service: str | None = None, state: str | None = None, limit: int = 50
    ) -> list[Job]:
        """Jobs, the latest submission first."""
        found = self._database.rows(
            f"{_JOBS} WHERE (%(tenant)s IS NULL OR j.tenant = %(tenant)s) AND (%(service)s IS NULL OR r.service = %(service)s) "
            "AND (%(state)s IS NULL OR r.state::text = %(state)s) ORDER BY j.submitted_at DESC, j.run_id DESC, j.request_id DESC "
            "LIMIT %(limit)s",
            {"tenant": tenant, "service": service, "state": state, "limit": limit},
        )
        return [_job(row) for row in found]

    def withdraw(self, key: RequestKey) -> bool:
        """Cancel the job unless it has ended, by one statement on its row."""
        self.job(key)
        return bool(self._database.execute(_WITHDRAW, {"run": key.run_id, "id": key.request_id}))

    def in_flight(self, attempts: Collection[tuple[int, int, int]]) -> set[tuple[int, int, int]]:
        """Which of these attempts of jobs are in flight."""
        if not attempts:
            return set()
        runs, ids, epochs = (list(column) for column in zip(*attempts, strict=True))
        return {(run, k, epoch) for run, k, epoch in self._database.rows(_IN_FLIGHT, {"runs": runs, "ids": ids, "epochs": epochs})}

    def note_waiting(self, why: Mapping[tuple[int, int, int], str]) -> None:
        """One statement, on rows of jobs alone."""
        if why:
            told = sorted(why.items())
            self._database.execute(
                _NOTE_WAITING,
                {
                    "runs": [run_id for (run_id, _, _), _ in told],
                    "ids": [request_id for (_, request_id, _), _ in told],
                    "epochs": [epoch for (_, _, epoch), _ in told],
                    "words": [words.replace("\0", " ")[:MOST_WORDS] for _, words in told],
                },
            )

    def end(self, ends: Sequence[JobEnd]) -> int:
        """A transaction for each run: logs, requests, then jobs."""
        by_run: dict[int, list[JobEnd]] = defaultdict(list)
        for end in ends:
            by_run[end.key.run_id].append(end)

        def settle(cursor: Cursor, run_id: int, of_run: Sequence[JobEnd]) -> int:
            cursor.execute(_ENDING, {"run": run_id, "ids": [end.key.request_id for end in of_run]})
            rows = {request_id: rest for request_id, *rest in cursor.fetchall()}
            known = sorted((end for end in of_run if end.key.request_id in rows), key=lambda end: end.key.request_id)
            insert(cursor, "job_log", [log for end in known for log in _logs(end)], then="ON CONFLICT DO NOTHING")
            outcomes, told = [], []
            for end in known:
                epoch, is_in_flight, left, retry_on = rows[end.key.request_id]
                if epoch != end.outcome.epoch:
                    continue
                event = end.event(retries_left=left, retry_on=retry_on)
                if is_in_flight:
                    outcomes.append(dataclasses.replace(end.outcome, event=event))
                    told.append((end, end.is_own_fault and event is Event.REQUEUE, False))
                elif end.exit_code is not None:
                    told.append((end, False, True))
            ended = end_attempts(cursor, outcomes, self._lease)
            for end, retried, is_late in told:
                self._tell(cursor, end, retried=retried, is_late=is_late)
            return ended

        return sum(
            self._database.run(lambda cursor, run_id=run_id: settle(cursor, run_id, by_run[run_id]))  # type: ignore[misc]
            for run_id in sorted(by_run)
        )

    def _tell(self, cursor: Cursor, end: JobEnd, *, retried: bool, is_late: bool) -> None:
        cursor.execute(
            _TELL,
            {
                "run": end.key.run_id,
                "id": end.key.request_id,
                "epoch": end.outcome.epoch,
                "exit_code": end.exit_code,
                "message": end.message.replace("\0", "\N{REPLACEMENT CHARACTER}"),
                "containers": Json([dataclasses.asdict(container) for container in end.containers]),
                "retried": int(retried),
                "late": is_late,
            },
        )

    def log(self, key: RequestKey) -> list[tuple[int, ContainerLog]]:
        """All of it: 64 KiB for each container and attempt."""
        self.job(key)
        found = self._database.rows(
            "SELECT epoch, container, tail, is_whole FROM job_log WHERE run_id = %s AND request_id = %s ORDER BY epoch, container",
            key,
        )
        return [
            (epoch, ContainerLog(container=container, tail=bytes(tail), is_whole=is_whole))
            for epoch, container, tail, is_whole in found
        ]

    def drop_logs(self, *, older_than_s: float, most_bytes: int) -> int:
        """One statement, which reads the sizes of all that are kept and none of their texts."""
        return self._database.execute(_DROP, {"age": older_than_s, "most": most_bytes})


def _numbered(cursor: Cursor) -> tuple[int, int]:
    """A number in the open live run; the run may be closed between the two reads, and the next one is open then."""
    for _ in range(2):
        run_id = open_run(cursor).run_id
        try:
            return run_id, take_numbers(cursor, run_id, 1)[0]
        except RequestRejected:
            continue
    raise RequestRejected("no live run accepts jobs just now: the open one was closed twice within a moment; submit it again")


def _of_key(cursor: Cursor, job: NewJob) -> SubmittedJob | None:
    """The job that was submitted before under the same key. Raises: KeyTaken where it has other content."""
    cursor.execute(f"{_JOBS} WHERE j.tenant = %s AND j.idempotency_key = %s", (job.tenant, job.key))
    found = cursor.fetchone()
    if found is None:
        return None
    known = _job(found)
    refuse_other_content(job, known)
    return SubmittedJob(key=known.key, service=known.service, cluster=known.entry_cluster, is_new=False)


def _declared(cursor: Cursor, job: NewJob) -> tuple[Service, list[str]]:
    """The job's service, and the clusters.

    Raises: UsageError for a name that there is not; RequestRejected for one that takes no jobs, NotAdmitted for one of another tenant.
    """
    cursor.execute("SELECT name, class, CASE WHEN name = %s THEN spec END FROM service ORDER BY name", (job.service,))
    services = {name: (label, spec) for name, label, spec in cursor.fetchall()}
    if job.service not in services:
        known = [name for name, (label, _) in services.items() if label == ServiceClass.BE.label]
        raise UsageError(
            f"there is no service {job.service!r}{near_name(job.service, known)}; BE services: {', '.join(known) or 'none'}. "
            "Declare it with `tango service apply -f FILE`"
        )
    label, spec = services[job.service]
    if label != ServiceClass.BE.label:
        raise RequestRejected(
            f"service {job.service!r} is {label}, expected be: a job runs once and ends; requests go to its gateway"
        )
    service = service_of(spec)
    if not service.admits(job.tenant):
        raise NotAdmitted(not_admitted(service, job.tenant))
    if not service.template and (job.command is not None or job.args is not None):
        raise RequestRejected(
            f"service {job.service!r} has no template: its pods are Tango's synthetic workload, which takes no command or arguments. "
            "Leave them away, or declare the service with a template"
        )
    cursor.execute("SELECT name FROM cluster ORDER BY position")
    clusters = [name for (name,) in cursor.fetchall()]
    if not clusters:
        raise UsageError("no cluster has joined yet; start some with `tango up`, or join one with `tango cluster join`")
    if job.cluster and job.cluster not in clusters:
        raise UsageError(
            f"there is no cluster {job.cluster!r}{near_name(job.cluster, clusters)}; clusters: {', '.join(clusters) or 'none'}"
        )
    return service, clusters


def _require_place(cursor: Cursor, tenant: str) -> None:
    """Raises: TooManyJobs where the tenant has as many live jobs as are declared for it. Others of the tenant's submit after this one."""
    cursor.execute("SELECT most_jobs FROM tenant WHERE name = %s AND most_jobs IS NOT NULL", (tenant,))
    found = cursor.fetchone()
    if found is None:
        return
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"jobs of {tenant}",))
    cursor.execute(_LIVE_JOBS, {"tenant": tenant, "most": found[0]})
    counted = cursor.fetchone()
    if counted is not None and counted[0] >= found[0]:
        raise TooManyJobs(most_jobs_refused(tenant, found[0]))


def _listed(words: Sequence[str] | None) -> list[str] | None:
    return None if words is None else list(words)


def _logs(end: JobEnd) -> list[dict[str, Any]]:
    of = {"run_id": end.key.run_id, "request_id": end.key.request_id, "epoch": end.outcome.epoch}
    return [{**of, "container": log.container, "tail": psycopg2.Binary(log.tail), "is_whole": log.is_whole} for log in end.logs]


def _job(row: tuple[Any, ...]) -> Job:
    (run_id, request_id, service, tenant, key, state, reason, entry, cluster, node, pod, attempts, command, args, env, deadline_s, retries,
     used, retry_on, priority, exit_code, message, containers, lost_s, submitted_at_s, started_at_s, ended_at_s,
     pod_waits) = row  # fmt: skip
    return Job(
        key=RequestKey(run_id, request_id),
        service=service,
        tenant=tenant,
        idempotency_key=key,
        state=RequestState(state),
        reason=reason,
        entry_cluster=entry,
        cluster=cluster or "",
        node=node or "",
        pod=pod or "",
        attempts=attempts,
        command=None if command is None else tuple(command),
        args=None if args is None else tuple(args),
        env=tuple((name, value) for name, value in env),
        deadline_s=deadline_s,
        retries=retries,
        retries_used=used,
        retry_on=tuple(retry_on),
        priority=priority,
        exit_code=exit_code,
        message=message,
        containers=tuple(ContainerEnd(**container) for container in containers),
        work_lost_s=float(lost_s),
        submitted_at_s=submitted_at_s,
        started_at_s=started_at_s,
        ended_at_s=ended_at_s,
        pod_waits=pod_waits or "",
    )
