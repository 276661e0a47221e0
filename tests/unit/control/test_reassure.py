"""Re-assurance: an LC service short of slack grows in place, and BE gives way to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tango.control.be_evictions import BeEvictions
from tango.control.lease_holder import LeaseHolder
from tango.control.make_headroom import HeadroomForInstances
from tango.control.reassure import RESERVED_S, Reassurance, ReassuranceRounds
from tango.control.reserved_cpu import ReservedCpu
from tango.domain.jobs import NewJob
from tango.domain.observations import InstanceState
from tango.domain.runs import ScalingOutcome
from tango.domain.services import Service
from tango.domain.tenants import Guarantee, Tenant
from tango.ports.fleet import FleetStore
from tango.settings import LeaseSettings, SharingSettings
from tests.fakes.control_world import ControlWorld, control_world
from tests.fakes.faulty import Faulty
from tests.fakes.store_world import (
    BATCH,
    CHAT,
    FLEET,
    TWINS,
    WEB,
    ZERO_S,
    attempt_of,
    copy_of,
    instance_of,
    new_requests,
    new_run,
    node_states,
)

SETTINGS = SharingSettings(window_s=5.0, min_samples=5, hold_s=3.0, shrink_hold_s=10.0)
C1_N1, C1_N2, C2_N1 = 0, 1, 2
"""Rows of the snapshot's nodes: 4, 4 and 2 cores, each with an instance of WEB (limit 1000, target 100 ms) and one of CHAT."""


def reassurance(world: ControlWorld, *, fleet: FleetStore | None = None) -> Reassurance:
    """Of one process."""
    return Reassurance(
        fleet=fleet or world.fleet,
        events=world.events,
        clusters=world.clusters,
        evictions=evictions(world),
        settings=SETTINGS,
        tenants=world.tenants,
    )


def evictions(world: ControlWorld) -> BeEvictions:
    """Of one process."""
    return BeEvictions(fleet=world.fleet, events=world.events, requests=world.requests, clusters=world.clusters)


def served(world: ControlWorld, count: int, *, latency_ms: float, node: int = C1_N1, service: Service = WEB) -> None:
    """Requests of a service, WEB, that a node has just answered after that many milliseconds of trace time."""
    run_id = world.created(*[service] * count)
    wall_s = latency_ms / 1000 / world.runs.run(run_id).speed
    key = world.fleet.snapshot(at_s=0.0).node_key(node)
    for entry in ("c1", "c2"):
        ended = [
            attempt_of(run_id, k)._replace(
                service=service.name,
                cluster=key.cluster,
                node=key.name,
                latency_s=world.row(run_id, k).due_s + wall_s - world.row(run_id, k).due_s,
                ended_at_s=world.now_s(),
            )
            for k in range(count)
            if world.row(run_id, k).cluster == entry
        ]
        copies = [copy_of(run_id, a.request_id)._replace(cluster=key.cluster, node=key.name) for a in ended]
        world.ship(*copies, cluster=entry, attempts=ended)


def placed(world: ControlWorld, count: int, *, node: int = C1_N1) -> int:
    """A run whose BE pods, of half a core each, are on a node."""
    run_id = world.pending(*[BATCH] * count)
    world.place(world.requests.pending_be(limit=count), world.fence(), node=node)
    return run_id


def observed(world: ControlWorld, *instances: InstanceState) -> None:
    """What the agent of c1 sees of instances now."""
    world.fleet.observe("c1", node_states(FLEET.clusters[0]), instances, sample=False)


# ---- resizing ----------------------------------------------------------------------------------------------------------


def test_a_service_short_of_slack_grows_on_its_node(world: ControlWorld) -> None:
    """At twice its target WEB wants three times its limit on that node; no other instance is touched, and the event is on record."""
    served(world, 5, latency_ms=200.0)

    report = reassurance(world).round(now_s=ZERO_S)

    assert report == {"resizes": 1, "evictions": 0}
    [resize] = world.clusters.resized
    assert (resize.cluster, resize.node, resize.pod) == ("c1", "c1-n1", "lc-web-c1-n1-0")
    assert (resize.cpu_limit_before_millicores, resize.cpu_limit_after_millicores, resize.reason) == (1000, 3000, "grow")
    assert resize.slack == pytest.approx(-1.0)
    assert [(e.kind, e.pod, e.after_millicores, e.outcome) for e in world.state.scalings] == [
        ("resize", "lc-web-c1-n1-0", 3000, "done")
    ]


