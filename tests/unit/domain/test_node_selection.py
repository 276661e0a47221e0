"""Which nodes a pod may run on, and that no decision chooses another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tango.domain.node_selection import OS, may_run
from tango.domain.observations import ExtendedState, NodeState
from tango.domain.resource_axis import MAY_RUN
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot_assembly import FleetRows, NodeColumns
from tango.scheduling.be_headroom import most_memory_mib
from tests.fakes.pod_templates import JOB, changed, job_service

Json = dict[str, Any]
SYNTHETIC = Service(name="batch", service_class=ServiceClass.BE, cpu_work_s=1.0, memory_mib=64)


def node(name: str = "n1", taints: list[Json] | None = None, **labels: str) -> Json:
    """As the API has it; `arch_` and `os_` stand for `kubernetes.io/arch` and `…/os`."""
    known = {"arch_": "kubernetes.io/arch", "os_": OS}
    return {"metadata": {"name": name, "labels": {known.get(k, k): v for k, v in labels.items()}}, "spec": {"taints": taints or []}}


def service(**spec: Any) -> Service:
    """A BE service whose pod says this of nodes."""
    template = JOB
    for key, value in spec.items():
        template = changed(template, "spec", key, to=value)
    return job_service(template)


def affinity(*terms: Json) -> Json:
    """Required node affinity."""
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def expression(key: str, operator: str, *values: str) -> Json:
    """A term of one expression."""
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("spec", "given", "runs"),
    [
        ({"nodeSelector": {"kubernetes.io/arch": "amd64"}}, node(arch_="amd64"), True),
        ({"nodeSelector": {"kubernetes.io/arch": "amd64"}}, node(arch_="arm64"), False),
        ({"affinity": affinity(expression("zone", "In", "a", "b"))}, node(zone="b"), True),
        ({"affinity": affinity(expression("zone", "In", "a"), expression("disk", "Exists"))}, node(disk=""), True),
        ({"affinity": affinity(expression("zone", "NotIn", "a"))}, node(), True),
        ({"affinity": affinity(expression("zone", "DoesNotExist"))}, node(zone="a"), False),
        ({"affinity": affinity(expression("cores", "Gt", "8"))}, node(cores="16"), True),
        ({"affinity": affinity(expression("cores", "Gt", "8"))}, node(cores="many"), False),
        ({"affinity": affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]})}, node("n2"), True),
        ({"affinity": affinity({})}, node(), False),
        ({}, node(taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]), False),
        ({}, node(taints=[{"key": "gpu", "effect": "PreferNoSchedule"}]), True),
        ({}, node(taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]), True),
        ({}, node(taints=[{"key": "virtual-kubelet.io/provider", "value": "tango", "effect": "NoSchedule"}]), True),
        (
            {"tolerations": [{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}]},
            node(taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]),
            True,
        ),
        (
            {"tolerations": [{"key": "gpu", "value": "no"}]},
            node(taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]),
            False,
        ),
        ({"tolerations": [{"operator": "Exists"}]}, node(taints=[{"key": "x", "effect": "NoExecute"}]), True),
    ],
)
def test_a_template_says_where_its_pods_may_run(spec: Json, given: Json, runs: bool) -> None:
    """As kube-scheduler's filters NodeAffinity and TaintToleration decide."""
    assert may_run(service(**spec), given) is runs


def test_no_policy_can_place_a_pod_where_it_may_not_run() -> None:
    """What is barred looks like a node without a resource that the pod asks for: it fits there with no memory at all."""
    picky = service(nodeSelector={"a": "b"})
    rows = FleetRows(
        clusters=("c",),
        nodes=("n1", "n2"),
        services=(picky, SYNTHETIC),
        node_cluster=np.zeros(2, np.int32),
        rtt_ms=np.zeros((1, 1)),
        bandwidth_mbit_per_s=np.full((1, 1), np.inf),
    )
    states = [
        NodeState(name="n1", ready=True, cpu_allocatable_millicores=4000, memory_allocatable_mib=8192),
        NodeState(
            name="n2",
            ready=True,
            cpu_allocatable_millicores=64000,
            memory_allocatable_mib=65536,
            extended={MAY_RUN + picky.name: ExtendedState(allocatable=0)},
        ),
    ]
    columns = NodeColumns.of_states(rows, states)
    asked = rows.resources.pod_requests(rows.services)

    on_each = [most_memory_mib(columns.allocatable[:, [k]], asked) for k in range(2)]

    assert np.array(on_each).tolist() == [[8192.0, 8192.0], [-1.0, 65536.0]]


@pytest.mark.parametrize(
    ("given", "runs"),
    [
        (node(), True),
        (node(os_="linux"), True),
        (node(os_="windows"), False),
        (node(taints=[{"key": "dedicated", "effect": "NoSchedule"}]), False),
        (node(taints=[{"key": "dedicated", "effect": "NoExecute"}]), False),
        (node(taints=[{"key": "dedicated", "effect": "PreferNoSchedule"}]), True),
        (node(taints=[{"key": "virtual-kubelet.io/provider", "effect": "NoSchedule"}]), True),
        (node(taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]), True),
    ],
)
def test_pods_of_the_synthetic_workload_run_where_linux_pods_without_tolerations_do(given: Json, runs: bool) -> None:
    """What tells a node's present state is looked at apart."""
    assert may_run(SYNTHETIC, given) is runs


def test_a_pod_for_windows_runs_on_windows_alone() -> None:
    """By its own operating system or by its selector."""
    windows = service(os={"name": "windows"})

    assert [may_run(windows, node(os_=name)) for name in ("linux", "windows")] == [False, True]
    assert may_run(service(nodeSelector={OS: "windows"}), node(os_="windows"))
