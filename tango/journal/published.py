"""A published fleet as bytes and back: its arrays in NumPy's archive, names, services and instances as JSON in it. No pickle."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import orjson

from tango.domain.observations import ExtendedState, InstanceState, NodeState
from tango.domain.resource_axis import ResourceAxis
from tango.domain.services import service_of, spec_of
from tango.domain.shares import PublishedFleet
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import restored

_NAMES = ("clusters", "nodes", "services", "resources", "at_s")
_ARRAYS = tuple(f.name for f in dataclasses.fields(FleetSnapshot) if f.name not in _NAMES)


def dumped(fleet: PublishedFleet) -> bytes:
    """The fleet as bytes."""
    snapshot = fleet.snapshot
    names = {
        "clusters": snapshot.clusters,
        "nodes": snapshot.nodes,
        "services": [spec_of(service) for service in snapshot.services],
        "resources": snapshot.resources.names,
        "at_s": snapshot.at_s,
        "instances": fleet.instances,
    }
    arrays = {name: getattr(snapshot, name) for name in _ARRAYS if getattr(snapshot, name) is not None}
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, names=np.frombuffer(orjson.dumps(names), np.uint8), **arrays)
    return content.getvalue()


def loaded(content: bytes) -> PublishedFleet:
    """What `dumped` was given."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        names = orjson.loads(archive["names"].tobytes())
        arrays = {name: archive[name] for name in _ARRAYS if name in archive}
    snapshot = restored(
        arrays
        | {
            "at_s": names["at_s"],
            "clusters": tuple(names["clusters"]),
            "nodes": tuple(names["nodes"]),
            "services": tuple(service_of(spec) for spec in names["services"]),
            "resources": ResourceAxis(tuple(names["resources"])),
        }
    )
    return PublishedFleet(snapshot=snapshot, instances=tuple((cluster, InstanceState(**of)) for cluster, of in names["instances"]))


def dumped_own(nodes: tuple[NodeState, ...], instances: tuple[InstanceState, ...]) -> bytes:
    """A cluster's own nodes and instances as bytes."""
    return orjson.dumps({"nodes": nodes, "instances": instances})


def loaded_own(content: bytes) -> tuple[tuple[NodeState, ...], tuple[InstanceState, ...]]:
    """What `dumped_own` was given."""
    found = orjson.loads(content)
    nodes = tuple(
        NodeState(**{**of, "extended": {name: ExtendedState(**amounts) for name, amounts in of["extended"].items()}})
        for of in found["nodes"]
    )
    return nodes, tuple(InstanceState(**of) for of in found["instances"])
