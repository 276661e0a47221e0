"""Jobs by HTTP: whose they are, what is refused, and a centre that is away."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tango.control.jobs import Jobs
from tango.domain.identity import RequestKey
from tango.domain.jobs import ContainerLog, JobEnd
from tango.domain.lifecycle import Event, Outcome
from tango.domain.tenants import Tenant
from tango.domain.tracing import TraceContext
from tango.errors import StoreUnavailable
from tango.gateway.jobs import AWAY_S, JobCalls
from tango.ports.spans import NO_SPANS, Spans
from tests.fakes.control_world import ControlWorld, control_world
from tests.fakes.faulty import Faulty
from tests.fakes.gateway_rig import BLUE, TOKEN, Rig, gateway_rig
from tests.fakes.span_trees import SpansInMemory, facts, named
from tests.fakes.store_world import BATCH

Json = dict[str, Any]


class JobsRig:
    """A gateway with jobs over stores in memory."""

    def __init__(self, rig: Rig, world: ControlWorld, store: Faulty) -> None:
        self.rig, self.world, self.store = rig, world, store

    async def call(self, method: str, path: str, content: Any = None, **options: Any) -> tuple[int, Json]:
        """(status, JSON) of a call."""
        data = None if content is None else json.dumps(content).encode()
        status, _, body = await self.rig.call(method, path, data=data, **options)
        return status, json.loads(body)

    def run(self, job: str, *, code: int, log: bytes) -> None:
        """Let its first attempt end."""
        key = RequestKey.parsed(job)
        self.world.admit(key.run_id, [key.request_id])
        self.world.place(self.world.requests.pending_be(limit=1), self.world.fence())
        outcome = Outcome(run_id=key.run_id, request_id=key.request_id, epoch=1, event=Event.FAIL)
        logs = (ContainerLog(container="work", tail=log, is_whole=True),)
        self.world.jobs.end([JobEnd(outcome=outcome, exit_code=code, is_own_fault=True, logs=logs)])


@pytest.fixture
def spans() -> Iterator[SpansInMemory]:
    """All requests have traces."""
    made = SpansInMemory()
    yield made
    made.close()


@pytest.fixture
async def jobs(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[JobsRig]:
    """Of cluster c1; with traces where the test asks for the spans."""
    spans: Spans = request.getfixturevalue("spans") if "spans" in request.fixturenames else NO_SPANS
    world = control_world()
    store = Faulty(world.jobs)
    use_case = Jobs(store=store, publisher=world.publisher, refusals=world.refusals)  # type: ignore[arg-type]
    async with gateway_rig(tmp_path, further=lambda gateway: [JobCalls(gateway, lambda: use_case)], spans=spans) as rig:
        yield JobsRig(rig, world, store)


async def test_a_job_is_sent_looked_at_read_and_cancelled(jobs: JobsRig) -> None:
    """It enters the gateway's cluster, and belongs to the token's tenant."""
    status, sent = await jobs.call("POST", "/jobs", {"service": BATCH.name, "env": {"A": "b"}, "priority": 2}, token=TOKEN)
    other, cancelled = await jobs.call("POST", "/jobs", {"service": BATCH.name}, token=TOKEN)
    jobs.run(sent["job"], code=3, log=b"the end\n")

    shown = await jobs.call("GET", f"/jobs/{sent['job']}", token=TOKEN)
    log = await jobs.rig.call("GET", f"/jobs/{sent['job']}/logs", token=TOKEN)
    gone = await jobs.call("DELETE", f"/jobs/{cancelled['job']}", token=TOKEN)
    listed = await jobs.call("GET", "/jobs", token=TOKEN)

    assert (status, other, sent["state"], sent["cluster"], sent["tenant"]) == (201, 201, "released", "c1", "default")
    assert (shown[0], shown[1]["state"], shown[1]["exit_code"], shown[1]["env"]) == (200, "failed", 3, {"A": "b"})
    assert (log[0], log[2], log[1]["Tango-Log-Whole"]) == (200, b"the end\n", "yes")
    assert (gone[0], gone[1]["state"]) == (200, "cancelled")
    assert [job["job"] for job in listed[1]] == [cancelled["job"], sent["job"]]


async def test_a_job_too_many_of_a_tenant_is_answered_429_by_name(jobs: JobsRig) -> None:
    """It may be sent again, and is taken when one has ended."""
    jobs.world.tenants.put([Tenant(name="default", most_jobs=1)])
    order = {"service": BATCH.name}
    _, first = await jobs.call("POST", "/jobs", order, token=TOKEN)

    status, headers, body = await jobs.rig.call("POST", "/jobs", data=json.dumps(order).encode(), token=TOKEN)
    await jobs.call("DELETE", f"/jobs/{first['job']}", token=TOKEN)
    again, _ = await jobs.call("POST", "/jobs", order, token=TOKEN)

    assert (status, headers["Tango-Problem"], again) == (429, "too-many-jobs", 201)
    assert "Retry-After" in headers
    assert b"tenant default has 1 live jobs" in body


async def test_a_job_for_a_service_of_another_tenant_is_answered_403(jobs: JobsRig) -> None:
    """And taken of its own tenant."""
    jobs.world.fleet.put_services([replace(BATCH, tenant="blue", shared=False)])
    order = {"service": BATCH.name}

    status, told = await jobs.call("POST", "/jobs", order, token=TOKEN)
    own, _ = await jobs.call("POST", "/jobs", order, token=BLUE)

    assert (status, told["type"], own) == (403, "urn:tango:problem:not-your-service", 201)
    assert "batch is of tenant blue" in told["detail"]


async def test_a_job_that_is_sent_in_a_trace_has_the_gateways_span_above_it(jobs: JobsRig, spans: SpansInMemory) -> None:
    """In its environment, where whoever places it finds it. One that brings its own keeps it, and sending it again is the same job."""
    said = TraceContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7)
    order, header = {"service": BATCH.name, "env": {"A": "b"}}, {"traceparent": str(said)}
    own = {"TRACEPARENT": str(said._replace(span_id=5))}

    _, sent = await jobs.call("POST", "/jobs", {**order, "key": "k"}, token=TOKEN, headers=header)
    again, _ = await jobs.call("POST", "/jobs", {**order, "key": "k"}, token=TOKEN)
    _, brought = await jobs.call("POST", "/jobs", {"service": BATCH.name, "env": own}, token=TOKEN, headers=header)
    await jobs.call("GET", "/jobs", token=TOKEN, headers=header)

    (first, *_), told = named(spans.finished(), "POST /jobs"), TraceContext.parsed(sent["env"]["TRACEPARENT"])
    assert first.context is not None
    assert first.parent is not None
    assert told == TraceContext(said.trace_id, first.context.span_id)
    assert (first.parent.span_id, facts(first)["http.response.status_code"]) == (said.span_id, 201)
    assert (again, brought["env"]) == (200, own)
    assert {span.name for span in spans.exported} == {"POST /jobs"}


async def test_the_same_key_is_one_job_as_member_and_as_header(jobs: JobsRig) -> None:
    """201 for the first, 200 for what was there."""
    first = await jobs.call("POST", "/jobs", {"service": BATCH.name, "key": "k"}, token=TOKEN)
    again = await jobs.call("POST", "/jobs", {"service": BATCH.name}, token=TOKEN, headers={"Tango-Key": "k"})

    assert (first[0], again[0], again[1]["job"]) == (201, 200, first[1]["job"])


async def test_the_same_key_with_other_content_is_refused(jobs: JobsRig) -> None:
    """409 with the job that has the key, and what is other."""
    _, first = await jobs.call("POST", "/jobs", {"service": BATCH.name, "key": "k"}, token=TOKEN)

    status, refused = await jobs.call("POST", "/jobs", {"service": BATCH.name, "key": "k", "priority": 1}, token=TOKEN)

    assert (status, refused["type"], refused["job"]) == (409, "urn:tango:problem:key-taken", first["job"])
    assert "another priority" in refused["detail"]


async def test_jobs_of_others_are_not_there(jobs: JobsRig) -> None:
    """That they exist is their tenant's to know."""
    _, mine = await jobs.call("POST", "/jobs", {"service": BATCH.name}, token=TOKEN)

    found = [await jobs.rig.problem(method, f"/jobs/{mine['job']}{rest}", token=BLUE) for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/logs"))]  # fmt: skip  # noqa: E501

    assert [(status, word) for status, word, _ in found] == [(404, "unknown-job")] * 3
    assert (await jobs.call("GET", "/jobs", token=BLUE))[1] == []


@pytest.mark.parametrize(
    ("body", "status", "word", "says"),
    [
        (b"{", 400, "bad-job", "the body is no JSON"),
        (b"[]", 400, "bad-job", "found list, expected an object"),
        (b'{"service": "batch", "arg": 1}', 400, "bad-job", "'arg' is no member"),
        (b'{"service": "batch", "env": {"DB_PASSWORD": "x"}}', 400, "bad-job", "looks like a secret"),
        (b'{"service": "web"}', 400, "bad-job", "is lc, expected be"),
        (b'{"service": "batsh"}', 404, "unknown-service", "no service 'batsh'"),
    ],
)
async def test_what_is_no_job_is_refused(jobs: JobsRig, body: bytes, status: int, word: str, says: str) -> None:
    """With what was found; nothing is kept."""
    found = await jobs.rig.problem("POST", "/jobs", data=body, token=TOKEN)

    assert found[:2] == (status, word)
    assert says in found[2]
    assert jobs.world.jobs.jobs() == []


async def test_while_the_centre_is_away_jobs_are_refused_at_once(jobs: JobsRig) -> None:
    """503 with `Retry-After`; for a second nobody is made to wait for it again, then it is asked anew."""
    jobs.store.failures["submit"] = [StoreUnavailable("away")]

    first = await jobs.rig.call("POST", "/jobs", data=b'{"service": "batch"}', token=TOKEN)
    second = await jobs.rig.call("POST", "/jobs", data=b'{"service": "batch"}', token=TOKEN)
    time.sleep(AWAY_S)
    third, _ = await jobs.call("POST", "/jobs", {"service": BATCH.name}, token=TOKEN)

    assert [(status, headers["Tango-Problem"], "Retry-After" in headers) for status, headers, _ in (first, second)] == [
        (503, "centre-away", True)
    ] * 2
    assert (third, len(jobs.store.calls_of("submit")), len(jobs.world.jobs.jobs())) == (201, 2, 1)


async def test_a_job_that_has_written_nothing_yet_has_no_log(jobs: JobsRig) -> None:
    """The answer says how to follow it."""
    _, sent = await jobs.call("POST", "/jobs", {"service": BATCH.name}, token=TOKEN)

    status, word, detail = await jobs.rig.problem("GET", f"/jobs/{sent['job']}/logs", token=TOKEN)

    assert (status, word) == (404, "no-log-kept")
    assert "is released" in detail
