"""The engine's tenants and the scheduler's, given the same world: the same order, the same tenants withheld, the same pods taken back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.resource_axis import lacks
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.domain.tenants import Tenant
from tango.settings import BeSettings, SimSettings
from tango.settings.simulated import SimulationSettings
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, simulate
from tango.systems import System
from tests.fakes.store_world import ZERO_S, memory_world_and_state
from tests.fakes.tenant_worlds import Tenancy, be, fleet

SMALL = be("small", cpu_millicores=100, memory_mib=64)
LARGE = be("large", cpu_millicores=1000, memory_mib=64)
# On one node, pods that began together go on alike, so that both worlds know the same of how much each has done.
FLEET = fleet(SMALL, LARGE, nodes=1, cpu_millicores=4000, memory_mib=64_000)
ONLY_BE = replace(FLEET, services=(LARGE, SMALL))
WANTS = (("red", SMALL, 50, 1), ("blue", LARGE, 3, 11), ("green", SMALL, 20, 11), ("grey", SMALL, 12, 14))
"""Tenant, service, how many, and the second of the placement that is the first to see them."""
DECLARED = (Tenant(name="green", weight=2.0), Tenant(name="grey", quota=(("cpu", 700),)))
TICKS = 120
"""Placements, one a second; no pod ends before."""
WORK_S = 300.0
MOST = 64


@dataclass(slots=True, eq=False)
class FirstFit:
    """A policy that puts each request on the first node with room, and remembers what it was asked."""

    asked: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """By second: (run, request) in the order in which they came."""
    now_s: int = 0

    def __call__(self, pending: BePending, snapshot: FleetSnapshot, _settings: BeSettings) -> BePlan:
        """Node by node."""
        at_s = self.now_s or round(snapshot.at_s)
        self.asked[at_s] = list(zip(pending.run_id.tolist(), pending.request_id.tolist(), strict=True))
        free, node = snapshot.free, np.full(len(pending), -1, np.int32)
        for k, asked in enumerate(pending.requests.T):
            fits = np.flatnonzero(~lacks(asked[:, None], free).any(axis=0) & snapshot.node_ready)
            if len(fits):
                node[k] = fits[0]
                free[:, node[k]] -= asked
        return BePlan(node=node, policy="first-fit")


@dataclass(frozen=True, slots=True)
class Seen:
    """What one world decided, by second; requests are (tenant, its place among those of its tenant)."""

    order: dict[int, list[tuple[str, int]]]
    withheld: dict[int, set[str]]
    taken: dict[int, list[tuple[str, int]]]
    free: dict[tuple[str, int], int]
    """How many of its epochs cost a request no attempt, of those that had any."""


def of_the_engine() -> Seen:
    """Simulated."""
    rows = sorted((at - 0.5 + k * 1e-3, t, k) for t, (_, _, count, at) in enumerate(WANTS) for k in range(count))
    of = [WANTS[t] for _, t, _ in rows]
    requests = NewRequests(
        due_s=np.array([due_s for due_s, _, _ in rows]),
        target_s=np.full(len(rows), np.nan),
        service_class=np.full(len(rows), int(ServiceClass.BE), np.int8),
        service=np.array([ONLY_BE.services.index(service) for _, service, _, _ in of], np.int32),
        cluster=np.zeros(len(rows), np.int32),
        cpu_work_s=np.array([WORK_S * service.cpu_request_millicores / 1000 for _, service, _, _ in of]),
        memory_mib=np.array([float(service.memory_mib) for _, service, _, _ in of]),
        services=tuple(s.name for s in ONLY_BE.services),
        clusters=("c1",),
        tenant=np.array([t for _, t, _ in rows], np.int32),
        tenants=tuple(name for name, *_ in WANTS),
    )
    named = [(WANTS[t][0], k) for _, t, k in rows]
    policy, mix = FirstFit(), System(name="by hand", lc="load-greedy", be="first-fit", sharing="static")
    quiet = SimulationSettings(sim=SimSettings(charge_decisions=False, be_batch_limit=MOST))
    run = simulate(ONLY_BE, requests, mix, quiet, given=Given(be=policy, tenants={t.name: t for t in DECLARED}))
    order = {at_s: [named[request] for _, request in asked] for at_s, asked in policy.asked.items()}
    given_back = (run.outcomes.epoch - run.outcomes.attempts).tolist()
    free = {named[request]: count for request, count in enumerate(given_back) if count}
    return Seen(order=order, withheld=_withheld(run), taken=_taken(run, named), free=free)


def _withheld(run: SimulatedRun) -> dict[int, set[str]]:
    series = run.tenants
    assert series is not None
    names = series.tenants.names
    return {
        round(at_s): {names[t] for t in np.flatnonzero(row).tolist()}
        for at_s, row in zip(series.at_s.tolist(), series.is_withheld, strict=True)
    }


def _taken(run: SimulatedRun, named: list[tuple[str, int]]) -> dict[int, list[tuple[str, int]]]:
    found: dict[int, list[tuple[str, int]]] = {}
    for at_s, request in zip(run.losses.at_s.tolist(), run.losses.request.tolist(), strict=True):
        found.setdefault(round(at_s), []).append(named[request])
    return found


def of_the_scheduler() -> Seen:
    """Live, on stores in memory, with clusters that do what they are told."""
    policy = FirstFit()
    world, _ = memory_world_and_state(FLEET)
    tenancy, found = Tenancy(world=world, batch_limit=MOST, policy=policy), Seen(order={}, withheld={}, taken={}, free={})
    world.tenants.put(list(DECLARED))
    of_run: dict[int, str] = {}
    for second in range(1, TICKS + 1):
        policy.now_s, tenancy.now_s = second, float(second)
        for name, service, count, at in WANTS:
            if at == second:
                of_run[tenancy.wants(name, service, count, due_s=at - 0.5)] = name
        placed, evicted = len(tenancy.clusters.placed), len(tenancy.clusters.evicted)
        tenancy.placement.tick()
        new = tenancy.clusters.placed[placed:]
        world.requests.mark_running([(p.run_id, p.request_id, p.epoch, ZERO_S + second) for p in new], lease_s=1e6)
        found.order[second] = [(of_run[run], request) for run, request in policy.asked.get(second, [])]
        found.withheld[second] = {share.tenant for share in world.tenants.told() if share.withheld}
        found.taken[second] = [(of_run[e.run_id], e.request_id) for e in tenancy.clusters.evicted[evicted:]]
    for run_id, name in of_run.items():
        found.free.update(
            {(name, k): row.epoch - row.attempt for k, row in enumerate(world.rows(run_id)) if row.epoch > row.attempt}
        )
    return found


def test_both_worlds_decide_alike_of_the_same_tenants() -> None:
    """Red fills a fleet; blue comes with requests that are large, green with twice the weight, grey with a quota. For two minutes both
    worlds look at the same requests in the same order, withhold the same tenants and take back the same pods."""
    engine, scheduler = of_the_engine(), of_the_scheduler()

    for second in range(1, TICKS + 1):
        assert engine.order.get(second, []) == scheduler.order[second], second
        assert engine.withheld.get(second, set()) == scheduler.withheld[second], second
        assert sorted(engine.taken.get(second, [])) == sorted(scheduler.taken[second]), second
    assert any(scheduler.withheld.values())
    assert sum(map(len, scheduler.taken.values())) >= 10
    assert {name for asked in scheduler.order.values() for name, _ in asked} == {name for name, *_ in WANTS}
    for world in (engine, scheduler):  # giving way for others is nothing that a request has done
        assert world.free == Counter(request for taken in world.taken.values() for request in taken)
