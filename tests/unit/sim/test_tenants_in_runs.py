"""Tenants in simulated runs: worlds whose fair shares are known, what is taken back, and that one tenant alone changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tango.analysis.tenant_figures import TenantFigures, tenant_figures
from tango.domain.fleet import Fleet
from tango.domain.outcomes import SCALING_KINDS
from tango.domain.runs import NewRequests
from tango.domain.services import Service
from tango.domain.tenant_shares import TenantSeries
from tango.domain.tenants import Tenant
from tango.errors import Deadlock
from tango.settings import SharingSettings, SimSettings, TenantSettings
from tango.settings.simulated import SimulationSettings
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, simulate
from tango.systems import System
from tests.fakes.sim_worlds import SimWorld, draw_sim_world
from tests.fakes.tenant_worlds import be, fleet
from tests.long import example_count

WITHIN = 0.02
"""How far a share may be from the computed one: pods are not divided."""
GREEDY = System(name="greedy", lc="load-greedy", be="load-greedy", sharing="static")
SMALL = be("small", cpu_millicores=100, memory_mib=64)
WIDE = be("wide", cpu_millicores=300, memory_mib=100)
TALL = be("tall", cpu_millicores=100, memory_mib=400)
LARGE = be("large", cpu_millicores=1000, memory_mib=64)


def batch(of: Fleet, *wants: tuple[str, Service, int, float, float]) -> NewRequests:
    """Requests in order of time, each (tenant, service, how many, due from this second on, CPU-seconds of each)."""
    services, names = [s.name for s in of.services], tuple(dict.fromkeys(name for name, *_ in wants))
    rows = sorted(
        (from_s + k * 1e-4, names.index(name), services.index(service.name), work_s, float(service.memory_mib))
        for name, service, count, from_s, work_s in wants
        for k in range(count)
    )
    due_s, tenant, service, work_s, memory_mib = (np.array(column) for column in zip(*rows, strict=True))
    return NewRequests(
        due_s=due_s,
        target_s=np.full(len(rows), np.nan),
        service_class=np.ones(len(rows), np.int8),
        service=service.astype(np.int32),
        cluster=np.zeros(len(rows), np.int32),
        cpu_work_s=work_s,
        memory_mib=memory_mib,
        services=tuple(services),
        clusters=tuple(c.name for c in of.clusters),
        tenant=tenant.astype(np.int32),
        tenants=names,
    )


def run_of(of: Fleet, requests: NewRequests, *declared: Tenant, tenants: TenantSettings | None = None) -> SimulatedRun:
    """Under a greedy placement, decided in no time."""
    quiet = SimulationSettings(
        sharing=SharingSettings(), tenants=tenants or TenantSettings(), sim=SimSettings(charge_decisions=False, audit=True)
    )
    return simulate(of, requests, GREEDY, quiet, given=Given(tenants={tenant.name: tenant for tenant in declared}))


def series_of(run: SimulatedRun) -> TenantSeries:
    """What tenants held."""
    assert run.tenants is not None
    return run.tenants


def held(run: SimulatedRun, at_s: float) -> NDArray[np.float64]:
    """(t,) the shares after the placement at this second."""
    series = series_of(run)
    return np.asarray(series.share[np.searchsorted(series.at_s, at_s - 1e-6)])


def figures(run: SimulatedRun) -> dict[str, TenantFigures]:
    """By tenant."""
    return {found.tenant: found for found in tenant_figures(run.outcomes, series_of(run))}


# ---- worlds whose fair shares are known --------------------------------------------------------------------------------------------


def test_weights_divide_a_fleet_that_all_want() -> None:
    """Weights 3, 2 and 1 give half, a third and a sixth from the first placement on, and as pods end and others begin."""
    of = fleet(SMALL, nodes=3, cpu_millicores=6000, memory_mib=64_000)
    requests = batch(of, *((name, SMALL, 500, 0.0, 2.0) for name in ("red", "green", "blue")))

    run = run_of(of, requests, Tenant(name="blue", weight=3.0), Tenant(name="green", weight=2.0))

    assert series_of(run).tenants.names == ("blue", "green", "red")
    for at_s in (1.0, 5.0, 20.0, 30.0):
        assert held(run, at_s) == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=WITHIN)
    assert all(abs(f.share - f.fair_share) <= WITHIN for f in figures(run).values())
    assert {f.succeeded for f in figures(run).values()} == {500}
    assert run.forbidden_changes == 0


def test_a_tenant_of_cpu_and_one_of_memory_have_two_thirds_each_of_their_own() -> None:
    """The example of the paper (section 4.1): of 9 CPUs and 18 GB to share, one asks for (1, 4) at a time, the other for (3, 1)."""
    tall, wide = be("tall", cpu_millicores=100, memory_mib=400), be("wide", cpu_millicores=300, memory_mib=100)
    of = fleet(tall, wide, nodes=1, cpu_millicores=0, memory_mib=0)
    lc_mib = sum(s.instance_memory_mib for s in of.services if s.target_ms is not None)
    lc_millicores = sum(s.cpu_request_millicores for s in of.services if s.target_ms is not None)
    node = replace(of.clusters[0].nodes[0], cpu_millicores=9000 + lc_millicores, memory_mib=18_000 + lc_mib)
    of = replace(of, clusters=(replace(of.clusters[0], nodes=(node,)),))
    requests = batch(of, ("memory", tall, 120, 0.0, 2.0), ("cpu", wide, 120, 0.0, 6.0))

    run = run_of(of, requests)

    assert held(run, 1.0) == pytest.approx([2 / 3, 2 / 3], abs=WITHIN)
    assert series_of(run).fair_share[0] == pytest.approx([2 / 3, 2 / 3])
    assert all(abs(f.share - f.fair_share) <= WITHIN for f in figures(run).values())


def test_a_quota_leaves_the_rest_to_others_by_their_weights() -> None:
    """Blue has a quota of a fifth of the CPU; green and red divide what is left three to one."""
    of = fleet(SMALL, nodes=3, cpu_millicores=6000, memory_mib=64_000)
    lc_millicores = sum(s.cpu_request_millicores for s in of.services if s.target_ms is not None)
    fifth = round(3 * (6000 - lc_millicores) / 5)
    requests = batch(of, *((name, SMALL, 400, 0.0, 2.0) for name in ("blue", "green", "red")))

    run = run_of(of, requests, Tenant(name="blue", weight=5.0, quota=(("cpu", fifth),)), Tenant(name="green", weight=3.0))

    for at_s in (1.0, 10.0, 25.0):
        assert held(run, at_s) == pytest.approx([0.2, 0.6, 0.2], abs=WITHIN)
    assert figures(run)["blue"].over_quota > 0.9
    assert figures(run)["red"].over_quota == 0
    assert all(abs(f.share - f.fair_share) <= WITHIN for f in figures(run).values())


def test_a_fleet_that_one_has_taken_is_divided_again_by_evictions() -> None:
    """Red had it alone with pods that do not end. Blue and green come at 10 s; within four minutes each has a third, of which each
    twentieth was evicted at once, after the time that they had to wait, and only red's pods went."""
    of = fleet(SMALL, nodes=3, cpu_millicores=2000, memory_mib=64_000)
    requests = batch(of, ("red", SMALL, 80, 0.0, 30.0), ("blue", SMALL, 60, 10.0, 30.0), ("green", SMALL, 60, 10.0, 30.0))

    run = run_of(of, requests)

    assert held(run, 12.0) == pytest.approx([0, 0, 1], abs=0.05)
    assert held(run, 250.0) == pytest.approx([1 / 3] * 3, abs=WITHIN)
    shared = run.scaling.reason == run.scaling.reasons.index("share")
    assert shared.any()
    assert (run.scaling.kind[shared] == SCALING_KINDS.index("evict")).all()
    first_s, settings_ = float(run.scaling.at_s[shared].min()), TenantSettings()
    assert first_s >= 10.0 + settings_.reclaim_after_s
    times, each = np.unique(run.scaling.at_s[shared], return_counts=True)
    assert np.diff(times).min() >= settings_.reclaim_every_s - 1e-6
    assert each.max() <= 3
    assert [figures(run)[name].gave_way for name in ("blue", "green", "red")] == [0, 0, int(shared.sum())]


