from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.domain.fleet import MOST_PODS, Node
from tango.emulation.virtual_kubelet.admission import Allocations, ResizeDecision
from tango.emulation.virtual_kubelet.pod_spec import PodSize, container_resources, pod_size, pod_spec

NODE = Node(name="n1", cpu_millicores=4000, memory_mib=1024)


def size(cpu: int, memory: int = 1) -> PodSize:
    """A pod by its requests."""
    return PodSize(cpu_request_millicores=cpu, cpu_limit_millicores=None, memory_request_mib=memory, memory_limit_mib=None)


@pytest.mark.parametrize(
    ("asked", "reason"), [(size(1001), "OutOfcpu"), (size(1, 1000), "OutOfmemory"), (size(1001, 1000), "OutOfcpu")]
)
def test_a_pod_that_does_not_fit_is_refused_by_requests(asked: PodSize, reason: str) -> None:
    """The kubelet's reasons, with what was asked, used and there."""
    ledger = Allocations(NODE)
    ledger.put("a", size(3000, 100))

    refusal = ledger.refusal(asked)

    assert refusal is not None
    assert refusal[0] == reason
    assert "capacity" in refusal[1]


def test_a_node_holds_so_many_pods_and_no_more() -> None:
    """`pods` is a resource as well."""
    ledger = Allocations(NODE)
    for k in range(MOST_PODS):
        ledger.put(str(k), size(0, 0))

    assert (ledger.refusal(size(0, 0)) or ("",))[0] == "OutOfpods"


def test_a_device_is_a_resource_as_well() -> None:
    """In whole ones in the kubelet's words; a node without any has none to give."""
    two, asked = replace(NODE, extended=(("example.com/device", 2000),)), replace(size(1), extended=(("example.com/device", 1000),))
    ledger = Allocations(two)
    ledger.put("a", asked)
    ledger.put("b", asked)

    assert ledger.refusal(asked) == (
        "OutOfexample.com/device",
        "Node didn't have enough resource: example.com/device, requested: 1, used: 2, capacity: 2",
    )
    assert (Allocations(NODE).refusal(asked) or ("",))[0] == "OutOfexample.com/device"
    assert ledger.refusal(size(1)) is None
    ledger.drop("a")
    assert ledger.refusal(asked) is None


def test_a_resize_is_decided_against_what_the_others_hold() -> None:
    """What the pod itself holds is counted once."""
    ledger = Allocations(NODE)
    ledger.put("a", size(1000))
    ledger.put("b", size(2500))

    assert ledger.decide("a", size(1500))[0] is ResizeDecision.FITS
    assert ledger.decide("a", size(1501))[0] is ResizeDecision.DEFERRED
    assert ledger.decide("a", size(4001))[0] is ResizeDecision.INFEASIBLE
    assert ledger.decide("a", size(1000, 2000))[0] is ResizeDecision.INFEASIBLE


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2000), st.booleans())))
def test_sums_always_equal_what_is_held(steps: list[tuple[str, int, bool]]) -> None:
    """Whatever is put, changed and dropped."""
    ledger = Allocations(NODE)
    for uid, cpu, put in steps:
        of_pod = replace(size(cpu, cpu // 2), extended=(("example.com/device", 500 + cpu),))
        ledger.put(uid, of_pod) if put else ledger.drop(uid)

    assert ledger.allocated["cpu"] == sum(s.cpu_request_millicores for s in ledger.sizes.values())
    assert ledger.allocated["memory"] == sum(s.memory_request_mib for s in ledger.sizes.values())
    assert ledger.allocated["pods"] == len(ledger.sizes)
    assert ledger.allocated["example.com/device"] == sum(dict(s.extended)["example.com/device"] for s in ledger.sizes.values())


def pod(containers: list[dict[str, object]], labels: dict[str, str] | None = None) -> dict[str, object]:
    """A pod's JSON."""
    return {"metadata": {"uid": "u", "name": "p", "labels": labels or {}}, "spec": {"nodeName": "n1", "containers": containers}}


def test_sizes_are_sums_over_containers() -> None:
    """A missing request is the limit; a container without a limit leaves the pod without one."""
    both = pod(
        [
            {"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}}},
            {"name": "b", "resources": {"limits": {"memory": "1Gi"}}},
        ]
    )

    assert pod_size(container_resources(both)) == PodSize(
        cpu_request_millicores=100, cpu_limit_millicores=None, memory_request_mib=64 + 1024, memory_limit_mib=128 + 1024
    )


@pytest.mark.parametrize(
    ("labels", "container", "kind"),
    [
        ({"tango/class": "lc"}, {"name": "w"}, "lc"),
        ({"tango/class": "be"}, {"name": "w", "ports": [{"containerPort": 1}]}, "be"),
        ({}, {"name": "w", "env": [{"name": "TANGO_CPU_WORK_S", "value": "1"}]}, "be"),
        ({}, {"name": "w", "ports": [{"containerPort": 9000}]}, "lc"),
        ({}, {"name": "w"}, "idle"),
    ],
)
def test_what_a_pod_does_follows_from_label_environment_and_port(
    labels: dict[str, str], container: dict[str, object], kind: str
) -> None:
    """Tango's label decides; pods of unknown services run from their own spec."""
    assert pod_spec(pod([container], labels)).kind.value == kind


def test_an_environment_that_is_no_number_is_refused() -> None:
    """The message names the variable."""
    with pytest.raises(ValueError, match="could not convert"):
        pod_spec(pod([{"name": "w", "env": [{"name": "TANGO_CPU_WORK_S", "value": "much"}]}]))
