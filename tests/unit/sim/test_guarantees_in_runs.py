"""Guarantees of LC in simulated runs: what the overload of one tenant does to another, with one and without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.domain.fleet import Cluster, Fleet, Node
from tango.domain.runs import NewRequests
from tango.domain.services import Service, ServiceClass
from tango.domain.tenants import Guarantee, Tenant
from tango.settings import SharingSettings, SimSettings
from tango.settings.simulated import SimulationSettings
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, simulate
from tango.systems import System

SPAN_S = 60.0
FROM_S = 15.0
"""Seconds from which on figures are taken: until then instances have grown to what they want."""
MINE = Service(
    name="mine",
    service_class=ServiceClass.LC,
    cpu_work_s=0.1,
    memory_mib=16,
    target_ms=400.0,
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
BLUE = Tenant(name="blue", guarantee=Guarantee(cpu_millicores=8000))
LOAD, OVERLOAD = 40.0, 400.0
"""Requests a second, a tenth of a core-second each: four cores of sixteen, and forty."""


def requests(*rates: tuple[Service, float], be: int = 0, seed: int = 1) -> NewRequests:
    """Poisson arrivals of LC at the one cluster, and BE pods that come at once and outlast the run."""
    rng = np.random.default_rng(seed)
    rows = []
    for service, rate in rates:
        at_s = np.cumsum(rng.exponential(1.0 / rate, int(rate * SPAN_S * 1.2)))
        row, work_s = FLEET.services.index(service), rng.lognormal(-0.125, 0.5, len(at_s)) * service.cpu_work_s
        rows += [(t, row, w) for t, w in zip(at_s.tolist(), work_s.tolist(), strict=True) if t < SPAN_S]
    rows += [(0.001 * k, 2, 30.0) for k in range(be)]
    rows.sort()
    due_s, service, work_s = (np.array(column) for column in zip(*rows, strict=True))
    is_be = service == 2
    return NewRequests(
        due_s=due_s,
        target_s=np.where(is_be, np.nan, 0.4),
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
    settings = SimulationSettings(sharing=SharingSettings(), sim=SimSettings(charge_decisions=False, audit=True))
    system = System(name="by hand", lc=lc, be="load-greedy", sharing=rule)
    return simulate(FLEET, of, system, settings, given=Given(tenants={tenant.name: tenant for tenant in declared}))


def qos(run: SimulatedRun, service: Service) -> float:
    """The share of its requests that were answered in time."""
    of = run.outcomes
    mine = (of.service == FLEET.services.index(service)) & (of.due_s >= FROM_S)
    return float((of.finished_s[mine] - of.due_s[mine] <= of.target_s[mine]).mean())


@pytest.mark.parametrize(("rule", "lc"), [("hrm", "load-greedy"), ("burst", "dss-lc"), ("ceres", "load-greedy")])
def test_the_overload_of_one_tenant_costs_another_nothing_of_what_it_is_guaranteed(rule: str, lc: str) -> None:
    """Blue needs a quarter of the fleet and red asks for two and a half times all of it. With half of it guaranteed blue's requests fare as
    they do alone; without, they fall."""
    alone = run_of(requests((MINE, LOAD)), rule=rule, lc=lc)
    both = requests((MINE, LOAD), (THEIRS, OVERLOAD))
    without, guaranteed = run_of(both, rule=rule, lc=lc), run_of(both, BLUE, rule=rule, lc=lc)

    print(rule, qos(alone, MINE), qos(without, MINE), qos(guaranteed, MINE), qos(without, THEIRS), qos(guaranteed, THEIRS))
    assert qos(alone, MINE) > 0.95
    assert qos(guaranteed, MINE) == pytest.approx(qos(alone, MINE), abs=0.02)
    assert qos(without, MINE) < 0.8
