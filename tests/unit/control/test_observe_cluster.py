"""Observation: what a cluster's nodes and pods, as the API server writes them, mean for Tango."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tango.control.observe_cluster import (
    be_identity,
    be_started_at_s,
    instance_states,
    is_over,
    node_states,
    outcome_of,
    pod_class,
    pod_end,
)
from tango.domain.identity import NodeKey
from tango.domain.lifecycle import FREE_EPOCHS, Event, Outcome
from tango.domain.observations import ExtendedState, NodeState, PodEnd
from tango.domain.requests import Reason
from tango.kube.manifests import lc_instance
from tests.fakes.kube_objects import (
    ADOPTED,
    BY_EVICTION,
    HALF_PAST,
    HALF_PAST_S,
    READY,
    TEN,
    TEN_S,
    ended,
    node,
    pod,
    running,
    theirs,
)
from tests.fakes.pod_templates import api_service

Json = dict[str, Any]


NODES = node_states([node()], [], {})


def end_of(found: Json, *, deleted: bool = False) -> PodEnd:
    """The end of a pod that has one."""
    end = pod_end(found, deleted=deleted)
    assert end is not None
    return end


# ---- whose pod ---------------------------------------------------------------------------------------------------------


def test_only_pods_that_tango_manages_have_a_class() -> None:
    """A stranger's pod is none of ours, even if it carries a label of that name; pods may have no labels at all."""
    stranger = pod("be", labels={"app.kubernetes.io/managed-by": "helm"})

    assert [pod_class(p) for p in (pod("lc"), pod("be"), stranger, {"metadata": {"labels": None}})] == ["lc", "be", "", ""]


def test_a_be_pod_is_known_by_its_labels() -> None:
    """Run, request and epoch; labels that are missing or damaged say nothing, and are no error."""
    damaged = pod("be", labels={"tango/epoch": "two"})

    assert [be_identity(p) for p in (pod("be"), damaged, pod("lc"), {"metadata": {}})] == [(3, 5, 2), None, None, None]


@pytest.mark.parametrize(("phase", "over"), [("Pending", False), ("Running", False), ("Succeeded", True), ("Failed", True)])
def test_a_pod_is_over_when_it_succeeded_or_failed(phase: str, over: bool) -> None:
    """From then on it holds nothing."""
    assert is_over(pod("be", phase=phase)) is over


# ---- nodes -------------------------------------------------------------------------------------------------------------


def test_a_node_holds_what_its_live_pods_ask_for() -> None:
    """LC and BE apart, requests and limits apart; pods that ended, wait for a node, or are a stranger's do not count."""
    stranger = pod("be", labels={"app.kubernetes.io/managed-by": "helm"})
    pods = [
        pod("lc", **running()),
        pod("be", **running()),
        pod("be", phase="Pending"),
        pod("be", **ended("Succeeded")),
        pod("be", on=None, phase="Pending"),
        pod("be", on="n2", **running()),
        stranger,
    ]

    [found] = node_states([node("n1")], pods, {})

    assert (found.lc_cpu_request_millicores, found.lc_cpu_limit_millicores, found.lc_memory_held_mib) == (250, 1000, 64)
    assert (found.be_cpu_request_millicores, found.be_cpu_limit_millicores, found.be_memory_held_mib) == (500, 2000, 128)
    assert found.be_pods == 2


def test_a_node_is_read_with_what_is_allocatable_and_used() -> None:
    """Quantities become millicores and MiB; without a metrics server usage is unknown, and not 0."""
    usage = {"n1": {"cpu": "1500000001n", "memory": "2097153Ki"}}

    known, unknown = node_states([node("n1"), node("n2")], [], usage)

    assert (known.name, known.cpu_allocatable_millicores, known.memory_allocatable_mib) == ("n1", 4000, 8192)
    assert (known.cpu_used_millicores, known.memory_used_mib) == pytest.approx((1500.000001, 2048.0009765625))
    assert (unknown.cpu_used_millicores, unknown.memory_used_mib) == (None, None)


