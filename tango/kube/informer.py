"""A watch-fed cache of one collection of an API server: list, then watch, and list again (relist) after a 410.

Source: Kubernetes documentation, Kubernetes API Concepts, "Efficient detection of changes".
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import structlog

from tango.errors import ClusterError, ClusterUnavailable, Gone
from tango.kube.api_client import JSON, KubeClient

log = structlog.get_logger(__name__)

BACKOFF_BASE_S = 0.1
"""Seconds before the first retry of a list or a watch; doubled with each failure in a row."""
BACKOFF_CAP_S = 5.0
"""Longest pause between two tries, seconds: the most by which the cache lags after an API server is back. Chosen, not measured."""
REFUSED_CAP_S = 120.0
"""The same of a list that the server refuses and that can be done without: a role may be given later. Chosen, not measured."""
SHORT_WATCH_S = 0.5
"""A watch that ends within so many seconds counts as a failure, although the server ended it in order."""


class Informer:
    """The objects of one collection by name, kept current by a watch.

    `on_event(type, object)` is called once for every change; types are `ADDED`, `MODIFIED` and `DELETED`. What it raises is logged and
    counted, and the event is not repeated. After a broken connection the
    watch resumes from the last resource version seen, so no change is missed. If the server no longer knows that version (410 Gone),
    the collection is listed again, and objects that have vanished meanwhile are reported as `DELETED` with their last known state.
    """

    def __init__(
        self,
        client: KubeClient,
        path: str,
        *,
        on_event: Callable[[str, JSON], None] | None = None,
        keep: Callable[[JSON], JSON] = lambda item: item,
        is_optional: bool = False,
        refused_cap_s: float = REFUSED_CAP_S,
        **query: str,
    ) -> None:
        """`keep` gives what is kept of an object, its metadata with name, namespace, uid and resource version at the least.

        `is_optional`: where the server refuses the list, nobody waits for it (`synced`), and it is asked for less often, at the least every
        `refused_cap_s` seconds.
        """
        self._client = client
        self._path = path
        self._query = query
        self._everywhere = "/namespaces/" not in path
        self._on_event = on_event or (lambda kind, item: None)
        self._keep, self._is_optional, self._refused_cap_s = keep, is_optional, refused_cap_s
        self.refused: ClusterError | None = None
        """What the server said to the last try, where it refused it."""
        self._synced = asyncio.Event()
        self.version = ""
        """Resource version to watch from; empty: list first."""
        self._failures = 0
        self.objects: dict[str, JSON] = {}
        """By name, of a collection over all namespaces by `namespace/name`; read-only for users of this class."""
        self.changes = 0
        """Changes of `objects` so far."""
        self.relists = 0
        """Lists so far, the first one included."""
        self._is_open, self._current_at_s = False, -float("inf")
        self.broken = 0
        """Events whose handler raised, since the start."""

    def current_at_s(self) -> float:
        """By the monotonic clock: until when everything that happened is in `objects`; now, while a watch is open."""
        return time.monotonic() if self._is_open else self._current_at_s

    async def synced(self) -> None:
        """Wait until the first list is complete. Waits without limit while the API server does not answer: callers set the deadline."""
        await self._synced.wait()

    async def run(self) -> None:
        """Follow the collection until cancelled. Errors of the API server are retried with backoff; only a ConfigError is raised."""
        while True:
            try:
                if not self.version:
                    await self._relist()
                begin_s = time.monotonic()
                await self._follow()
                # A proxy that ends every stream at once would otherwise have us open watches in a tight loop.
                if time.monotonic() - begin_s < SHORT_WATCH_S:
                    await self._back_off()
            except Gone:
                log.info("watch_expired", cluster=self._client.cluster, path=self._path)
                self.version = ""
                await self._back_off()
            except (ClusterUnavailable, ClusterError) as error:
                log.warning(
                    "watch_broken", cluster=self._client.cluster, path=self._path, failures=self._failures, error=str(error)
                )
                self.refused = error if isinstance(error, ClusterError) else self.refused
                if self._is_optional and isinstance(error, ClusterError):
                    self._synced.set()
                    await self._back_off(self._refused_cap_s)
                else:
                    await self._back_off()

    async def _back_off(self, cap_s: float = BACKOFF_CAP_S) -> None:
        wait_s = min(cap_s, BACKOFF_BASE_S * 2 ** min(self._failures, 10))
        self._failures += 1
        await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))

    async def _relist(self) -> None:
        items, version = await self._client.list(self._path, **self._query)
        self.relists += 1
        fresh = {self._key(item): self._keep(item) for item in items}
        for name, gone in list(self.objects.items()):
            # Another uid: deleted and created again under the same name while nobody watched.
            if name not in fresh or fresh[name]["metadata"]["uid"] != gone["metadata"]["uid"]:
                del self.objects[name]
                self._tell("DELETED", gone)
        for name, item in fresh.items():
            known = self.objects.get(name)
            self.objects[name] = item
            if known is None or known["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                self._tell("ADDED" if known is None else "MODIFIED", item)
        # Set after the events: who waits for `synced` finds the handler's own state complete.
        self.version = version
        self._synced.set()

    def _key(self, item: JSON) -> str:
        metadata = item["metadata"]
        return (
            f"{metadata['namespace']}/{metadata['name']}"
            if self._everywhere and metadata.get("namespace")
            else str(metadata["name"])
        )

    def _tell(self, kind: str, item: JSON) -> None:
        """Call the handler. One object that it cannot bear must not keep it from all others, again after every restart."""
        self.changes += 1
        try:
            self._on_event(kind, item)
        except Exception:
            self.broken += 1
            log.exception(
                "watch_handler_broken",
                cluster=self._client.cluster,
                path=self._path,
                kind=kind,
                name=item["metadata"]["name"],
                broken=self.broken,
            )

    async def _follow(self) -> None:
        try:
            await self._read_events()
        finally:
            self._current_at_s, self._is_open = self.current_at_s(), False

    def _opened(self) -> None:
        self._is_open, self.refused = True, None

    async def _read_events(self) -> None:
        watch = self._client.watch(self._path, resource_version=self.version, query=self._query, on_open=self._opened)
        async for event in watch:
            item, kind = event["object"], event["type"]
            if kind != "BOOKMARK":
                name, item = self._key(item), self._keep(item)
                if kind == "DELETED":
                    self.objects.pop(name, None)
                else:
                    self.objects[name] = item
                self._tell(kind, item)
            # Bookmarks move it on too: in a quiet collection the version would otherwise grow old enough to be answered with 410.
            self.version = item["metadata"]["resourceVersion"]
            self._failures = 0
