"""A client for one Kubernetes API server: authentication by the official library, objects as plain JSON.

The official library loads the kubeconfig and builds the TLS context (`credentials.py`). Its typed models are not used, because they take
tens of seconds for thousands of pods. Short calls go over `http_exchange`, watches over aiohttp, which streams. Every call has a
timeout, and what may be retried is retried with jittered exponential backoff under a cap.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, Self
from urllib.parse import urlencode

import aiohttp
import orjson
import structlog

from tango.errors import (
    BudgetExhausted,
    ClusterError,
    ClusterUnavailable,
    ConfigError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Throttled,
)
from tango.kube.credentials import Access, Credentials
from tango.kube.http_exchange import HttpAnswer, HttpConnections
from tango.kube.pacing import Pace
from tango.kube.refusal_kinds import refusal_kind
from tango.settings import KubeSettings

log = structlog.get_logger(__name__)

JSON = dict[str, Any]
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
METRICS_API = "/apis/metrics.k8s.io/v1beta1"
"""Where a metrics server answers, which Kubernetes does not bring itself."""

PAGE = 500
"""Objects in one page of a list, kubectl's own default."""
WATCH_S = 60
"""Seconds after which the server is asked to end a watch, so that a connection that died in silence is noticed."""
WATCH_GRACE_S = 10.0
"""Seconds after that in which the server must have ended it before the client gives the connection up."""
MAX_ANSWER_BYTES = 256 * 2**20
"""Longest response to a short call; a page of 500 pods has a few MiB, so this only bounds memory against a faulty server."""
MAX_EVENT_BYTES = 4 * 2**20
"""Longest event of a watch: an object may have 3 MiB as a request, and etcd takes half of that."""
RETRIED = frozenset({429, 500, 503, 504})
"""Statuses that are retried: overload, and failures that need not repeat. All others are refusals of the call itself."""
OVERLOADED = frozenset({429, 503})
"""Those of them that say that there are too many calls."""
_BY_STATUS: dict[int, type[ClusterError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
}


class KubeClient:
    """A client of one API server, bound to the running asyncio loop; use it and `close` it there."""

    def __init__(self, credentials: Credentials, access: Access, settings: KubeSettings, *, cluster: str) -> None:
        """`access`: what `credentials` has just loaded."""
        self.cluster = cluster
        self._credentials, self._access = credentials, access
        self._looked_at_s = self._read_again_at_s = time.monotonic()
        self._reading = asyncio.Lock()
        self._connections = HttpConnections(connect_timeout_s=settings.connect_timeout_s, max_answer_bytes=MAX_ANSWER_BYTES)
        self._settings = settings
        self._concurrent = asyncio.Semaphore(settings.concurrency)
        self._pace = Pace(settings.calls_per_s, settings.calls_at_once)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(connector=connector, read_bufsize=2**21, cookie_jar=aiohttp.DummyCookieJar())

    @classmethod
    async def from_kubeconfig(cls, path: str, context: str, settings: KubeSettings, *, cluster: str = "") -> Self:
        """A client for a context of a kubeconfig; `cluster` is its name in messages. Raises: ConfigError for a wrong file or context, and
        for a plug-in that fails.

        Nothing is called yet, so a server that is down is noticed by the first request.
        """
        credentials = Credentials(path, context)
        return cls(credentials, await credentials.load(), settings, cluster=cluster or context)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; calls and watches in flight fail."""
        self._connections.close()
        await self._session.close()

    async def request(
        self, method: str, path: str, *, body: Any = None, query: dict[str, str] | None = None, content_type: str | None = None
    ) -> JSON:
        """Make one call, with retries, and return the JSON of its response ({} without a body).

        Statuses in `RETRIED` and lost connections are retried, every method alike. A POST may therefore have succeeded in an earlier
        attempt whose answer was lost, so its caller must treat 409 as possibly its own doing.
        Raises: a kind of ClusterError by status; ClusterUnavailable when the attempts are used up; Throttled if the last one was a 429.
        """
        data = None if body is None else orjson.dumps(body)
        attempts = self._settings.attempts
        last: Exception | None = None
        access, is_renewed = await self._current(), False
        for attempt in range(attempts):
            wait_s = min(self._settings.backoff_cap_s, self._settings.backoff_base_s * 2**attempt) * random.uniform(0.5, 1.0)
            try:
                if (turn_s := self._pace.turn_s()) > 0:
                    await asyncio.sleep(turn_s)
                # The semaphore is held for one attempt and not while backing off, so that failing calls do not starve others.
                async with self._concurrent:
                    answer = await self._once(access, method, path, data, query, content_type)
                    if answer.status == 401 and not is_renewed:
                        # What was refused so has not been done: it is sent again, once, where the credentials are others by now.
                        fresh, is_renewed = await self._renewed(access), True
                        if fresh is not access:
                            access = fresh
                            answer = await self._once(access, method, path, data, query, content_type)
            except OSError as error:  # TimeoutError is one
                last = error
            else:
                if answer.status < 300:
                    return self._parsed(answer.body, method, path)
                refusal = self._refusal(answer.status, answer.body, method, path)
                if answer.status not in RETRIED or isinstance(refusal, BudgetExhausted):
                    raise refusal
                last = refusal
                if answer.status in OVERLOADED:
                    self._pace.slowed()
                after = answer.headers.get(b"retry-after", b"")
                if after.isdigit():  # seconds; the other form, a date, is not used by API servers
                    refusal.retry_after_s = float(after)
                    wait_s = min(self._settings.backoff_cap_s, max(wait_s, refusal.retry_after_s))
            if attempt + 1 < attempts:
                await asyncio.sleep(wait_s)
        # An answer that says for certain that nothing was done, such as that of a webhook which is away.
        if isinstance(last, ClusterError) and last.refusal:
            raise last
        raise ClusterUnavailable(
            f"the API server of {self.cluster} at {access.base} does not answer {method} {path} "
            f"({type(last).__name__}: {last}; {attempts} attempts). Check `tango status`, or the cluster's kubeconfig.",
            cluster=self.cluster,
        ) from last

    def _parsed(self, payload: bytes, method: str, path: str) -> JSON:
        try:
            found = orjson.loads(payload) if payload else {}
        except orjson.JSONDecodeError as error:
            raise ClusterError(
                f"{self.cluster}: {method} {path} was answered with {payload[:60]!r}, expected JSON; is {self._access.base} an API server?",
                cluster=self.cluster,
            ) from error
        return found if isinstance(found, dict) else {"items": found}

    async def list(self, path: str, **query: str) -> tuple[list[JSON], str]:
        """(objects, resource version to watch from) of a collection; `query` may hold selectors.

        It is read in pages, all of which the server answers from one snapshot. Raises: Gone if that expires before the last page.
        """
        items: list[JSON] = []
        token = ""
        while True:
            page = await self.request("GET", path, query={**query, "limit": str(PAGE), **({"continue": token} if token else {})})
            items.extend(page.get("items") or [])
            token = page["metadata"].get("continue") or ""
            if not token:
                return items, page["metadata"]["resourceVersion"]

    async def watch(
        self,
        path: str,
        *,
        resource_version: str,
        query: Mapping[str, str],
        timeout_s: int = WATCH_S,
        on_open: Callable[[], object] = lambda: None,
    ) -> AsyncIterator[JSON]:
        """Watch events after a resource version, bookmarks included, until the server ends the stream after `timeout_s`.

        `on_open` is called when the server has taken the watch: from then on it tells what happens.

        Raises: Gone for 410, which comes as a status or as an ERROR event; ClusterUnavailable if the connection breaks.
        """
        parameters = {
            **query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_s),
        }
        timeout = aiohttp.ClientTimeout(total=timeout_s + WATCH_GRACE_S, connect=self._settings.connect_timeout_s)
        try:
            access = await self._current()
            async with self._streamed(access, path, parameters, timeout) as answer:
                if answer.status == 401:
                    await self._renewed(access)  # for the next try, which the watcher makes
                if answer.status >= 300:
                    raise self._refusal(answer.status, await answer.read(), "WATCH", path)
                on_open()
                async for line in _lines(answer.content):
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise self._refusal(event["object"].get("code", 500), orjson.dumps(event["object"]), "WATCH", path)
                    yield event
        # ValueError: a line that was cut off, or one longer than aiohttp's buffer.
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ClusterUnavailable(
                f"the watch of {path} at {self.cluster} broke ({type(error).__name__}: {error})", cluster=self.cluster
            ) from error

    async def stream(self, path: str, *, query: Mapping[str, str], idle_s: float) -> AsyncIterator[bytes]:
        """The body of a GET as it comes, such as a log that is followed, until the server ends it.

        Raises: a kind of ClusterError for a refusal; ClusterUnavailable if the connection breaks, or nothing comes for `idle_s` seconds.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout_s, sock_read=idle_s)
        try:
            access = await self._current()
            async with self._streamed(access, path, query, timeout) as answer:
                if answer.status >= 300:
                    raise self._refusal(answer.status, await answer.read(), "GET", path)
                async for block in answer.content.iter_any():
                    yield block
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterUnavailable(
                f"the stream of {path} at {self.cluster} broke ({type(error).__name__}: {error})", cluster=self.cluster
            ) from error

    async def _current(self) -> Access:
        """As the kubeconfig's files are, looked at every `KubeSettings.credentials_every_s`; what cannot be read leaves what was."""
        if time.monotonic() - self._looked_at_s >= self._settings.credentials_every_s:
            self._looked_at_s = time.monotonic()
            if self._credentials.has_changed():
                return await self._read(self._access)
        return self._access

    async def _renewed(self, refused: Access) -> Access:
        """After a 401: what has been read since, else read now, at most once in `KubeSettings.credentials_again_s`; `refused` itself where
        nothing is new."""
        if self._access is refused and time.monotonic() - self._read_again_at_s >= self._settings.credentials_again_s:
            self._read_again_at_s = time.monotonic()
            await self._read(refused)
        known = self._access
        is_same = known.authorization == refused.authorization and known.origin == refused.origin
        return refused if is_same else known

    async def _read(self, known: Access) -> Access:
        async with self._reading:
            if self._access is known:
                try:
                    self._access = await self._credentials.load()
                    log.info("credentials_read_again", cluster=self.cluster)
                except ConfigError as error:
                    log.warning("credentials_not_read", cluster=self.cluster, error=str(error))
            return self._access

    def _streamed(
        self, access: Access, path: str, query: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._session.get(
            access.base + path,
            params=query,
            headers=_headers(access, None),
            timeout=timeout,
            ssl=access.origin.tls or True,
            server_hostname=access.origin.server_name or None,
            proxy=access.proxy_url or None,
        )

    async def _once(
        self, access: Access, method: str, path: str, data: bytes | None, query: dict[str, str] | None, content_type: str | None
    ) -> HttpAnswer:
        kind = content_type or (None if data is None else STRATEGIC_PATCH if method == "PATCH" else "application/json")
        target = f"{access.prefix}{path}?{urlencode(query)}" if query else access.prefix + path
        lines = "".join([f"{name}: {value}\r\n" for name, value in _headers(access, kind).items()])
        head = f"{method} {target} HTTP/1.1\r\nHost: {access.host}\r\n{lines}Content-Length: {len(data or b'')}\r\n\r\n"
        return await self._connections.exchange(
            access.origin, head.encode("latin-1") + (data or b""), timeout_s=self._settings.read_timeout_s
        )

    def _refusal(self, status: int, payload: bytes, method: str, path: str) -> ClusterError:
        try:
            body = orjson.loads(payload)
        except orjson.JSONDecodeError:
            body = {"message": payload[:200].decode("utf-8", "replace")}
        if not isinstance(body, dict):
            body = {"message": str(body)[:200]}
        reason, message = body.get("reason", ""), body.get("message", "")
        kind = _BY_STATUS.get(status, ClusterError)
        if status == 429:
            causes = (body.get("details") or {}).get("causes") or []
            budgets = [str(c.get("message") or "") for c in causes if c.get("reason") == "DisruptionBudget"]
            kind = BudgetExhausted if budgets else Throttled
            message = " ".join(filter(None, (message, *budgets)))  # the budget's name is in its cause alone
        return kind(
            f"{self.cluster}: {method} {path}: {status} {reason}: {message}",
            status=status,
            reason=reason,
            cluster=self.cluster,
            refusal=refusal_kind(status, body) or "",
            words=message,
            namespace=self._foreign_namespace(path),
        )

    def _foreign_namespace(self, path: str) -> str:
        """That of a path to something in a namespace other than Tango's own; else empty."""
        _, _, rest = path.partition("/namespaces/")
        namespace, _, what = rest.partition("/")
        return namespace if what and namespace != self._settings.namespace else ""


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a stream that are not empty, all of a block at once: aiohttp's own look for each costs as much as parsing it.

    Raises: ValueError for one that is longer than `MAX_EVENT_BYTES`.
    """
    rest = b""
    async for block in content.iter_any():
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(rest) > MAX_EVENT_BYTES:
            raise ValueError(f"a line is longer than {MAX_EVENT_BYTES} bytes")
    if rest.strip():  # it was cut off, and is no JSON
        yield rest


class Connect(Protocol):
    """How a client of an API server is made; `KubeClient.from_kubeconfig` is one way."""

    def __call__(self, path: str, context: str, settings: KubeSettings, *, cluster: str) -> Awaitable[KubeClient]:
        """A client for a context of a kubeconfig. Raises: ConfigError."""
        ...


def _headers(access: Access, content_type: str | None) -> dict[str, str]:
    headers = {"Accept": "application/json", "User-Agent": "tango"}
    if content_type:
        headers["Content-Type"] = content_type
    if access.authorization:
        headers["Authorization"] = access.authorization
    return headers
