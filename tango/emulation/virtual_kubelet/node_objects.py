"""Bodies of Node, Lease and metrics objects, as a kubelet writes them. Pure functions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from tango.domain.fleet import Node
from tango.domain.pod_marks import CLUSTER
from tango.domain.quantities import format_extended, format_mib, format_millicores
from tango.emulation.virtual_kubelet.statuses import micro_stamp, stamp

Json = dict[str, Any]

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
KUBELET_VERSION = "v1.36.0-tango"
LEASE_S = 40
"""Duration of a node's lease, seconds; the kubelet's own default."""
NOT_READY = "node.kubernetes.io/not-ready"
"""Key of the taint that the API server puts on a new node."""
TAINT = {"key": "virtual-kubelet.io/provider", "value": "tango", "effect": "NoSchedule"}
"""Taint that keeps other pods off virtual nodes in a real cluster; Tango's pods tolerate it."""
PRESSURE_WORDS = (
    (
        "memory",
        "MemoryPressure",
        "KubeletHasInsufficientMemory",
        "KubeletHasSufficientMemory",
        "kubelet has insufficient memory available",
        "kubelet has sufficient memory available",
    ),
    (
        "disk",
        "DiskPressure",
        "KubeletHasDiskPressure",
        "KubeletHasNoDiskPressure",
        "kubelet has disk pressure",
        "kubelet has no disk pressure",
    ),
    (
        "pid",
        "PIDPressure",
        "KubeletHasInsufficientPID",
        "KubeletHasSufficientPID",
        "kubelet has insufficient PID available",
        "kubelet has sufficient PID available",
    ),
)
"""Name among the ways of kubelets, condition, reasons and messages of True and False."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Kubernetes' names of machines by Linux's own, where they differ."""


def node_object(node: Node, cluster: str) -> Json:
    """The Node object to register."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": {
                CLUSTER: cluster,
                "type": "virtual-kubelet",
                "kubernetes.io/hostname": node.name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": ARCHITECTURES.get(platform.machine(), platform.machine()),
            },
        },
        "spec": {"taints": [TAINT]},
    }


def registration_patch(node: Node, cluster: str, found: Json) -> Json:
    """A merge patch that gives the Node `found` on the server its labels and removes the not-ready taint; other taints stay.

    It holds the resource version of `found`, because it replaces the list of taints: a taint that somebody adds meanwhile must not be lost.
    """
    body = node_object(node, cluster)
    taints = [t for t in (found.get("spec") or {}).get("taints") or [] if t["key"] not in (NOT_READY, TAINT["key"])]
    return {
        "metadata": {"resourceVersion": found["metadata"]["resourceVersion"], "labels": body["metadata"]["labels"]},
        "spec": {"taints": [*taints, TAINT]},
    }


def node_status(
    node: Node,
    *,
    ready: bool,
    boot_id: str,
    booted_s: float,
    now_s: float,
    pressure: tuple[str, ...] = (),
    since_s: Mapping[str, float] | None = None,
) -> Json:
    """A patch of a Node's status: capacity, allocatable, conditions and addresses. `booted_s` and `now_s` are Unix seconds.

    `pressure`: which of memory, disk and pid the node is short of; `since_s`: when that has last changed of each, if it has.
    """
    size = {
        "cpu": format_millicores(node.cpu_millicores),
        "memory": format_mib(node.memory_mib),
        "pods": str(node.pods),
        **format_extended(node.extended),
    }

    def condition(kind: str, holds: bool, reason: str, message: str, since: float | None = None) -> Json:
        return {
            "type": kind,
            "status": "True" if holds else "False",
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": stamp(now_s),
            "lastTransitionTime": stamp(booted_s if since is None else since),
        }

    return {
        "status": {
            "capacity": size,
            "allocatable": size,
            "conditions": [
                *(
                    condition(kind, True, short, words, (since_s or {}).get(name))
                    if name in pressure
                    else condition(kind, False, enough, calm, (since_s or {}).get(name))
                    for name, kind, short, enough, words, calm in PRESSURE_WORDS
                ),
                condition("Ready", True, "KubeletReady", "kubelet is posting ready status")
                if ready
                else condition("Ready", False, "KubeletNotReady", "the virtual kubelet has stopped"),
            ],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": node.name}],
            "nodeInfo": {
                "machineID": node.name,
                "systemUUID": node.name,
                "bootID": boot_id,
                "kernelVersion": "",
                "osImage": "Tango virtual node",
                "containerRuntimeVersion": "virtual://1",
                "kubeletVersion": KUBELET_VERSION,
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": "virtual",
            },
        }
    }


def lease_spec(node: str, *, now_s: float) -> Json:
    """The spec of a node's Lease, renewed at `now_s` (Unix seconds)."""
    return {"holderIdentity": node, "leaseDurationSeconds": LEASE_S, "renewTime": micro_stamp(now_s)}


def node_lease(node: str, *, now_s: float) -> Json:
    """A node's Lease object."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node, "namespace": "kube-node-lease"},
        "spec": lease_spec(node, now_s=now_s),
    }


def usage(cores: float, memory_mib: float) -> Json:
    """The `usage` of a metrics object, in nanocores and KiB as metrics-server writes it."""
    return {"cpu": f"{round(max(0.0, cores) * 1e9)}n", "memory": f"{round(memory_mib * 1024)}Ki"}


def node_metrics(node: str, cluster: str, used: Json, *, window_s: float, now_s: float) -> Json:
    """A NodeMetrics object with the mean usage over `window_s`."""
    return {
        "apiVersion": "metrics.k8s.io/v1beta1",
        "kind": "NodeMetrics",
        "metadata": {"name": node, "labels": {CLUSTER: cluster}},
        "timestamp": stamp(now_s),
        "window": f"{window_s:.3f}s",
        "usage": used,
    }


def pod_metrics(namespace: str, name: str, container: str, used: Json, *, window_s: float, now_s: float) -> Json:
    """A PodMetrics object with the mean usage over `window_s`."""
    return {
        "apiVersion": "metrics.k8s.io/v1beta1",
        "kind": "PodMetrics",
        "metadata": {"name": name, "namespace": namespace},
        "timestamp": stamp(now_s),
        "window": f"{window_s:.3f}s",
        "containers": [{"name": container, "usage": used}],
    }
