"""What the pods of a service really use: CPU-seconds of its requests and memory, from metrics.k8s.io, for figures that nobody has declared.

An LC instance's usage is added up over time; the centre divides by how many requests were answered meanwhile. Its memory is a sample beside
the requests that it has in flight then. A BE pod's own mean usage times the time that it ran is the work of its request; one that ended
before it was measured says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tango.domain.memory_by_load import NO_SAMPLES, MeasuredInstance, MemoryByLoad
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
    memory: MeasuredInstance = field(default_factory=MeasuredInstance)


class ServiceMeter:
    """Usage of the services of one cluster since it was last taken. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._pods: dict[str, _Pod] = {}
        """Pods as they were read last, by uid."""
        self._found: dict[str, ServiceUsage] = {}

    def read(
        self,
        pods: Iterable[tuple[Service, Json]],
        usage: Mapping[tuple[str, str], Json],
        now_s: float,
        in_flight: Mapping[tuple[str, str], float] | None = None,
    ) -> None:
        """Add a reading: pods with their services, and the PodMetrics of each by (namespace, name).

        `in_flight`: LC requests by (service, node), which the instances there share evenly; None: not known.
        """
        seen: dict[str, _Pod] = {}
        there = list(pods)
        at_node = Counter((service.name, _node_of(pod)) for service, pod in there)
        for service, pod in there:
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
            if in_flight is not None and service.target_ms is not None:
                where = service.name, _node_of(pod)
                self._sample(service, at.memory, found, in_flight.get(where, 0.0) / at_node[where])
        self._pods = seen

    def _sample(self, service: Service, instance: MeasuredInstance, found: Json, load: float) -> None:
        """The memory of the container that answers; once for each figure of the metrics' server, which has a new one every 10 to 15 s."""
        measured_at = str(found.get("timestamp") or "")
        if measured_at and measured_at == instance.read_at:
            return
        instance.read_at = measured_at
        own = service.adopt.container if service.adopt is not None else service.container
        containers = found.get("containers") or []
        counted = [c for c in containers if c.get("name") == own] or containers
        memory_mib = sum(float(parse_quantity((c.get("usage") or {}).get("memory", 0))) for c in counted) / 2**20
        self._add(service.name, by_load=instance.sample(load, memory_mib))

    def ended(self, service: str, end: PodEnd) -> None:
        """A BE pod has ended; one that did its work counts as a request."""
        at = self._pods.pop(end.uid, None)
        if end.phase != "Succeeded" or end.started_at_s is None or end.finished_at_s is None:
            return
        ran_s = end.finished_at_s - end.started_at_s
        if at is not None and at.over_s > 0:  # taken away with the first telling of it, so that it counts once
            self._add(service, cpu_s=at.cores_s / at.over_s * ran_s, answered=1)

    def take(self) -> Sequence[ServiceUsage]:
        """What was measured since the last call, which is then forgotten here."""
        found, self._found = list(self._found.values()), {}
        return found

    def give_back(self, usages: Iterable[ServiceUsage]) -> None:
        """What was taken and could not be told."""
        for usage in usages:
            self._add(usage.service, cpu_s=usage.cpu_s, memory_mib=usage.memory_mib, answered=usage.answered, by_load=usage.by_load)

    def _add(
        self, service: str, *, cpu_s: float = 0.0, memory_mib: float = 0.0, answered: int = 0, by_load: MemoryByLoad = NO_SAMPLES
    ) -> None:
        before = self._found.get(service, ServiceUsage(service=service))
        self._found[service] = ServiceUsage(
            service=service,
            cpu_s=before.cpu_s + cpu_s,
            memory_mib=max(before.memory_mib, memory_mib),
            answered=before.answered + answered,
            by_load=before.by_load + by_load,
        )


def _node_of(pod: Json) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")
