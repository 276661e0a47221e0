"""Calls that callers sent, to the instances of their service: implements `tango.ports.instances.ServiceCalls` on aiohttp.

The answer goes to the gateway that waits for it (docs/gateway.md, "From the worker to the gateway"): whole where it is short and there,
else part by part as the instance sends it, no faster than the caller takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import structlog
from yarl import URL

from tango.domain.calls import HOP_BY_HOP, Answer, AnswerTo, CalledWork, Headers
from tango.domain.identity import PodKey, RequestKey
from tango.domain.observations import InstanceState
from tango.domain.requests import LcWork, Reason
from tango.domain.tracing import TRACEPARENT
from tango.errors import CallFailed
from tango.kube.http_exchange import instant_of
from tango.kube.instance_calls import CONNECT_TIMEOUT_S
from tango.kube.signing import Signing
from tango.ports.instances import Answered

log = structlog.get_logger(__name__)

WHOLE_WITHIN_S = 0.005
"""Seconds that the rest of an answer is waited for after its first part, so that most go on in one piece; one that takes longer is a
stream, whose beginning must not wait. Chosen: little beside what a message costs, and far above the time between two packets."""
WHOLE_BYTES = 64 << 10
"""Longest answer that goes on in one piece."""
LARGEST_HEAD_BYTES = 24 << 10
"""Longest head of an answer; the gateway takes 32 KiB with its names and quotes."""
TELL_WITHIN_S = 2.0
"""Seconds that a gateway has to take a word, which is a hint."""
KEPT_IDLE_S = 1.5
"""Seconds that a connection without a call is kept: less than servers do, of which common ones close theirs after two or five. A call that
must not be sent twice fails on one that is just being closed."""
_OURS = ("tango-started-s", "tango-finished-s")
# What aiohttp would add by itself: the call goes on as it was sent.
_ADD_NOTHING = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class HttpServiceCalls:
    """Bound to the running asyncio loop. Answers are kept up to `kept_bytes` of their bodies. `ca_file` has the certificates of who may
    have signed those of instances; empty: the system's. `key` is what requests are signed with; empty: they are not."""

    def __init__(self, *, kept_bytes: int, ca_file: str = "", key: str = "") -> None:
        self._kept_bytes, self._ca_file = kept_bytes, ca_file
        self._sign = Signing(key)
        self._tls = functools.cache(self._tls_context)
        self._instances = _session(aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_IDLE_S))
        self._gateways: dict[str, aiohttp.ClientSession] = {}

    async def call(
        self,
        instance: InstanceState,
        work: LcWork,
        called: CalledWork,
        *,
        may_try_again: bool,
        over_tls: bool,
        timeout_s: float,
        answers: Callable[[], None],
        traceparent: str = "",
    ) -> Answered:
        """One HTTP request to the pod, one to the gateway, and one before both where it holds headers. `timeout_s` bounds all together."""
        passage = _Passage(self, work, called)
        begun_at_s = time.time()
        try:
            async with asyncio.timeout(timeout_s):
                held = await self._held(called, work) if called.call.has_held else ()
                async with self._asked(instance, work, called, held, over_tls, traceparent) as response:
                    answers()
                    if may_try_again and response.status >= 500:
                        raise CallFailed(
                            f"{_pod(work, instance)} answered {response.status}",
                            reason=Reason.SERVICE_ERROR,
                            status=response.status,
                        )
                    await passage.pass_on(response, self._kept_bytes)
                    return _answered(response, passage, begun_at_s)
        except CallFailed as error:
            error.was_passed_on = passage.has_begun
            raise
        except TimeoutError as error:
            reason = Reason.ANSWER_CUT if passage.has_head else Reason.TIMED_OUT
            raise passage.failed(reason, f"{_pod(work, instance)} was not done within {timeout_s:.1f} s") from error
        except aiohttp.ClientConnectorError as error:
            passage.was_sent = False
            raise passage.failed(Reason.INSTANCE_UNREACHABLE, f"{_pod(work, instance)}: {error}") from error
        except (aiohttp.ClientPayloadError, ConnectionError) as error:
            reason = Reason.ANSWER_CUT if passage.has_head else Reason.INSTANCE_UNREACHABLE
            raise passage.failed(reason, f"{_pod(work, instance)} broke off: {error}") from error
        except (aiohttp.ClientError, ValueError, OSError) as error:  # ValueError: what it answers is no HTTP
            raise passage.failed(Reason.INSTANCE_UNREACHABLE, f"{_pod(work, instance)}: {error}") from error

    async def tell_failed(self, called: CalledWork, work: LcWork, reason: Reason) -> None:
        """Tell the gateway whose caller waits, by a message without a body, that the request has failed for good."""
        if called.answer_to is None:
            return
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(TELL_WITHIN_S), self.to_gateway(called.answer_to, work, {"Tango-Failed": str(reason)}, b""):
                pass

    async def close(self) -> None:
        """Close all connections; calls that are under way fail."""
        for session in (self._instances, *self._gateways.values()):
            await session.close()

    def to_gateway(self, to: AnswerTo, work: LcWork, headers: dict[str, str], body: Any) -> Any:
        """The request that takes an answer, or a word about one, to the gateway; a context that gives its response."""
        session, base, key = self._gateway(to)
        url = f"{base}/answers/{RequestKey(work.run_id, work.request_id)}/{work.epoch}"
        return session.post(url, data=body, headers=key | headers)

    async def _held(self, called: CalledWork, work: LcWork) -> Headers:
        """Headers of the call that its gateway holds. Raises: CallFailed where it does not any more: its caller is gone with it."""
        of = RequestKey(work.run_id, work.request_id)
        why: object = "there is no gateway"
        if called.answer_to is not None:
            session, base, key = self._gateway(called.answer_to)
            try:
                async with asyncio.timeout(TELL_WITHIN_S), session.get(f"{base}/calls/{of}/headers", headers=key) as response:
                    if response.status == 200:
                        return tuple((name, value) for name, value in await response.json())
                    why = f"{response.status} {await response.text()}"
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                why = repr(error)
        raise CallFailed(f"headers of request {of} are not to be had: {why}", reason=Reason.CALLER_GONE, was_sent=False)

    def _gateway(self, to: AnswerTo) -> tuple[aiohttp.ClientSession, str, dict[str, str]]:
        """(session, base of addresses, header with the key) of a gateway."""
        session = self._gateways.get(to.address)
        if session is None:
            path = to.address.removeprefix("unix:")
            connector = (
                aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_IDLE_S)
                if path == to.address
                else aiohttp.UnixConnector(path, limit=0, keepalive_timeout=KEPT_IDLE_S)
            )
            session = self._gateways[to.address] = _session(connector)
        base = "http://gateway" if to.address.startswith("unix:") else to.address.rstrip("/")
        return session, base, {"Authorization": f"Bearer {to.key}"}

    def _tls_context(self) -> ssl.SSLContext:
        """Read when the first instance speaks TLS. Raises: OSError for a file that cannot be read, or has no certificate."""
        return ssl.create_default_context(cafile=self._ca_file or None)

    def _asked(
        self, instance: InstanceState, work: LcWork, called: CalledWork, held: Headers, over_tls: bool, traceparent: str
    ) -> Any:
        call = called.call
        sent = [*call.headers, *held]
        if traceparent:
            sent = [*(of for of in sent if of[0].lower() != TRACEPARENT), (TRACEPARENT, traceparent)]
        headers = [
            *sent,
            *self._sign.headers(work, PodKey(work.node.cluster, instance.pod)),
            ("Tango-Entry-Cluster", work.entry_cluster),
            # What the synthetic workload asks for, and others do not look at.
            ("Tango-Cpu-Work-S", f"{work.cpu_work_s:.6f}"),
            ("Tango-Memory-Mib", f"{work.memory_mib:.1f}"),
            ("Tango-Payload-Kib", f"{len(call.body) / 1024:.3f}"),
        ]
        # The path as it was sent: decoded and encoded again it might be another one.
        tls: dict[str, Any] = {"ssl": self._tls(), "server_hostname": work.service} if over_tls else {}
        url = URL(f"{'https' if over_tls else 'http'}://{instance.pod_ip}:{instance.port}{call.path}", encoded=True)
        body = call.body or (b"" if call.method in ("POST", "PUT", "PATCH") else None)
        return self._instances.request(
            call.method, url, data=body, headers=headers, skip_auto_headers=_ADD_NOTHING, allow_redirects=False, **tls
        )


