"""Manifests of the objects that Tango creates: BE pods, LC instances, bindings.

Every pod is of QoS class Burstable. A resize in place must not change the class (KEP-1287), and in Guaranteed request and limit would
have to stay equal, while re-assurance moves them apart. Memory is never resized.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tango.client.signatures import KEY_VARIABLE
from tango.domain import pod_marks
from tango.domain.identity import NodeKey, RequestKey, parts_of_pod, pod_in
from tango.domain.jobs import ATTEMPT, PROGRESS_FILE, REQUEST
from tango.domain.pod_marks import (
    CLASS,
    CLUSTER,
    COMMAND_FROM,
    CONTAINER,
    JOB,
    MANAGED_BY,
    PORT,
    REVISION,
    SERVICE,
    WORK,
)
from tango.domain.pod_templates import PodTemplate
from tango.domain.quantities import Amounts, format_extended, format_mib, format_millicores
from tango.domain.runs import Placement
from tango.domain.services import Service, ServiceClass
from tango.domain.template_rules import SCHEDULER
from tango.kube.api_client import JSON
from tango.settings import KubeSettings

MANAGED = {MANAGED_BY: "tango"}
"""Label of every pod that Tango created, and may therefore delete."""
BE_GRACE_S = 1
"""Seconds between SIGTERM and SIGKILL of the synthetic workload's BE pod: enough to write what it has done, and no longer, since an
eviction makes way for LC."""
LC_GRACE_S = 5
"""The same for an LC instance, which finishes what it has under way: longer than the longest target of the built-in fleets, 2.6 s."""
TOLERATED = {"key": "virtual-kubelet.io/provider", "operator": "Exists"}
"""Toleration of every pod: virtual nodes keep others away by this taint."""
KEYS_SECRET = "tango-service-keys"
"""Secret with the keys of services by which the synthetic workload checks requests, by name of the service."""
WORKLOAD_CONTAINER = "work"
"""The container of a pod of the synthetic workload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOverrides:
    """What one BE request says of its own pod, in place of its service's template. None and empty: as the template has it."""

    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    env: tuple[tuple[str, str], ...] = ()
    """(name, value), put in place of variables of the same names, or added."""
    labels: Mapping[str, str] = field(default_factory=dict)
    active_deadline_s: int | None = None
    """Seconds after which Kubernetes ends the pod."""
    by_local_user: bool = False
    """Whether whoever runs the stack has asked for it, by its command line: only then a command of its own runs as a local process."""


AS_DECLARED = JobOverrides()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterWays:
    """What a cluster's settings say of every pod there: the image of the synthetic workload, and priorities."""

    image: str
    """Of the synthetic workload, for services that name none."""
    pull_policy: str
    pull_secrets: tuple[str, ...] = ()
    lc_priority: str = ""
    """PriorityClass of pods of LC services, whose template names none; empty: the cluster's default."""
    be_priority: str = ""

    @classmethod
    def of(cls, settings: KubeSettings) -> Self:
        """As the settings say."""
        secrets = tuple(name for word in settings.image_pull_secrets.split(",") if (name := word.strip()))
        return cls(
            image=settings.workload_image,
            pull_policy=settings.image_pull_policy,
            pull_secrets=secrets,
            lc_priority=settings.lc_priority_class,
            be_priority=settings.be_priority_class,
        )


WAYS = ClusterWays.of(KubeSettings())
MOST_OVER_GUESS = 2
"""Memory limit over request of a BE pod whose memory nobody has declared."""
TERMINATION_LOG = "/dev/termination-log"
"""Where a container writes its termination message, unless its template names another file; Kubernetes' own default."""


PROGRAM_MIB = 64
"""MiB of the memory limit of a pod of the synthetic workload above what its work holds: for the program itself, some 25. Under a
limit of what the work holds alone a kernel kills it (137)."""
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What the level `restricted` of Pod Security asks of a container; the image's user has a number above 0."""


def owned_by_node(pod: JSON, node: str, uid: str) -> JSON:
    """The pod with its node as controlling owner, as the kubelet's own mirror pods have it; as it is where the node's uid is not known.

    `kubectl drain` refuses pods that nobody controls, since it takes nobody to make them again; Tango does, elsewhere. What a node that
    is deleted leaves goes with it.
    """
    if uid:
        owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid, "controller": True}
        pod["metadata"]["ownerReferences"] = [owner]
    return pod


