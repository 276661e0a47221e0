"""Kubelets that take time and go wrong as real ones do: whom they refuse, images, resizes, and containers that go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tango.domain.kubelet_ways import ANNOTATION, KubeletWays, ways_of
from tango.emulation.virtual_kubelet.images import NodeImages
from tango.emulation.workload.http1 import Work
from tests.fakes.clocked_pool import ClockedPool, Json, be, conditions, lc, limit, never

MY_TAINT = {"key": "mine", "value": "x", "effect": "NoExecute"}


def node(*, labels: Json | None = None, taints: list[Json] | None = None, name: str = "n1", **ways: Any) -> Json:
    """A Node object that declares ways."""
    annotations = {ANNOTATION: json.dumps(ways)} if ways else {}
    return {"metadata": {"name": name, "labels": labels or {}, "annotations": annotations}, "spec": {"taints": taints or []}}


async def turns(holds: Callable[[], bool]) -> None:
    """Give the loop turns until something holds; fails when it never does."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("seen", "spec", "reason"),
    [
        (node(), {"nodeSelector": {"disk": "ssd"}}, "NodeAffinity"),
        (node(labels={"disk": "ssd"}), {"nodeSelector": {"disk": "ssd"}}, ""),
        (node(taints=[MY_TAINT]), {}, "TaintToleration"),
        (node(taints=[MY_TAINT]), {"tolerations": [{"key": "mine", "operator": "Exists", "tolerationSeconds": 5}]}, ""),
        (node(taints=[{**MY_TAINT, "effect": "NoSchedule"}]), {}, ""),
        (node(pressure=["disk"]), {}, "Evicted"),
        (node(pressure=["disk"]), {"priority": 2_000_000_000}, ""),
        (node(pressure=["memory"]), {}, ""),
    ],
)
async def test_a_kubelet_refuses_what_its_node_is_not_for(seen: Json, spec: Json, reason: str) -> None:
    """With the reasons of the real one; of NoSchedule taints it knows nothing, and memory pressure meets BestEffort pods alone."""
    clocked = ClockedPool()
    clocked.pool.note_node(seen)
    pod = be("a")
    pod["spec"] |= spec

    await clocked.pool.start(pod)

    assert clocked.status("a").get("reason", "") == reason
    assert clocked.status("a")["phase"] == ("Failed" if reason else "Running")


async def test_a_best_effort_pod_is_refused_under_memory_pressure() -> None:
    """The condition is told in the message."""
    clocked = ClockedPool()
    assert clocked.pool.note_node(node(pressure=["memory"]))
    pod = {**lc("a"), "status": {"phase": "Pending", "qosClass": "BestEffort"}}

    await clocked.pool.start(pod)

    assert clocked.status("a")["message"] == "Pod was rejected: The node had condition: [MemoryPressure]. "


async def test_an_annotation_that_says_nothing_sensible_changes_nothing() -> None:
    """What was declared before stays."""
    clocked = ClockedPool()
    clocked.pool.note_node(node(stop_s=3))
    for wrong in ("{", '{"stop": 1}', '{"stop_s": -1}', '{"pressure": "disk"}', "5"):
        found = node()
        found["metadata"]["annotations"] = {ANNOTATION: wrong}
        clocked.pool.note_node(found)

    assert clocked.pool.states[0].ways.stop_s == 3
    clocked.pool.note_node(node())
    assert clocked.pool.states[0].ways == KubeletWays()


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ([], "expected a mapping"),
        ({"pull": 1}, "pull is an unknown key, expected one of: absent_images"),
        ({"backoff_s": [5, 1]}, r"backoff_s is \(5, 1\), expected the first and the longest pause"),
        ({"pressure": ["cpu"]}, "expected a list of memory, disk, pid"),
        ({"resize": "never"}, "resize is 'never', expected one of deferred, infeasible, error, stuck, or nothing"),
        ({"absent_images": "x"}, "absent_images is 'x', expected a list"),
    ],
)
def test_ways_that_make_no_sense_are_refused(declared: Any, words: str) -> None:
    """With key, found and expected."""
    with pytest.raises(ValueError, match=words):
        ways_of(declared)


