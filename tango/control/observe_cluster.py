"""Turn objects of the Kubernetes API (as JSON) into node states, instance states and the ends of BE pods. Pure functions.

The cluster agent (`cluster_agent.py`) feeds these from its watches and carries the results to the store.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import orjson

from tango.control.deploy_instances import Creation, StandingInstance, instance_name
from tango.domain.fleet import MOST_PODS
from tango.domain.identity import pod_in
from tango.domain.lifecycle import Event, Outcome, after_disruption
from tango.domain.node_reports import NodeAgentReport
from tango.domain.node_selection import may_run
from tango.domain.observations import ExtendedState, InstanceState, NodeState, PodEnd
from tango.domain.pod_marks import CLASS, CONTAINER, EPOCH, MANAGED_BY, PORT, REQUEST, REVISION, RUN, SERVICE
from tango.domain.pod_templates import PodTemplate, default_container
from tango.domain.quantities import (
    LARGEST,
    LARGEST_EXTENDED,
    cpu_millicores,
    extended_amounts,
    is_extended,
    memory_mib,
    parse_quantity,
)
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Refusal
from tango.domain.requests import Reason
from tango.domain.resized_pods import as_counted
from tango.domain.resource_axis import MAY_RUN
from tango.domain.services import Service

Json = Mapping[str, Any]

NONE: Mapping[str, Sequence[Json]] = MappingProxyType({})
"""No adopted pods."""
NO_REPORTS: Mapping[str, NodeAgentReport] = MappingProxyType({})

_REASONS = {
    "OutOfcpu": Reason.OUT_OF_CPU,
    "OutOfmemory": Reason.OUT_OF_MEMORY,
    "OutOfpods": Reason.OUT_OF_PODS,
    "OOMKilled": Reason.OUT_OF_MEMORY,
    "Evicted": Reason.EVICTED,
    "EvictionByEvictionAPI": Reason.EVICTED,
    "PreemptionByScheduler": Reason.PREEMPTED,
    "Preempting": Reason.PREEMPTED,
    "DeletionByTaintManager": Reason.NODE_TAINTED,
    "DeletionByPodGC": Reason.NODE_LOST,
    "NodeLost": Reason.NODE_LOST,
    "NodeShutdown": Reason.NODE_LOST,
    "Terminated": Reason.NODE_LOST,
}
_NOT_ADMITTED = frozenset(
    {
        "TaintToleration",
        "NodeAffinity",
        "NodeName",
        "NodePorts",
        "NodeUnschedulable",
        "UnexpectedAdmissionError",
        "UnexpectedPredicateFailureType",
        "TopologyAffinityError",
        "PodOSNotSupported",
        "PodOSSelectorNodeLabelDoesNotMatch",
        "PodFeatureUnsupported",
        "InvalidNodeInfo",
        "AdmissionFailed",
    }
)
"""Reasons with which a kubelet fails a pod that it does not admit, besides `OutOf…` (pkg/kubelet/lifecycle, cm/topologymanager)."""
_KEEP_OFF = frozenset({"MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"})
"""Conditions of a node under which it gets no new pods; the node controller taints it by them a moment later."""
ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
"""Labels of nodes, Kubernetes' own, by which templates choose among them."""
_BY_KUBELET = "TerminationByKubelet"
"""Reason of a DisruptionTarget condition that says less than the pod's own: `Evicted`, `Terminated` (its node shuts down), `Preempting`."""
_DISRUPTIONS = frozenset({"Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting"})
"""Reasons of a pod's status that a node gives for what it did to the pod; those of its containers are not among them."""
_REJECTED = "Pod was rejected"
"""How the message of such a pod begins, whatever its reason: of a node under pressure that is `Evicted` (pkg/kubelet/kubelet.go)."""


def pod_class(pod: Json) -> str:
    """`lc` or `be` by the pod's labels; empty for a pod that Tango does not manage."""
    labels = pod["metadata"].get("labels") or {}
    return str(labels.get(CLASS, "")) if labels.get(MANAGED_BY) == "tango" else ""