def test_an_instance_of_another_tenant_gives_back_what_is_guaranteed(world: ControlWorld) -> None:
    """CHAT, of red, has grown over the node and is as late as WEB, of blue, which has nothing to grow into. With a guarantee of blue's CHAT
    shrinks for it, which is on record as that, and WEB grows beside it."""
    world.fleet.put_services([replace(WEB, tenant="blue"), replace(CHAT, tenant="red")])
    observed(
        world,
        instance_of(WEB, "c1-n1"),
        replace(instance_of(CHAT, "c1-n1"), cpu_limit_millicores=3000, cpu_request_millicores=600),
    )
    served(world, 5, latency_ms=200.0)
    served(world, 5, latency_ms=800.0, service=CHAT)

    without = reassurance(world).round(now_s=ZERO_S)
    world.tenants.put([Tenant(name="blue", guarantee=Guarantee(cpu_millicores=5000))])
    guaranteed = reassurance(world).round(now_s=ZERO_S)

    assert (without["resizes"], guaranteed["resizes"]) == (0, 2)
    found = {r.service: (r.reason, r.cpu_limit_after_millicores) for r in world.clusters.resized}
    assert {service: reason for service, (reason, _) in found.items()} == {"web": "grow", "chat": "guarantee"}
    assert 1500 < found["web"][1] < 2500  # half of the fleet's ten cores, by what instances request and the room of each node
    assert found["web"][1] + found["chat"][1] == pytest.approx(4000, abs=2)


def test_with_too_few_answers_or_within_target_nothing_is_done(world: ControlWorld) -> None:
    """Four late answers are chance; five with slack left are none of our business."""
    served(world, 4, latency_ms=900.0, node=C1_N1)
    served(world, 5, latency_ms=50.0, node=C1_N2)

    report = reassurance(world).round(now_s=ZERO_S)

    assert report == {"resizes": 0, "evictions": 0}
    assert world.clusters.calls == []
    assert world.state.scalings == []


def test_answers_older_than_the_window_do_not_count(world: ControlWorld) -> None:
    """Slack is of the last `window_s` seconds: what was slow before that has had its resize."""
    served(world, 5, latency_ms=200.0)
    world.clock.turn(SETTINGS.window_s + 1.0)

    report = reassurance(world).round(now_s=ZERO_S)

    assert report["resizes"] == 0


def test_an_instance_is_left_alone_for_a_while_after_a_resize(world: ControlWorld) -> None:
    """The answers that were slow before it are still in the window: the next growth waits for `hold_s`."""
    served(world, 5, latency_ms=120.0)
    rounds = reassurance(world)

    first = rounds.round(now_s=ZERO_S)
    observed(world, replace(instance_of(WEB, "c1-n1"), cpu_limit_millicores=1800))
    held = rounds.round(now_s=ZERO_S + SETTINGS.hold_s - 0.1)
    next_one = rounds.round(now_s=ZERO_S + SETTINGS.hold_s)

    assert [report["resizes"] for report in (first, held, next_one)] == [1, 0, 1]
    assert [(r.cpu_limit_before_millicores, r.cpu_limit_after_millicores) for r in world.clusters.resized] == [
        (1000, 1800),
        (1800, 3240),
    ]


@pytest.mark.parametrize("outcome", ["done", "deferred", "error"])
def test_a_resize_is_tried_again_only_after_its_hold_whatever_came_of_it(world: ControlWorld, outcome: ScalingOutcome) -> None:
    """A kubelet that defers and a cluster that errs get the same rest; after it the same resize is asked for once more."""
    served(world, 5, latency_ms=200.0)
    world.clusters.outcomes["lc-web-c1-n1-0"] = outcome
    rounds = reassurance(world)

    asked = [rounds.round(now_s=ZERO_S + at_s)["resizes"] for at_s in (0.0, 1.0, SETTINGS.hold_s)]

    assert asked == [1, 0, 1]
    assert [event.outcome for event in world.state.scalings] == [outcome, outcome]


