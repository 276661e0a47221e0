"""JSON patch (RFC 6902), JSON merge patch (RFC 7386) and Kubernetes' strategic merge patch.

No value is changed in place: the result shares unchanged parts with the target. Strategic merge merges lists by the keys that the
Kubernetes API types declare (`patchStrategy: merge`, `patchMergeKey`); any other list is replaced as a whole.
"""

from __future__ import annotations

from typing import Any

import jsonpatch
import jsonpointer

from tango.emulation.api_server.failures import Refused, bad_request

Json = dict[str, Any]

# Merge key by name of the list field, for those fields of the served types that declare one.
_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "ports": "containerPort",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "conditions": "type",
    "addresses": "type",
    "podIPs": "ip",
    "hostIPs": "ip",
    "ownerReferences": "uid",
    "schedulingGates": "name",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
}
_SETS = frozenset({"finalizers"})


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` after a JSON merge patch. Source: RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_merge(target: Any, patch: Any) -> Any:
    """`target` after a strategic merge patch, with the directives `$patch`, `$retainKeys` and `$deleteFromPrimitiveList`.

    Source: kubernetes/community, contributors/devel/sig-api-machinery/strategic-merge-patch.md.
    """
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {k: v for k, v in patch.items() if k != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$"):
            _directive(result, key, value)
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, list) and key in _KEYS and all(isinstance(v, dict) for v in value):
            result[key] = _merge_list(result.get(key) or [], value, _KEYS[key])
        elif isinstance(value, list) and key in _SETS:
            result[key] = [*(result.get(key) or []), *(v for v in value if v not in (result.get(key) or []))]
        else:
            result[key] = strategic_merge(result.get(key), value)
    return result


def json_patch(target: Json, operations: Any) -> Json:
    """`target` after a JSON patch (RFC 6902). Raises: Refused 400 for a malformed patch, 422 for one that does not apply."""
    try:
        return dict(jsonpatch.JsonPatch(operations).apply(target))
    except jsonpatch.InvalidJsonPatch as error:
        raise bad_request(f"error decoding patch: {error}") from error
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError) as error:
        raise Refused(422, "Invalid", f"the server rejected our request due to an error in our request: {error}") from error


def _directive(result: Json, key: str, value: Any) -> None:
    if key.startswith("$deleteFromPrimitiveList/"):
        name = key.split("/", 1)[1]
        result[name] = [v for v in result.get(name) or [] if v not in value]
    elif key == "$retainKeys":
        for name in [k for k in result if k not in value]:
            del result[name]


def _merge_list(items: list[Json], patch: list[Json], key: str) -> list[Json]:
    if any(p.get("$patch") == "replace" for p in patch):
        return [p for p in patch if "$patch" not in p]
    result = list(items)
    at = {item.get(key): k for k, item in enumerate(result)}
    gone = set()
    for p in patch:
        if key not in p:
            raise bad_request(f"map: {p} does not contain declared merge key: {key}")
        if p.get("$patch") == "delete":
            gone.add(p[key])
        elif p[key] in at:
            result[at[p[key]]] = strategic_merge(result[at[p[key]]], p)
        else:
            at[p[key]] = len(result)
            result.append(strategic_merge({}, p))
    return [item for item in result if item.get(key) not in gone]
