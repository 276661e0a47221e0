"""Services whose instances are pods of somebody else's Deployment: reading `adopt` of a service document."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tango.domain.services import Adoption
from tango.errors import FileRefused
from tango.fleets.templates import ASSUMED_CONCURRENCY, ASSUMED_LC_WORK_S, ASSUMED_MEMORY_MIB
from tango.fleets.yaml_document import Readers, YamlMapping, YamlValue

# k8s.io/apimachinery pkg/labels: requirements with `=`, `==`, `!=`, `in`, `notin`, a key alone, or `!key`.
_KEY = r"([a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?/)?[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?"
_VALUE = r"([a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?)?"
_REQUIREMENT = rf"(!?{_KEY}|{_KEY}\s*(=|==|!=)\s*{_VALUE}|{_KEY}\s+(in|notin)\s+\(\s*{_VALUE}(\s*,\s*{_VALUE})*\s*\))"
_SELECTOR = re.compile(rf"\s*{_REQUIREMENT}(\s*,\s*{_REQUIREMENT})*\s*")
_LABEL_VALUE = re.compile(rf"(?=.{{1,63}}$){_VALUE}")

NOT_BESIDE = {
    "image": "the pods are there already",
    "extended": "the pods are there already",
    "instances_per_node": "their owner says how many there are",
    "port": "it stands in adopt",
    "namespace": "it stands in adopt",
    "container": "it stands in adopt",
    "template": "a service's pods are its own or adopted",
}


def fields_with_adoption(keys: YamlMapping, readers: Readers, *, lc: bool) -> dict[str, Any]:
    """The fields of `Service` of a mapping with `adopt`; `readers` are those of the short form.

    Raises: FileRefused with file, line and key.
    """
    if not lc:
        keys.values["adopt"].refuse(
            "class lc beside it: pods that stand by themselves answer requests, they run no jobs", found="given"
        )
    for key, why in NOT_BESIDE.items():
        if key in keys.values:
            keys.values[key].refuse(f"nothing beside adopt: {why}")
    declared: dict[str, Any] = keys.given({key: read for key, read in readers.items() if key not in NOT_BESIDE})
    adopt = keys.required("adopt", YamlValue.mapping)
    keys.close()
    port = adopt.required("port", lambda v: v.integer(1, 65535))
    adoption = Adoption(
        namespace=adopt.required("namespace", YamlValue.label),
        selector=adopt.required("selector", _selector),
        container=adopt.optional("container", YamlValue.text, ""),
        resize=adopt.optional("resize", YamlValue.boolean, False),
    )
    adopt.close()
    memory_mib = declared.get("instance_memory_mib", ASSUMED_MEMORY_MIB)
    guesses = {
        "cpu_work_s": ASSUMED_LC_WORK_S,
        "instance_memory_mib": ASSUMED_MEMORY_MIB,
        "memory_mib": max(1, memory_mib // ASSUMED_CONCURRENCY),
    }
    assumed = tuple(sorted(guesses.keys() - declared.keys()))
    if adoption.resize and "cpu_limit_millicores" not in declared:
        raise FileRefused(
            f"{keys.owner.where}: {keys.owner.key}.cpu_limit_millicores is missing, expected the CPU limit that a pod has of its owner, "
            "since adopt.resize moves it"
        )
    return {**guesses, **declared, "port": port, "adopt": adoption, "image": "", "assumed": assumed}


def adoption_document(adoption: Adoption, port: int) -> dict[str, object]:
    """The mapping that `fields_with_adoption` reads the same adoption from."""
    found: dict[str, object] = {"namespace": adoption.namespace, "selector": adoption.selector, "port": port}
    if adoption.container:
        found["container"] = adoption.container
    return found | ({"resize": True} if adoption.resize else {})


def _selector(value: YamlValue) -> str:
    """A label selector as a text, or a mapping of labels that must all be equal. One that selects everything is refused."""
    text = value.scalar()
    if isinstance(text, str) and _SELECTOR.fullmatch(text):
        return text.strip()
    if isinstance(value.node, yaml.MappingNode) and (found := value.mapping().values):
        labels = {key: item.scalar() for key, item in found.items()}
        for key, label in labels.items():
            if not re.fullmatch(_KEY, key) or not isinstance(label, str) or not _LABEL_VALUE.fullmatch(label):
                found[key].refuse("labels with texts as values, such as app: my-api")
        return ",".join(f"{key}={label}" for key, label in sorted(labels.items()))
    value.refuse("a label selector such as app=my-api, or labels such as {app: my-api}")
