"""Pods on virtual nodes, with time turned by hand and addresses that nobody listens on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tango.domain.interference import ServiceInterference
from tango.domain.services import Service, ServiceClass
from tango.emulation.workload.http1 import Work
from tests.fakes.clocked_pool import FLEET, ClockedPool, be, conditions, lc, limit, never, resources


async def test_a_be_pod_runs_then_succeeds_with_exact_times() -> None:
    """Half a core limits one CPU-second to two seconds."""
    clocked = ClockedPool()

    await clocked.pool.start(be("a", work_s=1.0, limit="500m", cpu="100m"))
    running = clocked.status("a")
    clocked.clock.run_to(5.0)

    assert running["phase"] == "Running"
    assert clocked.status("a")["phase"] == "Succeeded"
    assert clocked.told("a") == {"cpu_work_s": 1.0, "started_s": 100.0, "finished_s": 102.0}
    assert clocked.reports == ["a", "a"]


async def test_a_short_pod_is_told_once() -> None:
    """Pods that end within a tenth of a second cost one status write instead of two."""
    clocked = ClockedPool()

    await clocked.pool.start(be("a", work_s=0.05))
    clocked.clock.run_to(5.0)

    assert clocked.reports == ["a"]
    assert clocked.status("a")["phase"] == "Succeeded"


async def test_a_short_pod_that_has_to_wait_for_cpu_is_told_to_run_after_all() -> None:
    """On a busy node it lasts longer than it would alone."""
    clocked = ClockedPool()
    await clocked.pool.start(be("long", work_s=50.0, node="n2", cpu="900m"))

    await clocked.pool.start(be("short", work_s=0.05, node="n2", cpu="100m"))
    clocked.clock.run_to(0.2)

    assert clocked.status("short")["phase"] == "Running"


async def test_a_pod_that_takes_more_memory_than_its_limit_is_killed() -> None:
    """As the kernel does it."""
    clocked = ClockedPool()

    await clocked.pool.start(be("a", memory_mib=300, memory="256Mi"))

    state = clocked.status("a")["containerStatuses"][0]["state"]["terminated"]
    assert (clocked.status("a")["phase"], state["reason"], state["exitCode"]) == ("Failed", "OOMKilled", 137)


async def test_space_of_an_ended_pod_is_free_again() -> None:
    """Admission counts what lives."""
    clocked = ClockedPool()
    await clocked.pool.start(be("a", node="n2", cpu="800m", work_s=1.0))
    await clocked.pool.start(be("b", node="n2", cpu="800m"))
    clocked.clock.run_to(2.0)

    await clocked.pool.start(be("c", node="n2", cpu="800m"))

    assert (clocked.status("b")["phase"], clocked.status("b")["reason"]) == ("Failed", "OutOfcpu")
    assert clocked.status("c")["phase"] == "Running"


async def test_a_stopped_be_pod_tells_what_it_had_done() -> None:
    """The work lost by an eviction."""
    clocked = ClockedPool()
    await clocked.pool.start(be("a", work_s=10.0))
    clocked.clock.run_to(3.0)

    await clocked.pool.stop("a", grace_s=30.0)

    assert clocked.status("a")["phase"] == "Failed"
    assert clocked.told("a")["cpu_work_s"] == 3.0


async def test_a_pod_that_cannot_be_read_is_refused() -> None:
    """A wrong environment fails the pod, not the kubelet."""
    clocked = ClockedPool()
    pod = be("a")
    pod["spec"]["containers"][0]["env"][0]["value"] = "much"

    await clocked.pool.start(pod)

    assert clocked.status("a")["reason"] == "UnexpectedAdmissionError"
    assert "much" in clocked.status("a")["message"]


async def test_an_instance_answers_through_network_and_node_model() -> None:
    """10 ms there, 0.1 s of work, 10 ms back; the times given are those of the service."""
    clocked = ClockedPool()
    await clocked.pool.start(lc("a"))
    instance = clocked.pool.runs["a"].instance
    assert instance is not None
    answers: list[tuple[float, float, float]] = []

    instance.begin(Work(0.1, 32.0, "here", 4.0), lambda s, f: answers.append((s, f, clocked.clock.now_s)), never)
    clocked.clock.run_to(1.0)

    assert answers[0][:2] == pytest.approx((100.01, 100.11))
    assert answers[0][2] == pytest.approx(100.12, abs=0.0021)
    with pytest.raises(ValueError, match="300"):
        instance.begin(Work(0.1, 300.0, "here", 4.0), lambda s, f: None, never)


async def test_neighbours_slow_each_other_by_what_the_fleet_declares_of_their_services() -> None:
    """A pod on a quarter of the node takes half of the cache: 0.1 s of work take 0.15 s. One of no service of the fleet exerts nothing."""
    services = (
        Service(name="web", service_class=ServiceClass.LC, cpu_work_s=0.1, memory_mib=32, target_ms=500.0, instance_memory_mib=256),
        Service(name="batch", service_class=ServiceClass.BE, cpu_work_s=1.0, memory_mib=64),
    )
    minds = ServiceInterference(service="web", sensitivity=(0.0, 1.0, 0.0))
    exerts = ServiceInterference(service="batch", pressure=(0.0, 2.0, 0.0))
    clocked = ClockedPool(replace(FLEET, services=services, interference=(minds, exerts)))
    web, batch, other = lc("a"), be("b", work_s=60.0), be("c", work_s=60.0)
    web["metadata"]["labels"]["tango/service"] = "web"
    batch["metadata"]["labels"]["tango/service"] = "batch"
    other["metadata"]["labels"]["tango/service"] = "elsewhere"
    for pod in (web, batch, other):
        await clocked.pool.start(pod)
    instance = clocked.pool.runs["a"].instance
    assert instance is not None
    answers: list[tuple[float, float]] = []

    instance.begin(Work(0.1, 32.0, "here", 4.0), lambda s, f: answers.append((s, f)), never)
    clocked.clock.run_to(1.0)

    assert answers == [pytest.approx((100.01, 100.16))]


async def test_a_client_that_leaves_takes_its_request_along() -> None:
    """Before it arrives, in service, or while its answer is under way: nothing is counted as under way afterwards."""
    clocked = ClockedPool()
    await clocked.pool.start(lc("a"))
    instance = clocked.pool.runs["a"].instance
    assert instance is not None
    answers: list[float] = []
    cancels = [
        instance.begin(Work(work_s, 32.0, "here", 4.0), lambda s, f: answers.append(f), never) for work_s in (1.0, 1.0, 0.001)
    ]

    cancels[0]()
    clocked.clock.run_to(0.015)
    cancels[1]()
    cancels[2]()
    clocked.clock.run_to(5.0)

    assert answers == []
    assert instance.under_way == 0
    assert clocked.pool.timeline.usage(0).lc_in_service == 0


async def test_an_instance_that_finds_no_address_waits_and_tries_again() -> None:
    """Something listens on every address: the pod says so, and runs once the port is free."""
    clocked = ClockedPool()
    clocked.addresses.refusals = 1

    await clocked.pool.start(lc("a"))
    waiting = clocked.status("a")
    clocked.clock.run_to(6.0)
    await asyncio.sleep(0)

    assert waiting["containerStatuses"][0]["state"]["waiting"]["reason"] == "RunContainerError"
    assert "8080" in waiting["containerStatuses"][0]["state"]["waiting"]["message"]
    assert clocked.status("a")["phase"] == "Running"


async def test_a_resize_is_in_progress_until_the_delay_is_over() -> None:
    """Allocated at once, actual after the fleet's actuation delay, the condition removed."""
    clocked = ClockedPool()
    await clocked.pool.start(lc("a"))

    clocked.pool.resize(lc("a", generation=2, limit="2"))
    under_way = clocked.status("a")
    clocked.clock.run_to(1.0)

    assert conditions(under_way)["PodResizeInProgress"]["observedGeneration"] == 2
    assert limit(under_way) == "1"
    assert limit(clocked.status("a")) == "2"
    removed = {c["type"] for c in clocked.status("a")["conditions"] if c.get("$patch") == "delete"}
    assert removed == {"PodResizePending", "PodResizeInProgress"}
    assert clocked.pool.timeline.model.states.instances["limit_cores"][0, 0] == 2.0


