"""The forms of those parts of a body that this server reads: where a text stands, where a list, where an object.

A real server decodes every body into typed structures and refuses what does not fit. Here objects stay as they came, so what is read of
them is looked at first: a number where a list is expected would otherwise break the call somewhere inside, with a bare 500.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tango.emulation.api_server.failures import bad_request

Form = type | tuple[type, ...] | list["Form"] | dict[str, "Form"]
"""A type, or several; a list with the form of its items; an object with the forms of some of its keys."""

ANY_KEY = "*"
"""As a key of an object: the form of all values."""
TEXTS: Form = {ANY_KEY: str}
QUANTITIES: Form = {ANY_KEY: (str, int, float)}
OPTIONS: dict[str, Form] = {
    "gracePeriodSeconds": int,
    "preconditions": {"uid": str, "resourceVersion": str},
    "propagationPolicy": str,
}
CONTEXT: dict[str, Form] = {
    "capabilities": {"add": [str], "drop": [str]},
    "seccompProfile": {"type": str},
    "appArmorProfile": {"type": str},
    "seLinuxOptions": TEXTS,
    "windowsOptions": {"hostProcess": bool},
    "sysctls": [{"name": str}],
    "runAsUser": int,
    "runAsNonRoot": bool,
    "privileged": bool,
    "allowPrivilegeEscalation": bool,
}
KEY: dict[str, Form] = {"name": str, "key": str, "optional": bool}
CONTAINERS: Form = [
    {
        "name": str,
        "image": str,
        "securityContext": CONTEXT,
        "resources": {"requests": QUANTITIES, "limits": QUANTITIES},
        "env": [{"name": str, "value": str, "valueFrom": {"configMapKeyRef": KEY, "secretKeyRef": KEY}}],
        "envFrom": [{"prefix": str, "configMapRef": KEY, "secretRef": KEY}],
        "ports": [{"containerPort": int, "hostPort": int}],
    }
]
OBJECT: dict[str, Form] = {
    "kind": str,
    "apiVersion": str,
    "metadata": {
        "name": str,
        "generateName": str,
        "namespace": str,
        "uid": str,
        "resourceVersion": str,
        "labels": TEXTS,
        "annotations": TEXTS,
        "finalizers": [str],
        "ownerReferences": [{"uid": str}],
        "creationTimestamp": str,
        "deletionTimestamp": str,
        "deletionGracePeriodSeconds": int,
    },
    "spec": {
        "nodeName": str,
        "containers": CONTAINERS,
        "initContainers": CONTAINERS,
        "schedulingGates": [{"name": str}],
        "taints": [{"key": str, "value": str, "effect": str}],
        "tolerations": [{"key": str, "operator": str, "value": str, "effect": str, "tolerationSeconds": int}],
        "priorityClassName": str,
        "priority": int,
        "preemptionPolicy": str,
        "terminationGracePeriodSeconds": int,
        "activeDeadlineSeconds": int,
        "overhead": QUANTITIES,
        "nodeSelector": TEXTS,
        "volumes": [
            {
                "name": str,
                "configMap": {"name": str, "items": [{"key": str, "path": str}]},
                "secret": {"secretName": str, "items": [{"key": str, "path": str}]},
                "projected": {"sources": [{"configMap": {"name": str}, "secret": {"name": str}}]},
            }
        ],
        "imagePullSecrets": [{"name": str}],
        "securityContext": CONTEXT,
        "hard": QUANTITIES,
        "scopes": [str],
        "scopeSelector": {"matchExpressions": [{"scopeName": str, "operator": str, "values": [str]}]},
        "limits": [
            {
                "type": str,
                "max": QUANTITIES,
                "min": QUANTITIES,
                "default": QUANTITIES,
                "defaultRequest": QUANTITIES,
                "maxLimitRequestRatio": QUANTITIES,
            }
        ],
        "podCIDR": str,
        "unschedulable": bool,
        "expirationSeconds": int,
    },
    "status": {
        "phase": str,
        "conditions": [{"type": str, "status": str}],
        "capacity": QUANTITIES,
        "allocatable": QUANTITIES,
        "addresses": [{}],
        "containerStatuses": [{"name": str}],
        "hard": QUANTITIES,
        "used": QUANTITIES,
    },
    "data": TEXTS,
    "stringData": TEXTS,
    "binaryData": TEXTS,
    "type": str,
    "immutable": bool,
    "value": int,
    "globalDefault": bool,
    "preemptionPolicy": str,
    "target": {"name": str},
    "deleteOptions": OPTIONS,
    "rules": [{"apiGroups": [str], "resources": [str], "resourceNames": [str], "verbs": [str]}],
    "subjects": [{"kind": str, "name": str, "namespace": str}],
    "roleRef": {"kind": str, "name": str},
}
"""Of every object that can be posted, a Binding and an Eviction included: no key means one thing in one kind and another in the next."""

NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def require_form(value: Any, form: Form = OBJECT, *, at: str = "") -> None:
    """Look at all parts that have a form; null is as good as left away. Raises: Refused 400 with place, found and expected."""
    if value is None and at:
        return
    # Where all is well, as mostly, the places of parts need not be named: a third of what the call of a pod took.
    if not at and value is not None and _fits(value, form):
        return
    if isinstance(form, dict):
        _require(value, (dict,), at)
        if ANY_KEY in form:
            for key, part in value.items():
                require_form(part, form[ANY_KEY], at=f"{at}.{key}")
        else:
            for key, inner in form.items():
                if key in value:
                    require_form(value[key], inner, at=f"{at}.{key}" if at else key)
    elif isinstance(form, list):
        _require(value, (list,), at)
        for k, part in enumerate(value):
            require_form(part, form[0], at=f"{at}[{k}]")
    else:
        _require(value, form if isinstance(form, tuple) else (form,), at)


def _fits(value: Any, form: Form) -> bool:
    """Whether what is not null has the form."""
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return False
        of_all = form.get(ANY_KEY)
        for key, part in value.items():
            inner = form.get(key) if of_all is None else of_all
            if inner is not None and part is not None and not _fits(part, inner):
                return False
        return True
    if isinstance(form, list):
        return isinstance(value, list) and all(part is None or _fits(part, form[0]) for part in value)
    types = form if isinstance(form, tuple) else (form,)
    return isinstance(value, types) and (value.__class__ is not bool or bool in types)


def _require(value: Any, types: tuple[type, ...], at: str) -> None:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        expected = " or ".join(NAMES[one] for one in types)
        found = "null" if value is None else NAMES[type(value)]
        raise bad_request(f"{at or 'the body'} is {found}, expected {expected}")


def whole_number(query: Mapping[str, str], name: str, default: int) -> int:
    """A parameter of the query that is a number of digits; `default` for any other text, and without it."""
    text = query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else default