def test_devices_and_pods_are_read_beside_cpu_and_memory() -> None:
    """In thousandths; what Kubernetes itself owns is no extended resource; a limit alone is the request too."""
    found = node("n1")
    found["status"]["allocatable"] |= {"pods": "58", "nvidia.com/gpu": "4", "hugepages-2Mi": "0", "ephemeral-storage": "9Gi"}
    with_gpu = pod("be", **running())
    with_gpu["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "1"

    [state] = node_states([found], [pod("lc", **running()), with_gpu, with_gpu], {})

    assert (state.pods_allocatable, state.lc_pods, state.be_pods) == (58, 1, 2)
    assert state.extended == {"nvidia.com/gpu": ExtendedState(allocatable=4000, lc_held=0, be_held=2000)}
    assert node_states([node("n2")], [], {})[0].pods_allocatable == 110


def test_memory_without_a_request_counts_by_its_limit() -> None:
    """The API server fills a missing request in from the limit; so do we, for objects that did not pass through it."""
    found = pod("lc", **running())
    del found["spec"]["containers"][0]["resources"]["requests"]["memory"]

    [state] = node_states([node()], [found], {})

    assert state.lc_memory_held_mib == 64


@pytest.mark.parametrize(
    ("found", "ready"),
    [
        (node(), True),
        (node(unschedulable=True), True),
        (node(conditions=[{"type": "Ready", "status": "Unknown"}]), False),
        (node(conditions=[{"type": "MemoryPressure", "status": "True"}]), False),
        (node(conditions=[]), False),
        ({"metadata": {"name": "n1"}}, False),
    ],
    ids=["ready", "cordoned", "silent", "other-condition", "no-condition", "no-status"],
)
def test_a_node_is_ready_when_it_says_so(found: Json, ready: bool) -> None:
    """One that is cordoned serves on with what it has."""
    [state] = node_states([found], [], {})

    assert state.ready is ready


@pytest.mark.parametrize(
    "found",
    [
        node(unschedulable=True),
        node(conditions=[READY, {"type": "MemoryPressure", "status": "True"}]),
        node(conditions=[READY, {"type": "DiskPressure", "status": "True"}]),
        {**node(), "metadata": {"name": "n1", "deletionTimestamp": TEN}},
    ],
    ids=["cordoned", "short-of-memory", "disk-full", "leaving"],
)
def test_a_node_that_gets_no_new_pods_keeps_what_runs(found: Json) -> None:
    """Its instances stay ready."""
    nodes = node_states([found, node("n2", conditions=[READY, {"type": "DiskPressure", "status": "False"}])], [], {})
    [instance] = instance_states([pod("lc", **running())], nodes)

    assert [(n.ready, n.schedulable) for n in nodes] == [(True, False), (True, True)]
    assert instance.ready


def test_what_pods_of_others_hold_counts_apart() -> None:
    """By requests as Kubernetes counts them: of a pod as a whole where it has some; what is adopted counts once, as LC."""
    asked = {"requests": {"cpu": "300m", "memory": "64Mi"}}
    daemon, whole, adopted = (theirs(name, resources=asked) for name in ("daemon", "whole", "api"))
    whole["spec"]["resources"] = {"requests": {"cpu": "2", "memory": "1Gi"}}

    [state] = node_states([node()], [pod("be")], {}, [ADOPTED], {ADOPTED.name: [adopted]}, [daemon, whole, adopted])
    [alone] = node_states([node()], [], {}, [ADOPTED], {ADOPTED.name: [adopted]})
    [of_daemon] = node_states([node()], [], {}, (), {}, [daemon])

    assert (state.be_pods, state.lc_pods, state.other_pods) == (1, 1, 2)
    assert state.lc_cpu_request_millicores == alone.lc_cpu_request_millicores
    assert state.other_cpu_request_millicores == 2000 + of_daemon.other_cpu_request_millicores
    assert state.other_memory_held_mib == 1024 + of_daemon.other_memory_held_mib
    assert of_daemon.other_cpu_request_millicores == alone.lc_cpu_request_millicores > 0


def test_what_pods_ask_for_beyond_all_measure_can_be_kept() -> None:
    """Kubernetes takes any number for a request, and one such pod must not cost a cluster its picture."""
    asked = {"requests": {"cpu": "1e1000000", "memory": "1e1000000", "example.com/gpu": "1e1000000"}}
    beyond = [theirs(name, resources=asked) for name in ("a", "b", "c")]
    wide = node()
    wide["status"]["allocatable"] |= {"pods": "1e1000000", "example.com/gpu": "1e1000000"}

    [state] = node_states([wide], [], {}, (), {}, beyond)

    assert (state.other_cpu_request_millicores, state.other_memory_held_mib, state.pods_allocatable) == (10**9, 10**9, 10**9)
    assert state.extended["example.com/gpu"].other_held == state.extended["example.com/gpu"].allocatable == 2**53


def test_a_pod_that_shrinks_holds_what_it_has_until_less_is_in_effect() -> None:
    """Its own ones and those of others alike."""
    status = {"name": "work", "allocatedResources": {"cpu": "750m"}, "resources": {"requests": {"cpu": "750m"}}}
    shrinks = pod("lc", **running(**status))

    [state] = node_states([node()], [shrinks], {})

    assert state.lc_cpu_request_millicores == 750


# ---- instances ---------------------------------------------------------------------------------------------------------


def test_an_instance_is_read_with_its_address_and_its_size() -> None:
    """Name, uid, service, node, address and port, and what it may use."""
    [found] = instance_states([pod("lc", name="lc-web-n1-0", **running(restartCount=2))], NODES)

    assert (found.pod, found.uid, found.service, found.node) == ("lc-web-n1-0", "uid-lc-web-n1-0", "web", "n1")
    assert (found.pod_ip, found.port, found.ready, found.restarts) == ("10.1.2.3", 8181, True, 2)
    assert (found.cpu_request_millicores, found.cpu_limit_millicores, found.memory_limit_mib) == (250, 1000, 64)


def test_the_limit_in_effect_counts_and_not_the_wanted_one() -> None:
    """After a resize the spec says what is wanted, the container's status what it has."""
    [found] = instance_states([pod("lc", **running(resources={"limits": {"cpu": "750m", "memory": "64Mi"}}))], NODES)

    assert found.cpu_limit_millicores == 750


def test_pods_that_cannot_serve_are_no_instances() -> None:
    """BE pods, pods without an address yet, and those that ended."""
    pods = [pod("be", **running()), pod("lc", phase="Pending"), pod("lc", podIP="10.1.2.3", **ended("Failed"))]

    assert instance_states(pods, NODES) == []


def test_an_instance_is_ready_while_its_container_its_pod_and_its_node_are() -> None:
    """A container that is not ready, a pod that is being deleted, or a node that is away: nothing is sent there."""
    leaving = pod("lc", name="leaving", **running())
    leaving["metadata"]["deletionTimestamp"] = HALF_PAST
    pods = [
        pod("lc", name="good", **running()),
        pod("lc", name="starting", **running(ready=False)),
        leaving,
        pod("lc", name="stranded", on="n2", **running()),
        pod("lc", name="new", podIP="10.1.2.3", phase="Pending"),
    ]

    found = {instance.pod: instance.ready for instance in instance_states(pods, NODES)}

    assert found == {"good": True, "starting": False, "leaving": False, "stranded": False, "new": False}


# ---- BE pods: start and end --------------------------------------------------------------------------------------------


def test_a_be_pod_has_started_while_its_container_runs() -> None:
    """Waiting for its image it has not, nor is it running once it is over, whatever a lost node said of it last."""
    waiting = pod("be", phase="Running", containerStatuses=[{"state": {"waiting": {"reason": "ContainerCreating"}}}])

    lost = pod("be", **{**running(), "phase": "Failed"})
    pods = [pod("be", **running()), waiting, pod("be", phase="Pending"), pod("be", **ended("Failed")), lost]

    found = [be_started_at_s(p) for p in pods]

    assert found == [TEN_S, None, None, None, None]


def test_a_pod_that_lives_or_is_not_ours_has_no_end() -> None:
    """Running and waiting ones live; the end of an instance, a stranger, or a pod without an identity settles no request."""
    nameless = pod("be", labels={"tango/run": "?"}, **ended("Succeeded"))
    stranger = pod("be", labels={"app.kubernetes.io/managed-by": "helm"}, **ended("Succeeded"))
    pods = [pod("be", **running()), pod("be"), pod("lc", **ended("Failed")), nameless, stranger]

    ends = [pod_end(found, deleted=False) for found in pods]

    assert ends == [None] * 5
    assert pod_end(pod("lc", **running()), deleted=True) is None


def test_the_end_of_a_pod_carries_its_identity_and_the_times_of_its_container() -> None:
    """Whole seconds, as Kubernetes writes them."""
    end = end_of(pod("be", name="be-r3-5-e2", **ended("Succeeded")))

    assert (end.run_id, end.request_id, end.epoch, end.pod, end.uid) == (3, 5, 2, "be-r3-5-e2", "uid-be-r3-5-e2")
    assert (end.phase, end.reason) == ("Succeeded", "")
    assert (end.started_at_s, end.finished_at_s, end.cpu_work_done_s) == (TEN_S, HALF_PAST_S, None)


def test_a_termination_message_gives_exact_times_and_the_work_done() -> None:
    """Our workload writes what Kubernetes' whole seconds cannot say; what it does not write is taken from Kubernetes."""
    exact = json.dumps({"started_s": TEN_S + 0.25, "finished_s": TEN_S + 7.75, "cpu_work_s": 3.5})
    only_work = json.dumps({"cpu_work_s": 2})

    first = end_of(pod("be", **ended("Succeeded", message=exact)))
    second = end_of(pod("be", **ended("Failed", message=only_work)))

    assert (first.started_at_s, first.finished_at_s, first.cpu_work_done_s) == (TEN_S + 0.25, TEN_S + 7.75, 3.5)
    assert (second.started_at_s, second.finished_at_s, second.cpu_work_done_s) == (TEN_S, HALF_PAST_S, 2.0)


@pytest.mark.parametrize("message", ["", "no JSON", "[1, 2]", '{"cpu_work_s": "much"}', "null"])
def test_a_message_that_is_not_ours_is_no_error(message: str) -> None:
    """Other images write what they like there."""
    end = end_of(pod("be", **ended("Failed", message=message)))

    assert (end.started_at_s, end.finished_at_s, end.cpu_work_done_s) == (TEN_S, HALF_PAST_S, None)


def test_a_pod_that_vanished_before_it_ended_is_deleted() -> None:
    """Its start is known if it ran; one that had ended before it was deleted keeps that end."""
    ran, waited = end_of(pod("be", **running()), deleted=True), end_of(pod("be", phase="Pending"), deleted=True)
    done = end_of(pod("be", **ended("Succeeded")), deleted=True)

    assert [(end.phase, end.started_at_s, end.finished_at_s) for end in (ran, waited, done)] == [
        ("Deleted", TEN_S, None),
        ("Deleted", None, None),
        ("Succeeded", TEN_S, HALF_PAST_S),
    ]


def test_why_a_pod_failed_is_looked_for_in_three_places() -> None:
    """A disruption says most, then the pod's own reason, then its container's; a container's reason of success is none."""
    disrupted = pod("be", **running(), conditions=[BY_EVICTION])
    spared = pod("be", **running(), conditions=[{**BY_EVICTION, "status": "False"}])
    failed = [
        pod("be", **ended("Failed", why="OOMKilled")),
        pod("be", **ended("Failed", why="Error", reason="OutOfcpu")),
        pod("be", **ended("Failed", why="Error", reason="Evicted", conditions=[BY_EVICTION])),
        pod("be", **ended("Succeeded", why="Completed")),
    ]

    reasons = [end_of(found).reason for found in failed]
    gone = [end_of(found, deleted=True).reason for found in (disrupted, spared)]

    assert reasons == ["OOMKilled", "OutOfcpu", "EvictionByEvictionAPI", ""]
    assert gone == ["EvictionByEvictionAPI", ""]


# ---- what an end means -------------------------------------------------------------------------------------------------


def outcome(**end: Any) -> Outcome:
    """Of a pod's end, for a run that began at second 100 of Unix time; it is second 130."""
    facts: Json = {
        "run_id": 3,
        "request_id": 5,
        "epoch": 2,
        "pod": "p",
        "uid": "u",
        "phase": "Failed",
        "reason": "",
        "started_at_s": 110.0,
        "finished_at_s": 120.0,
        "cpu_work_done_s": None,
    }
    return outcome_of(PodEnd(**{**facts, **end}), run_zero_s=100.0, now_s=130.0)


def test_a_pod_that_succeeded_has_served_its_request() -> None:
    """Under its epoch, with times counted from the run's zero; where the end's time is unknown it is now."""
    found, undated = outcome(phase="Succeeded", cpu_work_done_s=4.0), outcome(phase="Succeeded", finished_at_s=None)

    assert (found.run_id, found.request_id, found.epoch, found.event) == (3, 5, 2, Event.SUCCEED)
    assert (found.started_s, found.finished_s, found.work_lost_s, found.reason) == (10.0, 20.0, 0.0, Reason.NONE)
    assert undated.finished_s == 30.0


def test_any_other_end_sends_the_request_back_with_the_work_that_was_lost() -> None:
    """To `pending`, for the centre; it did not finish. A pod that never started has lost nothing."""
    found = outcome(cpu_work_done_s=4.0)
    unstarted = outcome(phase="Deleted", started_at_s=None, finished_at_s=None)

    assert (found.run_id, found.request_id, found.epoch, found.event) == (3, 5, 2, Event.REQUEUE)
    assert (found.started_s, found.finished_s, found.work_lost_s) == (10.0, None, 4.0)
    assert (unstarted.event, unstarted.started_s, unstarted.work_lost_s) == (Event.REQUEUE, None, 0.0)


@pytest.mark.parametrize(
    ("kubernetes", "ours"),
    [
        ("OutOfcpu", Reason.OUT_OF_CPU),
        ("OutOfmemory", Reason.OUT_OF_MEMORY),
        ("OutOfpods", Reason.OUT_OF_PODS),
        ("OutOfnvidia.com/gpu", Reason.OUT_OF_EXTENDED),
        ("OOMKilled", Reason.OUT_OF_MEMORY),
        ("Evicted", Reason.EVICTED),
        ("EvictionByEvictionAPI", Reason.EVICTED),
        ("NodeLost", Reason.NODE_LOST),
        ("NodeShutdown", Reason.NODE_LOST),
        ("Error", Reason.POD_FAILED),
        ("", Reason.POD_FAILED),
    ],
)
def test_reasons_are_told_in_our_words(kubernetes: str, ours: Reason) -> None:
    """Kubernetes has several words for one thing; one that we do not know is a pod that failed."""
    assert outcome(phase="Failed", reason=kubernetes).reason is ours


def test_a_pod_that_vanished_without_a_reason_is_lost() -> None:
    """Somebody deleted it; with a reason it is what the reason says."""
    assert [outcome(phase="Deleted", reason=reason).reason for reason in ("", "EvictionByEvictionAPI")] == [
        Reason.POD_LOST,
        Reason.EVICTED,
    ]


def test_of_a_pod_with_sidecars_its_service_s_container_counts() -> None:
    """Port, CPU, restarts and the end are its own, whatever the order of containers and of their statuses; held is what all request."""
    pod = lc_instance(api_service(), NodeKey("c1", "n1"), 0)
    pod["metadata"]["uid"] = "u1"
    pod["spec"]["nodeName"] = "n1"
    pod["status"] = {
        "podIP": "10.0.0.7",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"name": "api", "ready": True, "restartCount": 3, "resources": {"limits": {"cpu": "1200m"}}},
            {"name": "log", "ready": True, "restartCount": 0},
        ],
    }

    (instance,) = instance_states([pod], NODES)
    (state,) = node_states([node()], [pod], {})

    assert (instance.port, instance.cpu_limit_millicores, instance.restarts, instance.ready) == (8081, 1200, 3, True)
    assert (instance.cpu_request_millicores, instance.memory_limit_mib) == (100, 200)
    assert (state.lc_cpu_request_millicores, state.lc_memory_held_mib) == (2000, 248)


