"""Authentication by bearer tokens, and authorization by rules of a stack's own processes and by the roles that are bound in the cluster.

`deploy/rbac/` has the same rules as roles for a real cluster.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from tango.emulation.api_server.account_tokens import AccountTokens
from tango.emulation.api_server.failures import Refused
from tango.emulation.references import KINDS, references_of
from tango.errors import FileRefused
from tango.files import read_bounded
from tango.settings import KubeSettings

MASTERS = "system:masters"
"""Group whose users may do everything, as in Kubernetes."""
NODES = "system:nodes"
"""Group of kubelets."""
ANONYMOUS = "system:anonymous"
"""User of a call without an Authorization header, as in Kubernetes."""
SERVICE_ACCOUNT = "system:serviceaccount:"
"""How the names of users begin that are service accounts, as in Kubernetes."""
PUBLIC_PATHS = ("/version", "/healthz", "/readyz", "/livez")
"""Paths that anonymous users may read."""


OWN_NAMESPACE = KubeSettings().namespace
"""Where Tango's pods are."""


MOST_TOKEN_BYTES = 1 << 20
"""Size of the longest file of tokens that is read."""
LEAST_FIELDS = 3
"""Of a line of the token file, as kube-apiserver has it."""


class Scope(Enum):
    """Where a rule holds."""

    CLUSTER = "cluster"
    OWN = "own"
    """In Tango's own namespace."""
    ADOPTED = "adopted"
    """In namespaces whose pods a service may adopt: here in all, in a real cluster where its owner says so."""


@dataclass(frozen=True, slots=True)
class Permission:
    """A permission: `verbs` on `resources` of an API group ("" is the core group); a subresource is written `pods/status`."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    scope: Scope = Scope.CLUSTER


READ = ("get", "list", "watch")

# By group of users.
RULES: dict[str, tuple[Permission, ...]] = {
    "tango:scheduler": (
        Permission("", ("nodes", "pods"), READ),
        Permission("", ("namespaces",), ("get", "create")),
        Permission("metrics.k8s.io", ("nodes",), ("get", "list")),
        Permission("", ("pods",), (*READ, "create", "delete", "patch"), Scope.OWN),
        Permission("", ("pods/binding", "pods/eviction"), ("create",), Scope.OWN),
        Permission("", ("pods/resize",), ("get", "patch"), Scope.OWN),
        Permission("", ("pods/log",), ("get",), Scope.OWN),
        Permission("metrics.k8s.io", ("pods",), ("get", "list"), Scope.OWN),
        Permission("policy", ("poddisruptionbudgets",), ("get", "list"), Scope.OWN),
        Permission("coordination.k8s.io", ("leases",), ("list",), Scope.OWN),
        Permission("", ("pods",), READ, Scope.ADOPTED),
        Permission("", ("pods/resize",), ("get", "patch"), Scope.ADOPTED),
        Permission("metrics.k8s.io", ("pods",), ("get", "list"), Scope.ADOPTED),
    ),
    "tango:node-agent": (
        Permission("", ("pods",), READ, Scope.OWN),
        Permission("coordination.k8s.io", ("leases",), ("create", "get", "patch"), Scope.OWN),
        Permission("", ("pods",), READ, Scope.ADOPTED),
    ),
    NODES: (
        Permission("", ("nodes",), (*READ, "create", "patch", "update", "delete")),
        Permission("", ("nodes/status",), ("get", "patch", "update")),
        Permission("", ("pods",), (*READ, "delete")),
        Permission("", ("pods/status",), ("get", "patch", "update")),
        Permission("", ("configmaps", "secrets"), ("get",)),
        Permission("", ("namespaces",), ("get", "create")),
        Permission("", ("events",), ("create", "patch")),
        Permission("coordination.k8s.io", ("leases",), (*READ, "create", "patch", "update", "delete")),
        Permission("metrics.k8s.io", ("nodes", "pods"), (*READ, "create", "update", "patch", "delete")),
    ),
}


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated user with its groups."""

    name: str
    groups: tuple[str, ...]

    @property
    def is_master(self) -> bool:
        """Whether the user may do everything."""
        return MASTERS in self.groups


def service_account(namespace: str, name: str) -> str:
    """The name of the user that a service account is, as in Kubernetes."""
    return f"{SERVICE_ACCOUNT}{namespace}:{name}"


class Grants(Protocol):
    """What is granted besides: by objects of the server."""

    def grant(self, user: User, verb: str, group: str, resource: str, *, name: str, namespace: str) -> bool:
        """Whether the user may do that with objects of that kind and name there."""
        ...