def test_an_infeasible_resize_is_never_tried_again_as_it_stands(world: ControlWorld) -> None:
    """The node said that it can never hold that limit: the same one is not asked for, another one is."""
    served(world, 5, latency_ms=200.0)
    world.clusters.outcomes["lc-web-c1-n1-0"] = "infeasible"
    rounds = reassurance(world)
    rounds.round(now_s=ZERO_S)

    same = rounds.round(now_s=ZERO_S + 10.0)
    observed(world, replace(instance_of(WEB, "c1-n1"), cpu_limit_millicores=800))
    other = rounds.round(now_s=ZERO_S + 20.0)

    assert (same["resizes"], other["resizes"]) == (0, 1)
    assert [r.cpu_limit_after_millicores for r in world.clusters.resized] == [3000, 2400]


def test_what_was_refused_for_good_outlives_the_process_that_asked(world: ControlWorld) -> None:
    """The next one does not ask again, until the node has grown."""
    served(world, 5, latency_ms=200.0)
    world.clusters.outcomes["lc-web-c1-n1-0"] = "infeasible"
    reassurance(world).round(now_s=ZERO_S)

    same = reassurance(world).round(now_s=ZERO_S + 10.0)
    instances = [i for cluster, i in world.fleet.instances() if cluster == "c1"]
    first, *others = node_states(FLEET.clusters[0])
    world.fleet.observe("c1", [replace(first, cpu_allocatable_millicores=16_000), *others], instances, sample=False)
    grown = reassurance(world).round(now_s=ZERO_S + 20.0)

    assert (same["resizes"], grown["resizes"]) == (0, 1)


def test_a_refusal_by_the_cluster_is_no_word_on_the_size(world: ControlWorld) -> None:
    """An expired token, a role that is missing, a quota: tried again after a pause, and not every second."""
    served(world, 5, latency_ms=200.0)
    world.clusters.outcomes["lc-web-c1-n1-0"] = "refused"
    rounds = reassurance(world)

    asked = [rounds.round(now_s=ZERO_S + k * 0.01)["resizes"] for k in range(20)]
    later = rounds.round(now_s=ZERO_S + 100.0)["resizes"]

    assert (asked, later) == ([1] + [0] * 19, 1)
    assert world.fleet.refused_resizes() == []


def test_services_may_be_left_alone(world: ControlWorld) -> None:
    """Instances that are never resized, and best-effort pods that are never evicted."""
    served(world, 5, latency_ms=200.0)
    placed(world, 8)
    world.state.services |= {"batch": replace(BATCH, never_evict=True)}
    without_eviction = reassurance(world).round(now_s=ZERO_S)
    world.state.services |= {"web": replace(WEB, never_resize=True)}
    without_resize = reassurance(world).round(now_s=ZERO_S + 50.0)

    assert without_eviction["evictions"] == 0
    assert without_resize == {"resizes": 0, "evictions": 0}


def test_what_best_effort_gave_back_is_kept_for_the_instance(world: ControlWorld) -> None:
    """The next placement sees it as taken, for some seconds."""
    served(world, 5, latency_ms=200.0)
    placed(world, 8)
    at_s = [0.0]
    reserved = ReservedCpu(lambda: at_s[0])
    rounds = Reassurance(
        fleet=world.fleet,
        events=world.events,
        clusters=world.clusters,
        evictions=evictions(world),
        settings=SETTINGS,
        reserved=reserved,
    )

    rounds.round(now_s=ZERO_S)
    snapshot = world.fleet.snapshot(at_s=0.0)
    [resize] = world.clusters.resized
    grown = resize.cpu_request_after_millicores - WEB.cpu_request_millicores
    at_once = reserved.taken_off(snapshot).cpu_allocatable
    at_s[0] = RESERVED_S + 1.0
    later = reserved.taken_off(snapshot)

    assert grown > 0
    assert (snapshot.cpu_allocatable - at_once).tolist() == [grown, 0.0, 0.0]
    assert later is snapshot


# ---- BE gives way ------------------------------------------------------------------------------------------------------


def test_be_gives_way_before_the_instance_grows(world: ControlWorld) -> None:
    """On a node full of BE the kubelet needs space for the new request first: one of eight pods goes, back to pending."""
    served(world, 5, latency_ms=200.0)
    run_id = placed(world, 8)

    report = reassurance(world).round(now_s=ZERO_S)

    assert report == {"resizes": 1, "evictions": 1}
    assert world.clusters.calls == ["evict", "resize"]
    [eviction] = world.clusters.evicted
    assert eviction.why == f"room for {WEB.name} to grow"
    assert (eviction.cluster, eviction.node, eviction.run_id) == ("c1", "c1-n1", run_id)
    assert sorted(world.states(run_id)) == ["pending"] + ["placed"] * 7
    assert world.attempts(run_id) == [(eviction.request_id, 1, "returned", "evicted")]
    assert [event.kind for event in world.state.scalings] == ["evict", "resize"]


