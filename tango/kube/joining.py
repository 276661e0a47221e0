"""Checks of a cluster before it is joined, and later: everything that Tango will do there, tried with its own manifests as dry runs.

Nothing is made but the namespace, where that is missing and asked for. Pods are tried as they will be made, so that Pod Security, limit
ranges, quotas and webhooks speak now and not when the first request comes. Other calls name a pod that does not exist: whatever the server
answers but a refusal comes after authorization, so it means yes. Asking so needs no permission of its own, as a
SelfSubjectAccessReview might.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tango.domain.identity import NodeKey
from tango.domain.refusal_kind import RefusalKind
from tango.domain.runs import Placement
from tango.domain.services import Service, ServiceClass
from tango.errors import ClusterError, ClusterUnavailable, Conflict, Gone, Invalid, NotFound
from tango.kube.api_client import JSON, METRICS_API, KubeClient
from tango.kube.kubeconfig_file import document, parts_of, token_ends_at_s
from tango.kube.manifests import ClusterWays, be_pod, binding, lc_instance
from tango.settings import KubeSettings

PROBE = "tango-probe"
"""Name of the pod, and of the node, that the checks speak of. Neither exists."""
NAMESPACE_WITHIN_S = 10.0
"""Seconds that a namespace which was just made has until its service account is there: a controller makes it a moment later."""
DRY = {"dryRun": "All"}


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinFinding:
    """What came of one check."""

    what: str
    """What Tango needs, as `bind pods`."""
    is_needed: bool
    """Whether it cannot work there without it."""
    refused: str = ""
    """The server's words; empty: it may."""
    kind: RefusalKind | None = None
    """What the refusal is about, where it is about more than the call."""
    namespace: str = ""
    """Where it was tried, but for Tango's own namespace."""

    @property
    def remedy(self) -> str:
        """What to do about a refusal; empty where the server's words say it."""
        match self.kind:
            case RefusalKind.PERMISSION if self.namespace:
                return f"its owner allows it: kubectl -n {self.namespace} apply -f deploy/rbac/service-namespace.yaml"
            case RefusalKind.NAMESPACE if self.namespace:
                return f"look at namespace {self.namespace} and its service account"
            case RefusalKind.PERMISSION:
                return "deploy/rbac/tango.yaml has the rule"
            case RefusalKind.CREDENTIALS:
                return "the kubeconfig's token or certificate is not valid there"
            case RefusalKind.NAMESPACE:
                return "look at the namespace and its service account"
            case _:
                return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinFacts:
    """What the checks found."""

    nodes: int
    """Number of nodes, ready or not; 0 where they may not be listed."""
    namespace_made: bool
    """Whether the namespace was missing and has been created."""
    findings: tuple[JoinFinding, ...]

    @property
    def missing(self) -> list[JoinFinding]:
        """What is needed and refused."""
        return [f for f in self.findings if f.is_needed and f.refused]


def require_joined(name: str, facts: JoinFacts) -> None:
    """Raises: ClusterError with everything that is missing, in the server's words."""
    if facts.missing:
        told = "\n".join(f"  {f.what}: {f.refused}" + (f" ({f.remedy})" if f.remedy else "") for f in facts.missing)
        raise ClusterError(f"Tango cannot work in cluster {name}; it may not\n{told}")


async def look_over(
    name: str,
    *,
    kubeconfig: str,
    context: str,
    settings: KubeSettings,
    services: Sequence[Service] = (),
    make_namespace: bool = True,
) -> JoinFacts:
    """Try everything that Tango will do in a cluster, with pods of these services beside those of the synthetic workload.

    `make_namespace`: make the namespace if it is missing. Raises: ConfigError for a wrong kubeconfig or context; ClusterError for a
    server without `pods/resize`, or a namespace that is missing and may not be made; ClusterUnavailable if the server does not answer.
    """
    async with await KubeClient.from_kubeconfig(kubeconfig, context, settings, cluster=name) as client:
        resources = (await client.request("GET", "/api/v1")).get("resources") or []
        if "pods/resize" not in {r["name"] for r in resources}:
            raise ClusterError(f"cluster {name} has no pods/resize: Tango needs Kubernetes 1.33 or later")
        made = await _namespace(client, settings.namespace, make=make_namespace)
        deadline_s = time.monotonic() + (NAMESPACE_WITHIN_S if made else 0.0)
        checks = [("", check) for check in _checks(name, settings, services)]
        for namespace in sorted({s.namespace for s in services} - {"", settings.namespace}):
            there = dataclasses.replace(settings, namespace=namespace)
            checks += [
                (namespace, check) for check in _checks_beside(name, there, [s for s in services if s.namespace == namespace])
            ]
        findings = [
            dataclasses.replace(await _found(client, *check, deadline_s=deadline_s), namespace=namespace)
            for namespace, check in checks
        ]
        findings += _of_token(kubeconfig, context)
        try:
            nodes = len((await client.list("/api/v1/nodes"))[0])
        except ClusterError:
            nodes = 0
        return JoinFacts(nodes=nodes, namespace_made=made, findings=tuple(findings))


