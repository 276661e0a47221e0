"""The rules of pods: defaults, validation, QoS class, and which fields an update or a resize may change.

Sources: k8s.io/kubernetes pkg/apis/core/v1/defaults.go, pkg/apis/core/validation (ValidatePodUpdate, ValidatePodResize), KEP-1287,
and the recorded answers of a real server in tests/kube_conformance.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from decimal import Decimal
from typing import Any

from tango.domain.quantities import canonical, is_extended, parse_quantity
from tango.domain.resized_pods import RESIZED
from tango.emulation.api_server.failures import Causes, Refused, bad_request

Json = dict[str, Any]

_LABEL_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_UPDATE_WORDS = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
    "(allow it to be set to 1 if it was previously negative)"
)


def check_name(causes: Causes, name: str) -> None:
    """Add a cause unless `name` is an RFC 1123 subdomain of at most 253 characters."""
    if len(name) > 253:
        causes.invalid("metadata.name", name, "must be no more than 253 bytes")
    elif not _SUBDOMAIN.fullmatch(name):
        causes.invalid("metadata.name", name, _SUBDOMAIN_WORDS)


def canonical_resources(item: Json) -> None:
    """Rewrite every quantity of a pod's containers, in place, to its canonical form. Raises: Refused 400 for a malformed quantity."""
    for container in containers_of(item.get("spec") or {}):
        resources = container.get("resources") or {}
        for part in ("requests", "limits"):
            held = resources.get(part)
            if held:
                resources[part] = canonical_quantities(held)


def canonical_quantities(held: Json) -> Json:
    """The quantities of a map in canonical form, as kube-apiserver returns them. Raises: Refused 400 for a malformed one."""
    try:
        return {name: canonical(value) for name, value in held.items()}
    except ValueError as error:
        raise bad_request(
            'Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '
            f"'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$' ({error})"
        ) from error


