"""Jobs in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from tango.domain.identity import RequestKey
from tango.domain.jobs import ContainerLog, Job, JobEnd, NewJob, SubmittedJob, most_jobs_refused, refuse_other_content
from tango.domain.lifecycle import IN_FLIGHT, TERMINAL, Event
from tango.domain.near_names import near_name
from tango.domain.requests import Reason, RequestState
from tango.domain.services import Service, ServiceClass, not_admitted
from tango.errors import NotAdmitted, RequestRejected, TooManyJobs, UsageError
from tests.fakes.be_requests import MOST_JOB_ATTEMPTS, MemoryBeRequests
from tests.fakes.live_runs import open_live_run, own_number
from tests.fakes.memory_state import MemoryState, Row, StoredJob


class MemoryJobs:
    """Implements `tango.ports.jobs.JobStore`. A live run is opened where there is none."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self._requests = MemoryBeRequests(state, max_attempts=MOST_JOB_ATTEMPTS)

    def check(self, job: NewJob) -> SubmittedJob | None:
        """By tenant and key, then by what is declared."""
        with self._state.lock:
            for row, known in self._rows():
                if (known.asked.tenant, known.asked.key) == (job.tenant, job.key):
                    refuse_other_content(job, self._job(row, known))
                    return SubmittedJob(key=_key(row), service=row.service, cluster=row.cluster, is_new=False)
            self._service(job)
            self._require_place(job.tenant)
            clusters = self._state.clusters
            if job.cluster and job.cluster not in clusters:
                raise UsageError(
                    f"there is no cluster {job.cluster!r}{near_name(job.cluster, clusters)}; clusters: {', '.join(clusters)}"
                )
            return None

    def submit(self, job: NewJob) -> SubmittedJob:
        """One for each tenant and key."""
        with self._state.lock:
            if (known := self.check(job)) is not None:
                return known
            service = self._service(job)
            run = open_live_run(self._state)
            self._state.live_is_wanted = True
            clusters = self._state.clusters
            now_s = self._state.now_s()
            row = Row(
                run_id=run.info.run_id,
                request_id=own_number(self._state, run),
                service_class=ServiceClass.BE,
                service=service.name,
                cluster=job.cluster or clusters[len(run.rows) % len(clusters)],
                due_s=now_s - (run.info.started_at_s or 0.0),
                target_s=None,
                cpu_work_s=service.cpu_work_s,
                memory_mib=service.memory_mib,
                released_at_s=now_s,
                job=StoredJob(job, submitted_at_s=now_s),
            )
            self._state.happens(row, Event.RELEASE)
            self._state.add(row)
            return SubmittedJob(key=_key(row), service=row.service, cluster=row.cluster)

    def _require_place(self, tenant: str) -> None:
        declared = self._state.tenants.get(tenant)
        if declared is not None and declared.most_jobs is not None:
            live = sum(row.state not in TERMINAL for row, kept in self._rows() if kept.asked.tenant == tenant)
            if live >= declared.most_jobs:
                raise TooManyJobs(most_jobs_refused(tenant, declared.most_jobs))

    def job(self, key: RequestKey) -> Job:
        """One."""
        with self._state.lock:
            for row, kept in self._rows():
                if _key(row) == key:
                    return self._job(row, kept)
            latest = ", ".join(str(job.key) for job in self.jobs(limit=5)) or "none yet"
            raise UsageError(f"there is no job {key}; the latest: {latest}")

    def jobs(
        self, *, tenant: str | None = None, service: str | None = None, state: str | None = None, limit: int = 50
    ) -> list[Job]:
        """Newest first."""
        with self._state.lock:
            found = [
                self._job(row, kept)
                for row, kept in self._rows()
                if tenant in (None, kept.asked.tenant) and service in (None, row.service) and state in (None, row.state)
            ]
            return sorted(found, key=lambda job: (job.submitted_at_s, job.key), reverse=True)[:limit]

    def withdraw(self, key: RequestKey) -> bool:
        """Where it is live."""
        with self._state.lock:
            self.job(key)
            (row, kept), *_ = ((row, kept) for row, kept in self._rows() if _key(row) == key)
            found = self._state.happens(row, Event.WITHDRAW)
            if found is None:
                return False
            kept.ended_at_s = self._state.now_s()
            if found.outcome:
                self._state.end(row, found.outcome, str(Reason.CANCELLED))
            return True

    def in_flight(self, attempts: Collection[tuple[int, int, int]]) -> set[tuple[int, int, int]]:
        """By epoch and state."""
        with self._state.lock:
            rows = {
                (row.run_id, row.request_id, row.epoch)
                for run in self._state.runs.values()
                for row in run.rows
                if row.state in IN_FLIGHT
            }
            return rows & set(attempts)

    def end(self, ends: Sequence[JobEnd]) -> int:
        """Each attempt once."""
        ended = 0
        with self._state.lock:
            for end in ends:
                for row, kept in self._rows():
                    if _key(row) == end.key:
                        ended += self._end(row, kept, end)
        return ended

    def note_waiting(self, why: Mapping[tuple[int, int, int], str]) -> None:
        """Of the latest epoch."""
        with self._state.lock:
            for row, kept in self._rows():
                for (run_id, request_id, epoch), words in why.items():
                    if (run_id, request_id) == _key(row) and epoch >= kept.waiting[0]:
                        kept.waiting = epoch, words

    def log(self, key: RequestKey) -> list[tuple[int, ContainerLog]]:
        """By epoch and container."""
        with self._state.lock:
            self.job(key)
            (kept,) = (kept for row, kept in self._rows() if _key(row) == key)
            return [(epoch, log) for (epoch, _), (_, log) in sorted(kept.logs.items())]

    def drop_logs(self, *, older_than_s: float, most_bytes: int) -> int:
        """The oldest."""
        with self._state.lock:
            all_logs = [(at_s, kept, place, log) for _, kept in self._rows() for place, (at_s, log) in kept.logs.items()]
            total = dropped = 0
            for at_s, kept, place, log in sorted(all_logs, key=lambda one: -one[0]):
                total += len(log.tail)
                if total > most_bytes or at_s < self._state.now_s() - older_than_s:
                    del kept.logs[place]
                    dropped += 1
            return dropped

    def _end(self, row: Row, kept: StoredJob, end: JobEnd) -> int:
        for log in end.logs:
            kept.logs.setdefault((end.outcome.epoch, log.container), (self._state.now_s(), log))
        if row.epoch != end.outcome.epoch:
            return 0
        event = end.event(retries_left=kept.asked.retries - kept.retries_used, retry_on=kept.asked.retry_on)
        retried = row.state in IN_FLIGHT and end.is_own_fault and event is Event.REQUEUE
        was_in_flight = row.state in IN_FLIGHT
        ended = self._requests.settle([replace(end.outcome, event=event)])
        if not was_in_flight and (end.exit_code is None or kept.exit_code is not None or kept.message):
            return ended
        kept.retries_used += retried
        kept.exit_code, kept.message, kept.containers = end.exit_code, end.message, end.containers
        return ended

    def _rows(self) -> list[tuple[Row, StoredJob]]:
        return [(row, row.job) for run in self._state.runs.values() for row in run.rows if row.job is not None]

    def _service(self, job: NewJob) -> Service:
        service = self._state.services.get(job.service)
        if service is None:
            raise UsageError(f"there is no service {job.service!r}{near_name(job.service, self._state.services)}")
        if service.service_class is not ServiceClass.BE:
            raise RequestRejected(f"service {job.service!r} is lc, expected be")
        if not service.admits(job.tenant):
            raise NotAdmitted(not_admitted(service, job.tenant))
        if not service.template and (job.command is not None or job.args is not None):
            raise RequestRejected(f"service {job.service!r} has no template")
        return service

    def _job(self, row: Row, kept: StoredJob) -> Job:
        asked, lost_s = kept.asked, [a.work_lost_s for a in self._state.attempts if (a.run_id, a.request_id) == _key(row)]
        ends = [a.ended_at_s for a in self._state.attempts if (a.run_id, a.request_id) == _key(row)]
        return Job(
            key=_key(row),
            service=row.service,
            tenant=asked.tenant,
            idempotency_key=asked.key,
            state=row.state,
            reason=row.reason,
            entry_cluster=row.cluster,
            cluster=row.target_cluster,
            node=row.node,
            pod=row.pod,
            attempts=row.attempt,
            command=asked.command,
            args=asked.args,
            env=asked.env,
            deadline_s=asked.deadline_s,
            retries=asked.retries,
            retries_used=kept.retries_used,
            retry_on=asked.retry_on,
            priority=asked.priority,
            exit_code=kept.exit_code,
            message=kept.message,
            containers=kept.containers,
            work_lost_s=sum(lost_s),
            submitted_at_s=kept.submitted_at_s,
            started_at_s=None if row.started_s is None else row.started_s + (self._state.runs[row.run_id].info.started_at_s or 0.0),
            ended_at_s=kept.ended_at_s or (max(ends, default=None) if row.state not in IN_FLIGHT else None),
            pod_waits=kept.waiting[1] if row.state is RequestState.PLACED and kept.waiting[0] == row.epoch else "",
        )


def _key(row: Row) -> RequestKey:
    return RequestKey(row.run_id, row.request_id)
