"""Resources as one axis: CPU, memory, pods, and whatever the services of a fleet ask for beside them, such as `nvidia.com/gpu`.

What nodes have and pods ask for are matrices of shape (r, n) or (r, k): one row a resource, one column a node or pod. A row is
contiguous, so that a policy that reads CPU alone reads a plain vector, and whatever treats all resources alike runs over the rows, however
many there are. Whether a pod fits is decided by `lacks`, resource by resource, and nowhere else; compiled steps inline it
(`tango.node_model.capacity.fits`).

Kubernetes counts in the same way: requests of a pod against the node's allocatable, resource by resource, pods themselves among them
(pkg/scheduler/framework/plugins/noderesources/fit.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import Node
from tango.domain.quantities import Amounts
from tango.domain.services import Service

CPU, MEMORY, PODS = range(3)
"""Rows of every axis: millicores, MiB, pods. Extended resources follow, in thousandths of one."""
EVERYWHERE = ("cpu", "memory", "pods")
"""Names of these rows, as a node's `status.allocatable` has them."""
MAY_RUN = "tango.dev/may-run-"
"""Before a service's name: the extended resource that a pod of a service with a template asks one thousandth of. A node has plenty of it,
unless it is told that it has none because the pod may not run there (`tango.domain.node_selection`)."""
PLENTY = 10**9
THOUSANDTHS = 1000
"""Units of an extended resource: one device is 1000, half of one 500."""

ROUNDING = 1e-6
"""Millicores, MiB, pods or thousandths that a sum of requests may exceed allocatable by: sums are kept by adding and subtracting floats."""


@overload
def lacks(asked: float, free: float) -> bool: ...
@overload
def lacks(asked: NDArray[np.float64] | float, free: NDArray[np.float64]) -> NDArray[np.bool_]: ...
@overload
def lacks(asked: NDArray[np.float64], free: NDArray[np.float64] | float) -> NDArray[np.bool_]: ...
def lacks(asked: Any, free: Any) -> Any:
    """Whether a node with so much free of one resource refuses a pod that asks for so much of it; of arrays, element by element.

    A resource that is not asked for never refuses, even where a node has less than nothing left of it. Plain arithmetic: compiled steps
    inline it. Source: NodeResourcesFit of kube-scheduler, which the kubelet's admission shares (kubernetes,
    pkg/scheduler/framework/plugins/noderesources/fit.go, `fitsRequest`).
    """
    return (asked > 0.0) & (asked > free + ROUNDING)


def row(amounts: NDArray[np.float64], resource: int) -> NDArray[np.float64]:
    """One row of (r, n) amounts, a view of shape (n,)."""
    found: NDArray[np.float64] = amounts[resource]
    return found


@dataclass(frozen=True, slots=True)
class ResourceAxis:
    """Names of r resources, in the order of the rows. What no service asks for has no row: it never decides anything."""

    names: tuple[str, ...] = EVERYWHERE

    @classmethod
    def of(cls, services: Iterable[Service]) -> ResourceAxis:
        """CPU, memory, pods, and the extended resources of these services in order of their names."""
        return cls((*EVERYWHERE, *sorted({name for service in services for name, _ in asked_by(service)})))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def extended(self) -> tuple[str, ...]:
        """Names of the rows after `PODS`."""
        return self.names[len(EVERYWHERE) :]

    def amounts(self, *, cpu: float, memory: float, pods: float, extended: Amounts | Mapping[str, float]) -> list[float]:
        """One column of what is asked for or held: r figures in the units of the rows; extended resources without a row are left out."""
        beside = dict(extended)
        return [float(cpu), float(memory), float(pods), *(float(beside.get(name, 0)) for name in self.extended)]

    def allocatable(self, *, cpu: float, memory: float, pods: float, extended: Amounts | Mapping[str, float]) -> list[float]:
        """As `amounts`, of what a node has: it may run all services but those that it is said to have none of."""
        anywhere = {name: float(PLENTY) for name in self.extended if name.startswith(MAY_RUN)}
        return self.amounts(cpu=cpu, memory=memory, pods=pods, extended={**anywhere, **dict(extended)})

    def of_node(self, node: Node) -> list[float]:
        """What a declared node has, as `allocatable`."""
        return self.allocatable(cpu=node.cpu_millicores, memory=node.memory_mib, pods=node.pods, extended=node.extended)

    def columns(self, columns: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """(r, k) of k columns as `amounts` makes them, for none too."""
        return np.ascontiguousarray(np.array(columns, np.float64).reshape(len(columns), len(self)).T)

    def pod_requests(self, services: Sequence[Service]) -> NDArray[np.float64]:
        """(r, s) requests of one pod of each service: of an LC instance, or of a BE pod, whose memory may be another for each request."""
        asked = [(*s.pod_requests, asked_by(s)) for s in services]
        return self.columns([self.amounts(cpu=cpu, memory=memory, pods=1, extended=beside) for cpu, memory, beside in asked])

    def extended_of(self, column: NDArray[np.float64]) -> Amounts:
        """The extended resources of one column (r,) that are above 0."""
        beside = column[len(EVERYWHERE) :].tolist()
        return tuple((name, round(amount)) for name, amount in zip(self.extended, beside, strict=True) if amount > 0)


def asked_by(service: Service) -> Amounts:
    """The extended resources that a pod of a service asks for, with what stands for the nodes that it may run on."""
    return (*service.extended, (MAY_RUN + service.name, 1)) if service.template else service.extended


def quantity(name: str, amount: float) -> str:
    """An amount in the units of its row as Kubernetes writes it: `1200m` of cpu, `512Mi` of memory, `2` or `500m` of anything extended."""
    if name == "memory":
        return f"{amount:g}Mi"
    thousandths = amount if name == "cpu" or name not in EVERYWHERE else amount * THOUSANDTHS
    return f"{thousandths / THOUSANDTHS:g}" if thousandths % THOUSANDTHS == 0 else f"{thousandths:g}m"
