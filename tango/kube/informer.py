"""A watch-fed cache of one collection: list, then watch, and list again where the watch cannot go on."""

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
BACKOFF_CAP_S = 5.0
SHORT_WATCH_S = 0.5


class Informer:
    """Objects by name, as the server last told. `on_event(type, object)` is called for every change, `DELETED` included.

    A broken connection goes on from the last resource version seen, so that every change in between is told. Only where the server
    has forgotten that version (410) the collection is listed again; objects that went meanwhile are then told as `DELETED`.
    """

    def __init__(self, client: KubeClient, path: str, *, on_event: Callable[[str, JSON], None] | None = None, **query: str) -> None:
        self._client = client
        self._path = path
        self._query = query
        self._on_event = on_event or (lambda kind, item: None)
        self._synced = asyncio.Event()
        self.version = ""
        """Resource version to watch from; empty: list first."""
        self._failures = 0
        self.objects: dict[str, JSON] = {}
        self.relists = 0

    async def synced(self) -> None:
        """Wait for the first list."""
        await self._synced.wait()

    async def run(self) -> None:
        """Follow the collection until cancelled."""
        while True:
            try:
                if not self.version:
                    await self._relist()
                begin_s = time.monotonic()
                await self._follow()
                if time.monotonic() - begin_s < SHORT_WATCH_S:  # something between us and the server ends every stream at once
                    await self._back_off()
            except Gone:
                log.info("watch_expired", cluster=self._client.cluster, path=self._path)
                self.version = ""
                await self._back_off()
            except (ClusterUnavailable, ClusterError) as error:
                log.warning(
                    "watch_broken", cluster=self._client.cluster, path=self._path, failures=self._failures, error=str(error)
                )
                await self._back_off()

    async def _back_off(self) -> None:
        wait_s = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(self._failures, 10))
        self._failures += 1
        await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))

    async def _relist(self) -> None:
        items, version = await self._client.list(self._path, **self._query)
        self.relists += 1
        fresh = {item["metadata"]["name"]: item for item in items}
        for name, gone in list(self.objects.items()):
            if name not in fresh or fresh[name]["metadata"]["uid"] != gone["metadata"]["uid"]:
                del self.objects[name]
                self._on_event("DELETED", gone)
        for name, item in fresh.items():
            known = self.objects.get(name)
            self.objects[name] = item
            if known is None or known["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                self._on_event("ADDED" if known is None else "MODIFIED", item)
        self.version = version
        self._synced.set()

    async def _follow(self) -> None:
        async for event in self._client.watch(self._path, resource_version=self.version, query=self._query):
            item, kind = event["object"], event["type"]
            if kind != "BOOKMARK":
                name = item["metadata"]["name"]
                if kind == "DELETED":
                    self.objects.pop(name, None)
                else:
                    self.objects[name] = item
                self._on_event(kind, item)
            self.version = item["metadata"]["resourceVersion"]
            self._failures = 0
