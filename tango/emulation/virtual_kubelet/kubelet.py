"""The kubelet's part in the Kubernetes API: registers nodes, renews their leases, watches pods and reports their status."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from tango.domain.fleet import Cluster, Fleet, Node
from tango.domain.pod_marks import CLUSTER
from tango.emulation.references import KINDS, Reference
from tango.emulation.virtual_kubelet import node_objects
from tango.emulation.virtual_kubelet.metrics_writer import MetricsWriter
from tango.emulation.virtual_kubelet.network import ClusterNetwork
from tango.emulation.virtual_kubelet.node_pool import Addresses, NodePool
from tango.emulation.virtual_kubelet.node_timeline import NodeTimeline
from tango.emulation.virtual_kubelet.pod_place import CannotStart
from tango.emulation.virtual_kubelet.pod_spec import PodKind, pod_spec
from tango.emulation.virtual_kubelet.process_host import ProcessHost
from tango.emulation.virtual_kubelet.status_writer import AGAIN_AFTER_S, StatusWriter
from tango.errors import ClusterError, ClusterUnavailable, ConfigError, Conflict, NotFound
from tango.kube.api_client import MERGE_PATCH, STRATEGIC_PATCH, KubeClient
from tango.kube.informer import Informer

log = structlog.get_logger(__name__)
Json = dict[str, Any]

RENEW_EVERY_S = 10.0
"""Seconds between two renewals of a node's lease: a quarter of its duration, as a real kubelet does."""
STATUS_EVERY = 6
"""Renewals of the lease for each update of the Node's conditions, so about once a minute."""
FAREWELL_S = 0.4
"""Seconds for reporting the nodes NotReady at the end; the supervisor kills the process after two."""


