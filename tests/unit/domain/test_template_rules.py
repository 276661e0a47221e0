"""What a pod template may not say, and how it is told."""

from __future__ import annotations

from typing import Any

import pytest

from tango.domain.services import service_of, spec_of
from tango.domain.template_rules import problem_of
from tango.errors import ConfigError
from tests.fakes.pod_templates import API, JOB, api_service, changed, job_service

CONTAINER = ("spec", "containers", 1)


def test_templates_as_people_have_them_are_taken() -> None:
    """Sidecars, init containers, probes, volumes, secrets by reference: nothing of it is Tango's business."""
    assert problem_of(API, lc=True, container="api") is None
    assert problem_of(JOB, lc=False) is None


def test_instances_may_be_spread_over_nodes_as_they_are_anyway() -> None:
    """An LC service has the same number on each node; of BE, which goes where load is least, that cannot be promised."""
    spread = [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]
    problem = problem_of(changed(JOB, "spec", "topologySpreadConstraints", to=spread), lc=False)

    assert problem_of(changed(API, "spec", "topologySpreadConstraints", to=spread), lc=True, container="api") is None
    assert str(problem).startswith("spec.template.spec.topologySpreadConstraints[0] is given, expected none")


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("spec", "nodeName"), "n1", "spec.template.spec.nodeName is 'n1', expected none: Tango chooses"),
        (("spec", "schedulerName"), "default-scheduler", "spec.template.spec.schedulerName is 'default-scheduler'"),
        (("spec", "restartPolicy"), "Never", "spec.template.spec.restartPolicy is 'Never', expected Always or none"),
        (("spec", "hostNetwork"), True, "spec.template.spec.hostNetwork is true"),
        (("spec", "affinity"), {"podAntiAffinity": {"x": []}}, "spec.template.spec.affinity.podAntiAffinity is given"),
        (
            ("spec", "topologySpreadConstraints"),
            [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname"}, {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone"}],
            "topologySpreadConstraints[1].topologyKey is 'topology.kubernetes.io/zone', expected 'kubernetes.io/hostname'",
        ),
        (("spec", "topologySpreadConstraints"), ["x"], "topologySpreadConstraints[0] is 'x', expected a mapping"),
        (
            ("spec", "affinity"),
            {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{}]}},
            "nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution is given",
        ),
        (("metadata", "labels", "tango/service"), "x", "spec.template.metadata.labels['tango/service'] is given"),
        (("metadata", "name"), "mine", "spec.template.metadata.name is given, expected nothing: Tango names its pods"),
        (("spec", "nodeSelectr"), {}, "nodeSelectr is an unknown field, expected a field of it (did you mean 'nodeSelector'?)"),
        ((*CONTAINER, "ports", 0, "hostPort"), 80, "containers[1].ports[0].hostPort is 80"),
        ((*CONTAINER, "args", 1), 4, "containers[1].args[1] is 4, expected a text; put it in quotes"),
        (
            (*CONTAINER, "env", 0),
            {"name": "API_KEY", "value": "s3cr3t"},
            "secretKeyRef or envFrom; or, if it is none, spec.allowLiteral",
        ),
        ((*CONTAINER, "image"), None, "containers[1].image is missing, expected a text"),
        ((*CONTAINER, "resources", "requests", "cpu"), "1500m", "requests.cpu is 1500m, the limit, expected less than the limit"),
        ((*CONTAINER, "resources", "requests", "cpu"), "lots", "requests.cpu is 'lots', expected a quantity"),
        ((*CONTAINER, "resources", "limits", "memory"), "100Mi", "requests.memory is '200Mi', expected at most its limit 100Mi"),
        (
            (*CONTAINER, "resizePolicy"),
            [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
            "resizePolicy[0].restartPolicy",
        ),
        ((*CONTAINER, "name"), "log", "without 'api'"),
        (("spec", "containers"), [], "spec.template.spec.containers is an empty list, expected a list of containers"),
        (("spec",), "x", "spec.template.spec is 'x', expected a mapping"),
        (("spec", "initContainers", 0, "name"), "log", "containers[0].name is 'log', expected each name once"),
    ],
)
def test_what_cannot_stay_is_told_with_its_path(path: tuple[str | int, ...], value: Any, told: str) -> None:
    """Field, found, expected, in one line; and a secret's value is never part of it."""
    problem = problem_of(changed(API, *path, to=value), lc=True, container="api")

    assert told in str(problem)
    assert "s3cr3t" not in str(problem)


def test_a_job_never_restarts_its_container() -> None:
    """A further try is a pod of its own, with an epoch of its own."""
    assert "expected Never or none" in str(problem_of(changed(JOB, "spec", "restartPolicy", to="OnFailure"), lc=False))
    assert problem_of(changed(JOB, "spec", "restartPolicy", to="Never"), lc=False) is None


def test_a_service_holds_no_template_that_tango_cannot_run() -> None:
    """Wherever it was made; and the declaration as the store has it gives the same service."""
    service = api_service()

    assert service_of(spec_of(service)) == service
    with pytest.raises(ConfigError, match=r"service 'transcode': spec.template.spec.nodeName is 'n1'"):
        job_service(changed(JOB, "spec", "nodeName", to="n1"))


def test_a_pod_requests_what_its_other_containers_do_too() -> None:
    """CPU: the init container's 2 cores beside no sidecar exceed 100 + 20 + 50 m. Memory: 200 + 16 + 32 MiB exceed its 64."""
    assert api_service().pod_requests == (2000, 248)
