"""Instances of a cluster: Tango's own stay at their count, adopted ones are followed and never touched."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tango.control import cluster_agent
from tango.control.lc_instances import STUCK_AFTER_S, LcInstances
from tango.domain.identity import NodeKey
from tango.domain.services import Service
from tango.errors import Forbidden, StoreUnavailable
from tests.fakes.agent_world import agent_of, journal_of, lc_names, lc_names_of, on_c1
from tests.fakes.cluster_watch import MemoryCluster
from tests.fakes.control_world import ControlWorld
from tests.fakes.faulty import Faulty
from tests.fakes.journal_world import LC
from tests.fakes.kube_objects import ADOPTED, node, pod, running
from tests.fakes.memory_journal import MemoryJournal
from tests.fakes.own_fleet import published
from tests.fakes.store_world import FLEET, MAX_ATTEMPTS


async def test_adopted_pods_are_followed_and_never_touched(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Rolling updates, scaling and flapping by their owner show at once; the agent makes and deletes none of them."""
    journal = MemoryJournal("c1", max_attempts=MAX_ATTEMPTS, lc=LC, wall_s=world.clock.now_s)
    journal.publish(published(replace(FLEET, services=(*FLEET.services, ADOPTED))))
    agent = agent_of(world, cluster, journal=journal)

    def seen() -> list[tuple[str, bool]]:
        return [(i.pod, i.ready) for of, i in journal.instances() if of == "c1" and i.service == "theirs"]

    async def looked() -> list[tuple[str, bool]]:
        await agent.deploy()
        await agent.observe_here()
        return seen()

    cluster.put_pod(on_c1("api-1"))
    assert await looked() == [("prod/api-1", True)]
    cluster.put_pod(on_c1("api-2", ready=False))
    assert await looked() == [("prod/api-1", True), ("prod/api-2", False)]
    cluster.put_pod(on_c1("api-2"))
    cluster.remove_pod("api-1")
    assert await looked() == [("prod/api-2", True)]
    cluster.put_pod(on_c1("api-2", ready=False))
    assert await looked() == [("prod/api-2", False)]
    cluster.remove_pod("api-2")
    assert await looked() == []

    journal.publish(published())
    cluster.put_pod(on_c1("api-3"))
    agent = agent_of(world, cluster, journal=journal)
    assert await looked() == []
    assert not any(name.startswith("api") for name, _ in cluster.deleted)
    assert not any("theirs" in name for name in lc_names_of(cluster))