def set_defaults(spec: Json) -> None:
    """Set the defaults of a pod's spec, in place; the caller must own it and its containers."""
    for field, value in (
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", 30),
        ("dnsPolicy", "ClusterFirst"),
        ("securityContext", {}),
        ("schedulerName", "default-scheduler"),
        ("enableServiceLinks", True),
    ):
        spec.setdefault(field, copy.copy(value))
    # What the admission plugin DefaultTolerationSeconds adds.
    tolerations = list(spec.get("tolerations") or [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(_speaks_of(t, key) for t in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    spec["tolerations"] = tolerations
    for container in containers_of(spec):
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        # An image without a tag, or with `latest`, may change under its name and is always pulled.
        image = container.get("image") or ""
        tag = image.rsplit("/", 1)[-1].partition("@")[0].partition(":")[2]
        container.setdefault("imagePullPolicy", "Always" if tag in ("", "latest") and "@" not in image else "IfNotPresent")
        for port in container.get("ports") or []:
            port.setdefault("protocol", "TCP")
        probe = container.get("readinessProbe")
        if probe is not None:
            for field, number in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
                probe.setdefault(field, number)
            if "httpGet" in probe:
                probe["httpGet"].setdefault("scheme", "HTTP")
        # As in Kubernetes: who gives a limit and no request means the request to be as large.
        limits = container["resources"].get("limits") or {}
        if limits:
            requests = container["resources"].setdefault("requests", {})
            for name, value in limits.items():
                requests.setdefault(name, value)


def set_first_status(pod: Json) -> None:
    """Give a new pod its status, in place of what it came with."""
    spec = pod["spec"]
    status: Json = {"phase": "Pending", "qosClass": qos_class(spec)}
    if spec.get("schedulingGates"):
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": None,
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }
        ]
    pod["status"] = status


def qos_class(spec: Json) -> str:
    """The QoS class of a pod's spec: BestEffort, Burstable or Guaranteed, by CPU and memory of all its containers.

    Source: Kubernetes documentation, "Pod Quality of Service Classes".
    """
    any_set, guaranteed = False, True
    for container in containers_of(spec):
        resources = container.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        for name in RESIZED:
            request, limit = requests.get(name), limits.get(name)
            held = [v for v in (request, limit) if v is not None and parse_quantity(v) != 0]
            any_set = any_set or bool(held)
            if (
                limit is None
                or parse_quantity(limit) == 0
                or (request is not None and parse_quantity(request) != parse_quantity(limit))
            ):
                guaranteed = False
    return "BestEffort" if not any_set else "Guaranteed" if guaranteed else "Burstable"


def validate_new(pod: Json) -> None:
    """Validate a new pod. Raises: Refused 422 with the causes that kube-apiserver gives."""
    name, spec = pod["metadata"].get("name", ""), pod["spec"]
    causes = Causes("Pod", name)
    check_name(causes, name)
    containers = spec.get("containers") or []
    if not containers:
        causes.required("spec.containers")
    seen: set[str] = set()
    for k, container in enumerate(containers):
        at = f"spec.containers[{k}]"
        own = container.get("name") or ""
        if not own:
            causes.required(f"{at}.name")
        elif not _LABEL_NAME.fullmatch(own) or len(own) > 63:
            causes.invalid(
                f"{at}.name", own, "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"
            )
        elif own in seen:
            causes.add("FieldValueDuplicate", f'Duplicate value: "{own}"', f"{at}.name")
        seen.add(own)
        if not container.get("image"):
            causes.required(f"{at}.image")
        _check_resources(causes, at, container)
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        causes.add(
            "FieldValueNotSupported",
            f'Unsupported value: "{spec.get("restartPolicy")}": supported values: "Always", "OnFailure", "Never"',
            "spec.restartPolicy",
        )
    causes.raise_if_any()


def validate_update(old: Json, new: Json) -> None:
    """Validate a plain update: images, deadlines, tolerations and the removal of scheduling gates are allowed. Raises: Refused 422."""
    causes = Causes("Pod", old["metadata"]["name"])
    before, after = old["spec"], new["spec"]
    gates = {g["name"] for g in before.get("schedulingGates") or []}
    for gate in after.get("schedulingGates") or []:
        if gate["name"] not in gates:
            causes.forbidden("spec.schedulingGates", f"only deletion is allowed, but found new scheduling gate '{gate['name']}'")
    kept = [_without_seconds(t) for t in after.get("tolerations") or []]
    if any(_without_seconds(t) not in kept for t in before.get("tolerations") or []):
        causes.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
    if _fixed(before) != _fixed(after):
        causes.forbidden("spec", _UPDATE_WORDS)
    causes.raise_if_any()


def _without_seconds(toleration: Json) -> Json:
    return {k: v for k, v in toleration.items() if k != "tolerationSeconds"}


def _speaks_of(toleration: Json, key: str) -> bool:
    """Whether a toleration speaks of a taint of this key that ends pods; one without a key speaks of all."""
    return toleration.get("key") in (key, None, "") and toleration.get("effect") in ("NoExecute", None, "")


def resized(old: Json, patched: Json, allocatable: Json | None) -> Json:
    """The spec of a pod after `pods/resize`: that of `old` with the resources of the containers in `patched`.

    `allocatable` is that of the pod's node, None if it has none. Raises: Refused 422 for an invalid resize, such as one that changes the
    QoS class; 403 for one that the node can never hold.
    """
    name = old["metadata"]["name"]
    causes = Causes("Pod", name)
    wanted = {c.get("name"): c for c in patched["spec"].get("containers") or []}
    containers = old["spec"]["containers"]
    if set(wanted) != {c["name"] for c in containers}:
        causes.forbidden("spec.containers", "containers may not be renamed, added or removed on resize")
        causes.raise_if_any()
    spec = {**old["spec"], "containers": [{**c, "resources": wanted[c["name"]].get("resources") or {}} for c in containers]}
    for k, (before, after) in enumerate(zip(containers, spec["containers"], strict=True)):
        at = f"spec.containers[{k}]"
        _check_resources(causes, at, after)
        for part, word in (("limits", "limits"), ("requests", "requests")):
            was, now = (before["resources"].get(part) or {}), (after["resources"].get(part) or {})
            if any(n in was and n not in now for n in RESIZED):
                causes.forbidden(f"{at}.resources.{part}", f"resource {word} cannot be removed")
    causes.raise_if_any()
    if any(_others(b) != _others(a) for b, a in zip(containers, spec["containers"], strict=True)):
        causes.forbidden("spec", "only cpu and memory resources are mutable")
    was = old["status"].get("qosClass") or qos_class(old["spec"])
    if qos_class(spec) != was:
        causes.invalid("spec", was, "Pod QOS Class may not change as a result of resizing")
    for status in old["status"].get("containerStatuses") or []:
        if "running" in (status.get("state") or {}) and status.get("resources") is None:
            causes.forbidden("spec", "Pod running on node without support for resize")
    causes.raise_if_any()
    _check_allocatable(name, spec, allocatable)
    return spec


def _check_allocatable(name: str, spec: Json, allocatable: Json | None) -> None:
    for resource in RESIZED:
        if not allocatable or resource not in allocatable:
            continue
        scale = 1000 if resource == "cpu" else 1
        asked = sum(parse_quantity(((c.get("resources") or {}).get("requests") or {}).get(resource, 0)) for c in spec["containers"])
        if asked > parse_quantity(allocatable[resource]):
            raise Refused(
                403,
                "Forbidden",
                f'pods "{name}" is forbidden: node didn\'t have enough allocatable resources: {resource}, '
                f"requested: {int(asked * scale)}, allocatable: {int(parse_quantity(allocatable[resource]) * scale)}",
                details={
                    "name": name,
                    "kind": "pods",
                    "causes": [{"reason": "NodeCapacity", "message": "node didn't have enough allocatable resources"}],
                },
            )


def _check_resources(causes: Causes, at: str, container: Json) -> None:
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for part, held in (("limits", limits), ("requests", requests)):
        for name, value in held.items():
            if parse_quantity(value) < 0:
                causes.invalid(f"{at}.resources.{part}[{name}]", value, "must be greater than or equal to 0")
            elif is_extended(name) and parse_quantity(value) % 1:
                causes.invalid(f"{at}.resources.{part}", value, "must be an integer")
    for name, value in requests.items():
        if is_extended(name) and name not in limits:
            causes.required(f"{at}.resources.limits", "Limit must be set for non overcommitable resources")
        elif is_extended(name) and parse_quantity(value) != parse_quantity(limits[name]):
            causes.invalid(f"{at}.resources.requests", value, f"must be equal to {name} limit of {limits[name]}")
        elif name in limits and parse_quantity(value) > parse_quantity(limits[name]):
            causes.invalid(f"{at}.resources.requests", value, f"must be less than or equal to {name} limit of {limits[name]}")


def containers_of(spec: Json) -> list[Json]:
    """All containers of a pod's spec, init containers first."""
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def pod_totals(spec: Json, part: str) -> dict[str, Decimal]:
    """What a pod needs at most at one time, by resource; `part` is `requests` or `limits`.

    Init containers run one after the other and before all others, sidecars among them beside what follows.
    Source: Kubernetes documentation, "Init Containers", "Resource sharing within containers"; `overhead` counts as in "Pod Overhead".
    """

    def held(container: Json) -> dict[str, Decimal]:
        return {n: parse_quantity(v) for n, v in ((container.get("resources") or {}).get(part) or {}).items()}

    beside: Counter[str] = Counter()
    most: dict[str, Decimal] = {}
    for container in spec.get("initContainers") or []:
        if container.get("restartPolicy") == "Always":
            beside.update(held(container))
            alone: Counter[str] = Counter(beside)
        else:
            alone = Counter(beside)
            alone.update(held(container))
        for name, amount in alone.items():
            most[name] = max(most.get(name, Decimal(0)), Decimal(amount))
    for container in spec.get("containers") or []:
        beside.update(held(container))
    for name, amount in beside.items():
        most[name] = max(most.get(name, Decimal(0)), Decimal(amount))
    for name, value in (spec.get("overhead") or {}).items():
        if part == "requests" or name in most:
            most[name] = most.get(name, Decimal(0)) + parse_quantity(value)
    return most


def _others(container: Json) -> Json:
    resources = container.get("resources") or {}
    return {part: {n: v for n, v in (resources.get(part) or {}).items() if n not in RESIZED} for part in ("requests", "limits")}


def _fixed(spec: Json) -> Json:
    """The part of a spec that a plain update must not change."""
    free = (
        "activeDeadlineSeconds",
        "terminationGracePeriodSeconds",
        "tolerations",
        "schedulingGates",
        "containers",
        "initContainers",
    )
    fixed = {k: v for k, v in spec.items() if k not in free}
    for part in ("containers", "initContainers"):
        fixed[part] = [{k: v for k, v in c.items() if k != "image"} for c in spec.get(part) or []]
    return fixed
