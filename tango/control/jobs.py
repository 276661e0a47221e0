"""Jobs as callers see them: submit, look, cancel. The command line, the gateways and the Celery task all come through here.

The rows come first and the message second: a message is a hint, and the reconciler publishes one again for a job that nobody heard of.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

import structlog

from tango.domain.identity import NodeKey, RequestKey
from tango.domain.jobs import Job, NewJob, SubmittedJob
from tango.domain.near_names import near_name
from tango.domain.requests import Batch
from tango.domain.services import ServiceClass
from tango.errors import BrokerUnavailable, RequestRejected, UsageError
from tango.ports.jobs import JobStore
from tango.ports.messages import Publisher
from tango.settings import JobSettings

log = structlog.get_logger(__name__)

ORDER = ("service", "command", "args", "env", "cluster", "key", "deadline_s", "retries", "retry_on", "priority", "allow_literal")
"""Members of a submission as JSON; all but `service` may be left away. `env` is an object of texts."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The door through which jobs come in, and by which they are looked at and cancelled."""

    store: JobStore
    publisher: Publisher

    def submit(self, job: NewJob) -> SubmittedJob:
        """Store a job and announce it. Without a key of the caller's it gets one, so that storing it may be repeated.

        Raises: NotOpen, StoreUnavailable: nothing is kept then; UsageError, RequestRejected. A broker that is away costs nothing but time.
        """
        submitted = self.store.submit(job if job.key else dataclasses.replace(job, key=uuid.uuid4().hex))
        run_id, request_id = submitted.key
        batch = Batch(
            run_id=run_id,
            cluster=submitted.cluster,
            service=submitted.service,
            service_class=ServiceClass.BE,
            request_ids=(request_id,),
        )
        if submitted.is_new:
            try:
                self.publisher.arrivals([batch])
            except BrokerUnavailable as error:
                log.warning("job_not_announced", job=str(submitted.key), error=str(error))
        return submitted

    def job(self, key: RequestKey, *, tenant: str | None = None) -> Job:
        """Raises: UsageError if there is no such job, or it is of another tenant than this."""
        found = self.store.job(key)
        if tenant not in (None, found.tenant):
            raise UsageError(f"there is no job {key}")
        return found

    def drop_logs(self, settings: JobSettings) -> int:
        """Forget logs that are too old or too many; gives how many. Safe to repeat, and for several at once."""
        dropped = self.store.drop_logs(older_than_s=settings.log_keep_s, most_bytes=settings.log_total_mib << 20)
        if dropped:
            log.info("job_logs_dropped", logs=dropped)
        return dropped

    def cancel(self, key: RequestKey, *, tenant: str | None = None) -> Job:
        """End a job unless it has ended; its pod has its grace and is gone some seconds later. Raises: as `job`."""
        self.job(key, tenant=tenant)
        if self.store.withdraw(key):
            log.info("job_cancelled", job=str(key))
        return self.store.job(key)


def new_job_of(order: object, *, tenant: str) -> NewJob:
    """The job that a JSON object asks for. Raises: RequestRejected, which names the member, what was found and what is expected."""
    if not isinstance(order, Mapping):
        raise RequestRejected(f"job: found {type(order).__name__}, expected an object with the member `service`")
    for name in order:
        if name not in ORDER:
            raise RequestRejected(f"job: {name!r} is no member{near_name(str(name), ORDER)}; there are: {', '.join(ORDER)}")
    env = _member(order, "env", Mapping, "an object of texts") or {}
    return NewJob(
        service=_member(order, "service", str, "the name of a BE service") or "",
        command=_words(order, "command"),
        args=_words(order, "args"),
        env=tuple((str(name), _text(value, f"env {name}")) for name, value in env.items()),
        cluster=_member(order, "cluster", str, "the name of a cluster") or "",
        tenant=tenant,
        key=_member(order, "key", str, "a text") or "",
        deadline_s=_member(order, "deadline_s", int | float, "seconds"),
        retries=_member(order, "retries", int, "a whole number") or 0,
        retry_on=tuple(_each(order, "retry_on", int, "a list of exit codes") or ()),
        priority=_member(order, "priority", int, "a whole number") or 0,
        allow_literal=tuple(_each(order, "allow_literal", str, "a list of names") or ()),
    )


def shown_job(job: Job) -> dict[str, Any]:
    """A job as JSON shows it: the keys that scripts depend on first."""
    return {
        "job": str(job.key),
        "state": str(job.state),
        "exit_code": job.exit_code,
        "attempts": job.attempts,
        "node": str(NodeKey(job.cluster, job.node)) if job.node else None,
        "reason": job.reason or None,
        "message": job.message or None,
        "service": job.service,
        "tenant": job.tenant,
        "key": job.idempotency_key,
        "cluster": job.entry_cluster,
        "command": None if job.command is None else list(job.command),
        "args": None if job.args is None else list(job.args),
        "env": dict(job.env),
        "deadline_s": job.deadline_s,
        "retries": job.retries,
        "retries_used": job.retries_used,
        "retry_on": list(job.retry_on),
        "priority": job.priority,
        "pod": job.pod or None,
        "containers": [dataclasses.asdict(container) for container in job.containers],
        "work_lost_s": job.work_lost_s,
        "submitted_at_s": job.submitted_at_s,
        "started_at_s": job.started_at_s,
        "ended_at_s": job.ended_at_s,
    }


def _member(order: Mapping[Any, Any], name: str, kind: Any, expected: str) -> Any:
    value = order.get(name)
    if value is None:
        return None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RequestRejected(f"job: {name} is {value!r}, expected {expected}")
    return value


def _each(order: Mapping[Any, Any], name: str, kind: type, expected: str) -> list[Any] | None:
    values: list[Any] | None = _member(order, name, list, expected)
    for value in values or ():
        if not isinstance(value, kind) or isinstance(value, bool):
            raise RequestRejected(f"job: {name} has {value!r} in it, expected {expected}")
    return values


def _words(order: Mapping[Any, Any], name: str) -> tuple[str, ...] | None:
    words = _each(order, name, str, "a list of texts")
    return None if words is None else tuple(words)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise RequestRejected(f"job: {where} is {value!r}, expected a text; write numbers in quotes")
    return value