class _Passage:
    """One answer on its way from the instance to whoever waits."""

    def __init__(self, calls: HttpServiceCalls, work: LcWork, called: CalledWork) -> None:
        self._calls, self._work, self._called = calls, work, called
        self.was_sent = True
        self.has_head = False
        """The instance has begun to answer."""
        self.has_begun = False
        """The answer has begun to go on."""
        self.kept = bytearray()
        self.length = 0
        self._broken: BaseException | None = None

    def failed(self, reason: Reason, message: str) -> CallFailed:
        """The error of this passage."""
        return CallFailed(message, reason=reason, was_sent=self.was_sent, was_passed_on=self.has_begun)

    async def pass_on(self, response: aiohttp.ClientResponse, kept_bytes: int) -> None:
        """Send head and body on. Raises: CallFailed where the head is too long or nobody wants the answer; what `response` raises."""
        self.has_head = True
        head = json.dumps({"status": response.status, "headers": _headers_of(response)})  # ASCII, as a header must be
        if len(head) > LARGEST_HEAD_BYTES:
            raise self.failed(
                Reason.SERVICE_ERROR, f"the head of the answer has {len(head)} bytes, expected {LARGEST_HEAD_BYTES} at most"
            )
        first, is_whole = await _beginning(response)
        self._keep(first, kept_bytes)
        to = self._called.answer_to
        if to is None:
            if not is_whole:
                async for part in response.content.iter_any():
                    self._keep(part, kept_bytes)
            return
        headers = {"Tango-Answer-Head": head}
        self.has_begun = True
        body: Any = first if is_whole else self._rest(response, first, kept_bytes)
        try:
            async with self._calls.to_gateway(to, self._work, headers, body) as taken:
                if taken.status != 204:
                    log.info("answer_not_taken", request=f"{self._work.run_id}-{self._work.request_id}", status=taken.status)
        except (aiohttp.ClientError, OSError) as error:
            if self._broken is not None:
                raise self._broken from error
            # The gateway is gone, and its caller with it: what the instance answers is kept all the same.
            log.info("gateway_gone", request=f"{self._work.run_id}-{self._work.request_id}", error=str(error))
        if not response.content.at_eof():
            async for part in response.content.iter_any():
                self._keep(part, kept_bytes)

    async def _rest(self, response: aiohttp.ClientResponse, first: bytes, kept_bytes: int) -> AsyncIterator[bytes]:
        yield first
        try:
            async for part in response.content.iter_any():
                self._keep(part, kept_bytes)
                yield part
        except (aiohttp.ClientError, OSError) as error:
            # It breaks off the message to the gateway too, which is told apart from a gateway that is gone.
            self._broken = error
            raise

    def _keep(self, part: bytes, kept_bytes: int) -> None:
        self.length += len(part)
        self.kept += part[: max(0, kept_bytes - len(self.kept))]


