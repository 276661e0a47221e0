"""ResourceQuota: counts what a namespace holds, and refuses what would exceed it.

In a real cluster a controller writes the status and admission adds to it; here both are one, so a quota is in force as soon as it is
there, and what is deleted is free at once. Sources: Kubernetes documentation, "Resource Quotas"; kubernetes,
pkg/quota/v1/evaluator/core/pods.go and staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from tango.domain.quantities import canonical, is_extended, parse_quantity
from tango.emulation.api_server.failures import Refused
from tango.emulation.api_server.pods import canonical_quantities, containers_of, pod_totals, qos_class
from tango.emulation.api_server.resources import BY_PLACE, Resource
from tango.emulation.api_server.storage import Key, Storage, StoredChange

Json = dict[str, Any]
Amounts = dict[str, Decimal]
MUST_SAY = ("cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory")
"""Of these each container must say what it needs, where a quota bounds them."""
SHORT_NAMES = ("configmaps", "resourcequotas", "secrets", "services")
"""Resources that are counted under their bare names too, as pods are."""


class Quotas:
    """Follows all changes of the storage and keeps the status of each quota true."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._quotas = storage.of(BY_PLACE["", "v1", "resourcequotas"])
        self._by_namespace: defaultdict[str, dict[Key, Amounts]] = defaultdict(dict)
        """What each quota counts as used."""
        for collection in storage.collections.values():
            resource = collection.resource
            if resource.namespaced and resource.durable:
                collection.listeners.add(lambda change, resource=resource: self._follow(resource, change))  # type: ignore[misc]
        for key in list(self._quotas.objects):
            self._count(key)

    def require(self, resource: Resource, old: Json | None, new: Json) -> None:
        """Look whether the namespace has room for an object that is new, or for what an update adds to it. Raises: Refused 403."""
        if not resource.namespaced:
            return
        namespace, name = new["metadata"].get("namespace", ""), new["metadata"]["name"]
        for key, used in sorted(self._by_namespace.get(namespace, {}).items()):
            quota = self._quotas.objects[key].item
            hard = (quota.get("status") or {}).get("hard") or {}
            wants = _usage(resource, new, quota, hard)
            if not wants:
                continue
            if resource.kind == "Pod" and (lacking := _unsaid(new, hard)):
                raise _forbidden(resource, name, f"failed quota: {key[1]}: must specify {lacking}")
            before = _usage(resource, old, quota, hard) if old is not None else {}
            added = {n: amount - before.get(n, Decimal(0)) for n, amount in wants.items()}
            beyond = [
                n for n, more in sorted(added.items()) if more > 0 and used.get(n, Decimal(0)) + more > parse_quantity(hard[n])
            ]
            if beyond:
                shown = (
                    ",".join(f"{n}={_written(n, source.get(n, Decimal(0)))}" for n in beyond)
                    for source in (added, used, {n: parse_quantity(hard[n]) for n in beyond})
                )
                told = ", ".join(f"{word}: {text}" for word, text in zip(("requested", "used", "limited"), shown, strict=True))
                raise _forbidden(resource, name, f"exceeded quota: {key[1]}, {told}")

    def _follow(self, resource: Resource, change: StoredChange) -> None:
        if not self._by_namespace and resource is not self._quotas.resource:
            return
        if resource.kind == "ResourceQuota":
            spec = None if change.gone else change.after.item.get("spec")
            if change.gone:
                self._by_namespace[change.key[0]].pop(change.key, None)
            elif change.before is None or change.before.item.get("spec") != spec:
                self._count(change.key)
                if change.before is not None:
                    return
        for key, used in list(self._by_namespace.get(change.key[0], {}).items()):
            if resource.kind == "ResourceQuota" and key == change.key:
                continue
            quota = self._quotas.objects[key].item
            hard = (quota.get("spec") or {}).get("hard") or {}
            was = {} if change.before is None else _usage(resource, change.before.item, quota, hard)
            now = {} if change.gone else _usage(resource, change.after.item, quota, hard)
            if was != now:
                for name in was.keys() | now.keys():
                    used[name] = used.get(name, Decimal(0)) + now.get(name, Decimal(0)) - was.get(name, Decimal(0))
                self._write(key)

    def _count(self, key: Key) -> None:
        """Count a quota's namespace from its objects."""
        quota = self._quotas.objects[key].item
        hard = (quota.get("spec") or {}).get("hard") or {}
        used: defaultdict[str, Decimal] = defaultdict(Decimal)
        for collection in self._storage.collections.values():
            if not (collection.resource.namespaced and collection.resource.durable):
                continue
            for place, stored in collection.objects.items():
                if place[0] == key[0]:
                    for name, amount in _usage(collection.resource, stored.item, quota, hard).items():
                        used[name] += amount
        self._by_namespace[key[0]][key] = dict(used)
        self._write(key)

    def _write(self, key: Key) -> None:
        quota = self._quotas.objects[key].item
        hard = (quota.get("spec") or {}).get("hard") or {}
        used = self._by_namespace[key[0]][key]
        status = {
            "hard": canonical_quantities(hard),
            "used": {name: _written(name, used.get(name, Decimal(0))) for name in hard},
        }
        if quota.get("status") != status:
            self._storage.put(self._quotas, key, {**quota, "metadata": dict(quota["metadata"]), "status": status})


