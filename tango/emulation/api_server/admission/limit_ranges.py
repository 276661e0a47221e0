"""LimitRange: defaults, bounds and ratios of the resources of containers and pods in a namespace.

Sources: Kubernetes documentation, "Limit Ranges"; kubernetes, plugin/pkg/admission/limitranger/admission.go, whose words these are, and
SetDefaults_LimitRangeItem of pkg/apis/core/v1/defaults.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tango.domain.quantities import parse_quantity
from tango.emulation.api_server.failures import Refused
from tango.emulation.api_server.pods import canonical_quantities, containers_of, pod_totals

Json = dict[str, Any]
MARK = "kubernetes.io/limit-ranger"
"""Annotation of a pod that tells what was filled in."""
PARTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def set_defaults(limit_range: Json) -> None:
    """Fill in what the items of a LimitRange leave open: the limit by the maximum, the request by limit or minimum.

    The caller must own the outermost mapping. Raises: Refused 400 for a malformed quantity.
    """
    spec, items = limit_range.get("spec") or {}, []
    for given in spec.get("limits") or []:
        item = {**given, **{part: canonical_quantities(given[part]) for part in PARTS if given.get(part)}}
        if item.get("type") == "Container":
            limits = {**(item.get("max") or {}), **(item.get("default") or {})}
            requests = {**(item.get("min") or {}), **limits, **(item.get("defaultRequest") or {})}
            # A minimum stands for the request only where nothing else does.
            item |= {part: held for part, held in (("default", limits), ("defaultRequest", requests)) if held}
        items.append(item)
    limit_range["spec"] = {**spec, "limits": items}


def fill_in(pod: Json, limit_ranges: list[Json]) -> None:
    """Give the containers of a new pod the limits and requests that they leave open, in place."""
    told = []
    for item in _items(limit_ranges, "Container"):
        for container in containers_of(pod["spec"]):
            resources = container.setdefault("resources", {})
            for part, source, word in (("requests", "defaultRequest", "request"), ("limits", "default", "limit")):
                held = resources.get(part) or {}
                missing = {name: value for name, value in (item.get(source) or {}).items() if name not in held}
                if missing:
                    resources[part] = {**held, **missing}
                    told.append(f"{', '.join(sorted(missing))} {word} for container {container.get('name')}")
    if told:
        annotations = pod["metadata"].get("annotations") or {}
        pod["metadata"]["annotations"] = {**annotations, MARK: f"LimitRanger plugin set: {'; '.join(told)}"}


def require(pod: Json, limit_ranges: list[Json]) -> None:
    """Look whether a pod keeps within all bounds. Raises: Refused 403."""
    wrong: list[str] = []
    for item in _items(limit_ranges, "Container"):
        for container in containers_of(pod["spec"]):
            resources = container.get("resources") or {}
            wrong += _beyond(item, "Container", resources.get("requests") or {}, resources.get("limits") or {})
    for item in _items(limit_ranges, "Pod"):
        totals = ({n: str(v) for n, v in pod_totals(pod["spec"], part).items()} for part in ("requests", "limits"))
        wrong += _beyond(item, "Pod", *totals)
    if wrong:
        name = pod["metadata"]["name"]
        words = wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]"
        raise Refused(403, "Forbidden", f'pods "{name}" is forbidden: {words}', details={"name": name, "kind": "pods"})


def _items(limit_ranges: list[Json], kind: str) -> Iterator[Json]:
    for found in limit_ranges:
        for item in (found.get("spec") or {}).get("limits") or []:
            if item.get("type") == kind:
                yield item


def _beyond(item: Json, kind: str, requests: Json, limits: Json) -> Iterator[str]:
    for name, bound in sorted((item.get("min") or {}).items()):
        least, start = parse_quantity(bound), f"minimum {name} usage per {kind} is {bound}"
        if name not in requests:
            yield f"{start}.  No request is specified"
        elif parse_quantity(requests[name]) < least:
            yield f"{start}, but request is {requests[name]}"
        elif name in limits and parse_quantity(limits[name]) < least:
            yield f"{start}, but limit is {limits[name]}"
    for name, bound in sorted((item.get("max") or {}).items()):
        most, start = parse_quantity(bound), f"maximum {name} usage per {kind} is {bound}"
        if name not in limits:
            yield f"{start}.  No limit is specified"
        elif parse_quantity(limits[name]) > most:
            yield f"{start}, but limit is {limits[name]}"
        elif name in requests and parse_quantity(requests[name]) > most:
            yield f"{start}, but request is {requests[name]}"
    for name, bound in sorted((item.get("maxLimitRequestRatio") or {}).items()):
        start = f"{name} max limit to request ratio per {kind} is {bound}, but"
        if not parse_quantity(requests.get(name, 0)):
            yield f"{start} no request is specified or request is 0"
        elif not parse_quantity(limits.get(name, 0)):
            yield f"{start} no limit is specified or limit is 0"
        elif (ratio := parse_quantity(limits[name]) / parse_quantity(requests[name])) > parse_quantity(bound):
            yield f"{start} provided ratio is {ratio:.6f}"
