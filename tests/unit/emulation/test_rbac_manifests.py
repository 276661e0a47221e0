"""The manifests for real clusters and the embedded servers' rules are one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tango.emulation.api_server.authorization import RULES, Authorizer, Scope, User
from tango.emulation.api_server.failures import Refused

FOLDER = Path(__file__).parent.parent.parent.parent / "deploy" / "rbac"


def granted(role: dict[str, Any]) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of a role of a manifest."""
    return {(g, r, v) for rule in role["rules"] for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}


def ruled(group: str, scope: Scope) -> set[tuple[str, str, str]]:
    """Likewise of the rules of an embedded server."""
    return {(rule.group, r, v) for rule in RULES[group] if rule.scope is scope for r in rule.resources for v in rule.verbs}


@pytest.mark.parametrize(
    ("file", "group", "kind", "scope"),
    [
        ("tango.yaml", "tango:scheduler", "ClusterRole", Scope.CLUSTER),
        ("tango.yaml", "tango:scheduler", "Role", Scope.OWN),
        ("adopted-namespace.yaml", "tango:scheduler", "Role", Scope.ADOPTED),
        ("node-agent.yaml", "tango:node-agent", "Role", Scope.OWN),
        ("adopted-namespace-node-agent.yaml", "tango:node-agent", "Role", Scope.ADOPTED),
        ("virtual-kubelet.yaml", "system:nodes", "ClusterRole", Scope.CLUSTER),
    ],
)
def test_a_real_cluster_grants_what_an_embedded_one_grants(file: str, group: str, kind: str, scope: Scope) -> None:
    """Same resources, same verbs, no wildcard, bound to the service account, which the file makes unless another one does."""
    by_kind = {d["kind"]: d for d in yaml.safe_load_all((FOLDER / file).read_text())}

    assert granted(by_kind[kind]) == ruled(group, scope)
    assert not any("*" in parts for parts in granted(by_kind[kind]))
    binding = by_kind[f"{kind}Binding"]
    assert binding["roleRef"]["name"] == by_kind[kind]["metadata"]["name"]
    elsewhere = "tango-node-agent" if group == "tango:node-agent" else "tango"
    account = by_kind.get("ServiceAccount", {"metadata": {"name": elsewhere}})["metadata"]["name"]
    assert [s["name"] for s in binding["subjects"]] == [account]


def test_a_namespace_of_services_is_granted_the_role_of_tango_s_own_but_for_its_leases() -> None:
    """Node agents tell of nodes in Tango's own namespace alone."""
    beside = {d["kind"]: d for d in yaml.safe_load_all((FOLDER / "service-namespace.yaml").read_text())}

    assert granted(beside["Role"]) == {rule for rule in ruled("tango:scheduler", Scope.OWN) if rule[1] != "leases"}
    assert beside["RoleBinding"]["roleRef"]["name"] == beside["Role"]["metadata"]["name"]
    assert beside["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": "tango", "namespace": "tango"}]
    assert not any("namespace" in d["metadata"] for d in beside.values())


def test_tango_makes_and_deletes_pods_in_its_own_namespace_alone() -> None:
    """In those that it adopts from it reads, and moves CPU."""
    authorizer, tango = Authorizer({}), User("tango", ("tango:scheduler",))

    for verb, resource in (("delete", "pods"), ("create", "pods"), ("create", "pods/eviction"), ("get", "pods/log")):
        authorizer.require(tango, verb, "", resource, namespace="tango")
        with pytest.raises(Refused):
            authorizer.require(tango, verb, "", resource, namespace="prod")
    for verb, resource in (("list", "pods"), ("watch", "pods"), ("patch", "pods/resize")):
        authorizer.require(tango, verb, "", resource, namespace="prod")