async def test_an_image_takes_its_time_once_for_a_node_and_an_absent_one_is_asked_for_again() -> None:
    """ErrImagePull, then ImagePullBackOff with doubled pauses, until it is there."""
    slept: list[float] = []
    told: list[str] = []
    ways = KubeletWays(pull_s=3.0, start_s=0.5, absent_images=("gone:*",), backoff_s=(10.0, 15.0))

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 8:
            raise AssertionError("it waits too long")

    def wait(reason: str, message: str) -> bool:
        told.append(reason)
        return True

    images = NodeImages(lambda: ways, sleep)
    assert await images.prepare([{"image": "a:1"}, {"image": "a:1"}], wait)
    assert await images.prepare([{"image": "a:1"}], wait)
    assert slept == [3.0, 0.5, 0.5]

    slept.clear()
    told.clear()

    def give_up(reason: str, message: str) -> bool:
        told.append(reason)
        return len(told) < 6

    assert not await images.prepare([{"image": "gone:2"}], give_up)
    assert told == ["ErrImagePull", "ImagePullBackOff"] * 3
    assert slept == [1.0, 10.0, 1.0, 15.0, 1.0]


async def test_a_pod_waits_for_its_image_and_holds_its_room_meanwhile() -> None:
    """Pending, with the reason, until the registry has it; a policy of Never says so."""
    clocked = ClockedPool()
    clocked.pool.note_node(node(name="n2", absent_images=["i"], backoff_s=[0.001, 0.001]))
    starting = asyncio.create_task(clocked.pool.start(be("a", node="n2", cpu="900m")))
    await turns(lambda: "a" in clocked.reports)
    waiting = clocked.status("a")
    await clocked.pool.start(be("b", node="n2", cpu="200m"))

    assert waiting["phase"] == "Pending"
    assert waiting["containerStatuses"][0]["state"]["waiting"]["reason"] in ("ErrImagePull", "ImagePullBackOff")
    assert clocked.status("b")["reason"] == "OutOfcpu"
    clocked.pool.note_node(node(name="n2"))
    await starting
    assert clocked.status("a")["phase"] == "Running"


async def test_a_pod_that_is_deleted_while_it_waits_for_its_image_never_runs() -> None:
    """And its room is free."""
    clocked = ClockedPool()
    clocked.pool.note_node(node(name="n2", absent_images=["i"], backoff_s=[0.001, 0.001]))
    starting = asyncio.create_task(clocked.pool.start(be("a", node="n2", cpu="900m")))
    await turns(lambda: "a" in clocked.reports)

    await clocked.pool.stop("a", grace_s=30.0)
    clocked.pool.forget("a")
    clocked.pool.note_node(node(name="n2"))
    await starting
    await clocked.pool.start(be("b", node="n2", cpu="900m"))

    assert clocked.status("a") == {}
    assert clocked.status("b")["phase"] == "Running"


@pytest.mark.parametrize("deletes", ["gracefully", "by force"])
async def test_a_container_goes_on_until_it_has_ended(deletes: str) -> None:
    """Its room is taken so long: for its grace, or for the second that a force delete leaves."""
    clocked = ClockedPool()
    clocked.pool.note_node(node(name="n2", stop_s=5))
    await clocked.pool.start(be("a", node="n2", cpu="800m", work_s=60.0))
    clocked.clock.run_to(1.0)

    if deletes == "gracefully":
        stopping = asyncio.create_task(clocked.pool.stop("a", grace_s=3.0))
        await asyncio.sleep(0)
        goes_on_s = 3.0
    else:
        clocked.pool.forget("a")
        goes_on_s = 1.0
    clocked.clock.run_to(1.0 + goes_on_s - 0.1)
    await clocked.pool.start(be("b", node="n2", cpu="800m"))
    clocked.clock.run_to(1.0 + goes_on_s + 0.1)
    if deletes == "gracefully":
        await stopping
    await clocked.pool.start(be("c", node="n2", cpu="800m"))

    assert clocked.status("b")["reason"] == "OutOfcpu"
    assert clocked.status("c")["phase"] == "Running"
    if deletes == "gracefully":
        assert clocked.told("a")["cpu_work_s"] == pytest.approx(4.0, abs=0.2)