def test_an_instance_whose_sidecar_is_not_ready_is_not_ready() -> None:
    """Its Ready condition counts all containers and readiness gates, and no request goes to a pod that is not ready."""
    pod = lc_instance(api_service(), NodeKey("c1", "n1"), 0)
    pod["metadata"]["uid"] = "u1"
    pod["spec"]["nodeName"] = "n1"
    pod["status"] = {
        "podIP": "10.0.0.7",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{"name": "log", "ready": False}, {"name": "api", "ready": True}],
    }

    (instance,) = instance_states([pod], NODES)

    assert not instance.ready


def test_an_adopted_pod_is_an_instance_named_with_its_namespace() -> None:
    """At the port that its service declares; without limits of its own its node's are its limits."""
    (instance,) = instance_states([], NODES, [ADOPTED], {"theirs": [theirs(**running(name="web"))]})

    assert (instance.pod, instance.service, instance.port, instance.ready) == ("prod/api-1", "theirs", 8081, True)
    assert (instance.cpu_limit_millicores, instance.memory_limit_mib) == (4000, 8192)


@pytest.mark.parametrize(
    "change",
    [
        {"conditions": [{"type": "Ready", "status": "False"}]},
        {"containerStatuses": [{"name": "web", "ready": False}]},
        {"containerStatuses": []},
    ],
)
def test_no_request_goes_to_an_adopted_pod_that_is_not_ready(change: Json) -> None:
    """Whatever says so: its condition, its container, nothing yet."""
    pod = theirs(**(running(name="web") | change))

    (instance,) = instance_states([], NODES, [ADOPTED], {"theirs": [pod]})

    assert not instance.ready


