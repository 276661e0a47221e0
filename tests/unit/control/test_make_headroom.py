"""Room for LC instances that are to be made: BE gives way for them, as little as will do, and gets the room back when nobody needs it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tango.control.be_evictions import BeEvictions
from tango.control.make_headroom import HeadroomForInstances, make_headroom
from tango.domain.jobs import NewJob
from tango.domain.observations import AwaitedInstances
from tango.domain.plans import Eviction
from tango.domain.resource_axis import MEMORY
from tango.domain.runs import ScalingOutcome
from tango.domain.services import Service
from tests.fakes.control_world import ControlWorld
from tests.fakes.store_world import BATCH, CHAT, FLEET, WEB, ZERO_S, instance_of, node_states

C1_N1 = 0
"""Row of the first node of c1: 4 cores, 8 GiB, so eight pods of BATCH fill its CPU."""


def room(world: ControlWorld) -> HeadroomForInstances:
    """Of one process."""
    evictions = BeEvictions(fleet=world.fleet, events=world.events, requests=world.requests, clusters=world.clusters)
    return HeadroomForInstances(fleet=world.fleet, evictions=evictions)


def placed(world: ControlWorld, count: int, service: Service = BATCH) -> int:
    """A run whose BE pods, of half a core each, are on the first node of c1."""
    run_id = world.pending(*[service] * count)
    world.place(world.requests.pending_be(limit=count), world.fence(), node=C1_N1)
    return run_id


def awaiting(world: ControlWorld, *, of_others: int = 0, **counts: int) -> None:
    """The agent of c1 tells that its first node is to get so many instances of these services; `of_others`: CPU that others hold there."""
    first, *others = node_states(FLEET.clusters[0])
    seen = replace(first, lc_awaited=counts, other_cpu_request_millicores=of_others)
    world.fleet.observe("c1", [seen, *others], [], sample=False)


def test_best_effort_gives_way_for_an_instance_that_is_to_be_made(world: ControlWorld) -> None:
    """An instance of 100 millicores on a full node: one pod goes, the one that loses least, with for whom on record."""
    run_id = placed(world, 8)
    world.requests.mark_running([(run_id, k, 1, ZERO_S + 1.0 + k) for k in range(8) if k != 3], lease_s=60.0)
    awaiting(world, web=1)
    rounds = room(world)

    first, second = rounds.round(now_s=ZERO_S), rounds.round(now_s=ZERO_S)

    assert (first, second) == (1, 0)
    assert [e.request_id for e in world.clusters.evicted] == [3]
    assert world.attempts(run_id) == [(3, 1, "returned", "evicted")]
    assert [(e.kind, e.outcome, e.reason) for e in world.state.scalings] == [
        ("evict", "done", "evicted: room for an instance of web")
    ]


def test_the_room_is_the_instances_before_it_is_there(world: ControlWorld) -> None:
    """Policies see it as LC's, so that the request that was evicted does not get it back."""
    placed(world, 8)
    awaiting(world, web=1, chat=2)

    room(world).round(now_s=ZERO_S)

    snapshot = world.fleet.snapshot(at_s=ZERO_S)
    lc_cpu = WEB.cpu_request_millicores + 2 * CHAT.cpu_request_millicores
    lc_mib = WEB.instance_memory_mib + 2 * CHAT.instance_memory_mib
    assert snapshot.lc_requests[:3, C1_N1].tolist() == [lc_cpu, lc_mib, 3.0]
    assert 0 <= snapshot.free[0, C1_N1] < BATCH.cpu_request_millicores
    assert len(world.clusters.evicted) == 1


def test_nobody_goes_where_there_is_room(world: ControlWorld) -> None:
    """The agent tells of every instance that it has not made yet."""
    placed(world, 7)
    awaiting(world, web=1)

    assert room(world).round(now_s=ZERO_S) == 0


def test_nobody_goes_for_what_would_not_fit_all_the_same(world: ControlWorld) -> None:
    """Pods of others leave no room for the large one, as BE that is never evicted may; the small one gets its own."""
    world.fleet.put_services([replace(CHAT, name="large", cpu_request_millicores=3000, cpu_limit_millicores=3500)])
    placed(world, 5)
    awaiting(world, of_others=1500, large=1, web=1)

    assert room(world).round(now_s=ZERO_S) == 1
    assert [(e.service, e.why) for e in world.clusters.evicted] == [("batch", "room for an instance of web")]


def test_only_pods_that_hold_what_is_short_go(world: ControlWorld) -> None:
    """Where memory is short one with memory goes, and not those before it that have lost less and hold none."""
    snapshot = world.fleet.snapshot(at_s=ZERO_S)
    lean, fat = (
        Eviction(cluster="c1", node="c1-n1", pod=p, run_id=1, request_id=0, epoch=1, work_lost_s=0.0) for p in ("lean", "fat")
    )
    held = {"lean": 0.0, "fat": 300.0}

    def requests_of(eviction: Eviction) -> NDArray[np.float64]:
        found = np.zeros(len(snapshot.resources))
        found[:3] = 100.0, held[eviction.pod], 1.0
        return found

    free = np.full(len(snapshot.resources), 1e6)
    free[MEMORY] = -200.0
    awaited = [AwaitedInstances(cluster="c1", node="c1-n1", service="chat", count=1)]

    found = make_headroom(awaited, free, [lean, fat], snapshot, requests_of)

    assert [(e.pod, e.why) for e in found] == [("fat", "room for an instance of chat")]


@pytest.mark.parametrize("outcome", ["deferred", "error"])
def test_a_budget_that_forbids_it_is_asked_again_after_a_pause(world: ControlWorld, outcome: ScalingOutcome) -> None:
    """The pod stays with its request, and the instance goes on waiting."""
    run_id = placed(world, 8)
    awaiting(world, web=1)
    world.clusters.outcomes = {f"be-r{run_id}-{k}-e1": outcome for k in range(8)}
    rounds = room(world)

    counts = [rounds.round(now_s=ZERO_S + after_s) for after_s in (0.0, 0.1, 5.0)]

    assert counts == [1, 0, 1]
    assert world.states(run_id) == ["placed"] * 8


def test_a_job_that_is_leaving_makes_room_once(world: ControlWorld) -> None:
    """It has its grace; until it has ended nobody else goes for the same room."""
    jobs = [world.jobs.submit(NewJob(service=BATCH.name, key=str(k))).key for k in range(8)]
    world.admit(jobs[0].run_id, [job.request_id for job in jobs])
    world.place(world.requests.pending_be(limit=8), world.fence(), node=C1_N1)
    awaiting(world, web=1)
    rounds = room(world)

    counts = [rounds.round(now_s=ZERO_S + after_s) for after_s in (0.0, 1.0)]

    assert counts == [1, 0]
    assert {job.state for job in world.jobs.jobs()} == {"placed"}


def test_an_instance_that_stands_is_no_longer_awaited(world: ControlWorld) -> None:
    """What BE holds beside it then is its own again."""
    placed(world, 8)
    awaiting(world, web=1)
    room(world).round(now_s=ZERO_S)
    world.fleet.observe("c1", node_states(FLEET.clusters[0]), [instance_of(WEB, "c1-n1")], sample=False)

    assert world.fleet.awaited() == []
    assert room(world).round(now_s=ZERO_S) == 0
