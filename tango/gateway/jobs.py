"""`/jobs`: best-effort jobs by HTTP. Their rows are at the centre: while that is away these routes answer 503 at once, and keep nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import orjson
from aiohttp import web

from tango.domain.identity import RequestKey
from tango.domain.job_json import new_job_of, shown_job
from tango.domain.jobs import ContainerLog, Job, NewJob, SubmittedJob
from tango.domain.services import ServiceClass
from tango.errors import DependencyError, KeyTaken, NotAdmitted, NotOpen, RequestRejected, TooManyJobs, UsageError
from tango.gateway.bodies import expects_nothing, held_body
from tango.gateway.gateway import Gateway
from tango.gateway.problems import Problem, Trouble
from tango.gateway.told import TRACED, json_response, note
from tango.gateway.tracing import TracedArrival

T = TypeVar("T")

AWAY_S = 1.0
"""Seconds after a call that the centre did not answer in which no further one is tried."""
KEY_HEADER = "Tango-Key"
MOST_LISTED = 100
"""Jobs in one answer, the newest: a page for a person, who narrows the list down by `tango job list`."""


class JobsAtCentre(Protocol):
    """Jobs at the centre, as `tango.control.jobs.Jobs` has them: its errors, and those of a centre that is away."""

    def submit(self, job: NewJob) -> SubmittedJob:
        """Store a job and announce it."""
        ...

    def job(self, key: RequestKey, *, tenant: str | None = None) -> Job:
        """One job, if it is of this tenant."""
        ...

    def latest(self, *, tenant: str | None = None, limit: int) -> list[Job]:
        """At most `limit` jobs, of one tenant or of all, the newest first."""
        ...

    def cancel(self, key: RequestKey, *, tenant: str | None = None) -> Job:
        """End a job unless it has ended."""
        ...

    def log(self, key: RequestKey) -> list[tuple[int, ContainerLog]]:
        """What is kept of its logs."""
        ...


class JobCalls:
    """The routes by which callers send jobs and ask for them. `jobs` is asked for in a thread, at the first call that needs it."""

    def __init__(self, gateway: Gateway, jobs: Callable[[], JobsAtCentre]) -> None:
        self._gateway, self._jobs = gateway, jobs
        self._away_until_s = -AWAY_S

    def routes(self) -> Iterable[web.RouteDef]:
        """Routes under `/jobs`, for requests that are to be stored at the centre."""
        return [
            web.post("/jobs", self.submit, expect_handler=expects_nothing),
            web.get("/jobs", self.list_jobs),
            web.get("/jobs/{job}", self.show),
            web.get("/jobs/{job}/logs", self.logs),
            web.delete("/jobs/{job}", self.cancel),
        ]

    async def submit(self, request: web.Request) -> web.Response:
        """201 with the job, or 200 with the one that came first under its key. Raises: Problem."""
        gateway = self._gateway
        tenant = await self._tenant(request)
        async with gateway.door.place(tenant, within_s=gateway.settings.place_within_s):
            async with held_body(request, gateway.door, gateway.settings) as body:
                order = _order_of(body)
            header = request.headers.get(KEY_HEADER, "")
            if header and isinstance(order, dict) and order.get("key", header) in ("", header):
                order["key"] = header
            if isinstance(order, dict) and not order.get("cluster"):
                order["cluster"] = gateway.cluster
            try:
                submitted = await self._asked(lambda jobs: jobs.submit(_new_job(order, tenant, request.get(TRACED))))
            except UsageError as error:
                raise Problem(Trouble.UNKNOWN_SERVICE, str(error)) from error
            except NotAdmitted as error:
                raise Problem(Trouble.NOT_YOUR_SERVICE, str(error)) from error
            except KeyTaken as error:
                raise Problem(Trouble.KEY_TAKEN, str(error), job=error.first) from error
            except TooManyJobs as error:
                raise Problem(Trouble.TOO_MANY_JOBS, str(error), retry_after_s=gateway.settings.retry_after_s) from error
            except RequestRejected as error:
                raise Problem(Trouble.BAD_JOB, str(error)) from error
        note(request, job=str(submitted.key))
        shown = await self._asked(lambda jobs: shown_job(jobs.job(submitted.key)))
        headers = {"Location": f"/jobs/{submitted.key}"}
        return json_response(shown, status=201 if submitted.is_new else 200, headers=headers)

    async def list_jobs(self, request: web.Request) -> web.Response:
        """The latest jobs of the caller's tenant, newest first. Raises: Problem."""
        tenant = await self._tenant(request)
        return json_response(
            await self._asked(lambda jobs: [shown_job(job) for job in jobs.latest(tenant=tenant, limit=MOST_LISTED)])
        )

    async def show(self, request: web.Request) -> web.Response:
        """How it stands. Raises: Problem."""
        key, tenant = await self._job_of(request)
        return json_response(await self._known(key, lambda jobs: shown_job(jobs.job(key, tenant=tenant))))

    async def cancel(self, request: web.Request) -> web.Response:
        """End it, unless it has ended. Raises: Problem."""
        key, tenant = await self._job_of(request)
        return json_response(await self._known(key, lambda jobs: shown_job(jobs.cancel(key, tenant=tenant))))

    async def logs(self, request: web.Request) -> web.Response:
        """What is kept of its last attempt that has ended, of `?container=` or the service's own. Raises: Problem."""
        key, tenant = await self._job_of(request)

        def read(jobs: JobsAtCentre) -> tuple[str, str, list[tuple[int, ContainerLog]]]:
            job = jobs.job(key, tenant=tenant)
            return job.service, str(job.state), jobs.log(key)

        service, state, found = await self._known(key, read)
        last = max((epoch for epoch, _ in found), default=0)
        of_last = [log for epoch, log in found if epoch == last]
        declared = self._gateway.view.services.get(service)
        wanted = request.query.get("container") or (declared.container if declared is not None else "")
        log = next((log for log in of_last if log.container == wanted), None)
        if log is None and "container" not in request.query:
            log = of_last[0] if of_last else None
        if log is None:
            raise Problem(
                Trouble.NO_LOG_KEPT,
                f"no log of job {key} is kept, which is {state}: the end of a container's log is kept when it has ended; "
                + (f"there are: {', '.join(log.container for log in of_last)}" if of_last else "`tango job logs -f` follows one"),
                job=str(key),
            )
        headers = {"Tango-Log-Whole": "yes" if log.is_whole else "no"}
        return web.Response(body=log.tail, content_type="text/plain", headers=headers)

    async def _tenant(self, request: web.Request) -> str:
        tenant = (await self._gateway.caller(request.headers, wants=ServiceClass.BE)).tenant
        note(request, tenant=tenant)
        return tenant

    async def _job_of(self, request: web.Request) -> tuple[RequestKey, str]:
        tenant = await self._tenant(request)
        try:
            key = RequestKey.parsed(request.match_info["job"])
        except UsageError as error:
            raise Problem(Trouble.UNKNOWN_JOB, str(error)) from error
        note(request, job=str(key))
        return key, tenant

    async def _known(self, key: RequestKey, ask: Callable[[JobsAtCentre], T]) -> T:
        try:
            return await self._asked(ask)
        except UsageError as error:
            # Without the names of others' jobs, which the store's own message has.
            raise Problem(Trouble.UNKNOWN_JOB, f"there is no job {key}", job=str(key)) from error

    async def _asked(self, ask: Callable[[JobsAtCentre], T]) -> T:
        loop, again_s = asyncio.get_running_loop(), self._gateway.settings.retry_after_s
        away = Problem(
            Trouble.CENTRE_AWAY, "the centre, which has the rows of jobs, does not answer; nothing was kept", retry_after_s=again_s
        )
        if loop.time() < self._away_until_s:
            raise away
        try:
            return await asyncio.to_thread(lambda: ask(self._jobs()))
        except NotOpen:
            raise
        except DependencyError as error:
            self._away_until_s = loop.time() + AWAY_S
            raise away from error


def _new_job(order: Any, tenant: str, traced: TracedArrival | None) -> NewJob:
    job = new_job_of(order, tenant=tenant)
    return job if traced is None else traced.in_job(job)


def _order_of(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(Trouble.BAD_JOB, f"the body is no JSON: {error}; expected an object with the member `service`") from error
