"""Pod templates: what a service's pods are made of, a Kubernetes PodTemplateSpec as JSON text.

    declared YAML ─► canonical text in `Service.template` ─► `template_of` ─► manifests, sizes, checks (`template_rules`)

The text is canonical (keys sorted, nulls left out), so that two declarations that say the same are equal and can be hashed. One container
is the service's: it is the one that is resized, that answers requests, and whose exit code ends a job. All others are kept as they are.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tango.domain.quantities import Amounts, cpu_millicores, extended_amounts, memory_mib

Json = Mapping[str, Any]

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
"""Annotation by which people name the container that tools mean; Kubernetes' own."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a pod or container asks of its node; None: not said."""

    cpu_request_millicores: int | None
    cpu_limit_millicores: int | None
    memory_request_mib: int | None
    memory_limit_mib: int | None


@dataclass(frozen=True, slots=True, eq=False)
class PodTemplate:
    """A template with the name of the service's container. `body` is shared: read it, never change it."""

    body: Json
    container: str

    @property
    def spec(self) -> Json:
        """The PodSpec."""
        found: Json = self.body["spec"]
        return found

    @property
    def main(self) -> Json:
        """The service's container. Raises: KeyError for a name that no container has."""
        for container in self.spec["containers"]:
            if container["name"] == self.container:
                return container  # type: ignore[no-any-return]
        raise KeyError(self.container)

    @property
    def asked(self) -> Asked:
        """What the service's container asks for."""
        return _asked(self.main)

    @property
    def extended(self) -> Amounts:
        """Extended resources that all containers ask for together."""
        total: dict[str, int] = {}
        for container in self.spec["containers"]:
            for name, amount in extended_amounts(_resources(container)):
                total[name] = total.get(name, 0) + amount
        return tuple(sorted(total.items()))

    @property
    def port(self) -> int | None:
        """The port of the service's container: the one named `http`, else its first; None if it names none."""
        ports = self.main.get("ports") or []
        named = [p for p in ports if p.get("name") == "http"] or ports
        return int(named[0]["containerPort"]) if named else None

    def beside(self, cpu_request_millicores: int, memory_request_mib: int) -> tuple[int, int]:
        """(millicores, MiB) that the pod requests beyond its service's container, which requests this much.

        Source: Kubernetes, "Resource sharing within containers" of init containers and sidecars: the larger of what runs together at the
        end and of what any init container needs beside the sidecars before it; `overhead` on top.
        """
        if len(self.spec["containers"]) == 1 and not self.spec.get("initContainers") and not self.spec.get("overhead"):
            return 0, 0
        own = (cpu_request_millicores, memory_request_mib)
        together, init_most, sidecars = [0, 0], [0, 0], [0, 0]
        for container in self.spec["containers"]:
            _add(together, own if container["name"] == self.container else _requests(container))
        for container in self.spec.get("initContainers") or []:
            asked = _requests(container)
            if container.get("restartPolicy") == "Always":
                _add(sidecars, asked)
                needed = tuple(sidecars)
            else:
                needed = tuple(a + b for a, b in zip(asked, sidecars, strict=True))
            init_most = [max(a, b) for a, b in zip(init_most, needed, strict=True)]
        _add(together, tuple(sidecars))
        overhead = self.spec.get("overhead") or {}
        more = (cpu_millicores(overhead.get("cpu", 0)), memory_mib(overhead.get("memory", 0)))
        whole = [max(a, b) + c for a, b, c in zip(together, init_most, more, strict=True)]
        return whole[0] - own[0], whole[1] - own[1]


@functools.lru_cache(maxsize=1024)
def template_of(text: str, container: str = "") -> PodTemplate:
    """The template of a canonical text, parsed once. Raises: ValueError for a text that is no JSON."""
    body = json.loads(text)
    return PodTemplate(body, container or default_container(body))


def default_container(body: Json) -> str:
    """The container that the template itself names as its default, else the first one's name; empty where there is none."""
    named = ((body.get("metadata") or {}).get("annotations") or {}).get(DEFAULT_CONTAINER, "")
    containers = (body.get("spec") or {}).get("containers") or []
    first = containers[0].get("name", "") if containers and isinstance(containers[0], Mapping) else ""
    return str(named or first)


def canonical_template(body: Json) -> str:
    """The text of a template: keys sorted and nulls left out, which tools write and nobody means."""
    return json.dumps(_without_nulls(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def all_containers(spec: Json) -> Iterator[tuple[str, int, Json]]:
    """(key of the list, index, container) of every container and init container."""
    for key in ("containers", "initContainers"):
        for k, container in enumerate(spec.get(key) or []):
            yield key, k, container


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
    return value


def _resources(container: Json) -> dict[str, Any]:
    """Requests of a container; what is limited alone is requested as much."""
    resources = container.get("resources") or {}
    return {**(resources.get("limits") or {}), **(resources.get("requests") or {})}


def _asked(container: Json) -> Asked:
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    return Asked(
        cpu_request_millicores=cpu_millicores(requests["cpu"]) if "cpu" in requests else None,
        cpu_limit_millicores=cpu_millicores(limits["cpu"]) if "cpu" in limits else None,
        memory_request_mib=memory_mib(requests["memory"]) if "memory" in requests else None,
        memory_limit_mib=memory_mib(limits["memory"]) if "memory" in limits else None,
    )


def _requests(container: Json) -> tuple[int, ...]:
    found = _resources(container)
    return cpu_millicores(found.get("cpu", 0)), memory_mib(found.get("memory", 0))


def _add(total: list[int], more: tuple[int, ...]) -> None:
    for k, amount in enumerate(more):
        total[k] += amount