def is_over(pod: Json) -> bool:
    """Whether the pod has ended (phase Succeeded or Failed) and so holds no resources of its node any more."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def main_container(pod: Json, name: str = "") -> Json:
    """The container that is resized, that answers, and whose exit code counts: the one of this name, else the one that Tango's annotation
    names, else the pod's default one."""
    containers = pod["spec"]["containers"]
    name = name or (pod["metadata"].get("annotations") or {}).get(CONTAINER) or default_container(pod)
    return next((c for c in containers if c["name"] == name), containers[0])


def main_status(pod: Json, name: str = "") -> Json:
    """The status of that container; empty before the kubelet has written any. Their order need not be that of the spec."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    name = main_container(pod, name)["name"]
    return next((s for s in statuses if s.get("name", name) == name), {})


def node_states(
    nodes: Iterable[Json],
    pods: Collection[Json],
    node_usage: Mapping[str, Json],
    services: Sequence[Service] = (),
    adopted: Mapping[str, Sequence[Json]] = NONE,
    others: Iterable[Json] = (),
    awaited: Iterable[Creation] = (),
    reports: Mapping[str, NodeAgentReport] = NO_REPORTS,
) -> list[NodeState]:
    """Nodes with the requests and limits that Tango's pods and adopted ones hold on them, and with which services they may not run.

    `adopted`: by service, as LC. `others`: pods that are not Tango's; those that are adopted count once.
    `awaited`: LC instances to be made; those that are among `pods` by now are no longer awaited.
    `reports`: by node name, what its agent has told of late.
    `node_usage`: by node name, the field `usage` of metrics.k8s.io's NodeMetrics; a node that is not in it has unknown usage.
    """
    held: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    of_others = {pod["metadata"]["uid"]: pod for of_service in adopted.values() for pod in of_service}
    foreign = [pod for pod in others if pod["metadata"]["uid"] not in of_others]
    for pod, kind in (
        *((pod, pod_class(pod)) for pod in pods),
        *((pod, "lc") for pod in of_others.values()),
        *((pod, "other") for pod in foreign),
    ):
        node = pod["spec"].get("nodeName")
        if not kind or not node or is_over(pod):
            continue
        at = held[node, kind]
        at["pods"] += 1
        at.update(_held(pod))
    there = {pod["metadata"]["name"] for pod in pods if not is_over(pod)}
    to_be_made: dict[str, Counter[str]] = defaultdict(Counter)
    for creation in awaited:
        if instance_name(creation) not in there:
            to_be_made[creation[1]][creation[0].name] += 1
    found = []
    for node in nodes:
        name, status = node["metadata"]["name"], node.get("status") or {}
        allocatable = status.get("allocatable") or {}
        lc, be, other = (_bounded(held[name, label]) for label in ("lc", "be", "other"))
        usage, report = node_usage.get(name), reports.get(name)
        found.append(
            NodeState(
                name=name,
                ready=_ready(node),
                cpu_allocatable_millicores=cpu_millicores(allocatable.get("cpu", 0)),
                memory_allocatable_mib=memory_mib(allocatable.get("memory", 0)),
                pods_allocatable=min(int(parse_quantity(allocatable.get("pods", MOST_PODS))), LARGEST),
                cpu_used_millicores=None if usage is None else float(parse_quantity(usage["cpu"]) * 1000),
                memory_used_mib=None if usage is None else float(parse_quantity(usage["memory"]) / 2**20),
                lc_cpu_request_millicores=lc["cpu"],
                lc_cpu_limit_millicores=lc["cpu limit"],
                lc_memory_held_mib=lc["memory"],
                lc_pods=lc["pods"],
                be_cpu_request_millicores=be["cpu"],
                be_cpu_limit_millicores=be["cpu limit"],
                be_memory_held_mib=be["memory"],
                be_pods=be["pods"],
                schedulable=_schedulable(node),
                other_cpu_request_millicores=other["cpu"],
                other_memory_held_mib=other["memory"],
                other_pods=other["pods"],
                extended={
                    name: ExtendedState(allocatable=amount, lc_held=lc[name], be_held=be[name], other_held=other[name])
                    for name, amount in extended_amounts(allocatable)
                }
                | {MAY_RUN + s.name: ExtendedState(allocatable=0) for s in services if not may_run(s, node)},
                zone=str((node["metadata"].get("labels") or {}).get(ZONE, "")),
                region=str((node["metadata"].get("labels") or {}).get(REGION, "")),
                lc_awaited=dict(to_be_made[name]),
                lc_cpu_pressure=None if report is None else report.lc_cpu_pressure,
                lc_throttled=None if report is None else report.lc_throttled,
                memory_pressure=None if report is None else report.memory_pressure,
            )
        )
    return found


def bare_name(pod: Json) -> str:
    """Its name within its namespace."""
    return str(pod["metadata"]["name"])


def instance_states(
    pods: Iterable[Json],
    nodes: Sequence[NodeState],
    services: Sequence[Service] = (),
    adopted: Mapping[str, Sequence[Json]] = NONE,
    *,
    name_of: Callable[[Json], str] = bare_name,
) -> list[InstanceState]:
    """LC instances that have an IP address and have not ended: Tango's own, and those that services have adopted.

    `name_of` gives the name in the fleet of one of Tango's own.

    An instance is ready if its container is, it is not being deleted, and its node is ready: when a node is lost, the
    status of its pods stays as the kubelet last wrote it.
    """
    by_name = {node.name: node for node in nodes}
    found = [
        _instance(pod, pod["metadata"]["labels"][SERVICE], by_name, name=name_of(pod), port=_port(pod))
        for pod in pods
        if pod_class(pod) == "lc" and _can_answer(pod)
    ]
    for service in services:
        if service.adopt is None:
            continue
        for pod in adopted.get(service.name, ()):
            if _can_answer(pod):
                name = pod_in(pod["metadata"]["namespace"], pod["metadata"]["name"])
                container = service.adopt.container
                found.append(_instance(pod, service.name, by_name, name=name, port=service.port, container=container))
    return found


def _can_answer(pod: Json) -> bool:
    return bool((pod.get("status") or {}).get("podIP") and pod["spec"].get("nodeName")) and not is_over(pod)


def _instance(
    pod: Json, service: str, nodes: Mapping[str, NodeState], *, name: str, port: int, container: str = ""
) -> InstanceState:
    own, running = main_container(pod, container), main_status(pod, container)
    requests, limits = _resources(own)
    actual = (running.get("resources") or {}).get("limits") or limits
    node = nodes.get(pod["spec"]["nodeName"])
    # Without a limit, which only pods of others can be, its node is the limit.
    most_cpu = node.cpu_allocatable_millicores if node else 0
    most_mib = node.memory_allocatable_mib if node else 0
    return InstanceState(
        pod=name,
        uid=pod["metadata"]["uid"],
        service=service,
        node=pod["spec"]["nodeName"],
        pod_ip=pod["status"]["podIP"],
        port=port,
        ready=_is_ready(pod, container) and "deletionTimestamp" not in pod["metadata"] and node is not None and node.ready,
        cpu_request_millicores=cpu_millicores(requests.get("cpu", 0)),
        cpu_limit_millicores=cpu_millicores(actual["cpu"]) if "cpu" in actual else most_cpu,
        memory_limit_mib=memory_mib(limits["memory"]) if "memory" in limits else most_mib,
        restarts=int(running.get("restartCount", 0)),
        leaving=asked_to_go_at_s(pod) is not None or node is None or not node.ready,
        revision=_revision(pod),
    )


def standing(pod: Json) -> StandingInstance | None:
    """An LC pod as `deploy_instances` asks for it; None for one that has ended or is being deleted."""
    metadata = pod["metadata"]
    if is_over(pod) or "deletionTimestamp" in metadata:
        return None
    return StandingInstance(metadata["name"], metadata["labels"].get(SERVICE, ""), _revision(pod), _is_ready(pod))


def _revision(pod: Json) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(REVISION, ""))


def node_refusal(end: PodEnd, cluster: str) -> Refusal | None:
    """What a kubelet says that has not admitted a pod: nothing of it ever ran. None for any other end."""
    never_ran = end.phase == "Failed" and end.started_at_s is None
    told = end.reason in _NOT_ADMITTED or end.reason.startswith("OutOf") or end.message.startswith(_REJECTED)
    if not (never_ran and told):
        return None
    words = f"{end.reason}: {end.message}" if end.message else end.reason
    return Refusal.of(RefusalKind.NODE, cluster=cluster, service=end.service, node=end.node, words=words)


def be_identity(pod: Json) -> tuple[int, int, int] | None:
    """(run, request, epoch) from the labels of a BE pod; None where they are missing or no integers."""
    labels = pod["metadata"].get("labels") or {}
    try:
        return int(labels[RUN]), int(labels[REQUEST]), int(labels[EPOCH])
    except (KeyError, ValueError):
        return None


def be_started_at_s(pod: Json) -> float | None:
    """Unix time at which a running BE pod started; None while it does not run."""
    running = (main_status(pod).get("state") or {}).get("running")
    if (pod.get("status") or {}).get("phase") != "Running" or not running:
        return None
    return _unix_s(running.get("startedAt"))


def going_since_s(pod: Json) -> float | None:
    """Unix time at which the grace of a pod that is being deleted ends; None for one that is not."""
    return _unix_s(pod["metadata"].get("deletionTimestamp"))


def pod_end(pod: Json, *, deleted: bool) -> PodEnd | None:
    """The end of a BE pod: Succeeded, Failed, or Deleted for one that was deleted before it ended; None for any other pod.

    The reason of a DisruptionTarget condition (eviction API, preemption) is preferred: the container's own reason is then only "Error".
    Exact times and work done come from the termination message that Tango's workload writes; a pod without one has the API's times, in
    whole seconds.
    """
    identity = be_identity(pod)
    if pod_class(pod) != "be" or identity is None or not (deleted or is_over(pod)):
        return None
    status = pod.get("status") or {}
    phase = status["phase"] if is_over(pod) else "Deleted"
    ended = (main_status(pod).get("state") or {}).get("terminated") or {}
    exact = _termination_message(ended.get("message"))
    reason = status.get("reason") or (ended.get("reason", "") if phase == "Failed" else "")
    disrupted = phase == "Deleted" or status.get("reason") in _DISRUPTIONS
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            disrupted, told = True, condition.get("reason") or ""
            reason = reason if told == _BY_KUBELET else told or reason
    finished_at_s = exact.get("finished_s", _unix_s(ended.get("finishedAt")))
    if phase == "Failed" and (asked_s := asked_to_go_at_s(pod)) is not None:
        disrupted = disrupted or finished_at_s is None or finished_at_s >= asked_s
    return PodEnd(
        run_id=identity[0],
        request_id=identity[1],
        epoch=identity[2],
        pod=pod["metadata"]["name"],
        uid=pod["metadata"]["uid"],
        phase=phase,
        reason=reason,
        started_at_s=exact.get("started_s", _unix_s(ended.get("startedAt")) if ended else be_started_at_s(pod)),
        finished_at_s=finished_at_s,
        cpu_work_done_s=exact.get("cpu_work_s"),
        message=str(status.get("message") or ""),
        node=str(pod["spec"].get("nodeName") or ""),
        service=str(pod["metadata"]["labels"].get(SERVICE, "")),
        disrupted=disrupted,
    )


def asked_to_go_at_s(pod: Json) -> float | None:
    """When somebody evicted or deleted the pod, as Unix time; None: nobody has."""
    metadata, found = pod["metadata"], []
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            found.append(_unix_s(condition.get("lastTransitionTime")) or 0.0)
    if metadata.get("deletionTimestamp"):
        found.append((_unix_s(metadata["deletionTimestamp"]) or 0.0) - float(metadata.get("deletionGracePeriodSeconds") or 0))
    return min(found, default=None)


def outcome_of(end: PodEnd, *, run_zero_s: float, now_s: float, disruptions_count: bool = False) -> Outcome:
    """The outcome of the request's attempt: succeeded, or to be requeued with a reason and the work lost; returned where the kubelet has
    not admitted the pod, or something outside ended it (unless `disruptions_count`, as a job counts them beside its own retries).

    `run_zero_s` and `now_s` are Unix times; `now_s` stands in for an end whose time is unknown.
    """
    started_s = None if end.started_at_s is None else end.started_at_s - run_zero_s
    if end.phase == "Succeeded":
        finished_at_s = end.finished_at_s if end.finished_at_s is not None else now_s
        return Outcome(
            run_id=end.run_id,
            request_id=end.request_id,
            epoch=end.epoch,
            event=Event.SUCCEED,
            started_s=started_s,
            finished_s=finished_at_s - run_zero_s,
        )
    if (refused := node_refusal(end, "")) is not None:
        return Outcome(
            run_id=end.run_id,
            request_id=end.request_id,
            epoch=end.epoch,
            event=Event.RETURN,
            reason=_reason(end.reason, Reason.NODE_REFUSED),
            words=refused.words,
        )
    fallback = Reason.POD_LOST if end.phase == "Deleted" else Reason.POD_FAILED
    return Outcome(
        run_id=end.run_id,
        request_id=end.request_id,
        epoch=end.epoch,
        event=after_disruption(end.epoch) if end.disrupted and not disruptions_count else Event.REQUEUE,
        reason=_reason(end.reason, fallback),
        started_s=started_s,
        work_lost_s=end.cpu_work_done_s or 0.0,
    )


def _reason(kubernetes: str, fallback: Reason) -> Reason:
    if is_extended(kubernetes.removeprefix("OutOf")):  # the kubelet writes OutOf and the resource's name: OutOfnvidia.com/gpu
        return Reason.OUT_OF_EXTENDED
    return _REASONS.get(kubernetes, fallback)


def _conditions(node: Json) -> set[str]:
    """Types of the node's conditions that are True."""
    return {c["type"] for c in (node.get("status") or {}).get("conditions") or [] if c["status"] == "True"}


