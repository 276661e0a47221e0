"""What a pod that is resized in place requests of its node: the most of what is asked for, allocated and in effect.

Source: kubernetes, staging/src/k8s.io/component-helpers/resource/helpers.go, `determineContainerReqs`; KEP-1287.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tango.domain.quantities import parse_quantity

Json = Mapping[str, Any]

RESIZED = ("cpu", "memory")
"""All that can be resized."""


def as_counted(pod: Json) -> Json:
    """The pod with the requests that count of each of its containers, and of itself as a whole; the same object where none is resized.

    A resize that can never be carried out counts for nothing: the pod stays as it is.
    """
    status, spec = pod.get("status") or {}, pod["spec"]
    is_infeasible = any(
        c.get("type") == "PodResizePending" and c.get("reason") == "Infeasible" for c in status.get("conditions") or []
    )
    changed: dict[str, Any] = {}
    for listed, reported in (("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")):
        known = {s.get("name"): s for s in status.get(reported) or []}
        before = spec.get(listed) or []
        after = [_counted(container, known.get(container.get("name")) or {}, is_infeasible) for container in before]
        if any(a is not b for a, b in zip(after, before, strict=True)):
            changed[listed] = after
    if spec.get("resources"):
        whole = {"resources": spec["resources"]}
        of_pod = {"allocatedResources": status.get("allocatedResources"), "resources": status.get("resources")}
        counted = _counted(whole, of_pod, is_infeasible)
        if counted is not whole:
            changed["resources"] = counted["resources"]
    return {**pod, "spec": {**spec, **changed}} if changed else pod


def _counted(container: Json, status: Json, is_infeasible: bool) -> Json:
    resources = container.get("resources") or {}
    requests = resources.get("requests") or {}
    told = [(status.get("resources") or {}).get("requests") or {}, status.get("allocatedResources") or {}]
    changed = {}
    for name in RESIZED:
        known = [of[name] for of in told if name in of]
        asked = [requests[name]] if name in requests else []
        most = max([*known, *([] if is_infeasible and known else asked)], key=parse_quantity, default=None)
        if most is not None and (not asked or parse_quantity(most) != parse_quantity(asked[0])):
            changed[name] = most
    if not changed:
        return container
    return {**container, "resources": {**resources, "requests": {**requests, **changed}}}
