"""Who may do what: static bearer tokens and role rules, as data. `deploy/rbac/` grants a real cluster the same."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from tango.emulation.api_server.failures import Refused

MASTERS = "system:masters"
ANONYMOUS = "system:anonymous"
PUBLIC_PATHS = ("/version", "/healthz", "/readyz", "/livez")


@dataclass(frozen=True, slots=True)
class Rule:
    """Verbs on resources of a group; a subresource is written `pods/status`."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]


READ = ("get", "list", "watch")

RULES: dict[str, tuple[Rule, ...]] = {
    "tango:scheduler": (
        Rule("", ("pods",), (*READ, "create", "delete", "patch")),
        Rule("", ("pods/binding", "pods/eviction"), ("create",)),
        Rule("", ("pods/resize",), ("get", "patch")),
        Rule("", ("nodes",), READ),
        Rule("", ("namespaces",), ("get", "create")),
        Rule("metrics.k8s.io", ("nodes", "pods"), ("get", "list")),
        Rule("policy", ("poddisruptionbudgets",), ("get", "list")),
    ),
    "system:nodes": (
        Rule("", ("nodes",), (*READ, "create", "patch", "update", "delete")),
        Rule("", ("nodes/status",), ("get", "patch", "update")),
        Rule("", ("pods",), (*READ, "delete")),
        Rule("", ("pods/status",), ("get", "patch", "update")),
        Rule("", ("namespaces",), ("get", "create")),
        Rule("", ("events",), ("create", "patch")),
        Rule("coordination.k8s.io", ("leases",), (*READ, "create", "patch", "update", "delete")),
        Rule("metrics.k8s.io", ("nodes", "pods"), (*READ, "create", "update", "patch", "delete")),
    ),
}


@dataclass(frozen=True, slots=True)
class User:
    """Who calls."""

    name: str
    groups: tuple[str, ...]

    @property
    def is_master(self) -> bool:
        """May do everything."""
        return MASTERS in self.groups


class Authorizer:
    """Tokens to users, users to decisions (cached per user and request form)."""

    def __init__(self, tokens: dict[str, User]) -> None:
        self._tokens = tokens
        self._nobody = User(ANONYMOUS, ("system:unauthenticated",))
        self._allowed: dict[tuple[User, str, str, str], bool] = {}

    @classmethod
    def from_file(cls, path: Path) -> Authorizer:
        """Lines of `token,user,uid,"group1,group2"`, as kube-apiserver's --token-auth-file."""
        tokens = {}
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file):
                if row and row[0].strip() and not row[0].startswith("#"):
                    groups = tuple(g.strip() for g in row[3].split(",")) if len(row) > 3 else ()
                    tokens[row[0].strip()] = User(row[1].strip(), groups)
        return cls(tokens)

    def user(self, header: str | None) -> User:
        """Who an Authorization header names. Raises: Refused 401 for a token nobody has."""
        if not header:
            return self._nobody
        kind, _, token = header.partition(" ")
        found = self._tokens.get(token.strip()) if kind.lower() == "bearer" else None
        if found is None:
            raise Refused(401, "Unauthorized", "Unauthorized")
        return found

    def require(self, user: User, verb: str, group: str, resource: str, *, name: str = "", namespace: str = "") -> None:
        """Raises: Refused 403 in the server's words, `resource` with its subresource."""
        key = (user, verb, group, resource)
        if key not in self._allowed:
            self._allowed[key] = user.is_master or any(
                verb in rule.verbs and rule.group == group and resource in rule.resources
                for g in user.groups
                for rule in RULES.get(g, ())
            )
        if self._allowed[key]:
            return
        kind = resource.split("/")[0]
        shown = (
            f'{kind}.{group} "{name}"' if group and name else f'{kind} "{name}"' if name else f"{kind}.{group}" if group else kind
        )
        where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
        raise Refused(
            403,
            "Forbidden",
            f'{shown} is forbidden: User "{user.name}" cannot {verb} resource "{resource}" in API group "{group}"{where}',
            details={"kind": kind} | ({"name": name} if name else {}) | ({"group": group} if group else {}),
        )

    def require_path(self, user: User, path: str) -> None:
        """Non-resource paths: health and version are public, discovery is for anybody who is known."""
        if path in PUBLIC_PATHS or user.name != ANONYMOUS:
            return
        raise Refused(403, "Forbidden", f'forbidden: User "{user.name}" cannot get path "{path}"', details={})
