"""Placements among tenants, on the fakes and on PostgreSQL: worlds whose fair shares can be computed on paper."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tango.domain.fleet import Fleet
from tango.domain.tenant_columns import TenantColumns
from tango.domain.tenants import Tenant
from tango.scheduling.fair_shares import capacity_of, fair_shares
from tests.fakes.store_world import StoreWorld, memory_world, postgres_world
from tests.fakes.tenant_worlds import Tenancy, be, fleet

NAMES = ("blue", "green", "red")
WITHIN = 0.02
"""How far a share may be from the computed one: pods are not divided."""
SMALL = be("small", cpu_millicores=100, memory_mib=64)
WIDE = be("wide", cpu_millicores=300, memory_mib=100)
TALL = be("tall", cpu_millicores=100, memory_mib=400)
Made = Callable[[Fleet], StoreWorld]


@pytest.fixture(params=["memory", "postgres"])
def made(request: pytest.FixtureRequest) -> Made:
    """Worlds of one implementation after the other."""
    if request.param == "memory":
        return memory_world
    url = request.getfixturevalue("database_url")
    return lambda of: postgres_world(url, of)


def computed(tenancy: Tenancy, wanted: dict[str, tuple[int, int, int]]) -> np.ndarray:
    """The shares if all could be divided, of tenants that want so many (millicores, MiB, pods)."""
    snapshot = tenancy.world.fleet.snapshot(at_s=0.0)
    whole = np.zeros((len(snapshot.resources), len(NAMES)))
    whole[:3] = np.array([wanted[name] for name in NAMES]).T
    tenants = TenantColumns.of(NAMES, tenancy.world.tenants.declared(), snapshot.resources)
    return fair_shares(whole, capacity_of(snapshot.allocatable - snapshot.lc_requests, snapshot.node_ready), tenants)


def test_weights_divide_a_fleet_that_all_want(made: Made) -> None:
    """Weights 3, 2 and 1 give half, a third and a sixth, though blue has come last and red with three times as many requests."""
    tenancy = Tenancy(world=made(fleet(SMALL, nodes=10, cpu_millicores=6000, memory_mib=64_000)), batch_limit=256)
    tenancy.world.tenants.put([Tenant(name="blue", weight=3.0), Tenant(name="green", weight=2.0)])
    for name, count in (("red", 900), ("green", 500), ("blue", 400)):
        tenancy.wants(name, SMALL, count)

    tenancy.ticks()

    assert tenancy.held(NAMES) == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=WITHIN)


def test_a_trace_that_names_tenants_is_shared_among_them(made: Made) -> None:
    """Requests of a run stand one tenant after the other: blue, of weight 3, comes behind all of green's and has half of the fleet. A
    placement reads of each tenant as much, of whatever run, and figures know whose each request is."""
    tenancy = Tenancy(world=made(fleet(SMALL, nodes=10, cpu_millicores=6000, memory_mib=64_000)), batch_limit=256)
    tenancy.world.tenants.put([Tenant(name="blue", weight=3.0), Tenant(name="green", weight=2.0)])
    tenancy.want_together(SMALL, {"red": 900, "green": 400})
    tenancy.want_together(SMALL, {"green": 100, "blue": 400})

    read = tenancy.world.requests.pending_be(limit=8)
    tenancy.ticks()

    assert [read.tenants[t] for t in read.tenant].count("blue") == 8
    assert tenancy.held(NAMES) == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=WITHIN)
    assert {use.tenant for use in tenancy.world.tenants.uses()} == set(NAMES)


def test_a_tenant_of_cpu_and_one_of_memory_have_two_thirds_each_of_their_own(made: Made) -> None:
    """The example of the paper (section 4.1), a hundred times finer: 9 CPUs and 18 GB, pods of (1, 4) and of (3, 1)."""
    tenancy = Tenancy(world=made(fleet(TALL, WIDE, nodes=1, cpu_millicores=9000, memory_mib=18_000)))
    tenancy.wants("red", TALL, 60)
    tenancy.wants("blue", WIDE, 60)

    tenancy.ticks()

    assert tenancy.held(["blue", "red"]) == pytest.approx([2 / 3, 2 / 3], abs=WITHIN)


def test_different_dominant_resources_and_a_tenant_that_wants_little(made: Made) -> None:
    """Red wants a tenth of the CPU and has it; blue, by CPU, and green, by memory, have equal dominant shares of the rest."""
    tenancy = Tenancy(world=made(fleet(SMALL, WIDE, TALL, nodes=10, cpu_millicores=9000, memory_mib=12_000)))
    for name, service, count in (("blue", WIDE, 300), ("green", TALL, 300), ("red", SMALL, 90)):
        tenancy.wants(name, service, count)

    tenancy.ticks()

    wanted = {"blue": (90_000, 30_000, 300), "green": (30_000, 120_000, 300), "red": (9_000, 5_760, 90)}
    shares = computed(tenancy, wanted)
    assert shares[2] == pytest.approx(0.1)
    assert shares[0] == pytest.approx(shares[1])
    assert tenancy.held(NAMES) == pytest.approx(shares, abs=WITHIN)


def test_a_quota_leaves_the_rest_to_others_by_their_weights(made: Made) -> None:
    """Blue has a quota of a fifth of the CPU; green and red divide what is left three to one."""
    tenancy = Tenancy(world=made(fleet(SMALL, nodes=10, cpu_millicores=6000, memory_mib=64_000)))
    tenancy.world.tenants.put([Tenant(name="blue", weight=5.0, quota=(("cpu", 12_000),)), Tenant(name="green", weight=3.0)])
    for name in NAMES:
        tenancy.wants(name, SMALL, 600)

    tenancy.ticks()

    assert tenancy.held(NAMES) == pytest.approx([0.2, 0.6, 0.2], abs=WITHIN)


def test_a_fleet_that_one_has_taken_is_divided_again_by_evictions(made: Made) -> None:
    """Red had it alone. Within four minutes each of three has a third, a twentieth having been evicted at a time, and nothing twice."""
    tenancy = Tenancy(world=made(fleet(SMALL, nodes=3, cpu_millicores=2000, memory_mib=64_000)))
    tenancy.wants("red", SMALL, 80)
    tenancy.ticks()
    assert tenancy.held(["red"]) == pytest.approx([1.0])

    for name in ("blue", "green"):
        tenancy.wants(name, SMALL, 60)
    largest = 0
    for _ in range(50):
        before = len(tenancy.clusters.evicted)
        tenancy.placement.tick()
        largest = max(largest, len(tenancy.clusters.evicted) - before)
        tenancy.now_s += 5.0

    assert tenancy.held(NAMES) == pytest.approx([1 / 3] * 3, abs=WITHIN)
    assert largest <= 3
    assert {e.tenant for e in tenancy.clusters.evicted} == {"red"}
    assert len(tenancy.clusters.evicted) == 40