def test_the_pod_that_loses_least_work_gives_way_first(world: ControlWorld) -> None:
    """First the one that has not started, next time the one that started last; the work thrown away is on record."""
    served(world, 5, latency_ms=200.0)
    run_id = placed(world, 8)
    world.requests.mark_running([(run_id, k, 1, ZERO_S + 1.0 + k) for k in range(8) if k != 3], lease_s=60.0)

    rounds = reassurance(world)
    rounds.round(now_s=ZERO_S)
    older = placed(world, 1)
    world.requests.mark_running([(older, 0, 1, ZERO_S + 0.5)], lease_s=60.0)
    rounds.round(now_s=ZERO_S + SETTINGS.hold_s)

    assert [(e.run_id, e.request_id) for e in world.clusters.evicted] == [(run_id, 3), (run_id, 7)]
    assert [a.work_lost_s for a in world.state.attempts if a.reason == "evicted"] == pytest.approx([0.0, 0.1])


def test_a_job_has_its_grace_and_goes_back_when_its_pod_has_ended(world: ControlWorld) -> None:
    """It may be saving its state: its request stays with its pod until then, nobody else gives way for the same CPU meanwhile, and the
    resize is asked for at once, for the kubelet to carry out."""
    served(world, 5, latency_ms=200.0)
    jobs = [world.jobs.submit(NewJob(service=BATCH.name, key=str(k))).key for k in range(8)]
    world.admit(jobs[0].run_id, [job.request_id for job in jobs])
    world.place(world.requests.pending_be(limit=8), world.fence(), node=C1_N1)
    rounds = reassurance(world)

    first = rounds.round(now_s=ZERO_S)
    again = rounds.round(now_s=ZERO_S + SETTINGS.hold_s)

    [eviction] = world.clusters.evicted
    assert (first, again["evictions"]) == ({"resizes": 1, "evictions": 1}, 0)
    assert eviction.has_grace
    assert {job.state for job in world.jobs.jobs()} == {"placed"}
    assert world.attempts(jobs[0].run_id) == []


@pytest.mark.parametrize("outcome", ["deferred", "error"])
def test_an_eviction_that_was_not_granted_leaves_the_request_with_its_pod(world: ControlWorld, outcome: ScalingOutcome) -> None:
    """A pod that stays still runs its request: to place it again would run it twice."""
    served(world, 5, latency_ms=200.0)
    run_id = placed(world, 8)
    world.clusters.outcomes = {f"be-r{run_id}-{k}-e1": outcome for k in range(8)}

    reassurance(world).round(now_s=ZERO_S)

    assert len(world.clusters.evicted) == 1
    assert world.states(run_id) == ["placed"] * 8


def test_nobody_gives_way_to_a_resize_that_the_node_refused_for_good(world: ControlWorld) -> None:
    """Infeasible is never asked again, so space made for it would be made for nothing."""
    served(world, 5, latency_ms=200.0)
    placed(world, 8)
    world.clusters.outcomes["lc-web-c1-n1-0"] = "infeasible"
    rounds = reassurance(world)
    rounds.round(now_s=ZERO_S)
    evicted = len(world.clusters.evicted)
    placed(world, 1)

    report = rounds.round(now_s=ZERO_S + 10.0)

    assert report == {"resizes": 0, "evictions": 0}
    assert len(world.clusters.evicted) == evicted == 1


def test_be_on_a_node_with_slack_is_left_in_peace(world: ControlWorld) -> None:
    """Only where LC is short, by enough answers, is anybody asked who could go."""
    served(world, 5, latency_ms=200.0, node=C1_N2)
    served(world, 4, latency_ms=200.0, node=C1_N1)
    served(world, 5, latency_ms=50.0, node=C2_N1)
    run_id = placed(world, 8, node=C1_N1)
    fleet = Faulty(world.fleet)

    reassurance(world, fleet=fleet).round(now_s=ZERO_S)

    assert [list(call.args[0]) for call in fleet.calls_of("evictable_be")] == [[("c1", "c1-n2")]]
    assert world.clusters.evicted == []
    assert world.states(run_id) == ["placed"] * 8


