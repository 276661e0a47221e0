"""The served resources as data: groups, versions, kinds, scopes, subresources and fields that can be selected by."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of the API, such as pods."""

    group: str
    """API group; empty: the core group."""
    version: str
    name: str
    """Plural name, as in paths."""
    kind: str
    singular: str
    namespaced: bool
    subresources: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    """Short names for kubectl."""
    fields: tuple[str, ...] = field(default=())
    """Fields for field selectors, beside metadata.name and metadata.namespace."""
    durable: bool = True
    """Whether objects are journalled, versioned and watched; metrics are not."""

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects: `v1` or `group/version`."""
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
        subresources=("status", "binding", "eviction", "resize", "log"),
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
    Resource(group="", version="v1", name="secrets", kind="Secret", singular="secret", namespaced=True, fields=("type",)),
    Resource(
        group="", version="v1", name="limitranges", kind="LimitRange", singular="limitrange", namespaced=True, short=("limits",)
    ),
    Resource(
        group="",
        version="v1",
        name="resourcequotas",
        kind="ResourceQuota",
        singular="resourcequota",
        namespaced=True,
        short=("quota",),
        subresources=("status",),
    ),
    Resource(
        group="scheduling.k8s.io",
        version="v1",
        name="priorityclasses",
        kind="PriorityClass",
        singular="priorityclass",
        namespaced=False,
        short=("pc",),
    ),
    Resource(
        group="",
        version="v1",
        name="serviceaccounts",
        kind="ServiceAccount",
        singular="serviceaccount",
        namespaced=True,
        short=("sa",),
        subresources=("token",),
    ),
    *(
        Resource(
            group="rbac.authorization.k8s.io",
            version="v1",
            name=f"{kind.lower()}s",
            kind=kind,
            singular=kind.lower(),
            namespaced=not kind.startswith("Cluster"),
        )
        for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    ),
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
"""By (group, version, plural name), as paths have them."""
GROUPS: dict[str, str] = {r.group: r.version for r in RESOURCES if r.group}
"""Version by API group; each group is served in one version."""


@functools.cache
def json_head(resource: Resource) -> bytes:
    """The first bytes of an object's JSON, with kind and apiVersion, up to where its stored JSON continues."""
    return orjson.dumps({"kind": resource.kind, "apiVersion": resource.api_version})[:-1] + b","