Call = Callable[[KubeClient], Awaitable[object]]
Check = tuple[str, bool, Call]
"""(what is needed, whether it is, a call that shows it)"""


def _checks(cluster: str, settings: KubeSettings, services: Sequence[Service]) -> list[Check]:
    own = [s for s in services if s.namespace in ("", settings.namespace)]
    pods = f"/api/v1/namespaces/{settings.namespace}/pods"
    few = {"limit": "1"}
    return [
        ("list nodes", True, _call("GET", "/api/v1/nodes", few)),
        ("watch nodes", True, lambda client: _watched(client, "/api/v1/nodes")),
        ("read a node", True, _call("GET", f"/api/v1/nodes/{PROBE}")),
        *_checks_of_pods(pods, _manifests(cluster, settings, own)),
        ("read pods of all namespaces, which hold resources too", False, _call("GET", "/api/v1/pods", few)),
        ("read metrics of nodes", False, _call("GET", f"{METRICS_API}/nodes", few)),
        ("read metrics of pods", False, _call("GET", f"{METRICS_API}/namespaces/{settings.namespace}/pods", few)),
    ]


def _checks_beside(cluster: str, settings: KubeSettings, services: Sequence[Service]) -> list[Check]:
    """Checks of the namespaces that these services have of their own; the cluster itself needs none of them."""
    namespace = settings.namespace
    checks = [
        *_checks_of_pods(f"/api/v1/namespaces/{namespace}/pods", _manifests(cluster, settings, services, probes=False)),
        ("read metrics of pods", False, _call("GET", f"{METRICS_API}/namespaces/{namespace}/pods", {"limit": "1"})),
    ]
    return [(f"{what} in namespace {namespace}", False, call) for what, _, call in checks]


def _call(method: str, path: str, query: dict[str, str] | None = None, body: JSON | None = None) -> Call:
    return lambda client: client.request(method, path, query=query, body=body)


def _checks_of_pods(pods: str, manifests: Sequence[tuple[str, JSON]]) -> list[Check]:
    """What Tango does with its pods, at the path of those of a namespace."""
    one = f"{pods}/{PROBE}"
    wanted = {"spec": {"containers": [{"name": "work", "resources": {"requests": {"cpu": "1m"}}}]}}
    evicted = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": PROBE}}
    return [
        ("list pods", True, _call("GET", pods, {"limit": "1"})),
        ("watch pods", True, lambda client: _watched(client, pods)),
        *((f"create pods ({what})", True, _call("POST", pods, DRY, body)) for what, body in manifests),
        ("bind pods", True, _call("POST", f"{one}/binding", DRY, binding(PROBE, "0", PROBE))),
        ("resize pods", True, _call("PATCH", f"{one}/resize", DRY, wanted)),
        ("evict pods", True, _call("POST", f"{one}/eviction", DRY, evicted)),
        ("delete pods", True, _call("DELETE", one, DRY)),
        ("read logs of pods", True, _call("GET", f"{one}/log")),
    ]


