"""What roles that are bound grant, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from tango.emulation.api_server.authorization import User, service_account
from tango.emulation.api_server.journal import ObjectLog
from tango.emulation.api_server.resources import BY_PLACE
from tango.emulation.api_server.role_bindings import GROUP, RoleBindings
from tango.emulation.api_server.storage import Storage

ACCOUNT = {"kind": "ServiceAccount", "name": "tango", "namespace": "tango"}
TANGO, OTHER = User(service_account("tango", "tango"), ()), User(service_account("prod", "tango"), ())


def bound(*objects: tuple[str, str, str, dict[str, Any]]) -> RoleBindings:
    """Those of a server with these objects: (plural, namespace, name, its own keys)."""
    storage = Storage(ObjectLog(None), history=10)
    for place, namespace, name, keys in objects:
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        storage.put(storage.of(BY_PLACE[GROUP, "v1", place]), (namespace, name), {"metadata": metadata, **keys})
    return RoleBindings(storage)


def rule(**keys: list[str]) -> dict[str, Any]:
    """A role of one rule, of reading pods but for what is said otherwise."""
    return {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], **keys}]}


def binding(kind: str = "Role", subject: dict[str, str] = ACCOUNT) -> dict[str, Any]:
    """Of the role `r` to a subject."""
    return {"roleRef": {"kind": kind, "name": "r"}, "subjects": [subject]}


def test_a_role_holds_in_its_namespace_for_its_subject_alone() -> None:
    """Not in others, not for an account of the name in another, not for what it does not name."""
    found = bound(("roles", "team-a", "r", rule()), ("rolebindings", "team-a", "b", binding()))

    def may(user: User = TANGO, verb: str = "get", resource: str = "pods", namespace: str = "team-a", name: str = "") -> bool:
        return found.grant(user, verb, "", resource, name=name, namespace=namespace)

    assert may()
    assert not any((may(OTHER), may(verb="delete"), may(resource="pods/log"), may(namespace="team-b"), may(namespace="")))


def test_a_cluster_role_holds_everywhere_or_where_a_binding_of_a_namespace_names_it() -> None:
    """As Kubernetes has it."""
    everywhere = bound(("clusterroles", "", "r", rule()), ("clusterrolebindings", "", "b", binding("ClusterRole")))
    in_one = bound(("clusterroles", "", "r", rule()), ("rolebindings", "team-a", "b", binding("ClusterRole")))

    def where(found: RoleBindings) -> list[bool]:
        return [found.grant(TANGO, "get", "", "pods", name="", namespace=at) for at in ("", "team-a", "team-b")]

    assert where(everywhere) == [True, True, True]
    assert where(in_one) == [False, True, False]


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        (User("anna", ("team",)), {"kind": "User", "name": "anna"}),
        (User("anna", ("team",)), {"kind": "Group", "name": "team"}),
        (User("tango", ("tango:scheduler",)), ACCOUNT),
    ],
)
def test_users_groups_and_what_stands_for_an_account_are_subjects(user: User, subject: dict[str, str]) -> None:
    """A stack's own user is the service account that it would be in a real cluster."""
    found = bound(("roles", "team-a", "r", rule()), ("rolebindings", "team-a", "b", binding(subject=subject)))

    assert found.grant(user, "get", "", "pods", name="", namespace="team-a")
    assert not found.grant(User("eve", ("nobody",)), "get", "", "pods", name="", namespace="team-a")


def test_a_rule_may_name_objects_or_everything() -> None:
    """A star stands for all verbs, groups and resources."""
    named = bound(("roles", "team-a", "r", rule(resourceNames=["one"])), ("rolebindings", "team-a", "b", binding()))
    star = bound(
        ("roles", "team-a", "r", rule(apiGroups=["*"], resources=["*"], verbs=["*"])), ("rolebindings", "team-a", "b", binding())
    )

    assert [named.grant(TANGO, "get", "", "pods", name=name, namespace="team-a") for name in ("one", "two", "")] == [
        True,
        False,
        False,
    ]
    assert star.grant(TANGO, "delete", "policy", "poddisruptionbudgets", name="", namespace="team-a")
