"""Nodes and pods as an API server writes them, for tests of what the agent of a cluster makes of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tango.domain.services import Adoption, Service, ServiceClass

Json = dict[str, Any]

TEN, TEN_S = "2026-01-01T00:00:10Z", datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC).timestamp()
HALF_PAST, HALF_PAST_S = "2026-01-01T00:00:30Z", TEN_S + 20.0
READY = {"type": "Ready", "status": "True"}
BY_EVICTION = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
ADOPTED = Service(
    name="theirs",
    service_class=ServiceClass.LC,
    cpu_work_s=0.05,
    memory_mib=64,
    instance_memory_mib=512,
    target_ms=200.0,
    port=8081,
    adopt=Adoption(namespace="prod", selector="app=api"),
)


def node(name: str = "n1", *, conditions: list[Json] | None = None, **spec: Any) -> Json:
    """A node of 4 cores and 8 GiB, ready unless other conditions are given."""
    return {
        "metadata": {"name": name},
        "spec": spec,
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi"}, "conditions": [READY] if conditions is None else conditions},
    }


def pod(kind: str, *, name: str = "p", on: str | None = "n1", labels: Json | None = None, **status: Any) -> Json:
    """A pod of Tango's of 250m to 1 core and 64Mi; BE ones are request 5 of run 3 under epoch 2."""
    identity = {"tango/run": "3", "tango/request": "5", "tango/epoch": "2"} if kind == "be" else {"tango/service": "web"}
    container = {
        "name": "work",
        "ports": [{"containerPort": 8181}],
        "resources": {"requests": {"cpu": "250m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
    }
    all_labels = {"app.kubernetes.io/managed-by": "tango", "tango/class": kind, **identity, **(labels or {})}
    spec = {"containers": [container], **({"nodeName": on} if on else {})}
    return {"metadata": {"name": name, "uid": f"uid-{name}", "labels": all_labels}, "spec": spec, "status": status}


def running(**container: Any) -> Json:
    """The status of a pod with an address whose container runs since TEN."""
    state = {"running": {"startedAt": TEN}}
    return {"phase": "Running", "podIP": "10.1.2.3", "containerStatuses": [{"ready": True, "state": state, **container}]}


def ended(phase: str, *, why: str = "", message: str = "", **status: Any) -> Json:
    """The status of a pod whose container ran from TEN to HALF_PAST and gives `why` as its own reason."""
    terminated = {"startedAt": TEN, "finishedAt": HALF_PAST, "reason": why, "message": message}
    return {"phase": phase, "containerStatuses": [{"state": {"terminated": terminated}}], **status}


def theirs(name: str = "api-1", *, resources: Json | None = None, uid: str = "", **status: Any) -> Json:
    """A pod of a Deployment of somebody else's."""
    metadata = {"name": name, "namespace": "prod", "uid": uid or f"uid-{name}", "labels": {"app": "api"}}
    container = {"name": "web", "image": "api:1", "resources": resources or {}}
    return {"metadata": metadata, "spec": {"nodeName": "n1", "containers": [container]}, "status": status}
