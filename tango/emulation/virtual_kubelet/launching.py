"""What a container's specification means for a local process: words of its command, its environment, its folder, and where its volumes lie.

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
from tango.emulation.references import OF_ENVIRONMENT, OF_VARIABLE, Sources
from tango.emulation.virtual_kubelet.pod_place import CannotStart, PodPlace
from tango.emulation.virtual_kubelet.volumes import mounted, source_of

Json = Mapping[str, Any]

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SHELL", "TMPDIR")
"""Variables that a process has of the kubelet's own environment: none of Tango's, which have passwords in them."""
UMASK = 0o022
"""As in a container, whatever the kubelet's own: images count on it."""
_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process to be started."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    termination_log: Path
    """File whose content becomes the container's termination message."""


def launch_of(container: Json, pod: Json, place: PodPlace, sources: Sources) -> Launch:
    """The process of a container; writes the files of the volumes that it mounts.

    A volume of a ConfigMap or Secret, projected or empty, is a folder of the pod's, and its mount path is replaced by that folder's
    wherever it stands in the container's words and variables. `sources`: the ConfigMaps and Secrets that the pod refers to.

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
    moved = mounted(container, pod, place, sources)
    termination_log = place.files / f"{name}.termination"
    moved[str(container.get("terminationMessagePath") or "/dev/termination-log")] = str(termination_log)
    told = {"HOST": place.ip, "PORT": str(place.port), "POD_IP": place.ip, "TANGO_TERMINATION_LOG": str(termination_log)}
    environment = _environment(container, pod, place, told=told, moved=moved, sources=sources)
    words = (*container["command"], *(container.get("args") or []))
    return Launch(
        argv=tuple(_moved(_expanded(word, environment), moved) for word in words),
        environment=environment,
        folder=Path(container.get("workingDir") or place.folder),
        termination_log=termination_log,
    )


def _environment(
    container: Json, pod: Json, place: PodPlace, *, told: Mapping[str, str], moved: Mapping[str, str], sources: Sources
) -> dict[str, str]:
    found = {name: os.environ[name] for name in INHERITED if name in os.environ}
    found |= told
    for source in container.get("envFrom") or []:
        for kind, resource in OF_ENVIRONMENT:
            if kind in source and (data := source_of((resource, str(source[kind].get("name"))), source[kind], sources)) is not None:
                # Since Kubernetes 1.34 any key that has no equals sign is a name.
                names = {f"{source.get('prefix') or ''}{key}": _text(value) for key, value in data.items() if "=" not in key}
                found |= {name: _moved(value, moved) for name, value in names.items()}
    for variable in container.get("env") or []:
        source = variable.get("valueFrom")
        value = (
            _expanded(variable.get("value") or "", found) if source is None else _referred(source, container, pod, place, sources)
        )
        if value is not None:
            found[variable["name"]] = _moved(value, moved)
    return found


def _referred(source: Json, container: Json, pod: Json, place: PodPlace, sources: Sources) -> str | None:
    """The value of `valueFrom`; None for an optional one that is not there."""
    if "fieldRef" in source:
        return _field(str(source["fieldRef"].get("fieldPath", "")), pod, place)
    if "resourceFieldRef" in source:
        return _resource(source["resourceFieldRef"], container)
    for kind, resource in OF_VARIABLE:
        if kind in source:
            reference = (resource, str(source[kind].get("name")))
            data, key = source_of(reference, source[kind], sources), str(source[kind].get("key"))
            if data is None or (key not in data and source[kind].get("optional")):
                return None
            if key not in data:
                shown = {"configmaps": "ConfigMap", "secrets": "Secret"}[resource]
                where = f"{pod['metadata'].get('namespace', 'default')}/{reference[1]}"
                raise CannotStart("CreateContainerConfigError", f"couldn't find key {key} in {shown} {where}", again=True)
            return _text(data[key])
    return None


def _text(value: bytes) -> str:
    """The text as an environment variable can hold it: up to the first zero byte."""
    return value.partition(b"\0")[0].decode(errors="replace")


def _moved(text: str, moved: Mapping[str, str]) -> str:
    """A text in which paths that lie elsewhere here are replaced, the longest first, and whole names alone."""
    for path, place in sorted(moved.items(), key=lambda pair: -len(pair[0])):
        text = re.sub(re.escape(path.rstrip("/")) + r"(?![\w.-])", lambda _, place=place: place, text)  # type: ignore[misc]
    return text


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
