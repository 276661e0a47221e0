"""PriorityClass: the priority of a pod follows from the class that it names, or from the cluster's default.

Sources: Kubernetes documentation, "Pod Priority and Preemption"; kubernetes, plugin/pkg/admission/priority/admission.go.
"""

from __future__ import annotations

from typing import Any

from tango.emulation.api_server.failures import Causes, Refused

Json = dict[str, Any]
PREEMPT, NEVER = "PreemptLowerPriority", "Never"
HIGHEST = 1_000_000_000
"""Highest value of a class that is not the system's."""
SYSTEM = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
"""Classes that every cluster has."""


def check(causes: Causes, priority_class: Json) -> None:
    """Add a cause for each part of a new class that is not valid."""
    name, value = priority_class["metadata"].get("name", ""), priority_class.get("value", 0)
    if SYSTEM.get(name) != value:
        if name.startswith("system-"):
            causes.forbidden("metadata.name", "priority class names with 'system-' prefix are reserved for system use only")
        if value > HIGHEST:
            causes.forbidden("value", f"maximum allowed value of a user defined priority is {HIGHEST}")
    check_policy(causes, priority_class.get("preemptionPolicy"))


def check_policy(causes: Causes, policy: Any) -> None:
    """Add a cause unless a preemption policy is one of the two."""
    if policy not in (None, PREEMPT, NEVER):
        words = f'Unsupported value: "{policy}": supported values: "{NEVER}", "{PREEMPT}"'
        causes.add("FieldValueNotSupported", words, "preemptionPolicy")


def check_update(causes: Causes, old: Json, new: Json) -> None:
    """Add a cause where an update changes what stays: a pod has its priority from the class as it was."""
    if new.get("value", 0) != old.get("value", 0):
        causes.forbidden("value", "may not be changed in an update.")
    if new.get("preemptionPolicy", PREEMPT) != old.get("preemptionPolicy", PREEMPT):
        causes.invalid("preemptionPolicy", str(new.get("preemptionPolicy")), "field is immutable")


def resolve(pod: Json, classes: list[Json]) -> None:
    """Give a new pod priority and preemption policy, in place. Raises: Refused 403 for a class that is not there, or other figures."""
    spec, name = pod["spec"], pod["metadata"].get("name", "")
    found: Json = {"value": 0}
    if asked := spec.get("priorityClassName"):
        match = next((c for c in classes if c["metadata"]["name"] == asked), None)
        if match is None:
            raise _forbidden(name, f"no PriorityClass with name {asked} was found")
        found = match
    elif default := [c for c in classes if c.get("globalDefault")]:
        # With several, as races of a real server can make them, the lowest counts.
        found = min(default, key=lambda c: int(c.get("value", 0)))
        spec["priorityClassName"] = found["metadata"]["name"]
    value, policy = found.get("value", 0), found.get("preemptionPolicy", PREEMPT)
    if spec.get("priority") is not None and spec["priority"] != value:
        raise _forbidden(
            name,
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; priority admission controller "
            f"computed {value} from the given PriorityClass name",
        )
    if spec.get("preemptionPolicy") is not None and spec["preemptionPolicy"] != policy:
        raise _forbidden(
            name,
            f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; priority admission "
            f"controller computed {policy} from the given PriorityClass name",
        )
    spec["priority"], spec["preemptionPolicy"] = value, policy


def keep(old: Json, new: Json) -> None:
    """Of an update of a pod that leaves priority and policy away: they stay as they are, in place."""
    if new.get("priorityClassName", "") == old.get("priorityClassName", ""):
        for field in ("priority", "preemptionPolicy"):
            if new.get(field) is None and field in old:
                new[field] = old[field]


def require_one_default(priority_class: Json, classes: list[Json]) -> None:
    """Look that there is no other default. Raises: Refused 403."""
    name = priority_class["metadata"]["name"]
    others = [c["metadata"]["name"] for c in classes if c.get("globalDefault") and c["metadata"]["name"] != name]
    if priority_class.get("globalDefault") and others:
        raise Refused(
            403,
            "Forbidden",
            f'priorityclasses.scheduling.k8s.io "{name}" is forbidden: PriorityClass {others[0]} is already marked as default. Only one '
            "default can exist",
            details={"name": name, "group": "scheduling.k8s.io", "kind": "priorityclasses"},
        )


def _forbidden(name: str, words: str) -> Refused:
    return Refused(403, "Forbidden", f'pods "{name}" is forbidden: {words}', details={"name": name, "kind": "pods"})