async def test_a_resize_beyond_the_node_is_infeasible_and_stays_so() -> None:
    """Never retried; what was allocated goes on."""
    clocked = ClockedPool()
    await clocked.pool.start(lc("a", node="n2"))

    clocked.pool.resize(lc("a", node="n2", generation=2, cpu="1500m", limit="2"))
    clocked.clock.run_to(60.0)

    assert conditions(clocked.status("a"))["PodResizePending"]["reason"] == "Infeasible"
    assert limit(clocked.status("a")) == "1"


async def test_deferred_resizes_are_done_in_order_when_space_appears() -> None:
    """The first that asked comes first, and one that still does not fit waits on."""
    clocked = ClockedPool()
    await clocked.pool.start(be("filler", cpu="3000m", limit="4", work_s=4.0))
    for uid in ("a", "b"):
        await clocked.pool.start(lc(uid, cpu="500m"))

    for uid in ("a", "b"):
        clocked.pool.resize(lc(uid, generation=2, cpu="2500m", limit="3"))
    waits = [conditions(clocked.status(uid))["PodResizePending"]["reason"] for uid in ("a", "b")]
    clocked.clock.run_to(10.0)

    assert waits == ["Deferred", "Deferred"]
    assert (limit(clocked.status("a")), limit(clocked.status("b"))) == ("3", "1")
    assert conditions(clocked.status("b"))["PodResizePending"]["reason"] == "Deferred"


