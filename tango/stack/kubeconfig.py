"""Identities in the embedded clusters: the token file of each API server, and one kubeconfig with the contexts of all clusters."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

NAMESPACE = "tango"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAccess:
    """The URL of an API server and the bearer tokens of its three users."""

    server: str
    """URL, such as http://127.0.0.1:6443."""
    tango_token: str = field(repr=False)
    """For scheduler, agents and workers; may do what deploy/rbac/tango.yaml grants."""
    kubelet_token: str = field(repr=False)
    """For the virtual kubelet, in the group `system:nodes`."""
    admin_token: str = field(repr=False)
    """For the user of the machine, in the group `system:masters`, which may do everything."""


def token_file(cluster: str, access: ClusterAccess) -> str:
    """Text of an API server's static token file, in the CSV format of kube-apiserver: token,user,uid,"group1,group2".

    Source: Kubernetes documentation, Authenticating, "Static token file".
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([access.tango_token, "tango", "tango", "tango:scheduler"])
    writer.writerow([access.kubelet_token, f"system:node:{cluster}", f"node-{cluster}", "system:nodes"])
    writer.writerow([access.admin_token, "admin", "admin", "system:masters"])
    return out.getvalue()


def kubeconfig(accesses: Mapping[str, ClusterAccess]) -> str:
    """Text of one kubeconfig (YAML) for all clusters, with the contexts `<cluster>`, `<cluster>-kubelet` and `<cluster>-admin` of each.

    The current context is that of the first cluster.
    """
    contexts, users = [], []
    for cluster, access in accesses.items():
        for name, token in (
            (cluster, access.tango_token),
            (f"{cluster}-kubelet", access.kubelet_token),
            (f"{cluster}-admin", access.admin_token),
        ):
            users.append({"name": name, "user": {"token": token}})
            contexts.append({"name": name, "context": {"cluster": cluster, "user": name, "namespace": NAMESPACE}})
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": access.server}} for cluster, access in accesses.items()],
        "users": users,
        "contexts": contexts,
        "current-context": next(iter(accesses), ""),
    }
    return yaml.safe_dump(document, sort_keys=False)
