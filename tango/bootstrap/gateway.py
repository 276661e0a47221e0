"""The process of gateways: of each of its clusters it has the journal, and one broker to tell workers. LC needs nothing else.

Jobs have their rows at the centre: the first one that comes opens a connection to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import math
import os
import resource
import secrets
import signal
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog
import uvloop
from aiohttp import web

from tango import progress
from tango.bootstrap.journals import journal_of
from tango.bootstrap.spans import spans_of
from tango.domain.calls import AnswerTo
from tango.emulation.line import LOOPBACK
from tango.errors import ConfigError, UsageError
from tango.files import usable
from tango.gateway.answers import AnswerListener
from tango.gateway.gateway import Gateway
from tango.gateway.jobs import JobCalls, JobsAtCentre
from tango.gateway.server import answers_runner, callers_runner, listen, listen_at_path, most_open_files, tls_context
from tango.gateway.tracing import GatewayTracing
from tango.gateway.waiting import WaitingCallers
from tango.journal.journal import SqliteJournal
from tango.ports.messages import Publisher
from tango.ports.spans import Spans
from tango.settings import GatewaySettings, Settings
from tango.stack.state import private_folder, state_home
from tango.telemetry.loops import watch_lag

log = structlog.get_logger(__name__)

SOCKET_PATH_BYTES = 100
"""Longest path of a UNIX socket that is used; Linux takes 107 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Where callers reach the gateway of a cluster."""

    cluster: str
    host: str = LOOPBACK
    port: int
    """0: any free one."""
    certificate: Path | None = None
    """PEM files; None: plain HTTP."""
    key: Path | None = None

    def context(self, *, may_be_plain: bool) -> ssl.SSLContext | None:
        """TLS, or None for plain HTTP.

        Raises: UsageError where that would show tokens to a network and nobody said it may; FileUnusable, ConfigError for the two files.
        """
        if (self.certificate is None) != (self.key is None):
            raise UsageError("a certificate and its key go together: name both --tls-cert and --tls-key")
        if self.certificate is not None and self.key is not None:
            for file in (self.certificate, self.key):  # TLS would not say which of them cannot be read
                with usable(file, "read"), file.open("rb"):
                    pass
            return tls_context(self.certificate, self.key)
        if not may_be_plain and not _is_loopback(self.host):
            raise UsageError(
                f"callers would send their tokens in the clear to {self.host}: name --tls-cert and --tls-key, or say --no-tls where "
                "something before the gateway ends TLS"
            )
        return None


def run_gateways(
    fronts: Sequence[Front], publisher: Publisher, settings: Settings, *, may_be_plain: bool, ready_file: Path | None = None
) -> None:
    """Serve these clusters in the foreground until SIGTERM or SIGINT; then those inside are waited for, a little.

    `ready_file` is made once all of them listen. Raises: UsageError, ConfigError, FileUnusable before anything listens.
    """
    contexts = [front.context(may_be_plain=may_be_plain) for front in fronts]
    _allow_open_files(most_open_files(settings.gateway) * len(fronts))
    uvloop.run(_serve(fronts, contexts, publisher, settings, ready_file))


async def _serve(
    fronts: Sequence[Front],
    contexts: Sequence[ssl.SSLContext | None],
    publisher: Publisher,
    settings: Settings,
    ready_file: Path | None,
) -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        spans = spans_of("gateway", settings.tracing)
        stack.push_async_callback(asyncio.to_thread, spans.close)
        callers, key = WaitingCallers(), secrets.token_urlsafe(24)
        answers = answers_runner(AnswerListener(callers, key=key))
        stack.push_async_callback(answers.cleanup)
        address = await _listen_for_answers(answers, settings.gateway, stack)
        gateways, jobs = [], CentreJobs(settings, publisher)
        for front, context in zip(fronts, contexts, strict=True):
            answer_to = AnswerTo(address=address, key=key)
            gateway = await _started(front, context, publisher, jobs, callers, answer_to, settings, stack, spans)
            gateways.append(gateway)
        if ready_file is not None:
            ready_file.touch(mode=0o600)
        progress.reached("ready", within_s=math.inf)
        progress.tell("gateway")
        watch_lag(loop, "gateway")
        await stopped.wait()
        await asyncio.gather(*(gateway.drain() for gateway in gateways))


async def _started(
    front: Front,
    context: ssl.SSLContext | None,
    publisher: Publisher,
    jobs: CentreJobs,
    callers: WaitingCallers,
    answer_to: AnswerTo,
    settings: Settings,
    stack: contextlib.AsyncExitStack,
    spans: Spans,
) -> Gateway:
    journal = journal_of(front.cluster, settings)
    stack.callback(journal.close)
    tracing = GatewayTracing(spans, _zeros_of(journal), cluster=front.cluster) if spans.is_on else None
    gateway = Gateway(
        front.cluster,
        journal,
        publisher,
        callers,
        answer_to,
        settings=settings.gateway,
        calls=settings.call,
        tracing=tracing,
    )
    stack.push_async_callback(gateway.stop)
    await gateway.start()
    runner = callers_runner(gateway, JobCalls(gateway, jobs))
    stack.push_async_callback(runner.cleanup)
    port = await listen(runner, host=front.host, port=front.port, tls=context)
    log.info("gateway_listens", cluster=front.cluster, host=front.host, port=port, tls=context is not None)
    return gateway


def _zeros_of(journal: SqliteJournal) -> Callable[[int], float]:
    """The Unix time of a run's zero, which does not change once it is known."""
    known: dict[int, float] = {}

    def zero_s(run_id: int) -> float:
        found = known.get(run_id)
        if found is None and (found := journal.run(run_id).started_at_s) is not None:
            known[run_id] = found
        return found or 0.0

    return zero_s


