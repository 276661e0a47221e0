"""What a pod template may not say, each with the field's path, what was found, what is expected.

Three kinds: what is no PodTemplateSpec at all (a misspelt field would be dropped by an API server in silence), what Tango owns (where a pod
runs, what it is called, how it ends), and what Tango cannot honour (ports of the host, preferences among nodes, a Guaranteed pod, whose
CPU cannot move). All else is left to the API server, which knows its own version.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tango.domain.literal_secrets import literal_secrets
from tango.domain.near_names import near_name
from tango.domain.pod_marks import MANAGED_BY, OWNED
from tango.domain.pod_templates import Json, all_containers, default_container
from tango.domain.quantities import parse_quantity

SCHEDULER = "tango"
"""`schedulerName` of every pod, so that the cluster's own scheduler leaves it alone."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Of Kubernetes 1.37, without what only a server writes.
_METADATA = _names("annotations creationTimestamp labels")
_POD = _names(
    "activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig dnsPolicy enableServiceLinks hostAliases hostIPC "
    "hostNetwork hostPID hostUsers hostname hostnameOverride imagePullSecrets initContainers nodeName nodeSelector os overhead "
    "preemptionPolicy priority priorityClassName readinessGates resourceClaims resources restartPolicy runtimeClassName schedulerName "
    "schedulingGates schedulingGroup securityContext serviceAccount serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain "
    "terminationGracePeriodSeconds tolerations topologySpreadConstraints volumes"
)
_CONTAINER = _names(
    "args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe resizePolicy resources "
    "restartPolicy restartPolicyRules securityContext startupProbe stdin stdinOnce terminationMessagePath terminationMessagePolicy tty "
    "volumeDevices volumeMounts workingDir"
)
_AFFINITY = _names("nodeAffinity podAffinity podAntiAffinity")

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class TemplateProblem:
    """The first thing in a template that cannot stay."""

    path: Path
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{written(self.path)} is {self.found}, expected {self.expected}"


def written(path: Path, root: str = "spec.template") -> str:
    """A field's path as people write it: `spec.template.spec.containers[0].env[2].value`; `root` is the template's own."""
    text = root
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if "/" not in part else f"[{part!r}]"
    return text


def problem_of(template: Any, *, lc: bool, container: str = "", allowed: Collection[str] = ()) -> TemplateProblem | None:
    """The first problem of a template, None for one that Tango can run.

    `lc`: whether instances are made of it, or pods of BE requests. `container`: the service's, empty for the default one. `allowed`: names
    of environment variables that may have literal values although they look like secrets.
    """
    shape = next(_shape(template), None)
    return shape if shape is not None else next(_rules(template, lc, container or default_container(template), allowed), None)


def unknown_volume_of(template: Json) -> TemplateProblem | None:
    """The first mount of a template without a `problem_of` that names none of its volumes: no API server takes such a pod.

    Not one of the rules of `problem_of`, by which services that were declared earlier are read from the store again.
    """
    spec = template["spec"]
    declared = spec.get("volumes")
    volumes = [str(volume.get("name")) for volume in declared if isinstance(volume, Mapping)] if isinstance(declared, list) else []
    for key, k, container in all_containers(spec):
        for mounts in ("volumeMounts", "volumeDevices"):
            for m, mount in enumerate(container.get(mounts) or []):
                name = mount.get("name")
                if name not in volumes:
                    among = f"spec.volumes has {', '.join(volumes)}" if volumes else "spec.volumes has none"
                    near = near_name(str(name), volumes)
                    return TemplateProblem(("spec", key, k, mounts, m, "name"), _told(name), f"the name of a volume{near}; {among}")
    return None


def _shape(template: Any) -> Iterator[TemplateProblem]:
    """What is read below has the type that is expected there."""
    if not isinstance(template, Mapping):
        yield TemplateProblem((), _told(template), "a PodTemplateSpec: metadata and spec")
        return
    yield from _unknown((), template, frozenset({"metadata", "spec"}))
    metadata = template.get("metadata") or {}
    yield from _mapping(("metadata",), metadata)
    yield from _unknown(("metadata",), metadata, _METADATA)
    for key in ("labels", "annotations"):
        found = metadata.get(key) or {}
        yield from _mapping(("metadata", key), found)
        for name, value in found.items():
            if not isinstance(value, str):
                yield TemplateProblem(("metadata", key, name), _told(value), "a text; put it in quotes")
    spec = template.get("spec")
    yield from _mapping(("spec",), spec)
    assert isinstance(spec, Mapping)
    yield from _unknown(("spec",), spec, _POD)
    for key in ("containers", "initContainers"):
        listed = spec.get(key) or []
        if not isinstance(listed, list) or (key == "containers" and not listed):
            yield TemplateProblem(("spec", key), _told(listed), "a list of containers")
        for k, container in enumerate(listed):
            yield from _container_shape(("spec", key, k), container)
    for key in ("tolerations", "topologySpreadConstraints", "schedulingGates"):
        if not isinstance(spec.get(key) or [], list):
            yield TemplateProblem(("spec", key), _told(spec[key]), "a list")
    for key in ("nodeSelector", "affinity", "overhead"):
        yield from _mapping(("spec", key), spec.get(key) or {})
    grace = spec.get("terminationGracePeriodSeconds", 30)
    if isinstance(grace, bool) or not isinstance(grace, int) or grace < 0:
        yield TemplateProblem(("spec", "terminationGracePeriodSeconds"), _told(grace), "whole seconds, 0 or more")