def _ready(node: Json) -> bool:
    return "Ready" in _conditions(node)


def _schedulable(node: Json) -> bool:
    """Neither cordoned, nor being deleted, nor under pressure, where its kubelet refuses pods or evicts them."""
    is_leaving = (node.get("spec") or {}).get("unschedulable") or "deletionTimestamp" in node["metadata"]
    return not is_leaving and not _conditions(node) & _KEEP_OFF


def _resources(container: Json) -> tuple[Json, Json]:
    resources = container.get("resources") or {}
    return resources.get("requests") or {}, resources.get("limits") or {}


def _held(pod: Json) -> Counter[str]:
    """What a pod holds of its node: requests of all its containers, sidecars and init containers as Kubernetes counts them; its own, where
    it has some as a whole (`spec.resources`). Of one that is being resized the most counts."""
    pod = as_counted(pod)
    main = main_container(pod)
    whole, _ = _resources(pod["spec"])
    requests, limits = _resources(main)
    cpu = cpu_millicores(requests.get("cpu", limits.get("cpu", 0)))
    memory = memory_mib(requests.get("memory", limits.get("memory", 0)))
    beside = PodTemplate(pod, main["name"]).beside(cpu, memory)
    cpu = cpu_millicores(whole["cpu"]) if "cpu" in whole else cpu + beside[0]
    memory = memory_mib(whole["memory"]) if "memory" in whole else memory + beside[1]
    held = Counter({"cpu": cpu, "cpu limit": cpu_millicores(limits.get("cpu", 0)), "memory": memory})
    held.update(dict(PodTemplate(pod, main["name"]).extended))
    return held


