"""`FleetStore`, on the fake and on PostgreSQL: what was declared and observed is what a snapshot shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import psycopg2
import pytest

from tango.domain.identity import NodeKey, PodKey
from tango.domain.learned_figures import request_memory_mib
from tango.domain.memory_by_load import FittedLine, MeasuredInstance, MemoryByLoad
from tango.domain.node_reports import NodeAgentReport
from tango.domain.observations import NODE_PRESSURES, ExtendedState, MeasuredService, Observation, ServiceUsage
from tango.domain.plans import RefusedResize
from tango.domain.requests import RequestState
from tango.domain.resource_axis import MAY_RUN
from tango.domain.runs import ScalingRecord
from tango.domain.services import Service
from tango.domain.shares import DecisionCopy, LcInFlight, LcWait
from tango.errors import UsageError
from tango.settings import LeaseSettings, SharingSettings
from tango.store.database import Database
from tests.fakes.pod_templates import api_service, job_service
from tests.fakes.store_world import (
    BATCH,
    CHAT,
    FLEET,
    LC_DECISION,
    LIVE_S,
    SERVICES,
    TWINS,
    WEB,
    ZERO_S,
    StoreWorld,
    attempt_of,
    copy_of,
    instance_of,
    memory_world,
    node_states,
    postgres_world,
    success,
)


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> StoreWorld:
    """One implementation after the other."""
    if request.param == "memory":
        return memory_world()
    return postgres_world(request.getfixturevalue("database_url"))


@pytest.fixture(params=["memory", "postgres"])
def twins(request: pytest.FixtureRequest) -> StoreWorld:
    """Two clusters whose nodes have the same names, on one implementation after the other."""
    if request.param == "memory":
        return memory_world(TWINS)
    return postgres_world(request.getfixturevalue("database_url"), TWINS)


def test_declared_services_come_back_whole(world: StoreWorld) -> None:
    """Every field of a service survives the store, in order of names."""
    assert world.fleet.services() == tuple(sorted(SERVICES, key=lambda s: s.name))


def test_a_fleet_takes_the_services_of_the_one_before_with_it_and_no_others(world: StoreWorld) -> None:
    """What somebody declared by itself is still there when the stack starts again, under the same fleet or another one."""
    own = dataclasses.replace(CHAT, name="own")
    world.fleet.put_services([own])
    for services in (FLEET.services, (WEB,)):
        world.fleet.declare(
            dataclasses.replace(FLEET, services=services), kubeconfig="/none", contexts={c.name: c.name for c in FLEET.clusters}
        )

    assert [service.name for service in world.fleet.services()] == ["own", "web"]


def test_a_snapshot_has_the_declared_clusters_and_links(world: StoreWorld) -> None:
    """Round trips as the fleet computes them; bandwidth is infinite within a cluster."""
    snapshot = world.fleet.snapshot(at_s=7.0)

    assert (snapshot.at_s, snapshot.clusters, snapshot.nodes) == (7.0, ("c1", "c2"), ("c1-n1", "c1-n2", "c2-n1"))
    assert snapshot.node_cluster.tolist() == [0, 0, 1]
    np.testing.assert_allclose(snapshot.rtt_ms, FLEET.rtt_ms())
    assert snapshot.bandwidth_mbit_per_s.tolist() == [[np.inf, 1000.0], [1000.0, np.inf]]
    assert snapshot.cpu_allocatable.tolist() == [4000.0, 4000.0, 2000.0]


def test_an_observation_replaces_what_was_known_of_its_cluster(world: StoreWorld) -> None:
    """Nodes and instances that are not seen any more go; other clusters stay as they were."""
    first, _ = node_states(FLEET.clusters[0])
    seen = dataclasses.replace(first, ready=False, cpu_used_millicores=250.5, memory_used_mib=100.0, lc_cpu_limit_millicores=900)

    world.fleet.observe("c1", [seen], [instance_of(WEB, "c1-n1", ready=False)], sample=True)

    snapshot = world.fleet.snapshot(at_s=0.0)
    assert snapshot.nodes == ("c1-n1", "c2-n1")
    assert snapshot.node_ready.tolist() == [False, True]
    assert (snapshot.cpu_used[0], snapshot.memory_used[0], snapshot.lc_cpu_limit[0]) == (250.5, 100.0, 900.0)
    assert [(c, i.pod, i.ready) for c, i in world.fleet.instances() if c == "c1"] == [("c1", "lc-web-c1-n1-0", False)]
    assert len([c for c, _ in world.fleet.instances() if c == "c2"]) == 2


def test_pods_of_others_leave_less_of_a_node(world: StoreWorld) -> None:
    """Of CPU, memory and pods; policies see what is left, admission what there is."""
    first, second = node_states(FLEET.clusters[0])
    seen = dataclasses.replace(first, other_cpu_request_millicores=1500, other_memory_held_mib=1000, other_pods=9)
    before = world.fleet.snapshot(at_s=0.0)
    world.fleet.observe("c1", [seen, second], [], sample=False)

    snapshot = world.fleet.snapshot(at_s=0.0)

    assert before.others is None
    assert snapshot.others is not None
    assert snapshot.allocatable[:3, 0].tolist() == [2500.0, 7192.0, 101.0]
    np.testing.assert_array_equal((snapshot.allocatable + snapshot.others)[:3], before.allocatable[:3])


def test_instances_that_are_to_be_made_have_their_room(world: StoreWorld) -> None:
    """Policies see it as LC's, of which nothing is in use yet; on nodes that get no pods nobody is awaited."""
    first, second = node_states(FLEET.clusters[0])
    none = world.fleet.awaited()
    before = world.fleet.snapshot(at_s=0.0)
    told = {WEB.name: 2, CHAT.name: 1, "gone": 1}
    closed = dataclasses.replace(second, schedulable=False, lc_awaited={WEB.name: 1})
    world.fleet.observe("c1", [dataclasses.replace(first, lc_awaited=told), closed], [], sample=True)

    snapshot = world.fleet.snapshot(at_s=0.0)

    assert none == []
    assert [(a.cluster, a.node, a.service, a.count) for a in world.fleet.awaited()] == [
        ("c1", "c1-n1", "chat", 1),
        ("c1", "c1-n1", "gone", 1),
        ("c1", "c1-n1", "web", 2),
    ]
    asked = [2 * WEB.cpu_request_millicores + CHAT.cpu_request_millicores, 2 * 128 + 256, 3]
    assert (snapshot.lc_requests - before.lc_requests)[:3, 0].tolist() == asked
    assert (snapshot.cpu_used[0], snapshot.memory_used[0]) == (before.cpu_used[0], before.memory_used[0])
    assert snapshot.allocatable[:, 0].tolist() == before.allocatable[:, 0].tolist()


