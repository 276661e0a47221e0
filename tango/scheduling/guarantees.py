"""Guarantees of CPU for the LC of tenants: what of each node is kept for whom, and whether the fleet has as much.

A tenant is guaranteed so much CPU, of the fleet or of some clusters. What its own instances request there is part of it; the rest is
spread over the nodes by the **headroom** that each has beyond what all LC instances request. So a node never promises more than it has as
long as no cluster does, and what is kept is a matter of declarations alone: nodes that are away take their part with them.

What a node keeps is enforced by the sharing rule (`tango.scheduling.sharing_step`), in both worlds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.quantities import format_millicores
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.domain.tenants import Tenant
from tango.errors import RequestRejected

TOLERANCE = 1e-9
"""Of the headroom of a cluster, by which sums of parts may exceed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LcNodes:
    """n nodes, and the LC instances of s services that are to stand on them; CPU in millicores."""

    clusters: tuple[str, ...]
    node_cluster: NDArray[np.int32]
    """(n,) row of the node's cluster."""
    cpu_allocatable: NDArray[np.float64]
    """(n,) less what LC limits never take (`SharingSettings.reserve_millicores`)."""
    services: Sequence[Service]
    instances: NDArray[np.float64]
    """(s, n) how many there are to be; 0 for BE."""

    @classmethod
    def of(
        cls,
        services: Sequence[Service],
        *,
        clusters: tuple[str, ...],
        node_cluster: NDArray[np.int32],
        cpu_allocatable: NDArray[np.float64],
        reserve_millicores: float,
        instances: NDArray[np.float64] | None = None,
    ) -> LcNodes:
        """`instances` (s, n) are those that stand, which count for services that adopt their pods; None: there are no such services."""
        each = [s.instances_per_node if s.service_class is ServiceClass.LC and s.adopt is None else 0 for s in services]
        count = np.repeat(np.array(each, np.float64)[:, None], len(node_cluster), axis=1)
        if instances is not None:
            adopts = np.array([s.adopt is not None for s in services], np.bool_)
            count[adopts] = instances[adopts]
        return cls(
            clusters=clusters,
            node_cluster=node_cluster,
            cpu_allocatable=np.maximum(0.0, cpu_allocatable - reserve_millicores),
            services=services,
            instances=count,
        )

    @classmethod
    def seen(cls, snapshot: FleetSnapshot, *, reserve_millicores: float) -> LcNodes:
        """Those of a live fleet."""
        return cls.of(
            snapshot.services,
            clusters=snapshot.clusters,
            node_cluster=snapshot.node_cluster,
            cpu_allocatable=snapshot.cpu_allocatable,
            reserve_millicores=reserve_millicores,
            instances=snapshot.instance_count,
        )

    @property
    def requested(self) -> NDArray[np.float64]:
        """(s, n) what the instances of each service request, as declared."""
        each = np.array([float(s.cpu_request_millicores) for s in self.services])
        found: NDArray[np.float64] = self.instances * each[:, None]
        return found

    @property
    def headroom(self) -> NDArray[np.float64]:
        """(n,) what all of them together leave."""
        left: NDArray[np.float64] = np.maximum(0.0, self.cpu_allocatable - self.requested.sum(axis=0))
        return left


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantees:
    """What t tenants with a guarantee have of n nodes."""

    tenants: tuple[str, ...]
    of_service: NDArray[np.int64]
    """(s,) row of the service's tenant; t: it has no guarantee."""
    kept_millicores: NDArray[np.float64]
    """(t, n) what its LC instances may have of a node together."""


def guarantees_of(declared: Mapping[str, Tenant], nodes: LcNodes) -> Guarantees:
    """What declared tenants are guaranteed. Where that is more than a node has, each gets a like part of what is there."""
    names = tuple(sorted(name for name, tenant in declared.items() if tenant.guarantee is not None))
    parts, own, within = _parts(names, declared, nodes)
    parts = np.where(np.isinf(parts), 0.0, parts)  # where there is no headroom nothing of it is given
    promised = (parts[:, None] * within).sum(axis=0)
    scale = np.minimum(1.0, 1.0 / np.maximum(promised, TOLERANCE))
    return Guarantees(
        tenants=names,
        of_service=np.array([names.index(s.tenant) if s.tenant in names else len(names) for s in nodes.services], np.int64),
        kept_millicores=within * (own + nodes.headroom * parts[:, None] * scale),
    )


def _parts(
    names: Sequence[str], declared: Mapping[str, Tenant], nodes: LcNodes
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """(t,) the part of the headroom of its nodes that each is guaranteed, (t, n) what its own instances request, (t, n) where."""
    requested, headroom = nodes.requested, nodes.headroom
    parts = np.zeros(len(names))
    own, within = np.zeros((len(names), len(headroom))), np.zeros((len(names), len(headroom)), np.bool_)
    for t, name in enumerate(names):
        guarantee = declared[name].guarantee
        assert guarantee is not None, "only tenants with a guarantee are asked for"
        mine = [k for k, service in enumerate(nodes.services) if service.tenant == name]
        own[t] = requested[mine].sum(axis=0)
        here = [not guarantee.clusters or cluster in guarantee.clusters for cluster in nodes.clusters]
        within[t] = np.array(here, np.bool_)[nodes.node_cluster]
        beyond = max(0.0, guarantee.cpu_millicores - own[t][within[t]].sum())
        there = headroom[within[t]].sum()
        parts[t] = beyond / there if there > 0.0 else (np.inf if beyond > 0.0 else 0.0)
    return parts, own, within


def refuse_beyond(declared: Mapping[str, Tenant], nodes: LcNodes) -> None:
    """Raises: RequestRejected where a cluster is asked to guarantee more than it has, with what there is and who is to have how much."""
    names = tuple(sorted(name for name, tenant in declared.items() if tenant.guarantee is not None))
    for name in names:
        guarantee = declared[name].guarantee
        if unknown := sorted(set(guarantee.clusters if guarantee else ()) - set(nodes.clusters)):
            raise RequestRejected(
                f"tenant {name}: guarantee.clusters names {', '.join(unknown)}, expected clusters of the fleet: {', '.join(nodes.clusters)}"
            )
    parts, own, within = _parts(names, declared, nodes)
    headroom, requested = nodes.headroom, nodes.requested.sum(axis=0)
    for c, cluster in enumerate(nodes.clusters):
        here = nodes.node_cluster == c
        asking = [t for t in range(len(names)) if here.any() and within[t][here].any() and parts[t] > 0.0]
        if sum(parts[t] for t in asking) <= 1.0 + TOLERANCE:
            continue
        there = float(headroom[here].sum())
        wants = ", ".join(
            f"{names[t]} {_cores(parts[t] * there if there else _beyond(declared[names[t]], own[t]))}" for t in asking
        )
        raise RequestRejected(
            f"cluster {cluster} cannot keep what tenants are guaranteed: of {_cores(nodes.cpu_allocatable[here].sum())} CPU its LC "
            f"instances request {_cores(requested[here].sum())} as declared, which leaves {_cores(there)}; guaranteed beyond what their "
            f"own instances request would be {wants}. Guarantee less, name other clusters in guarantee.clusters, or add nodes"
        )


def _beyond(tenant: Tenant, own: NDArray[np.float64]) -> float:
    return max(0.0, (tenant.guarantee.cpu_millicores if tenant.guarantee else 0) - float(own.sum()))


def _cores(millicores: float) -> str:
    return format_millicores(round(float(millicores)))
