"""A watch-fed cache of one collection: list, then watch, and list again whenever the watch cannot go on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from tango.errors import ClusterError, ClusterUnavailable, Gone
from tango.kube.api_client import JSON, KubeClient

log = structlog.get_logger(__name__)

BACKOFF_CAP_S = 5.0


class Informer:
    """Objects by name, as the server last told. `on_event(type, object)` is called for every change, `DELETED` included.

    After a relist, objects that went while the watch was away are told as `DELETED`, so that no end is missed.
    """

    def __init__(self, client: KubeClient, path: str, *, on_event: Callable[[str, JSON], None] | None = None, **query: str) -> None:
        self._client = client
        self._path = path
        self._query = query
        self._on_event = on_event or (lambda kind, item: None)
        self._synced = asyncio.Event()
        self.objects: dict[str, JSON] = {}
        self.relists = 0

    async def synced(self) -> None:
        """Wait for the first list."""
        await self._synced.wait()

    async def run(self) -> None:
        """Follow the collection until cancelled."""
        failures = 0
        while True:
            try:
                version = await self._relist()
                failures = 0
                while True:
                    version = await self._follow(version)
            except Gone:
                log.info("watch_expired", cluster=self._client.cluster, path=self._path)
            except (ClusterUnavailable, ClusterError) as error:
                failures += 1
                log.warning("watch_broken", cluster=self._client.cluster, path=self._path, failures=failures, error=str(error))
                await asyncio.sleep(min(BACKOFF_CAP_S, 0.1 * 2**failures) * random.uniform(0.5, 1.0))

    async def _relist(self) -> str:
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
        self._synced.set()
        return version

    async def _follow(self, version: str) -> str:
        async for event in self._client.watch(self._path, resource_version=version, query=self._query):
            item, kind = event["object"], event["type"]
            version = item["metadata"]["resourceVersion"]
            if kind == "BOOKMARK":
                continue
            name = item["metadata"]["name"]
            if kind == "DELETED":
                self.objects.pop(name, None)
            else:
                self.objects[name] = item
            self._on_event(kind, item)
        return version
