"""A kubelet's admission: of pods by the node's state, and of pods and resizes by the node's allocated resources.

Sources: kubernetes, pkg/kubelet/lifecycle/predicate.go (resources, node affinity, NoExecute taints; NoSchedule ones and a cordon are
the scheduler's business alone) and pkg/kubelet/eviction/eviction_manager.go (pressure).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tango.domain.fleet import Node
from tango.domain.kubelet_ways import USUAL, KubeletWays
from tango.domain.node_selection import selects, tolerates
from tango.domain.quantities import is_extended
from tango.domain.resource_axis import THOUSANDTHS, lacks
from tango.emulation.virtual_kubelet.pod_spec import PodSize

Json = Mapping[str, Any]
MEMORY_PRESSURE = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}
CRITICAL = 2_000_000_000
"""Priority from which a pod is the system's own and is taken even under pressure."""
CONDITIONS = {"memory": "MemoryPressure", "disk": "DiskPressure", "pid": "PIDPressure"}


@dataclass(frozen=True, slots=True)
class KubeletState:
    """What a kubelet knows of its node beside its size: labels and taints of the Node object, and its own ways."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Json, ...] = ()
    ways: KubeletWays = USUAL


def pressed(pod: Json, node: KubeletState) -> tuple[str, str] | None:
    """(reason, message) with which a kubelet under pressure rejects a pod; None if it takes it."""
    spec = pod["spec"]
    if not node.ways.pressure or (spec.get("priority") or 0) >= CRITICAL:
        return None
    if node.ways.pressure == ("memory",):
        best_effort = (pod.get("status") or {}).get("qosClass") == "BestEffort"
        if not best_effort or any(tolerates(t, MEMORY_PRESSURE) for t in spec.get("tolerations") or []):
            return None
    held = " ".join(CONDITIONS[kind] for kind in node.ways.pressure)
    return "Evicted", f"The node had condition: [{held}]. "


def unsuited(pod: Json, node: KubeletState) -> tuple[str, str] | None:
    """(reason, message) with which a kubelet rejects a pod that its node is not for; None if it takes it."""
    spec = pod["spec"]
    if not selects(spec, node.labels, node.name):
        return "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    for taint in node.taints:
        if taint.get("effect") == "NoExecute" and not any(tolerates(t, taint) for t in spec.get("tolerations") or []):
            return "TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
    return None


class ResizeDecision(Enum):
    """The kubelet's decision on a resize; values are reasons of the condition PodResizePending (KEP-1287)."""

    FITS = "fits"
    DEFERRED = "Deferred"
    """The node could hold it, but other pods hold the resources now."""
    INFEASIBLE = "Infeasible"
    """Larger than the node."""


@dataclass(slots=True)
class Allocations:
    """The resource requests allocated on one node. Their sums are kept, so that a decision costs the same with one pod or a thousand."""

    node: Node
    sizes: dict[str, PodSize] = field(default_factory=dict)
    """By pod uid."""
    allocated: Counter[str] = field(default_factory=Counter)
    """By the name of a resource, in the units of `_asked`."""

    def put(self, uid: str, size: PodSize) -> None:
        """Allocate a pod's requests, in place of those that it had."""
        self.drop(uid)
        self.sizes[uid] = size
        self.allocated.update(_asked(size))

    def drop(self, uid: str) -> None:
        """Release a pod's requests, if it has any."""
        size = self.sizes.pop(uid, None)
        if size is not None:
            self.allocated.subtract(_asked(size))

    def refusal(self, size: PodSize) -> tuple[str, str] | None:
        """(reason, message) with which a kubelet rejects a new pod of this size, in the kubelet's words; None if the pod fits."""
        capacity = _capacity(self.node)
        for resource, asked in _asked(size).items():
            used, most = self.allocated[resource], capacity.get(resource, 0)
            if lacks(asked, most - used):
                told = (_as_told(resource, amount) for amount in (asked, used, most))
                numbers = ", ".join(
                    f"{word}: {amount}" for word, amount in zip(("requested", "used", "capacity"), told, strict=True)
                )
                return f"OutOf{resource}", f"Node didn't have enough resource: {resource}, {numbers}"
        return None

    def decide(self, uid: str, size: PodSize) -> tuple[ResizeDecision, str]:
        """The decision on resizing an admitted pod to `size`, and the message that explains a refusal. Raises: KeyError if unknown."""
        capacity, asked, held = _capacity(self.node), _asked(size), _asked(self.sizes[uid])
        if any(lacks(amount, capacity.get(resource, 0)) for resource, amount in asked.items()):
            return ResizeDecision.INFEASIBLE, "Node didn't have enough capacity"
        lacking = [
            resource
            for resource, amount in asked.items()
            if lacks(amount, capacity.get(resource, 0) - self.allocated[resource] + held.get(resource, 0))
        ]
        if lacking:
            return ResizeDecision.DEFERRED, f"Node didn't have enough resource: {', '.join(lacking)}"
        return ResizeDecision.FITS, ""


def _asked(size: PodSize) -> dict[str, int]:
    """What a pod asks for, without what it asks nothing of: millicores, MiB, pods, thousandths. In the order in which a kubelet looks."""
    asked = {"cpu": size.cpu_request_millicores, "memory": size.memory_request_mib, "pods": 1, **dict(size.extended)}
    return {resource: amount for resource, amount in asked.items() if amount}


def _capacity(node: Node) -> dict[str, int]:
    return {"cpu": node.cpu_millicores, "memory": node.memory_mib, "pods": node.pods, **dict(node.extended)}


def _as_told(resource: str, amount: int) -> int:
    """An amount as the kubelet tells it: CPU in millicores, memory in bytes, all else in whole ones."""
    if resource == "memory":
        return amount << 20
    return amount // THOUSANDTHS if is_extended(resource) else amount
