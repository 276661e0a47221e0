"""Whether objects are what the API of Kubernetes takes: checked against the models of the official client, strictly.

The server drops fields that it does not know, with a warning that few see; a probe whose name is mistyped is no probe. So every field has
to be one of its model, of the model's type, and what a model requires has to be there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kubernetes.client import models

KINDS = {
    "v1": ("ConfigMap", "Namespace", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount"),
    "apps/v1": ("DaemonSet", "Deployment", "StatefulSet"),
    "batch/v1": ("CronJob", "Job"),
    "networking.k8s.io/v1": ("Ingress", "NetworkPolicy"),
    "policy/v1": ("PodDisruptionBudget",),
    "rbac.authorization.k8s.io/v1": ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
    "scheduling.k8s.io/v1": ("PriorityClass",),
}
"""What is known here, by apiVersion."""
PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float), "bytearray": str, "bytes": str, "datetime": str}
QUANTITY = re.compile(r"^[0-9]+(\.[0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?$")


def mistakes(document: Mapping[str, Any]) -> list[str]:
    """What is wrong with an object, each with its path; empty where nothing is."""
    version, kind = str(document.get("apiVersion")), str(document.get("kind"))
    if kind not in KINDS.get(version, ()):
        return [f"{version} {kind} is no kind that is known here"]
    name = document.get("metadata", {}).get("name", "")
    return [f"{kind} {name}{path}: {what}" for path, what in _of_model(document, f"V1{kind}", "")]


def _of_model(value: Any, model_name: str, path: str) -> Iterator[tuple[str, str]]:
    model = getattr(models, model_name)
    if not isinstance(value, Mapping):
        yield path, f"is {type(value).__name__}, expected an object ({model_name})"
        return
    by_key = {key: attribute for attribute, key in model.attribute_map.items()}
    for key, found in value.items():
        if key not in by_key:
            yield f"{path}.{key}", f"is no field of {model_name}"
        else:
            yield from _of_type(found, model.openapi_types[by_key[key]], f"{path}.{key}")
    for attribute, field in model.model_fields.items():
        key = model.attribute_map.get(attribute, attribute)
        if field.is_required() and value.get(key) is None:
            yield f"{path}.{key}", f"is missing, {model_name} requires it"


def _of_type(value: Any, kind: str, path: str) -> Iterator[tuple[str, str]]:
    if found := re.match(r"list\[(.*)\]$", kind, re.IGNORECASE):
        if not isinstance(value, list):
            yield path, f"is {type(value).__name__}, expected a list"
            return
        for k, each in enumerate(value):
            yield from _of_type(each, found[1], f"{path}[{k}]")
    elif found := re.match(r"dict[\[(]str, *(.*)[\])]$", kind, re.IGNORECASE):
        if not isinstance(value, Mapping):
            yield path, f"is {type(value).__name__}, expected a mapping"
            return
        for key, each in value.items():
            yield from _of_type(each, found[1], f"{path}.{key}")
            if path.endswith((".requests", ".limits")) and not QUANTITY.match(str(each)):
                yield f"{path}.{key}", f"is {each!r}, expected a quantity"
    elif kind in PLAIN:
        expected = PLAIN[kind]
        if not isinstance(value, expected) or (kind == "int" and isinstance(value, bool)):
            yield path, f"is {value!r}, expected {kind}"
    elif kind != "object":
        yield from _of_model(value, kind, path)
