"""Storage of objects with resource versions, and the history of changes that watches resume from.

Objects are immutable values: a write makes a new one that shares the unchanged parts. Each version is serialised once, without `kind` and
`apiVersion` (list items have none, single responses put them in front), and the same bytes go to the journal, to responses and to all
watchers. A write goes to the journal first and is announced second, so nobody sees what a crash could take back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from tango.emulation.api_server.journal import ObjectLog, line
from tango.emulation.api_server.resources import RESOURCES, Resource

Json = dict[str, Any]
Key = tuple[str, str]
"""(namespace, name); the namespace is empty for objects of cluster scope."""

FIRST_VERSION = 1000
"""First resource version, so that a watch from version 1 is too old, as on a server that has run for a while."""


RESTART_GAP = 10_000
"""Jump of the resource version at a start. A power cut may take unsynced writes whose versions clients have seen, and a version must
never be given twice; fewer than 10,000 writes fit between two syncs, 50 ms apart."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of one object."""

    item: Json
    version: int
    payload: bytes
    """The item as JSON, without kind and apiVersion."""


@dataclass(frozen=True, slots=True)
class StoredChange:
    """One write. `before` is None for a create; for a delete `gone` is set and `after` is the last state, with the delete's version."""

    version: int
    key: Key
    before: Stored | None
    after: Stored
    gone: bool


class Collection:
    """The objects of one resource, their latest changes, and the listeners of their watches."""

    def __init__(self, resource: Resource, history: int) -> None:
        self.resource = resource
        self.objects: dict[Key, Stored] = {}
        self.changes: deque[StoredChange] = deque(maxlen=history)
        self.oldest = FIRST_VERSION
        """Oldest version in `changes`; a watch may resume from one before it or later."""
        self.listeners: set[Callable[[StoredChange], None]] = set()

    @property
    def place(self) -> str:
        """The collection's key in the journal, `group/name`."""
        return f"{self.resource.group}/{self.resource.name}"

    def in_order(self, namespace: str | None) -> Iterator[Stored]:
        """The objects of one namespace, or of all (None), sorted by (namespace, name)."""
        for key in sorted(k for k in self.objects if namespace is None or k[0] == namespace):
            yield self.objects[key]


class Storage:
    """All collections, with one counter of resource versions and one journal. Reads the journal when it is created."""

    def __init__(self, journal: ObjectLog, *, history: int) -> None:
        self.version = FIRST_VERSION
        self.collections = {f"{r.group}/{r.name}": Collection(r, history) for r in RESOURCES}
        self._journal = journal
        self._untold: deque[tuple[Collection, StoredChange]] = deque()
        self._telling = False
        self._recover()

    def of(self, resource: Resource) -> Collection:
        """The collection of a resource."""
        return self.collections[f"{resource.group}/{resource.name}"]

    def put(self, collection: Collection, key: Key, item: Json) -> Stored:
        """Store a new version of an object; the caller must own `item["metadata"]`. Raises: OSError; nothing is then stored.

        Objects that are not durable (metrics) do not advance the version: after a restart nothing would remember it, and a version
        that a client has seen must never be given twice.
        """
        durable = collection.resource.durable
        version = self.version + 1 if durable else self.version
        item["metadata"]["resourceVersion"] = str(version)
        stored = Stored(item, version, orjson.dumps(item))
        before = collection.objects.get(key)
        if durable:
            self._journal.append(line(version, collection.place, *key, stored.payload))
        self.version = version
        collection.objects[key] = stored
        if durable:
            self._tell(collection, StoredChange(version, key, before, stored, gone=False))
        return stored

    def remove(self, collection: Collection, key: Key) -> Stored:
        """Delete an object and return its last state, with the delete's version. Raises: OSError; the object then stays."""
        before = collection.objects[key]
        durable = collection.resource.durable
        version = self.version + 1 if durable else self.version
        item = {**before.item, "metadata": {**before.item["metadata"], "resourceVersion": str(version)}}
        last = Stored(item, version, orjson.dumps(item))
        if durable:
            self._journal.append(line(version, collection.place, *key, None))
        self.version = version
        del collection.objects[key]
        if durable:
            self._tell(collection, StoredChange(version, key, before, last, gone=True))
        return last

    def forget_history(self) -> None:
        """Keep no change from before now, as etcd does when it is compacted: who asks for an older version gets 410."""
        for collection in self.collections.values():
            collection.changes.clear()
            collection.oldest = self.version + 1

    def compact(self) -> None:
        """Rewrite the journal with the current objects only. Raises: OSError; the old journal then stays in use."""
        self._journal.rewrite(self._lines())

    def _tell(self, collection: Collection, change: StoredChange) -> None:
        if len(collection.changes) == collection.changes.maxlen:
            collection.oldest = collection.changes[0].version
        collection.changes.append(change)
        # A listener may write in turn (quotas, taints): all listeners hear of its change after the one that it follows from.
        self._untold.append((collection, change))
        if self._telling:
            return
        self._telling = True
        try:
            while self._untold:
                told, next_change = self._untold.popleft()
                for listener in tuple(told.listeners):  # a copy, since a watch that ends removes its listener
                    listener(next_change)
        finally:
            self._telling = False

    def _lines(self) -> Iterator[bytes]:
        # The version counter comes first: after a delete no object carries the highest version.
        yield line(self.version, "", "", "", None)
        for collection in self.collections.values():
            if collection.resource.durable:
                for key, stored in collection.objects.items():
                    yield line(stored.version, collection.place, *key, stored.payload)

    def _recover(self) -> None:
        for version, place, namespace, name, item in self._journal.read():
            self.version = max(self.version, version)
            collection = self.collections.get(place)
            if collection is None:
                continue
            if item is None:
                collection.objects.pop((namespace, name), None)
            else:
                collection.objects[namespace, name] = Stored(item, version, orjson.dumps(item))
        # The history of changes is not kept over a restart: older watches get 410 and list again.
        self.version += RESTART_GAP
        for collection in self.collections.values():
            collection.oldest = self.version
        self.compact()
