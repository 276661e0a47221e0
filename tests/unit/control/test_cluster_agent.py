"""The cluster agent: what ends is settled before it is deleted, what lives is renewed, and LC instances stay at their count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from tango.control import cluster_agent
from tango.control.cluster_agent import AgentStores, ClusterAgent
from tango.control.lc_instances import STUCK_AFTER_S, LcInstances
from tango.domain.identity import NodeKey
from tango.domain.node_reports import NodeAgentReport
from tango.domain.refusal_kind import RefusalKind
from tango.domain.services import Service, ServiceClass
from tango.errors import ClusterUnavailable, Forbidden, StoreUnavailable, UsageError
from tango.ports.fleet import FleetStore
from tango.ports.requests import BeRequests
from tango.settings import JobSettings, KubeSettings, LeaseSettings
from tests.fakes.cluster_watch import MemoryCluster
from tests.fakes.control_world import ControlWorld, control_world
from tests.fakes.faulty import Faulty
from tests.fakes.journal_world import LC
from tests.fakes.memory_journal import MemoryJournal
from tests.fakes.own_fleet import published
from tests.fakes.store_world import BATCH, FLEET, MAX_ATTEMPTS, OVER_S, ZERO_S
from tests.unit.control.test_observe_cluster import ADOPTED, TEN_S, ended, node, pod, running, theirs
from tests.waiting import WITHIN_S

Json = dict[str, Any]
Agent = TypeVar("Agent", bound=ClusterAgent)

KUBE = KubeSettings(observe_every_s=0.01, sample_every_s=0.0)
LEASE = LeaseSettings(placement_s=60.0)


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


def journal_of(world: ControlWorld, *, told: bool = True) -> MemoryJournal:
    """The journal of c1; `told`: the centre has published its fleet to it."""
    found = MemoryJournal("c1", max_attempts=MAX_ATTEMPTS, lc=LC, wall_s=world.clock.now_s)
    if told:
        found.publish(published())
    return found


def agent_of(
    world: ControlWorld,
    cluster: MemoryCluster,
    *,
    requests: BeRequests | None = None,
    fleet: FleetStore | None = None,
    kube: KubeSettings = KUBE,
    journal: MemoryJournal | None = None,
    zero_s: Callable[[int], float] = lambda run_id: ZERO_S,
    is_busy: Callable[[], bool] = lambda: True,
    kind: type[Agent] = ClusterAgent,  # type: ignore[assignment]
) -> Agent:
    """The agent of c1."""
    stores = AgentStores(
        fleet=fleet or world.fleet,
        requests=requests or world.requests,
        jobs=world.jobs,
        refusals=world.refusals,
        journal=journal or journal_of(world),
        run_zero_s=zero_s,
        is_busy=is_busy,
    )
    return kind("c1", cluster, stores, world.clock, kube=kube, lease=LEASE, job=JobSettings())


def placed(world: ControlWorld, *, lease_s: float = 60.0) -> int:
    """A run whose one BE request was given to c1-n1."""
    run_id = world.pending(BATCH)
    world.place(world.requests.pending_be(limit=1), world.fence(), node=0, lease_s=lease_s)
    return run_id


def be_pod(run_id: int, *, name: str = "be", **status: Any) -> Json:
    """The pod of that request."""
    labels = {"tango/run": str(run_id), "tango/request": "0", "tango/epoch": "1"}
    return pod("be", name=name, on="c1-n1", labels=labels, **status)


# ---- BE pods -----------------------------------------------------------------------------------------------------------


async def test_an_end_is_in_the_store_before_the_pod_is_deleted(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Whoever dies between the two finds the pod again: nothing is lost, and the epoch keeps it from counting twice."""
    run_id = placed(world)
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", cluster.put_pod(be_pod(run_id, **ended("Succeeded"))))

    await agent.delete_settled()
    before = list(cluster.deleted)
    await agent.settle()
    await agent.delete_settled()

    assert before == []
    assert world.states(run_id) == ["succeeded"]
    assert cluster.deleted == [("be", True)]


