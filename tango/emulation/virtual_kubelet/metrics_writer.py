"""Writes the usage of nodes and pods to metrics.k8s.io. A real metrics-server refuses writes; the writer then stops and logs once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

from tango.emulation.virtual_kubelet import node_objects
from tango.emulation.virtual_kubelet.node_pool import NodePool
from tango.emulation.virtual_kubelet.pod_run import PodRun
from tango.emulation.virtual_kubelet.pod_spec import PodKind
from tango.errors import ClusterError, ClusterUnavailable, NotFound
from tango.kube.api_client import METRICS_API, KubeClient

log = structlog.get_logger(__name__)
Json = dict[str, Any]

NODES_EVERY_S = 1.0
"""Seconds between two writes of the nodes' metrics."""
PODS_EVERY = 5
"""Pods are written with every fifth write of the nodes; there may be thousands, and one that ends sooner is never written."""
FORBIDDEN_AGAIN = 30
"""Rounds that are left out after one that was forbidden."""
UNCHANGED_EVERY_S = 10.0
"""Seconds between two writes of metrics that stay the same, as of an idle node: less than the 15 s at which a metrics-server writes any."""


class MetricsWriter:
    """Writes mean usage over the time since the previous round."""

    def __init__(
        self, client: KubeClient, pool: NodePool, cluster: str, *, every_s: float = NODES_EVERY_S, pods_every: int = PODS_EVERY
    ) -> None:
        self._client = client
        self._pool = pool
        self._cluster = cluster
        self._every_s = every_s
        self._forbidden_again_s = FORBIDDEN_AGAIN * every_s
        self._pods_every = pods_every
        self._rounds = 0
        self.broken = 0
        """Rounds that failed by a defect, since the start."""
        self._nodes_before: dict[int, tuple[float, float]] = {}
        self._pods_before: dict[str, tuple[float, float]] = {}
        self._written: dict[str, str] = {}
        """By pod uid: the path of its metrics on the server, which are deleted once the pod has ended."""
        self._told: dict[str, tuple[Json, float]] = {}
        """By path: what was written there last, without its time, and when, by the monotonic clock."""

    async def run(self) -> None:
        """Write until cancelled, or until the server has no metrics to be written (404, 405).

        A refusal of the caller (401, 403) may be over once the server has read its roles, or the token is another: it is tried again.
        """
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.write()
            except ClusterUnavailable as error:
                log.warning("metrics_wait", cluster=self._cluster, error=str(error))
            except ClusterError as error:
                if error.status in (401, 403):
                    log.info("metrics_forbidden", cluster=self._cluster, status=error.status)
                    await asyncio.sleep(self._forbidden_again_s)
                    continue
                if error.status not in (404, 405):
                    log.warning("metrics_refused", cluster=self._cluster, error=str(error))
                    continue
                log.info("metrics_not_writable", cluster=self._cluster, status=error.status)
                return
            except Exception:  # metrics that cannot be made must not end the kubelet, and its pods with it
                self.broken += 1
                log.exception("metrics_broken", cluster=self._cluster, broken=self.broken)

    async def write(self) -> None:
        """Write once. Raises: ClusterError, ClusterUnavailable."""
        self._rounds += 1
        calls = [self._client.request("PUT", path, body=body) for path, body in self._news(self._node_bodies())]
        if self._rounds % self._pods_every == 0:
            calls += [self._client.request("PUT", path, body=body) for path, body in self._news(self._pod_bodies())]
            calls += [self._delete(self._written.pop(uid)) for uid in list(self._written) if uid not in self._pods_before]
        # All calls end before the first error is raised, so that one pod without metrics does not cost those of all others.
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, BaseException):
                self._told.clear()  # who knows what the server has: all is written again
                raise outcome

    def _news(self, bodies: list[tuple[str, Json]]) -> list[tuple[str, Json]]:
        """The metrics that differ from what was written last, or were written last long ago."""
        found, now_s = [], time.monotonic()
        for path, body in bodies:
            said = {name: value for name, value in body.items() if name not in ("timestamp", "window")}
            before, at_s = self._told.get(path, ({}, 0.0))
            if said != before or now_s - at_s > UNCHANGED_EVERY_S:
                found.append((path, body))
                self._told[path] = said, now_s
        return found

    async def _delete(self, path: str) -> Json:
        self._told.pop(path, None)
        try:
            return await self._client.request("DELETE", path)
        except NotFound:
            return {}

    def _node_bodies(self) -> list[tuple[str, Json]]:
        bodies = []
        for k, node in enumerate(self._pool.nodes):
            usage = self._pool.timeline.usage(k)
            process_cpu_s, process_mib = self._pool.processes.used(node.name) if self._pool.processes else (0.0, 0.0)
            busy_s = usage.lc_busy_s + usage.be_busy_s + process_cpu_s
            before_s, before_busy_s = self._nodes_before.get(k, (0.0, 0.0))
            self._nodes_before[k] = (usage.at_s, busy_s)
            window_s = usage.at_s - before_s
            if window_s <= 0:
                continue
            used = node_objects.usage((busy_s - before_busy_s) / window_s, usage.lc_memory_mib + usage.be_memory_mib + process_mib)
            body = node_objects.node_metrics(node.name, self._cluster, used, window_s=window_s, now_s=time.time())
            bodies.append((f"{METRICS_API}/nodes/{node.name}", body))
        return bodies

    def _pod_bodies(self) -> list[tuple[str, Json]]:
        """(path, body) for each running pod that the previous round saw too, since a rate needs two readings."""
        bodies, before = [], self._pods_before
        self._pods_before = {}
        now_s = self._pool.timeline.now_s()
        for uid, run in self._pool.runs.items():
            if run.over or (run.key < 0 and run.process is None):
                continue
            busy_s, memory_mib = self._used_by(run)
            self._pods_before[uid] = (now_s, busy_s)
            if uid not in before or now_s <= before[uid][0]:
                continue
            window_s = now_s - before[uid][0]
            spec = run.spec
            path = f"{METRICS_API}/namespaces/{spec.namespace}/pods/{spec.name}"
            used = node_objects.usage((busy_s - before[uid][1]) / window_s, memory_mib)
            bodies.append(
                (path, node_objects.pod_metrics(spec.namespace, spec.name, spec.main, used, window_s=window_s, now_s=time.time()))
            )
            self._written[uid] = path
        return bodies

    def _used_by(self, run: PodRun) -> tuple[float, float]:
        """(CPU-seconds that a pod has used so far, MiB that it holds)."""
        if run.process is not None:
            containers = run.process.all_containers
            return sum(c.cpu_s for c in containers), sum(c.memory_mib for c in containers)
        model = self._pool.timeline.model
        if run.spec.kind is PodKind.LC:
            return model.instance_busy_s(run.node, run.key), model.instance_load(run.node, run.key)[2]
        return model.pod_work_done_s(run.node, run.key) or 0.0, run.spec.memory_mib
