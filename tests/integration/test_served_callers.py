"""A caller's request from the gateway to an instance and back: real HTTP on both sides, a real journal, the worker as it is composed.

Only the broker is left out: what the gateway publishes is dispatched by a thread.
"""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web
from opentelemetry.sdk.trace import ReadableSpan
from yarl import URL

from tango.bootstrap.cluster_worker import ClusterWorker
from tango.domain.calls import AnswerTo, Call, CalledWork
from tango.domain.identity import NodeKey, RequestKey
from tango.domain.pod_templates import canonical_template
from tango.domain.requests import Batch, LcWork
from tango.domain.runs import RunInfo, RunKind, RunStatus
from tango.domain.services import ServiceClass
from tango.domain.tokens import KnownToken, digest_of
from tango.domain.tracing import TraceContext
from tango.errors import CallFailed
from tango.gateway.answers import AnswerListener
from tango.gateway.gateway import Gateway
from tango.gateway.server import answers_runner, callers_runner, listen, listen_at_path
from tango.gateway.tracing import GatewayTracing
from tango.gateway.waiting import WaitingCallers
from tango.journal.journal import SqliteJournal
from tango.kube.service_calls import HttpServiceCalls
from tango.ports.spans import NO_SPANS, Spans
from tango.settings import CallSettings, GatewaySettings, LcSettings, LeaseSettings, Settings, StoreSettings, TracingSettings
from tests.fakes.own_fleet import published
from tests.fakes.publisher import RecordingPublisher
from tests.fakes.span_trees import SpansInMemory, facts, named, trace_id_of, tree_with
from tests.fakes.store_world import FLEET, WEB, instance_of, node_states
from tests.waiting import WITHIN_S, eventually, until

# Whoever comes first compiles the dispatch of LC.
pytestmark = pytest.mark.timeout(300)

TOKEN = "tango_local"
SLOW = replace(WEB, target_ms=2000.0)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Dispatching(RecordingPublisher):
    """A publisher whose batches a thread dispatches, as a Celery worker would."""

    def __init__(self) -> None:
        super().__init__()
        self.worker: ClusterWorker | None = None
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._dispatch, daemon=True)
        self._thread.start()

    def arrivals(self, batches: Sequence[Batch]) -> None:
        """Hand them to the thread."""
        super().arrivals(batches)
        for batch in batches:
            self._batches.put(batch)

    def close(self) -> None:
        """End the thread."""
        self._batches.put(None)
        self._thread.join(10.0)

    def _dispatch(self) -> None:
        while (batch := self._batches.get()) is not None:
            assert self.worker is not None
            self.worker.dispatch.dispatch(batch.run_id, batch.cluster, batch.request_ids)


