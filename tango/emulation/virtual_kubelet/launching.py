"""What a container's specification means for a local process: words of its command, its environment, its folder. Pure functions.

Source of the rules: Kubernetes documentation, "Define a Command and Arguments for a Container", "Define Dependent Environment Variables",
"Expose Pod Information to Containers Through Environment Variables".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tango.domain.pod_marks import COMMAND_FROM
from tango.domain.quantities import cpu_millicores, parse_quantity

Json = Mapping[str, Any]

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SHELL", "TMPDIR")
"""Variables that a process has of the kubelet's own environment: none of Tango's, which have passwords in them."""
_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")


class CannotStart(Exception):
    """A container cannot be started as it is; `reason` is that of its waiting state."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPlace:
    """Where a pod runs here."""

    ip: str
    port: int
    """At which its instance answers, told as PORT."""
    folder: Path
    """In which its processes start, unless they name another."""
    files: Path
    """Of its logs and termination messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process to be started."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    termination_log: Path
    """File whose content becomes the container's termination message."""


def launch_of(container: Json, pod: Json, place: PodPlace) -> Launch:
    """The process of a container.

    Beside its own variables it has HOST and PORT (where to listen), POD_IP, and TANGO_TERMINATION_LOG. Its termination message path is
    replaced by that file wherever it stands in its words and variables, since `/dev/termination-log` is one file for the whole machine.
    Raises: CannotStart for an image without a command, and for what a plain process cannot have.
    """
    name = str(container["name"])
    if not container.get("command"):
        image = container.get("image", "")
        raise CannotStart(
            "ErrImagePull", f"image {image!r} is not pulled: local processes run a command, and container {name!r} has none"
        )
    if (pod["metadata"].get("annotations") or {}).get(COMMAND_FROM) == "caller":
        raise CannotStart(
            "CreateContainerConfigError", "a caller's own command is not run as a local process: it would not be isolated"
        )
    for mount in container.get("volumeMounts") or []:
        if not _is_there(mount, pod):
            raise CannotStart(
                "CreateContainerConfigError",
                f"volume {mount.get('name')!r} is not mounted: a local process sees the machine's own files",
            )
    termination_log = place.files / f"{name}.termination"
    environment = _environment(container, pod, place, termination_log)
    words = (*container["command"], *(container.get("args") or []))
    stated = str(container.get("terminationMessagePath") or "/dev/termination-log")
    return Launch(
        argv=tuple(_expanded(word, environment).replace(stated, str(termination_log)) for word in words),
        environment=environment,
        folder=Path(container.get("workingDir") or place.folder),
        termination_log=termination_log,
    )


def _environment(container: Json, pod: Json, place: PodPlace, termination_log: Path) -> dict[str, str]:
    found = {name: os.environ[name] for name in INHERITED if name in os.environ}
    found |= {"HOST": place.ip, "PORT": str(place.port), "POD_IP": place.ip, "TANGO_TERMINATION_LOG": str(termination_log)}
    for source in container.get("envFrom") or []:
        for key in ("configMapRef", "secretRef"):
            if key in source and not source[key].get("optional"):
                raise CannotStart("CreateContainerConfigError", _no_reference(source[key].get("name")))
    stated = str(container.get("terminationMessagePath") or "/dev/termination-log")
    for variable in container.get("env") or []:
        source = variable.get("valueFrom")
        value = _expanded(variable.get("value") or "", found) if source is None else _referred(source, container, pod, place)
        if value is not None:
            found[variable["name"]] = value.replace(stated, str(termination_log))
    return found


def _referred(source: Json, container: Json, pod: Json, place: PodPlace) -> str | None:
    """The value of `valueFrom`; None for an optional one that is not there."""
    if "fieldRef" in source:
        return _field(str(source["fieldRef"].get("fieldPath", "")), pod, place)
    if "resourceFieldRef" in source:
        return _resource(source["resourceFieldRef"], container)
    for key in ("configMapKeyRef", "secretKeyRef"):
        if key in source and not source[key].get("optional"):
            raise CannotStart("CreateContainerConfigError", _no_reference(source[key].get("name")))
    return None


def _no_reference(name: object) -> str:
    return f"{name!r} is not read: a local process gets no ConfigMaps and Secrets; give literal values, or run on a real cluster"


def _field(path: str, pod: Json, place: PodPlace) -> str:
    metadata, spec = pod["metadata"], pod["spec"]
    found = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if found:
        return str((metadata.get(found[1]) or {}).get(found[2], ""))
    fields = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace", ""),
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": place.ip,
        "status.podIPs": place.ip,
        "status.hostIP": "127.0.0.1",
    }
    if path not in fields:
        raise CannotStart("CreateContainerConfigError", f"field {path!r} is not known here")
    return str(fields[path])


def _resource(wanted: Json, container: Json) -> str:
    """A request or limit in units of its divisor, rounded up; 0 for one that is not given."""
    part, _, name = str(wanted.get("resource", "")).partition(".")
    amount = ((container.get("resources") or {}).get(part) or {}).get(name, 0)
    divisor = parse_quantity(wanted.get("divisor") or 1) or 1
    if name == "cpu":
        return str(-(-cpu_millicores(amount) // int(divisor * 1000)))
    return str(int(-(-parse_quantity(amount) // divisor)))


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by the variable's value, `$$` by `$`; what there is not stays as it stands."""
    return _REFERENCE.sub(lambda m: "$" if m[0] == "$$" else environment.get(m[1], m[0]), text)


def _is_there(mount: Json, pod: Json) -> bool:
    """Whether a mount is what the machine has at that place anyway: a hostPath under its own path."""
    volumes = {v.get("name"): v for v in pod["spec"].get("volumes") or []}
    path = (volumes.get(mount.get("name"), {}).get("hostPath") or {}).get("path")
    return path is not None and Path(path) == Path(str(mount.get("mountPath", ""))) and not mount.get("subPath")