def _container_shape(at: Path, container: Any) -> Iterator[TemplateProblem]:
    yield from _mapping(at, container)
    yield from _unknown(at, container, _CONTAINER)
    for key in ("name", "image"):
        if not isinstance(container.get(key), str) or not container[key]:
            yield TemplateProblem((*at, key), _told(container.get(key)), "a text")
    for key in ("command", "args"):
        words = container.get(key) or []
        if not isinstance(words, list):
            yield TemplateProblem((*at, key), _told(words), "a list of texts")
        for k, word in enumerate(words):
            if not isinstance(word, str):
                yield TemplateProblem((*at, key, k), _told(word), "a text; put it in quotes")
    for key in ("env", "ports", "envFrom", "resizePolicy", "volumeMounts", "volumeDevices"):
        listed = container.get(key) or []
        if not isinstance(listed, list):
            yield TemplateProblem((*at, key), _told(listed), "a list")
        for k, item in enumerate(listed):
            yield from _mapping((*at, key, k), item)
    yield from _variables_and_ports(at, container)
    yield from _quantities((*at, "resources"), container.get("resources") or {})


def _variables_and_ports(at: Path, container: Json) -> Iterator[TemplateProblem]:
    for k, variable in enumerate(container.get("env") or []):
        if not isinstance(variable.get("name"), str) or not variable["name"]:
            yield TemplateProblem((*at, "env", k, "name"), _told(variable.get("name")), "the variable's name")
        if not isinstance(variable.get("value") or "", str):
            yield TemplateProblem((*at, "env", k, "value"), _told(variable["value"]), "a text; put it in quotes")
    for k, port in enumerate(container.get("ports") or []):
        number = port.get("containerPort")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 65536:
            yield TemplateProblem((*at, "ports", k, "containerPort"), _told(number), "a port from 1 to 65535")


def _quantities(at: Path, resources: Any) -> Iterator[TemplateProblem]:
    yield from _mapping(at, resources)
    for part in ("requests", "limits"):
        held = resources.get(part) or {}
        yield from _mapping((*at, part), held)
        for name, amount in held.items():
            try:
                is_amount = parse_quantity(amount) >= 0
            except ValueError:
                is_amount = False
            if not is_amount:
                yield TemplateProblem((*at, part, name), _told(amount), "a quantity such as 500m, 2 or 64Mi")


def _rules(template: Json, lc: bool, main: str, allowed: Collection[str]) -> Iterator[TemplateProblem]:
    spec, metadata = template["spec"], template.get("metadata") or {}
    for key in ("labels", "annotations"):
        for name in metadata.get(key) or {}:
            if name.startswith(OWNED) or (key == "labels" and name == MANAGED_BY):
                yield TemplateProblem(("metadata", key, name), "given", "another name: Tango writes this one itself")
    yield from _owned(spec, lc)
    yield from _not_honoured(spec, lc)
    names = [container["name"] for _, _, container in all_containers(spec)]
    if main not in (container["name"] for container in spec["containers"]):
        yield TemplateProblem(
            ("spec", "containers"), f"without {main!r}", f"the service's container among them{near_name(main, names)}"
        )
    for key, k, container in all_containers(spec):
        at: Path = ("spec", key, k)
        if names.count(container["name"]) > 1:
            yield TemplateProblem((*at, "name"), repr(container["name"]), "each name once")
        for p, port in enumerate(container.get("ports") or []):
            if port.get("hostPort"):
                yield TemplateProblem(
                    (*at, "ports", p, "hostPort"), _told(port["hostPort"]), "none: Tango calls the pod's own address, and does not "
                    "keep two pods with one host port apart"
                )  # fmt: skip
        for e in literal_secrets(container.get("env") or [], allowed):
            name = container["env"][e]["name"]
            yield TemplateProblem(
                (*at, "env", e, "value"),
                f"a literal value of {name!r}, which looks like a secret",
                f"valueFrom.secretKeyRef or envFrom; or, if it is none, spec.allowLiteral: [{name}]",
            )
        if key == "containers" and container["name"] == main:
            yield from _size(at, container, lc)


