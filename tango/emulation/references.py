"""Which ConfigMaps and Secrets a pod refers to: those that its kubelet reads, and no others may it read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]
Reference = tuple[str, str]
"""(`configmaps` or `secrets`, name)"""
Sources = Mapping[Reference, Json | None]
"""What was found of each; None: there is no such object."""
KINDS = {"configmaps": "configmap", "secrets": "secret"}
"""In the words of a kubelet."""
OF_VARIABLE = (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets"))
OF_ENVIRONMENT = (("configMapRef", "configmaps"), ("secretRef", "secrets"))
OF_VOLUME = (("configMap", "configmaps", "name"), ("secret", "secrets", "secretName"))


def references_of(spec: Json) -> set[Reference]:
    """All of a pod's spec: environment of all containers, volumes (projected ones too), secrets to pull images with."""
    found: set[Reference] = set()
    for part in ("initContainers", "containers"):
        for container in spec.get(part) or []:
            found.update(references_of_container(container))
    for volume in spec.get("volumes") or []:
        found.update(reference for reference, _ in references_of_volume(volume))
    found.update(("secrets", str(one.get("name"))) for one in spec.get("imagePullSecrets") or [])
    return found


def references_of_container(container: Json) -> Iterator[Reference]:
    """ConfigMaps and Secrets that a container's environment refers to."""
    for source in container.get("envFrom") or []:
        for key, resource in OF_ENVIRONMENT:
            if key in source:
                yield resource, str(source[key].get("name"))
    for variable in container.get("env") or []:
        for key, resource in OF_VARIABLE:
            if key in (variable.get("valueFrom") or {}):
                yield resource, str(variable["valueFrom"][key].get("name"))


def references_of_volume(volume: Json) -> Iterator[tuple[Reference, Json]]:
    """ConfigMaps and Secrets that a volume refers to, each with the part of the volume that says which keys."""
    for key, resource, name in OF_VOLUME:
        if key in volume:
            yield (resource, str(volume[key].get(name))), volume[key]
    for source in (volume.get("projected") or {}).get("sources") or []:
        for key, resource, _ in OF_VOLUME:
            if key in source:
                yield (resource, str(source[key].get("name"))), source[key]


def data_of(reference: Reference, found: Json) -> dict[str, bytes]:
    """The values of a ConfigMap or a Secret by key."""
    plain = {} if reference[0] == "secrets" else found.get("data") or {}
    coded = found.get("data" if reference[0] == "secrets" else "binaryData") or {}
    return {key: str(value).encode() for key, value in plain.items()} | {key: base64.b64decode(v) for key, v in coded.items()}


def is_base64(text: str) -> bool:
    """Whether a text is base64 as Secrets have it."""
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
