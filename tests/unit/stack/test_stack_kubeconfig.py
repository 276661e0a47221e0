"""Identities handed out to the parts of a stack."""

from __future__ import annotations

import csv

import yaml

from tango.stack.kubeconfig import ClusterAccess, kubeconfig, token_file

ACCESS = ClusterAccess(server="http://127.0.0.1:6001", tango_token="t", kubelet_token="k", admin_token="a")


def test_each_cluster_has_a_context_per_role() -> None:
    """A context joins a cluster with the user whose token that cluster's API server knows."""
    document = yaml.safe_load(kubeconfig({"c1": ACCESS, "c2": ACCESS}))
    tokens = {user["name"]: user["user"]["token"] for user in document["users"]}
    contexts = {c["name"]: c["context"] for c in document["contexts"]}
    assert set(contexts) == {"c1", "c1-kubelet", "c1-admin", "c2", "c2-kubelet", "c2-admin"}
    assert contexts["c2-kubelet"]["cluster"] == "c2"
    assert tokens[contexts["c1"]["user"]] == "t"
    assert tokens[contexts["c1-kubelet"]["user"]] == "k"


def test_the_token_file_gives_each_user_one_group() -> None:
    """Rows are token, user, uid, groups; only the admin is a master."""
    rows = list(csv.reader(token_file("c1", ACCESS).splitlines()))
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("t", "tango", "tango:scheduler"),
        ("k", "system:node:c1", "system:nodes"),
        ("a", "admin", "system:masters"),
    ]


def test_tokens_are_not_shown() -> None:
    """A representation, as in a log or a traceback, holds no token."""
    assert "'t'" not in repr(ACCESS)
