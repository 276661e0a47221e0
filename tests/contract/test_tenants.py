"""`TenantStore` on the fake and on PostgreSQL, and what other stores do by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.domain.jobs import NewJob
from tango.domain.lifecycle import Event, Outcome
from tango.domain.tenants import Guarantee, Tenant, TenantShare, TenantUse
from tango.errors import NotAdmitted, TooManyJobs, UsageError
from tests.fakes.store_world import BATCH, HUGE, WEB, StoreWorld, memory_world, postgres_world

BLUE = Tenant(name="blue", weight=2.5, quota=(("cpu", 1500), ("memory", 4096), ("nvidia.com/gpu", 2000)), most_jobs=2)
RED = Tenant(name="red")
GREEN = Tenant(name="green", guarantee=Guarantee(cpu_millicores=2500, clusters=("c1", "c2")))


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> StoreWorld:
    """All stores of one implementation after the other."""
    return memory_world() if request.param == "memory" else postgres_world(request.getfixturevalue("database_url"))


def test_tenants_are_declared_and_declared_again(world: StoreWorld) -> None:
    """What is declared again is as it was said last; others stay."""
    world.tenants.put([RED, GREEN, BLUE])
    world.tenants.put([Tenant(name="red", weight=0.5)])

    assert list(world.tenants.declared().items()) == [("blue", BLUE), ("green", GREEN), ("red", Tenant(name="red", weight=0.5))]


def test_a_tenant_is_withdrawn_once(world: StoreWorld) -> None:
    """The second time there is none of that name."""
    world.tenants.put([BLUE])

    world.tenants.delete("blue")

    assert world.tenants.declared() == {}
    with pytest.raises(UsageError, match="tenant 'blue' is not declared"):
        world.tenants.delete("blue")


def test_requests_are_their_own_tenants_or_else_their_runs(world: StoreWorld) -> None:
    """What waits for a node and what has a pod is counted apart, by service, declared or not; LC is not counted."""
    of_nobody, of_blue = world.create(BATCH, BATCH, WEB), world.create(BATCH, HUGE, tenant="blue")
    for run_id in (of_nobody, of_blue):
        world.release(run_id)
        world.admit(run_id, [0])
    job = world.jobs.submit(NewJob(service="batch", key="k", tenant="red")).key
    world.requests.admit_be(job.run_id, [job.request_id], most_memory_mib={"batch": 8192.0})
    read = world.requests.pending_be(limit=1)
    alone = replace(read, pending=read.pending.rows(np.flatnonzero(read.pending.run_id == of_nobody)), tenants=())
    world.place(alone, world.fence())

    assert [(read.tenants[t], r) for t, r in zip(read.tenant.tolist(), read.pending.run_id.tolist(), strict=True)] == [
        ("default", of_nobody),
        ("blue", of_blue),
        ("red", job.run_id),
    ]
    assert world.tenants.in_flight() == [TenantUse("default", "batch", 0, 1, 64.0)]
    assert world.tenants.uses() == [
        TenantUse("blue", "batch", 1, 0, 0.0),
        TenantUse("default", "batch", 0, 1, 64.0),
        TenantUse("red", "batch", 1, 0, 0.0),
    ]


def test_a_job_too_many_is_refused_until_one_has_ended(world: StoreWorld) -> None:
    """By name, in a trial too; the same key again is the same job, and other tenants submit as before."""
    world.tenants.put([BLUE])
    first, second = (world.jobs.submit(NewJob(service="batch", key=k, tenant="blue")) for k in "ab")

    for call in (world.jobs.submit, world.jobs.check):
        with pytest.raises(TooManyJobs, match="tenant blue has 2 live jobs, which is the most"):
            call(NewJob(service="batch", key="c", tenant="blue"))
    again = world.jobs.submit(NewJob(service="batch", key="b", tenant="blue"))
    other = world.jobs.submit(NewJob(service="batch", key="c", tenant="red"))
    world.jobs.withdraw(first.key)

    assert (again.is_new, again.key, other.is_new) == (False, second.key, True)
    assert world.jobs.submit(NewJob(service="batch", key="c", tenant="blue")).is_new


def test_a_job_for_a_service_that_is_not_open_to_its_tenant_is_refused(world: StoreWorld) -> None:
    """In a trial too. Its own tenant and those that the declaration names may; a shared one is everybody's."""
    closed = replace(BATCH, tenant="blue", shared=False, allowed_tenants=("green",))
    world.fleet.put_services([closed])

    for call in (world.jobs.submit, world.jobs.check):
        with pytest.raises(NotAdmitted, match="service batch is of tenant blue and not open to tenant red"):
            call(NewJob(service="batch", key="a", tenant="red"))
    for tenant in ("blue", "green"):
        assert world.jobs.submit(NewJob(service="batch", key="a", tenant=tenant)).is_new
    world.fleet.put_services([replace(closed, shared=True, allowed_tenants=())])
    assert world.jobs.submit(NewJob(service="batch", key="a", tenant="red")).is_new


def test_a_job_that_ended_by_itself_makes_room_for_another(world: StoreWorld) -> None:
    """So does one that failed for good: only what is live counts."""
    world.tenants.put([Tenant(name="blue", most_jobs=1)])
    key = world.jobs.submit(NewJob(service="batch", key="a", tenant="blue")).key
    world.requests.admit_be(key.run_id, [key.request_id], most_memory_mib={"batch": 8192.0})
    (placed,) = world.place(world.requests.pending_be(limit=1), world.fence())
    ended = Outcome(run_id=key.run_id, request_id=key.request_id, epoch=placed.epoch, event=Event.FAIL)
    world.requests.settle([ended])

    assert world.jobs.submit(NewJob(service="batch", key="b", tenant="blue")).is_new


def test_shares_are_told_as_a_whole_and_shown_while_they_are_new(world: StoreWorld) -> None:
    """What is told replaces all that was told before; how long one waits goes on."""
    blue = TenantShare(tenant="blue", share=0.5, weighted_share=0.25, held={"cpu": 1500.0}, below_s=7.0, withheld=False)
    red = TenantShare(tenant="red", share=0.1, weighted_share=0.1, held={}, below_s=None, withheld=True)

    world.tenants.tell([red, blue])
    world.tenants.tell([blue, red])
    told = world.tenants.told()
    world.tenants.tell([])

    assert [replace(s, below_s=None if s.below_s is None else round(s.below_s)) for s in told] == [blue, red]
    assert world.tenants.told() == []
