"""The manifests for real clusters and the embedded servers' rules are one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tango.emulation.api_server.authorization import RULES

FOLDER = Path(__file__).parent.parent.parent.parent / "deploy" / "rbac"


@pytest.mark.parametrize(("file", "group"), [("tango.yaml", "tango:scheduler"), ("virtual-kubelet.yaml", "system:nodes")])
def test_a_real_cluster_grants_what_an_embedded_one_grants(file: str, group: str) -> None:
    """Same resources, same verbs, no wildcard, bound to a service account of the same file."""
    documents = list(yaml.safe_load_all((FOLDER / file).read_text()))
    by_kind = {d["kind"]: d for d in documents}
    granted = {
        (g, r, v)
        for rule in by_kind["ClusterRole"]["rules"]
        for g in rule["apiGroups"]
        for r in rule["resources"]
        for v in rule["verbs"]
    }
    assert granted == {(rule.group, r, v) for rule in RULES[group] for r in rule.resources for v in rule.verbs}
    assert not any("*" in parts for parts in granted)
    subject = by_kind["ClusterRoleBinding"]["subjects"][0]["name"]
    assert subject == by_kind["ServiceAccount"]["metadata"]["name"]