async def test_what_a_program_holds_beside_its_work_counts_against_its_limit() -> None:
    """As in a real container, where the interpreter is in the same cgroup."""
    clocked = ClockedPool()
    clocked.pool.note_node(node(program_mib=40))

    await clocked.pool.start(be("tight", memory_mib=256, memory="256Mi"))
    await clocked.pool.start(be("roomy", memory_mib=200, memory="256Mi"))

    state = clocked.status("tight")["containerStatuses"][0]["state"]["terminated"]
    assert (state["reason"], state["exitCode"]) == ("OOMKilled", 137)
    assert clocked.status("roomy")["phase"] == "Running"


@pytest.mark.parametrize(
    ("declared", "kind", "reason"),
    [
        ("deferred", "PodResizePending", "Deferred"),
        ("infeasible", "PodResizePending", "Infeasible"),
        ("error", "PodResizeInProgress", "Error"),
        ("stuck", "PodResizeInProgress", ""),
    ],
)
async def test_resizes_that_never_come_to_an_end_are_reported_as_real_kubelets_do(declared: str, kind: str, reason: str) -> None:
    """Actual resources stay; when the kubelet recovers, what it retries by itself is done, and an infeasible one is not."""
    clocked = ClockedPool()
    await clocked.pool.start(lc("a", limit="1"))
    clocked.pool.note_node(node(resize=declared))

    clocked.pool.resize(lc("a", limit="2", generation=2))
    clocked.clock.run_to(30.0)

    standing = conditions(clocked.status("a"))[kind]
    assert (standing["reason"], standing["observedGeneration"], limit(clocked.status("a"))) == (reason, 2, "1")
    clocked.pool.note_node(node())
    clocked.clock.run_to(33.0)
    assert limit(clocked.status("a")) == ("1" if declared == "infeasible" else "2")


async def test_init_containers_sidecars_and_overhead_take_room_too() -> None:
    """What the pod needs at most at one time: here the second init container beside the sidecar, and the overhead."""
    clocked = ClockedPool()
    pod = be("a", node="n2", cpu="100m", memory="64Mi")
    pod["spec"]["initContainers"] = [
        {"name": "side", "image": "i", "restartPolicy": "Always", "resources": {"requests": {"cpu": "200m"}}},
        {"name": "first", "image": "i", "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}}},
    ]
    pod["spec"]["overhead"] = {"cpu": "50m", "memory": "64Mi"}
    await clocked.pool.start(pod)

    await clocked.pool.start(be("b", node="n2", cpu="251m"))
    await clocked.pool.start(be("c", node="n2", cpu="250m", memory="448Mi"))

    assert clocked.status("b")["message"].endswith("requested: 251, used: 750, capacity: 1000")
    assert clocked.status("c")["phase"] == "Running"


async def test_an_lc_instance_beyond_its_limit_is_killed_and_started_again_with_backoff() -> None:
    """At full concurrency it holds all that its limit allows, and the program comes on top: at once the first time, then in 10 s."""
    clocked = ClockedPool()
    clocked.pool.note_node(node(program_mib=40))
    await clocked.pool.start(lc("a", memory="256Mi"))
    address = clocked.status("a")["podIP"]

    def serve(mib: float) -> None:
        instance = clocked.pool.runs["a"].instance
        assert instance is not None
        work = Work(cpu_work_s=60.0, memory_mib=mib, entry_cluster="here", payload_kib=0.0)
        instance.begin(work, lambda started_s, finished_s: None, never)

    serve(200.0)
    clocked.clock.run_to(1.0)
    assert clocked.status("a")["containerStatuses"][0]["restartCount"] == 0
    serve(50.0)
    clocked.clock.run_to(2.0)
    await turns(lambda: clocked.pool.runs["a"].running)
    again = clocked.status("a")

    state = again["containerStatuses"][0]
    assert (state["restartCount"], state["lastState"]["terminated"]["exitCode"], again["podIP"]) == (1, 137, address)
    assert state["lastState"]["terminated"]["reason"] == "OOMKilled"
    serve(250.0)
    clocked.clock.run_to(5.0)
    waiting = clocked.status("a")
    assert waiting["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert (waiting["phase"], conditions(waiting)["Ready"]["status"]) == ("Running", "False")
    clocked.clock.run_to(20.0)
    await turns(lambda: clocked.pool.runs["a"].running)
    assert clocked.status("a")["containerStatuses"][0]["restartCount"] == 2
