"""Placements among tenants, on any world of stores: a scheduler whose clock is turned by hand, and pods that never end by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tango.control.be_deciders import BeDeciders
from tango.control.be_evictions import BeEvictions
from tango.control.lease_holder import LeaseHolder
from tango.control.place_be import BePlacement
from tango.control.tenant_shares import TenantShares
from tango.domain.fleet import Cluster, Fleet, Node
from tango.domain.runs import NewRequests
from tango.domain.services import Service, ServiceClass
from tango.scheduling.be_policies import place_load_greedy
from tango.scheduling.tenant_turns import TenantHoldings
from tango.settings import BeSettings, LeaseSettings, TenantSettings
from tango.systems import BePolicy
from tests.fakes.cluster_calls import RecordingClusterCalls
from tests.fakes.store_world import CHAT, WEB, ZERO_S, StoreWorld, new_run

LONG_S = 10_000.0


def be(name: str, *, cpu_millicores: int, memory_mib: int) -> Service:
    """A BE service whose pods ask for that much."""
    return Service(
        name=name,
        service_class=ServiceClass.BE,
        cpu_work_s=5.0,
        memory_mib=memory_mib,
        cpu_request_millicores=cpu_millicores,
        cpu_limit_millicores=cpu_millicores + 100,
    )


def fleet(*services: Service, nodes: int, cpu_millicores: int, memory_mib: int) -> Fleet:
    """One cluster of equal nodes."""
    of = tuple(Node(name=f"n{k}", cpu_millicores=cpu_millicores, memory_mib=memory_mib) for k in range(nodes))
    return Fleet(name="shared", clusters=(Cluster(name="c1", nodes=of),), services=(WEB, CHAT, *services), source_hash="f" * 64)


@dataclass(slots=True, kw_only=True)
class Tenancy:
    """A world with a scheduler that knows of tenants."""

    world: StoreWorld
    settings: TenantSettings = field(default_factory=TenantSettings)
    batch_limit: int = 64
    policy: BePolicy = place_load_greedy
    now_s: float = 0.0
    clusters: RecordingClusterCalls = field(default_factory=RecordingClusterCalls)
    placement: BePlacement = field(init=False)
    shares: TenantShares = field(init=False)

    def __post_init__(self) -> None:
        world = self.world
        evictions = BeEvictions(fleet=world.fleet, events=world.events, requests=world.requests, clusters=self.clusters)
        self.shares = TenantShares(
            tenants=world.tenants,
            settings=self.settings,
            fleet=world.fleet,
            evictions=evictions,
            monotonic=lambda: self.now_s,
        )
        self.placement = BePlacement(
            deciders=BeDeciders(policy_of=lambda _run: self.policy, fallback=self.policy),
            requests=world.requests,
            jobs=world.jobs,
            refusals=world.refusals,
            snapshot=lambda: world.fleet.snapshot(at_s=0.0),
            clusters=self.clusters,
            holder=LeaseHolder(leases=world.leases, owner="scheduler", settings=LeaseSettings(placement_s=LONG_S)),
            settings=BeSettings(batch_limit=self.batch_limit),
            shares=self.shares,
        )

    def wants(self, tenant: str, service: Service, count: int, *, due_s: float = 0.0) -> int:
        """A run of a tenant whose requests, due from `due_s` on, all wait for a node."""
        return self._waiting(tenant, _requests(service, count, due_s=due_s))

    def want_together(self, service: Service, counts: Mapping[str, int]) -> int:
        """One run of a trace whose requests name their tenants: those of the first are due first, and so on. All wait for a node."""
        names = tuple(counts)
        tenant = np.repeat(np.arange(len(names), dtype=np.int32), list(counts.values()))
        return self._waiting("nobody", replace(_requests(service, len(tenant), due_s=0.0), tenant=tenant, tenants=names))

    def _waiting(self, tenant: str, requests: NewRequests) -> int:
        run_id = self.world.runs.create_run(replace(new_run(tenant), tenant=tenant), requests)
        self.world.runs.begin(run_id, at_s=ZERO_S)
        self.world.release(run_id)
        self.world.requests.admit_be(run_id, range(len(requests)), most_memory_mib={requests.services[0]: 1e6})
        return run_id

    def ticks(self, *, apart_s: float = 0.2, most: int = 50) -> int:
        """Placements until one changes nothing; gives how many there were."""
        for k in range(most):
            before = len(self.clusters.placed), len(self.clusters.evicted)
            self.placement.tick()
            self.now_s += apart_s
            if (len(self.clusters.placed), len(self.clusters.evicted)) == before:
                return k + 1
        return most

    def turn(self, count: int, *, apart_s: float = 0.2) -> None:
        """So many placements, whatever they do."""
        for _ in range(count):
            self.placement.tick()
            self.now_s += apart_s

    def held(self, names: Sequence[str]) -> NDArray[np.float64]:
        """(t,) the dominant share that each tenant holds now."""
        books = TenantHoldings.of(names, self.world.fleet.snapshot(at_s=0.0), {}, self.world.tenants.in_flight())
        of = {share.tenant: share.share for share in books.told({}, ())}
        return np.array([of[name] for name in names])


def _requests(service: Service, count: int, *, due_s: float) -> NewRequests:
    return NewRequests(
        due_s=due_s + np.arange(count) * 0.001,
        target_s=np.full(count, np.nan),
        service_class=np.ones(count, np.int8),
        service=np.zeros(count, np.int32),
        cluster=np.zeros(count, np.int32),
        cpu_work_s=np.full(count, service.cpu_work_s),
        memory_mib=np.full(count, float(service.memory_mib)),
        services=(service.name,),
        clusters=("c1",),
    )