@dataclass
class Edge:
    """A cluster with its gateway, a worker, and one instance on each of its two nodes."""

    url: str
    session: aiohttp.ClientSession
    journal: SqliteJournal
    gateway: Gateway
    handler: list[Handler]
    """What serves now: its last one."""
    served: list[tuple[str, str, str, dict[str, str], bytes]] = field(default_factory=list)
    """(instance, method, path, headers, body) of what instances got."""

    async def call(
        self, method: str, path: str, *, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body)."""
        sent = {"Authorization": f"Bearer {TOKEN}", **(headers or {})}
        async with self.session.request(
            method, URL(f"{self.url}{path}", encoded=True), data=data, headers=sent, allow_redirects=False
        ) as response:
            return response.status, dict(response.headers), await response.read()

    async def ended(self, key: RequestKey) -> tuple[str, str, int]:
        """(state, reason, attempts) once it has ended."""
        for _ in range(2000):
            found = self.journal.standings([key]).get(key)
            if found is not None and found.has_ended:
                return str(found.state), found.reason, found.attempt
            await asyncio.sleep(0.05)
        raise AssertionError(f"request {key} has not ended: {self.journal.standings([key])}")


def _key_of(headers: dict[str, str]) -> RequestKey:
    return RequestKey.parsed(headers["Tango-Request"])


@pytest.fixture
def spans() -> Iterator[SpansInMemory]:
    """Of calls whose callers say so; of others of one in a thousand million."""
    made = SpansInMemory(TracingSettings(ratio=1e-9, export_every_s=0.001))
    yield made
    made.close()


@pytest.fixture
async def edge(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Edge]:
    """Cluster c1, its live run open and 1,000 numbers at hand; traced where the test asks for the spans."""
    spans: Spans = request.getfixturevalue("spans") if "spans" in request.fixturenames else NO_SPANS
    settings = Settings(
        lc=LcSettings(timeout_min_s=1.5),
        lease=LeaseSettings(),
        call=CallSettings(kept_answer_kib=64),
        gateway=GatewaySettings(access_log=False),
    )
    journal = SqliteJournal(
        tmp_path / "c1.db", cluster="c1", lease=settings.lease, lc=settings.lc, store=StoreSettings(), call=settings.call
    )
    served: list[tuple[str, str, str, dict[str, str], bytes]] = []
    handler: list[Handler] = []
    runners, states = [], []
    for k, node in enumerate(("c1-n1", "c1-n2")):

        async def answer(request: web.Request, name: str = f"i{k}") -> web.StreamResponse:
            served.append((name, request.method, request.raw_path, dict(request.headers), await request.read()))
            return await handler[-1](request)

        app = web.Application(client_max_size=4 << 20)
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, handler_cancellation=True)
        runners.append(runner)
        port = await listen(runner, host="127.0.0.1", port=0)
        states.append(replace(instance_of(SLOW, node), pod_ip="127.0.0.1", port=port))
    fleet = replace(FLEET, clusters=FLEET.clusters[:1], services=tuple(SLOW if s.name == "web" else s for s in FLEET.services))
    journal.publish(published(fleet))
    journal.observe(node_states(FLEET.clusters[0]), states)
    journal.admit([KnownToken(digest=digest_of(TOKEN), tenant="default", allows=frozenset(ServiceClass))])
    run = RunInfo(
        run_id=7,
        name="live",
        status=RunStatus.RUNNING,
        system="load-greedy",
        fleet="pair",
        seed=0,
        speed=1.0,
        reassure=True,
        started_at_s=time.time() - 100.0,
        accepted=0,
        kind=RunKind.LIVE,
    )
    journal.follow([run])
    journal.add_numbers(7, 0, 999)
    publisher = Dispatching()
    worker = publisher.worker = ClusterWorker("c1", journal, publisher, settings, spans=spans)
    await asyncio.to_thread(worker.warm_up)
    room, path = WaitingCallers(), tmp_path / "answers.sock"
    answer_to = AnswerTo(address=f"unix:{path}", key="of-this-process")
    answers = answers_runner(AnswerListener(room, key=answer_to.key))
    await listen_at_path(answers, path)
    gateway = Gateway(
        "c1",
        journal,
        publisher,
        room,
        answer_to,
        settings=settings.gateway,
        calls=settings.call,
        tracing=GatewayTracing(spans, lambda run_id: journal.run(run_id).started_at_s or 0.0, cluster="c1")
        if spans.is_on
        else None,
    )
    await gateway.start()
    callers = callers_runner(gateway)
    port = await listen(callers, host="127.0.0.1", port=0)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Edge(f"http://127.0.0.1:{port}", session, journal, gateway, handler, served)
    for runner in (callers, answers, *runners):
        await runner.cleanup()
    await gateway.stop()
    publisher.close()
    await asyncio.to_thread(worker.close)


async def test_any_call_reaches_the_instance_and_its_answer_comes_back(edge: Edge) -> None:
    """Method, path, query, headers and body as they were sent; status, headers and bytes as they were answered."""

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=207, body=bytes(range(256)), headers={"X-One": "1", "Content-Type": "image/png"})

    edge.handler.append(handler)
    status, headers, body = await edge.call(
        "PATCH", "/s/web/v1/detect%20it?size=3&x=%2F", data=b"\x00picture", headers={"Content-Type": "image/jpeg", "Accept": "*/*"}
    )

    assert (status, headers["X-One"], headers["Content-Type"], body) == (207, "1", "image/png", bytes(range(256)))
    ((_, method, path, sent, got),) = edge.served
    assert (method, path, got) == ("PATCH", "/v1/detect%20it?size=3&x=%2F", b"\x00picture")
    assert (sent["Content-Type"], sent["Accept"], sent["Tango-Entry-Cluster"]) == ("image/jpeg", "*/*", "c1")
    assert "Authorization" not in sent
    key = _key_of(headers)
    assert await edge.ended(key) == ("succeeded", "", 1)
    kept = edge.journal.answer(key)
    assert kept is not None
    assert (kept.status, kept.body, kept.is_whole) == (207, bytes(range(256)), True)


async def test_secrets_in_headers_reach_the_instance_and_no_file(edge: Edge, tmp_path: Path) -> None:
    """They are asked for at the gateway, for each attempt anew; of a caller who does not wait they go nowhere."""

    async def refuse_once(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503 if len(edge.served) == 1 else 200)

    edge.handler.append(refuse_once)
    secrets = {"Cookie": "session=hush", "Authorization": "Bearer hush", "Api-Key": "hush", "X-Api-Key": "hush"}
    sent = {**secrets, "X-Known": "may-be-kept", "Tango-Token": TOKEN}
    status, headers, _ = await edge.call("GET", "/s/web/x", headers=sent)
    _, later, _ = await edge.call("GET", "/s/web/y", headers={**sent, "Prefer": "respond-async"})

    assert [await edge.ended(_key_of(of)) for of in (headers, later)] == [("succeeded", "", 2), ("succeeded", "", 1)]
    assert status == 200
    got = [{name: headers.get(name) for name in (*secrets, "X-Known")} for _, _, _, headers, _ in edge.served]
    known = {"X-Known": "may-be-kept"}
    assert got == [secrets | known, secrets | known, dict.fromkeys(secrets) | known]
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert (b"may-be-kept" in files, b"hush" in files) == (True, False)


@pytest.mark.parametrize("preserve_host", [False, True])
async def test_host_is_the_instance_s_own_or_the_caller_s_by_setting(edge: Edge, preserve_host: bool) -> None:
    """As behind nginx, whose `proxy_pass` names the server behind it, and behind Envoy, which leaves it; the other one is always told."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text=request.host)

    edge.handler.append(handler)
    own = replace(
        SLOW, template=canonical_template({"spec": {"containers": [{"name": "main", "image": "api:1"}]}}), container="main"
    )
    services = tuple(replace(own, preserve_host=preserve_host) if s.name == "web" else s for s in FLEET.services)
    edge.journal.publish(published(replace(FLEET, clusters=FLEET.clusters[:1], services=services)))
    await eventually(lambda: bool(edge.gateway.view.services["web"].template))

    _, _, body = await edge.call("GET", "/s/web/x", headers={"Host": "shop.example:8443"})

    ((_, _, _, sent, _),) = edge.served
    assert (body == b"shop.example:8443") == preserve_host
    assert body.startswith(b"shop.example" if preserve_host else b"127.0.0.1:")
    assert sent["X-Forwarded-Host"] == "shop.example:8443"