def test_adopted_pods_that_go_are_instances_no_more() -> None:
    """One under deletion gets no request, one that has ended or has no node yet is none."""
    going = theirs("a", **running(name="web"))
    going["metadata"]["deletionTimestamp"] = TEN
    over = theirs("b", phase="Succeeded", podIP="10.0.0.1")
    unbound = theirs("c", **running(name="web"))
    del unbound["spec"]["nodeName"]

    found = instance_states([], NODES, [ADOPTED], {"theirs": [going, over, unbound]})

    assert [(i.pod, i.ready) for i in found] == [("prod/a", False)]


def test_adopted_pods_hold_what_they_request_as_lc_once() -> None:
    """A pod that two services have adopted lies on its node once."""
    pod = theirs(resources={"requests": {"cpu": "300m", "memory": "128Mi"}}, **running(name="web"))

    (state,) = node_states([node()], [], {}, [ADOPTED], {"theirs": [pod], "others": [pod]})

    assert (state.lc_pods, state.lc_cpu_request_millicores, state.lc_memory_held_mib) == (1, 300, 128)


def test_a_node_has_its_zone_and_region() -> None:
    """By the labels that clouds and people give it."""
    found = node()
    found["metadata"]["labels"] = {"topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "north"}

    [state] = node_states([found], [], {})
    [bare] = node_states([node()], [], {})

    assert [(n.zone, n.region) for n in (state, bare)] == [("a", "north"), ("", "")]


# ---- disruptions -------------------------------------------------------------------------------------------------------


def disruption(reason: str) -> Json:
    """The condition that whoever takes a pod away puts on it."""
    return {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": TEN}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (pod("be", **ended("Failed", why="Error", conditions=[disruption("EvictionByEvictionAPI")])), Reason.EVICTED),
        (pod("be", **ended("Failed", why="Error", conditions=[disruption("PreemptionByScheduler")])), Reason.PREEMPTED),
        (pod("be", **ended("Failed", why="Error", conditions=[disruption("DeletionByTaintManager")])), Reason.NODE_TAINTED),
        (pod("be", **ended("Failed", conditions=[disruption("DeletionByPodGC")])), Reason.NODE_LOST),
        (pod("be", **ended("Failed", reason="Evicted", conditions=[disruption("TerminationByKubelet")])), Reason.EVICTED),
        (pod("be", **ended("Failed", reason="Terminated", conditions=[disruption("TerminationByKubelet")])), Reason.NODE_LOST),
        (pod("be", **ended("Failed", reason="NodeLost")), Reason.NODE_LOST),
    ],
)
def test_what_a_cluster_does_to_a_pod_costs_its_request_no_attempt(found: Json, reason: Reason) -> None:
    """Drain, preemption, taints, pressure, a node that shuts down or is gone: each told apart from a failure, by its reason."""
    outcome = outcome_of(end_of(found), run_zero_s=TEN_S - 10.0, now_s=TEN_S + 100.0)

    assert (outcome.event, outcome.reason) == (Event.RETURN, reason)


