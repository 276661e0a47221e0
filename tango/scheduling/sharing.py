"""The sharing rules as live re-assurance calls them: observed instances and measured tails in, resizes and evictions out.

The rules themselves are in `sharing_step`; this module turns names into rows of arrays, and rows of the result into a plan.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tango.domain.identity import NodeKey, PodKey
from tango.domain.observations import InstanceState
from tango.domain.plans import Eviction, RefusedResize, Resize, SharingPlan
from tango.domain.services import Service
from tango.scheduling.sharing_step import (
    CUT,
    NO_GUARANTEES,
    RULES,
    STEP_MILLICORES,
    Declared,
    Instances,
    NodeCapacities,
    Tuning,
    declared_sizes,
    new_shares,
    share,
)
from tango.settings import SharingSettings

__all__ = ["STEP_MILLICORES", "NodeCapacity", "Tail", "common_rule", "plan_sharing", "tuning_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Tail latency of one (service, node), over the lookback."""

    latency_ms: float
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCapacity:
    """CPU of a node and what BE holds of it. `be_evictable` is ordered, least work lost first."""

    cpu_allocatable_millicores: int
    be_cpu_request_millicores: int
    """Of BE, and of LC pods that are not among the instances of the round."""
    be_evictable: tuple[tuple[Eviction, int], ...] = ()
    """(eviction, CPU request in millicores that it gives back)."""
    kept_millicores: Mapping[str, float] = field(default_factory=dict)
    """By tenant with a guarantee what the node keeps for its LC, the same tenants at each node."""
    asked: Collection[str] = ()
    """LC services with requests in flight there; one that has answered in the lookback is asked too."""


def common_rule(rules: Collection[str]) -> str:
    """The rule for instances that runs with these rules share.

    Where they differ it is `hrm`: `burst` is for dispatchers that count crowding alone, and `ceres` lets no BE give way. `static`, or no
    run at all, gives way to any other.
    """
    wanted = set(rules) - {"static"}
    if len(wanted) > 1:
        return "hrm"
    return wanted.pop() if wanted else "static"


def tuning_of(settings: SharingSettings, rule: str) -> Tuning:
    """The kernel's form of the settings."""
    return Tuning(
        rule=RULES[rule],
        grow_below=settings.grow_below,
        shrink_above=settings.shrink_above,
        grow_factor=settings.grow_factor,
        shrink_factor=settings.shrink_factor,
        hold_s=settings.hold_s,
        shrink_hold_s=settings.shrink_hold_s,
        reserve_millicores=float(settings.reserve_millicores),
        min_samples=settings.min_samples,
    )


