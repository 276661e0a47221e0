"""A node's allocated resources, and the kubelet's admission of pods and resizes by them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tango.domain.fleet import MOST_PODS, Node
from tango.emulation.virtual_kubelet.pod_spec import PodSize


class Verdict(Enum):
    """The kubelet's decision on a resize; values are reasons of the condition PodResizePending (KEP-1287)."""

    FITS = "fits"
    DEFERRED = "Deferred"
    """The node could hold it, but other pods hold the resources now."""
    INFEASIBLE = "Infeasible"
    """Larger than the node."""


@dataclass(slots=True)
class Ledger:
    """The resource requests allocated on one node. Their sums are kept, so that a decision costs the same with one pod or a thousand."""

    node: Node
    cpu_millicores: int = 0
    memory_mib: int = 0
    sizes: dict[str, PodSize] = field(default_factory=dict)
    """By pod uid."""

    def put(self, uid: str, size: PodSize) -> None:
        """Allocate a pod's requests, in place of those that it had."""
        self.drop(uid)
        self.sizes[uid] = size
        self.cpu_millicores += size.cpu_request_millicores
        self.memory_mib += size.memory_request_mib

    def drop(self, uid: str) -> None:
        """Release a pod's requests, if it has any."""
        size = self.sizes.pop(uid, None)
        if size is not None:
            self.cpu_millicores -= size.cpu_request_millicores
            self.memory_mib -= size.memory_request_mib

    def refusal(self, size: PodSize) -> tuple[str, str] | None:
        """(reason, message) with which a kubelet rejects a new pod of this size, in the kubelet's words; None if the pod fits."""
        for resource, asked, used, capacity in (
            ("cpu", size.cpu_request_millicores, self.cpu_millicores, self.node.cpu_millicores),
            ("memory", size.memory_request_mib << 20, self.memory_mib << 20, self.node.memory_mib << 20),
            ("pods", 1, len(self.sizes), MOST_PODS),
        ):
            if used + asked > capacity:
                numbers = f"requested: {asked}, used: {used}, capacity: {capacity}"
                return f"OutOf{resource}", f"Node didn't have enough resource: {resource}, {numbers}"
        return None

    def judge(self, uid: str, size: PodSize) -> tuple[Verdict, str]:
        """The decision on resizing an admitted pod to `size`, and the message that explains a refusal. Raises: KeyError if unknown."""
        if size.cpu_request_millicores > self.node.cpu_millicores or size.memory_request_mib > self.node.memory_mib:
            return Verdict.INFEASIBLE, "Node didn't have enough capacity"
        held = self.sizes[uid]
        lacking = [
            resource
            for resource, need, capacity in (
                ("cpu", self.cpu_millicores - held.cpu_request_millicores + size.cpu_request_millicores, self.node.cpu_millicores),
                ("memory", self.memory_mib - held.memory_request_mib + size.memory_request_mib, self.node.memory_mib),
            )
            if need > capacity
        ]
        if lacking:
            return Verdict.DEFERRED, f"Node didn't have enough resource: {', '.join(lacking)}"
        return Verdict.FITS, ""
