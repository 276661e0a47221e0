"""How a node agent tells its cluster of its node: a Lease in Tango's namespace, renewed with each report, which has it as an annotation.

A Lease is what Kubernetes has for heartbeats: small, watched by nobody who does not ask, and no right to nodes or pods is needed for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tango.domain.node_reports import NodeAgentReport
from tango.domain.pod_marks import MANAGED_BY, NODE_REPORT
from tango.node_agent.reports import NodeReport

COMPONENT = "app.kubernetes.io/component"
COMPONENT_LABEL = {MANAGED_BY: "tango", COMPONENT: "node-agent"}
"""By which the leases of node agents are found."""


def lease_name(node: str) -> str:
    """The name of the lease of a node's agent."""
    return f"node-agent-{node}"


def leases_path(namespace: str) -> str:
    """The collection at the API server."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


def parsed_report(lease: Mapping[str, Any]) -> NodeAgentReport | None:
    """The report of a lease; None if it has none that can be read."""
    spec, text = lease.get("spec") or {}, (lease["metadata"].get("annotations") or {}).get(NODE_REPORT, "")
    try:
        report = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(report, dict) or not spec.get("holderIdentity") or not spec.get("renewTime"):
        return None
    seconds = spec.get("leaseDurationSeconds")
    valid = {"valid_s": float(seconds)} if isinstance(seconds, int) and seconds > 0 else {}
    return NodeAgentReport(node=str(spec["holderIdentity"]), at=str(spec["renewTime"]), report=report, **valid)


def lease(node: str, namespace: str, report: NodeReport, *, now: str, seconds: int) -> dict[str, Any]:
    """The object; `now` as Kubernetes writes times with microseconds, `seconds` after which the report counts as old."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": lease_name(node),
            "namespace": namespace,
            "labels": dict(COMPONENT_LABEL),
            "annotations": {NODE_REPORT: json.dumps(report.as_json(), separators=(",", ":"))},
        },
        "spec": {"holderIdentity": node, "leaseDurationSeconds": seconds, "renewTime": now},
    }
