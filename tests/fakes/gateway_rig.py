"""A gateway on loopback before a journal in memory, and a worker that serves each request as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tango.domain.calls import Answer, AnswerTo, Call
from tango.domain.identity import RequestKey
from tango.domain.requests import Batch, RequestState
from tango.domain.services import Service, ServiceClass
from tango.domain.tokens import KnownToken, digest_of
from tango.errors import BrokerUnavailable
from tango.gateway.answers import AnswerListener
from tango.gateway.gateway import Gateway
from tango.gateway.server import Routes, answers_runner, callers_runner, listen, listen_at_path
from tango.gateway.tracing import GatewayTracing
from tango.gateway.waiting import WaitingCallers
from tango.ports.spans import NO_SPANS, Spans
from tango.settings import CallSettings, GatewaySettings
from tests.fakes.caller_requests import MemoryCallers
from tests.fakes.publisher import RecordingPublisher
from tests.fakes.store_world import BATCH, CHAT, WEB, instance_of

TOKEN, BLUE, JOBS_ONLY = "tango_local", "tango_blue", "tango_jobs"


@dataclass(slots=True)
class Served:
    """How a worker serves a call."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = (("Content-Type", "text/plain"),)
    parts: Sequence[bytes] = (b"served",)
    length: int | None = None
    """The Content-Length that the instance says; None: none where there are several parts."""
    is_cut: bool = False
    """Whether the worker breaks off after these parts."""
    pause_s: float = 0.0
    """Seconds before each part but the first."""
    goes_on: asyncio.Event | None = None
    """What the second part waits for; None: for nothing."""
    ends_as: RequestState = RequestState.SUCCEEDED
    reason: str = ""
    is_said: bool = True
    """Whether the gateway is told; False: it has to look."""


Serve = Callable[[Call], Served | None]
"""Gives how to serve a call; None: never."""


