"""What the pods of a service really use: CPU-seconds of its requests and memory, from metrics.k8s.io, for figures that nobody has declared.

An LC instance's usage is added up over time; the centre divides by how many requests were answered meanwhile. A BE pod's own mean usage
times the time that it ran is the work of its request; one that ended before it was measured says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tango.domain.observations import PodEnd, ServiceUsage
from tango.domain.quantities import parse_quantity
from tango.domain.services import Service

Json = Mapping[str, Any]

LONGEST_GAP_S = 30.0
"""Seconds between two readings of a pod beyond which nothing is said of the time between."""


@dataclass(slots=True)
class _Pod:
    """A pod as it was measured so far."""

    read_at_s: float
    cores_s: float = 0.0
    over_s: float = 0.0


class ServiceMeter:
    """Usage of the services of one cluster since it was last taken. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._pods: dict[str, _Pod] = {}
        """By uid."""
        self._found: dict[str, ServiceUsage] = {}

    def read(self, pods: Iterable[tuple[Service, Json]], usage: Mapping[tuple[str, str], Json], now_s: float) -> None:
        """Add a reading: pods with their services, and the PodMetrics of each by (namespace, name)."""
        seen: dict[str, _Pod] = {}
        for service, pod in pods:
            metadata = pod["metadata"]
            found = usage.get((metadata.get("namespace", ""), metadata["name"]))
            before = self._pods.get(metadata["uid"])
            if found is None:
                if before is not None:
                    seen[metadata["uid"]] = before
                continue
            used = [container.get("usage") or {} for container in found.get("containers") or []]
            cores = sum(float(parse_quantity(u.get("cpu", 0))) for u in used)
            memory_mib = sum(float(parse_quantity(u.get("memory", 0))) for u in used) / 2**20
            at = seen[metadata["uid"]] = before or _Pod(now_s)
            gap_s = now_s - at.read_at_s
            at.read_at_s = now_s
            if 0 < gap_s <= LONGEST_GAP_S:
                at.cores_s += cores * gap_s
                at.over_s += gap_s
                is_lc = service.target_ms is not None
                self._add(service.name, cpu_s=cores * gap_s if is_lc else 0.0, memory_mib=memory_mib)
            else:
                self._add(service.name, memory_mib=memory_mib)
        self._pods = seen

    def ended(self, service: str, end: PodEnd) -> None:
        """A BE pod has ended; one that did its work counts as a request."""
        at = self._pods.pop(end.uid, None)
        if end.phase != "Succeeded" or end.started_at_s is None or end.finished_at_s is None:
            return
        ran_s = end.finished_at_s - end.started_at_s
        if at is not None and at.over_s > 0:  # taken away with the first telling of it, so that it counts once
            self._add(service, cpu_s=at.cores_s / at.over_s * ran_s, answered=1)

    def take(self) -> Sequence[ServiceUsage]:
        """All since the last call."""
        found, self._found = list(self._found.values()), {}
        return found

    def give_back(self, usages: Iterable[ServiceUsage]) -> None:
        """What was taken and could not be told."""
        for usage in usages:
            self._add(usage.service, cpu_s=usage.cpu_s, memory_mib=usage.memory_mib, answered=usage.answered)

    def _add(self, service: str, *, cpu_s: float = 0.0, memory_mib: float = 0.0, answered: int = 0) -> None:
        before = self._found.get(service, ServiceUsage(service=service))
        self._found[service] = ServiceUsage(
            service=service,
            cpu_s=before.cpu_s + cpu_s,
            memory_mib=max(before.memory_mib, memory_mib),
            answered=before.answered + answered,
        )