async def test_a_resize_taken_back_while_it_is_deferred_leaves_no_condition() -> None:
    """Asking for what is allocated is asking for nothing."""
    clocked = ClockedPool()
    await clocked.pool.start(be("filler", cpu="3500m", limit="4", work_s=60.0))
    await clocked.pool.start(lc("a"))
    clocked.pool.resize(lc("a", generation=2, cpu="2", limit="3"))

    clocked.pool.resize(lc("a", generation=3))

    assert not {"PodResizePending", "PodResizeInProgress"} & set(conditions(clocked.status("a")))
    assert clocked.status("a")["observedGeneration"] == 3


async def test_a_newer_resize_overtakes_the_one_under_way() -> None:
    """Only the last one asked for comes into effect."""
    clocked = ClockedPool()
    await clocked.pool.start(lc("a"))

    clocked.pool.resize(lc("a", generation=2, limit="2"))
    clocked.clock.run_to(0.3)
    clocked.pool.resize(lc("a", generation=3, limit="3"))
    clocked.clock.run_to(0.6)
    between = clocked.status("a")
    clocked.clock.run_to(1.0)

    assert limit(between) == "1"
    assert limit(clocked.status("a")) == "3"


async def test_memory_does_not_shrink_below_what_is_in_use() -> None:
    """The resize stands with reason Error until the requests have given their memory back."""
    clocked = ClockedPool()
    await clocked.pool.start(lc("a"))
    instance = clocked.pool.runs["a"].instance
    assert instance is not None
    instance.begin(Work(2.0, 200.0, "here", 0.0), lambda s, f: None, never)
    clocked.clock.run_to(0.1)

    clocked.pool.resize(lc("a", generation=2, memory="128Mi"))
    clocked.clock.run_to(1.0)
    blocked = clocked.status("a")
    clocked.clock.run_to(5.0)

    assert conditions(blocked)["PodResizeInProgress"]["reason"] == "Error"
    assert clocked.status("a")["containerStatuses"][0]["resources"]["limits"]["memory"] == "128Mi"


async def test_a_request_that_meets_a_shrunken_instance_is_refused_and_others_stay() -> None:
    """It was on its way while the memory shrank: it alone is refused, and the one in service is answered."""
    clocked = ClockedPool()
    await clocked.pool.start(lc("a"))
    instance = clocked.pool.runs["a"].instance
    assert instance is not None
    told: list[str] = []
    instance.begin(Work(1.0, 32.0, "here", 0.0), lambda s, f: told.append("small served"), never)
    clocked.pool.resize(lc("a", generation=2, memory="128Mi"))
    clocked.clock.run_to(FLEET.actuation_delay_s - 0.005)  # half of its way
    instance.begin(Work(0.1, 200.0, "here", 0.0), lambda s, f: told.append("large served"), lambda: told.append("large refused"))

    clocked.clock.run_to(5.0)

    assert told == ["large refused", "small served"]
    assert instance.under_way == 0


async def test_after_a_reboot_a_container_starts_at_its_size_in_effect() -> None:
    """A resize that did not fit before the reboot does not fail the pod after it: it is asked for anew."""
    clocked = ClockedPool()
    pod = lc("a", node="n2", generation=2, cpu="1500m", limit="2")
    pod["status"] = {"phase": "Running", "podIP": "127.7.7.7", "containerStatuses": [{"resources": resources(), "restartCount": 0}]}

    await clocked.pool.start(pod, restarts=1)

    status = clocked.status("a")
    assert (status["phase"], status["podIP"], status["containerStatuses"][0]["restartCount"]) == ("Running", "127.7.7.7", 1)
    assert limit(status) == "1"
    assert conditions(status)["PodResizePending"]["reason"] == "Infeasible"


async def test_a_forgotten_pod_leaves_nothing_behind() -> None:
    """Deleted without grace: address, CPU and memory are free."""
    clocked = ClockedPool()
    await clocked.pool.start(lc("a"))
    await clocked.pool.start(be("b", work_s=60.0))

    clocked.pool.forget("a")
    clocked.pool.forget("b")

    assert clocked.addresses.listeners == {}
    assert clocked.pool.status("a") is None
    usage = clocked.pool.timeline.usage(0)
    assert (usage.be_pods, usage.lc_in_service) == (0, 0)
    await clocked.pool.start(be("c", cpu="4000m", limit="5"))
    assert clocked.status("c")["phase"] == "Running"