async def _beginning(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """(what is there of the body, whether that is all): all of a short one that comes at once, else its first parts."""
    content = response.content
    parts, length = [], 0
    part = await content.readany()
    with contextlib.suppress(TimeoutError):  # that of the whole call comes as a cancellation
        while part:
            parts.append(part)
            length += len(part)
            if content.at_eof() or length > WHOLE_BYTES:
                break
            async with asyncio.timeout(WHOLE_WITHIN_S):
                part = await content.readany()
    return b"".join(parts), content.at_eof()


def _answered(response: aiohttp.ClientResponse, passage: _Passage, begun_at_s: float) -> Answered:
    kept = Answer(
        status=response.status,
        headers=_headers_of(response),
        body=bytes(passage.kept),
        is_whole=len(passage.kept) == passage.length,
    )
    started_at_s, finished_at_s = (_instant(response, name) for name in _OURS)
    return Answered(
        started_at_s=begun_at_s if started_at_s is None else started_at_s,
        finished_at_s=time.time() if finished_at_s is None else finished_at_s,
        answer=kept,
    )


def _headers_of(response: aiohttp.ClientResponse) -> Headers:
    """Headers as the instance sent them, without those of this hop (RFC 9110, section 7.6.1)."""
    named = {name.strip().lower() for value in response.headers.getall("Connection", ()) for name in value.split(",")}
    return tuple((name, _text(value)) for name, value in response.headers.items() if name.lower() not in HOP_BY_HOP | named)


def _text(value: str) -> str:
    """With U+FFFD for bytes that are no UTF-8, which aiohttp gives as lone surrogates and JSON cannot have."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _instant(response: aiohttp.ClientResponse, name: str) -> float | None:
    """Unix time that an instance tells, if it does."""
    try:
        return instant_of(response.headers[name])
    except (KeyError, ValueError):
        return None


def _pod(work: LcWork, instance: InstanceState) -> str:
    return f"instance {PodKey(work.node.cluster, instance.pod)} at {instance.pod_ip}:{instance.port}"


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    # Deadlines are set by call; an answer is passed on as it is, compressed or not.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
    return aiohttp.ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), max_field_size=32 << 10
    )