# ---- nodes of one name -------------------------------------------------------------------------------------------------


def twins() -> ControlWorld:
    """Both clusters have an n1; that of c2, of 2 cores, has an instance of WEB alone, and so can grow."""
    world = control_world(TWINS)
    world.fleet.observe("c2", node_states(TWINS.clusters[1]), [instance_of(WEB, "n1")], sample=False)
    return world


def test_of_two_nodes_of_one_name_the_slow_one_grows() -> None:
    """Late answers of c2's n1 say nothing of c1's n1: only c2's instance grows, and only c2's BE gives way."""
    world = twins()
    served(world, 5, latency_ms=150.0, node=C2_N1)
    served(world, 5, latency_ms=50.0, node=C1_N1)
    on_c1, on_c2 = placed(world, 8, node=C1_N1), placed(world, 4, node=C2_N1)

    report = reassurance(world).round(now_s=ZERO_S)

    assert report == {"resizes": 1, "evictions": 1}
    [resize] = world.clusters.resized
    assert (resize.cluster, resize.node, resize.pod, resize.reason) == ("c2", "n1", "lc-web-n1-0", "grow")
    assert resize.slack == pytest.approx(-0.5)
    assert {(e.cluster, e.node, e.run_id) for e in world.clusters.evicted} == {("c2", "n1", on_c2)}
    assert world.states(on_c1) == ["placed"] * 8
    assert [(e.kind, e.cluster, e.node) for e in world.state.scalings] == [("evict", "c2", "n1"), ("resize", "c2", "n1")]


@pytest.mark.parametrize("outcome", ["done", "infeasible"])
def test_what_became_of_one_pod_is_not_held_against_its_namesake(outcome: ScalingOutcome) -> None:
    """The hold after a resize, and what a node refused for good, are of one pod; the other cluster's pod of that name goes on."""
    world = twins()
    world.clusters.outcomes["c2/lc-web-n1-0"] = outcome
    rounds = reassurance(world)
    served(world, 5, latency_ms=110.0, node=C2_N1)
    rounds.round(now_s=ZERO_S)
    world.clock.turn(SETTINGS.window_s + 1.0)
    served(world, 5, latency_ms=110.0, node=C1_N1)

    report = rounds.round(now_s=ZERO_S + 1.0)

    assert report["resizes"] == 1
    assert [(r.cluster, r.pod) for r in world.clusters.resized] == [("c2", "lc-web-n1-0"), ("c1", "lc-web-n1-0")]


# ---- burst -------------------------------------------------------------------------------------------------------------

NODES = {"c1-n1": 4000, "c1-n2": 4000, "c2-n1": 2000}


def seen_at(world: ControlWorld, limits: Mapping[str, int]) -> None:
    """Agents see every instance with the limit of its node."""
    for cluster in FLEET.clusters:
        seen = [
            replace(instance_of(service, node.name), cpu_limit_millicores=limits[node.name])
            for node in cluster.nodes
            for service in (WEB, CHAT)
        ]
        world.fleet.observe(cluster.name, node_states(cluster), seen, sample=False)


def test_under_burst_every_instance_gets_its_node_once(world: ControlWorld) -> None:
    """One resize each in the first round, none in those that follow, whether the agents have seen it yet or not."""
    rounds = reassurance(world)

    first = rounds.round(now_s=ZERO_S, rule="burst")
    unseen = rounds.round(now_s=ZERO_S + 1.0, rule="burst")
    seen_at(world, NODES)
    later = [rounds.round(now_s=ZERO_S + at_s, rule="burst") for at_s in (2.0, 5.0, 60.0)]

    assert first == {"resizes": 6, "evictions": 0}
    assert {(r.node, r.cpu_limit_after_millicores, r.reason) for r in world.clusters.resized} == {
        (node, cpu, "grow") for node, cpu in NODES.items()
    }
    assert {r.cpu_request_after_millicores for r in world.clusters.resized} == {WEB.cpu_request_millicores}
    assert [report["resizes"] for report in (unseen, *later)] == [0, 0, 0, 0]