def test_nodes_are_barred_from_new_pods(world: StoreWorld) -> None:
    """All services where they are cordoned, single ones by taints; they are ready all the same."""
    first, second = node_states(FLEET.clusters[0])
    tainted = {MAY_RUN + BATCH.name: ExtendedState(allocatable=0)}
    states = [dataclasses.replace(first, schedulable=False), dataclasses.replace(second, extended=tainted)]
    before = world.fleet.snapshot(at_s=0.0)
    world.fleet.observe("c1", states, [], sample=False)

    snapshot = world.fleet.snapshot(at_s=0.0)

    assert before.barred is None
    assert snapshot.barred is not None
    by_service = {s.name: row.tolist() for s, row in zip(snapshot.services, snapshot.barred, strict=True)}
    assert (by_service["batch"], by_service["huge"]) == ([True, True, False], [True, False, False])
    assert snapshot.node_ready.all()


def test_the_zones_of_a_cluster_are_those_of_its_nodes(world: StoreWorld) -> None:
    """With their regions, where nodes have one; a cluster without zones has none."""
    first, second = node_states(FLEET.clusters[0])
    seen = [dataclasses.replace(first, zone="b", region="north"), dataclasses.replace(second, zone="a")]
    world.fleet.observe("c1", seen, [], sample=True)

    [c1, c2] = world.fleet.pictures()

    assert (c1.zones, c2.zones) == (("a", "north/b"), ())


