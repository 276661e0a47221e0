"""What the API says of one pod, as far as the node agent acts on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING
from typing import Any

from tango.domain.pod_marks import CLASS
from tango.domain.quantities import cpu_millicores, parse_quantity

Json = Mapping[str, Any]

WAITING_CONDITION = "PodResizePending"
"""Condition of a pod whose resize the kubelet has not admitted; its reason is `Deferred` or `Infeasible`."""


@dataclass(frozen=True, slots=True)
class ContainerLimits:
    """Limits of a container or pod; None: not limited."""

    cpu_millicores: int | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """One container that runs."""

    name: str
    container_id: str
    wanted: ContainerLimits
    """By the specification."""
    actual: ContainerLimits | None
    """By the kubelet's last word; None: it reports none, so it cannot resize this one."""
    is_admitted: bool
    """Whether the kubelet has counted what is asked against its node, by what it reports as allocated."""

    @property
    def is_moving(self) -> bool:
        """Whether the kubelet has a resize of it still to do."""
        return self.actual is not None and self.actual != self.wanted


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod on this node that the agent may touch."""

    uid: str
    name: str
    """Namespace and name."""
    is_lc: bool
    generation: int
    containers: tuple[ContainerFacts, ...]
    """Those that run now, sidecars among them."""
    wanted: ContainerLimits
    """Of the pod as a whole, by the specification."""
    memory_request_bytes: int
    cpu_request_millicores: int
    held_back: str
    """Why its limits are the kubelet's alone just now; empty: they are not."""

    @property
    def is_moving(self) -> bool:
        """Whether the kubelet has a resize still to do."""
        return any(container.is_moving for container in self.containers)

    def has_grown(self, before: PodFacts) -> bool:
        """Whether more CPU is asked for than before, as a limit or, where that is the whole node, as a request."""
        limits = before.wanted.cpu_millicores, self.wanted.cpu_millicores
        more = limits[0] is not None and (limits[1] is None or limits[1] > limits[0])
        return more or self.cpu_request_millicores > before.cpu_request_millicores


def is_ours(pod: Json) -> bool:
    """Whether the agent may touch a pod: one that Tango made, or one of others that says so by the label `tango/class`."""
    return (pod["metadata"].get("labels") or {}).get(CLASS) in ("lc", "be")


def pod_facts(pod: Json) -> PodFacts | None:
    """What the agent goes by; None for a pod that it may not touch, or that does not run.

    Raises: ValueError for a quantity that is none.
    """
    if not is_ours(pod) or (pod.get("status") or {}).get("phase") != "Running":
        return None
    metadata, spec, status = pod["metadata"], pod["spec"], pod["status"]
    statuses = {one["name"]: one for key in ("containerStatuses", "initContainerStatuses") for one in status.get(key) or []}
    sidecars = [one for one in spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]
    begins = [one for one in spec.get("initContainers") or [] if one.get("restartPolicy") != "Always"]
    lasting = [*sidecars, *spec["containers"]]
    containers = tuple(
        _container(one, statuses[one["name"]])
        for one in lasting
        if "running" in (statuses.get(one["name"], {}).get("state") or {}) and statuses[one["name"]].get("containerID")
    )
    overhead = spec.get("overhead") or {}
    return PodFacts(
        uid=metadata["uid"],
        name=f"{metadata['namespace']}/{metadata['name']}",
        is_lc=metadata["labels"][CLASS] == "lc",
        generation=metadata.get("generation") or 0,
        containers=containers,
        wanted=_pod_limits([_limits(one) for one in lasting], [_limits(one) for one in begins], overhead),
        memory_request_bytes=sum(_bytes(_requests(one)) or 0 for one in lasting),
        cpu_request_millicores=sum(cpu_millicores(_requests(one).get("cpu", 0)) for one in lasting),
        held_back=_held_back(spec, status),
    )


def _container(spec: Json, status: Json) -> ContainerFacts:
    reported = status.get("resources")
    actual = None if reported is None else _limits({"resources": reported})
    asked = _requests(spec)
    allocated = status.get("allocatedResources")
    is_admitted = allocated is not None and _bytes(asked) == _bytes(allocated)
    return ContainerFacts(spec["name"], status["containerID"], _limits(spec), actual, is_admitted)


def _limits(container: Json) -> ContainerLimits:
    limits = (container.get("resources") or {}).get("limits") or {}
    return ContainerLimits(cpu_millicores(limits["cpu"]) if "cpu" in limits else None, _bytes(limits))


def _requests(container: Json) -> Json:
    found: Json = (container.get("resources") or {}).get("requests") or {}
    return found


def _bytes(quantities: Json) -> int | None:
    if "memory" not in quantities:
        return None
    return int(parse_quantity(quantities["memory"]).to_integral_value(ROUND_CEILING))


def _pod_limits(lasting: list[ContainerLimits], begins: list[ContainerLimits], overhead: Json) -> ContainerLimits:
    """What a kubelet gives the pod's own group: the sum of what lasts, at least the largest that only begins; no limit where one of its
    containers has none.

    Source: kubernetes, component-helpers/resource/helpers.go (PodLimits), pkg/kubelet/cm/helpers_linux.go (ResourceConfigForPod).
    """
    cpu = [one.cpu_millicores for one in lasting]
    memory = [one.memory_bytes for one in lasting]
    return ContainerLimits(
        _together(cpu, [one.cpu_millicores for one in begins], cpu_millicores(overhead.get("cpu", 0))),
        _together(memory, [one.memory_bytes for one in begins], _bytes(overhead) or 0),
    )


def _together(lasting: list[int | None], begins: list[int | None], overhead: int) -> int | None:
    known = [value for value in [*lasting, *begins] if value is not None]
    if len(known) < len(lasting) + len(begins):
        return None
    return max([sum(value for value in lasting if value is not None), *(value for value in begins if value is not None)]) + overhead


def _held_back(spec: Json, status: Json) -> str:
    if spec.get("resources"):
        return "the pod has resources of its own (pod-level resources)"
    for condition in status.get("conditions") or []:
        if condition.get("type") == WAITING_CONDITION and condition.get("status") == "True":
            return f"the kubelet has not admitted its resize: {condition.get('reason', '')}"
    return ""