def _usage(resource: Resource, item: Json, quota: Json, names: Iterable[str]) -> Amounts:
    """What an object uses of the resources that a quota bounds; nothing where the quota's scopes leave it out."""
    found: Amounts = {f"count/{resource.name}.{resource.group}" if resource.group else f"count/{resource.name}": Decimal(1)}
    if resource.name in SHORT_NAMES:
        found[resource.name] = Decimal(1)
    if resource.kind == "Pod":
        if not _in_scopes(item, quota.get("spec") or {}):
            return {}
        if (item.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            found |= _pod_usage(item["spec"])
    elif _scopes(quota.get("spec") or {}):
        return {}  # scopes speak of pods alone
    return {name: found[name] for name in names if name in found}


def _pod_usage(spec: Json) -> Amounts:
    found: Amounts = {"pods": Decimal(1)}
    for name, amount in pod_totals(spec, "requests").items():
        found[f"requests.{name}"] = amount
        if not is_extended(name):
            found[name] = amount
    for name, amount in pod_totals(spec, "limits").items():
        if not is_extended(name):
            found[f"limits.{name}"] = amount
    return found


def _unsaid(pod: Json, names: Iterable[str]) -> str:
    """Which containers do not say what the quota bounds, in the API server's words; empty if all do."""
    lacking = []
    for name in sorted(n for n in names if n in MUST_SAY):
        part, _, resource = name.rpartition(".")
        without = [
            str(c.get("name"))
            for c in containers_of(pod["spec"])
            if resource not in ((c.get("resources") or {}).get(part or "requests") or {})
        ]
        if without:
            lacking.append(f"{name} for: {','.join(sorted(without))}")
    return "; ".join(lacking)


def _scopes(spec: Json) -> list[Json]:
    selector = (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    return [*({"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or []), *selector]


def _in_scopes(pod: Json, spec: Json) -> bool:
    return all(_in_scope(pod["spec"], scope) for scope in _scopes(spec))


def _in_scope(spec: Json, scope: Json) -> bool:
    name = scope.get("scopeName")
    if name == "PriorityClass":
        held, values = spec.get("priorityClassName") or "", scope.get("values") or []
        operator = scope.get("operator")
        return {"Exists": bool(held), "DoesNotExist": not held, "In": held in values, "NotIn": held not in values}.get(
            str(operator), False
        )
    ends, best_effort = spec.get("activeDeadlineSeconds") is not None, qos_class(spec) == "BestEffort"
    return {"Terminating": ends, "NotTerminating": not ends, "BestEffort": best_effort, "NotBestEffort": not best_effort}.get(
        str(name), False
    )


def _written(name: str, amount: Decimal) -> str:
    """A sum as a quantity: memory in powers of 1024 where it is a multiple of 1024 bytes."""
    of_bytes = name.rpartition(".")[2] in ("memory", "ephemeral-storage")
    if of_bytes and amount and amount % 1024 == 0:
        return canonical(f"{int(amount) // 1024}Ki")
    return canonical(format(amount, "f"))


def _forbidden(resource: Resource, name: str, words: str) -> Refused:
    shown = f"{resource.name}.{resource.group}" if resource.group else resource.name
    details = {"name": name, "kind": resource.name} | ({"group": resource.group} if resource.group else {})
    return Refused(403, "Forbidden", f'{shown} "{name}" is forbidden: {words}', details=details)
