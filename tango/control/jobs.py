"""Jobs as callers see them: submit, look, cancel. The command line, the gateways and the Celery task all come through here.

The rows come first and the message second: a message is a hint, and the reconciler publishes one again for a job that nobody heard of.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import structlog

from tango.domain.identity import RequestKey
from tango.domain.job_json import new_job_of
from tango.domain.jobs import MOST_BYTES, ContainerLog, Job, NewJob, SubmittedJob, as_refused, drawn_key
from tango.domain.requests import Batch
from tango.domain.services import ServiceClass
from tango.domain.tenants import DEFAULT_TENANT
from tango.errors import BrokerUnavailable, RequestRejected, UsageError
from tango.ports.jobs import JobStore
from tango.ports.messages import Publisher
from tango.ports.refusals import RefusalStore
from tango.settings import JobSettings

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The door through which jobs come in, and by which they are looked at and cancelled."""

    store: JobStore
    publisher: Publisher
    refusals: RefusalStore

    def submit(self, job: NewJob) -> SubmittedJob:
        """Store a job and announce it. Without a key of the caller's it gets one, so that storing it may be repeated.

        Raises: NotOpen, StoreUnavailable: nothing is kept then; UsageError, RequestRejected. A broker that is away costs nothing but time.
        """
        submitted = self.store.submit(job if job.key else dataclasses.replace(job, key=drawn_key()))
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

    def check(self, job: NewJob) -> SubmittedJob | None:
        """What `submit` would find: the job that came first under its key; None: it would be a new one. Raises: as `submit`."""
        return self.store.check(job if job.key else dataclasses.replace(job, key=drawn_key()))

    def submit_order(self, order: Mapping[str, object], *, tenant: str, key: str) -> SubmittedJob:
        """`submit` of an order that another application sent, JSON of at most `MOST_BYTES`; `key` is its own where it names none.

        `tenant` empty: the default one. Raises: as `submit`; RequestRejected for an order that is larger, or has no meaning.
        """
        size = len(json.dumps(order))
        if size > MOST_BYTES:
            raise RequestRejected(
                f"job: the message has {size} bytes, expected at most {MOST_BYTES}: pass a reference, not the data"
            )
        return self.submit(new_job_of({**order, "key": order.get("key") or key}, tenant=tenant or DEFAULT_TENANT))

    def job(self, key: RequestKey, *, tenant: str | None = None) -> Job:
        """Raises: UsageError if there is no such job, or it is of another tenant than this."""
        found = self.store.job(key)
        if tenant not in (None, found.tenant):
            raise UsageError(f"there is no job {key}")
        return as_refused(found, self.refusals.pauses().states)

    def latest(self, *, tenant: str | None = None, limit: int) -> list[Job]:
        """The latest jobs, newest first; of one tenant, or of all."""
        return self.store.jobs(tenant=tenant, limit=limit)

    def log(self, key: RequestKey) -> list[tuple[int, ContainerLog]]:
        """What is kept of a job's logs, with the epochs of its attempts. Raises: UsageError if there is no such job."""
        return self.store.log(key)

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