def _manifests(cluster: str, settings: KubeSettings, services: Sequence[Service], *, probes: bool = True) -> list[tuple[str, JSON]]:
    """Of each kind of pod that will be made there, one under a name of its own: of each service, and with `probes` of the synthetic
    workload where none is."""
    ways = ClusterWays.of(settings)
    tried = {s.name: s for s in services if s.adopt is None}
    for label in ServiceClass if probes else ():
        if not any(s.service_class is label and not s.template for s in tried.values()):
            name = f"synthetic {label.label}"
            of_lc = {"target_ms": 1000.0, "instance_memory_mib": 64} if label is ServiceClass.LC else {}
            tried[name] = Service(name="probe", service_class=label, cpu_work_s=1.0, memory_mib=64, **of_lc)  # type: ignore[arg-type]
    found = []
    for k, (what, service) in enumerate(sorted(tried.items())):
        body = _instance(cluster, service, ways) if service.service_class is ServiceClass.LC else _be(cluster, service, ways)
        body["metadata"]["name"] = f"{PROBE}-{k}"
        found.append((what, body))
    return found


def _instance(cluster: str, service: Service, ways: ClusterWays) -> JSON:
    return lc_instance(service, NodeKey(cluster, PROBE), 0, ways=ways)


def _be(cluster: str, service: Service, ways: ClusterWays) -> JSON:
    cpu, memory_mib = service.pod_requests
    placement = Placement(
        run_id=0,
        request_id=0,
        epoch=1,
        cluster=cluster,
        node=PROBE,
        service=service.name,
        pod=PROBE,
        cpu_work_s=service.cpu_work_s,
        cpu_request_millicores=cpu,
        cpu_limit_millicores=service.cpu_limit_millicores,
        memory_mib=memory_mib,
        extended=service.extended,
    )
    return be_pod(placement, service, ways=ways)


def _of_token(kubeconfig: str, context: str) -> list[JoinFinding]:
    """What is to be said of a token that ends and that nobody renews, such as `kubectl create token` prints."""
    left_s = token_ends_at_s(parts_of(document(kubeconfig), context)["user"]) - time.time()
    if math.isinf(left_s):
        return []
    said = f"it ends in {left_s / 3600:.1f} hours: the kubeconfig has to be written anew before, or to name a tokenFile"
    return [JoinFinding(what="keep its token", is_needed=False, refused=said)]


async def _watched(client: KubeClient, path: str) -> None:
    """Raises what the server answers to a watch; it ends as soon as it was taken."""
    watch = client.watch(path, resource_version="0", query={}, timeout_s=1)
    async for _ in watch:
        break


async def _found(client: KubeClient, what: str, is_needed: bool, call: Call, *, deadline_s: float) -> JoinFinding:
    while True:
        try:
            await call(client)
        except ClusterError as error:
            is_young = error.refusal == RefusalKind.NAMESPACE and time.monotonic() < deadline_s
            if is_young:
                await asyncio.sleep(0.5)
                continue
            if error.refusal or not isinstance(error, NotFound | Invalid | Conflict | Gone):
                kind = RefusalKind(error.refusal) if error.refusal else None
                return JoinFinding(what=what, is_needed=is_needed, refused=error.words or str(error), kind=kind)
            # Of a pod that is to be made, what is invalid would be so later too.
            if what.startswith("create") and isinstance(error, Invalid):
                return JoinFinding(what=what, is_needed=is_needed, refused=error.words or str(error))
            if what.startswith("read metrics") and isinstance(error, NotFound):
                return JoinFinding(what=what, is_needed=is_needed, refused="no metrics server answers")
        except ClusterUnavailable as error:
            if is_needed:
                raise
            return JoinFinding(what=what, is_needed=is_needed, refused=str(error))
        return JoinFinding(what=what, is_needed=is_needed)


async def _namespace(client: KubeClient, namespace: str, *, make: bool) -> bool:
    """Make the namespace where it is missing; gives whether it was. Raises: ClusterError where it is missing and was not made."""
    path = f"/api/v1/namespaces/{namespace}"
    try:
        await client.request("GET", path)
    except NotFound:
        pass
    except ClusterError:  # it may not be read: whether it is there, the checks of pods will say
        return False
    else:
        return False
    if make:
        try:
            await client.request("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}})
        except Conflict:
            return False
        except ClusterError as error:
            raise ClusterError(
                f"namespace {namespace} is not in cluster {client.cluster} and may not be made with this context ({error.words}); make it "
                f"with `kubectl create namespace {namespace}`"
            ) from error
        return True
    raise ClusterError(
        f"namespace {namespace} is not in cluster {client.cluster}; `kubectl apply -f deploy/rbac/tango.yaml` makes it"
    )