class RigWorker(RecordingPublisher):
    """A publisher whose messages a worker takes at once."""

    def __init__(self, journal: MemoryCallers, serve: Serve) -> None:
        super().__init__()
        self.journal, self.serve = journal, serve
        self.said: list[int] = []
        """What the gateway answered to each answer, in order."""
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connector: aiohttp.ClientSession | None = None

    def arrivals(self, batches: Sequence[Batch]) -> None:
        """In the thread that tells."""
        if self.away:
            raise BrokerUnavailable("the broker is away")
        super().arrivals(batches)
        for batch in batches:
            for request_id in batch.request_ids:
                self._loop.call_soon_threadsafe(self._take, RequestKey(batch.run_id, request_id))

    def _take(self, key: RequestKey) -> None:
        task = self._loop.create_task(self.work(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def work(self, key: RequestKey) -> None:
        """Serve one request."""
        if key not in self.journal.calls([key]):
            return
        sent = self.journal.sent(key)
        epoch = self.journal.start(key)
        served = self.serve(sent.call)
        if served is None:
            return
        kept = Answer(status=served.status, headers=tuple(served.headers), body=b"".join(served.parts), is_whole=not served.is_cut)
        if served.ends_as is RequestState.SUCCEEDED:
            self.journal.keep_answers([(key, kept)])
        if served.is_said and sent.answer_to is not None:
            self.said.append(await self.tell(sent.answer_to, key, epoch, served))
            if self.said[-1] != 204:  # nobody waits for it any more, which its gateway says in the journal
                return
        self.journal.end(key, served.ends_as, served.reason, latency_s=0.01)

    async def tell(self, to: AnswerTo, key: RequestKey, epoch: int, served: Served) -> int:
        """Send an answer to its gateway; 0: broken off."""
        headers = {"Authorization": f"Bearer {to.key}"}
        content: Any = b""
        if served.ends_as is RequestState.SUCCEEDED:
            head = list(map(list, served.headers))
            if served.length is not None:
                head.append(["Content-Length", str(served.length)])
            headers["Tango-Answer-Head"] = json.dumps({"status": served.status, "headers": head})
            content = served.parts[0] if len(served.parts) == 1 and not served.is_cut else _parts(served)
        else:
            headers["Tango-Failed"] = served.reason
        connector = aiohttp.UnixConnector(to.address.removeprefix("unix:"))
        async with aiohttp.ClientSession(connector=connector) as session:
            try:
                async with session.post(f"http://gateway/answers/{key}/{epoch}", data=content, headers=headers) as response:
                    return response.status
            except (aiohttp.ClientError, ConnectionError, OSError):
                return 0


async def _parts(served: Served) -> AsyncIterator[bytes]:
    for k, part in enumerate(served.parts):
        if k and served.goes_on is not None:
            await served.goes_on.wait()
        if k and served.pause_s:
            await asyncio.sleep(served.pause_s)
        yield part
    if served.is_cut:
        raise ConnectionResetError("the instance broke off")


@dataclass(slots=True)
class Rig:
    """A running gateway."""

    port: int
    gateway: Gateway
    journal: MemoryCallers
    worker: RigWorker
    session: aiohttp.ClientSession
    answer_to: AnswerTo
    runner: web.AppRunner
    served: list[Call] = field(default_factory=list)
    """Calls that were served, in order."""

    @property
    def url(self) -> str:
        """Where callers reach it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def connected(self) -> int:
        """Callers' connections."""
        return len(self.runner.server.connections) if self.runner.server is not None else 0

    async def call(
        self, method: str, path: str, *, token: str | None = TOKEN, headers: dict[str, str] | None = None, data: Any = None
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of a call."""
        sent = {**({} if token is None else {"Authorization": f"Bearer {token}"}), **(headers or {})}
        async with self.session.request(method, self.url + path, headers=sent, data=data, allow_redirects=False) as response:
            return response.status, dict(response.headers), await response.read()

    async def problem(self, method: str, path: str, **options: Any) -> tuple[int, str, str]:
        """(status, word, detail) of a call that fails."""
        status, headers, body = await self.call(method, path, **options)
        assert headers["Content-Type"] == "application/problem+json", body
        told = json.loads(body)
        assert told["status"] == status
        return status, headers["Tango-Problem"], told["detail"]

    def state(self, key: RequestKey) -> tuple[str, str]:
        """(state, reason) of a request."""
        found = self.journal.standings([key])[key]
        return str(found.state), found.reason


@contextlib.asynccontextmanager
async def gateway_rig(
    folder: Path,
    serve: Serve = lambda _: Served(),
    *,
    services: Sequence[Service] = (WEB, CHAT, BATCH),
    settings: GatewaySettings | None = None,
    calls: CallSettings | None = None,
    further: Callable[[Gateway], Sequence[Routes]] = lambda _: (),
    spans: Spans = NO_SPANS,
) -> AsyncIterator[Rig]:
    """A gateway of c1, by default with `web` (100 ms), `chat` (400 ms), one instance of each, and a BE service."""
    settings = settings or GatewaySettings(access_log=False)
    journal = MemoryCallers(services)
    journal.observe([], [instance_of(s, "c1-n1") for s in services if s.service_class is ServiceClass.LC])
    both = frozenset(ServiceClass)
    journal.admit(
        [
            KnownToken(digest=digest_of(TOKEN), tenant="default", allows=both),
            KnownToken(digest=digest_of(BLUE), tenant="blue", allows=both),
            KnownToken(digest=digest_of(JOBS_ONLY), tenant="default", allows=frozenset({ServiceClass.BE})),
        ]
    )
    served: list[Call] = []

    def serve_and_note(call: Call) -> Served | None:
        served.append(call)
        return serve(call)

    worker = RigWorker(journal, serve_and_note)
    room, path = WaitingCallers(), folder / "answers.sock"
    answer_to = AnswerTo(address=f"unix:{path}", key="of-this-process")
    answers = answers_runner(AnswerListener(room, key=answer_to.key))
    await listen_at_path(answers, path)
    tracing = GatewayTracing(spans, lambda run_id: 0.0, cluster="c1") if spans.is_on else None
    gateway = Gateway("c1", journal, worker, room, answer_to, settings=settings, calls=calls or CallSettings(), tracing=tracing)
    await gateway.start()
    runner = callers_runner(gateway, *further(gateway))
    port = await listen(runner, host="127.0.0.1", port=0)
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as session:
            yield Rig(port, gateway, journal, worker, session, answer_to, runner, served)
    finally:
        await runner.cleanup()
        await answers.cleanup()
        await gateway.stop()
