"""Manifests of the objects that Tango creates: BE pods, LC instances, bindings.

Every pod is of QoS class Burstable. A resize in place must not change the class (KEP-1287), and in Guaranteed request and limit would
have to stay equal, while re-assurance moves them apart. Memory request and limit are equal: memory is never resized.
"""

from __future__ import annotations

from tango.domain.identity import NodeKey
from tango.domain.quantities import format_extended, format_mib, format_millicores
from tango.domain.runs import Placement
from tango.domain.services import Amounts, Service
from tango.kube.api_client import JSON

SCHEDULER = "tango"
"""`schedulerName` of every pod, so that the cluster's own scheduler leaves it alone."""
MANAGED = {"app.kubernetes.io/managed-by": "tango"}
"""Label of every pod that Tango created, and may therefore delete."""
BE_GRACE_S = 1
"""Seconds between SIGTERM and SIGKILL of a BE pod: enough to write what it has done, and no longer, since an eviction makes way for LC."""
LC_GRACE_S = 5
"""The same for an LC instance, which finishes what it has under way: longer than the longest target of the built-in fleets, 2.6 s."""


def be_pod(placement: Placement, *, image: str) -> JSON:
    """Manifest of the pod for one epoch of a BE request. It never restarts: a further try is a new epoch with a new pod."""
    p = placement
    labels = {
        **MANAGED,
        "tango/cluster": p.cluster,
        "tango/class": "be",
        "tango/service": p.service,
        "tango/run": str(p.run_id),
        "tango/request": str(p.request_id),
        "tango/epoch": str(p.epoch),
    }
    container = {
        "name": "work",
        "image": image,
        "args": ["run"],
        "env": [
            {"name": "TANGO_CPU_WORK_S", "value": f"{p.cpu_work_s:.6f}"},
            {"name": "TANGO_MEMORY_MIB", "value": str(p.memory_mib)},
        ],
        "resources": _resources(p.cpu_request_millicores, p.cpu_limit_millicores, p.memory_mib, p.extended),
    }
    return _pod(p.pod, labels, container, restart="Never", grace_s=BE_GRACE_S)


def lc_instance(service: Service, node: NodeKey, k: int) -> JSON:
    """Manifest of the k-th instance (from 0) of an LC service on a node, at the service's declared size."""
    labels = {**MANAGED, "tango/cluster": node.cluster, "tango/class": "lc", "tango/service": service.name}
    container = {
        "name": "work",
        "image": service.image,
        "args": ["serve"],
        "ports": [{"containerPort": service.port, "name": "http"}],
        "env": [
            {"name": "TANGO_SERVICE", "value": service.name},
            {"name": "TANGO_MEMORY_MIB", "value": str(service.memory_mib)},
            {"name": "TANGO_CONCURRENCY", "value": str(service.concurrency)},
            {"name": "TANGO_PORT", "value": str(service.port)},
            {"name": "TANGO_CLUSTER", "value": node.cluster},
            {"name": "TANGO_INSTANCE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "resources": _resources(
            service.cpu_request_millicores, service.cpu_limit_millicores, service.instance_memory_mib, service.extended
        ),
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": service.port}, "periodSeconds": 1},
    }
    return _pod(instance_name(service.name, node.name, k), labels, container, restart="Always", grace_s=LC_GRACE_S)


def _resources(cpu_request_millicores: int, cpu_limit_millicores: int, memory_mib: int, extended: Amounts) -> JSON:
    """Request and limit are equal but for CPU: of memory because it is never resized, of extended resources because Kubernetes
    does not overcommit them."""
    held = {"memory": format_mib(memory_mib), **format_extended(extended)}
    return {
        "requests": {"cpu": format_millicores(cpu_request_millicores), **held},
        "limits": {"cpu": format_millicores(cpu_limit_millicores), **held},
    }


def instance_name(service: str, node: str, k: int) -> str:
    """Pod name of an LC instance, `lc-<service>-<node>-<k>`: unique within the node's cluster, as pod names are."""
    return f"lc-{service}-{node}-{k}"


def binding(pod: str, uid: str, node: str) -> JSON:
    """Body of a call to `pods/binding`. The uid makes the server refuse it (409) for a later pod of the same name."""
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod, "uid": uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }


def _pod(name: str, labels: dict[str, str], container: JSON, *, restart: str, grace_s: int) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "schedulerName": SCHEDULER,
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": grace_s,
            # The workload calls no API, so it gets no token; and variables for every Service of the namespace would slow its start.
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
            "containers": [container],
        },
    }
