"""Parsing of a pod's JSON into the values that a virtual node needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from tango.domain.identity import pod_in
from tango.domain.pod_marks import CLASS, CONTAINER, PORT, SERVICE, WORK
from tango.domain.quantities import Amounts, cpu_millicores, extended_amounts, memory_mib
from tango.settings import KubeSettings

Json = dict[str, Any]

OWN_NAMESPACE = KubeSettings().namespace
"""Where Tango's pods are but for services with a namespace of their own."""
UNBOUNDED = 1_000_000
"""Concurrency of an instance that declares none: in effect without limit, so that memory alone bounds it."""


class PodKind(Enum):
    """What a pod does on a virtual node."""

    LC = "lc"
    """Serves LC requests at its port."""
    BE = "be"
    """Does a given amount of work and ends."""
    IDLE = "idle"
    """Neither: it runs without using CPU until it is deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSize:
    """Resources of a pod, summed over its containers; None: no limit."""

    cpu_request_millicores: int
    cpu_limit_millicores: int | None
    memory_request_mib: int
    memory_limit_mib: int | None
    extended: Amounts = ()
    """Requests of extended resources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    """A pod's identity and workload, without its size."""

    uid: str
    name: str
    namespace: str
    node: str
    kind: PodKind
    containers: tuple[Json, ...]
    init: tuple[Json, ...] = ()
    """Init containers, sidecars among them."""
    overhead: Json = field(default_factory=dict)
    main: str
    """Name of the container that Tango means, the first unless the pod says which."""
    port: int
    work_s: float
    memory_mib: float
    """BE: memory that the work holds; LC: memory of one request, 0 if it is not declared."""
    concurrency: int
    """Most requests in service at once."""
    service: str = ""
    """Whose instance it is; empty: of none of Tango's."""

    @property
    def fleet_name(self) -> str:
        """Its name in the fleet, by which an instance is called."""
        return pod_in("" if self.namespace == OWN_NAMESPACE else self.namespace, self.name)


def pod_spec(pod: Json) -> PodSpec:
    """Parse a pod. Raises: ValueError for a variable of its environment, or a port, that is not a number."""
    metadata, spec = pod["metadata"], pod["spec"]
    annotations = metadata.get("annotations") or {}
    named = annotations.get(CONTAINER)
    container = next((c for c in spec["containers"] if c["name"] == named), spec["containers"][0])
    env = {e["name"]: e["value"] for e in container.get("env") or [] if "value" in e}
    ports = [p["containerPort"] for p in container.get("ports") or []]
    return PodSpec(
        uid=metadata["uid"],
        name=metadata["name"],
        namespace=metadata.get("namespace", OWN_NAMESPACE),
        node=spec.get("nodeName", ""),
        kind=_kind((metadata.get("labels") or {}).get(CLASS, ""), env, ports),
        containers=tuple(spec["containers"]),
        init=tuple(spec.get("initContainers") or ()),
        overhead=spec.get("overhead") or {},
        main=str(container["name"]),
        port=int(annotations.get(PORT) or (ports[0] if ports else 8080)),
        work_s=_number(env, "TANGO_CPU_WORK_S", _number(annotations, WORK, 0.0)),
        memory_mib=_number(env, "TANGO_MEMORY_MIB", 0.0),
        concurrency=max(1, int(_number(env, "TANGO_CONCURRENCY", UNBOUNDED))),
        service=str((metadata.get("labels") or {}).get(SERVICE, "")),
    )


def is_synthetic(pod: Json) -> bool:
    """Whether a pod is one of Tango's own workload, which is modelled even where others run as local processes."""
    metadata = pod["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return CLASS in labels and CONTAINER not in annotations


def container_resources(pod: Json) -> tuple[Json, ...]:
    """Requests and limits of each container, as declared in the spec."""
    return tuple(
        {k: dict(v) for k, v in (c.get("resources") or {}).items() if k in ("requests", "limits") and v}
        for c in pod["spec"]["containers"]
    )


def pod_size(resources: tuple[Json, ...]) -> PodSize:
    """The sums over containers. A missing request counts as the limit; if one container has no limit, the pod has none.

    Raises: ValueError for a malformed quantity.
    """
    requests = [r.get("requests") or {} for r in resources]
    limits = [r.get("limits") or {} for r in resources]
    extended: Counter[str] = Counter()
    for r, lim in zip(requests, limits, strict=True):
        extended.update(dict(extended_amounts({**lim, **r})))
    return PodSize(
        cpu_request_millicores=sum(
            cpu_millicores(r.get("cpu", lim.get("cpu", 0))) for r, lim in zip(requests, limits, strict=True)
        ),
        cpu_limit_millicores=sum(cpu_millicores(lim["cpu"]) for lim in limits) if all("cpu" in lim for lim in limits) else None,
        memory_request_mib=sum(memory_mib(r.get("memory", lim.get("memory", 0))) for r, lim in zip(requests, limits, strict=True)),
        memory_limit_mib=sum(memory_mib(lim["memory"]) for lim in limits) if all("memory" in lim for lim in limits) else None,
        extended=tuple(sorted(extended.items())),
    )


def allocated_size(spec: PodSpec, resources: tuple[Json, ...]) -> PodSize:
    """What a pod takes on its node while its containers have these resources: their size, or what an init container needs beside the
    sidecars before it where that is more, and its overhead.

    Source: Kubernetes documentation, "Init Containers" and "Pod Overhead". Raises: ValueError for a malformed quantity.
    """
    size = pod_size(resources)
    if not spec.init and not spec.overhead:
        return size
    side_cpu = side_mib = most_cpu = most_mib = 0
    for container in spec.init:
        own = pod_size((container.get("resources") or {},))
        most_cpu = max(most_cpu, side_cpu + own.cpu_request_millicores)
        most_mib = max(most_mib, side_mib + own.memory_request_mib)
        if container.get("restartPolicy") == "Always":
            side_cpu, side_mib = side_cpu + own.cpu_request_millicores, side_mib + own.memory_request_mib
    return replace(
        size,
        cpu_request_millicores=max(most_cpu, side_cpu + size.cpu_request_millicores) + cpu_millicores(spec.overhead.get("cpu", 0)),
        memory_request_mib=max(most_mib, side_mib + size.memory_request_mib) + memory_mib(spec.overhead.get("memory", 0)),
    )


def _kind(label: str, env: dict[str, str], ports: list[int]) -> PodKind:
    """The kind by Tango's label. Of pods without that label, those with TANGO_CPU_WORK_S work and those with a port serve."""
    if label in ("lc", "be"):
        return PodKind(label)
    if "TANGO_CPU_WORK_S" in env:
        return PodKind.BE
    return PodKind.LC if ports else PodKind.IDLE


def _number(env: dict[str, str], name: str, default: float) -> float:
    text = env.get(name, "")
    if not text:
        return default
    value = float(text)
    if not 0 <= value < 1e12:
        raise ValueError(f"{name} is {text!r}, expected a number of at least 0")
    return value
