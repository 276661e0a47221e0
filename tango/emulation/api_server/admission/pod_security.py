"""Pod Security: the levels `baseline` and `restricted`, which a namespace enforces, or warns of, by its labels.

Sources: Kubernetes documentation, "Pod Security Standards" and "Pod Security Admission"; kubernetes,
staging/src/k8s.io/pod-security-admission/policy/check_*.go, whose words these are. The version of a policy does not count here: all are
the latest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tango.emulation.api_server.failures import Causes, Refused
from tango.emulation.api_server.pods import containers_of

Json = dict[str, Any]
LABEL = "pod-security.kubernetes.io/"
LEVELS = ("privileged", "baseline", "restricted")
MAY_ADD = frozenset(
    (
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)
VOLUMES = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    )
)
"""Types of volumes that `restricted` allows."""
SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    )
)
SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")


def check_labels(causes: Causes, namespace: Json) -> None:
    """Add a cause for each label of a namespace that names no level."""
    for mode in ("enforce", "audit", "warn"):
        level = (namespace["metadata"].get("labels") or {}).get(LABEL + mode)
        if level is not None and level not in LEVELS:
            causes.invalid(f"metadata.labels[{LABEL}{mode}]", level, f"must be one of {', '.join(LEVELS)}")


def require(pod: Json, namespace: Json) -> tuple[str, ...]:
    """Look whether a pod keeps to the level of its namespace; gives warnings. Raises: Refused 403 that names each thing it lacks."""
    labels = namespace["metadata"].get("labels") or {}
    for mode in ("enforce", "warn"):
        level, version = labels.get(LABEL + mode, LEVELS[0]), labels.get(f"{LABEL}{mode}-version", "latest")
        if not (wrong := violations(pod["spec"], level)):
            continue
        words = f'violate PodSecurity "{level}:{version}": {", ".join(wrong)}'
        if mode == "warn":
            return (f"would {words}",)
        name = pod["metadata"]["name"]
        raise Refused(
            403,
            "Forbidden",
            f'pods "{name}" is forbidden: violates{words.removeprefix("violate")}',
            details={"name": name, "kind": "pods"},
        )
    return ()


def violations(spec: Json, level: str) -> list[str]:
    """What a pod's spec lacks for a level: reason and, in parentheses, where; empty if nothing, or for `privileged`."""
    if level == LEVELS[0]:
        return []
    checks = BASELINE if level == LEVELS[1] else (*(c for c in BASELINE if c not in REPLACED), *RESTRICTED)
    return [text for check in checks for text in check(spec)]


def _app_armor(spec: Json) -> Iterator[str]:
    def bad(part: Json) -> bool:
        return (_context(part).get("appArmorProfile") or {}).get("type") == "Unconfined"

    where = [*(["pod"] if bad(spec) else []), *([_named(found)] if (found := _containers(spec, bad)) else [])]
    if where:
        yield f'forbidden AppArmor profile ({" and ".join(where)} must not set AppArmor profile type to "Unconfined")'


def _context(part: Json) -> Json:
    return part.get("securityContext") or {}


def _containers(spec: Json, bad: Callable[[Json], Any]) -> list[str]:
    return [f'"{c.get("name")}"' for c in containers_of(spec) if bad(c)]


def _named(names: list[str], word: str = "container") -> str:
    return f"{word}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _host_namespaces(spec: Json) -> Iterator[str]:
    if shared := [f"{k}=true" for k in ("hostNetwork", "hostPID", "hostIPC") if spec.get(k)]:
        yield f"host namespaces ({', '.join(shared)})"


def _privileged(spec: Json) -> Iterator[str]:
    if bad := _containers(spec, lambda c: _context(c).get("privileged")):
        yield f"privileged ({_named(bad)} must not set securityContext.privileged=true)"


def _added(container: Json) -> list[str]:
    return [str(c) for c in (_context(container).get("capabilities") or {}).get("add") or []]


def _capabilities_baseline(spec: Json) -> Iterator[str]:
    if bad := _containers(spec, lambda c: set(_added(c)) - MAY_ADD):
        extra = sorted({a for c in containers_of(spec) for a in _added(c)} - MAY_ADD)
        yield f"non-default capabilities ({_named(bad)} must not include {_quoted(extra)} in securityContext.capabilities.add)"


def _quoted(words: list[str]) -> str:
    return ", ".join(f'"{w}"' for w in words)


def _volume_types(volume: Json) -> list[str]:
    return [key for key in volume if key != "name"]


def _host_paths(spec: Json) -> Iterator[str]:
    if bad := [f'"{v.get("name")}"' for v in spec.get("volumes") or [] if "hostPath" in v]:
        yield f"hostPath volumes ({_named(bad, 'volume')})"


def _host_ports(spec: Json) -> Iterator[str]:
    def ports(container: Json) -> list[str]:
        return [str(p["hostPort"]) for p in container.get("ports") or [] if p.get("hostPort")]

    if bad := _containers(spec, ports):
        used = sorted({p for c in containers_of(spec) for p in ports(c)})
        yield f"hostPort ({_named(bad)} {'use' if len(bad) > 1 else 'uses'} hostPort{'s' if len(used) > 1 else ''} {', '.join(used)})"


def _proc_mount(spec: Json) -> Iterator[str]:
    if bad := _containers(spec, lambda c: _context(c).get("procMount") not in (None, "Default")):
        yield f"procMount ({_named(bad)} must not set securityContext.procMount to anything but Default)"


