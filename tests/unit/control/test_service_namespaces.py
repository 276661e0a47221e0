"""Services with namespaces of their own, as their cluster's agent keeps them: seen as long as they may run, and refused alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tango.control.cluster_agent import ClusterAgent
from tango.domain.refusal_kind import RefusalKind
from tango.domain.services import Service
from tango.errors import Forbidden
from tests.fakes.agent_world import LEASE, agent_of, be_pod, journal_of, placed
from tests.fakes.cluster_watch import MemoryCluster
from tests.fakes.control_world import ControlWorld, control_world
from tests.fakes.kube_objects import ended, node, running
from tests.fakes.memory_journal import MemoryJournal
from tests.fakes.own_fleet import published
from tests.fakes.store_world import BATCH, CHAT, FLEET, WEB

Json = dict[str, Any]
WEB_THERE = replace(WEB, namespace="team-a")
BATCH_THERE = replace(BATCH, namespace="team-a")
WORDS = 'pods is forbidden: User "tango" cannot list resource "pods" in API group "" in the namespace "team-a"'
REFUSED = Forbidden(WORDS, status=403, refusal=RefusalKind.PERMISSION, words=WORDS, namespace="team-a")


@pytest.fixture
def world() -> ControlWorld:
    """In memory."""
    return control_world()


@pytest.fixture
def cluster() -> MemoryCluster:
    """c1, with two ready nodes."""
    found = MemoryCluster()
    for name in ("c1-n1", "c1-n2"):
        found.put_node(node(name))
    return found


def declare(world: ControlWorld, journal: MemoryJournal, *services: Service) -> None:
    """These in place of those of the same names, at the centre and as published to the journal."""
    world.fleet.put_services(services)
    names = {s.name for s in services}
    kept = tuple(s for s in FLEET.services if s.name not in names)
    journal.publish(published(replace(FLEET, services=(*kept, *services))))


def names(cluster: MemoryCluster) -> list[str]:
    """Tango's pods, by their names in the fleet."""
    return sorted(cluster.name_of(pod) for pod in cluster.pods())


def become_ready(cluster: MemoryCluster) -> None:
    """All instances run and are ready."""
    for pod in cluster.pods():
        cluster.put_pod({**pod, "status": running()})


def refusals(world: ControlWorld) -> list[tuple[str, str, str]]:
    """(service, kind, words) of what is refused."""
    return [(state.service, str(state.kind), state.words) for state in world.refusals.pauses().states]


async def began(world: ControlWorld, cluster: MemoryCluster, journal: MemoryJournal) -> ClusterAgent:
    """An agent that has begun, as before its first step."""
    agent = agent_of(world, cluster, journal=journal)
    await agent._begin()
    return agent


async def test_instances_are_made_in_their_service_s_namespace_and_told_with_it(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """Those of other services are where they always were."""
    journal = journal_of(world)
    declare(world, journal, WEB_THERE)
    agent = await began(world, cluster, journal)

    await agent.deploy()
    become_ready(cluster)
    await agent.observe()

    assert names(cluster) == ["lc-chat-c1-n1-0", "lc-chat-c1-n2-0", "team-a/lc-web-c1-n1-0", "team-a/lc-web-c1-n2-0"]
    told = [instance for of, instance in world.fleet.instances() if of == "c1" and instance.service == "web"]
    assert [(i.pod, i.revision) for i in told] == [(f"team-a/lc-web-c1-n{k}-0", WEB_THERE.revision) for k in (1, 2)]


async def test_a_namespace_that_is_refused_costs_its_service_alone(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Nothing is made that nobody could see; the server's words are the service's, and gone when its owner allows it."""
    journal = journal_of(world)
    declare(world, journal, WEB_THERE)
    cluster.refused = {"team-a": REFUSED}
    agent = await began(world, cluster, journal)

    await agent.deploy()
    await agent._namespaces.look()
    await agent._namespaces.look()
    during, refused = names(cluster), refusals(world)
    cluster.refused = {}
    await agent._namespaces.look()
    agent._deployed_at = -1
    await agent.deploy()

    assert (during, refused) == (["lc-chat-c1-n1-0", "lc-chat-c1-n2-0"], [("web", "permission", WORDS)])
    assert refusals(world) == []
    assert len(names(cluster)) == 4


async def test_a_service_moves_to_another_namespace_one_instance_after_the_other(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """As of any new declaration of its pods; where it was nothing is left, though no declaration names it any more."""
    journal = journal_of(world)
    agent = await began(world, cluster, journal)
    await agent.deploy()
    become_ready(cluster)
    seen = []

    for service in (WEB_THERE, replace(WEB, namespace="team-b")):
        declare(world, journal, service)
        for _ in range(5):
            agent._deployed_at = -1
            await agent.deploy()
            seen.append([name for name in names(cluster) if "web" in name])
            become_ready(cluster)

    assert seen[4] == ["team-a/lc-web-c1-n1-0", "team-a/lc-web-c1-n2-0"]
    assert seen[-1] == ["team-b/lc-web-c1-n1-0", "team-b/lc-web-c1-n2-0"]
    assert min(map(len, seen)) == 1


async def test_two_instances_of_one_place_become_one_where_the_service_is_now(world: ControlWorld, cluster: MemoryCluster) -> None:
    """They are there when the former namespace could not be seen while the service moved."""
    journal = journal_of(world)
    declare(world, journal, WEB_THERE)
    agent = await began(world, cluster, journal)
    await agent.deploy()
    cluster.refused = {"team-a": REFUSED}
    declare(world, journal, WEB)
    agent._deployed_at = -1
    await agent.deploy()
    become_ready(cluster)
    cluster.refused = {}
    agent._deployed_at = -1

    await agent.deploy()

    assert [name for name in names(cluster) if "web" in name] == ["lc-web-c1-n1-0", "lc-web-c1-n2-0"]


async def test_what_runs_where_no_declaration_says_is_seen_settled_and_removed_after_a_restart(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """The centre remembers where services were."""
    journal = journal_of(world)
    declare(world, journal, BATCH_THERE)
    run_id = placed(world)
    declare(world, journal, BATCH)
    agent = await began(world, cluster, journal)
    pod = be_pod(run_id, **ended("Succeeded"))
    pod["metadata"]["namespace"] = "team-a"
    cluster._on_pod = agent.on_pod

    cluster.put_pod(pod)
    await agent.settle()
    await agent.delete_settled()

    assert world.row(run_id, 0).pod == f"team-a/be-r{run_id}-0-e1"
    assert world.states(run_id) == ["succeeded"]
    assert cluster.deleted == [("team-a/be", True)]


async def test_leases_of_a_namespace_that_may_be_seen_no_more_run_out_and_no_others(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """Nobody knows what runs there; the cluster is not away, so that nothing else would end the wait."""
    journal = journal_of(world)
    declare(world, journal, BATCH_THERE, CHAT)
    run_id = placed(world, lease_s=5.0)
    agent = await began(world, cluster, journal)
    pod = be_pod(run_id, **running())
    pod["metadata"]["namespace"] = "team-a"
    agent.on_pod("MODIFIED", cluster.put_pod(pod))

    given_until_s = world.row(run_id, 0).lease_until_s
    await agent.renew()
    renewed_until_s = world.row(run_id, 0).lease_until_s
    world.clock.turn(LEASE.placement_s / 2)
    cluster.refused = {"team-a": REFUSED}
    cluster.keeps_sight = True
    await agent.renew()

    assert renewed_until_s > given_until_s
    assert world.row(run_id, 0).lease_until_s == renewed_until_s
