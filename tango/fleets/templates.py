"""Services that bring a pod template: their figures are the template's where it has them, declared ones beside it where it has not.

A figure that nobody gives is a stated guess (`Service.assumed`) until it has been measured.
"""

from __future__ import annotations

import json
from typing import Any

from tango.domain.pod_templates import PodTemplate, canonical_template, default_container
from tango.domain.template_rules import problem_of, unknown_volume_of, written
from tango.errors import FileRefused
from tango.fleets.yaml_document import Readers, YamlMapping, YamlValue

ASSUMED_LC_WORK_S = 0.05
"""CPU-seconds of an LC request of which nobody knows: a page rendered, an image looked at."""
ASSUMED_BE_WORK_S = 60.0
"""CPU-seconds of a BE request of which nobody knows: a minute on a core."""
ASSUMED_CONCURRENCY = 8
"""Requests that an instance is taken to hold in its memory at once."""
ASSUMED_MEMORY_MIB = 512
"""Memory of an instance, or of the pod of a BE request, that names none."""
ADDED_CPU_REQUEST_MILLICORES = 100
ADDED_CPU_LIMIT_MILLICORES = 1000
"""Request and limit of CPU that a container without them gets, as a service without a template has them."""

NOT_BESIDE = {"image": "its containers have images", "extended": "its containers ask for extended resources"}
"""Keys of the short form that a service with a template cannot have, each with what says it there."""


def fields_with_template(keys: YamlMapping, readers: Readers, *, lc: bool) -> dict[str, Any]:
    """The fields of `Service` of a mapping with `template`; `readers` are those of the short form.

    Raises: FileRefused with file, line and the field's path for what Tango cannot run, and for figures that contradict the template.
    """
    for key, why in NOT_BESIDE.items():
        if key in keys.values:
            keys.values[key].refuse(f"nothing beside a template: {why}")
    declared: dict[str, Any] = keys.given({key: read for key, read in readers.items() if key not in NOT_BESIDE})
    allowed = keys.optional("allowLiteral", lambda v: [item.text() for item in v.items()], list[str]())
    container = keys.optional("container", YamlValue.text, "")
    value = keys.values["template"]
    body = keys.required("template", YamlValue.plain)
    keys.close()
    if problem := problem_of(body, lc=lc, container=container, allowed=allowed) or unknown_volume_of(body):
        place = value.at(problem.path).where
        raise FileRefused(f"{place}: {written(problem.path, value.key)} is {problem.found}, expected {problem.expected}")
    text = canonical_template(body)
    template = PodTemplate(json.loads(text), container or default_container(body))
    figures = _Figures(declared, keys, template)
    return {
        "template": text,
        "container": template.container,
        "allow_literal": tuple(sorted(allowed)),
        "image": str(template.main["image"]),
        "extended": template.extended,
        "port": figures.port(lc),
        "cpu_work_s": figures.guess("cpu_work_s", ASSUMED_LC_WORK_S if lc else ASSUMED_BE_WORK_S),
        **figures.cpu(),
        **(figures.instance_memory() if lc else figures.pod_memory()),
        **{key: declared[key] for key in _AS_DECLARED if key in declared},
        "assumed": tuple(sorted(figures.assumed)),
    }


_AS_DECLARED = (
    "cpu_work_cv",
    "target_ms",
    "shed_after_targets",
    "instances_per_node",
    "payload_kib",
    "namespace",
    "tls",
    "preserve_host",
    "tenant",
    "shared",
    "allowed_tenants",
    "never_evict",
    "never_resize",
    "startup_cpu_limit_millicores",
)
"""Fields that a template says nothing of."""


class _Figures:
    """The figures of one service with a template, and which of them are guesses."""

    def __init__(self, declared: dict[str, Any], keys: YamlMapping, template: PodTemplate) -> None:
        self._declared = declared
        self._keys = keys
        self._template = template
        self.assumed: list[str] = []

    def guess(self, key: str, value: Any) -> Any:
        """The declared figure, or this one, which is then assumed."""
        if key in self._declared:
            return self._declared[key]
        self.assumed.append(key)
        return value

    def port(self, lc: bool) -> int:
        """Where instances answer: declared, or the container's own."""
        found = self._declared.get("port") or self._template.port
        if found is None and lc:
            owner = self._keys.owner
            raise FileRefused(
                f"{owner.where}: {owner.key}.port is missing, expected the port at which container {self._template.container!r} answers, "
                "there or among its ports"
            )
        return int(found or 8080)

    def cpu(self) -> dict[str, int]:
        """CPU request and limit of the service's container, less than each other where one of them has to be added."""
        asked = self._template.asked
        request = self._one("cpu_request_millicores", asked.cpu_request_millicores, "requests.cpu")
        limit = self._one("cpu_limit_millicores", asked.cpu_limit_millicores, "limits.cpu")
        if limit is None:
            limit = max(ADDED_CPU_LIMIT_MILLICORES, 2 * (request or 0))
        if request is None:
            request = min(ADDED_CPU_REQUEST_MILLICORES, max(1, limit // 2))
        return {"cpu_request_millicores": request, "cpu_limit_millicores": limit}

    def instance_memory(self) -> dict[str, int]:
        """LC: memory limit of an instance's container, and what one request holds of it."""
        asked = self._template.asked
        limit = self._one("instance_memory_mib", asked.memory_limit_mib, "limits.memory") or asked.memory_request_mib
        if limit is None:
            limit = self.guess("instance_memory_mib", ASSUMED_MEMORY_MIB)
        return {"instance_memory_mib": limit, "memory_mib": self.guess("memory_mib", max(1, limit // ASSUMED_CONCURRENCY))}

    def pod_memory(self) -> dict[str, int]:
        """BE: memory request of the whole pod."""
        asked = self._template.asked
        own = asked.memory_request_mib or asked.memory_limit_mib
        beside = self._template.beside(0, own or 0)[1]
        if own is None:
            whole = self.guess("memory_mib", ASSUMED_MEMORY_MIB + beside)
            if whole <= beside:
                self._keys.values["memory_mib"].refuse(f"more than the {beside} MiB that the pod's other containers request")
            return {"memory_mib": whole}
        self._one("memory_mib", own + beside, "requests.memory of all containers")
        return {"memory_mib": own + beside}

    def _one(self, key: str, of_template: int | None, field: str) -> int | None:
        """The template's figure, or the declared one where it has none. Raises: FileRefused where they differ."""
        declared = self._declared.get(key)
        if declared is not None and of_template is not None and declared != of_template:
            self._keys.values[key].refuse(f"{of_template}, the template's {field}, or nothing")
        return of_template if of_template is not None else declared