class VirtualKubelet:
    """The nodes of one cluster; bound to the running asyncio loop."""

    def __init__(
        self,
        client: KubeClient,
        fleet: Fleet,
        cluster: Cluster,
        *,
        namespace: str,
        timeline: NodeTimeline,
        addresses: Addresses,
        processes: ProcessHost | None = None,
        call_key: str = "",
    ) -> None:
        """`namespace`: whose pods it runs; empty: all. `processes`, `call_key`: as of `NodePool`."""
        self._client = client
        self._cluster = cluster
        self._boot_id = str(uuid.uuid4())
        self._booted_s = time.time()
        self._statuses = StatusWriter(self._write_status)
        self.pool = NodePool(
            fleet,
            cluster,
            timeline=timeline,
            network=ClusterNetwork(fleet, cluster.name),
            addresses=addresses,
            report=self._statuses.touch,
            processes=processes,
            call_key=call_key,
        )
        if processes is not None:
            processes.read = self._read_source
        self._metrics = MetricsWriter(client, self.pool, cluster.name)
        # The server filters out pods that are not bound, so that the backlog of a scheduler causes no events here.
        path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        self._pods = Informer(client, path, on_event=self._on_pod, fieldSelector="spec.nodeName!=")
        self._nodes = Informer(client, "/api/v1/nodes", on_event=self._on_node, labelSelector=f"{CLUSTER}={cluster.name}")
        self._pressed_since_s: dict[str, dict[str, float]] = {}
        """By node: when a condition of pressure last changed."""
        self._is_stopping = False
        self.broken = 0
        """Heartbeats that failed by a defect, since the start."""
        self._letting_go: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Register all nodes, then follow pods, renew leases and write metrics until cancelled. Failing calls are repeated."""
        async with asyncio.TaskGroup() as registrations:
            for node in self._cluster.nodes:
                registrations.create_task(self._until_done(lambda node=node: self._register(node)))  # type: ignore[misc]
        log.info("kubelet_ready", cluster=self._cluster.name, nodes=len(self._cluster.nodes))
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._nodes.run())
            await self._nodes.synced()  # before the first pod: its admission looks at the node
            loops.create_task(self._pods.run())
            loops.create_task(self._heartbeats())
            loops.create_task(self._metrics.run())

    async def stop(self) -> None:
        """Close all connections and report the nodes NotReady, so that no more requests come; best effort, in under a second."""
        self._is_stopping = True
        self.pool.close()
        if self.pool.processes is not None:
            await self.pool.processes.close()
        await self._statuses.close()
        for task in list(self._tasks):
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await asyncio.gather(*(self._node_status(n, ready=False) for n in self._cluster.nodes), return_exceptions=True)

    # ---- nodes -----------------------------------------------------------------------------------------------------------

    async def _register(self, node: Node) -> None:
        try:
            await self._client.request("POST", "/api/v1/nodes", body=node_objects.node_object(node, self._cluster.name))
        except Conflict:
            log.info("node_known", cluster=self._cluster.name, node=node.name)
        # Status before taints: once the not-ready taint is gone schedulers use the node, and must find its capacity and Ready then.
        await self._node_status(node, ready=True)
        path = f"/api/v1/nodes/{node.name}"
        while True:
            found = await self._client.request("GET", path)
            body = node_objects.registration_patch(node, self._cluster.name, found)
            try:
                await self._client.request("PATCH", path, body=body, content_type=MERGE_PATCH)
                break
            except Conflict:  # somebody else changed the node meanwhile
                continue
        await self._renew_lease(node.name)

    async def _node_status(self, node: Node, *, ready: bool) -> None:
        body = node_objects.node_status(
            node,
            ready=ready,
            boot_id=self._boot_id,
            booted_s=self._booted_s if ready else time.time(),
            now_s=time.time(),
            pressure=self.pool.states[self.pool.index[node.name]].ways.pressure,
            since_s=self._pressed_since_s.get(node.name, {}),
        )
        await self._client.request("PATCH", f"/api/v1/nodes/{node.name}/status", body=body, content_type=STRATEGIC_PATCH)

    def _on_node(self, kind: str, found: Json) -> None:
        name = found["metadata"]["name"]
        if kind == "DELETED" or name not in self.pool.index:
            return
        node = self._cluster.nodes[self.pool.index[name]]
        conditions = {c.get("type"): c.get("status") for c in (found.get("status") or {}).get("conditions") or []}
        if conditions.get("Ready") == "Unknown" and not self._is_stopping:
            # This process was silent for too long and lives: the node is as it was, and so are its pods, which count as not ready.
            self._spawn(self._until_done(lambda: self._node_status(node, ready=True)))
            for uid, run in self.pool.runs.items():
                if run.node == self.pool.index[name]:
                    self._statuses.touch(uid)
        before = self.pool.states[self.pool.index[name]].ways.pressure
        if self.pool.note_node(found):
            changed = set(before) ^ set(self.pool.states[self.pool.index[name]].ways.pressure)
            self._pressed_since_s.setdefault(name, {}).update(dict.fromkeys(changed, time.time()))
            self._spawn(self._until_done(lambda: self._node_status(node, ready=True)))

    async def _heartbeats(self) -> None:
        beats = 0
        while True:
            await asyncio.sleep(RENEW_EVERY_S * random.uniform(0.9, 1.0))  # jitter, so that clusters do not beat together
            beats += 1
            calls: list[Awaitable[None]] = [self._renew_lease(n.name) for n in self._cluster.nodes]
            if beats % STATUS_EVERY == 0:
                calls += [self._node_status(n, ready=True) for n in self._cluster.nodes]
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(outcome, ClusterError | ClusterUnavailable):
                    log.warning("heartbeat_failed", cluster=self._cluster.name, error=str(outcome))
                elif isinstance(outcome, Exception) and not isinstance(outcome, ConfigError):
                    # A defect of one beat: this process runs the pods of all clusters, and raised it would end all of them.
                    self.broken += 1
                    log.error("heartbeat_broken", cluster=self._cluster.name, broken=self.broken, exc_info=outcome)
                elif isinstance(outcome, BaseException):  # credentials that will not do, or the end
                    raise outcome

    async def _renew_lease(self, node: str) -> None:
        spec = node_objects.lease_spec(node, now_s=time.time())
        try:
            await self._client.request("PATCH", f"{node_objects.LEASES}/{node}", body={"spec": spec}, content_type=MERGE_PATCH)
        except NotFound:
            with contextlib.suppress(Conflict):
                await self._client.request("POST", node_objects.LEASES, body=node_objects.node_lease(node, now_s=time.time()))

    # ---- pods ------------------------------------------------------------------------------------------------------------

    def _on_pod(self, kind: str, pod: Json) -> None:
        if pod["spec"].get("nodeName") not in self.pool.index:
            return
        uid, phase = pod["metadata"]["uid"], (pod.get("status") or {}).get("phase")
        if kind == "DELETED":
            self.pool.forget(uid)
            self._statuses.drop(uid)
            return
        if "deletionTimestamp" in pod["metadata"]:
            if pod["metadata"].get("deletionGracePeriodSeconds") == 0 and not pod["metadata"].get("finalizers"):
                return  # the server removes it by itself and sends DELETED
            if uid not in self._letting_go:
                self._letting_go.add(uid)
                self._spawn(self._let_go(uid, pod))
            return
        if uid in self.pool.runs:
            self.pool.resize(pod)
        elif phase not in ("Succeeded", "Failed"):
            self._begin(pod)

    def _begin(self, pod: Json) -> None:
        """Start a pod that this process does not know.

        If the API says that it runs, this process has replaced one that ended, as if the node had rebooted: an LC instance is restarted,
        a BE pod's work is lost and the pod fails.
        """
        status = pod.get("status") or {}
        containers = status.get("containerStatuses") or []
        if status.get("phase") == "Running":
            try:
                kind = pod_spec(pod).kind
            except ValueError:
                kind = PodKind.IDLE
            if kind is PodKind.BE:
                self.pool.lose(pod)
                return
            restarts = int(containers[0].get("restartCount", 0)) + 1 if containers else 1
            self._spawn(self.pool.start(pod, restarts=restarts))
            return
        self._spawn(self.pool.start(pod))

    async def _let_go(self, uid: str, pod: Json) -> None:
        """Stop a pod under deletion within its grace period, report how it ended, then delete it from the API.

        The status is written first: once the pod is deleted nobody can read its exit code and termination message.
        """
        try:
            await self.pool.stop(uid, grace_s=float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))
            await self._statuses.written(uid)
            await self._until_done(lambda: self._delete(uid, _path(pod["metadata"].get("namespace", ""), pod["metadata"]["name"])))
        finally:
            self._letting_go.discard(uid)

    async def _delete(self, uid: str, path: str) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        with contextlib.suppress(NotFound, Conflict):  # gone already, or another pod of that name
            await self._client.request("DELETE", path, body=body)

    async def _read_source(self, namespace: str, reference: Reference) -> Json | None:
        resource, name = reference
        try:
            return await self._client.request("GET", f"/api/v1/namespaces/{namespace}/{resource}/{name}")
        except NotFound:
            return None
        except (ClusterError, ClusterUnavailable) as error:
            raise CannotStart("CreateContainerConfigError", f"{KINDS[resource]} {name!r}: {error}", again=True) from error

    async def _write_status(self, uid: str) -> None:
        run, status = self.pool.runs.get(uid), self.pool.status(uid)
        if run is None or status is None:
            return
        # With the uid in it the server refuses the patch (409) if a later pod has taken the name.
        body = {"metadata": {"uid": uid}, "status": status}
        await self._client.request(
            "PATCH", f"{_path(run.spec.namespace, run.spec.name)}/status", body=body, content_type=STRATEGIC_PATCH
        )

    # ---- tasks -----------------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("kubelet_step_broken", cluster=self._cluster.name, exc_info=task.exception())

    async def _until_done(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step without limit until it succeeds. The client has made its own retries, so the server is down, perhaps for long."""
        while True:
            try:
                await step()
                return
            except (ClusterError, ClusterUnavailable) as error:
                log.warning("kubelet_waits", cluster=self._cluster.name, error=str(error))
                await asyncio.sleep(AGAIN_AFTER_S * random.uniform(1.0, 2.0))


def _path(namespace: str, pod: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{pod}"
