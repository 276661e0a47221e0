"""A pod's JSON, reduced once to what a node needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from tango.domain.resources import cpu_millicores, memory_mib

Json = dict[str, Any]

UNBOUNDED = 1_000_000
"""Requests in service at most where nothing else is declared; memory bounds them."""


class PodKind(Enum):
    """What a pod does here."""

    LC = "lc"
    BE = "be"
    IDLE = "idle"
    """Neither serves nor works: it stands until it is deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSize:
    """Resources of a pod: the sums over its containers."""

    cpu_request_millicores: int
    cpu_limit_millicores: int | None
    memory_request_mib: int
    memory_limit_mib: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    """What a pod asks for besides its size."""

    uid: str
    name: str
    namespace: str
    node: str
    kind: PodKind
    containers: tuple[Json, ...]
    port: int
    work_s: float
    memory_mib: float
    """BE: memory of the work; LC: of one request, 0 where it is not told."""
    concurrency: int


def pod_spec(pod: Json) -> PodSpec:
    """Read a pod. Raises: ValueError for an environment or a port that is no number."""
    metadata, spec = pod["metadata"], pod["spec"]
    container = spec["containers"][0]
    env = {e["name"]: e["value"] for e in container.get("env") or [] if "value" in e}
    ports = [p["containerPort"] for p in container.get("ports") or []]
    return PodSpec(
        uid=metadata["uid"],
        name=metadata["name"],
        namespace=metadata.get("namespace", "default"),
        node=spec.get("nodeName", ""),
        kind=_kind((metadata.get("labels") or {}).get("tango/class", ""), env, ports),
        containers=tuple(spec["containers"]),
        port=int(ports[0]) if ports else 8080,
        work_s=_number(env, "TANGO_CPU_WORK_S", 0.0),
        memory_mib=_number(env, "TANGO_MEMORY_MIB", 0.0),
        concurrency=max(1, int(_number(env, "TANGO_CONCURRENCY", UNBOUNDED))),
    )


def container_resources(pod: Json) -> tuple[Json, ...]:
    """`resources` of each container, as declared."""
    return tuple(
        {k: dict(v) for k, v in (c.get("resources") or {}).items() if k in ("requests", "limits") and v}
        for c in pod["spec"]["containers"]
    )


def pod_size(resources: tuple[Json, ...]) -> PodSize:
    """The sums over containers; a missing request is the limit, a missing limit of one container leaves the pod without.

    Raises: ValueError for a quantity that is none.
    """
    requests = [r.get("requests") or {} for r in resources]
    limits = [r.get("limits") or {} for r in resources]
    return PodSize(
        cpu_request_millicores=sum(
            cpu_millicores(r.get("cpu", lim.get("cpu", 0))) for r, lim in zip(requests, limits, strict=True)
        ),
        cpu_limit_millicores=sum(cpu_millicores(lim["cpu"]) for lim in limits) if all("cpu" in lim for lim in limits) else None,
        memory_request_mib=sum(memory_mib(r.get("memory", lim.get("memory", 0))) for r, lim in zip(requests, limits, strict=True)),
        memory_limit_mib=sum(memory_mib(lim["memory"]) for lim in limits) if all("memory" in lim for lim in limits) else None,
    )


def _kind(label: str, env: dict[str, str], ports: list[int]) -> PodKind:
    """By Tango's label; a pod without one works if it is told how much, serves if it has a port."""
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