def _selinux(spec: Json) -> Iterator[str]:
    def bad(part: Json) -> bool:
        options = _context(part).get("seLinuxOptions") or {}
        return options.get("type", "") not in SELINUX_TYPES or bool(options.get("user") or options.get("role"))

    where = [*(["pod"] if bad(spec) else []), *([_named(found)] if (found := _containers(spec, bad)) else [])]
    if where:
        yield f"seLinuxOptions ({' and '.join(where)} set forbidden securityContext.seLinuxOptions)"


def _seccomp(part: Json) -> Any:
    return (_context(part).get("seccompProfile") or {}).get("type")


def _seccomp_baseline(spec: Json) -> Iterator[str]:
    where = [
        *(["pod"] if _seccomp(spec) == "Unconfined" else []),
        *([_named(found)] if (found := _containers(spec, lambda c: _seccomp(c) == "Unconfined")) else []),
    ]
    if where:
        yield f'seccompProfile ({" and ".join(where)} must not set securityContext.seccompProfile.type to "Unconfined")'


def _sysctls(spec: Json) -> Iterator[str]:
    if bad := [str(s.get("name")) for s in _context(spec).get("sysctls") or [] if s.get("name") not in SYSCTLS]:
        yield f"forbidden sysctls ({', '.join(bad)})"


def _host_process(spec: Json) -> Iterator[str]:
    def bad(part: Json) -> Any:
        return (_context(part).get("windowsOptions") or {}).get("hostProcess")

    where = [*(["pod"] if bad(spec) else []), *([_named(found)] if (found := _containers(spec, bad)) else [])]
    if where:
        yield f"hostProcess ({' and '.join(where)} must not set securityContext.windowsOptions.hostProcess=true)"


def _escalation(spec: Json) -> Iterator[str]:
    if bad := _containers(spec, lambda c: _context(c).get("allowPrivilegeEscalation") is not False):
        yield f"allowPrivilegeEscalation != false ({_named(bad)} must set securityContext.allowPrivilegeEscalation=false)"


def _capabilities_restricted(spec: Json) -> Iterator[str]:
    def keeps(container: Json) -> bool:
        return "ALL" not in ((_context(container).get("capabilities") or {}).get("drop") or [])

    parts = []
    if bad := _containers(spec, keeps):
        parts.append(f'{_named(bad)} must set securityContext.capabilities.drop=["ALL"]')
    if bad := _containers(spec, lambda c: set(_added(c)) - {"NET_BIND_SERVICE"}):
        extra = sorted({a for c in containers_of(spec) for a in _added(c)} - {"NET_BIND_SERVICE"})
        parts.append(f"{_named(bad)} must not include {_quoted(extra)} in securityContext.capabilities.add")
    if parts:
        yield f"unrestricted capabilities ({'; '.join(parts)})"


def _volumes(spec: Json) -> Iterator[str]:
    bad = [(v.get("name"), kind) for v in spec.get("volumes") or [] for kind in _volume_types(v) if kind not in VOLUMES]
    if bad:
        names, kinds = [f'"{name}"' for name, _ in bad], sorted({kind for _, kind in bad})
        verb = "use" if len(names) > 1 else "uses"
        yield f"restricted volume types ({_named(names, 'volume')} {verb} {_named([_quoted(kinds)], 'restricted volume type')})"


def _non_root(spec: Json) -> Iterator[str]:
    of_pod = _context(spec).get("runAsNonRoot")
    if bad := _containers(spec, lambda c: _context(c).get("runAsNonRoot") is False):
        yield f"runAsNonRoot != true ({_named(bad)} must not set securityContext.runAsNonRoot=false)"
    elif not of_pod and (bad := _containers(spec, lambda c: _context(c).get("runAsNonRoot") is None)):
        yield f"runAsNonRoot != true (pod or {_named(bad)} must set securityContext.runAsNonRoot=true)"


def _user(spec: Json) -> Iterator[str]:
    where = [
        *(["pod"] if _context(spec).get("runAsUser") == 0 else []),
        *([_named(found)] if (found := _containers(spec, lambda c: _context(c).get("runAsUser") == 0)) else []),
    ]
    if where:
        yield f"runAsUser=0 ({' and '.join(where)} must not set runAsUser=0)"


def _seccomp_restricted(spec: Json) -> Iterator[str]:
    good, words = ("RuntimeDefault", "Localhost"), 'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    if bad := _containers(spec, lambda c: _seccomp(c) not in (None, *good)):
        yield f"seccompProfile ({_named(bad)} must set {words})"
    elif _seccomp(spec) not in good and (bad := _containers(spec, lambda c: _seccomp(c) is None)):
        yield f"seccompProfile (pod or {_named(bad)} must set {words})"


Check = Callable[[Json], Iterator[str]]
BASELINE: tuple[Check, ...] = (
    _app_armor,
    _capabilities_baseline,
    _host_namespaces,
    _host_paths,
    _host_ports,
    _privileged,
    _proc_mount,
    _selinux,
    _seccomp_baseline,
    _sysctls,
    _host_process,
)
RESTRICTED: tuple[Check, ...] = (_escalation, _capabilities_restricted, _volumes, _non_root, _user, _seccomp_restricted)
"""In the order of the names that they have in Kubernetes, by which their words are ordered."""
REPLACED = (_capabilities_baseline, _host_paths, _seccomp_baseline)
"""Checks of `baseline` that one of `restricted` says all of."""
