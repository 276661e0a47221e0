"""Watches: a stream of changes after a resource version, filtered by selectors, with bookmarks, for a limited time.

Source: Kubernetes documentation, Kubernetes API Concepts, "Efficient detection of changes" and "Watch bookmarks".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import orjson

from tango.emulation.api_server.failures import Causes, expired, too_new
from tango.emulation.api_server.resources import json_head
from tango.emulation.api_server.selectors import Match
from tango.emulation.api_server.storage import Collection, Storage, Stored, StoredChange

BOOKMARK_EVERY_S = 10.0
"""Seconds without an event after which a bookmark is sent. Chosen; a real server sends one about every minute."""

GATHER_S = 0.005
"""Seconds from one part of a stream to the next: pods are made many at a time, and each part wakes a client. What happens first is sent at
once."""


def require_watch_options(query: Mapping[str, str]) -> None:
    """Look whether the parameters of a watch go together. Raises: Refused 422.

    Source: kubernetes, staging/src/k8s.io/apimachinery/pkg/apis/meta/internalversion/validation.
    """
    causes = Causes("ListOptions", "", "meta.k8s.io")
    initial, matching = "sendInitialEvents" in query, query.get("resourceVersionMatch", "")
    if initial and matching != "NotOlderThan":
        causes.forbidden("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
    elif matching and not initial:
        causes.forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
    causes.raise_if_any()


class Watch:
    """One client's watch of one collection."""

    def __init__(
        self,
        storage: Storage,
        collection: Collection,
        namespace: str | None,
        match: Match | None,
        *,
        bookmark_every_s: float = BOOKMARK_EVERY_S,
    ) -> None:
        self._bookmark_every_s = bookmark_every_s
        self._storage = storage
        self._collection = collection
        self._namespace = namespace
        self._match = match
        self._waiting: list[bytes] = []
        self._news = asyncio.Event()
        self._head = json_head(collection.resource)
        self.cut = False
        """Set by `stop`: the server then aborts the connection, as if the stream had been cut."""
        self._expired = False

    async def events(self, *, version: str, timeout_s: float, bookmarks: bool, initial: bool) -> AsyncGenerator[bytes, None]:
        """Chunks of newline-delimited JSON events, until `timeout_s` has passed.

        Version "" or "0", or `initial`, first sends every object as ADDED. A version that is out of the history gives one ERROR event
        with a 410 `Status`, since the response's own status has been sent by then; and so does, with a 504, the call for initial events
        that are as new as the call itself (`initial` without a version): the recorded server, whose cache etcd tells of no progress,
        never knows how new its cache is, and clients then list.
        """
        if initial and not version:
            yield orjson.dumps({"type": "ERROR", "object": too_new(self._storage.version).body}) + b"\n"
            return
        if version in ("", "0") or initial:
            for stored in self._collection.in_order(self._namespace):
                if self._match is None or self._match(stored.item):
                    self._waiting.append(self._event(b"ADDED", stored))
            if initial and bookmarks:
                self._waiting.append(self._bookmark({"k8s.io/initial-events-end": "true"}))
        else:
            since = int(version) if version.isascii() and version.isdigit() else 0
            if since < self._collection.oldest - 1 and since < self._storage.version:
                error = expired(version, self._collection.oldest)
                yield orjson.dumps({"type": "ERROR", "object": error.body}) + b"\n"
                return
            for change in self._collection.changes:
                if change.version > since:
                    self._on_change(change)
        # Invariant: no await stands between reading objects or history above and this line, so no change falls in between.
        self._collection.listeners.add(self._on_change)
        try:
            async with contextlib.aclosing(self._follow(timeout_s, bookmarks)) as followed:
                async for chunk in followed:
                    yield chunk
        finally:
            self._collection.listeners.discard(self._on_change)

    def stop(self) -> None:
        """End the stream at once."""
        self.cut = True
        self._news.set()

    def expire(self) -> None:
        """End the stream with the error of a version that is too old, as when its history has been compacted away."""
        self._expired = True
        self._news.set()

    async def _follow(self, timeout_s: float, bookmarks: bool) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        while not self.cut:
            if self._waiting:
                chunk, self._waiting = b"".join(self._waiting), []
                yield chunk
                await asyncio.sleep(GATHER_S)
                continue
            if self._expired:
                yield orjson.dumps({"type": "ERROR", "object": expired("", self._collection.oldest).body}) + b"\n"
                break
            left_s = end_s - loop.time()
            if left_s <= 0:
                break
            self._news.clear()
            try:
                async with asyncio.timeout(min(left_s, self._bookmark_every_s)):
                    await self._news.wait()
            except TimeoutError:
                if bookmarks and not self._waiting and loop.time() < end_s:
                    yield self._bookmark()

    def _on_change(self, change: StoredChange) -> None:
        if self._namespace is not None and change.key[0] != self._namespace:
            return
        if self._match is None:
            kind = b"DELETED" if change.gone else b"ADDED" if change.before is None else b"MODIFIED"
            self._push(kind, change.after)
            return
        was = change.before is not None and self._match(change.before.item)
        now = not change.gone and self._match(change.after.item)
        if now:
            self._push(b"MODIFIED" if was else b"ADDED", change.after)
        elif was:
            # An object that no longer matches the selector has vanished for this watch.
            self._push(b"DELETED", change.after)

    def _push(self, kind: bytes, stored: Stored) -> None:
        self._waiting.append(self._event(kind, stored))
        self._news.set()

    def _event(self, kind: bytes, stored: Stored) -> bytes:
        return b'{"type":"' + kind + b'","object":' + self._head + stored.payload[1:] + b"}\n"

    def _bookmark(self, annotations: dict[str, Any] | None = None) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(self._storage.version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        item = orjson.dumps({"metadata": metadata})
        return b'{"type":"BOOKMARK","object":' + self._head + item[1:] + b"}\n"