def overrides_of(placement: Placement, service: Service) -> JobOverrides:
    """What a placement's job has of its own, with what Tango tells it; nothing for a request that is no job."""
    job = placement.job
    if job is None:
        return AS_DECLARED
    # The file of the termination message: Kubernetes itself takes its end out of the pod, whoever ends it, and it needs no volume.
    main = {} if service.pod_template is None else service.pod_template.main
    told = {
        ATTEMPT: str(job.attempt),
        REQUEST: str(RequestKey(placement.run_id, placement.request_id)),
        PROGRESS_FILE: str(main.get("terminationMessagePath") or TERMINATION_LOG),
    }
    return JobOverrides(
        command=job.command,
        args=job.args,
        env=(*job.env, *told.items()),
        labels={JOB: "yes"},
        active_deadline_s=None if job.deadline_s is None else math.ceil(job.deadline_s),
        by_local_user=job.by_local_user,
    )


def be_pod(placement: Placement, service: Service, *, job: JobOverrides = AS_DECLARED, ways: ClusterWays = WAYS) -> JSON:
    """Manifest of the pod for one epoch of a BE request. It never restarts: a further try is a new epoch with a new pod.

    The service is the placement's.
    """
    p = placement
    labels = {
        **job.labels,
        **MANAGED,
        CLUSTER: p.cluster,
        CLASS: "be",
        SERVICE: p.service,
        pod_marks.RUN: str(p.run_id),
        pod_marks.REQUEST: str(p.request_id),
        pod_marks.EPOCH: str(p.epoch),
    }
    _, name = parts_of_pod(p.pod)
    if (template := service.pod_template) is not None:
        beside_mib = template.beside(0, template.asked.memory_request_mib or 0)[1]
        memory_mib = max(1, p.memory_mib - beside_mib)
        pod = _from_template(name, labels, service, template, memory_mib=memory_mib, ways=ways)
        pod["metadata"]["annotations"][WORK] = f"{p.cpu_work_s:.6f}"
    else:
        container = {
            "name": WORKLOAD_CONTAINER,
            "image": service.image or ways.image,
            "imagePullPolicy": ways.pull_policy,
            "args": ["run"],
            "securityContext": RESTRICTED,
            "env": [
                {"name": "TANGO_CPU_WORK_S", "value": f"{p.cpu_work_s:.6f}"},
                {"name": "TANGO_MEMORY_MIB", "value": str(p.memory_mib)},
            ],
            "resources": _resources(p.cpu_request_millicores, p.cpu_limit_millicores, p.memory_mib, p.extended),
        }
        pod = _pod(name, labels, container, restart="Never", grace_s=BE_GRACE_S, ways=ways)
    _override(pod, service.container or WORKLOAD_CONTAINER, job)
    return pod