class Authorizer:
    """Maps bearer tokens to users, and decides what users may do. Decisions by the rules are cached: those do not change while it runs."""

    def __init__(self, tokens: dict[str, User], *, secret: bytes = b"") -> None:
        """`secret`: by which tokens of service accounts are signed; empty: there are none."""
        self._tokens = tokens
        self.account_tokens = AccountTokens(secret) if secret else None
        self.grants: Grants | None = None
        """Asked where no rule grants a call."""
        self._nobody = User(ANONYMOUS, ("system:unauthenticated",))
        self._allowed: dict[tuple[User, str, str, str, bool], bool] = {}

    @classmethod
    def from_file(cls, path: Path) -> Authorizer:
        """Read a file of lines `token,user,uid,"group1,group2"`, the format of kube-apiserver's --token-auth-file.

        Raises: OSError; FileRefused for what is no such file, and for a line of fewer than three fields, with its number.
        """
        content = read_bounded(path, MOST_TOKEN_BYTES)
        if len(content) > MOST_TOKEN_BYTES:
            raise FileRefused(f"{path} is longer than {MOST_TOKEN_BYTES} bytes, expected a few tokens")
        tokens = {}
        try:
            rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
            for row in rows:
                if row and row[0].strip() and not row[0].startswith("#"):
                    if len(row) < LEAST_FIELDS:
                        raise FileRefused(
                            f"{path}:{rows.line_num}: found {len(row)} field{'s' if len(row) > 1 else ''}, expected at least "
                            f'{LEAST_FIELDS}, as in token,user,uid,"group1,group2"'
                        )
                    groups = tuple(g.strip() for g in row[3].split(",")) if len(row) > 3 else ()
                    tokens[row[0].strip()] = User(row[1].strip(), groups)
        except (UnicodeDecodeError, csv.Error) as error:
            raise FileRefused(f'{path}: {error}, expected lines of text, as in token,user,uid,"group1,group2"') from error
        return cls(tokens, secret=content)

    def user(self, header: str | None) -> User:
        """The user of an Authorization header; the anonymous user without one. Raises: Refused 401 for an unknown token."""
        if not header:
            return self._nobody
        kind, _, token = header.partition(" ")
        found = self._tokens.get(token.strip()) if kind.lower() == "bearer" else None
        if found is None and self.account_tokens is not None and (name := self.account_tokens.user(token.strip())) is not None:
            of_namespace = name.removeprefix(SERVICE_ACCOUNT).partition(":")[0]
            found = User(name, ("system:serviceaccounts", f"system:serviceaccounts:{of_namespace}"))
        # A wrong token is refused and not taken for anonymous, so that a typing error in a kubeconfig is seen as what it is.
        if found is None:
            raise Refused(401, "Unauthorized", "Unauthorized")
        return found

    def require(self, user: User, verb: str, group: str, resource: str, *, name: str = "", namespace: str = "") -> None:
        """Raises: Refused 403, worded as by kube-apiserver, if the user may not do it; `resource` includes the subresource."""
        # Of the namespace rules ask only whether it is Tango's own, and of the name nothing: that keeps the cache small.
        own = namespace == OWN_NAMESPACE
        key = (user, verb, group, resource, own)
        if key not in self._allowed:
            self._allowed[key] = user.is_master or any(
                verb in rule.verbs and rule.group == group and resource in rule.resources and (own or rule.scope is not Scope.OWN)
                for g in user.groups
                for rule in RULES.get(g, ())
            )
        if self._allowed[key]:
            return
        if self.grants is not None and self.grants.grant(user, verb, group, resource, name=name, namespace=namespace):
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

    def require_relation(self, user: User, resource: str, key: tuple[str, str], pods: Iterable[dict[str, Any]]) -> None:
        """Of ConfigMaps and Secrets a kubelet may read those that pods on its nodes refer to, as the node authorizer has it.

        `pods`: all of the namespace. Raises: Refused 403.
        """
        if user.is_master or NODES not in user.groups or resource not in KINDS:
            return
        if any(pod["spec"].get("nodeName") and (resource, key[1]) in references_of(pod["spec"]) for pod in pods):
            return
        raise Refused(
            403,
            "Forbidden",
            f'{resource} "{key[1]}" is forbidden: User "{user.name}" cannot get resource "{resource}" in API group "" in the namespace '
            f"\"{key[0]}\": no relationship found between node '{user.name.removeprefix('system:node:')}' and this object",
            details={"kind": resource, "name": key[1]},
        )

    def require_path(self, user: User, path: str) -> None:
        """Raises: Refused 403 for a path that is no resource: health and version are public, the rest needs an authenticated user."""
        if path in PUBLIC_PATHS or user.name != ANONYMOUS:
            return
        raise Refused(403, "Forbidden", f'forbidden: User "{user.name}" cannot get path "{path}"', details={})
