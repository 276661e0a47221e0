"""Re-assurance: measure the slack of LC services, then resize their instances in place and evict BE pods where LC needs what they hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog

from tango.control.be_evictions import BeEvictions
from tango.control.lease_holder import LeaseHolder
from tango.control.make_headroom import HeadroomForInstances
from tango.control.reserved_cpu import ReservedCpu
from tango.domain.backoff import Backoff
from tango.domain.identity import NodeKey, PodKey
from tango.domain.observations import InstanceState
from tango.domain.plans import Eviction, RefusedResize, Resize, SharingPlan
from tango.domain.slack import slack_of
from tango.domain.snapshot import FleetSnapshot
from tango.ports.clock import Clock
from tango.ports.clusters import ClusterCalls
from tango.ports.events import EventLog
from tango.ports.fleet import FleetStore
from tango.ports.runs import RunStore
from tango.ports.tenants import TenantStore
from tango.scheduling.guarantees import LcNodes, guarantees_of
from tango.scheduling.sharing import NodeCapacity, Tail, common_rule, plan_sharing
from tango.settings import SharingSettings
from tango.systems import sharing_rules

log = structlog.get_logger(__name__)

RESERVED_S = 5.0
"""Seconds that CPU which BE gave back is kept for the instance that needed it: a resize waits three for its kubelet, and the agent tells of
it a moment later."""
LEASE, LEASE_S = "reassure", 5.0
"""Name and seconds of the lease. It lasts several ticks, so that the process that remembers recent resizes keeps it while it lives."""


class Reassurance:
    """The rounds of one process. It remembers when each instance was last resized; what was refused for good, the store does."""

    def __init__(
        self,
        *,
        fleet: FleetStore,
        events: EventLog,
        clusters: ClusterCalls,
        evictions: BeEvictions,
        settings: SharingSettings,
        reserved: ReservedCpu | None = None,
        tenants: TenantStore | None = None,
    ) -> None:
        """`reserved`: where what BE gave back is kept from the placement; None: nowhere. `tenants`: whose guarantees count; None:
        nobody's."""
        self._reserved = reserved
        self._tenants = tenants
        self._fleet = fleet
        self._events = events
        self._evictions = evictions
        self._clusters = clusters
        self._settings = settings
        self._changed_s: dict[PodKey, float] = {}
        self._paused = Backoff()
        """By `cluster/service`, whose resizes the cluster refused for a reason of its own, when they may be tried again."""

    def round(self, *, now_s: float, rule: str = "hrm") -> dict[str, int]:
        """One round of a sharing rule (`tango.scheduling.sharing.plan_sharing`); gives how many resizes and evictions were requested.

        A process that dies between eviction and settlement loses nothing: the cluster agent settles the pod's end under the same epoch.
        """
        # 1. Gather.
        snapshot = self._fleet.snapshot(at_s=now_s)
        unmoved = {s.name for s in snapshot.services if not s.resizable}
        instances = [(cluster, i) for cluster, i in self._fleet.instances() if i.service not in unmoved]
        tails = self._fleet.tail_latency_ms(window_s=self._settings.window_s, quantile=self._settings.quantile)
        services = {s.name: s for s in snapshot.services}
        short_nodes = {
            node
            for (service, node), (tail_ms, count) in tails.items()
            if service in services
            and count >= self._settings.min_samples
            and slack_of(tail_ms, services[service].target_ms or np.inf) < self._settings.grow_below
        }
        nodes = snapshot.node_keys
        evictable = self._fleet.evictable_be([node for node in nodes if node in short_nodes])
        staying = self._evictions.staying(evictable)
        movable = Counter[NodeKey]()
        for cluster, instance in instances:
            movable[NodeKey(cluster, instance.node)] += instance.cpu_request_millicores
        capacities, kept = {}, self._kept(snapshot)
        for k, node in enumerate(nodes):
            per_pod = snapshot.be_cpu_request[k] / max(1.0, snapshot.be_pods[k])
            # A resize that comes before what is leaving has left is deferred by the kubelet, which carries it out once there is room.
            stay = staying.get(node, [])
            leaving = len(evictable.get(node, [])) - len(stay)
            # LC that no round moves: instances to be made, sidecars, services that are not resized.
            unmoved_cpu = max(0, int(snapshot.lc_cpu_request[k]) - movable[node])
            capacities[node] = NodeCapacity(
                cpu_allocatable_millicores=int(snapshot.cpu_allocatable[k]),
                be_cpu_request_millicores=max(0, int(snapshot.be_cpu_request[k] - leaving * per_pod)) + unmoved_cpu,
                be_evictable=tuple((e, int(per_pod)) for e in stay),
                kept_millicores=kept[k],
                asked=[snapshot.services[s].name for s in np.flatnonzero(snapshot.in_flight[:, k]).tolist()] if kept[k] else (),
            )
        refused = self._fleet.refused_resizes()
        # 2. Decide.
        plan = plan_sharing(
            services,
            instances,
            {key: Tail(latency_ms=tail, samples=count) for key, (tail, count) in tails.items()},
            capacities,
            self._changed_s,
            now_s,
            self._settings,
            refused=refused,
            rule=rule,
        )
        # 3. Apply: BE gives way first, so that the new request fits when the resize comes.
        self._reserve(plan, {PodKey(cluster, i.pod): i for cluster, i in instances})
        if plan.evictions:
            self._evictions.evict(_for_growth(plan), evictable)
        return {"resizes": self._resize(plan.resizes, now_s, refused), "evictions": len(plan.evictions)}

    def _kept(self, snapshot: FleetSnapshot) -> list[dict[str, float]]:
        """Of each node what it keeps for the LC of tenants with a guarantee."""
        declared = {} if self._tenants is None else self._tenants.declared()
        if all(tenant.guarantee is None for tenant in declared.values()):
            return [{} for _ in snapshot.nodes]
        nodes = LcNodes.seen(snapshot, reserve_millicores=float(self._settings.reserve_millicores))
        found = guarantees_of(declared, nodes)
        return [dict(zip(found.tenants, of_node, strict=True)) for of_node in found.kept_millicores.T.tolist()]

    def _reserve(self, plan: SharingPlan, instances: Mapping[PodKey, InstanceState]) -> None:
        """Keep what instances are to grow by on nodes where BE gives way for it, until they have it; nobody else evicts for them."""
        if self._reserved is None:
            return
        growth = Counter[NodeKey]()
        for resize in plan.resizes:
            more = resize.cpu_request_after_millicores - instances[resize.pod_key].cpu_request_millicores
            growth[NodeKey(resize.cluster, resize.node)] += max(0, more)
        for node in {NodeKey(e.cluster, e.node) for e in plan.evictions}:
            self._reserved.reserve(node, growth[node], for_s=RESERVED_S)

    def restore(self, *, now_s: float) -> dict[str, int]:
        """Resize every ready instance to its declared size, when no active run wants re-assurance. No instance within `hold_s` again."""
        services = {s.name: s for s in self._fleet.services()}
        resizes = [
            Resize(
                cluster=cluster,
                node=instance.node,
                pod=instance.pod,
                service=instance.service,
                cpu_limit_before_millicores=instance.cpu_limit_millicores,
                cpu_limit_after_millicores=service.cpu_limit_millicores,
                cpu_request_after_millicores=service.cpu_request_millicores,
                slack=1.0,
                reason="restore",
            )
            for cluster, instance in self._fleet.instances()
            if (service := services.get(instance.service)) is not None
            and service.adopt is None  # what size its owner gave a pod of somebody else's is not known
            and instance.ready
            and (instance.cpu_limit_millicores, instance.cpu_request_millicores)
            != (service.cpu_limit_millicores, service.cpu_request_millicores)
            and now_s - self._changed_s.get(PodKey(cluster, instance.pod), -1e9) >= self._settings.hold_s
        ]
        return {"resizes": self._resize(resizes, now_s, self._fleet.refused_resizes()), "evictions": 0}

    def _resize(self, resizes: Sequence[Resize], now_s: float, refused: Collection[RefusedResize]) -> int:
        wanted = [
            r for r in resizes if RefusedResize.of(r) not in refused and self._paused.is_open(f"{r.cluster}/{r.service}", now_s)
        ]
        if not wanted:
            return 0
        records = self._clusters.resize(wanted)
        self._events.scaling(records)
        never, paused = list[RefusedResize](), dict[str, bool]()
        for resize, record in zip(wanted, records, strict=True):
            self._changed_s[resize.pod_key] = now_s
            key = f"{resize.cluster}/{resize.service}"
            paused[key] = paused.get(key, False) or record.outcome == "refused"
            if record.outcome == "infeasible":
                never.append(RefusedResize.of(resize))
        for key, is_refused in paused.items():
            if is_refused:
                self._paused.failed(key, now_s)
            else:
                self._paused.went_well(key)
        if never:
            self._fleet.note_refused_resizes(never)
        log.info("resized", resizes=len(wanted), outcomes=[r.outcome for r in records][:8])
        return len(wanted)


