"""Deploy: which LC instances are missing and which are not wanted any more. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tango.domain.services import Service, ServiceClass


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePlan:
    """What it takes to bring a cluster's LC instances to what is declared."""

    create: tuple[tuple[Service, str, int], ...]
    """(service, node, k)."""
    remove: tuple[str, ...]
    """Pods of services or nodes that are not declared any more."""


def plan_instances(
    services: Sequence[Service], ready_nodes: Collection[str], all_nodes: Collection[str], existing: Collection[str]
) -> InstancePlan:
    """One set of instances on every ready node; pods of a node that is away are left, since it may come back with them."""
    lc = [s for s in services if s.service_class is ServiceClass.LC]

    def names(nodes: Collection[str]) -> dict[str, tuple[Service, str, int]]:
        return {f"lc-{s.name}-{node}-{k}": (s, node, k) for s in lc for node in nodes for k in range(s.instances_per_node)}

    wanted, kept = names(sorted(ready_nodes)), names(sorted(all_nodes))
    return InstancePlan(
        create=tuple(what for pod, what in wanted.items() if pod not in existing),
        remove=tuple(sorted(pod for pod in existing if pod not in kept)),
    )