def test_under_burst_a_service_short_of_slack_asks_for_a_larger_request(world: ControlWorld) -> None:
    """The limit is the node's and stays; the event has the same limit before and after, and says that it grew."""
    seen_at(world, NODES)
    served(world, 5, latency_ms=200.0)

    report = reassurance(world).round(now_s=ZERO_S, rule="burst")

    assert report == {"resizes": 1, "evictions": 0}
    [resize] = world.clusters.resized
    assert (resize.cpu_limit_before_millicores, resize.cpu_limit_after_millicores, resize.reason) == (4000, 4000, "grow")
    assert resize.cpu_request_after_millicores == 3 * WEB.cpu_request_millicores
    assert [(e.before_millicores, e.after_millicores) for e in world.state.scalings] == [(4000, 4000)]


def test_a_node_that_refuses_every_larger_limit_is_soon_left_in_peace(world: ControlWorld) -> None:
    """As with a `LimitRange`: half as much more at a time, a hold between, then nothing is asked any more."""
    world.clusters.outcomes["lc-web-c1-n1-0"] = "infeasible"
    rounds = reassurance(world)

    for k in range(30):
        rounds.round(now_s=ZERO_S + k * SETTINGS.hold_s, rule="burst")

    asked = [r.cpu_limit_after_millicores for r in world.clusters.resized if r.pod == "lc-web-c1-n1-0"]
    assert asked == [4000, 2500, 1750, 1375, 1187, 1093]


def test_nobody_gives_way_to_a_request_that_was_refused_for_good(world: ControlWorld) -> None:
    """A quota of requests: the same request is not asked for again, and no second BE pod goes for it; a smaller one may be."""
    seen_at(world, NODES)
    served(world, 5, latency_ms=200.0)
    placed(world, 8)
    world.clusters.outcomes["lc-web-c1-n1-0"] = "infeasible"
    rounds = reassurance(world)
    first = rounds.round(now_s=ZERO_S, rule="burst")
    placed(world, 1)

    again = [rounds.round(now_s=ZERO_S + at_s, rule="burst") for at_s in (10.0, 20.0)]

    assert first == {"resizes": 1, "evictions": 1}
    assert again == [{"resizes": 0, "evictions": 0}] * 2


# ---- back to what is declared ------------------------------------------------------------------------------------------


def test_restoring_brings_back_the_declared_size(world: ControlWorld) -> None:
    """Grown or shrunk, with nothing left to re-assure an instance goes back; one of declared size is not touched."""
    grown = replace(instance_of(WEB, "c1-n1"), cpu_limit_millicores=3000, cpu_request_millicores=300)
    shrunk = replace(instance_of(CHAT, "c1-n2"), cpu_limit_millicores=700)
    observed(world, grown, shrunk, instance_of(WEB, "c1-n2"))

    report = reassurance(world).restore(now_s=ZERO_S)

    assert report == {"resizes": 2, "evictions": 0}
    assert [
        (r.pod, r.cpu_limit_before_millicores, r.cpu_limit_after_millicores, r.cpu_request_after_millicores, r.reason)
        for r in world.clusters.resized
    ] == [("lc-chat-c1-n2-0", 700, 1000, 100, "restore"), ("lc-web-c1-n1-0", 3000, 1000, 100, "restore")]
    assert [(event.pod, event.after_millicores) for event in world.state.scalings] == [
        ("lc-chat-c1-n2-0", 1000),
        ("lc-web-c1-n1-0", 1000),
    ]


def test_restoring_looks_at_requests_too(world: ControlWorld) -> None:
    """Where a limit could not grow, the request may have: it goes back as well."""
    observed(world, replace(instance_of(WEB, "c1-n1"), cpu_request_millicores=300))

    assert reassurance(world).restore(now_s=ZERO_S)["resizes"] == 1
    [resize] = world.clusters.resized
    assert (resize.cpu_limit_after_millicores, resize.cpu_request_after_millicores, resize.reason) == (1000, 100, "restore")


def test_with_everything_at_its_size_restoring_calls_nobody(world: ControlWorld) -> None:
    """An idle stack is quiet."""
    report = reassurance(world).restore(now_s=ZERO_S)

    assert report == {"resizes": 0, "evictions": 0}
    assert world.clusters.calls == []


