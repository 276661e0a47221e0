"""Identities of the embedded clusters: bearer tokens, the token file of each API server and the one kubeconfig of them all."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

NAMESPACE = "tango"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAccess:
    """Where an API server listens and the tokens of its three users."""

    server: str
    tango_token: str = field(repr=False)
    """Of Tango's own role: what the scheduler, agents and workers may do."""
    kubelet_token: str = field(repr=False)
    admin_token: str = field(repr=False)


def token_file(cluster: str, access: ClusterAccess) -> str:
    """The API server's static token file, CSV as kube-apiserver reads it: token, user, uid, "group,group"."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([access.tango_token, "tango", "tango", "tango:scheduler"])
    writer.writerow([access.kubelet_token, f"system:node:{cluster}", f"node-{cluster}", "system:nodes"])
    writer.writerow([access.admin_token, "admin", "admin", "system:masters"])
    return out.getvalue()


def kubeconfig(accesses: Mapping[str, ClusterAccess]) -> str:
    """One kubeconfig, YAML, with contexts `<cluster>`, `<cluster>-kubelet` and `<cluster>-admin`; the first cluster is current."""
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
