"""What is served: groups, resources, their kinds, scopes and selectable fields, as data."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One collection."""

    group: str
    version: str
    name: str
    kind: str
    singular: str
    namespaced: bool
    subresources: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    fields: tuple[str, ...] = field(default=())
    """Field selectors beyond metadata.name and metadata.namespace."""
    durable: bool = True
    """False: lives in memory, has no history (metrics)."""

    @property
    def api_version(self) -> str:
        """`v1` or `group/version`."""
        return f"{self.group}/{self.version}" if self.group else self.version


RESOURCES = (
    Resource(
        group="",
        version="v1",
        name="namespaces",
        kind="Namespace",
        singular="namespace",
        namespaced=False,
        short=("ns",),
        subresources=("status",),
    ),
    Resource(
        group="",
        version="v1",
        name="nodes",
        kind="Node",
        singular="node",
        namespaced=False,
        short=("no",),
        subresources=("status",),
        fields=("spec.unschedulable",),
    ),
    Resource(
        group="",
        version="v1",
        name="pods",
        kind="Pod",
        singular="pod",
        namespaced=True,
        short=("po",),
        subresources=("status", "binding", "eviction", "resize"),
        fields=(
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ),
    ),
    Resource(
        group="",
        version="v1",
        name="events",
        kind="Event",
        singular="event",
        namespaced=True,
        short=("ev",),
        fields=("involvedObject.kind", "involvedObject.name", "involvedObject.namespace", "involvedObject.uid", "reason", "type"),
    ),
    Resource(group="", version="v1", name="services", kind="Service", singular="service", namespaced=True, short=("svc",)),
    Resource(group="", version="v1", name="configmaps", kind="ConfigMap", singular="configmap", namespaced=True, short=("cm",)),
    Resource(group="coordination.k8s.io", version="v1", name="leases", kind="Lease", singular="lease", namespaced=True),
    Resource(
        group="policy",
        version="v1",
        name="poddisruptionbudgets",
        kind="PodDisruptionBudget",
        singular="poddisruptionbudget",
        namespaced=True,
        short=("pdb",),
        subresources=("status",),
    ),
    Resource(
        group="metrics.k8s.io", version="v1beta1", name="nodes", kind="NodeMetrics", singular="", namespaced=False, durable=False
    ),
    Resource(
        group="metrics.k8s.io", version="v1beta1", name="pods", kind="PodMetrics", singular="", namespaced=True, durable=False
    ),
)

BY_PLACE = {(r.group, r.version, r.name): r for r in RESOURCES}
GROUPS: dict[str, str] = {r.group: r.version for r in RESOURCES if r.group}


@functools.cache
def json_head(resource: Resource) -> bytes:
    """The beginning of an object's JSON: kind and apiVersion."""
    return orjson.dumps({"kind": resource.kind, "apiVersion": resource.api_version})[:-1] + b","
