"""What a node can hold: sums of what is allocated on it, and the kubelet's verdicts on pods and resizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tango.domain.fleet import Node
from tango.emulation.virtual_kubelet.pod_spec import PodSize

MAX_PODS = 1000


class Verdict(Enum):
    """On a resize (KEP-1287)."""

    FITS = "fits"
    DEFERRED = "Deferred"
    """Fits the node, but not now."""
    INFEASIBLE = "Infeasible"
    """Never fits this node."""


@dataclass(slots=True)
class Ledger:
    """Allocated requests on one node, kept as sums so that a verdict costs the same with one pod or a thousand."""

    node: Node
    cpu_millicores: int = 0
    memory_mib: int = 0
    sizes: dict[str, PodSize] = field(default_factory=dict)
    """By pod uid."""

    def put(self, uid: str, size: PodSize) -> None:
        """Allocate, or change what is allocated."""
        self.drop(uid)
        self.sizes[uid] = size
        self.cpu_millicores += size.cpu_request_millicores
        self.memory_mib += size.memory_request_mib

    def drop(self, uid: str) -> None:
        """Give back what a pod held, if it held anything."""
        size = self.sizes.pop(uid, None)
        if size is not None:
            self.cpu_millicores -= size.cpu_request_millicores
            self.memory_mib -= size.memory_request_mib

    def refusal(self, size: PodSize) -> tuple[str, str] | None:
        """(reason, message) with which the kubelet fails a pod that does not fit, in its own words; None where it fits."""
        for resource, asked, used, capacity in (
            ("cpu", size.cpu_request_millicores, self.cpu_millicores, self.node.cpu_millicores),
            ("memory", size.memory_request_mib << 20, self.memory_mib << 20, self.node.memory_mib << 20),
            ("pods", 1, len(self.sizes), MAX_PODS),
        ):
            if used + asked > capacity:
                numbers = f"requested: {asked}, used: {used}, capacity: {capacity}"
                return f"OutOf{resource}", f"Node didn't have enough resource: {resource}, {numbers}"
        return None

    def judge(self, uid: str, size: PodSize) -> tuple[Verdict, str]:
        """Whether a pod that is here may be resized to `size`, and the message that says why not."""
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
