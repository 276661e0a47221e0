"""Deployment: which LC instances a cluster lacks, and which it has too many."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tango.control.deploy_instances import InstancePlan, StandingInstance, behind_be, beyond_headroom, outdated, plan_instances
from tango.domain.observations import ExtendedState, NodeState
from tests.fakes.pod_templates import api_service
from tests.fakes.store_world import BATCH, CHAT, WEB

TWICE = replace(WEB, name="twice", instances_per_node=2)


def names(plan: InstancePlan) -> list[str]:
    """Pods to create, as the manifest would name them."""
    return [f"lc-{service.name}-{node}-{k}" for service, node, k in plan.create]


def plan(
    existing: Collection[str], *, ready: Collection[str] = ("n1", "n2"), away: Collection[str] = (), services: tuple = (WEB,)
) -> InstancePlan:
    """For a cluster of these nodes."""
    return plan_instances(services, set(ready), {*ready, *away}, set(existing))


def test_every_ready_node_gets_every_lc_service() -> None:
    """On an empty cluster all instances are missing; a BE service has no standing instance."""
    found = plan([], services=(WEB, BATCH, CHAT))

    assert names(found) == ["lc-web-n1-0", "lc-web-n2-0", "lc-chat-n1-0", "lc-chat-n2-0"]
    assert found.remove == ()


def test_a_service_has_its_declared_number_of_instances_a_node() -> None:
    """Two a node, numbered from 0; the one that is there is not made again."""
    found = plan(["lc-twice-n1-1"], ready=["n1"], services=(TWICE,))

    assert [(service.name, node, k) for service, node, k in found.create] == [("twice", "n1", 0)]


def test_a_complete_cluster_needs_nothing() -> None:
    """The plan is empty, and stays so however often it is made."""
    found = plan(["lc-web-n1-0", "lc-web-n2-0"])

    assert found == InstancePlan(create=(), remove=())


def test_a_node_that_is_away_keeps_its_instances_and_gets_no_new_ones() -> None:
    """It may come back with them: they are neither removed nor completed meanwhile."""
    found = plan(["lc-web-n1-0", "lc-twice-n9-0"], ready=["n1"], away=["n9"], services=(WEB, TWICE))

    assert names(found) == ["lc-twice-n1-0", "lc-twice-n1-1"]
    assert found.remove == ()


def test_instances_of_a_node_that_is_gone_are_removed() -> None:
    """Nothing is declared for a node that the cluster no longer has."""
    found = plan(["lc-web-n1-0", "lc-web-n2-0", "lc-web-n3-0"])

    assert (found.create, found.remove) == ((), ("lc-web-n3-0",))


def test_instances_beyond_what_is_declared_are_removed() -> None:
    """Of a service that is gone, and those above a number that was lowered, in order of name."""
    found = plan(["lc-web-n1-0", "lc-web-n1-1", "lc-gone-n1-0"], ready=["n1"])

    assert (found.create, found.remove) == ((), ("lc-gone-n1-0", "lc-web-n1-1"))


def test_an_lc_service_that_became_be_loses_its_instances() -> None:
    """What is declared now decides, not what was."""
    found = plan(["lc-batch-n1-0"], ready=["n1"], services=(BATCH,))

    assert (found.create, found.remove) == ((), ("lc-batch-n1-0",))


def test_no_instance_is_made_where_its_service_may_not_run() -> None:
    """One that is there already stays: labels and taints count when a pod is placed, not later."""
    found = plan_instances([WEB], {"n1", "n2"}, {"n1", "n2"}, {"lc-web-n1-0"}, {("web", "n1"), ("web", "n2")})

    assert (found.create, found.remove) == ((), ())


def test_a_new_declaration_replaces_a_quarter_of_the_instances_at_a_time() -> None:
    """One at least; none while others are away, and first of all what is not ready."""
    service = api_service()

    def pods(*states: tuple[str, bool]) -> list[StandingInstance]:
        return [StandingInstance(f"p{k}", "my-api", revision, ready) for k, (revision, ready) in enumerate(states)]

    old, new = ("old", True), (service.revision, True)
    assert outdated([service], pods(*[old] * 8)) == ("p0", "p1")
    assert outdated([service], pods(old, new)) == ("p0",)
    assert outdated([service], pods(old, old, (service.revision, False))) == ()
    assert outdated([service], pods(old, ("old", False), old)) == ("p1",)
    assert outdated([service], pods(new, new)) == ()


def test_a_node_without_room_even_if_best_effort_gave_way_gets_no_instance() -> None:
    """Pods of others and LC stay; BE does not count; instances that are made before take their part."""
    cpu, memory = WEB.pod_requests

    def of(name: str, *, cpu: int = 9999, memory: int = 9999, **held: int) -> NodeState:
        return NodeState(name=name, ready=True, cpu_allocatable_millicores=cpu, memory_allocatable_mib=memory, **held)  # type: ignore[arg-type]

    roomy = of("n1", cpu=2 * cpu, be_cpu_request_millicores=9999)
    full = of("n2", cpu=cpu, other_cpu_request_millicores=1)
    crowded = of("n3", pods_allocatable=7, other_pods=7)
    small = of("n4", memory=memory - 1)
    wanted = [(WEB, "n1", 0), (WEB, "n1", 1), (WEB, "n1", 2), (WEB, "n2", 0), (WEB, "n3", 0), (WEB, "n4", 0)]

    found = beyond_headroom(wanted, [roomy, full, crowded, small])

    assert [(node, k) for _, node, k in found] == [("n1", 2), ("n2", 0), ("n3", 0), ("n4", 0)]
    assert "and 0 pods" in found[WEB, "n3", 0]


def test_an_instance_that_fits_only_without_best_effort_waits_for_it() -> None:
    """In CPU, memory, pods, and whatever else it asks for; one that fits as it is does not wait."""
    cpu, memory = WEB.pod_requests
    with_gpu = replace(WEB, name="with-gpu", extended=(("nvidia.com/gpu", 1000),))
    roomy = NodeState(name="n1", ready=True, cpu_allocatable_millicores=cpu, memory_allocatable_mib=memory)
    gpu = ExtendedState(allocatable=1000, be_held=1000)
    wide = replace(roomy, cpu_allocatable_millicores=9 * cpu, memory_allocatable_mib=9 * memory)
    nodes = [
        roomy,
        replace(roomy, name="n2", be_cpu_request_millicores=1, be_pods=1),
        replace(roomy, name="n3", be_memory_held_mib=1),
        replace(wide, name="n4", pods_allocatable=5, be_pods=5),
        replace(wide, name="n5", extended={"nvidia.com/gpu": gpu}),
    ]
    wanted = [*((WEB, f"n{k}", 0) for k in range(1, 6)), (with_gpu, "n5", 0)]

    assert beyond_headroom(wanted, nodes) == {}
    waiting = behind_be(wanted, nodes)
    assert [(service.name, node) for service, node, _ in waiting] == [
        ("web", "n2"),
        ("web", "n3"),
        ("web", "n4"),
        ("with-gpu", "n5"),
    ]
    assert waiting[WEB, "n2", 0].endswith("waits for BE to give way, which holds 1m, 0 MiB in 1 pods there")


def test_a_node_without_the_devices_that_an_instance_asks_for_gets_none() -> None:
    """Pods of others have them; the reason names what is lacking."""
    with_gpu = replace(WEB, name="with-gpu", extended=(("nvidia.com/gpu", 1000),))
    held = ExtendedState(allocatable=1000, other_held=1000)
    node = NodeState(
        name="n1", ready=True, cpu_allocatable_millicores=9999, memory_allocatable_mib=9999, extended={"nvidia.com/gpu": held}
    )

    found = beyond_headroom([(with_gpu, "n1", 0)], [node])

    assert found[with_gpu, "n1", 0].endswith("0 nvidia.com/gpu")


def test_a_node_that_is_short_of_what_an_instance_does_not_ask_for_gets_it() -> None:
    """A node whose devices went away holds more of them than it has: an instance without devices is made all the same, as its kubelet
    would take it."""
    short = NodeState(
        name="n1",
        ready=True,
        cpu_allocatable_millicores=4000,
        memory_allocatable_mib=8192,
        extended={"nvidia.com/gpu": ExtendedState(allocatable=0, lc_held=1000)},
    )

    assert beyond_headroom([(WEB, "n1", 0)], [short]) == {}
    assert list(beyond_headroom([(replace(WEB, extended=(("nvidia.com/gpu", 1000),)), "n1", 0)], [short]).values()) != []
