"""Checks before a cluster is joined: its version, Tango's permissions there, and its metrics. Creates the namespace, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from tango.errors import ConfigError, Conflict, Forbidden, Invalid, NotFound
from tango.kube.api_client import KubeClient
from tango.settings import KubeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """What the checks found."""

    nodes: int
    """Number of nodes, ready or not."""
    namespace_made: bool
    """Whether the namespace was missing and has been created."""


async def look_over(name: str, *, kubeconfig: str, context: str, settings: KubeSettings) -> ClusterFacts:
    """Check that Tango can use a cluster, and create its namespace if it is missing.

    Raises: ConfigError for a wrong kubeconfig or context, a server without `pods/resize`, or missing permissions, all of which are
    named; ClusterUnavailable if the server does not answer.
    """
    async with await KubeClient.from_kubeconfig(kubeconfig, context, settings, cluster=name) as client:
        resources = (await client.request("GET", "/api/v1")).get("resources") or []
        if "pods/resize" not in {r["name"] for r in resources}:
            raise ConfigError(f"cluster {name} has no pods/resize: Tango needs Kubernetes 1.33 or later")
        made = await _namespace(client, settings.namespace)
        pods = f"/api/v1/namespaces/{settings.namespace}/pods"
        missing = [
            what
            for what, method, path, body in (
                ("list nodes", "GET", "/api/v1/nodes?limit=1", None),
                ("list pods", "GET", f"{pods}?limit=1", None),
                ("create pods", "POST", f"{pods}?dryRun=All", {"metadata": {"name": "tango-probe"}}),
                ("delete pods", "DELETE", f"{pods}/tango-probe?dryRun=All", None),
                ("read metrics.k8s.io", "GET", "/apis/metrics.k8s.io/v1beta1/nodes?limit=1", None),
            )
            if not await _may(client, method, path, body)
        ]
        if missing:
            raise ConfigError(
                f"context {context!r} of {kubeconfig} may not {', '.join(missing)} in cluster {name}; "
                "deploy/rbac/tango.yaml has the rules that Tango needs"
            )
        nodes, _ = await client.list("/api/v1/nodes")
        return ClusterFacts(nodes=len(nodes), namespace_made=made)


async def _namespace(client: KubeClient, namespace: str) -> bool:
    """Create the namespace; return False if it exists, which is enough where the context may not create any."""
    try:
        await client.request("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}})
    except Conflict:
        return False
    except Forbidden as error:
        try:
            await client.request("GET", f"/api/v1/namespaces/{namespace}")
        except (Forbidden, NotFound):
            raise ConfigError(
                f"namespace {namespace} is not in cluster {client.cluster} and may not be made with this context; "
                f"make it with `kubectl create namespace {namespace}`"
            ) from error
        return False
    return True


async def _may(client: KubeClient, method: str, path: str, body: object) -> bool:
    """Whether a call is allowed. A refusal for another reason (404, 409, 422) comes after authorization, so it means yes.

    Asking by dry runs needs no permission of its own, as a SelfSubjectAccessReview might.
    """
    path, _, query = path.partition("?")
    key, _, value = query.partition("=")
    try:
        await client.request(method, path, body=body, query={key: value})
    except Forbidden:
        return False
    except (NotFound, Invalid, Conflict):
        return True
    return True
