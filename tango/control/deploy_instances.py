"""Decide which LC instances of a cluster to create and which to remove. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tango.domain.services import Service, ServiceClass


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePlan:
    """The changes after which a cluster's LC instances agree with the declared services."""

    create: tuple[tuple[Service, str, int], ...]
    """(service, node, k) of the instances that are missing; k counts the instances of a service on one node from 0."""
    remove: tuple[str, ...]
    """Names of the pods whose service is no longer declared, or whose node no longer exists."""


def plan_instances(
    services: Sequence[Service], ready_nodes: Collection[str], all_nodes: Collection[str], existing: Collection[str]
) -> InstancePlan:
    """`instances_per_node` instances of every LC service on every ready node.

    `existing`: names of the cluster's LC pods that have not ended. Pods of a node that exists but is not ready are kept, since the node
    may come back with them.
    """
    lc = [s for s in services if s.service_class is ServiceClass.LC]

    def names(nodes: Collection[str]) -> dict[str, tuple[Service, str, int]]:
        return {f"lc-{s.name}-{node}-{k}": (s, node, k) for s in lc for node in nodes for k in range(s.instances_per_node)}

    wanted, kept = names(sorted(ready_nodes)), names(sorted(all_nodes))
    return InstancePlan(
        create=tuple(what for pod, what in wanted.items() if pod not in existing),
        remove=tuple(sorted(pod for pod in existing if pod not in kept)),
    )