def lc_instance(service: Service, node: NodeKey, number: int, *, ways: ClusterWays = WAYS) -> JSON:
    """Manifest of an instance of an LC service on a node, where they are numbered from 0, at the service's declared size; with the CPU
    limit for its start, where the service has one."""
    labels = {**MANAGED, CLUSTER: node.cluster, CLASS: "lc", SERVICE: service.name}
    name = instance_name(service.name, node.name, number)
    if (template := service.pod_template) is not None:
        pod = _from_template(name, labels, service, template, memory_mib=service.instance_memory_mib, ways=ways)
        if service.startup_cpu_limit_millicores:
            container = next(c for c in pod["spec"]["containers"] if c["name"] == service.container)
            container["resources"]["limits"]["cpu"] = format_millicores(service.startup_cpu_limit_millicores)
        return pod
    container = {
        "name": WORKLOAD_CONTAINER,
        "image": service.image or ways.image,
        "imagePullPolicy": ways.pull_policy,
        "args": ["serve"],
        "securityContext": RESTRICTED,
        "ports": [{"containerPort": service.port, "name": "http"}],
        "env": [
            {"name": "TANGO_SERVICE", "value": service.name},
            {"name": "TANGO_MEMORY_MIB", "value": str(service.memory_mib)},
            {"name": "TANGO_CONCURRENCY", "value": str(service.concurrency)},
            {"name": "TANGO_PORT", "value": str(service.port)},
            {"name": "TANGO_CLUSTER", "value": node.cluster},
            {
                "name": "TANGO_INSTANCE",
                # In another namespace it goes by that too, in the headers of requests as everywhere in the fleet.
                **(
                    {"value": pod_in(service.namespace, name)}
                    if service.namespace
                    else {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
                ),
            },
            {
                "name": KEY_VARIABLE,
                # Of a Secret that whoever runs the cluster makes (docs/security.md): Tango itself may read and write none there.
                "valueFrom": {"secretKeyRef": {"name": KEYS_SECRET, "key": service.name, "optional": True}},
            },
        ],
        "resources": _resources(
            service.cpu_request_millicores,
            service.startup_cpu_limit_millicores or service.cpu_limit_millicores,
            service.instance_memory_mib,
            service.extended,
        ),
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": service.port}, "periodSeconds": 1},
    }
    pod = _pod(name, labels, container, restart="Always", grace_s=LC_GRACE_S, ways=ways)
    if service.revision:
        pod["metadata"]["annotations"] = {REVISION: service.revision}
    return pod


def _priority(labels: Mapping[str, str], ways: ClusterWays) -> dict[str, str]:
    """What a pod's spec says of its priority, by its class."""
    name = ways.lc_priority if labels[CLASS] == "lc" else ways.be_priority
    return {"priorityClassName": name} if name else {}


def _from_template(
    name: str, labels: dict[str, str], service: Service, template: PodTemplate, *, memory_mib: int, ways: ClusterWays
) -> JSON:
    """The template as a pod, with what Tango must add and nothing else: name, labels, scheduler, restart policy, a toleration, and the
    requests and limits that the service's container does not have."""
    body: dict[str, Any] = copy.deepcopy(dict(template.body))
    spec, metadata = body["spec"], body.get("metadata") or {}
    spec |= {"schedulerName": SCHEDULER, "restartPolicy": "Always" if service.service_class is ServiceClass.LC else "Never"}
    if not spec.get("priorityClassName"):
        spec |= _priority(labels, ways)
    spec["tolerations"] = [*(spec.get("tolerations") or []), TOLERATED]
    container = next(c for c in spec["containers"] if c["name"] == service.container)
    resources = container.setdefault("resources", {})
    requests = {"cpu": format_millicores(service.cpu_request_millicores), **(resources.get("requests") or {})}
    limits = {"cpu": format_millicores(service.cpu_limit_millicores), **(resources.get("limits") or {})}
    held_mib = max(memory_mib, template.asked.memory_request_mib or 0)
    if "memory" not in limits:
        # A guess, or what others were seen to hold, is no reason to kill one that needs more.
        limits["memory"] = format_mib(MOST_OVER_GUESS * held_mib if "memory_mib" in service.assumed else held_mib)
    requests.setdefault("memory", limits["memory"] if template.asked.memory_limit_mib is not None else format_mib(held_mib))
    resources |= {"requests": requests, "limits": limits}
    annotations = {**(metadata.get("annotations") or {}), CONTAINER: service.container}
    if service.service_class is ServiceClass.LC:
        annotations |= {PORT: str(service.port), REVISION: service.revision}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {**(metadata.get("labels") or {}), **labels}, "annotations": annotations},
        "spec": spec,
    }


def _override(pod: JSON, container_name: str, job: JobOverrides) -> None:
    container = next(c for c in pod["spec"]["containers"] if c["name"] == container_name)
    if job.command is not None:
        container["command"] = list(job.command)
        pod["metadata"].setdefault("annotations", {})[COMMAND_FROM] = "local-user" if job.by_local_user else "caller"
    if job.args is not None:
        container["args"] = list(job.args)
    if job.env:
        own = {name for name, _ in job.env}
        kept = [variable for variable in container.get("env") or [] if variable["name"] not in own]
        container["env"] = [*kept, *({"name": name, "value": value} for name, value in job.env)]
    if job.active_deadline_s is not None:
        pod["spec"]["activeDeadlineSeconds"] = job.active_deadline_s


def _resources(cpu_request_millicores: int, cpu_limit_millicores: int, memory_mib: int, extended: Amounts) -> JSON:
    """Of the synthetic workload. Extended resources are requested as they are limited, since Kubernetes does not overcommit them."""
    beside = format_extended(extended)
    return {
        "requests": {"cpu": format_millicores(cpu_request_millicores), "memory": format_mib(memory_mib), **beside},
        "limits": {"cpu": format_millicores(cpu_limit_millicores), "memory": format_mib(memory_mib + PROGRAM_MIB), **beside},
    }


def instance_name(service: str, node: str, number: int) -> str:
    """Pod name of an LC instance, `lc-<service>-<node>-<number>`: unique within the node's cluster, as pod names are."""
    return f"lc-{service}-{node}-{number}"


def binding(pod: str, uid: str, node: str) -> JSON:
    """Body of a call to `pods/binding`. The uid makes the server refuse it (409) for a later pod of the same name."""
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod, "uid": uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }


def _pod(name: str, labels: dict[str, str], container: JSON, *, restart: str, grace_s: int, ways: ClusterWays) -> JSON:
    secrets = {"imagePullSecrets": [{"name": name} for name in ways.pull_secrets]} if ways.pull_secrets else {}
    priority = _priority(labels, ways)
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
            **secrets,
            **priority,
            "tolerations": [TOLERATED],
            "containers": [container],
        },
    }
