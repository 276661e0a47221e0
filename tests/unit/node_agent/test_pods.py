"""What the agent reads from a pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tango.node_agent.pods import ContainerLimits, pod_facts
from tests.fakes.cgroupfs import FakeHierarchy, fake_pod


@pytest.fixture
def body(tmp_path: Path) -> dict[str, Any]:
    """An LC pod of one container: half a core, 256 MiB."""
    return fake_pod(FakeHierarchy(tmp_path, 2), 1, "lc").body


@pytest.mark.parametrize(
    ("labels", "is_touched"),
    [
        ({"app.kubernetes.io/managed-by": "tango", "tango/class": "lc"}, True),
        ({"app.kubernetes.io/managed-by": "Helm", "tango/class": "be"}, True),
        ({"app.kubernetes.io/managed-by": "tango"}, False),
        ({"tango/class": "system"}, False),
        (None, False),
    ],
)
def test_only_pods_that_say_so_are_touched(body: dict[str, Any], labels: dict[str, str] | None, is_touched: bool) -> None:
    """Tango's own carry `tango/class`; a pod of others may say by that label that the agent may move its limits."""
    body["metadata"]["labels"] = labels

    assert (pod_facts(body) is not None) is is_touched


def test_a_pod_that_does_not_run_has_nothing_to_move(body: dict[str, Any]) -> None:
    """It has no groups yet, or none any more."""
    body["status"]["phase"] = "Succeeded"

    assert pod_facts(body) is None


def test_limits_of_a_pod_are_those_of_all_that_lasts(body: dict[str, Any]) -> None:
    """Sidecars count with the containers; what only begins counts where it is larger; a sandbox' overhead comes on top."""
    body["spec"]["initContainers"] = [
        {"name": "proxy", "restartPolicy": "Always", "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}}},
        {"name": "unpack", "resources": {"limits": {"cpu": "2", "memory": "64Mi"}}},
    ]
    body["spec"]["overhead"] = {"cpu": "50m", "memory": "1Mi"}

    facts = pod_facts(body)

    assert facts is not None
    assert facts.wanted == ContainerLimits(2050, 321 << 20)
    assert [container.name for container in facts.containers] == ["work"]


def test_a_pod_with_a_container_without_limit_has_none(body: dict[str, Any]) -> None:
    """As a kubelet has it."""
    body["spec"]["containers"].append({"name": "log", "resources": {"limits": {"memory": "1Mi"}}})

    facts = pod_facts(body)

    assert facts is not None
    assert facts.wanted == ContainerLimits(None, 257 << 20)


def test_a_resize_is_under_way_until_the_kubelet_reports_it(body: dict[str, Any]) -> None:
    """Quantities are compared as amounts; a kubelet that reports no resources cannot resize."""
    status = body["status"]["containerStatuses"][0]
    body["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "0.5"
    same = pod_facts(body)
    body["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "900m"
    other = pod_facts(body)
    del status["resources"]
    old = pod_facts(body)

    assert [facts is not None and facts.is_moving for facts in (same, other, old)] == [False, True, False]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"spec": {"resources": {"limits": {"cpu": "1"}}}}, "pod-level resources"),
        ({"status": {"conditions": [{"type": "PodResizePending", "status": "True", "reason": "Deferred"}]}}, "Deferred"),
    ],
)
def test_limits_that_are_the_kubelets_alone_are_held_back(body: dict[str, Any], change: dict[str, Any], reason: str) -> None:
    """With the reason, for the report."""
    for part, more in change.items():
        body[part] |= more

    facts = pod_facts(body)

    assert facts is not None
    assert reason in facts.held_back


def test_a_pod_has_grown_when_it_asks_for_more_cpu(body: dict[str, Any]) -> None:
    """By its limit, or by its request where the limit is the whole node; more memory is no sign of short slack."""
    resources = body["spec"]["containers"][0]["resources"]
    first = pod_facts(body)
    assert first is not None
    grown = []
    for kind, name, quantity in (("limits", "cpu", "600m"), ("limits", "cpu", "400m"), ("requests", "cpu", "150m")):
        resources[kind][name] = quantity
        facts = pod_facts(body)
        assert facts is not None
        grown.append(facts.has_grown(first))
        first = facts
    resources["limits"]["memory"] = resources["requests"]["memory"] = "1Gi"
    larger = pod_facts(body)
    assert larger is not None
    del resources["limits"]["cpu"]
    unlimited = pod_facts(body)
    assert unlimited is not None

    assert grown == [True, False, True]
    assert not larger.has_grown(first)
    assert unlimited.has_grown(larger)
