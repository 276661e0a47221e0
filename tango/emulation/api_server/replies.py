"""What a verb answers: a status and a ready body."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from tango.emulation.api_server.resources import Resource, json_head
from tango.emulation.api_server.storage import Stored


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in JSON."""

    body: bytes
    status: int = 200


def whole(resource: Resource, stored: Stored, status: int = 200) -> Reply:
    """One object with its kind."""
    return Reply(json_head(resource) + stored.payload[1:], status)


def listed(resource: Resource, metadata: dict[str, object], found: list[Stored]) -> Reply:
    """A list, whose items leave kind and apiVersion out."""
    head = orjson.dumps({"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata})
    return Reply(head[:-1] + b',"items":[' + b",".join(s.payload for s in found) + b"]}")