def _for_growth(plan: SharingPlan) -> list[Eviction]:
    """The evictions of a plan, each with the services whose instances grow on its node."""
    growing = defaultdict[NodeKey, set[str]](set)
    for r in plan.resizes:
        if r.cpu_limit_after_millicores > r.cpu_limit_before_millicores:
            growing[NodeKey(r.cluster, r.node)].add(r.service)
    return [replace(e, why=f"room for {', '.join(sorted(growing[NodeKey(e.cluster, e.node)]))} to grow") for e in plan.evictions]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReassuranceRounds:
    """The periodic task: one process at a time, by a lease, under the sharing rule that the active runs have in common."""

    headroom: HeadroomForInstances
    reassurance: Reassurance
    runs: RunStore
    holder: LeaseHolder
    clock: Clock

    def next(self) -> dict[str, int]:
        """One round, or none without the lease. Without a run that wants re-assurance, instances get their declared size back.

        Instances that are not there yet come first, under every rule and without a run too.
        """
        if self.holder.acquire(LEASE, ttl_s=LEASE_S) is None:
            return {"resizes": 0, "evictions": 0}
        for_new = self.headroom.round(now_s=self.clock.now_s())
        rule = common_rule(sharing_rules(run.system for run in self.runs.active_runs() if run.reassure))
        if rule == "static":
            found = self.reassurance.restore(now_s=self.clock.now_s())
        else:
            found = self.reassurance.round(now_s=self.clock.now_s(), rule=rule)
        return found | {"evictions": found["evictions"] + for_new}
