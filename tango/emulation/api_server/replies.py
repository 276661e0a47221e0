"""Success responses of verbs: a status and a body that is serialised already."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from tango.emulation.api_server.resources import Resource, json_head
from tango.emulation.api_server.storage import Stored


@dataclass(frozen=True, slots=True)
class Reply:
    """A response with a JSON body."""

    body: bytes
    status: int = 200
    warnings: tuple[str, ...] = ()
    """For the caller's eyes, by the header `Warning`."""


def whole(resource: Resource, stored: Stored, status: int = 200) -> Reply:
    """The response for one object; kind and apiVersion, which `storage` leaves out, are put before its stored JSON."""
    return Reply(json_head(resource) + stored.payload[1:], status)


def listed(resource: Resource, metadata: dict[str, object], found: list[Stored]) -> Reply:
    """The response for a list; its items have no kind and apiVersion, as in Kubernetes."""
    head = orjson.dumps({"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata})
    return Reply(head[:-1] + b',"items":[' + b",".join(s.payload for s in found) + b"]}")