def test_what_node_agents_tell_reaches_snapshots_and_lists(world: StoreWorld) -> None:
    """Nothing is told: no columns, as in the simulated world. A node whose agent is silent counts as one that suffers nothing."""
    first, second = node_states(FLEET.clusters[0])
    before = world.fleet.snapshot(at_s=0.0)
    world.fleet.observe("c1", [dataclasses.replace(first, lc_cpu_pressure=0.25, memory_pressure=0.0), second], [], sample=True)

    snapshot = world.fleet.snapshot(at_s=0.0)

    assert [getattr(before, name) for name in NODE_PRESSURES] == [None] * 3
    assert snapshot.lc_cpu_pressure is not None
    assert snapshot.lc_cpu_pressure.tolist() == [0.25, 0.0, 0.0]
    assert (snapshot.lc_throttled, snapshot.memory_pressure) == (None, None)
    listed = world.fleet.nodes()
    assert [(cluster, node.name) for cluster, node in listed] == [("c1", "c1-n1"), ("c1", "c1-n2"), ("c2", "c2-n1")]
    assert (listed[0][1].lc_cpu_pressure, listed[0][1].lc_throttled, listed[0][1].memory_pressure) == (0.25, None, 0.0)
    assert listed[2][1] == node_states(FLEET.clusters[1])[0]


def test_the_age_of_a_picture_and_of_its_agent_are_two_things(world: StoreWorld) -> None:
    """An agent may be there whose API server is not."""
    world.fleet.observe("c1", node_states(FLEET.clusters[0]), [], sample=True)
    world.pass_over("c1", 1000.0)
    world.fleet.note_agent("c1")

    [c1, c2] = world.fleet.pictures()

    assert (c1.cluster, c1.nodes, c1.ready, c1.is_away) == ("c1", 2, 0, True)
    assert c1.age_s is not None
    assert c1.agent_age_s is not None
    assert c1.agent_age_s < 500.0 < c1.age_s
    assert (c2.cluster, c2.ready, c2.closed, c2.is_away) == ("c2", 1, 0, False)


