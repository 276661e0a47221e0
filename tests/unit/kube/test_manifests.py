"""Pods that Tango makes of a service's template."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from tango.domain.identity import NodeKey
from tango.domain.jobs import JobPod
from tango.domain.pod_templates import canonical_template
from tango.domain.runs import Placement
from tango.domain.services import Service, ServiceClass
from tango.emulation.api_server.admission.pod_security import violations
from tango.errors import ConfigError
from tango.kube.manifests import (
    AS_DECLARED,
    PROGRAM_MIB,
    ClusterWays,
    JobOverrides,
    be_pod,
    lc_instance,
    overrides_of,
    owned_by_node,
)
from tango.settings import KubeSettings
from tests.fakes.pod_templates import API, JOB, api_service, changed, job_service

WEB = Service(
    name="web",
    service_class=ServiceClass.LC,
    cpu_work_s=0.01,
    memory_mib=16,
    target_ms=100.0,
    instance_memory_mib=128,
    cpu_request_millicores=200,
    cpu_limit_millicores=1000,
)
BATCH = Service(
    name="batch",
    service_class=ServiceClass.BE,
    cpu_work_s=1.0,
    memory_mib=64,
    cpu_request_millicores=100,
    cpu_limit_millicores=1000,
)
PLACEMENT = Placement(
    run_id=1,
    request_id=7,
    epoch=2,
    cluster="c1",
    node="n1",
    service="transcode",
    pod="be-r1-7-e2",
    cpu_work_s=60.0,
    cpu_request_millicores=100,
    cpu_limit_millicores=1000,
    memory_mib=512,
    extended=(),
)


def test_an_instance_is_the_template_with_what_tango_must_add() -> None:
    """Name, labels, annotations, scheduler, restart policy, a toleration, and the requests and limits that were missing."""
    pod = lc_instance(api_service(), NodeKey("c1", "n1"), 0)

    expected = json.loads(json.dumps(API["spec"]))
    expected |= {"schedulerName": "tango", "restartPolicy": "Always"}
    expected["tolerations"].append({"key": "virtual-kubelet.io/provider", "operator": "Exists"})
    expected["containers"][1]["resources"] = {
        "requests": {"cpu": "100m", "memory": "200Mi", "ephemeral-storage": "1Gi"},
        "limits": {"cpu": "1500m", "memory": "200Mi"},
    }
    assert pod["spec"] == expected
    assert pod["metadata"]["name"] == "lc-my-api-n1-0"
    assert pod["metadata"]["labels"] == {
        "app": "my-api",
        "app.kubernetes.io/managed-by": "tango",
        "tango/cluster": "c1",
        "tango/class": "lc",
        "tango/service": "my-api",
    }
    assert pod["metadata"]["annotations"] == {
        "team": "vision",
        "tango/container": "api",
        "tango/port": "8081",
        "tango/revision": api_service().revision,
    }


def test_making_a_pod_leaves_the_template_as_it_is() -> None:
    """The parsed template is shared by all pods of the service."""
    service = api_service()
    first = lc_instance(service, NodeKey("c1", "n1"), 0)
    first["spec"]["containers"][1]["args"].append("--debug")

    assert lc_instance(service, NodeKey("c1", "n1"), 1)["spec"]["containers"][1]["args"] == ["--workers", "4"]


def test_a_job_has_its_own_words_in_place_of_the_template_s() -> None:
    """Command, arguments, variables, labels and deadline are the request's; Tango's own labels cannot be taken."""
    template = changed(JOB, "spec", "containers", 0, "env", to=[{"name": "MODE", "value": "slow"}, {"name": "LEVEL", "value": "1"}])
    job = JobOverrides(
        command=("python", "-m", "transcode"),
        args=("--input", "a b"),
        env=(("MODE", "fast"), ("TANGO_ATTEMPT", "2")),
        labels={"order": "17", "tango/run": "99"},
        active_deadline_s=90,
    )

    pod = be_pod(PLACEMENT, job_service(template), job=job)

    (container,) = pod["spec"]["containers"]
    assert (container["command"], container["args"]) == (["python", "-m", "transcode"], ["--input", "a b"])
    assert {v["name"]: v["value"] for v in container["env"]} == {"LEVEL": "1", "MODE": "fast", "TANGO_ATTEMPT": "2"}
    assert (pod["spec"]["restartPolicy"], pod["spec"]["activeDeadlineSeconds"]) == ("Never", 90)
    assert (pod["metadata"]["labels"]["order"], pod["metadata"]["labels"]["tango/run"]) == ("17", "1")
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}


def test_a_job_without_words_of_its_own_is_the_template() -> None:
    """Nothing is added to its command, arguments and environment."""
    (container,) = be_pod(PLACEMENT, job_service())["spec"]["containers"]

    assert container["args"] == ["--preset", "fast"]
    assert "command" not in container
    assert "env" not in container


def test_a_jobs_pod_is_told_its_attempt_its_request_and_where_to_write_its_progress() -> None:
    """Beside what the job asks for; the progress file is that of the termination message, wherever the template has it."""
    placed = replace(PLACEMENT, job=JobPod(attempt=3, args=("x",), env=(("MODE", "fast"),), deadline_s=9.5))
    elsewhere = job_service()
    template = json.loads(elsewhere.template)
    template["spec"]["containers"][0]["terminationMessagePath"] = "/out/end"
    elsewhere = replace(elsewhere, template=canonical_template(template))

    told = overrides_of(placed, job_service())

    assert dict(told.env) == {
        "MODE": "fast",
        "TANGO_ATTEMPT": "3",
        "TANGO_REQUEST": f"{PLACEMENT.run_id}-{PLACEMENT.request_id}",
        "TANGO_PROGRESS_FILE": "/dev/termination-log",
    }
    assert (told.args, told.command, told.labels, told.active_deadline_s) == (("x",), None, {"tango/job": "yes"}, 10)
    assert dict(overrides_of(placed, elsewhere).env)["TANGO_PROGRESS_FILE"] == "/out/end"
    assert overrides_of(PLACEMENT, job_service()) == AS_DECLARED


def test_pods_of_the_synthetic_workload_have_the_image_of_the_cluster_s_settings() -> None:
    """Its name, when nodes fetch it and with which secrets; a service that names an image of its own keeps it."""
    settings = KubeSettings(workload_image="registry.test/w:1", image_pull_policy="Never", image_pull_secrets="one, two")
    ways = ClusterWays.of(settings)
    named = replace(WEB, image="registry.test/web:3")

    pods = [
        be_pod(replace(PLACEMENT, service="batch"), BATCH, ways=ways)["spec"],
        lc_instance(WEB, NodeKey("c1", "n1"), 0, ways=ways)["spec"],
    ]

    for pod in pods:
        (container,) = pod["containers"]
        assert (container["image"], container["imagePullPolicy"]) == ("registry.test/w:1", "Never")
        assert pod["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]
    (own,) = lc_instance(named, NodeKey("c1", "n1"), 0, ways=ways)["spec"]["containers"]
    assert own["image"] == "registry.test/web:3"


@pytest.mark.parametrize("image", ["workload", "registry.test:5000/workload", "workload:latest"])
def test_an_image_whose_tag_moves_is_refused(image: str) -> None:
    """Nodes would ask the registry at each pod, and run different programs under one name."""
    with pytest.raises(ConfigError, match="expected a tag that does not move, or a digest"):
        KubeSettings(workload_image=image)


def test_an_image_may_be_named_by_its_digest() -> None:
    """The strictest tag there is."""
    assert KubeSettings(workload_image="registry.test:5000/workload@sha256:00").image_pull_policy == "IfNotPresent"


def test_pods_have_the_priority_of_their_class_unless_their_template_names_one() -> None:
    """The cluster's default where settings name none."""
    ways = ClusterWays.of(KubeSettings(lc_priority_class="high", be_priority_class="low"))
    own = api_service(changed(API, "spec", "priorityClassName", to="own"))

    lc = lc_instance(WEB, NodeKey("c1", "n1"), 0, ways=ways)["spec"]
    be = be_pod(PLACEMENT, job_service(), ways=ways)["spec"]
    of_template = lc_instance(own, NodeKey("c1", "n1"), 0, ways=ways)["spec"]

    assert (lc["priorityClassName"], be["priorityClassName"], of_template["priorityClassName"]) == ("high", "low", "own")
    assert "priorityClassName" not in lc_instance(WEB, NodeKey("c1", "n1"), 0)["spec"]


