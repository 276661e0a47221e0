"""Sharing: who gives CPU and memory to whom. Per (service, node): slack = 1 - tail latency / target over a sliding window.

Below `grow_below` the LC instance grows, above `shrink_above` it shrinks, with a hold after each change, longer before shrinking.
CPU is compressible: a larger LC limit squeezes BE at once, because the node serves LC first. Memory is not: when LC needs what BE
holds, BE is evicted, least work lost first. Source: Tango (ICPP 2023), D-VPA and HRM; departures: slack instead of a fixed share, and
growth by a factor, since one step must at least cover the backlog that made the slack negative.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tango.domain.observations import InstanceState
from tango.domain.plans import Eviction, Resize, SharingPlan
from tango.domain.services import Service
from tango.settings import SharingSettings

STEP_MILLICORES = 50
"""Limits move in steps of this; a smaller change is not worth a resize."""
REQUEST_SHARE = 0.5
"""Of the limit that an instance asks for as its request: BE may be admitted on the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Measured tail of one (service, node)."""

    latency_ms: float
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRoom:
    """What a node can give to LC. `be_evictable` is ordered, least work lost first."""

    cluster: str
    cpu_allocatable_millicores: int
    be_cpu_request_millicores: int
    memory_free_mib: int
    be_evictable: tuple[tuple[Eviction, int], ...] = ()
    """(eviction, CPU request in millicores that it gives back)."""


def plan_sharing(
    services: Mapping[str, Service],
    instances: Sequence[tuple[str, InstanceState]],
    tails: Mapping[tuple[str, str], Tail],
    rooms: Mapping[str, NodeRoom],
    changed_s: Mapping[str, float],
    now_s: float,
    settings: SharingSettings,
    *,
    infeasible: Collection[tuple[str, int]] = (),
) -> SharingPlan:
    """Resizes and evictions of one round. `changed_s` gives the time of each pod's last resize, `infeasible` the (pod, limit) that
    its node refused for good: nobody gives way for these."""
    resizes: list[Resize] = []
    evictions: list[Eviction] = []
    limits = {i.pod: i.cpu_limit_millicores for _, i in instances}
    by_node: dict[str, list[InstanceState]] = {}
    freed: dict[str, int] = defaultdict(int)
    """Requests of the BE that this plan evicts, by node."""
    for _, instance in instances:
        by_node.setdefault(instance.node, []).append(instance)
    requests = {i.pod: i.cpu_request_millicores for _, i in instances}
    for cluster, instance in sorted(instances, key=lambda pair: pair[1].pod):
        service, room = services.get(instance.service), rooms.get(instance.node)
        if service is None or service.target_ms is None or room is None or not instance.ready:
            continue
        after, slack = _wanted_limit(service, instance, tails.get((instance.service, instance.node)), changed_s, now_s, settings)
        # All LC limits of a node together stay within the node: beyond that a larger limit gives nothing.
        others = sum(limits[i.pod] for i in by_node[instance.node] if i.pod != instance.pod)
        ceiling = max(instance.cpu_limit_millicores, room.cpu_allocatable_millicores - settings.reserve_millicores - others)
        after = min(after, ceiling, room.cpu_allocatable_millicores)
        if abs(after - instance.cpu_limit_millicores) < STEP_MILLICORES or (instance.pod, after) in infeasible:
            continue
        request = max(
            1, min(after - 1, int(after * REQUEST_SHARE * service.cpu_request_millicores / service.cpu_limit_millicores * 2))
        )
        free = (
            room.cpu_allocatable_millicores
            - room.be_cpu_request_millicores
            - sum(requests[i.pod] for i in by_node[instance.node] if i.pod != instance.pod)
            + freed[instance.node]
        )
        for eviction, gives in room.be_evictable:
            if request <= free:
                break
            if eviction not in evictions:
                evictions.append(eviction)
                freed[instance.node] += gives
                free += gives
        request = max(1, min(request, max(instance.cpu_request_millicores, free)))
        limits[instance.pod], requests[instance.pod] = after, request
        resizes.append(
            Resize(
                cluster=cluster,
                node=instance.node,
                pod=instance.pod,
                service=instance.service,
                cpu_limit_before_millicores=instance.cpu_limit_millicores,
                cpu_limit_after_millicores=after,
                cpu_request_after_millicores=request,
                slack=slack,
                reason="grow" if after > instance.cpu_limit_millicores else "shrink",
            )
        )
    return SharingPlan(resizes=tuple(resizes), evictions=tuple(evictions))


def _wanted_limit(
    service: Service,
    instance: InstanceState,
    tail: Tail | None,
    changed_s: Mapping[str, float],
    now_s: float,
    settings: SharingSettings,
) -> tuple[int, float]:
    assert service.target_ms is not None
    limit, since_s = instance.cpu_limit_millicores, now_s - changed_s.get(instance.pod, -1e9)
    if tail is None or tail.samples < settings.min_samples:
        # Nothing is measured: an instance that grew goes back to its declared size once the hold is over.
        idle = limit > service.cpu_limit_millicores and since_s >= settings.shrink_hold_s
        return (max(service.cpu_limit_millicores, int(limit * settings.shrink_factor)) if idle else limit), 1.0
    slack = 1.0 - tail.latency_ms / service.target_ms
    if slack < settings.grow_below and since_s >= settings.hold_s:
        factor = min(4.0, settings.grow_factor * max(1.0, tail.latency_ms / service.target_ms))
        return int(limit * factor), slack
    if slack > settings.shrink_above and since_s >= settings.shrink_hold_s:
        return max(service.cpu_limit_millicores, int(limit * settings.shrink_factor)), slack
    return limit, slack