def _owned(spec: Json, lc: bool) -> Iterator[TemplateProblem]:
    if spec.get("nodeName"):
        yield TemplateProblem(
            ("spec", "nodeName"), repr(spec["nodeName"]), "none: Tango chooses the node; nodeSelector says which may be"
        )
    if spec.get("schedulerName", SCHEDULER) != SCHEDULER:
        yield TemplateProblem(("spec", "schedulerName"), repr(spec["schedulerName"]), "none: Tango is the scheduler of its pods")
    if spec.get("schedulingGates"):
        yield TemplateProblem(("spec", "schedulingGates"), "given", "none: Tango binds a pod as soon as it has made it")
    wanted, why = ("Always", "an instance is restarted") if lc else ("Never", "a further try is a pod of its own")
    if spec.get("restartPolicy", wanted) != wanted:
        yield TemplateProblem(("spec", "restartPolicy"), repr(spec["restartPolicy"]), f"{wanted} or none: {why}")


HOSTNAME = "kubernetes.io/hostname"
"""Label by which a node is a domain of its own."""


def _spread(spec: Json, lc: bool) -> Iterator[TemplateProblem]:
    """An LC service has as many instances on each node that its template allows: spread over nodes they are as they stand."""
    for k, constraint in enumerate(spec.get("topologySpreadConstraints") or []):
        at: Path = ("spec", "topologySpreadConstraints", k)
        yield from _mapping(at, constraint)
        if not lc:
            yield TemplateProblem(at, "given", "none: Tango places BE by load; say with nodeSelector where it may run")
        elif constraint.get("topologyKey") != HOSTNAME:
            expected = f"{HOSTNAME!r}: Tango makes as many instances on each node, and none for a zone; nodeSelector can choose one"
            yield TemplateProblem((*at, "topologyKey"), _told(constraint.get("topologyKey")), expected)


def _not_honoured(spec: Json, lc: bool) -> Iterator[TemplateProblem]:
    if spec.get("hostNetwork"):
        yield TemplateProblem(("spec", "hostNetwork"), "true", "none: Tango tells pods apart by their addresses")
    yield from _spread(spec, lc)
    if spec.get("resources"):
        yield TemplateProblem(("spec", "resources"), "given", "resources of each container: Tango resizes one of them")
    affinity = spec.get("affinity") or {}
    yield from _unknown(("spec", "affinity"), affinity, _AFFINITY)
    for key in ("podAffinity", "podAntiAffinity"):
        if affinity.get(key):
            yield TemplateProblem(
                ("spec", "affinity", key), "given", "none: Tango places by load and not by which pods stand beside"
            )
    of_nodes = affinity.get("nodeAffinity") or {}
    preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    if of_nodes.get(preferred):
        at: Path = ("spec", "affinity", "nodeAffinity", preferred)
        yield TemplateProblem(
            at, "given", "requiredDuringSchedulingIgnoredDuringExecution: Tango keeps to what is required, weighs no preferences"
        )


def _size(at: Path, container: Json, lc: bool) -> Iterator[TemplateProblem]:
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for name, amount in requests.items():
        if name in limits and parse_quantity(amount) > parse_quantity(limits[name]):
            yield TemplateProblem((*at, "resources", "requests", name), _told(amount), f"at most its limit {limits[name]}")
    if "cpu" in requests and "cpu" in limits and parse_quantity(requests["cpu"]) == parse_quantity(limits["cpu"]):
        yield TemplateProblem(
            (*at, "resources", "requests", "cpu"),
            f"{requests['cpu']}, the limit",
            "less than the limit, or no request: CPU moves between them, and a Guaranteed pod cannot be resized",
        )
    for part, held in (("requests", requests), ("limits", limits)):
        for name in ("cpu", "memory"):
            if name in held and not parse_quantity(held[name]):
                yield TemplateProblem((*at, "resources", part, name), _told(held[name]), "more than 0, or nothing")
    for k, policy in enumerate(container.get("resizePolicy") or []):
        if lc and policy.get("resourceName") == "cpu" and policy.get("restartPolicy") == "RestartContainer":
            yield TemplateProblem(
                (*at, "resizePolicy", k, "restartPolicy"), "'RestartContainer'", "NotRequired: Tango moves CPU all the time"
            )


def _mapping(path: Path, value: Any) -> Iterator[TemplateProblem]:
    if not isinstance(value, Mapping):
        yield TemplateProblem(path, _told(value), "a mapping of keys to values")


def _unknown(path: Path, found: Mapping[str, Any], known: Collection[str]) -> Iterator[TemplateProblem]:
    for key in found:
        if key not in known:
            owned = (path == () and key in ("apiVersion", "kind")) or path == ("metadata",)
            expected = "nothing: Tango names its pods" if owned else f"a field of it{near_name(key, known)}"
            yield TemplateProblem((*path, key), "an unknown field" if not owned else "given", expected)


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "missing" if value is None else repr(value)[:80]
