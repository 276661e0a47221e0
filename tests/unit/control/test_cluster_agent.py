"""The agent of a cluster: what it tells the centre and the journal, and that no step of it stops another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tango.control.cluster_agent import ClusterAgent
from tango.domain.node_reports import NodeAgentReport
from tango.domain.observations import Observation
from tango.errors import ClusterUnavailable, StoreUnavailable
from tests.fakes.agent_world import KUBE, LEASE, agent_of, be_pod, journal_of, lc_names, placed
from tests.fakes.cluster_watch import MemoryCluster
from tests.fakes.control_world import ControlWorld
from tests.fakes.faulty import Faulty
from tests.fakes.kube_objects import ended, node, pod, running
from tests.waiting import WITHIN_S


async def test_reports_of_node_agents_are_told_once_and_again_when_the_centre_was_away(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """Each report counts once, however often it is read; one that the centre did not take is told the next time."""
    first = NodeAgentReport(node="c1-n1", at="1", report={"be_cpu_share": 1.0})
    away = Faulty(world.fleet, note_reports=[StoreUnavailable("cut")])
    agent = agent_of(world, cluster, fleet=away)
    cluster.agent_reports = [first]

    with pytest.raises(StoreUnavailable):
        await agent.read_reports()
    await agent.read_reports()
    world.fleet.reports.clear()
    await agent.read_reports()
    cluster.agent_reports = [replace(first, at="2")]
    await agent.read_reports()

    assert list(world.fleet.reports) == [("c1", "c1-n1", "2")]


async def test_what_a_node_agent_told_of_late_is_part_of_its_node(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Until the next report is overdue; what is no share of time counts for nothing."""
    agent = agent_of(world, cluster)
    suffers = {"lc": {"cpu_pressure": 0.3, "throttled": "much", "memory_pressure": 0.01}, "node_memory_pressure": 0.02}
    cluster.agent_reports = [NodeAgentReport(node="c1-n1", at="1", report=suffers, valid_s=1e9)]

    await agent.read_reports()
    await agent.observe()
    told = {node.name: node for _, node in world.fleet.nodes()}
    cluster.agent_reports = [NodeAgentReport(node="c1-n1", at="2", report=suffers, valid_s=0.0)]
    await agent.read_reports()
    await agent.observe()

    assert (told["c1-n1"].lc_cpu_pressure, told["c1-n1"].lc_throttled, told["c1-n1"].memory_pressure) == (0.3, None, 0.02)
    assert told["c1-n2"].lc_cpu_pressure is None
    assert {node.lc_cpu_pressure for _, node in world.fleet.nodes()} == {None}


async def test_nodes_and_instances_reach_the_store_with_their_usage(world: ControlWorld, cluster: MemoryCluster) -> None:
    """What is seen replaces what was known of this cluster, and of no other."""
    agent = agent_of(world, cluster)
    cluster.usage = {"c1-n1": {"cpu": "250m", "memory": "64Mi"}}
    cluster.put_pod(pod("lc", name="lc-web-c1-n1-0", on="c1-n1", **running()))

    await agent.read_usage()
    await agent.observe()

    snapshot = world.fleet.snapshot(at_s=0.0)
    assert list(map(str, snapshot.node_keys)) == ["c1/c1-n1", "c1/c1-n2", "c2/c2-n1"]
    assert (snapshot.cpu_used[0], snapshot.cpu_allocatable[0], snapshot.lc_cpu_limit[0]) == (250.0, 4000.0, 1000.0)
    assert [i.pod for c, i in world.fleet.instances() if c == "c1"] == ["lc-web-c1-n1-0"]


async def test_a_picture_that_is_too_old_is_not_told_as_the_present_one(world: ControlWorld, cluster: MemoryCluster) -> None:
    """While its API server is away the cluster counts as away, and its leases are not renewed by what somebody once saw."""
    run_id = placed(world, lease_s=5.0)
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", cluster.put_pod(be_pod(run_id, **running())))
    await agent.observe()
    cluster.old_s = LEASE.silent_s + 1.0
    world.clock.turn(LEASE.silent_s + 1.0)
    lease_until_s = world.row(run_id, 0).lease_until_s

    await agent.observe()
    await agent.renew()
    [away, _] = world.fleet.pictures()
    cluster.old_s = 0.0
    await agent.observe()
    [back, _] = world.fleet.pictures()

    assert world.row(run_id, 0).lease_until_s == lease_until_s
    assert (away.is_away, away.ready, away.nodes) == (True, 0, 2)
    assert away.age_s is not None
    assert away.agent_age_s is not None
    assert away.agent_age_s < 1.0 < LEASE.silent_s < away.age_s
    assert (back.is_away, back.ready) == (False, 2)