SYNTHETIC = (
    lc_instance(
        Service(name="web", service_class=ServiceClass.LC, cpu_work_s=0.1, memory_mib=32, target_ms=100.0, instance_memory_mib=64),
        NodeKey("c1", "n1"),
        0,
    ),
    be_pod(PLACEMENT, Service(name="transcode", service_class=ServiceClass.BE, cpu_work_s=1.0, memory_mib=512)),
)


@pytest.mark.parametrize("pod", SYNTHETIC, ids=["lc", "be"])
def test_a_namespace_that_enforces_restricted_takes_pods_of_the_synthetic_workload(pod: dict[str, Any]) -> None:
    """Nothing in them is objected to."""
    assert violations(pod["spec"], "restricted") == []


def test_a_pod_has_room_for_its_program_beside_what_its_work_holds() -> None:
    """A kernel counts both; what is reserved of the node is what the centre counts."""
    [container] = SYNTHETIC[1]["spec"]["containers"]

    assert container["resources"]["requests"]["memory"] == "512Mi"
    assert container["resources"]["limits"]["memory"] == f"{512 + PROGRAM_MIB}Mi"


def test_a_pod_is_controlled_by_its_node() -> None:
    """So that `kubectl drain` evicts it; without the node's uid it has no owner, which garbage collection would look for."""
    pod = be_pod(PLACEMENT, Service(name="transcode", service_class=ServiceClass.BE, cpu_work_s=1.0, memory_mib=512))

    without = owned_by_node(copy.deepcopy(pod), "n1", "")
    [owner] = owned_by_node(pod, "n1", "uid-1")["metadata"]["ownerReferences"]

    assert "ownerReferences" not in without["metadata"]
    assert owner == {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "uid-1", "controller": True}