def test_restoring_leaves_out_who_is_not_ready_or_not_declared(world: ControlWorld) -> None:
    """Such a pod is about to go, or cannot take a resize now."""
    grown = replace(instance_of(WEB, "c1-n1"), cpu_limit_millicores=3000)
    observed(world, replace(grown, ready=False), replace(grown, pod="lc-old-c1-n1-0", service="old"))

    report = reassurance(world).restore(now_s=ZERO_S)

    assert report["resizes"] == 0


def test_restoring_asks_once_a_hold(world: ControlWorld) -> None:
    """The agent sees a resize a moment after it was made: asking again at once would repeat it."""
    observed(world, replace(instance_of(WEB, "c1-n1"), cpu_limit_millicores=3000))
    rounds = reassurance(world)

    asked = [rounds.restore(now_s=ZERO_S + at_s)["resizes"] for at_s in (0.0, 1.0, SETTINGS.hold_s)]

    assert asked == [1, 0, 1]


# ---- the periodic task -------------------------------------------------------------------------------------------------


def next_round(world: ControlWorld, *, owner: str = "scheduler") -> dict[str, int]:
    """As the task calls it."""
    holder = LeaseHolder(leases=world.leases, owner=owner, settings=LeaseSettings())
    rounds = ReassuranceRounds(
        headroom=HeadroomForInstances(fleet=world.fleet, evictions=evictions(world)),
        reassurance=reassurance(world),
        runs=world.runs,
        holder=holder,
        clock=world.clock,
    )
    return rounds.next()


def test_the_rule_is_that_of_the_active_runs(world: ControlWorld) -> None:
    """A run of `tango` shares by `burst`: every instance gets its node."""
    world.create(WEB)

    assert next_round(world) == {"resizes": 6, "evictions": 0}
    assert {(r.node, r.cpu_limit_after_millicores) for r in world.clusters.resized} == set(NODES.items())


def test_a_run_of_a_system_that_is_not_known_here_does_not_stop_the_rounds(world: ControlWorld) -> None:
    """Another version of Tango may have stored it; every round would fail as long as it runs."""
    world.create(WEB)
    world.runs.create_run(replace(new_run(), system="newer"), new_requests([WEB]))

    assert next_round(world) == {"resizes": 6, "evictions": 0}


def test_with_no_run_instances_go_back_to_their_declared_size(world: ControlWorld) -> None:
    """Nothing runs, so nobody needs what an earlier run had given out."""
    observed(world, replace(instance_of(WEB, "c1-n1"), cpu_limit_millicores=3000))

    assert next_round(world) == {"resizes": 1, "evictions": 0}
    assert world.clusters.resized[0].reason == "restore"


def test_instances_that_are_to_be_made_get_their_room_without_a_run(world: ControlWorld) -> None:
    """And under every rule: what is not there answers nobody."""
    placed(world, 8)
    first, *others = node_states(FLEET.clusters[0])
    world.fleet.observe("c1", [replace(first, lc_awaited={"web": 1}), *others], [], sample=False)

    assert next_round(world)["evictions"] == 1


def test_growth_leaves_what_instances_to_be_made_will_ask_for(world: ControlWorld) -> None:
    """An instance that grows does not take the room that was made for another."""
    served(world, 5, latency_ms=200.0)
    free = reassurance(world).round(now_s=ZERO_S)
    [unhindered] = world.clusters.resized
    world.clusters.resized.clear()
    first, *others = node_states(FLEET.clusters[0])
    large = replace(CHAT, name="large", cpu_request_millicores=3750, cpu_limit_millicores=3800)
    world.fleet.put_services([large])
    held = replace(first, lc_awaited={"large": 1}, lc_cpu_request_millicores=WEB.cpu_request_millicores)
    world.fleet.observe("c1", [held, *others], [instance_of(WEB, "c1-n1")], sample=False)

    reassurance(world).round(now_s=ZERO_S)

    [hindered] = world.clusters.resized
    assert free["resizes"] == 1
    assert unhindered.cpu_request_after_millicores == 300
    assert hindered.cpu_request_after_millicores == 250


def test_only_the_holder_of_the_lease_resizes(world: ControlWorld) -> None:
    """The memory of recent resizes is one process's: two of them would each resize within the other's hold."""
    world.create(WEB)
    first = next_round(world)

    second = next_round(world, owner="another")

    assert (first["resizes"], second) == (6, {"resizes": 0, "evictions": 0})
