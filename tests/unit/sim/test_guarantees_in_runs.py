"""Guarantees of LC in simulated runs: what the overload of one tenant does to another, with one and without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tango.domain.fleet import Cluster, Fleet, Node
from tango.domain.runs import NewRequests
from tango.domain.services import Service, ServiceClass
from tango.domain.tenants import Guarantee, Tenant
from tango.errors import RequestRejected
from tango.settings import SharingSettings, SimSettings
from tango.settings.simulated import SimulationSettings
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, simulate
from tango.systems import System
from tests.fakes.sim_worlds import draw_sim_world
from tests.long import example_count

SPAN_S = 60.0
COMES_S, FROM_S = 15.0, 30.0
"""When blue's requests begin to come, and from when on figures are taken: until then its instances have grown to what they want."""
MINE = Service(
    name="mine",
    service_class=ServiceClass.LC,
    cpu_work_s=0.1,
    memory_mib=16,
    target_ms=250.0,
    instance_memory_mib=1024,
    cpu_request_millicores=500,
    cpu_limit_millicores=1000,
    tenant="blue",
)
THEIRS = replace(MINE, name="theirs", tenant="red")
BATCH = Service(name="batch", service_class=ServiceClass.BE, cpu_work_s=5.0, memory_mib=64, cpu_request_millicores=400)
FLEET = Fleet(
    name="shared",
    clusters=(Cluster(name="c1", nodes=tuple(Node(name=f"n{k}", cpu_millicores=8000, memory_mib=32_000) for k in range(2))),),
    services=(MINE, THEIRS, BATCH),
    source_hash="f" * 64,
)
BLUE = Tenant(name="blue", guarantee=Guarantee(cpu_millicores=13_000))
MINE_FROM, THEIRS_FROM = (MINE, 90.0, COMES_S), (THEIRS, 250.0, 0.0)
"""Service, requests a second of a tenth of a core-second each, and since when: nine cores of sixteen, and 25."""


def requests(*streams: tuple[Service, float, float], be: int = 0, seed: int = 1) -> NewRequests:
    """Poisson arrivals of LC at the one cluster, and BE pods that come at once and outlast the run."""
    rng = np.random.default_rng(seed)
    rows = []
    for service, rate, from_s in streams:
        at_s = from_s + np.cumsum(rng.exponential(1.0 / rate, int(rate * SPAN_S * 1.2)))
        row, work_s = FLEET.services.index(service), rng.lognormal(-0.125, 0.5, len(at_s)) * service.cpu_work_s
        rows += [(t, row, w) for t, w in zip(at_s.tolist(), work_s.tolist(), strict=True) if t < SPAN_S]
    rows += [(0.001 * k, 2, 30.0) for k in range(be)]
    rows.sort()
    due_s, service, work_s = (np.array(column) for column in zip(*rows, strict=True))
    is_be = service == 2
    return NewRequests(
        due_s=due_s,
        target_s=np.where(is_be, np.nan, 0.25),
        service_class=is_be.astype(np.int8),
        service=service.astype(np.int32),
        cluster=np.zeros(len(rows), np.int32),
        cpu_work_s=work_s,
        memory_mib=np.array([float(FLEET.services[s].memory_mib) for s in service.tolist()]),
        services=tuple(s.name for s in FLEET.services),
        clusters=("c1",),
    )


def run_of(of: NewRequests, *declared: Tenant, rule: str = "hrm", lc: str = "load-greedy") -> SimulatedRun:
    """Under a sharing rule, decided in no time."""
    quiet = SimulationSettings(sharing=SharingSettings(), sim=SimSettings(charge_decisions=False, audit=True))
    system = System(name="by hand", lc=lc, be="load-greedy", sharing=rule)
    return simulate(FLEET, of, system, quiet, given=Given(tenants={tenant.name: tenant for tenant in declared}))


def qos(run: SimulatedRun, service: Service) -> float:
    """The share of its requests that were answered in time."""
    of = run.outcomes
    mine = (of.service == FLEET.services.index(service)) & (of.due_s >= FROM_S)
    return float((of.finished_s[mine] - of.due_s[mine] <= of.target_s[mine]).mean())


@pytest.mark.parametrize(("rule", "lc"), [("hrm", "load-greedy"), ("burst", "dss-lc"), ("ceres", "load-greedy")])
def test_the_overload_of_one_tenant_costs_another_nothing_of_what_it_is_guaranteed(rule: str, lc: str) -> None:
    """Red asks for half as much again as the fleet has, and blue, which comes later, for half of it. With a guarantee blue's requests fare
    as they do alone; without, they find instances that have nothing to grow into, and all of them are late."""
    alone = run_of(requests(MINE_FROM), rule=rule, lc=lc)
    both = requests(MINE_FROM, THEIRS_FROM)
    without, guaranteed = run_of(both, rule=rule, lc=lc), run_of(both, BLUE, rule=rule, lc=lc)

    assert qos(alone, MINE) > 0.9
    assert qos(guaranteed, MINE) == pytest.approx(qos(alone, MINE), abs=0.02)
    assert qos(without, MINE) < 0.5
    assert guaranteed.worst_cpu_cores <= 1e-6


def test_until_a_tenant_is_asked_others_have_all_of_its_guarantee() -> None:
    """What has ended before blue's first request is the same with a guarantee and without."""
    both = requests(MINE_FROM, THEIRS_FROM)

    found = [run_of(both, *declared).outcomes.finished_s for declared in ((), (BLUE,))]

    before = [finished_s[finished_s < COMES_S] for finished_s in found]
    assert len(before[0]) > 1000
    assert np.array_equal(*before)
    assert not np.array_equal(*found)


def test_best_effort_gives_way_to_an_instance_that_grows_into_its_guarantee() -> None:
    """Pods fill what LC leaves. Blue's requests fare as they do without them."""
    alone, beside = (run_of(requests(MINE_FROM, THEIRS_FROM, be=be), BLUE, rule="hrm") for be in (0, 30))

    evicted = beside.scaling.reason == beside.scaling.reasons.index("evict")
    assert evicted.any()
    assert qos(beside, MINE) == pytest.approx(qos(alone, MINE), abs=0.05)


def test_under_a_rule_that_moves_nothing_a_guarantee_changes_nothing() -> None:
    """To the bit."""
    both = requests(MINE_FROM, (THEIRS, 50.0, 0.0))

    assert run_of(both, BLUE, rule="static").digest == run_of(both, rule="static").digest


def test_a_simulation_of_more_than_the_fleet_has_is_refused() -> None:
    """With numbers, before it begins."""
    with pytest.raises(RequestRejected, match=r"of 16 CPU its LC instances request 2 as declared, which leaves 14; .* blue 15\."):
        run_of(requests((MINE, 1.0, 0.0)), replace(BLUE, guarantee=Guarantee(cpu_millicores=16_000)))


@given(seed=st.integers(0, 1_000_000))
@settings(max_examples=example_count(20), deadline=None)
def test_the_guarantee_of_a_tenant_without_services_changes_nothing(seed: int) -> None:
    """Random worlds with failures, under every rule, have the same digest."""
    world = draw_sim_world(seed)
    nobody = {"nobody": Tenant(name="nobody", guarantee=Guarantee(cpu_millicores=1))}

    def run(tenants: dict[str, Tenant]) -> SimulatedRun:
        of = Given(outages=list(world.outages), costs=world.costs, tenants=tenants)
        return simulate(world.fleet, world.requests, world.system, world.settings, given=of, end_when_stuck=True)

    try:
        guaranteed = run(nobody)
    except RequestRejected:
        reject()

    assert guaranteed.digest == run({}).digest
