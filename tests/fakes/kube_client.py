"""An API server in memory behind the interface of `KubeClient`: objects, patches, watches and planned failures, no network."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

from tango.emulation.api_server.patches import merge_patch, strategic_merge
from tango.errors import Conflict, NotFound

Json = dict[str, Any]


class FakeKubeClient:
    """Objects by path. `calls` has every (method, path, body); `failures` are raised, first come first, by calls to their path."""

    def __init__(self) -> None:
        self.cluster = "fake"
        self.objects: dict[str, Json] = {}
        self.calls: list[tuple[str, str, Any]] = []
        self.failures: dict[str, list[Exception]] = {}
        self._versions = itertools.count(1)
        self._watchers: list[tuple[str, asyncio.Queue[Json]]] = []

    def put(self, path: str, body: Json) -> Json:
        """Store an object as somebody else's write, and tell the watchers."""
        known = path in self.objects
        version = str(next(self._versions))
        metadata = {"uid": f"uid-{version}", **body.get("metadata", {}), "name": path.rsplit("/", 1)[1], "resourceVersion": version}
        self.objects[path] = {**body, "metadata": metadata}
        self._tell("MODIFIED" if known else "ADDED", path)
        return self.objects[path]

    def is_watched(self, path: str) -> bool:
        """Whether somebody watches this collection."""
        return any(path == collection for collection, _ in self._watchers)

    def remove(self, path: str) -> None:
        """Drop an object and tell the watchers."""
        self._tell("DELETED", path)
        del self.objects[path]

    async def request(
        self, method: str, path: str, *, body: Any = None, query: dict[str, str] | None = None, content_type: str | None = None
    ) -> Json:
        """One call, as `KubeClient.request`."""
        self.calls.append((method, path, body))
        await asyncio.sleep(0)
        if self.failures.get(path):
            raise self.failures[path].pop(0)
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                raise Conflict(f"{path} exists", status=409)
            return self.put(path, body)
        if method == "PUT":
            return self.put(path, body)
        path = path.removesuffix("/status")
        if path not in self.objects:
            raise NotFound(f"{path} not found", status=404)
        found = self.objects[path]
        if method == "GET":
            return found
        uid = (body or {}).get("preconditions", {}).get("uid") or (body or {}).get("metadata", {}).get("uid")
        if uid and uid != found["metadata"]["uid"]:
            raise Conflict(f"{path} has another uid", status=409)
        if method == "DELETE":
            self.remove(path)
            return {}
        merge = merge_patch if content_type == "application/merge-patch+json" else strategic_merge
        return self.put(path, merge(found, body))

    async def list(self, path: str, **query: str) -> tuple[list[Json], str]:
        """All objects of a collection, and the version to watch from."""
        await asyncio.sleep(0)
        return [item for key, item in self.objects.items() if key.rsplit("/", 1)[0] == path], str(next(self._versions))

    async def watch(
        self, path: str, *, resource_version: str, query: Any = None, on_open: Callable[[], object] = lambda: None
    ) -> AsyncIterator[Json]:
        """Events from now on."""
        on_open()
        events: asyncio.Queue[Json] = asyncio.Queue()
        self._watchers.append((path, events))
        while True:
            yield await events.get()

    def _tell(self, kind: str, path: str) -> None:
        for collection, events in self._watchers:
            if path.rsplit("/", 1)[0] == collection:
                events.put_nowait({"type": kind, "object": self.objects[path]})