def _bounded(held: Counter[str]) -> Counter[str]:
    """What pods hold together, as far as it can be kept: each may ask for as much as one can."""
    return Counter({name: min(amount, LARGEST_EXTENDED if is_extended(name) else LARGEST) for name, amount in held.items()})


def _port(pod: Json) -> int:
    annotated = (pod["metadata"].get("annotations") or {}).get(PORT)
    return int(annotated or (main_container(pod).get("ports") or [{"containerPort": 8080}])[0]["containerPort"])


def _is_ready(pod: Json, container: str = "") -> bool:
    """The whole pod's readiness, which counts sidecars and readiness gates; its container's where nothing says it."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    told = next((c["status"] == "True" for c in conditions if c["type"] == "Ready"), True)
    return told and bool(main_status(pod, container).get("ready"))


def _unix_s(stamp: str | None) -> float | None:
    return None if not stamp else datetime.fromisoformat(stamp).timestamp()


def _termination_message(text: str | None) -> dict[str, float]:
    try:
        # orjson bounds the depth: what a pod says of itself must not end the agent that reads it.
        message = orjson.loads(text or "")
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(message, dict):
        return {}
    return {
        k: float(v)
        for k, v in message.items()
        if k in ("cpu_work_s", "started_s", "finished_s") and isinstance(v, int | float) and not isinstance(v, bool)
    }