def test_a_pod_that_somebody_deleted_costs_its_request_no_attempt() -> None:
    """Vanished, or ended after it was told to go. One that had failed by itself before that has failed."""
    asked = {"deletionTimestamp": HALF_PAST, "deletionGracePeriodSeconds": 0}

    def end(status: Json, **metadata: Any) -> Event:
        found = pod("be", **status)
        found["metadata"] |= metadata
        return outcome_of(end_of(found), run_zero_s=0.0, now_s=TEN_S).event

    vanished = outcome_of(end_of(pod("be", **running()), deleted=True), run_zero_s=0.0, now_s=TEN_S)
    later = {**asked, "deletionTimestamp": "2036-11-29T00:00:00Z"}
    assert (vanished.event, vanished.reason) == (Event.RETURN, Reason.POD_LOST)
    assert end(ended("Failed", why="Error"), **asked) is Event.RETURN
    assert end(ended("Failed", why="Error"), **later) is Event.REQUEUE
    assert end(ended("Failed", why="Error")) is Event.REQUEUE
    assert end(ended("Failed", why="OOMKilled")) is Event.REQUEUE


def test_a_pod_that_is_always_taken_away_costs_attempts_in_the_end() -> None:
    """By its epoch, which grows with each."""
    end = replace(end_of(pod("be", **running()), deleted=True), epoch=FREE_EPOCHS)

    def event(of: PodEnd) -> Event:
        return outcome_of(of, run_zero_s=0.0, now_s=TEN_S).event

    assert event(end) is Event.RETURN
    assert event(replace(end, epoch=FREE_EPOCHS + 1)) is Event.REQUEUE


def test_an_instance_is_leaving_once_it_is_asked_to_go_or_its_node_is_lost() -> None:
    """One that only is not ready, as while its container starts again, is not."""
    found = pod("lc", **running(name="work"))
    going = {**found, "metadata": {**found["metadata"], "deletionTimestamp": TEN}}
    preempted = pod("lc", **running(name="work"), conditions=[disruption("PreemptionByScheduler")])
    crashed = pod("lc", **running(name="work", ready=False))
    lost = node_states([node(conditions=[])], [], {})

    def leaving(of: Json, nodes: list[NodeState] = NODES) -> bool:
        (instance,) = instance_states([of], nodes)
        return instance.leaving

    assert [leaving(of) for of in (found, crashed, going, preempted)] == [False, False, True, True]
    assert leaving(found, lost)