async def test_a_start_and_an_end_in_one_round_are_written_in_that_order(world: ControlWorld, cluster: MemoryCluster) -> None:
    """A short pod ends before its start was written: it has both in the end, and no start of a dead pod is written after it."""
    run_id = placed(world)
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", be_pod(run_id, **running()))
    agent.on_pod("MODIFIED", be_pod(run_id, **ended("Succeeded")))

    await agent.settle()
    await agent.settle()

    assert world.states(run_id) == ["succeeded"]
    assert world.attempts(run_id) == [(0, 1, "succeeded", "")]


async def test_a_running_pod_is_marked_and_its_lease_renewed(world: ControlWorld, cluster: MemoryCluster) -> None:
    """From the first sight of it: the reconciler takes nothing back that runs."""
    run_id = placed(world, lease_s=OVER_S)
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", be_pod(run_id, **running()))

    await agent.settle()
    marked = world.states(run_id)
    world.clock.turn(LEASE.placement_s - 1.0)
    await agent.renew()
    world.clock.turn(2.0)
    world.requests.requeue_expired(limit=10)

    assert marked == ["running"]
    assert world.states(run_id) == ["running"]


async def test_a_pod_that_waits_to_start_holds_its_request(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Bound and not yet started it holds its node's resources: without a renewal it would be placed a second time."""
    run_id = placed(world, lease_s=10.0)
    agent = agent_of(world, cluster)
    cluster.put_pod(be_pod(run_id, phase="Pending"))
    world.clock.turn(9.0)

    await agent.renew()
    world.clock.turn(2.0)
    world.requests.requeue_expired(limit=10)

    assert world.states(run_id) == ["placed"]


async def test_a_pod_that_nobody_binds_does_not_hold_its_request(world: ControlWorld, cluster: MemoryCluster) -> None:
    """The scheduler lost the cluster between creating and binding it: the lease ends, and the request is placed anew."""
    run_id = placed(world, lease_s=10.0)
    agent = agent_of(world, cluster)
    unbound = be_pod(run_id, phase="Pending")
    del unbound["spec"]["nodeName"]
    cluster.put_pod(unbound)
    world.clock.turn(9.0)

    await agent.renew()
    await agent.observe()
    world.clock.turn(2.0)
    world.requests.requeue_expired(limit=10)

    assert world.states(run_id) == ["pending"]


async def test_a_pod_that_never_starts_does_not_hold_its_request_for_ever(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Its node's kubelet hangs, or there is no such image: after `start_s` its lease is left to end."""
    run_id = placed(world, lease_s=10.0)
    agent = agent_of(world, cluster)
    cluster.put_pod(be_pod(run_id, phase="Pending"))

    seen = []
    while world.states(run_id) == ["placed"] and len(seen) < 400:
        await agent.renew()
        for _ in range(4):
            seen.append(world.clock.turn(LEASE.placement_s / 12))
            await agent.observe()
        world.requests.requeue_expired(limit=10)

    waited_s = len(seen) * LEASE.placement_s / 12
    assert world.states(run_id) == ["pending"]
    assert LEASE.start_s < waited_s < LEASE.start_s + 2 * LEASE.placement_s


async def test_a_pod_that_vanished_sends_its_request_back(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Deleted before it ended: pod-lost, and there is nothing to delete."""
    run_id = placed(world)
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", be_pod(run_id, **running()))
    agent.on_pod("DELETED", be_pod(run_id, **running()))

    await agent.settle()
    await agent.delete_settled()

    assert world.states(run_id) == ["pending"]
    assert world.attempts(run_id) == [(0, 1, "returned", "pod-lost")]
    assert cluster.deleted == []


async def test_ends_wait_for_a_store_that_is_away(world: ControlWorld, cluster: MemoryCluster) -> None:
    """They are written by the first round that reaches it, once, and the pod stays until then."""
    run_id = placed(world)
    requests = Faulty(world.requests, settle=[StoreUnavailable("away")])
    agent = agent_of(world, cluster, requests=requests)
    agent.on_pod("MODIFIED", cluster.put_pod(be_pod(run_id, **ended("Succeeded"))))

    with pytest.raises(StoreUnavailable):
        await agent.settle()
    await agent.delete_settled()
    kept = cluster.deleted == []
    await agent.settle()
    await agent.delete_settled()

    assert kept
    assert world.attempts(run_id) == [(0, 1, "succeeded", "")]
    assert cluster.deleted == [("be", True)]


async def test_the_pod_of_a_deleted_run_goes_with_nothing_settled(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Nobody waits for it, and it holds resources."""

    def gone(run_id: int) -> float:
        raise UsageError(f"there is no run {run_id}")

    agent = agent_of(world, cluster, zero_s=gone)
    agent.on_pod("MODIFIED", cluster.put_pod(be_pod(99, **ended("Succeeded"))))

    await agent.settle()
    await agent.delete_settled()

    assert cluster.deleted == [("be", True)]


async def test_a_later_pod_of_the_name_is_not_deleted_for_an_earlier_one(world: ControlWorld, cluster: MemoryCluster) -> None:
    """The uid says which: between settling and deleting another pod may have taken the name."""
    run_id = placed(world)
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", be_pod(run_id, **ended("Succeeded")))
    cluster.put_pod(replace_uid(be_pod(run_id, **running()), "later"))

    await agent.settle()
    await agent.delete_settled()

    assert [found["metadata"]["uid"] for found in cluster.pods()] == ["later"]


def replace_uid(found: Json, uid: str) -> Json:
    """The same pod made anew."""
    return {**found, "metadata": {**found["metadata"], "uid": uid}}


# ---- adopted pods ------------------------------------------------------------------------------------------------------


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


def on_c1(name: str, *, ready: bool = True) -> Json:
    """A pod of somebody else's Deployment on c1-n1."""
    found = theirs(name, **running(name="web"))
    found["spec"]["nodeName"] = "c1-n1"
    found["status"]["containerStatuses"][0]["ready"] = ready
    return found


def lc_names_of(cluster: MemoryCluster) -> list[str]:
    """Tango's own pods."""
    return [str(p["metadata"]["name"]) for p in cluster.pods()]


# ---- state -------------------------------------------------------------------------------------------------------------


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


# ---- LC instances ------------------------------------------------------------------------------------------------------


def lc_names(world: ControlWorld, *nodes: str) -> list[str]:
    """Pods of one instance of every LC service on each of these nodes."""
    services = [s.name for s in world.fleet.services() if s.service_class is ServiceClass.LC]
    return sorted(f"lc-{service}-{name}-0" for service in services for name in nodes)


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


# ---- all of it ---------------------------------------------------------------------------------------------------------


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


# ---- refusals ----------------------------------------------------------------------------------------------------------


KUBELET_REFUSALS = (
    "OutOfcpu",
    "OutOfmemory",
    "OutOfpods",
    "OutOfnvidia.com/gpu",
    "TaintToleration",
    "NodeAffinity",
    "UnexpectedAdmissionError",
)


@pytest.mark.parametrize("reason", KUBELET_REFUSALS)
async def test_a_kubelet_that_does_not_admit_a_pod_costs_no_attempt(
    world: ControlWorld, cluster: MemoryCluster, reason: str
) -> None:
    """It is an answer about its room: the service is not put there for a while, until a pod of it starts there."""
    run_id = placed(world)
    agent = agent_of(world, cluster)
    refused = {"status": {"phase": "Failed", "reason": reason, "message": f"Pod was rejected: {reason}"}}
    of_pod = be_pod(run_id)
    of_pod["metadata"]["labels"]["tango/service"] = "batch"
    agent.on_pod("MODIFIED", cluster.put_pod({**of_pod, **refused}))

    await agent.settle()
    row, (state,) = world.row(run_id, 0), world.refusals.pauses().states
    later = be_pod(run_id, **running())
    later["metadata"]["labels"] |= {"tango/service": "batch", "tango/epoch": "2"}
    agent.on_pod("MODIFIED", {**later, "metadata": {**later["metadata"], "uid": "later"}})
    await agent.settle()

    assert (row.state, row.attempt) == ("pending", 0)
    assert row.reason.endswith(f": {reason}: Pod was rejected: {reason}")
    assert (state.cluster, state.service, state.node, state.kind) == ("c1", "batch", "c1-n1", RefusalKind.NODE)
    assert world.refusals.pauses().states == ()


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


# ---- limits and orphans ------------------------------------------------------------------------------------------------


async def test_a_pod_that_nobody_wants_any_more_is_deleted(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Of an older epoch, or of a run that was cancelled while the cluster was away: it was made by whoever is dead by now. A pod that is
    wanted stays, and so does one that is seen for the first time."""
    run_id = placed(world)
    cluster.put_pod(be_pod(run_id, name="wanted", **running()))
    old = be_pod(run_id, name="old", phase="Pending")
    old["metadata"]["labels"]["tango/epoch"] = "0"
    cluster.put_pod(old)
    agent = agent_of(world, cluster)

    await agent.look_for_orphans()
    first = list(cluster.deleted)
    await agent.look_for_orphans()
    second = list(cluster.deleted)
    world.cancel(run_id)
    cluster.old_s = 99.0
    await agent.look_for_orphans()
    by_an_old_picture = list(cluster.deleted)
    cluster.old_s = 0.0
    await agent.look_for_orphans()

    assert (first, second, by_an_old_picture) == ([], [("old", False)], [("old", False)])
    assert cluster.deleted == [("old", False), ("wanted", False)]


async def test_a_pod_without_its_image_gives_its_request_back_and_bars_the_node(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """After a while, with the kubelet's words; at once where no waiting helps."""
    run_id = placed(world)
    waiting = {"reason": "ImagePullBackOff", "message": "not found"}
    stuck = be_pod(run_id, phase="Pending", containerStatuses=[{"name": "work", "state": {"waiting": waiting}}])
    stuck["metadata"]["labels"]["tango/service"] = "batch"
    cluster.put_pod(stuck)
    agent = agent_of(world, cluster)

    await agent.look_for_orphans()
    before = world.states(run_id)
    world.clock.turn(JobSettings().image_within_s + 1.0)
    world.state.heard_of("c1")
    await agent.look_for_orphans()

    row, (state,) = world.row(run_id, 0), world.refusals.pauses().states
    assert before == ["placed"]
    assert (row.state, row.attempt, row.reason) == ("pending", 1, "image-not-pulled: work: ImagePullBackOff: not found")
    assert (state.service, state.node, state.words) == ("batch", "c1-n1", "work: ImagePullBackOff: not found")
    assert cluster.deleted == [("be", False)]


@pytest.mark.parametrize("late_s", [-30.0, 30.0])
async def test_a_pod_that_does_not_go_is_given_up_some_time_after_its_grace(
    world: ControlWorld, cluster: MemoryCluster, late_s: float
) -> None:
    """Its node is dead: the lease of its request runs out, and the request goes elsewhere."""
    run_id = placed(world)
    going = be_pod(run_id, **running())
    asked_at_s = world.clock.now_s() - LEASE.gone_s - late_s
    going["metadata"]["deletionTimestamp"] = datetime.fromtimestamp(asked_at_s, UTC).isoformat()
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", cluster.put_pod(going))
    await agent.settle()
    before_s = world.row(run_id, 0).lease_until_s

    await agent.renew()

    assert (world.row(run_id, 0).lease_until_s > before_s) is (late_s < 0)


async def test_a_pod_that_runs_for_too_long_is_given_up(world: ControlWorld, cluster: MemoryCluster) -> None:
    """A container that hangs holds its node no longer than that."""
    run_id = placed(world)
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", cluster.put_pod(be_pod(run_id, **running())))  # it began years ago by the world's clock
    await agent.settle()
    before_s = world.row(run_id, 0).lease_until_s
    began_s = TEN_S
    world.clock.turn(began_s + LEASE.run_s + 1.0 - world.clock.now_s())

    await agent.renew()

    assert world.row(run_id, 0).lease_until_s == before_s


async def test_a_pod_that_goes_after_its_end_was_settled_is_neither_settled_nor_deleted_again(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """Its deletion is reported with its last state, which looks like an end."""
    run_id = placed(world)
    calls = list[str]()

    class Counting(MemoryCluster):
        async def delete_pod(self, name: str, *, uid: str | None = None, at_once: bool = False) -> None:
            calls.append(name)
            await super().delete_pod(name, uid=uid, at_once=at_once)

    counting = Counting()
    agent = agent_of(world, counting)
    listens(agent, counting)
    counting.put_pod(be_pod(run_id, **ended("Succeeded")))

    for _ in range(3):
        await agent.settle()
        await agent.delete_settled()

    assert calls == ["be"]


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


def listens(agent: ClusterAgent, cluster: MemoryCluster) -> None:
    """Let the agent hear what the watch tells."""
    cluster._on_pod = agent.on_pod
