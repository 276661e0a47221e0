"""Decide which LC instances of a cluster to create and which to remove. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from tango.domain.observations import NodeState
from tango.domain.resource_axis import EVERYWHERE, lacks, quantity
from tango.domain.services import Service, ServiceClass

Creation = tuple[Service, str, int]
"""(service, node, k) of an instance."""


def instance_name(creation: Creation) -> str:
    """The pod's name (`lc-SERVICE-NODE-K`)."""
    service, node, k = creation
    return f"lc-{service.name}-{node}-{k}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePlan:
    """The changes after which a cluster's LC instances agree with the declared services."""

    create: tuple[Creation, ...]
    """(service, node, k) of the instances that are missing; k counts the instances of a service on one node from 0."""
    remove: tuple[str, ...]
    """Names of the pods whose service is no longer declared, or whose node no longer exists."""


@dataclass(frozen=True, slots=True)
class StandingInstance:
    """An LC pod that has not ended."""

    pod: str
    service: str
    revision: str
    """Of which declaration it was made (`Service.revision`)."""
    ready: bool


def outdated(services: Sequence[Service], standing: Sequence[StandingInstance]) -> tuple[str, ...]:
    """Instances to end now because their service's pods have been declared anew; they are made again of the new declaration.

    Of each service at most a quarter of the instances, one at least, is away at a time: what is not ready counts as away, and an outdated
    one that is not ready goes at once, so that a declaration that mends is not held up by what it mends.
    """
    wanted = {s.name: s.revision for s in services}
    go: list[str] = []
    for service in sorted({pod.service for pod in standing} & wanted.keys()):
        mine = sorted((p for p in standing if p.service == service), key=lambda p: p.pod)
        old = [p for p in mine if p.revision != wanted[service]]
        go += [p.pod for p in old if not p.ready]
        away = sum(not p.ready for p in mine)
        go += [p.pod for p in old if p.ready][: max(0, max(1, len(mine) // 4) - away)]
    return tuple(go)


def plan_instances(
    services: Sequence[Service],
    ready_nodes: Collection[str],
    all_nodes: Collection[str],
    existing: Collection[str],
    barred: Collection[tuple[str, str]] = (),
) -> InstancePlan:
    """`instances_per_node` instances of every LC service on every ready node but those that its template bars.

    `barred`: (service, node) where a service may not run; an instance that is there already, from before a label or taint was changed,
    stays, as in Kubernetes, where what is ignored during execution is.
    `existing`: names of the cluster's LC pods that have not ended. Pods of a node that exists but is not ready are kept, since the node
    may come back with them.
    """
    lc = [s for s in services if s.service_class is ServiceClass.LC and s.adopt is None]

    def names(nodes: Collection[str]) -> dict[str, tuple[Service, str, int]]:
        wanted = [(s, node, k) for s in lc for node in nodes for k in range(s.instances_per_node)]
        return {instance_name(creation): creation for creation in wanted}

    def is_missing(pod: str, service: Service, node: str) -> bool:
        return pod not in existing and (service.name, node) not in barred

    wanted, kept = names(sorted(ready_nodes)), names(sorted(all_nodes))
    return InstancePlan(
        create=tuple(what for pod, what in wanted.items() if is_missing(pod, *what[:2])),
        remove=tuple(sorted(pod for pod in existing if pod not in kept)),
    )


def behind_be(create: Sequence[Creation], nodes: Sequence[NodeState]) -> Mapping[Creation, str]:
    """Of these instances, which fit if BE gives way, those that do not fit before it has, with the reason; earlier ones count."""
    held = {n.name: (n.be_cpu_request_millicores, n.be_memory_held_mib, n.be_pods) for n in nodes}
    as_they_are = [
        replace(
            n,
            lc_cpu_request_millicores=n.lc_cpu_request_millicores + n.be_cpu_request_millicores,
            lc_memory_held_mib=n.lc_memory_held_mib + n.be_memory_held_mib,
            lc_pods=n.lc_pods + n.be_pods,
            extended={name: replace(of, lc_held=of.lc_held + of.be_held) for name, of in n.extended.items()},
        )
        for n in nodes
    ]

    def words(creation: Creation) -> str:
        service, node, _ = creation
        (cpu, memory), (be_cpu, be_memory, be_pods) = service.pod_requests, held[node]
        return (
            f"an instance asks for {cpu}m CPU and {memory} MiB and waits for BE to give way, which holds {be_cpu}m, {be_memory} MiB "
            f"in {be_pods} pods there"
        )

    return {creation: words(creation) for creation in beyond_headroom(create, as_they_are)}


def beyond_headroom(create: Sequence[Creation], nodes: Sequence[NodeState]) -> Mapping[Creation, str]:
    """Of these instances those that their node's kubelet must refuse even if all BE gave way, with the reason; earlier ones count."""
    left = {
        n.name: Counter(
            {
                "cpu": n.cpu_allocatable_millicores - n.lc_cpu_request_millicores - n.other_cpu_request_millicores,
                "memory": n.memory_allocatable_mib - n.lc_memory_held_mib - n.other_memory_held_mib,
                "pods": n.pods_allocatable - n.lc_pods - n.other_pods,
            }
            | {name: of.allocatable - of.lc_held - of.other_held for name, of in n.extended.items()}
        )
        for n in nodes
    }
    found: dict[Creation, str] = {}
    for creation in create:
        service, node, _ = creation
        cpu, memory = service.pod_requests
        asked, free = {"cpu": cpu, "memory": memory, "pods": 1, **dict(service.extended)}, left[node]
        lacking = [name for name, amount in asked.items() if lacks(amount, free[name])]
        if lacking:
            beside = [f", {quantity(name, max(0, free[name]))} {name}" for name in lacking if name not in EVERYWHERE]
            found[creation] = (
                f"an instance asks for {cpu}m CPU and {memory} MiB; LC and pods of others leave {max(0, free['cpu'])}m, "
                f"{max(0, free['memory'])} MiB and {max(0, free['pods'])} pods" + "".join(beside)
            )
        else:
            free.subtract(asked)
    return found