async def test_an_answer_streams_as_it_comes(edge: Edge) -> None:
    """Its beginning is with the caller before its end is made, and a long one is whole though only its beginning is kept."""
    go_on = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"first")
        await go_on.wait()
        await response.write(b"x" * 300_000)
        return response

    edge.handler.append(handler)
    async with edge.session.get(f"{edge.url}/s/web/events", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        first = await response.content.readany()
        go_on.set()
        rest = await response.read()

    assert first == b"first"
    assert rest == b"x" * 300_000
    key = _key_of(dict(response.headers))
    assert await edge.ended(key) == ("succeeded", "", 1)
    kept = edge.journal.answer(key)
    assert kept is not None
    assert (len(kept.body), kept.is_whole) == (64 << 10, False)


async def test_an_answer_that_has_begun_is_taken_back_from_nobody(edge: Edge) -> None:
    """Its node is silent for longer than one that hangs may be, while it makes the rest, and nothing else is asked of it."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first ")
        await asyncio.sleep(2.2)
        await response.write(b"last")
        return response

    edge.handler.append(handler)
    status, headers, body = await edge.call("GET", "/s/web/events", headers={"Tango-Target-Ms": "100", "Tango-Timeout-Ms": "3000"})

    assert (status, body) == (200, b"first last")
    assert await edge.ended(_key_of(headers)) == ("succeeded", "", 1)


async def test_who_waits_long_is_given_an_answer_that_takes_long(edge: Edge) -> None:
    """Half of what the caller would wait is the least after which his call counts as one that hangs: it is not run twice before."""

    async def handler(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(1.7)
        return web.Response(text="at last")

    edge.handler.append(handler)
    status, headers, body = await edge.call("GET", "/s/web/", headers={"Tango-Target-Ms": "100", "Tango-Timeout-Ms": "60000"})

    assert (status, body) == (200, b"at last")
    assert await edge.ended(_key_of(headers)) == ("succeeded", "", 1)
    assert len(edge.served) == 1


async def test_a_repeatable_call_is_tried_once_more_after_an_error(edge: Edge) -> None:
    """The caller never hears of the first one; what must not run twice is told as it was answered."""
    times = 0

    async def handler(_: web.Request) -> web.StreamResponse:
        nonlocal times
        times += 1
        return web.Response(status=500 if times % 2 else 200, text="no" if times % 2 else "yes")

    edge.handler.append(handler)
    get = await edge.call("GET", "/s/web/x")
    times = 0
    post = await edge.call("POST", "/s/web/x", data=b"once")
    times = 0
    wished = await edge.call("POST", "/s/web/x", data=b"twice", headers={"Tango-Repeat": "yes"})

    assert [(status, body) for status, _, body in (get, post, wished)] == [(200, b"yes"), (500, b"no"), (200, b"yes")]
    assert await edge.ended(_key_of(get[1])) == ("succeeded", "", 2)
    assert await edge.ended(_key_of(post[1])) == ("failed", "service-error", 1)
    assert await edge.ended(_key_of(wished[1])) == ("succeeded", "", 2)
    assert [name for name, *_ in edge.served[:2]] in (["i0", "i1"], ["i1", "i0"])


async def test_an_instance_that_breaks_off_is_not_taken_for_an_answer(edge: Edge) -> None:
    """Before its first byte another one is asked where that does no harm; in mid-body the caller sees that it is cut."""

    async def drop(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        await response.write(b"half")
        await asyncio.sleep(0.1)
        assert request.transport is not None
        request.transport.abort()
        return response

    edge.handler.append(drop)
    get = await edge.call("GET", "/s/web/x")
    post = await edge.call("POST", "/s/web/x", data=b"once")
    tried = len({sent["Tango-Request"] for *_, sent, _ in edge.served})
    edge.handler.append(cut)
    with pytest.raises(aiohttp.ClientError):
        await edge.call("GET", "/s/web/x")

    assert (get[0], post[0], tried) == (502, 502, 3)
    assert (await edge.ended(_key_of(get[1])))[0] == "failed"
    assert await edge.ended(_key_of(post[1])) == ("failed", "instance-unreachable", 1)
    (key,) = {RequestKey(7, k) for k in range(3)} - {_key_of(get[1]), _key_of(post[1])}
    assert await edge.ended(key) == ("failed", "answer-cut", 1)


async def test_an_instance_that_is_taken_away_costs_its_caller_no_try(edge: Edge) -> None:
    """Of two tries one is left after the first instance was drained and the second has broken: the third call is answered."""

    async def handler(request: web.Request) -> web.StreamResponse:
        epoch = request.headers["Tango-Request"].rpartition("/")[2]
        if epoch == "3":
            return web.Response(text="yes")
        if epoch == "1":
            node = {"i0": "c1-n1", "i1": "c1-n2"}[edge.served[0][0]]
            seen = [replace(i, ready=False, leaving=True) if i.node == node else i for _, i in edge.journal.instances()]
            edge.journal.observe(node_states(FLEET.clusters[0]), seen)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    edge.handler.append(handler)
    status, headers, body = await edge.call("GET", "/s/web/x")

    assert (status, body) == (200, b"yes")
    assert await edge.ended(_key_of(headers)) == ("succeeded", "", 2)
    by_epoch = {sent["Tango-Request"].rpartition("/")[2]: name for name, _, _, sent, _ in edge.served}
    assert by_epoch["2"] == by_epoch["3"] != by_epoch["1"]


async def test_an_instance_that_never_answers_costs_its_caller_his_patience(edge: Edge) -> None:
    """He hears of it in time, and the instance sees the call end."""
    gone = asyncio.Event()

    async def handler(_: web.Request) -> web.StreamResponse:
        try:
            await asyncio.sleep(60.0)
        finally:
            gone.set()
        return web.Response()

    edge.handler.append(handler)
    begun_s = time.monotonic()
    status, _, _ = await edge.call("GET", "/s/web/x", headers={"Tango-Timeout-Ms": "400"})

    assert status == 504
    assert time.monotonic() - begun_s < 30.0  # the instance sleeps for 60
    assert (await edge.ended(RequestKey(7, 0)))[:2] == ("cancelled", "caller-timed-out")
    await asyncio.wait_for(gone.wait(), WITHIN_S)


async def test_a_caller_who_hangs_up_ends_his_call(edge: Edge) -> None:
    """The instance need not go on for nobody."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def handler(_: web.Request) -> web.StreamResponse:
        begun.set()
        try:
            await asyncio.sleep(60.0)
        finally:
            gone.set()
        return web.Response()

    edge.handler.append(handler)
    call = asyncio.create_task(edge.call("POST", "/s/web/x", data=b"x"))
    await asyncio.wait_for(begun.wait(), WITHIN_S)
    call.cancel()

    assert (await edge.ended(RequestKey(7, 0)))[:2] == ("cancelled", "caller-gone")
    await asyncio.wait_for(gone.wait(), WITHIN_S)


async def test_an_answer_that_nobody_waits_for_is_fetched_later(edge: Edge) -> None:
    """`Prefer: respond-async`: a place to look at once, the answer when it is there."""

    async def handler(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        return web.Response(status=201, text="made", headers={"X-One": "1"})

    edge.handler.append(handler)
    status, headers, _ = await edge.call("POST", "/s/web/x", data=b"x", headers={"Prefer": "respond-async"})
    key = _key_of(headers)
    await edge.ended(key)
    fetched = await edge.call("GET", f"{headers['Location']}/answer")

    assert status == 202
    assert headers["Location"].endswith(f"/requests/{key}")
    assert (fetched[0], fetched[1]["X-One"], fetched[2]) == (201, "1", b"made")


async def test_hundreds_at_once_are_each_answered_once(edge: Edge) -> None:
    """With the answer that is theirs; nothing stays in flight."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text=request.path_qs)

    edge.handler.append(handler)
    edge.journal.add_numbers(7, 1000, 3000)
    answers = await asyncio.gather(*(edge.call("GET", f"/s/web/x?{k}", headers={"Tango-Timeout-Ms": "60000"}) for k in range(300)))

    assert [(status, body.decode()) for status, _, body in answers] == [(200, f"/x?{k}") for k in range(300)]
    assert len({headers["Tango-Request"] for _, headers, _ in answers}) == 300
    assert len(edge.served) == 300


async def test_an_instance_that_speaks_tls_is_called_by_the_name_of_its_service(tmp_path: Path) -> None:
    """Its certificate is looked at: one of another name, or of somebody unknown, is no instance of this service."""
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def hello(_: web.Request) -> web.StreamResponse:
        return web.Response(text="hello")

    found: dict[str, str] = {}
    calls = HttpServiceCalls(kept_bytes=1024, ca_file=str(tmp_path / "ca.pem"))
    for name, certificate in (
        ("right", authority.issue_cert("web")),
        ("other", authority.issue_cert("chat")),
        ("unknown", stranger.issue_cert("web")),
    ):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(tls)
        app = web.Application()
        app.router.add_get("/x", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        instance = replace(instance_of(WEB, "c1-n1"), pod_ip="127.0.0.1", port=runner.addresses[0][1])
        work = LcWork(
            run_id=1,
            request_id=1,
            epoch=1,
            service="web",
            entry_cluster="c1",
            node=NodeKey("c1", "c1-n1"),
            due_s=0.0,
            target_s=1.0,
            cpu_work_s=0.01,
            memory_mib=1.0,
            is_called=True,
        )
        called = CalledWork(call=Call(method="GET", path="/x"), answer_to=None)
        try:
            answered = await calls.call(
                instance, work, called, may_try_again=True, over_tls=True, timeout_s=5.0, answers=lambda: None
            )
            found[name] = answered.answer.body.decode()
        except CallFailed as error:
            found[name] = f"{error.reason}, sent: {error.was_sent}"
        await runner.cleanup()
    await calls.close()

    not_sent = "instance-unreachable, sent: False"
    assert found == {"right": "hello", "other": not_sent, "unknown": not_sent}


# ---- traces ------------------------------------------------------------------------------------------------------------

CALLERS = TraceContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7)
"""The span of a caller, who samples it."""


async def traced_call(
    edge: Edge, spans: SpansInMemory, *, says: str, path: str = "/s/web/x"
) -> tuple[RequestKey, list[ReadableSpan]]:
    """A call whose `traceparent` this is, and the spans that came of it, once it has ended and what came after it is done."""
    status, headers, _ = await edge.call("GET", path, headers={"traceparent": says})
    assert status == 200
    key = _key_of(headers)
    await edge.ended(key)
    wanted = TraceContext.parsed(says)
    if wanted is not None and wanted.is_sampled:
        await asyncio.to_thread(until, lambda: {"request", "GET /s/{service}/{path}"} <= {span.name for span in spans.exported})
    return key, list(spans.exported)


async def test_a_trace_that_a_caller_has_begun_goes_on_to_the_instance(edge: Edge, spans: SpansInMemory) -> None:
    """Gateway, worker and instance have their spans in it, the caller's above them; the message to the worker is linked."""

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response()

    edge.handler.append(handler)
    key, found = await traced_call(edge, spans, says=str(CALLERS))

    assert tree_with(found, "request") == [
        "GET /s/{service}/{path} (its parent is not here)",
        "  request",
        "    attempt",
        "      wait",
        "      dispatch",
        "      GET",
        "      settle",
    ]
    (own,), (call,), (sent,) = (named(found, name) for name in ("GET /s/{service}/{path}", "GET", "send lc.c1"))
    assert own.parent is not None
    assert (trace_id_of(own), own.parent.span_id) == CALLERS[:2]
    assert (facts(own)["http.response.status_code"], facts(own)["tango.request"]) == (200, str(key))
    assert call.context is not None
    told = TraceContext.parsed(edge.served[-1][3]["traceparent"])
    assert told == TraceContext(CALLERS.trace_id, call.context.span_id)
    assert [link.context.trace_id for link in sent.links] == [CALLERS.trace_id]


async def test_a_call_of_a_trace_that_is_tried_again_has_two_attempts(edge: Edge, spans: SpansInMemory) -> None:
    """Each with its own call, whose span its instance is told."""
    answers = iter((503, 200))

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=next(answers))

    edge.handler.append(handler)
    _, found = await traced_call(edge, spans, says=str(CALLERS))

    calls = named(found, "GET")
    assert [facts(call)["http.response.status_code"] for call in calls] == [503, 200]
    assert len(named(found, "attempt")) == 2
    told = [headers["traceparent"] for *_, headers, _ in edge.served]
    assert told == [str(TraceContext(CALLERS.trace_id, call.context.span_id)) for call in calls if call.context]


async def test_a_caller_who_does_not_sample_his_trace_has_none_here(edge: Edge, spans: SpansInMemory) -> None:
    """The instance is told what he said; of a call without a word it is told that nothing is sampled."""

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response()

    edge.handler.append(handler)
    says = str(CALLERS._replace(is_sampled=False))
    _, found = await traced_call(edge, spans, says=says)
    await traced_call(edge, spans, says="no trace at all")

    assert found == list(spans.exported) == []
    assert edge.served[0][3]["traceparent"] == says
    drawn = TraceContext.parsed(edge.served[1][3]["traceparent"])
    assert drawn is not None
    assert not drawn.is_sampled


async def test_without_traces_a_callers_own_goes_through_as_it_came(edge: Edge) -> None:
    """His service may have traces of its own."""

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response()

    edge.handler.append(handler)
    await edge.call("GET", "/s/web/x", headers={"traceparent": str(CALLERS)})

    assert edge.served[0][3]["traceparent"] == str(CALLERS)
