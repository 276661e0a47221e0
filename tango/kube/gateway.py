"""What the scheduler does to clusters: implements `tango.ports.ClusterGateway`.

A synchronous face over one event loop in a thread of its own, with one client per cluster; the calls of a batch run side by side,
each failing for itself. Every effect can meet an earlier copy of itself: pods are named after request and epoch.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import structlog

from tango.domain.plans import Eviction, Resize
from tango.domain.resources import cpu_millicores, format_millicores
from tango.domain.runs import Placement, ScalingRecord
from tango.errors import BudgetExhausted, ClusterError, ClusterUnavailable, Conflict, Forbidden, Invalid, NotFound, TangoError
from tango.kube.api_client import JSON, KubeClient
from tango.kube.manifests import be_pod, binding
from tango.settings import KubeSettings

log = structlog.get_logger(__name__)
T = TypeVar("T")

RESIZE_TIMEOUT_S = 3.0
RESIZE_POLL_S = 0.02
GONE_TIMEOUT_S = 5.0
BATCH_TIMEOUT_S = 60.0
DEFAULT_IMAGE = "ghcr.io/tango-edge/workload:latest"


class KubernetesGateway:
    """Calls to all joined clusters. `credentials(cluster)` gives (kubeconfig path, context) and is asked once per cluster."""

    def __init__(
        self,
        credentials: Callable[[str], tuple[str, str]],
        settings: KubeSettings,
        *,
        image_of: Callable[[str], str] = lambda service: DEFAULT_IMAGE,
    ) -> None:
        self._credentials = credentials
        self._settings = settings
        self._image_of = image_of
        self._clients: dict[str, KubeClient] = {}
        self._pods = f"/api/v1/namespaces/{settings.namespace}/pods"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kubernetes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Drop all connections and stop the loop."""

        async def close() -> None:
            for client in self._clients.values():
                await client.close()

        self._wait(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def run_be_pods(self, placements: Sequence[Placement]) -> dict[Placement, Exception | None]:
        """Create and bind one pod a placement."""
        found = self._each([self._run_be_pod(p) for p in placements])
        return {p: f if isinstance(f, Exception) else None for p, f in zip(placements, found, strict=True)}

    def resize(self, resizes: Sequence[Resize]) -> list[ScalingRecord]:
        """Resize instances in place; tell what became of each."""
        return [f for f in self._each([self._resize(r) for r in resizes]) if isinstance(f, ScalingRecord)]

    def evict(self, evictions: Sequence[Eviction]) -> list[ScalingRecord]:
        """Evict BE pods; a refused budget is an outcome."""
        return [f for f in self._each([self._evict(e) for e in evictions]) if isinstance(f, ScalingRecord)]

    def delete_pods(self, pods: Sequence[tuple[str, str]]) -> None:
        """Delete (cluster, pod) with grace 0."""
        for found in self._each([self._delete(cluster, pod) for cluster, pod in pods]):
            if isinstance(found, Exception):
                log.warning("pod_not_deleted", error=str(found))

    # ---- one call each -------------------------------------------------------------------------------------------------

    async def _run_be_pod(self, placement: Placement) -> None:
        client = await self._client(placement.cluster)
        # A pod of an older epoch must be gone before this one is made, or one request could run twice.
        for epoch in range(max(1, placement.epoch - 2), placement.epoch):
            await self._delete_and_wait(client, placement.pod.rsplit("-e", 1)[0] + f"-e{epoch}")
        manifest = be_pod(placement, image=self._image_of(placement.service))
        try:
            pod = await client.request("POST", self._pods, body=manifest)
        except Conflict:
            pod = await client.request("GET", f"{self._pods}/{placement.pod}")
            if pod["metadata"].get("labels") != manifest["metadata"]["labels"] or "deletionTimestamp" in pod["metadata"]:
                raise
        if pod["spec"].get("nodeName") == placement.node:
            return
        try:
            await client.request(
                "POST", f"{self._pods}/{placement.pod}/binding", body=binding(placement.pod, pod["metadata"]["uid"], placement.node)
            )
        except Conflict:
            # A lost reply: bound as asked, and still the same pod, is success.
            now = await client.request("GET", f"{self._pods}/{placement.pod}")
            if now["metadata"]["uid"] != pod["metadata"]["uid"] or now["spec"].get("nodeName") != placement.node:
                raise

    async def _delete_and_wait(self, client: KubeClient, pod: str) -> None:
        path = f"{self._pods}/{pod}"
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while True:
            try:
                await client.request("DELETE", path, query={"gracePeriodSeconds": "0"})
                await client.request("GET", path)
            except NotFound:
                return
            if time.monotonic() > deadline:
                raise ClusterUnavailable(f"{client.cluster}: pod {pod} of an older epoch does not go away", cluster=client.cluster)
            await asyncio.sleep(0.05)

    async def _resize(self, resize: Resize) -> ScalingRecord:
        client = await self._client(resize.cluster)
        path = f"{self._pods}/{resize.pod}"
        begin = time.monotonic()
        patch = {
            "spec": {
                "containers": [
                    {
                        "name": "work",
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
            pod = await client.request("PATCH", f"{path}/resize", body=patch)
            outcome = _resize_state(pod, resize.cpu_limit_after_millicores)
            while outcome in ("pending", "deferred") and time.monotonic() - begin < RESIZE_TIMEOUT_S:
                await asyncio.sleep(RESIZE_POLL_S if outcome == "pending" else 0.2)
                outcome = _resize_state(await client.request("GET", path), resize.cpu_limit_after_millicores)
        except (Invalid, Forbidden) as error:
            outcome, note = "infeasible", f"{resize.reason}: {error.reason or error}"
        except TangoError as error:
            outcome, note = "error", f"{resize.reason}: {error}"
        return ScalingRecord(
            kind="resize",
            cluster=resize.cluster,
            node=resize.node,
            service=resize.service,
            pod=resize.pod,
            before_millicores=resize.cpu_limit_before_millicores,
            after_millicores=resize.cpu_limit_after_millicores,
            slack=resize.slack,
            reason=note,
            actuation_ms=(time.monotonic() - begin) * 1e3 if outcome == "done" else None,
            outcome="deferred" if outcome == "pending" else outcome,
        )

    async def _evict(self, eviction: Eviction) -> ScalingRecord:
        client = await self._client(eviction.cluster)
        begin = time.monotonic()
        outcome = "done"
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": eviction.pod},
            "deleteOptions": {"gracePeriodSeconds": 1},
        }
        try:
            await client.request("POST", f"{self._pods}/{eviction.pod}/eviction", body=body)
        except NotFound:
            pass
        except BudgetExhausted:
            outcome = "deferred"
        except TangoError as error:
            log.warning("eviction_failed", pod=eviction.pod, error=str(error))
            outcome = "error"
        return ScalingRecord(
            kind="evict",
            cluster=eviction.cluster,
            node=eviction.node,
            service="",
            pod=eviction.pod,
            before_millicores=None,
            after_millicores=None,
            slack=None,
            reason=str(eviction.reason),
            actuation_ms=(time.monotonic() - begin) * 1e3,
            outcome=outcome,
        )

    async def _delete(self, cluster: str, pod: str) -> None:
        client = await self._client(cluster)
        try:
            await client.request("DELETE", f"{self._pods}/{pod}", query={"gracePeriodSeconds": "0"})
        except NotFound:
            return

    # ---- plumbing ------------------------------------------------------------------------------------------------------

    async def _client(self, cluster: str) -> KubeClient:
        if cluster not in self._clients:
            path, context = await asyncio.to_thread(self._credentials, cluster)
            if cluster not in self._clients:
                self._clients[cluster] = await KubeClient.from_kubeconfig(path, context, self._settings, cluster=cluster)
        return self._clients[cluster]

    def _each(self, calls: Sequence[Coroutine[Any, Any, T]]) -> list[T | Exception]:
        async def gather() -> list[T | Exception]:
            found = await asyncio.gather(*calls, return_exceptions=True)
            for f in found:
                if isinstance(f, BaseException) and not isinstance(f, ClusterError | ClusterUnavailable):
                    log.error("kubernetes_call_broken", error=repr(f))
            return [f if not isinstance(f, BaseException) or isinstance(f, Exception) else RuntimeError(repr(f)) for f in found]

        return self._wait(gather())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=BATCH_TIMEOUT_S)


def _resize_state(pod: JSON, wanted_millicores: int) -> str:
    """`done`, `pending`, `deferred`, `infeasible` or `error`, from conditions and the container's actual resources."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodResizePending":
            return "infeasible" if condition.get("reason") == "Infeasible" else "deferred"
        if condition["type"] == "PodResizeInProgress":
            return "error" if condition.get("reason") == "Error" else "pending"
    statuses = status.get("containerStatuses") or [{}]
    actual = ((statuses[0].get("resources") or {}).get("limits") or {}).get("cpu")
    if actual is not None and abs(cpu_millicores(actual) - wanted_millicores) <= 10:
        return "done"
    return "pending"
