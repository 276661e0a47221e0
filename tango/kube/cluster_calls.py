"""Calls that the scheduler makes to clusters: implements `tango.ports.clusters.ClusterCalls`.

The methods are synchronous; behind them one asyncio loop runs in a thread of its own, with one client for each cluster. The calls of a
batch run concurrently and fail one by one. Every call may be a repetition of one that succeeded without an answer, so every effect is
idempotent: a pod is named after its request and epoch, and a binding or deletion names the pod's uid.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import structlog
import uvloop

from tango.domain.identity import parts_of_pod, pod_in
from tango.domain.plans import Eviction, Resize
from tango.domain.pod_marks import MANAGED_BY
from tango.domain.pod_templates import default_container
from tango.domain.quantities import cpu_millicores, format_millicores
from tango.domain.refusal_kind import RefusalKind
from tango.domain.runs import Placement, ScalingOutcome, ScalingRecord
from tango.domain.services import Service
from tango.errors import (
    BudgetExhausted,
    ClusterError,
    ClusterUnavailable,
    Conflict,
    DependencyError,
    Forbidden,
    Invalid,
    NotFound,
    TangoError,
)
from tango.kube.api_client import JSON, Connect, KubeClient
from tango.kube.manifests import WORKLOAD_CONTAINER, ClusterWays, be_pod, binding, overrides_of, owned_by_node
from tango.loop_thread import LoopThread
from tango.settings import KubeSettings

log = structlog.get_logger(__name__)
T = TypeVar("T")

RESIZE_TIMEOUT_S = 3.0
"""Seconds to wait for a kubelet to carry out a resize; after that it is recorded as deferred. Chosen, not measured."""
RESIZE_POLL_S = 0.02
"""Seconds between two reads of a pod that is being resized; a deferred resize is read every 0.2 s, since it waits for other pods."""
GONE_TIMEOUT_S = 5.0
"""Seconds to wait until a deleted pod is gone from the API server."""
GRACE_OF_OLD_S = 3.0
"""Seconds that a pod of an older epoch has to end before the next one's is made, its own grace included. A pod that is deleted so is gone
when its kubelet has ended it; one that is deleted at once is gone for the API server alone, and may run beside the next. Beyond this time
its kubelet is taken for dead. Rarely needed: it is for pods whose lease ran out, and the next attempt waits."""
CALL_TIMEOUT_S = 20.0
"""Seconds for one placement, resize, eviction or deletion, with all its calls and retries: the most that a silent cluster costs."""
ELSEWHERE_TIMEOUT_S = 10.0
"""Seconds of these that another cluster may take to end an older epoch: within them it is told from one that is silent itself."""
CLOSE_TIMEOUT_S = 5.0
"""Seconds to close all connections, and as many to stop the loop: a worker that ends has about ten before it is killed."""
BATCH_TIMEOUT_S = 60.0
"""Seconds for a whole batch. Never reached while `CALL_TIMEOUT_S` holds, so it means that the loop itself hangs."""
NODE_MAX_AGE_S = 30.0
"""Seconds after which a node's uid is read again: one that was made anew under its name has another, and a pod with the old one as its
owner is collected as garbage."""
DECLARED_MAX_AGE_S = 1.0
"""Seconds after which services and credentials are read from the store again; services and clusters may change during a run."""


@dataclass(frozen=True, slots=True)
class _Connection:
    client: KubeClient
    credentials: tuple[str, str]
    asked_at_s: float


class KubernetesCalls:
    """Calls to all joined clusters; its methods may be called from any thread. Raises: ClusterUnavailable from each, where the loop
    behind them hangs.

    `credentials(cluster)` returns (path of the kubeconfig, context) and `services()` the declared services. Both are called again when
    their last result is older than `DECLARED_MAX_AGE_S`; while the store does not answer, the last result is used.
    """

    def __init__(
        self,
        credentials: Callable[[str], tuple[str, str]],
        services: Callable[[], Sequence[Service]],
        settings: KubeSettings,
        *,
        connect: Connect = KubeClient.from_kubeconfig,
    ) -> None:
        self._credentials = credentials
        self._services = services
        self._connect = connect
        self._settings = settings
        self._ways = ClusterWays.of(settings)
        self._declared: dict[str, Service] = {}
        self._declared_read_at_s = -1e9
        self._connections: dict[str, _Connection] = {}
        self._node_uids: dict[tuple[str, str], tuple[str, float]] = {}
        """By cluster and node, with when it was read."""
        self._connecting: dict[str, asyncio.Lock] = {}
        self._loop = LoopThread("kubernetes", uvloop.new_event_loop)

    def close(self) -> None:
        """Close all connections and stop the loop; calls in flight fail. Never raises: what does not close is logged."""

        async def close() -> None:
            closing = (connection.client.close() for connection in self._connections.values())
            for error in await asyncio.gather(*closing, return_exceptions=True):
                if error is not None:
                    log.warning("connection_not_closed", error=repr(error))

        try:
            self._wait(close, within_s=CLOSE_TIMEOUT_S)
        except ClusterUnavailable as error:
            log.warning("connection_not_closed", error=str(error))
        self._loop.stop(within_s=CLOSE_TIMEOUT_S)

    def run_be_pods(self, placements: Sequence[Placement]) -> dict[Placement, Exception | None]:
        """Create and bind one pod for each placement; return the error of each, None for success.

        Raises: Dependency errors only if no service is known because the store never answered.
        """
        self._read_services({p.service for p in placements})
        found = self._each([partial(self._run_be_pod, p) for p in placements], [p.cluster for p in placements])
        return {p: f if isinstance(f, Exception) else None for p, f in zip(placements, found, strict=True)}

    def resize(self, resizes: Sequence[Resize]) -> list[ScalingRecord]:
        """Resize instances in place and return one record for each, in the order of `resizes`.

        Outcomes: `done`, `deferred` (not carried out in time, the kubelet may still do it), `infeasible` (never, at this size), `refused`
        (by the cluster: credentials, permission, quota, admission), `error`.
        """
        self._read_services({r.service for r in resizes})
        found = self._each([partial(self._resize, r) for r in resizes], [r.cluster for r in resizes])
        return [
            f if isinstance(f, ScalingRecord) else _resize_record(r, "error", str(f)) for r, f in zip(resizes, found, strict=True)
        ]

    def evict(self, evictions: Sequence[Eviction]) -> list[ScalingRecord]:
        """Evict BE pods and return one record for each, in the order of `evictions`.

        Outcomes: `done` (also if the pod was gone), `deferred` (a PodDisruptionBudget refused it for now), `error`.
        """
        found = self._each([partial(self._evict, e) for e in evictions], [e.cluster for e in evictions])
        records = []
        for eviction, outcome in zip(evictions, found, strict=True):
            if not isinstance(outcome, ScalingRecord):  # beyond its time: the cluster is silent
                log.warning("eviction_failed", pod=eviction.pod, error=str(outcome))
                outcome = _evict_record(eviction, "error", words=str(outcome))
            records.append(outcome)
        return records

    def delete_pods(self, pods: Sequence[tuple[str, str]]) -> None:
        """Delete pods, given as (cluster, name), without a grace period. Failures are logged; the agent deletes what is left."""
        for found in self._each([partial(self._delete, cluster, pod) for cluster, pod in pods], [cluster for cluster, _ in pods]):
            if isinstance(found, Exception):
                log.warning("pod_not_deleted", error=str(found))

    def _pods(self, namespace: str) -> str:
        """The path of the pods of a namespace; empty: Tango's own."""
        return f"/api/v1/namespaces/{namespace or self._settings.namespace}/pods"

    def _path(self, pod: str) -> str:
        """The path of a pod by its name in the fleet."""
        namespace, name = parts_of_pod(pod)
        return f"{self._pods(namespace)}/{name}"

    # ---- one call each -------------------------------------------------------------------------------------------------

    async def _run_be_pod(self, placement: Placement) -> None:
        service = self._declared.get(placement.service)
        if service is None:
            raise Invalid(f"pod {placement.pod}: no service {placement.service!r} is declared", cluster=placement.cluster)
        client = await self._client(placement.cluster)
        namespace, name = parts_of_pod(placement.pod)
        pods, path = self._pods(namespace), self._path(placement.pod)
        # Invariant: no two pods of one request at once. Pods of all older epochs must be gone before this one is created, wherever they
        # were placed: a lease may have run out because a watch told late what runs.
        for older in await self._older_pods(client, placement, namespace) if placement.epoch > 1 else ():
            await self._delete_and_wait(client, older)
        for cluster, of_older in placement.older:
            await self._delete_elsewhere(cluster, of_older, placement)
        manifest = be_pod(placement, service, job=overrides_of(placement, service), ways=self._ways)
        owned_by_node(manifest, placement.node, await self._node_uid(client, placement.node))
        try:
            pod = await client.request("POST", pods, body=manifest)
        except Conflict:
            pod = await client.request("GET", path)
            labels = pod["metadata"].get("labels") or {}
            # The name is taken: by our own earlier call whose answer was lost if the labels agree, else by somebody else's pod. An
            # admission webhook may have added labels, so ours need only be among them.
            if not manifest["metadata"]["labels"].items() <= labels.items() or "deletionTimestamp" in pod["metadata"]:
                raise
        if pod["spec"].get("nodeName") == placement.node:
            return
        uid = pod["metadata"]["uid"]
        try:
            await client.request("POST", f"{path}/binding", body=binding(name, uid, placement.node))
        except Conflict:
            # Bound already. It is success if an earlier call bound this very pod (same uid) to this node and its answer was lost.
            now = await client.request("GET", path)
            if now["metadata"]["uid"] != uid or now["spec"].get("nodeName") != placement.node:
                raise
        except ClusterError:
            # Refused for good: the request will be placed elsewhere, so its unbound pod is deleted. If this fails too, the agent deletes
            # the pod later, because its epoch is not the current one.
            with contextlib.suppress(ClusterError, ClusterUnavailable):
                await client.request("DELETE", path, body={"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})
            raise

    async def _node_uid(self, client: KubeClient, node: str) -> str:
        """The node's uid, kept for a while; empty where it cannot be read, and the pod is then made without an owner."""
        key, now_s = (client.cluster, node), time.monotonic()
        known = self._node_uids.get(key)
        if known is None or now_s - known[1] > NODE_MAX_AGE_S:
            try:
                known = str((await client.request("GET", f"/api/v1/nodes/{node}"))["metadata"].get("uid") or ""), now_s
            except (ClusterError, ClusterUnavailable):
                known = "", now_s
            self._node_uids[key] = known
        return known[0]

    async def _delete_elsewhere(self, cluster: str, namespace: str, placement: Placement) -> None:
        """Delete what older epochs have in another cluster or namespace.

        Raises: ClusterError, so that the request waits, where that cannot be known.
        """
        try:
            async with asyncio.timeout(ELSEWHERE_TIMEOUT_S):
                client = await self._client(cluster)
                for older in await self._older_pods(client, placement, namespace):
                    await self._delete_and_wait(client, older)
        except (ClusterUnavailable, TimeoutError) as error:
            raise ClusterError(
                f"an older epoch of {placement.pod} may run in {cluster}, which does not answer: {error}",
                cluster=cluster,
                refusal=RefusalKind.UNREACHABLE,
                words=str(error),
            ) from error

    async def _older_pods(self, client: KubeClient, placement: Placement, namespace: str) -> list[str]:
        selector = f"{MANAGED_BY}=tango,tango/run={placement.run_id},tango/request={placement.request_id}"
        found, _ = await client.list(self._pods(namespace), labelSelector=selector)
        names = [pod_in(namespace, pod["metadata"]["name"]) for pod in found]
        return [name for name in names if name != placement.pod]

    async def _delete_and_wait(self, client: KubeClient, pod: str) -> None:
        """Its containers have the pod's own grace, but no more than `GRACE_OF_OLD_S`."""
        path = self._path(pod)
        now_s = time.monotonic()
        at_once_from_s, deadline = now_s + GRACE_OF_OLD_S, now_s + GONE_TIMEOUT_S
        asked = set[bool]()
        while True:
            at_once = time.monotonic() >= at_once_from_s
            try:
                if at_once not in asked:  # each once: its kubelet takes the time that it takes, however often it is told
                    await client.request("DELETE", path, query={"gracePeriodSeconds": "0"} if at_once else None)
                    asked.add(at_once)
                await client.request("GET", path)
            except NotFound:
                return
            if time.monotonic() > deadline:
                raise ClusterUnavailable(f"{client.cluster}: pod {pod} of an older epoch does not go away", cluster=client.cluster)
            await asyncio.sleep(0.05)

    async def _resize(self, resize: Resize) -> ScalingRecord:
        path = self._path(resize.pod)
        begin = time.monotonic()
        service = self._declared.get(resize.service)
        container = (service.container if service else "") or WORKLOAD_CONTAINER
        if service is None or service.adopt is not None:
            try:
                client = await self._client(resize.cluster)
                container = _resized_container(await client.request("GET", path), service)
            except TangoError as error:
                return _resize_record(resize, _outcome_of(error), f"{resize.reason}: {error}")
        patch = {
            "spec": {
                "containers": [
                    {
                        "name": container,
                        "resources": {
                            "requests": {"cpu": format_millicores(resize.cpu_request_after_millicores)},
                            "limits": {"cpu": format_millicores(resize.cpu_limit_after_millicores)},
                        },
                    }
                ]
            }
        }
        outcome, note = "done", resize.reason
        try:
            client = await self._client(resize.cluster)
            pod = await client.request("PATCH", f"{path}/resize", body=patch)
            outcome = _resize_state(pod, resize, container)
            while outcome in ("pending", "deferred") and time.monotonic() - begin < RESIZE_TIMEOUT_S:
                await asyncio.sleep(RESIZE_POLL_S if outcome == "pending" else 0.2)
                outcome = _resize_state(await client.request("GET", path), resize, container)
        except TangoError as error:
            words = (error.words or error.reason) if isinstance(error, ClusterError) else ""
            outcome, note = _outcome_of(error), f"{resize.reason}: {words or error}"
        if outcome == "done":
            return _resize_record(resize, outcome, note, actuation_ms=(time.monotonic() - begin) * 1e3)
        return _resize_record(resize, "deferred" if outcome == "pending" else outcome, note)

    async def _evict(self, eviction: Eviction) -> ScalingRecord:
        begin = time.monotonic()
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {
                "name": parts_of_pod(eviction.pod)[1]
            },  # the pod's own grace period: a job that saves its state has asked for it
        }
        try:
            client = await self._client(eviction.cluster)
            await client.request("POST", f"{self._path(eviction.pod)}/eviction", body=body)
        except NotFound:
            pass
        except BudgetExhausted as error:
            return _evict_record(eviction, "deferred", words=error.words)
        except TangoError as error:
            log.warning("eviction_failed", cluster=eviction.cluster, pod=eviction.pod, error=str(error))
            return _evict_record(eviction, "error", words=(error.words if isinstance(error, ClusterError) else "") or str(error))
        return _evict_record(eviction, "done", actuation_ms=(time.monotonic() - begin) * 1e3)

    async def _delete(self, cluster: str, pod: str) -> None:
        client = await self._client(cluster)
        try:
            await client.request("DELETE", self._path(pod), query={"gracePeriodSeconds": "0"})
        except NotFound:
            return

    # ---- plumbing ------------------------------------------------------------------------------------------------------

    def _read_services(self, wanted: set[str]) -> None:
        now_s = time.monotonic()
        if now_s - self._declared_read_at_s < DECLARED_MAX_AGE_S and wanted <= self._declared.keys():
            return
        try:
            self._declared = {service.name: service for service in self._services()}
        except DependencyError as error:
            if not wanted <= self._declared.keys():
                raise
            log.warning("services_kept", error=str(error))
        self._declared_read_at_s = now_s

    async def _client(self, cluster: str) -> KubeClient:
        # A lock for each cluster: concurrent calls open one connection, and a cluster that is slow to reach holds up no other.
        async with self._connecting.setdefault(cluster, asyncio.Lock()):
            known, now_s = self._connections.get(cluster), time.monotonic()
            if known is not None and now_s - known.asked_at_s < DECLARED_MAX_AGE_S:
                return known.client
            try:
                credentials = await asyncio.to_thread(self._credentials, cluster)
            except DependencyError:
                if known is None:
                    raise
                return known.client
            if known is not None and known.credentials == credentials:
                client = known.client
            else:
                client = await self._connect(*credentials, self._settings, cluster=cluster)
                if known is not None:  # the cluster has joined again with other credentials; calls with the old ones fail
                    await known.client.close()
            self._connections[cluster] = _Connection(client, credentials, now_s)
            return client

    def _each(self, calls: Sequence[Callable[[], Coroutine[Any, Any, T]]], clusters: Sequence[str]) -> list[T | Exception]:
        async def bounded(call: Callable[[], Coroutine[Any, Any, T]], cluster: str) -> T:
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    return await call()
            except TimeoutError as error:
                raise ClusterUnavailable(f"{cluster}: no answer within {CALL_TIMEOUT_S:g} s", cluster=cluster) from error

        async def gather() -> list[T | Exception]:
            found = await asyncio.gather(*map(bounded, calls, clusters), return_exceptions=True)
            for f in found:
                if isinstance(f, BaseException) and not isinstance(f, TangoError):
                    log.error("kubernetes_call_broken", error=repr(f))
            return [f if not isinstance(f, BaseException) or isinstance(f, Exception) else RuntimeError(repr(f)) for f in found]

        return self._wait(gather, within_s=BATCH_TIMEOUT_S)

    def _wait(self, work: Callable[[], Coroutine[Any, Any, T]], *, within_s: float) -> T:
        """The result of `work` on the loop. Raises: ClusterUnavailable when the loop hangs; the work is cancelled."""
        try:
            return self._loop.run(work, within_s=within_s)
        except TimeoutError as error:
            raise ClusterUnavailable(
                f"calls to clusters did not end within {within_s:g} s: this process's connections hang, restart it if they stay so"
            ) from error


def _outcome_of(error: TangoError) -> ScalingOutcome:
    """Of a resize that was refused: for good, by the cluster for a reason of its own, or for once."""
    if isinstance(error, ClusterError) and error.refusal:
        return "refused"
    return "infeasible" if isinstance(error, Invalid | Forbidden) else "error"


def _resized_container(pod: JSON, service: Service | None) -> str:
    """The container of an adopted pod that may be resized. Raises: Invalid, without a call, where its CPU may not be moved as it runs."""
    name = (service.adopt.container if service is not None and service.adopt is not None else "") or default_container(pod)
    container = next((c for c in pod["spec"]["containers"] if c["name"] == name), None)
    if service is None or not service.resizable or container is None:
        raise Invalid(f"pod {pod['metadata']['name']} has no container {name!r} that Tango may resize")
    if pod["spec"].get("resources"):
        raise Invalid(
            f"pod {pod['metadata']['name']} has resources as a whole (spec.resources), which bound its containers: left alone"
        )
    policies = {p["resourceName"]: p.get("restartPolicy") for p in container.get("resizePolicy") or []}
    if policies.get("cpu", "NotRequired") != "NotRequired":
        raise Invalid(f"container {name!r} of pod {pod['metadata']['name']} would be restarted: its resizePolicy says so")
    if (pod.get("status") or {}).get("qosClass", "Burstable") != "Burstable":
        raise Invalid(f"pod {pod['metadata']['name']} is {pod['status']['qosClass']}, and a resize must not change that")
    return name


def _resize_record(resize: Resize, outcome: ScalingOutcome, note: str, *, actuation_ms: float | None = None) -> ScalingRecord:
    return ScalingRecord(
        kind="resize",
        cluster=resize.cluster,
        node=resize.node,
        service=resize.service,
        pod=resize.pod,
        before_millicores=resize.cpu_limit_before_millicores,
        after_millicores=resize.cpu_limit_after_millicores,
        after_request_millicores=resize.cpu_request_after_millicores,
        slack=resize.slack,
        reason=note,
        actuation_ms=actuation_ms,
        outcome=outcome,
    )


def _evict_record(
    eviction: Eviction, outcome: ScalingOutcome, *, words: str = "", actuation_ms: float | None = None
) -> ScalingRecord:
    """`words`: why it did not go, as the server says it."""
    return ScalingRecord(
        kind="evict",
        cluster=eviction.cluster,
        node=eviction.node,
        service="",
        pod=eviction.pod,
        before_millicores=None,
        after_millicores=None,
        slack=None,
        reason=": ".join(filter(None, (str(eviction.reason), eviction.why, words))),
        actuation_ms=actuation_ms,
        outcome=outcome,
        spared=eviction.spared,
    )


def _resize_state(pod: JSON, resize: Resize, container: str) -> ScalingOutcome | Literal["pending"]:
    """State of a resize of this container: `done`, `pending`, `deferred`, `infeasible` or `error`, from the pod's conditions and the
    container's actual resources.

    A condition whose `observedGeneration` is older than the pod's generation belongs to an earlier resize and is ignored.
    Source: Kubernetes documentation, "Resize CPU and Memory Resources assigned to Containers"; KEP-1287.
    """
    status, generation = pod.get("status") or {}, pod["metadata"].get("generation", 0)
    for condition in status.get("conditions") or []:
        if condition.get("observedGeneration", generation) < generation:
            continue
        if condition["type"] == "PodResizePending":
            return "infeasible" if condition.get("reason") == "Infeasible" else "deferred"
        if condition["type"] == "PodResizeInProgress":
            return "error" if condition.get("reason") == "Error" else "pending"
    if status.get("observedGeneration", generation) < generation:
        return "pending"
    statuses = status.get("containerStatuses") or []
    actual = next((s.get("resources") or {} for s in statuses if s["name"] == container), {})
    wanted = (("limits", resize.cpu_limit_after_millicores), ("requests", resize.cpu_request_after_millicores))
    # Within 10 millicores: runc's systemd driver rounds a CPU quota up to whole per cents, and the kubelet reports what it read back.
    reached = [
        cpu is not None and abs(cpu_millicores(cpu) - millicores) <= 10
        for kind, millicores in wanted
        for cpu in [(actual.get(kind) or {}).get("cpu")]
    ]
    return "done" if all(reached) else "pending"