def plan_sharing(
    services: Mapping[str, Service],
    instances: Sequence[tuple[str, InstanceState]],
    tails: Mapping[tuple[str, NodeKey], Tail],
    capacities: Mapping[NodeKey, NodeCapacity],
    changed_s: Mapping[PodKey, float],
    now_s: float,
    settings: SharingSettings,
    *,
    refused: Collection[RefusedResize] = (),
    rule: str = "hrm",
) -> SharingPlan:
    """Resizes and evictions of one round. `changed_s` gives the time of each pod's last resize. What was `refused` is not asked for
    again, nor more than it, and nobody gives way for it."""
    lc = {name: row for row, (name, s) in enumerate(item for item in services.items() if item[1].target_ms is not None)}
    nodes = {key: row for row, key in enumerate(capacities)}
    rows = sorted((pair for pair in instances if NodeKey(pair[0], pair[1].node) in nodes), key=lambda pair: (pair[1].pod, pair[0]))
    node_keys = [NodeKey(cluster, i.node) for cluster, i in rows]
    pod_keys = [PodKey(cluster, i.pod) for cluster, i in rows]
    limit_refused: dict[PodKey, float] = {}
    request_refused: dict[PodKey, float] = {}
    for one in refused:
        if one.larger_limit:
            limit_refused[one.pod] = min(one.limit_millicores, limit_refused.get(one.pod, np.inf))
        else:
            request_refused[one.pod] = min(one.request_millicores, request_refused.get(one.pod, np.inf))
    nothing = Tail(latency_ms=0.0, samples=0)
    measured = [tails.get((i.service, node), nothing) for (_, i), node in zip(rows, node_keys, strict=True)]
    columns = Instances(
        node=np.array([nodes[node] for node in node_keys], np.int64),
        service=np.array([lc.get(i.service, 0) for _, i in rows], np.int64),
        ready=np.array([i.ready and i.service in lc for _, i in rows], np.bool_),
        limit_millicores=np.array([float(i.cpu_limit_millicores) for _, i in rows]),
        request_millicores=np.array([float(i.cpu_request_millicores) for _, i in rows]),
        tail_ms=np.array([t.latency_ms for t in measured], np.float64),
        samples=np.array([t.samples for t in measured], np.int64),
        since_resize_s=np.array([now_s - changed_s.get(pod, -1e9) for pod in pod_keys], np.float64),
        refused_limit_millicores=np.array([limit_refused.get(pod, np.inf) for pod in pod_keys], np.float64),
        refused_request_millicores=np.array([request_refused.get(pod, np.inf) for pod in pod_keys], np.float64),
        asked=np.array(
            [
                t.samples > 0 or i.service in capacities[node].asked
                for (_, i), node, t in zip(rows, node_keys, measured, strict=True)
            ],
            np.bool_,
        ),
    )
    evictable = [pair for node in capacities.values() for pair in node.be_evictable]
    # Instances of services that are no longer declared have row 0: there must be one, though nothing is decided by it.
    tenants = sorted({name for capacity in capacities.values() for name in capacity.kept_millicores})
    of_tenant = np.array(
        [tenants.index(services[n].tenant) if services[n].tenant in tenants else len(tenants) for n in lc], np.int64
    )
    declared = (
        declared_sizes([services[name] for name in lc], tenant=of_tenant)
        if lc
        else Declared(np.ones(1), np.ones(1), np.ones(1), np.full(1, len(tenants)))
    )
    node_columns = NodeCapacities(
        allocatable_millicores=np.array([float(r.cpu_allocatable_millicores) for r in capacities.values()]),
        be_request_millicores=np.array([float(r.be_cpu_request_millicores) for r in capacities.values()]),
        first_evictable=np.concatenate(([0], np.cumsum([len(r.be_evictable) for r in capacities.values()]))).astype(np.int64),
        evictable_millicores=np.array([float(request) for _, request in evictable]),
        guaranteed_millicores=np.array([[c.kept_millicores[name] for c in capacities.values()] for name in tenants], np.float64)
        if tenants
        else NO_GUARANTEES,
    )
    out = new_shares(instances=len(rows), evictable=len(evictable), be_share=np.ones(len(capacities)), guarantees=len(tenants))
    share(tuning_of(settings, rule), columns, node_columns, declared, out)
    # The limit tells growing from shrinking; under `burst`, where it stays, the CPU request does.
    limit_delta = out.limit_millicores - columns.limit_millicores
    request_delta = out.request_millicores - columns.request_millicores
    grown = (limit_delta > 0) | ((limit_delta == 0) & (request_delta > 0))
    changed = np.flatnonzero((limit_delta != 0) | (request_delta != 0))
    gives_back = out.of_tenants[CUT, declared.tenant[columns.service], columns.node] > 0
    gives_back |= (limit_delta < 0) & (rule == "burst")  # whose limits do not fall for anything else
    return SharingPlan(
        resizes=tuple(
            Resize(
                cluster=rows[k][0],
                node=rows[k][1].node,
                pod=rows[k][1].pod,
                service=rows[k][1].service,
                cpu_limit_before_millicores=rows[k][1].cpu_limit_millicores,
                cpu_limit_after_millicores=int(out.limit_millicores[k]),
                cpu_request_after_millicores=int(out.request_millicores[k]),
                slack=float(out.slack[k]),
                reason="grow" if grown[k] else "guarantee" if gives_back[k] else "shrink",
            )
            for k in changed.tolist()
        ),
        evictions=tuple(evictable[k][0] for k in np.flatnonzero(out.evict).tolist()),
    )
