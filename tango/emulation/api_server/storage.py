"""Objects with versions, and their history for watches.

Objects are treated as values: a write makes a new one that shares what did not change. Each is serialised once, without `kind` and
`apiVersion` (lists leave them out, single answers put them in front), and the bytes go to the journal, to answers and to all watchers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from tango.emulation.api_server.journal import Journal, line
from tango.emulation.api_server.resources import RESOURCES, Resource

Json = dict[str, Any]
Key = tuple[str, str]
"""(namespace, name); namespace empty for cluster-wide objects."""

FIRST_VERSION = 1000
"""Where versions begin, so that 1 is always too old, as on a server that has lived."""


RESTART_GAP = 10_000
"""How far versions jump at a start: more than can be written between two syncs."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of one object."""

    item: Json
    version: int
    payload: bytes
    """JSON without kind and apiVersion."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write: `before` is None for a create; `gone` marks a delete, whose `after` is the last state."""

    version: int
    key: Key
    before: Stored | None
    after: Stored
    gone: bool


class Collection:
    """All objects of one resource."""

    def __init__(self, resource: Resource, history: int) -> None:
        self.resource = resource
        self.objects: dict[Key, Stored] = {}
        self.changes: deque[Change] = deque(maxlen=history)
        self.oldest = FIRST_VERSION
        """Watches may begin at this version or later."""
        self.listeners: set[Callable[[Change], None]] = set()

    @property
    def place(self) -> str:
        """Its name in the journal."""
        return f"{self.resource.group}/{self.resource.name}"

    def in_order(self, namespace: str | None) -> Iterator[Stored]:
        """Objects by (namespace, name)."""
        for key in sorted(k for k in self.objects if namespace is None or k[0] == namespace):
            yield self.objects[key]


class Storage:
    """All collections, one version counter, one journal."""

    def __init__(self, journal: Journal, *, history: int) -> None:
        self.version = FIRST_VERSION
        self.collections = {f"{r.group}/{r.name}": Collection(r, history) for r in RESOURCES}
        self._journal = journal
        self._recover()

    def of(self, resource: Resource) -> Collection:
        """The collection of a resource."""
        return self.collections[f"{resource.group}/{resource.name}"]

    def put(self, collection: Collection, key: Key, item: Json) -> Stored:
        """Store a new version of an object; `item["metadata"]` must belong to the caller. Raises: OSError, and nothing is stored.

        What is not durable (metrics) does not move the version: after a restart nothing would remember it, and a version that
        a client has seen must never be given again.
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
            self._tell(collection, Change(version, key, before, stored, gone=False))
        return stored

    def remove(self, collection: Collection, key: Key) -> Stored:
        """Delete an object; gives its last state under the delete's version. Raises: OSError, and the object stays."""
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
            self._tell(collection, Change(version, key, before, last, gone=True))
        return last

    def compact(self) -> None:
        """Write the journal anew."""
        self._journal.rewrite(self._lines())

    def _tell(self, collection: Collection, change: Change) -> None:
        if len(collection.changes) == collection.changes.maxlen:
            collection.oldest = collection.changes[0].version
        collection.changes.append(change)
        for listener in tuple(collection.listeners):
            listener(change)

    def _lines(self) -> Iterator[bytes]:
        # The counter itself first: deletes leave no object behind that would carry it.
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
        # History is not kept over a restart: every older watch is told to list again. The gap is for a loss of power, which may
        # take the last unsynced writes: their versions, which clients have seen, are not given again.
        self.version += RESTART_GAP
        for collection in self.collections.values():
            collection.oldest = self.version
        self.compact()