def test_what_ends_is_kept_for_who_waits_below_its_share() -> None:
    """Blue wants whole cores of a fleet that red's small pods fill, some of which end every second. They are kept for blue after five
    seconds, and nothing is evicted."""
    of = fleet(SMALL, LARGE, nodes=2, cpu_millicores=2000, memory_mib=64_000)
    requests = batch(of, *(("red", SMALL, 8, k * 1.0, 0.5 + 0.1 * (k % 7)) for k in range(40)), ("blue", LARGE, 1, 12.0, 3.0))

    run = run_of(of, requests)

    series = series_of(run)
    withheld = series.at_s[series.is_withheld[:, 1]]
    assert len(withheld)
    assert withheld.min() >= 12.0 + TenantSettings().hold_after_s
    assert not (run.scaling.reason == run.scaling.reasons.index("share")).any()
    blue = int(np.flatnonzero(run.outcomes.cpu_work_s == 3.0)[0])
    assert run.outcomes.started_s[blue] < 12.0 + TenantSettings().reclaim_after_s


def test_pods_that_give_way_have_their_grace() -> None:
    """With `give_way_s` they go so much later, and no second pod is asked for the same room meanwhile."""
    of = fleet(SMALL, nodes=1, cpu_millicores=2000, memory_mib=64_000)
    requests = batch(of, ("red", SMALL, 30, 0.0, 20.0), ("blue", SMALL, 1, 10.0, 1.0))
    late = SimulationSettings(sim=SimSettings(charge_decisions=False, give_way_s=8.0))

    at_once = run_of(of, requests)
    with_grace = simulate(of, requests, GREEDY, late)

    gone = [float(run.scaling.at_s[run.scaling.reason == 3][0]) for run in (at_once, with_grace)]
    assert gone[1] - gone[0] == pytest.approx(8.0)
    assert [int((run.scaling.reason == 3).sum()) for run in (at_once, with_grace)] == [1, 1]