async def test_what_adopted_pods_use_is_told_and_kept_while_the_centre_is_away(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Memory at once, CPU from the second reading; of services without pods of their own nothing is read."""
    journal = MemoryJournal("c1", max_attempts=MAX_ATTEMPTS, lc=LC, wall_s=world.clock.now_s)
    fleet = replace(FLEET, services=(*FLEET.services, ADOPTED))
    journal.publish(published(fleet))
    world.fleet.declare(fleet, kubeconfig="/k", contexts={c.name: c.name for c in fleet.clusters})
    away = Faulty(world.fleet, note_usage=[StoreUnavailable("cut")])
    agent = agent_of(world, cluster, journal=journal, fleet=away)
    await agent.measure()  # nothing is known of services yet
    cluster.put_pod(on_c1("api-1"))
    cluster.pods_usage = {("prod", "api-1"): {"containers": [{"name": "web", "usage": {"cpu": "1", "memory": "96Mi"}}]}}
    await agent.deploy()

    with pytest.raises(StoreUnavailable):
        await agent.measure()
    await agent.measure()

    (found,) = world.fleet.measured(["theirs"])
    assert found.memory_mib == 96.0
    assert 0.0 < found.cpu_s < 5.0


async def test_every_ready_node_gets_its_instances_and_no_second_set(world: ControlWorld, cluster: MemoryCluster) -> None:
    """One of each LC service on each ready node, bound to it; the next round finds nothing to do."""
    cluster.put_node(node("c1-n3", conditions=[{"type": "Ready", "status": "False"}]))
    agent = agent_of(world, cluster)

    await agent.deploy()
    first = {found["metadata"]["name"]: found["metadata"]["uid"] for found in cluster.pods()}
    await agent.deploy()

    assert sorted(first) == lc_names(world, "c1-n1", "c1-n2")
    assert {found["metadata"]["name"]: found["metadata"]["uid"] for found in cluster.pods()} == first
    assert all(found["spec"]["nodeName"] in found["metadata"]["name"] for found in cluster.pods())


async def test_before_the_centre_has_published_services_no_instance_goes(world: ControlWorld, cluster: MemoryCluster) -> None:
    """A new journal knows of none: that is no reason to delete what serves."""
    cluster.put_pod(pod("lc", name="lc-web-c1-n1-0", on="c1-n1", **running()))

    await agent_of(world, cluster, journal=journal_of(world, told=False)).deploy()

    assert cluster.deleted == []
    assert [found["metadata"]["name"] for found in cluster.pods()] == ["lc-web-c1-n1-0"]


async def test_an_instance_that_ended_is_made_again(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Its pod goes at once, since a pod of its name is to come; one that is no longer declared goes with its grace."""
    agent = agent_of(world, cluster)
    cluster.put_pod(pod("lc", name="lc-web-c1-n1-0", on="c1-n1", phase="Failed"))
    cluster.put_pod(pod("lc", name="lc-old-c1-n1-0", on="c1-n1", **running()))

    await agent.deploy()
    await agent.deploy()

    assert sorted(cluster.deleted) == [("lc-old-c1-n1-0", False), ("lc-web-c1-n1-0", True)]
    assert sorted(found["metadata"]["name"] for found in cluster.pods()) == lc_names(world, "c1-n1", "c1-n2")


async def test_an_instance_left_unbound_is_bound_to_the_node_of_its_name(world: ControlWorld, cluster: MemoryCluster) -> None:
    """An agent was killed between making and binding it; of two nodes whose names fit, the longer is meant."""
    cluster.put_node(node("n1"))
    cluster.put_pod(pod("lc", name="lc-web-c1-n1-0", on=None, phase="Pending"))

    await agent_of(world, cluster).deploy()

    [found] = [found for found in cluster.pods() if found["metadata"]["name"] == "lc-web-c1-n1-0"]
    assert found["spec"]["nodeName"] == "c1-n1"


class CountingJournal(MemoryJournal):
    """Notes how often it was asked for services."""

    asked = 0

    def services(self) -> tuple[Service, ...]:
        """As told."""
        self.asked += 1
        return super().services()


async def test_instances_are_looked_at_again_when_the_watch_has_told_of_something(
    world: ControlWorld, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or after a while, for services that are new; in a cluster where nothing happens it would be for nothing."""
    journal = CountingJournal("c1", max_attempts=MAX_ATTEMPTS, lc=LC, wall_s=world.clock.now_s)
    journal.publish(published())
    agent = agent_of(world, cluster, journal=journal)
    await agent.deploy()  # makes them, of which the watch tells
    await agent.deploy()
    complete = journal.asked
    await agent.deploy()
    at_rest = journal.asked
    cluster.remove_pod(lc_names(world, "c1-n1")[0])
    await agent.deploy()
    made_again = sorted(found["metadata"]["name"] for found in cluster.pods())
    await agent.deploy()
    monkeypatch.setattr(cluster_agent, "DEPLOY_AGAIN_S", 0.0)
    await agent.deploy()

    assert (complete, at_rest, journal.asked) == (2, 2, 5)
    assert made_again == lc_names(world, "c1-n1", "c1-n2")


async def test_a_refused_instance_is_tried_again_after_growing_pauses_and_alone(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """Pod Security, a LimitRange: the server is not asked twice a second, and the centre has its words."""
    calls = list[str]()

    class Refusing(MemoryCluster):
        async def create_instance(self, service: Service, node: NodeKey, k: int) -> None:
            calls.append(service.name)
            if service.name == "web":
                raise Forbidden("403", status=403, refusal="admission", words="violates PodSecurity")
            await super().create_instance(service, node, k)

    refusing = Refusing()
    for name in ("c1-n1", "c1-n2"):
        refusing.put_node(node(name))
    agent = agent_of(world, refusing)

    for _ in range(20):
        await agent.deploy()

    assert calls.count("web") <= 3
    (state,) = world.refusals.pauses().states
    assert (state.service, state.role, state.words) == ("web", "agent", "violates PodSecurity")
    assert sum(p["metadata"]["labels"]["tango/service"] == "chat" for p in refusing.pods()) == 2


async def test_an_instance_for_which_best_effort_has_to_give_way_is_not_made_before(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """No kubelet would take it. The centre is told that it is awaited, until it stands."""
    for k in range(16):  # 250 millicores each: all of the node
        cluster.put_pod(pod("be", name=f"be-{k}", on="c1-n1", **running()))
    agent = agent_of(world, cluster)

    async def seen() -> tuple[list[str], list[tuple[str, str, int]]]:
        await agent.deploy()
        await agent.observe()
        return lc_names_of(cluster), [(a.node, a.service, a.count) for a in world.fleet.awaited()]

    crowded = await seen()
    for k in range(2):
        cluster.remove_pod(f"be-{k}")
    with_room = await seen()
    cluster.put_node(node("c1-n3", conditions=[]))  # the watch has told of the instances

    names = [name for name in lc_names(world, "c1-n2")]
    assert sorted(n for n in crowded[0] if n.startswith("lc-")) == names
    assert crowded[1] == [("c1-n1", "chat", 1), ("c1-n1", "web", 1)]
    assert sorted(n for n in with_room[0] if n.startswith("lc-")) == lc_names(world, "c1-n1", "c1-n2")
    assert with_room[1] == []


async def test_best_effort_that_does_not_give_way_is_named_after_a_while(world: ControlWorld, cluster: MemoryCluster) -> None:
    """As where its budget forbids it; until there is room."""
    for k in range(16):
        cluster.put_pod(pod("be", name=f"be-{k}", on="c1-n1", **running()))
    instances = LcInstances("c1", cluster, world.refusals, store_turn=asyncio.Lock())
    services = [s for s in journal_of(world).services() if s.name == "web"]

    await instances.agree(services, 0.0)
    early = world.refusals.pauses().states
    await instances.agree(services, STUCK_AFTER_S)
    (late,) = world.refusals.pauses().states
    cluster.remove_pod("be-0")
    await instances.agree(services, STUCK_AFTER_S + 1.0)

    assert early == ()
    assert (late.service, late.node) == ("web", "c1-n1")
    assert "waits for BE to give way, which holds 4000m" in late.words
    assert world.refusals.pauses().states == ()


async def test_instances_that_are_being_deleted_are_left_to_their_kubelet(world: ControlWorld, cluster: MemoryCluster) -> None:
    """However often the agent looks: one deletion was enough."""
    agent = agent_of(world, cluster)
    gone = pod("lc", name="lc-old-c1-n1-0", on="c1-n1", **running())
    cluster.put_pod({**gone, "metadata": {**gone["metadata"], "deletionTimestamp": "2026-11-29T00:00:00Z"}})

    await agent.deploy()
    await agent.deploy()

    assert cluster.deleted == []


async def test_an_instance_that_cannot_start_is_named_with_the_kubelets_words(world: ControlWorld, cluster: MemoryCluster) -> None:
    """After a while, as pulls take their time; until it is ready."""
    crashing = {
        "name": "work",
        "restartCount": 7,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }
    pod_of_web = pod("lc", name="lc-web-c1-n1-0", on="c1-n1", phase="Running", containerStatuses=[crashing])
    cluster.put_pod(pod_of_web)
    instances = LcInstances("c1", cluster, world.refusals, store_turn=asyncio.Lock())
    services = journal_of(world).services()

    await instances.agree(services, 0.0)
    early = world.refusals.pauses().states
    await instances.agree(services, STUCK_AFTER_S)
    (late,) = world.refusals.pauses().states
    cluster.put_pod({**pod_of_web, "status": running(name="work")})
    await instances.agree(services, STUCK_AFTER_S + 1.0)

    assert early == ()
    assert (late.service, late.node) == ("web", "c1-n1")
    assert late.words == "work: CrashLoopBackOff: 7 restarts, it ended with 137 (OOMKilled)"
    assert world.refusals.pauses().states == ()
