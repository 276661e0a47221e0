"""Discovery: the documents by which clients learn the server's version, API groups and resources."""

from __future__ import annotations

from typing import Any

from tango.emulation.api_server.resources import GROUPS, RESOURCES

Json = dict[str, Any]
# A version that has `pods/resize`, without which Tango refuses a cluster (1.33 or later), marked as not the real thing.
VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.2+tango",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}


def discovered(path: str) -> Json | None:
    """The discovery document at a path; None if there is none."""
    parts = [p for p in path.split("/") if p]
    if path == "/version":
        return VERSION
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(g) for g in GROUPS]}
    if len(parts) == 2 and parts[0] == "apis" and parts[1] in GROUPS:
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1])}
    if parts == ["api", "v1"]:
        return _resource_list("", "v1")
    if len(parts) == 3 and parts[0] == "apis" and GROUPS.get(parts[1]) == parts[2]:
        return _resource_list(parts[1], parts[2])
    return None


def _group(name: str) -> Json:
    version = {"groupVersion": f"{name}/{GROUPS[name]}", "version": GROUPS[name]}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resource_list(group: str, version: str) -> Json:
    listed = []
    for r in RESOURCES:
        if r.group != group:
            continue
        verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
        own = {"name": r.name, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind, "verbs": verbs}
        listed.append(own | ({"shortNames": list(r.short)} if r.short else {}))
        for sub in r.subresources:
            kind = {"binding": "Binding", "eviction": "Eviction", "token": "TokenRequest"}.get(sub, r.kind)
            verbs = ["create"] if sub in ("binding", "eviction", "token") else ["get", "patch", "update"]
            listed.append({"name": f"{r.name}/{sub}", "singularName": "", "namespaced": r.namespaced, "kind": kind, "verbs": verbs})
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": listed,
    }