def test_what_is_larger_than_a_quota_ends_the_run_with_the_tenant_named() -> None:
    """It can never run: the run says so and not that the fleet is full."""
    of = fleet(SMALL, LARGE, nodes=1, cpu_millicores=4000, memory_mib=64_000)

    with pytest.raises(Deadlock) as caught:
        run_of(of, batch(of, ("blue", LARGE, 2, 0.0, 1.0)), Tenant(name="blue", quota=(("cpu", 500),)))

    assert "2 x BE of tenant blue: over its quota of 500m of cpu" in str(caught.value)
    assert "finds no node" not in str(caught.value)


# ---- one tenant --------------------------------------------------------------------------------------------------------------------


def simulated(world: SimWorld, *declared: Tenant) -> SimulatedRun:
    """The world as it is, with declarations."""
    of = Given(outages=list(world.outages), costs=world.costs, tenants={tenant.name: tenant for tenant in declared})
    return simulate(world.fleet, world.requests, world.system, world.settings, given=of, end_when_stuck=True)


@given(seed=st.integers(0, 1_000_000))
@settings(max_examples=example_count(40), deadline=None)
def test_one_tenant_has_the_run_that_there_was_without_tenants(seed: int) -> None:
    """Whatever its name; and where it is declared, the order of shares is the order of age: random worlds, with failures, have the same
    digest."""
    world = draw_sim_world(seed)
    named = replace(world.requests, tenant=np.zeros(len(world.requests), np.int32), tenants=("blue",))

    alone = simulated(world)
    undeclared = simulated(replace(world, requests=named))
    declared = simulated(replace(world, requests=named), Tenant(name="blue", weight=3.0, quota=(("cpu", 10**9),)))

    assert (alone.tenants, undeclared.tenants) == (None, None)
    assert declared.tenants is not None or not (world.requests.service_class == 1).any()
    assert alone.digest == undeclared.digest == declared.digest
