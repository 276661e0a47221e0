"""Roles and their bindings, as objects of the API: what whoever owns a cluster or a namespace has granted.

Besides, `authorization.RULES` grants what a stack's own processes need, without any object. Source: Kubernetes documentation, "Using RBAC
Authorization".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tango.emulation.api_server.authorization import User, service_account
from tango.emulation.api_server.resources import BY_PLACE
from tango.emulation.api_server.storage import Storage

Json = dict[str, Any]
GROUP = "rbac.authorization.k8s.io"
STANDS_FOR = {
    "tango:scheduler": service_account("tango", "tango"),
    "tango:node-agent": service_account("tango", "tango-node-agent"),
    "system:nodes": service_account("tango", "tango-virtual-kubelet"),
}
"""By group of users of the token file: the service account of `deploy/rbac/` that they are in a real cluster, and whose bindings hold for
them."""


class RoleBindings:
    """Those of one server, read from its storage at each question: they are few, asked only where no rule of the stack's grants it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def grant(self, user: User, verb: str, group: str, resource: str, *, name: str, namespace: str) -> bool:
        """Whether any binding of the cluster, or of the namespace, grants it; `resource` includes the subresource."""
        return any(
            _covers(rule, verb, group, resource, name)
            for binding, at in self._bindings(namespace)
            if _is_of(binding, user)
            for rule in self._rules(binding.get("roleRef") or {}, at)
        )

    def _bindings(self, namespace: str) -> Iterator[tuple[Json, str]]:
        for stored in self._storage.of(BY_PLACE[GROUP, "v1", "clusterrolebindings"]).in_order(None):
            yield stored.item, ""
        if namespace:
            for stored in self._storage.of(BY_PLACE[GROUP, "v1", "rolebindings"]).in_order(namespace):
                yield stored.item, namespace

    def _rules(self, role: Json, namespace: str) -> Iterable[Json]:
        of_cluster = role.get("kind") == "ClusterRole"
        place, key = ("clusterroles", "") if of_cluster else ("roles", namespace)
        found = self._storage.of(BY_PLACE[GROUP, "v1", place]).objects.get((key, str(role.get("name"))))
        return () if found is None else found.item.get("rules") or ()


def _is_of(binding: Json, user: User) -> bool:
    names = {user.name, *(STANDS_FOR[group] for group in user.groups if group in STANDS_FOR)}
    for subject in binding.get("subjects") or ():
        kind, name = subject.get("kind"), str(subject.get("name"))
        if kind == "ServiceAccount":
            name = service_account(str(subject.get("namespace")), name)
        if name in user.groups if kind == "Group" else name in names:
            return True
    return False


def _covers(rule: Json, verb: str, group: str, resource: str, name: str) -> bool:
    def has(key: str, *wanted: str) -> bool:
        return bool({"*", *wanted} & set(rule.get(key) or ()))

    named = rule.get("resourceNames") or ()
    return (
        has("verbs", verb)
        and has("apiGroups", group)
        and has("resources", resource, *((f"*/{resource.split('/')[1]}",) if "/" in resource else ()))
        and (not named or name in named)
    )
