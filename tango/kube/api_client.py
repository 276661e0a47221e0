"""A client for one Kubernetes API server: authentication by the official library, objects as plain JSON.

The official library loads the kubeconfig, builds the TLS context and refreshes tokens. Its typed models are not used, because they take
tens of seconds for thousands of pods. Short calls go over `http_exchange`, watches over aiohttp, which streams. Every call has a
timeout, and what may be retried is retried with jittered exponential backoff under a cap.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import aiohttp
import orjson
import yaml
from kubernetes.aio import client as official
from kubernetes.aio import config as official_config

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
from tango.kube.http_exchange import Answer, HttpConnections, Origin
from tango.kube.refusal_kinds import refusal_kind
from tango.settings import KubeSettings

JSON = dict[str, Any]
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"

PAGE = 500
"""Objects in one page of a list, kubectl's own default."""
WATCH_S = 60
"""Seconds after which the server is asked to end a watch, so that a connection that died in silence is noticed."""
WATCH_GRACE_S = 10.0
"""Seconds after that in which the server must have ended it before the client gives the connection up."""
MAX_ANSWER_BYTES = 256 * 2**20
"""Longest response to a short call; a page of 500 pods has a few MiB, so this only bounds memory against a faulty server."""
RETRIED = frozenset({429, 500, 503, 504})
"""Statuses that are retried: overload, and failures that need not repeat. All others are refusals of the call itself."""
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

    def __init__(self, api: official.ApiClient, settings: KubeSettings, *, cluster: str) -> None:
        self.cluster = cluster
        self._api = api
        self._base = api.configuration.host.rstrip("/")
        self._origin, self._host, self._prefix = _place(self._base, api.rest_client.ssl_context)
        self._connections = HttpConnections(connect_timeout_s=settings.connect_timeout_s, max_answer_bytes=MAX_ANSWER_BYTES)
        self._settings = settings
        self._concurrent = asyncio.Semaphore(settings.concurrency)
        connector = aiohttp.TCPConnector(limit=0, ssl=api.rest_client.ssl_context, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(connector=connector, read_bufsize=2**21, cookie_jar=aiohttp.DummyCookieJar())

    @classmethod
    async def from_kubeconfig(cls, path: str, context: str, settings: KubeSettings, *, cluster: str = "") -> Self:
        """A client for a context of a kubeconfig; `cluster` is its name in messages. Raises: ConfigError for a wrong file or context.

        Nothing is called yet, so a server that is down is noticed by the first request.
        """
        configuration = official.Configuration()
        try:
            await official_config.load_kube_config(
                config_file=path, context=context, client_configuration=configuration, persist_config=False
            )
            api = official.ApiClient(configuration)
        # The library does not validate the file: what is malformed surfaces as any of these, depending on where.
        except (
            official_config.ConfigException,
            yaml.YAMLError,
            OSError,
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
        ) as error:
            raise ConfigError(f"kubeconfig {path}, context {context!r}: {error}") from error
        return cls(api, settings, cluster=cluster or context)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; calls and watches in flight fail."""
        self._connections.close()
        await self._session.close()
        await self._api.close()

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
        for attempt in range(attempts):
            wait_s = min(self._settings.backoff_cap_s, self._settings.backoff_base_s * 2**attempt) * random.uniform(0.5, 1.0)
            try:
                # The semaphore is held for one attempt and not while backing off, so that failing calls do not starve others.
                async with self._concurrent:
                    answer = await self._once(method, path, data, query, content_type)
            except OSError as error:  # TimeoutError is one
                last = error
            else:
                if answer.status < 300:
                    return self._parsed(answer.body, method, path)
                refusal = self._refusal(answer.status, answer.body, method, path)
                if answer.status not in RETRIED or isinstance(refusal, BudgetExhausted):
                    raise refusal
                last = refusal
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
            f"the API server of {self.cluster} at {self._base} does not answer {method} {path} "
            f"({type(last).__name__}: {last}; {attempts} attempts). Check `tango status`, or the cluster's kubeconfig.",
            cluster=self.cluster,
        ) from last

    def _parsed(self, payload: bytes, method: str, path: str) -> JSON:
        try:
            found = orjson.loads(payload) if payload else {}
        except orjson.JSONDecodeError as error:
            raise ClusterError(
                f"{self.cluster}: {method} {path} was answered with {payload[:60]!r}, expected JSON; is {self._base} an API server?",
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
        self, path: str, *, resource_version: str, query: Mapping[str, str], timeout_s: int = WATCH_S
    ) -> AsyncIterator[JSON]:
        """Watch events after a resource version, bookmarks included, until the server ends the stream after `timeout_s`.

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
            async with self._session.get(
                self._base + path, params=parameters, headers=await self._headers(None), timeout=timeout
            ) as answer:
                if answer.status >= 300:
                    raise self._refusal(answer.status, await answer.read(), "WATCH", path)
                async for line in answer.content:
                    if not line.strip():
                        continue
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
            async with self._session.get(
                self._base + path, params=query, headers=await self._headers(None), timeout=timeout
            ) as answer:
                if answer.status >= 300:
                    raise self._refusal(answer.status, await answer.read(), "GET", path)
                async for block in answer.content.iter_any():
                    yield block
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterUnavailable(
                f"the stream of {path} at {self.cluster} broke ({type(error).__name__}: {error})", cluster=self.cluster
            ) from error

    async def _headers(self, content_type: str | None) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "tango"}
        if content_type:
            headers["Content-Type"] = content_type
        # Asked for every call, because the official client refreshes tokens that are about to expire.
        try:
            await self._api.update_params_for_auth(headers, [], ["BearerToken"], "", "", None)
        except official_config.ConfigException as error:
            raise ConfigError(f"the credentials of {self.cluster} cannot be refreshed: {error}") from error
        if any("\r" in value or "\n" in value for value in headers.values()):
            raise ConfigError(f"the token of {self.cluster} has a line break in it; write it on one line in the kubeconfig")
        return headers

    async def _once(
        self, method: str, path: str, data: bytes | None, query: dict[str, str] | None, content_type: str | None
    ) -> Answer:
        kind = content_type or (None if data is None else STRATEGIC_PATCH if method == "PATCH" else "application/json")
        target = f"{self._prefix}{path}?{urlencode(query)}" if query else self._prefix + path
        headers = await self._headers(kind)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\n{lines}Content-Length: {len(data or b'')}\r\n\r\n"
        return await self._connections.exchange(
            self._origin, head.encode("latin-1") + (data or b""), timeout_s=self._settings.read_timeout_s
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
            kind = BudgetExhausted if any(c.get("reason") == "DisruptionBudget" for c in causes) else Throttled
        return kind(
            f"{self.cluster}: {method} {path}: {status} {reason}: {message}",
            status=status,
            reason=reason,
            cluster=self.cluster,
            refusal=refusal_kind(status, body) or "",
            words=message,
        )


def _place(base: str, tls: ssl.SSLContext | None) -> tuple[Origin, str, str]:
    """(origin, value of the Host header, path prefix of every call) of a server's URL."""
    url = urlsplit(base)
    secure = url.scheme == "https"
    origin = Origin(url.hostname or "localhost", url.port or (443 if secure else 80), tls if secure else None)
    return origin, url.netloc.rpartition("@")[2], url.path