CENTRE_WITHIN_S = 1.0
"""Seconds in which the centre has to take a job: a caller is told soon that it is away."""


class CentreJobs:
    """Jobs at the centre, for all gateways of the process; connected when they are first asked for."""

    def __init__(self, settings: Settings, publisher: Publisher) -> None:
        self._settings, self._publisher = settings, publisher

    def __call__(self) -> JobsAtCentre:
        """Raises: DependencyError where nothing says where the centre is."""
        return self._jobs

    @functools.cached_property
    def _jobs(self) -> JobsAtCentre:
        from tango.bootstrap.stores import Stores  # PostgreSQL's client, which a gateway of LC alone never needs
        from tango.control import jobs

        here = Stores(self._settings, deadline_s=CENTRE_WITHIN_S)
        return jobs.Jobs(store=here.jobs, publisher=self._publisher, refusals=here.refusals)


async def _listen_for_answers(runner: web.AppRunner, settings: GatewaySettings, stack: contextlib.AsyncExitStack) -> str:
    """Listen for workers; gives the address that stands in the rows of requests."""
    if settings.answer_address:
        host, port = _host_and_port(settings.answer_address)
        await listen(runner, host=host, port=port)
        return settings.answer_address
    folder = private_folder(state_home(os.environ) / "run")
    path = folder / f"gateway-{os.getpid()}.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        _forget_sockets_of_the_dead(folder)
        await listen_at_path(runner, path)
        stack.callback(path.unlink, missing_ok=True)
        return f"unix:{path}"
    port = await listen(runner, host=LOOPBACK, port=0)
    return f"http://{LOOPBACK}:{port}"


def _host_and_port(address: str) -> tuple[str, int]:
    found = urlsplit(address)
    try:
        if found.scheme == "http" and found.hostname and found.port:
            return found.hostname, found.port
    except ValueError:
        pass
    raise ConfigError(f"TANGO_GATEWAY_ANSWER_ADDRESS is {address!r}, expected http://HOST:PORT, by which workers reach this host")


def _forget_sockets_of_the_dead(folder: Path) -> None:
    for path in folder.glob("gateway-*.sock"):
        pid = path.stem.removeprefix("gateway-")
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            path.unlink(missing_ok=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _allow_open_files(wanted: int) -> None:
    """Raise the soft limit of open files as far as it may be: each caller is one, and most systems begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            log.warning("few_open_files", allowed=allowed, wanted=wanted)