async def test_samples_are_rarer_than_observations(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Current state is read ten times a second by dispatchers; the time series has a rhythm of its own."""
    agent = agent_of(world, cluster, kube=replace(KUBE, sample_every_s=1000.0))

    for _ in range(3):
        await agent.observe()

    assert [c for c, _ in world.fleet.samples] == ["c1", "c1"]


async def test_a_cluster_where_nothing_happens_is_told_of_only_with_its_samples(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """Once, then when something has changed; and while nothing is served samples and readings of usage are rarer still."""
    store, is_busy = Faulty(world.fleet), True
    kube = replace(KUBE, sample_every_s=0.0, sample_idle_s=1000.0)
    agent = agent_of(world, cluster, fleet=store, kube=kube, is_busy=lambda: is_busy)  # type: ignore[arg-type]

    async def told() -> int:
        before = len(store.calls_of("observe_all"))
        for _ in range(3):
            await agent.read_usage()
            await agent.observe()
        return len(store.calls_of("observe_all")) - before

    found = [await told()]
    is_busy, cluster.usage = False, {"c1-n1": {"cpu": "250m", "memory": "64Mi"}}
    found.append(await told())
    cluster.put_node(node("c1-n3"))
    found.append(await told())
    is_busy = True
    found.append(await told())

    assert found == [3, 0, 1, 3]


async def test_the_journal_sees_the_cluster_while_the_centre_is_away(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Its workers dispatch by it: a new node and its instance are known beside the cluster, whatever the line does."""
    journal = journal_of(world)
    away = Faulty(world.fleet, observe_all=[StoreUnavailable("cut")] * 100)
    cluster.put_node(node("c1-n3"))
    cluster.put_pod(pod("lc", name="lc-web-c1-n3-0", on="c1-n3", **running()))
    agent = agent_of(world, cluster, fleet=away, journal=journal)

    await agent.observe_here()
    with pytest.raises(StoreUnavailable):
        await agent.observe()

    assert [str(key) for key in journal.snapshot(at_s=0.0).node_keys] == ["c1/c1-n1", "c1/c1-n2", "c1/c1-n3", "c2/c2-n1"]
    assert [i.pod for of, i in journal.instances() if of == "c1"] == ["lc-web-c1-n3-0"]


async def test_an_instance_is_known_beside_its_cluster_before_the_centre_tells_of_it(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """Whoever waits at the centre for it to be ready can send it a request at once; a journal that is away holds nobody up."""
    journal = Faulty(journal_of(world))
    cluster.put_pod(pod("lc", name="lc-web-c1-n1-0", on="c1-n1", **running()))
    at_journal: list[list[str]] = []

    class Centre(Faulty):
        def observe_all(self, observations: Sequence[Observation]) -> None:
            at_journal.append([i.pod for of, i in journal.instances() if of == "c1"])
            world.fleet.observe_all(observations)

    agent = agent_of(world, cluster, fleet=Centre(world.fleet), journal=journal)  # type: ignore[arg-type]
    await agent.observe()
    await agent.observe()
    told = len(journal.calls_of("observe"))
    journal.failures["observe"] = [StoreUnavailable("its disk is full")]
    cluster.put_pod(pod("lc", name="lc-web-c1-n2-0", on="c1-n2", **running()))
    await agent.observe()

    assert at_journal[0] == ["lc-web-c1-n1-0"]
    assert told == 1
    assert [i.pod for c, i in world.fleet.instances() if c == "c1"] == ["lc-web-c1-n1-0", "lc-web-c1-n2-0"]


async def test_a_step_that_fails_is_tried_again_and_stops_no_other(world: ControlWorld, cluster: MemoryCluster) -> None:
    """While the API server takes no call, what the watch has told is still settled; when it is back, instances are made."""
    run_id = placed(world)
    cluster.error = ClusterUnavailable("away", cluster="c1")
    running_agent = asyncio.create_task(agent_of(world, cluster).run())
    await asyncio.sleep(0)
    cluster.put_pod(be_pod(run_id, **ended("Succeeded")))

    async with asyncio.timeout(WITHIN_S):
        while world.states(run_id) != ["succeeded"]:
            await asyncio.sleep(0.01)
        away = [found["metadata"]["name"] for found in cluster.pods()]
        cluster.error = None
        while sorted(found["metadata"]["name"] for found in cluster.pods()) != lc_names(world, "c1-n1", "c1-n2"):
            await asyncio.sleep(0.01)
    running_agent.cancel()
    await asyncio.gather(running_agent, return_exceptions=True)

    assert away == ["be"]


class CountingAgent(ClusterAgent):
    """Notes how often it looked for something to settle and to delete."""

    looks = 0

    async def settle(self) -> None:
        """One look."""
        self.looks += 1
        await super().settle()

    async def delete_settled(self) -> None:
        """One look."""
        self.looks += 1
        await super().delete_settled()


async def test_an_agent_looks_for_ends_only_once_the_watch_has_told_of_one(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Where nothing happens it costs nothing; what ends after a long wait is settled all the same."""
    run_id = placed(world)
    agent = agent_of(world, cluster, kind=CountingAgent)
    running_agent = asyncio.create_task(agent.run())
    await asyncio.sleep(0.2)
    looks_before = agent.looks
    cluster.put_pod(be_pod(run_id, **ended("Succeeded")))

    async with asyncio.timeout(WITHIN_S):
        while cluster.deleted != [("be", True)]:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    running_agent.cancel()
    await asyncio.gather(running_agent, return_exceptions=True)

    assert looks_before == 0
    assert world.states(run_id) == ["succeeded"]
    assert agent.looks == 2
