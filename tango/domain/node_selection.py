"""Which nodes a pod may run on: operating system, nodeSelector, required node affinity, and taints that it does not tolerate.

The decisions know it, of services with a template, as a resource that pods of the service ask one of and that a node either has in plenty
or not at all (`tango.domain.resource_axis`), so every policy keeps to it, learned ones and those of others too. Of all services it bars
nodes from new pods, as a cordon does (`FleetSnapshot.barred`).

Source: kubernetes, component-helpers/scheduling/corev1/nodeaffinity and helpers.go (FindMatchingUntoleratedTaint).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tango.domain.services import Service

Json = Mapping[str, Any]

KEEPS_OFF = ("NoSchedule", "NoExecute")
"""Effects of taints that keep a pod off a node; PreferNoSchedule is a wish."""
PASSING = frozenset(
    f"node.kubernetes.io/{name}"
    for name in (
        "not-ready",
        "unreachable",
        "unschedulable",
        "memory-pressure",
        "disk-pressure",
        "pid-pressure",
        "network-unavailable",
    )
)
"""Taints that tell a node's present state: whether it is ready is looked at apart, and instances outlive a short absence."""
OS = "kubernetes.io/os"
"""Label of every node of a real cluster: what does not say otherwise is made for Linux."""
ALWAYS_TOLERATED = "virtual-kubelet.io/provider"
"""Key of the taint of virtual nodes, which every pod of Tango tolerates."""


def may_run(service: Service, node: Json) -> bool:
    """Whether a node, as the API has it, may have pods of a service; those of the synthetic workload tolerate virtual nodes alone."""
    template = service.pod_template
    spec: Json = {} if template is None else template.spec
    metadata = node["metadata"]
    labels = metadata.get("labels") or {}
    wanted_os = (spec.get("os") or {}).get("name") or (spec.get("nodeSelector") or {}).get(OS, "linux")
    if labels.get(OS, wanted_os) != wanted_os:
        return False
    if not selects(spec, labels, metadata["name"]):
        return False
    tolerations = spec.get("tolerations") or []
    taints = (node.get("spec") or {}).get("taints") or []
    return all(_is_tolerated(taint, tolerations) for taint in taints)


def selects(spec: Json, labels: Mapping[str, str], name: str) -> bool:
    """Whether a pod's spec selects a node by its nodeSelector and its required node affinity."""
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    return not affinity or any(_holds(term, labels, name) for term in affinity.get("nodeSelectorTerms") or [])


def _holds(term: Json, labels: Mapping[str, str], name: str) -> bool:
    """All expressions of a term; one without any matches nothing, as in Kubernetes."""
    by_label, by_field = term.get("matchExpressions") or [], term.get("matchFields") or []
    fields = {"metadata.name": name}
    return bool(by_label or by_field) and all(_matches(e, labels) for e in by_label) and all(_matches(e, fields) for e in by_field)


def _matches(expression: Json, found: Mapping[str, str]) -> bool:
    key, operator, values = expression.get("key", ""), expression.get("operator"), expression.get("values") or []
    value = found.get(key)
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if operator in ("Gt", "Lt") and value is not None and len(values) == 1:
        try:
            return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
        except ValueError:
            return False
    return False


def _is_tolerated(taint: Json, tolerations: Iterable[Json]) -> bool:
    if taint.get("effect") not in KEEPS_OFF or taint["key"] in PASSING or taint["key"] == ALWAYS_TOLERATED:
        return True
    return any(tolerates(toleration, taint) for toleration in tolerations)


def tolerates(toleration: Json, taint: Json) -> bool:
    """Whether a toleration speaks of a taint: same key, or none; same effect, or none; same value, or `Exists`."""
    key = toleration.get("key", "")
    if key not in ("", taint["key"]) or toleration.get("effect", "") not in ("", taint.get("effect", "")):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(key) and toleration.get("value", "") == taint.get("value", "")