def test_refused_resizes_are_remembered_of_the_same_pod_on_the_same_node(world: StoreWorld) -> None:
    """The smallest of each kind; not of a pod that was made anew, nor on a node that has grown."""
    pod = PodKey("c1", "lc-web-c1-n1-0")

    def refused(limit: int, *, larger: bool = True, of: PodKey = pod) -> RefusedResize:
        return RefusedResize(pod=of, limit_millicores=limit, request_millicores=limit // 2, larger_limit=larger)

    world.fleet.note_refused_resizes([refused(3000), refused(900, larger=False), refused(1, of=PodKey("c1", "nobody"))])
    world.fleet.note_refused_resizes([refused(2000)])
    world.fleet.note_refused_resizes([refused(4000)])
    smallest = world.fleet.refused_resizes()
    nodes = node_states(FLEET.clusters[0])
    world.fleet.observe("c1", nodes, [dataclasses.replace(instance_of(WEB, "c1-n1"), uid="anew")], sample=False)
    of_another = world.fleet.refused_resizes()
    world.fleet.note_refused_resizes([refused(3500)])
    anew = world.fleet.refused_resizes()
    grown = [dataclasses.replace(nodes[0], cpu_allocatable_millicores=9000), nodes[1]]
    world.fleet.observe("c1", grown, [dataclasses.replace(instance_of(WEB, "c1-n1"), uid="anew")], sample=False)

    assert sorted(smallest, key=lambda r: r.limit_millicores) == [refused(900, larger=False), refused(2000)]
    assert (of_another, anew) == ([], [refused(3500)])
    assert world.fleet.refused_resizes() == []


def test_pods_of_services_that_are_never_evicted_are_not_evictable(world: StoreWorld) -> None:
    """However little they have done."""
    run_id = world.create(BATCH)
    world.release(run_id)
    world.admit(run_id, [0])
    world.place(world.requests.pending_be(limit=1), world.fence())
    node = world.fleet.snapshot(at_s=0.0).node_key(0)
    before = world.fleet.evictable_be([node])
    world.fleet.put_services([dataclasses.replace(BATCH, never_evict=True)])

    assert len(before[node]) == 1
    assert world.fleet.evictable_be([node]) == {}
    assert world.fleet.never_evicted_be([node]) == {node: [(f"be-r{run_id}-0-e1", "batch")]}
    assert world.fleet.never_evicted_be([NodeKey("c2", "c2-n1")]) == {}
    assert world.fleet.never_evicted_be([]) == {}


def test_namespaces_of_services_are_known_for_as_long_as_pods_may_run_there(world: StoreWorld) -> None:
    """A declaration that names another one, or none, may have left pods behind; those that are declared stay."""
    none = world.fleet.namespaces()
    world.fleet.put_services([dataclasses.replace(BATCH, namespace="team-b"), dataclasses.replace(WEB, namespace="team-a")])
    declared = world.fleet.namespaces()
    world.fleet.put_services([dataclasses.replace(BATCH, namespace="team-c"), WEB])

    assert (none, declared) == ((), ("team-a", "team-b"))
    assert world.fleet.namespaces() == ("team-a", "team-b", "team-c")


def test_unknown_use_of_a_node_is_not_idleness(world: StoreWorld) -> None:
    """Without a metrics server a node uses what is requested there."""
    first, second = node_states(FLEET.clusters[0])
    states = [
        dataclasses.replace(first, lc_cpu_request_millicores=700, lc_memory_held_mib=300),
        dataclasses.replace(second, lc_cpu_request_millicores=700, cpu_used_millicores=20.0, memory_used_mib=10.0),
    ]
    world.fleet.observe("c1", states, [], sample=False)

    snapshot = world.fleet.snapshot(at_s=0.0)

    assert (snapshot.cpu_used[:2].tolist(), snapshot.memory_used[:2].tolist()) == ([700.0, 20.0], [300.0, 10.0])


def test_reports_of_node_agents_are_kept_once_each_for_a_week(database_url: str) -> None:
    """An agent reads them as often as they are made, and after a restart once more."""
    world, database = postgres_world(database_url), Database(database_url)
    new = NodeAgentReport(node="c1-n1", at="2100-01-01T00:00:10.000000Z", report={"be_cpu_share": 0.5})
    old = dataclasses.replace(new, at="2020-01-01T00:00:00.000000Z")

    world.fleet.note_reports("c1", [old])
    for _ in range(2):
        world.fleet.note_reports("c1", [new, dataclasses.replace(new, node="c1-n2")])

    kept = database.rows("SELECT node, (report ->> 'be_cpu_share')::float8, extract(year FROM at)::int FROM node_report ORDER BY 1")
    assert kept == [("c1-n1", 0.5, 2100), ("c1-n2", 0.5, 2100)]


def test_what_has_not_changed_is_not_written_again_but_samples_are(database_url: str) -> None:
    """Agents observe four times a second, and mostly nothing has changed."""
    world, database = postgres_world(database_url, TWINS), Database(database_url)
    cluster = TWINS.clusters[0]
    nodes = node_states(cluster)

    def written() -> tuple[set[str], int]:
        """The transactions that wrote the node rows, and how many samples there are."""
        stamps = database.rows("SELECT xmin::text FROM node WHERE cluster = %s", (cluster.name,))
        [(samples,)] = database.rows("SELECT count(*) FROM node_sample WHERE cluster = %s", (cluster.name,))
        return {stamp for (stamp,) in stamps}, samples

    world.fleet.observe(cluster.name, nodes, [], sample=False)
    first = written()
    world.fleet.observe(cluster.name, nodes, [], sample=False)
    again = written()
    world.fleet.observe(cluster.name, nodes, [], sample=True)
    sampled = written()
    world.fleet.observe(cluster.name, nodes, [instance_of(WEB, nodes[0].name)], sample=False)
    with_instance = written()
    grown = dataclasses.replace(nodes[0], be_cpu_request_millicores=100)
    world.fleet.observe(cluster.name, [grown, *nodes[1:]], [instance_of(WEB, nodes[0].name)], sample=False)
    changed = written()
    instances = world.fleet.instances()
    world.fleet.observe(cluster.name, [grown], [], sample=False)
    left = database.rows("SELECT name FROM node WHERE cluster = %s", (cluster.name,))
    database.close()

    assert first == again
    assert sampled == (first[0], first[1] + len(nodes))
    assert with_instance == sampled
    assert len(first[0]) == 1
    assert len(changed[0] - first[0]) == 1
    assert changed[0] > first[0]  # the rows of the other nodes are as they were
    assert [instance.node for at, instance in instances if at == cluster.name] == [nodes[0].name]
    assert left == [(nodes[0].name,)]


def test_several_clusters_are_observed_in_one_transaction(world: StoreWorld) -> None:
    """Each as by itself; a cluster that has left is passed over."""
    seen = [
        Observation(
            cluster=cluster.name,
            nodes=[dataclasses.replace(node, ready=False) for node in node_states(cluster)],
            instances=[],
            sample=True,
        )
        for cluster in FLEET.clusters
    ]

    world.fleet.observe_all(seen)

    snapshot = world.fleet.snapshot(at_s=0.0)
    assert snapshot.node_ready.tolist() == [False] * 3
    assert world.fleet.instances() == []


def test_only_ready_instances_count_in_a_snapshot(world: StoreWorld) -> None:
    """Limits of the ready instances of a service on a node add up."""
    instances = [instance_of(WEB, "c2-n1", k=0), instance_of(WEB, "c2-n1", k=1), instance_of(CHAT, "c2-n1", ready=False)]
    world.fleet.observe("c2", node_states(FLEET.clusters[1]), instances, sample=False)

    snapshot = world.fleet.snapshot(at_s=0.0)
    names = [s.name for s in snapshot.services]
    assert (snapshot.instance_limit[names.index("web"), 2], snapshot.instance_count[names.index("web"), 2]) == (2000.0, 2.0)
    assert snapshot.instance_count[names.index("chat")].tolist() == [1.0, 1.0, 0.0]


def test_what_is_in_flight_and_pending_counts_at_once(world: StoreWorld) -> None:
    """BE rows lead the agents' view, so that no plan gives the same capacity out twice; what ended holds nothing. LC counts as told, and
    not by its copies, which say the same later."""
    run_id = world.create(WEB, WEB, BATCH, BATCH, BATCH, BATCH)
    world.release(run_id)
    world.ship(copy_of(run_id, 0, RequestState.RUNNING))
    world.shares.note_in_flight("c1", [LcInFlight("web", "c2", "c2-n1", 2, 1.0)], LcWait())
    world.admit(run_id, [2, 3, 4, 5])
    batch = world.requests.pending_be(limit=3)
    world.place(batch, world.fence(), node=0)
    world.requests.settle([success(run_id, 4, 1)])

    snapshot = world.fleet.snapshot(at_s=0.0)
    web = [s.name for s in snapshot.services].index("web")
    assert snapshot.in_flight.sum() == snapshot.in_flight[web, 2] == 2
    # Their service's mean at the scale of a run of speed 2, not the 0.1 s each that nobody can know before they are served.
    assert snapshot.in_flight_work_s[web, 2] == pytest.approx(2 * WEB.cpu_work_s / 2.0)
    assert snapshot.be_pods.tolist() == [2.0, 0.0, 0.0]
    assert (snapshot.be_cpu_request[0], snapshot.be_cpu_limit[0], snapshot.be_memory_held[0]) == (1000.0, 4000.0, 128.0)
    assert snapshot.pending_be.tolist() == [0.0, 1.0]


def test_a_cluster_that_is_away_gets_nothing_and_what_it_told_counts_no_more(world: StoreWorld) -> None:
    """Its nodes are not ready and its LC in flight is forgotten, until its agent is heard of again; they keep their size meanwhile."""
    for entry in ("c1", "c2"):
        world.shares.note_in_flight(entry, [LcInFlight("web", "c2", "c2-n1", 2, 1.0)], LcWait())

    world.pass_over("c1", LeaseSettings().silent_s + 1.0)
    away, told = world.fleet.snapshot(at_s=0.0), world.fleet.away()
    world.fleet.observe("c1", node_states(FLEET.clusters[0]), [], sample=True)
    back = world.fleet.snapshot(at_s=0.0)

    assert (list(told), told["c1"]) == (["c1"], pytest.approx(world.now_s() - LeaseSettings().silent_s - 1.0, abs=5.0))
    assert world.fleet.away() == {}
    assert (away.node_ready.tolist(), away.in_flight.sum()) == ([False, False, True], 2)
    assert (back.node_ready.tolist(), back.in_flight.sum()) == ([True, True, True], 4)
    assert away.cpu_allocatable.tolist() == back.cpu_allocatable.tolist()


def test_the_tail_is_of_the_latencies_that_were_settled_lately(world: StoreWorld) -> None:
    """Per service and node, in trace milliseconds; linear between ranks; failures have no latency, and what ended long ago, by the
    cluster's clock, is out of the window."""
    run_id = world.create(*[WEB] * 10, gap_s=0.0)
    now_s = world.now_s()
    there = attempt_of(run_id, 4)._replace(cluster="c2", node="c2-n1", latency_s=1.0, ended_at_s=now_s)
    here = [attempt_of(run_id, k)._replace(latency_s=latency_s, ended_at_s=now_s) for k, latency_s in ((0, 0.1), (2, 0.3))]
    old = attempt_of(run_id, 6)._replace(latency_s=9.0, ended_at_s=now_s - 2 * LIVE_S)
    failed = attempt_of(run_id, 8, outcome="failed")._replace(ended_at_s=now_s)
    world.ship(attempts=[*here, there, old, failed])

    found = world.fleet.tail_latency_ms(window_s=LIVE_S, quantile=0.5)

    # The run's speed is 2: 0.2 s of wall time are 400 ms of the trace.
    assert {where: (pytest.approx(tail), count) for where, (tail, count) in found.items()} == {
        ("web", NodeKey("c1", "c1-n1")): (400.0, 2),
        ("web", NodeKey("c2", "c2-n1")): (2000.0, 1),
    }


def test_nodes_of_one_name_keep_what_is_theirs(twins: StoreWorld) -> None:
    """Both clusters have an n1: tails, what is in flight and who may be evicted stay apart."""
    run_id = twins.create(WEB, WEB, WEB, BATCH, BATCH, gap_s=0.0)
    twins.release(run_id)
    ended = [(0, "c1", 0.1), (2, "c2", 1.0)]
    twins.ship(
        attempts=[
            attempt_of(run_id, k)._replace(cluster=cluster, node="n1", latency_s=latency_s, ended_at_s=twins.now_s())
            for k, cluster, latency_s in ended
        ]
    )
    twins.shares.note_in_flight("c2", [LcInFlight("web", "c1", "n1", 1, 0.5)], LcWait())
    twins.admit(run_id, [3, 4])
    twins.place(twins.requests.pending_be(limit=1), twins.fence(), node=2)

    snapshot = twins.fleet.snapshot(at_s=0.0)
    tails = twins.fleet.tail_latency_ms(window_s=LIVE_S, quantile=0.5)
    evictable = twins.fleet.evictable_be([NodeKey("c1", "n1"), NodeKey("c2", "n1")])

    assert snapshot.node_keys == (NodeKey("c1", "n1"), NodeKey("c1", "n2"), NodeKey("c2", "n1"))
    assert snapshot.in_flight.sum(axis=0).tolist() == [1.0, 0.0, 0.0]
    assert snapshot.be_pods.tolist() == [0.0, 0.0, 1.0]
    assert tails == {
        ("web", NodeKey("c1", "n1")): (pytest.approx(200.0), 1),
        ("web", NodeKey("c2", "n1")): (pytest.approx(2000.0), 1),
    }
    assert {node: [(e.cluster, e.request_id) for e in found] for node, found in evictable.items()} == {
        NodeKey("c2", "n1"): [("c2", 3)]
    }
    assert twins.fleet.evictable_be([NodeKey("c1", "n1")]) == {}


@pytest.mark.parametrize("kind", ["memory", "postgres"])
def test_a_node_has_the_least_slack_of_its_services(kind: str, request: pytest.FixtureRequest) -> None:
    """1 - tail / target over the answers of the window, in trace time; a node with too few of them counts as idle."""
    sharing = SharingSettings(tick_s=1e-6)  # every snapshot reads tails anew
    of_memory = kind == "memory"
    world = memory_world(sharing=sharing) if of_memory else postgres_world(request.getfixturevalue("database_url"), sharing=sharing)
    enough = sharing.min_samples
    run_id = world.create(*[WEB] * (4 * enough), gap_s=0.0)
    of = [("web", "c1", "c1-n1")] * enough + [("chat", "c2", "c2-n1")] * (enough - 1)
    world.ship(
        attempts=[
            attempt_of(run_id, 2 * k)._replace(
                service=service, cluster=cluster, node=node, latency_s=0.04, ended_at_s=world.now_s()
            )
            for k, (service, cluster, node) in enumerate(of)
        ]
    )

    # The run's speed is 2: 0.04 s of wall time are 80 ms of the trace, of a target of 100 ms.
    np.testing.assert_allclose(world.fleet.snapshot(at_s=0.0).slack, [1 - 80.0 / 100.0, 1.0, 1.0])


def test_what_has_not_started_is_evicted_first(world: StoreWorld) -> None:
    """Least work lost first: placed pods before running ones; a request loses at most its work."""
    run_id = world.create(BATCH, BATCH, BATCH, BATCH)
    world.release(run_id)
    world.admit(run_id, [0, 1, 2, 3])
    batch = world.requests.pending_be(limit=3)
    world.place(batch, world.fence(), node=0)
    world.requests.mark_running([(run_id, 1, 1, ZERO_S + 10.0)], lease_s=LIVE_S)

    places = world.fleet.evictable_be([NodeKey("c1", "c1-n1"), NodeKey("c2", "c2-n1")])
    found = places[NodeKey("c1", "c1-n1")]

    assert {e.request_id: e.work_lost_s for e in found[:2]} == {0: 0.0, 2: 0.0}
    assert (found[2].request_id, found[2].work_lost_s) == (1, 0.1)
    assert (found[2].pod, found[2].epoch, found[2].run_id) == (f"be-r{run_id}-1-e1", 1, run_id)
    assert list(places) == [("c1", "c1-n1")]
    assert world.fleet.evictable_be([NodeKey("c1", "c2-n1"), NodeKey("c2", "c1-n1")]) == {}
    assert world.fleet.evictable_be([]) == {}


def test_requests_may_arrive_at_the_fleets_clusters_and_at_those_that_joined(database_url: str) -> None:
    """A joined cluster is an entry like the others, after them; the declaration itself stays as it is."""
    fleet = postgres_world(database_url).fleet
    fleet.join("edge", kubeconfig="/edge", context="far", rtt_ms=5.0, bandwidth_mbit_per_s=100.0)

    assert [c.name for c in fleet.in_force().clusters] == ["c1", "c2", "edge"]
    assert [c.name for c in fleet.declared().clusters] == ["c1", "c2"]


def test_a_cluster_that_joins_again_has_the_links_it_is_given_then(database_url: str) -> None:
    """Round-trip time and bandwidth are replaced, in both directions."""
    world = postgres_world(database_url)
    for rtt_ms, bandwidth in ((5.0, 100.0), (20.0, 50.0)):
        world.fleet.join("edge", kubeconfig="/edge", context="far", rtt_ms=rtt_ms, bandwidth_mbit_per_s=bandwidth)

    snapshot = world.fleet.snapshot(at_s=0.0)
    edge, c1 = snapshot.clusters.index("edge"), snapshot.clusters.index("c1")
    assert snapshot.rtt_ms[edge, c1] == snapshot.rtt_ms[c1, edge] == 20.0
    assert snapshot.bandwidth_mbit_per_s[edge, c1] == snapshot.bandwidth_mbit_per_s[c1, edge] == 50.0


def test_an_embedded_cluster_neither_leaves_nor_is_joined_over(database_url: str) -> None:
    """Its processes run: without its row every submit would fail, and a joined cluster of its name would be a second one."""
    world = postgres_world(database_url)

    with pytest.raises(UsageError, match="c1 is an embedded cluster of the fleet in force and cannot be removed"):
        world.fleet.leave("c1")
    with pytest.raises(UsageError, match="c1 is an embedded cluster of the fleet in force; choose another name"):
        world.fleet.join("c1", kubeconfig="/edge", context="far", rtt_ms=5.0, bandwidth_mbit_per_s=100.0)
    world.fleet.join("edge", kubeconfig="/edge", context="far", rtt_ms=5.0, bandwidth_mbit_per_s=100.0)
    world.fleet.leave("edge")

    assert [(c.name, c.embedded) for c in world.fleet.clusters()] == [("c1", True), ("c2", True)]


def test_decisions_and_scaling_events_are_kept(world: StoreWorld) -> None:
    """Every recorded plan leaves a decision row; no scaling event is no error."""
    run_id = world.create(WEB)
    world.ship(decisions=[DecisionCopy(run_id=run_id, at_s=ZERO_S, record=LC_DECISION, apply_ms=0.1)])
    world.events.scaling([])
    world.events.scaling(
        [
            ScalingRecord(
                kind="resize",
                cluster="c1",
                node="c1-n1",
                service="web",
                pod="lc-web-c1-n1-0",
                before_millicores=500,
                after_millicores=700,
                slack=0.05,
                reason="slack low",
                actuation_ms=12.0,
            )
        ]
    )

    assert world.decisions() == 1


def declare(world: StoreWorld, *services: Service) -> None:
    """The fleet with these services."""
    fleet = dataclasses.replace(FLEET, services=services)
    world.fleet.declare(fleet, kubeconfig="/k", contexts={c.name: c.name for c in FLEET.clusters})


def test_what_clusters_measure_of_a_service_adds_up_and_is_learned(world: StoreWorld) -> None:
    """CPU and requests of all clusters; a figure that was declared stays; what nobody declared is dropped."""
    job = dataclasses.replace(job_service(), assumed=("cpu_work_s",))
    declare(world, WEB, BATCH, job)

    world.fleet.note_usage("c1", [ServiceUsage(service="transcode", cpu_s=20.0, memory_mib=50.0, answered=2)])
    world.fleet.note_usage("c2", [ServiceUsage(service="transcode", cpu_s=10.0, memory_mib=70.0, answered=1)])
    world.fleet.note_usage("c1", [ServiceUsage(service="batch", cpu_s=90.0, answered=9), ServiceUsage(service="gone", cpu_s=1.0)])

    assert world.fleet.measured(["transcode", "gone"]) == [
        MeasuredService(service="transcode", cpu_s=30.0, requests=3, memory_mib=70.0)
    ]
    found = {s.name: s for s in world.fleet.services()}
    assert (found["transcode"].cpu_work_s, found["transcode"].memory_mib) == (10.0, job.memory_mib)
    assert found["transcode"].assumed == ("cpu_work_s",)
    assert found["batch"] == BATCH


def test_samples_of_all_clusters_tell_the_memory_of_a_request(world: StoreWorld) -> None:
    """Each told once, in any number of parts; what is declared stays."""
    api = dataclasses.replace(api_service(), assumed=("memory_mib",))
    declare(world, WEB, api, dataclasses.replace(api, name="said", assumed=()))
    total = MemoryByLoad()
    for cluster in ("c1", "c2"):
        instance = MeasuredInstance()
        for _ in range(4):
            part = sum((instance.sample(float(k), 40.0 + 4.0 * k) for k in range(10)), MemoryByLoad())
            total += part
            world.fleet.note_usage(cluster, [ServiceUsage(service=name, by_load=part) for name in (api.name, "said")])

    measured = {m.service: m.by_load for m in world.fleet.measured([api.name, "said"])}
    found = {s.name: s.memory_mib for s in world.fleet.services()}
    assert dataclasses.astuple(measured[api.name]) == pytest.approx(dataclasses.astuple(total))
    line = measured[api.name].line()
    assert line == pytest.approx((4.0, 40.0))
    assert (found[api.name], found["said"]) == (request_memory_mib(api.instance_memory_mib, FittedLine(*line)), api.memory_mib)


def test_lc_requests_that_a_cluster_answered_since_are_counted_once(database_url: str) -> None:
    """Those that ended there, and well, after it was measured first; the newest wait until their ends have been shipped."""
    world = postgres_world(database_url)
    usage = ServiceUsage(service="web", cpu_s=1.0)
    world.fleet.note_usage("c1", [usage])
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE service_usage SET counted_to = now() - interval '1 hour'")
    run_id, now_s = world.create(*[WEB] * 10, gap_s=0.0), world.now_s()
    ended = [attempt_of(run_id, k)._replace(ended_at_s=now_s - 60.0) for k in (0, 2, 4)]
    elsewhere = attempt_of(run_id, 6)._replace(cluster="c2", node="c2-n1", ended_at_s=now_s - 60.0)
    world.ship(attempts=[*ended, elsewhere, attempt_of(run_id, 8)._replace(ended_at_s=now_s)])

    for _ in range(2):
        world.fleet.note_usage("c1", [usage])

    (found,) = world.fleet.measured(["web"])
    assert (found.requests, found.cpu_s) == (3, 3.0)
